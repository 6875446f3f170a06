"""What a labelled face is, and the checks that every label has to pass."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MIN_BOX_PX = 16.0
# Beyond this a number is no pixel position but damage, and float32 and int32 can't hold any size.
MAX_COORDINATE_PX = 1e6

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Box = tuple[float, float, float, float]


class LabelError(ValueError):
    """A label that can't be used, or a labels file that can't be read.

    `kind` is the short reason by which skipped labels are counted; `image` is empty where the
    whole labels file is at fault.
    """

    def __init__(self, labels: Path, image: str, kind: str, detail: str) -> None:
        super().__init__(labels, image, kind, detail)
        self.labels = labels
        self.image = image
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        """One line: the labels file, the image, what came and what is accepted."""
        parts = [str(self.labels), self.image, self.kind, self.detail]
        return ": ".join(" ".join(part.split()) for part in parts if part)


@dataclass(frozen=True, eq=False)
class LabelledFace:
    """One face of one photo.

    `box` is left, top, right, bottom in pixels of the photo after EXIF rotation: edges, right and
    bottom exclusive. `landmarks` is float64 (L, 2), x and y, the centre of the photo's top-left
    pixel at (0, 0). `name` is the image's path from the labels' folder and `#k` for its k-th box,
    from 0. `labels` is the file that the label stands in, for messages.
    """

    image: Path
    name: str
    box: Box
    landmarks: NDArray[np.float64]
    labels: Path = Path()


def labelled_face(
    labels: Path, image: Path, name: str, box: Box, landmarks: NDArray[np.float64]
) -> LabelledFace:
    """Check one label's box and points; raises LabelError for a box of no size or under 16×16."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    size = f"{width:g}×{height:g} pixels; accepted: {MIN_BOX_PX:g}×{MIN_BOX_PX:g} and larger"
    if width <= 0 or height <= 0:
        raise LabelError(labels, name, "box of no size", size)
    if min(width, height) < MIN_BOX_PX:
        raise LabelError(labels, name, "box too small", size)
    if not np.ptp(landmarks, axis=0).any():
        accepted = f"accepted: a face's {len(landmarks)} points"
        raise LabelError(labels, name, "points all in one place", accepted)
    return LabelledFace(image, name, box, landmarks, labels)


def parse_coordinate(text: str | None) -> float | None:
    """Return the number, in pixels, or None where the text is not a finite one of sane size."""
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) and abs(value) <= MAX_COORDINATE_PX else None


def image_inside(labels: Path, folder: Path, file: str, name: str) -> Path:
    """Return the path of the image `file` that the label `name` gives, looked up from `folder`.

    Raises LabelError where the path leaves the folder (absolute, `..`, a link) or is no file.
    """
    try:
        resolved = (folder / file).resolve()
        inside = resolved.is_relative_to(folder.resolve()) and not Path(file).is_absolute()
        found = inside and resolved.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, too long, a loop of links
        raise LabelError(labels, name, "missing image", str(error)) from None
    if not inside:
        detail = f"accepted: paths inside {folder}"
        raise LabelError(labels, name, "image path leaves the folder", detail)
    if not found:
        raise LabelError(labels, name, "missing image", f"no such file in {folder}")
    return folder / file
