"""Cutting the stored crop of a face: what the network sees, with room around it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reference.data.face import Box, LabelError, LabelledFace

MIN_CROP_PX = 16
# A box this many times larger than the photo is damage; the bound keeps memory in bounds too.
_MAX_BOX_TO_PHOTO = 4.0


@dataclass(frozen=True)
class Geometry:
    """Sizes of the stored crop.

    The network's crop is a square of `crop_factor` × the box, `side_px` network pixels wide; the
    stored crop continues its sampling grid by `margin_px` on each side.
    """

    side_px: int = 112
    margin_px: int = 28
    crop_factor: float = 1.5

    @property
    def stored_px(self) -> int:
        """Side of the stored crop, in network pixels."""
        return self.side_px + 2 * self.margin_px


@dataclass(frozen=True)
class Frame:
    """The network's crop in the photo: a square of whole pixels."""

    left: int
    top: int
    side: int


@dataclass(frozen=True, eq=False)
class StoredFace:
    """One row of the faces file; its fields are described at `dataset.Faces`."""

    crop: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    name: str
    box: Box
    frame: Frame
    photo_edges: tuple[float, float, float, float]


def crop_frame(box: Box, factor: float) -> Frame:
    """Return the network's crop of a box: round(factor · its larger side), around its centre."""
    left, top, right, bottom = box
    side = round(factor * max(right - left, bottom - top))
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    return Frame(round(centre_x - side / 2), round(centre_y - side / 2), side)


def cut(gray: NDArray[np.uint8], frame: Frame, geometry: Geometry) -> NDArray[np.float32]:
    """Return the stored crop, float32 (S, S) in 0–255, not rounded.

    gray: (H, W). Its nearest pixel is repeated outside it. The middle is what inference's crop
    and resize give, but for the outermost pixels, where inference's filter sees no further.
    """
    scale = frame.side / geometry.side_px  # photo pixels per network pixel
    margin = geometry.margin_px * scale
    # Pixels that the widened triangle filter reaches beyond the stored crop's edge.
    reach = math.ceil(margin + max(scale, 1.0)) + 1
    columns = np.arange(frame.left - reach, frame.left + frame.side + reach)
    rows = np.arange(frame.top - reach, frame.top + frame.side + reach)
    height, width = gray.shape
    region = gray[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    low, high = reach - margin, reach + frame.side + margin
    resized = Image.fromarray(region.astype(np.float32)).resize(
        (geometry.stored_px, geometry.stored_px),
        Image.Resampling.BILINEAR,
        box=(low, low, high, high),
    )
    return np.asarray(resized)


def store_face(face: LabelledFace, gray: NDArray[np.uint8], geometry: Geometry) -> StoredFace:
    """Cut one face of a photo, gray (H, W).

    Raises LabelError where the box and the photo don't fit together or the crop is under 16×16.
    """
    frame = crop_frame(face.box, geometry.crop_factor)
    _check_frame(face, gray, frame)
    scale = geometry.side_px / frame.side  # network pixels per photo pixel
    corner = np.array([frame.left, frame.top], dtype=np.float64)
    height, width = gray.shape
    near, far = (
        (edge - corner) * scale + geometry.margin_px
        for edge in (np.zeros(2), np.array([width, height], dtype=np.float64))
    )
    landmarks = (face.landmarks + 0.5 - corner) * scale + geometry.margin_px - 0.5
    crop = np.rint(cut(gray, frame, geometry)).clip(0, 255).astype(np.uint8)
    return StoredFace(
        crop,
        landmarks.astype(np.float32),
        face.name,
        face.box,
        frame,
        (float(near[0]), float(near[1]), float(far[0]), float(far[1])),
    )


def _check_frame(face: LabelledFace, gray: NDArray[np.uint8], frame: Frame) -> None:
    left, top, right, bottom = face.box
    height, width = gray.shape
    came = f"box {left:g} {top:g} {right:g} {bottom:g} in a photo of {width}×{height}"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise LabelError(
            face.labels, face.name, "box outside the photo", f"{came}; accepted: one that meets it"
        )
    if max(right - left, bottom - top) > _MAX_BOX_TO_PHOTO * max(width, height):
        accepted = f"accepted: up to {_MAX_BOX_TO_PHOTO:g} times the photo"
        raise LabelError(face.labels, face.name, "box too large", f"{came}; {accepted}")
    if frame.side < MIN_CROP_PX:
        accepted = f"accepted: {MIN_CROP_PX}×{MIN_CROP_PX} and larger"
        detail = f"{frame.side}×{frame.side} from {came}; {accepted}"
        raise LabelError(face.labels, face.name, "crop too small", detail)
