"""What docs/video.md says, done in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="videos need OpenCV: pip install '.[opencv]'")

from npshapenet.cli import main

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "video.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "npshapenet").symlink_to(CHECKOUT / "npshapenet")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, "docs/video.md", "exec"), names)
            continue
        for line in text.splitlines():
            words = shlex.split(line)
            assert words[0] == "npshapenet" or words[:2] == ["pip", "install"], line
            if words[0] == "npshapenet":
                assert main(words[1:]) == 0, line
    assert {"nose_tip", "prompt"} <= set(names)
    points = (tmp_path / "clip.csv").read_text().splitlines()
    assert points[0] == "frame,time_s,face,point,region,x,y"
    assert len(points) > 45 * 68


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^):#]+)\)", PAGE):
        assert (CHECKOUT / "docs" / target).exists(), target
