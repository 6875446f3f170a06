"""What docs/deploy.md says, done."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import npshapenet

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "deploy.md").read_text(encoding="utf-8")

#: Those that install something, or that other tests run: test_build.py and .ci/run.
RUN_ELSEWHERE = {
    "pip install numpy pillow && pip install --no-deps .",
    "python -m npshapenet.jit.build && pip wheel --no-deps .",
    "pip install pyinstaller",
}
EXPORT = "python -m reference.export fast --onnx fast.onnx"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def in_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the checkout, to leave files in."""
    (tmp_path / "npshapenet").symlink_to(CHECKOUT / "npshapenet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("in_checkout")
def test_onnx() -> None:
    """The command, then the program that runs what it wrote."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from reference import export

    assert EXPORT in commands()
    assert export.main(shlex.split(EXPORT)[3:]) == 0
    names: dict[str, object] = {}
    exec(compile("".join(blocks("python")), "docs/deploy.md", "exec"), names)
    # The page's crop is the one that crop_face cuts of the box in the README.
    landmarks = npshapenet.load("fast", "numpy").predict(names["crop"])
    assert abs(landmarks - names["landmarks"]).max() < 0.01
    assert "not for commercial use" in str(names["terms"])


def test_compiled_while_an_image_is_made(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (command,) = [line for line in commands() if line.startswith("NPSHAPENET_CACHE_DIR=")]
    setting, program, *arguments = shlex.split(command)
    assert program == "python"
    name, _, value = setting.partition("=")
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, name: value, "NUMBA_CPU_NAME": "generic"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / value).iterdir()
    assert kept.name.startswith("engine-")


def test_every_command_is_run_somewhere() -> None:
    rest = {line for line in commands() if not line.startswith("NPSHAPENET_CACHE_DIR=")}
    assert rest == RUN_ELSEWHERE | {EXPORT}


def test_links_lead_somewhere() -> None:
    anchors = {
        title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= anchors
