"""Reading iBUG's own form: an image, and beside it a .pts file with its 68 points."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference.data.face import (
    Box,
    LabelError,
    LabelledFace,
    image_inside,
    labelled_face,
    parse_coordinate,
)
from reference.data.markup import IBUG68

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_MAX_BYTES = 65536
_POINT_COUNT = IBUG68.point_count
_ACCEPTED = f"accepted: {_POINT_COUNT} lines of two numbers, bare or after iBUG's header"

# Where dlib's frontal detector puts its box: the median over the labelled sets, in units of the
# landmarks' extent (the larger side of their bounds).
_BOX_SHIFT = (-0.002, -0.085)
_BOX_SIDE = 1.035


def read_pts(path: Path) -> Iterator[LabelledFace | LabelError]:
    """Yield the faces of a folder of .pts files (sub-folders included), or of one .pts file.

    A .pts file that can't be used is yielded as its LabelError. Raises LabelError where the folder
    holds none. Points are counted from 1 in the file and from 0 in the face; the box, of which the
    form has none, is the one that `box_of_points` fits.
    """
    folder = path if path.is_dir() else path.parent
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() == ".pts" and f.is_file())
    if not files:
        raise LabelError(path, "", "no face", "the folder holds no .pts file; accepted: .pts, .xml")
    for file in files:
        try:
            yield _face(folder, file)
        except LabelError as error:
            yield error


def box_of_points(landmarks: NDArray[np.float64]) -> Box:
    """Return the box that dlib's detector would most likely give a face with these points.

    landmarks: (L, 2), x and y, pixel centres at integers. The box's edges are exclusive.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    extent = float((high - low).max())
    # 0.5 leads from pixel centres at integers to pixel edges at integers.
    centre_x, centre_y = (low + high) / 2 + 0.5 + np.array(_BOX_SHIFT) * extent
    half = _BOX_SIDE * extent / 2
    return (
        float(centre_x - half),
        float(centre_y - half),
        float(centre_x + half),
        float(centre_y + half),
    )


def _face(folder: Path, file: Path) -> LabelledFace:
    image = _image_beside(folder, file)
    landmarks = _points(file, image.name) - 1.0
    name = f"{image.relative_to(folder).as_posix()}#0"
    return labelled_face(file, image, name, box_of_points(landmarks), landmarks)


def _image_beside(folder: Path, file: Path) -> Path:
    images = sorted(
        other
        for other in file.parent.iterdir()
        if other.stem == file.stem and other.suffix.lower() in _IMAGE_SUFFIXES
    )
    accepted = f"accepted: one image beside it, {file.stem} with {', '.join(_IMAGE_SUFFIXES)}"
    if not images:
        raise LabelError(file, file.stem, "missing image", accepted)
    if len(images) > 1:
        came = ", ".join(image.name for image in images)
        raise LabelError(file, file.stem, "several images", f"{came}; {accepted}")
    return image_inside(file, folder, str(images[0].relative_to(folder)), images[0].name)


def _points(file: Path, image: str) -> NDArray[np.float64]:
    """(68, 2): the numbers of the file as they stand there, counted from 1."""
    lines = _lines(file, image)
    if lines and ":" in lines[0]:
        lines = _body(file, image, lines)
    if len(lines) != _POINT_COUNT:
        kind = "missing parts" if len(lines) < _POINT_COUNT else "too many parts"
        raise LabelError(file, image, kind, f"{len(lines)} points; {_ACCEPTED}")
    points = np.empty((_POINT_COUNT, 2))
    for index, line in enumerate(lines):
        values = [parse_coordinate(text) for text in line.split()]
        if len(values) != 2 or None in values:
            detail = f"point {index + 1} is {line[:40]!r}; {_ACCEPTED}"
            raise LabelError(file, image, "bad number", detail)
        points[index] = values
    return points


def _lines(file: Path, image: str) -> list[str]:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise LabelError(
                file, image, "not a .pts file", f"over {_MAX_BYTES} bytes; {_ACCEPTED}"
            )
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(file, image, "not a .pts file", f"not text; {_ACCEPTED}") from None
    except OSError as error:
        raise LabelError(file, image, "can't be read", str(error.strerror)) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _body(file: Path, image: str, lines: list[str]) -> list[str]:
    """Check the header and the braces, and return the lines between these."""
    header = {}
    while lines and (match := re.fullmatch(r"(\w+)\s*:\s*(\S*)", lines[0])):
        header[match[1]] = match[2]
        lines = lines[1:]
    came = ", ".join(f"{key}: {value}" for key, value in header.items())
    if header.get("version") not in ("1", "1.0") or header.get("n_points") != str(_POINT_COUNT):
        detail = f"{came or lines[0][:40]!r}; accepted: version: 1, n_points: {_POINT_COUNT}"
        raise LabelError(file, image, "bad header", detail)
    if len(lines) < 2 or lines[0] != "{" or lines[-1] != "}":
        detail = "no { and } around the points; " + _ACCEPTED
        raise LabelError(file, image, "not a .pts file", detail)
    return lines[1:-1]
