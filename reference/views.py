"""A face as it is shown to a system: a photo, a box in it, and where the landmarks truly are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

import npshapenet.image
from reference import metrics
from reference.data.face import Box
from reference.data.labels import LabelError, LabelledFace, read_labels
from reference.data.markup import IBUG68, Markup

Floats = NDArray[np.float64]

#: Side of a crop over that of its box, by which a view is called inside its photo or not.
CROP_FACTOR: Final = 1.5

_GRAY_MODES: Final = frozenset({"1", "L", "LA", "I", "F"})
# A box this many times larger than the photo is damage, and its crop could fill the memory.
_MAX_BOX_TO_PHOTO: Final = 4.0


@dataclass(frozen=True, eq=False)
class View:
    """One face to be evaluated.

    ``photo`` is upright and 8 bits a channel, of mode L or RGB; ``box`` is left, top, right,
    bottom in its pixels: edges, right and bottom exclusive; ``landmarks`` (L, 2) are the true
    ones, the centre of the photo's top-left pixel at (0, 0). ``is_inside`` says that 1.5 × the
    box needs no pixel from outside the photo, where the border can't tell where the face is.
    """

    photo: Image.Image
    box: Box
    landmarks: Floats
    is_inside: bool


def open_view(face: LabelledFace, markup: Markup = IBUG68) -> View:
    """Open a labelled face's photo, turned as its EXIF says.

    LabelError where the photo can't be read, where the box lies outside it or is far larger, and
    where the scale points coincide, so that their distance can't normalise an error.
    """
    try:
        metrics.scale_distances_px(face.landmarks[None], markup)
    except ValueError:
        if markup == IBUG68:
            kind, detail = "no eye distance", "the outer eye corners (parts 36 and 45)"
        else:
            kind, detail = "no scale", f"the {metrics.scale_points_text(markup)}"
        detail = f"{detail} are in one place"
        raise LabelError(face.labels, face.name, kind, detail) from None
    try:
        with Image.open(face.image) as file:
            photo = _in_8_bits(ImageOps.exif_transpose(file))
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, …
        detail = f"{type(error).__name__}: {error}"
        raise LabelError(face.labels, face.name, "unreadable image", detail) from None
    _check_box(face, photo)
    return View(photo, face.box, face.landmarks, lie_inside(crop_corners(face.box), photo))


def open_views(
    labels: Path, title: str = "", progress: bool = False, markup: Markup = IBUG68
) -> Iterator[tuple[LabelledFace, View] | LabelError]:
    """Open each labelled face's photo in turn; a label that can't be shown comes as its LabelError.

    LabelError is raised where the labels can't be read at all.
    """
    entries = list(read_labels(labels, markup))
    # None: a bar where someone can see it, none in a log.
    for entry in tqdm(entries, title, unit="face", disable=None if progress else True, leave=False):
        try:
            yield entry if isinstance(entry, LabelError) else (entry, open_view(entry, markup))
        except LabelError as error:
            yield error


def usable_views(labels: Path, title: str = "", progress: bool = False) -> Iterator[View]:
    """The faces of `open_views` that could be opened, without a word of the others."""
    for opened in open_views(labels, title, progress):
        if not isinstance(opened, LabelError):
            yield opened[1]


def crop_corners(box: Box) -> Floats:
    """The corners (4, 2) of the square of CROP_FACTOR × the box's longer side around its centre."""
    left, top, right, bottom = box
    half = CROP_FACTOR * max(right - left, bottom - top) / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return np.array([left + right, top + bottom]) / 2 + half * signs


def lie_inside(points: Floats, photo: Image.Image) -> bool:
    """Whether points (..., 2), counted from the photo's outer edge, all lie in it."""
    return bool((points >= 0).all() and (points <= photo.size).all())


def _in_8_bits(photo: Image.Image) -> Image.Image:
    """Gray stays gray, 16 bits of it become 8; everything else becomes RGB, on white paper."""
    if photo.mode in _GRAY_MODES or photo.mode.startswith("I;16"):
        return Image.fromarray(npshapenet.image.to_gray(photo))
    if photo.mode != "RGB" or "transparency" in photo.info:
        colour = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    return photo.convert("RGB")


def _check_box(face: LabelledFace, photo: Image.Image) -> None:
    left, top, right, bottom = face.box
    came = f"box {left:g} {top:g} {right:g} {bottom:g} in a photo of {photo.width}×{photo.height}"
    if right <= 0 or bottom <= 0 or left >= photo.width or top >= photo.height:
        raise LabelError(face.labels, face.name, "box outside the photo", came)
    if max(right - left, bottom - top) > _MAX_BOX_TO_PHOTO * max(photo.size):
        detail = f"{came}; accepted: up to {_MAX_BOX_TO_PHOTO:g} times the photo"
        raise LabelError(face.labels, face.name, "box too large", detail)
