"""How far eyes and mouth are open: ratios of distances between the 68 points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from npshapenet.markup import LEFT_EYE_OUTER_CORNER, RIGHT_EYE_OUTER_CORNER, check_landmarks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Of each eye: its two corners, and the pairs of points that face each other on its lids.
_RIGHT_EYE_CORNERS: Final = (36, 39)
_RIGHT_EYE_LIDS: Final = ((37, 41), (38, 40))
_LEFT_EYE_CORNERS: Final = (42, 45)
_LEFT_EYE_LIDS: Final = ((43, 47), (44, 46))

#: Pairs of points that face each other on the inner lips.
_INNER_LIPS: Final = ((61, 67), (62, 66), (63, 65))


class EyeOpenings(NamedTuple):
    """The opening of the subject's right eye and of the left."""

    right: float
    left: float


def eye_openings(landmarks: ArrayLike) -> EyeOpenings:
    """How far each eye is open: the distance of the lids over the eye's width.

    ``landmarks`` (68, 2). About 0.3 for an open eye. A closed one is under 0.1 in labels, but most
    often over 0.15 by ``fast``'s points, which hardly close an eye; where the border lies differs
    from face to face, so compare a face with itself. The "eye aspect ratio" of
    Soukupová and Čech, "Real-Time Eye Blink Detection using Facial Landmarks", 2016. ValueError for
    other points, or where the corners of an eye coincide.
    """
    points = check_landmarks(landmarks)
    return EyeOpenings(
        right=_ratio(points, _RIGHT_EYE_LIDS, _RIGHT_EYE_CORNERS),
        left=_ratio(points, _LEFT_EYE_LIDS, _LEFT_EYE_CORNERS),
    )


def mouth_opening(landmarks: ArrayLike) -> float:
    """How far the mouth is open: the distance of the inner lips over that of the outer eye corners.

    ``landmarks`` (68, 2). About 0 for a closed mouth, 0.5 and more for one wide open. In a face
    turned to the side the eye corners come nearer to each other, and the ratio grows. ValueError
    for other points, or where the eye corners coincide.
    """
    points = check_landmarks(landmarks)
    return _ratio(points, _INNER_LIPS, (RIGHT_EYE_OUTER_CORNER, LEFT_EYE_OUTER_CORNER))


def _ratio(
    points: NDArray[np.float64], facing: tuple[tuple[int, int], ...], ends: tuple[int, int]
) -> float:
    """The mean distance of points that face each other, over that of two ends."""
    width = float(np.linalg.norm(points[ends[0]] - points[ends[1]]))
    if width == 0:
        raise ValueError(f"points {ends[0]} and {ends[1]} are in one place")
    upper, lower = np.array(facing).T
    return float(np.linalg.norm(points[upper] - points[lower], axis=1).mean()) / width
