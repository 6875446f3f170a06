"""The 68 points of iBUG's markup: regions, eye corners, mirror pairs.

Indices count from 0 (iBUG's drawings count from 1). Left and right are the subject's: the
subject's right eye is at the left of the picture.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LANDMARK_COUNT: Final = 68

#: The name of this markup in a weights file.
IBUG68: Final = "ibug68"


def _points(first: int, end: int) -> NDArray[np.intp]:
    indices = np.arange(first, end)
    indices.flags.writeable = False
    return indices


#: Where each region's points stand, in drawing order: ``landmarks[REGIONS["left_eye"]]``.
REGIONS: Final = MappingProxyType(
    {
        "jaw": _points(0, 17),
        "right_eyebrow": _points(17, 22),
        "left_eyebrow": _points(22, 27),
        "nose_bridge": _points(27, 31),
        "nose_base": _points(31, 36),
        "right_eye": _points(36, 42),
        "left_eye": _points(42, 48),
        "outer_lips": _points(48, 60),
        "inner_lips": _points(60, 68),
    }
)

#: The regions whose last point joins its first.
CLOSED_REGIONS: Final = frozenset({"right_eye", "left_eye", "outer_lips", "inner_lips"})

#: The outer eye corners, whose distance normalises the error.
RIGHT_EYE_OUTER_CORNER: Final = 36
LEFT_EYE_OUTER_CORNER: Final = 45

#: The point that each point becomes when the picture is mirrored left to right.
MIRROR: Final = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46),
    *(39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)


def check_landmarks(landmarks: ArrayLike) -> NDArray[np.float64]:
    """The 68 points of one face as ``float64`` (68, 2); ValueError for others, NaN and infinity."""
    points = np.asarray(landmarks, np.float64)
    if points.shape != (LANDMARK_COUNT, 2):
        raise ValueError(f"landmarks must be (68, 2), x and y; got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite numbers; got NaN or infinity")
    return points
