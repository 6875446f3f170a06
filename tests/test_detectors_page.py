"""What docs/detectors.md says, done."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from npshapenet.detectors import Framing
from npshapenet.faces import LANDMARK_FRAMING

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "detectors.md").read_text(encoding="utf-8")


@pytest.fixture
def in_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the checkout, to leave files in."""
    (tmp_path / "npshapenet").symlink_to(CHECKOUT / "npshapenet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("in_checkout")
def test_python() -> None:
    pytest.importorskip("cv2")
    names: dict[str, object] = {}
    code = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    exec(compile("".join(code), "docs/detectors.md", "exec"), names)
    assert names["aligned"].shape == (112, 112, 3)
    assert abs(names["pose"].yaw_deg) < 10


def test_the_framings_are_those_of_the_package() -> None:
    rows = re.findall(r"^\| from .*", PAGE, flags=re.MULTILINE)
    stated = {}
    for row in rows:
        what, *numbers = [cell.strip().replace("−", "-") for cell in row.strip("|").split("|")]
        stated[what] = Framing(*map(float, numbers[:3]))
    assert stated == {
        "from the extent of the 68 points": LANDMARK_FRAMING,
        "from dlib's boxes": framing_in("dlib_hog"),
        "from OpenCV's boxes": framing_in("opencv_cascade"),
    }


def framing_in(module: str) -> Framing:
    """FRAMING of an adapter, read from its source: neither package need be installed."""
    source = (CHECKOUT / "npshapenet" / "detectors" / f"{module}.py").read_text(encoding="utf-8")
    (call,) = re.findall(r"^FRAMING: Final = Framing\((.*)\)$", source, flags=re.MULTILINE)
    return Framing(
        **{
            key.strip(): ast.literal_eval(value)
            for key, value in (pair.split("=") for pair in call.split(","))
        }
    )
