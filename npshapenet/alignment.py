"""A face turned, scaled and moved onto a template, as networks that recognise people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from npshapenet.image import SIDE_MIN_PX, to_rgb_array
from npshapenet.markup import REGIONS, check_landmarks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

#: Where five points lie in a crop of 112×112: the centres of the subject's right and left eye, the
#: tip of the nose, the right and left corner of the mouth. The places that the networks trained
#: with ArcFace (Deng et al., arXiv 1801.07698) expect, so that these can be used as they are.
TEMPLATE: Final = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
TEMPLATE_SIDE_PX: Final = 112

_NOSE_TIP: Final = 30
_RIGHT_MOUTH_CORNER: Final = 48
_LEFT_MOUTH_CORNER: Final = 54


def align_face(
    photo: Image.Image | NDArray[Any], landmarks: ArrayLike, size_px: int = TEMPLATE_SIDE_PX
) -> NDArray[np.uint8]:
    """The face of a photo in a square crop, ``uint8`` (size_px, size_px, 3), red, green, blue.

    Eyes level, in the same places for every face: the similarity that takes five points of the
    landmarks (68, 2) closest to ``TEMPLATE``. ``photo`` as for ``npshapenet.find_faces``; outside
    of it the crop is black. ValueError for other points, or a size that is no whole number of 16
    pixels and more.
    """
    from PIL import Image

    if isinstance(size_px, bool) or not isinstance(size_px, int) or size_px < SIDE_MIN_PX:
        raise ValueError(f"size_px is a whole number, {SIDE_MIN_PX} and more, not {size_px!r}")
    to_photo = alignment(landmarks, size_px)
    picture = Image.fromarray(to_rgb_array(photo))
    # A face that shrinks is first reduced by whole pixels, so that none of them is left out.
    reduction = max(1, int(np.hypot(*to_photo[:, 0])))
    left, top, right, bottom = _extent(to_photo, size_px, reduction, picture.size)
    if left >= right or top >= bottom:
        return np.zeros((size_px, size_px, 3), np.uint8)
    picture = picture.crop((left, top, right, bottom)).reduce(reduction)
    # Pillow counts from the outer edge, half a pixel before the first centre.
    edges = to_photo.copy()
    edges[:, 2] += 0.5 - 0.5 * (to_photo[:, 0] + to_photo[:, 1])
    edges[:, 2] -= (left, top)
    aligned = picture.transform(
        (size_px, size_px),
        Image.Transform.AFFINE,
        (edges / reduction).ravel().tolist(),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(aligned)


def alignment(landmarks: ArrayLike, size_px: int = TEMPLATE_SIDE_PX) -> NDArray[np.float64]:
    """The matrix (2, 3) from pixels of the aligned crop to those of the photo.

    Least squares between the five points and the template's, as a similarity: in the complex
    plane one factor and one shift (Umeyama, 1991). Both count from the centre of their top-left
    pixel. ValueError for points that aren't (68, 2), not finite, or all in one place.
    """
    points = five_points(landmarks)
    template = (np.array(TEMPLATE) + 0.5) * (size_px / TEMPLATE_SIDE_PX) - 0.5
    target = points[:, 0] + 1j * points[:, 1]
    source = template[:, 0] + 1j * template[:, 1]
    centred = source - source.mean()
    factor = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred)
    if abs(factor) == 0:
        raise ValueError("the points of eyes, nose and mouth are in one place")
    shift = target.mean() - factor * source.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def five_points(landmarks: ArrayLike) -> NDArray[np.float64]:
    """Of landmarks (68, 2) those that the template has (5, 2): eye centres, nose, mouth corners."""
    points = check_landmarks(landmarks)
    eyes = [points[REGIONS[name]].mean(axis=0) for name in ("right_eye", "left_eye")]
    return np.array(
        [*eyes, points[_NOSE_TIP], points[_RIGHT_MOUTH_CORNER], points[_LEFT_MOUTH_CORNER]]
    )


def _extent(
    to_photo: NDArray[np.float64], size_px: int, reduction: int, photo_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part of the photo that the crop shows, by its edges, with room for the filter."""
    low, high = -0.5, size_px - 0.5
    corners = np.array([(low, low, 1), (high, low, 1), (high, high, 1), (low, high, 1)])
    in_photo = corners @ to_photo.T + 0.5
    room = 3 * reduction
    # Whole steps of the reduction, so that only the photo's own border is cut short.
    starts = np.floor((in_photo.min(axis=0) - room) / reduction) * reduction
    ends = np.ceil((in_photo.max(axis=0) + room) / reduction) * reduction
    left, top = np.clip(starts, 0, photo_size).astype(int).tolist()
    right, bottom = np.clip(ends, 0, photo_size).astype(int).tolist()
    return left, top, right, bottom
