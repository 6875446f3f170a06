"""The framings that docs/detectors.md states."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from npshapenet.detectors import Framing
from npshapenet.faces import LANDMARK_FRAMING

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "detectors.md").read_text(encoding="utf-8")


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
