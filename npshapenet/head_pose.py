"""Where the head is turned to, by the 68 points: a mean head fitted to them in weak perspective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from npshapenet.markup import check_landmarks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

#: The points that move least when the face does: ends of the brows, nose, corners of eyes and lips.
RIGID_POINTS: Final = (17, 21, 22, 26, *range(27, 36), 36, 39, 42, 45, 48, 54)

#: Where they lie in the mean head: x to the subject's left, y down, z away from the viewer, in
#: units of the distance of the outer eye corners. Made from the labels of the training sets by
#: python -m reference.fit_head --labels 300w/train/labels.xml aflw/train/labels.xml
MEAN_HEAD: Final = (
    (-0.636, -0.363, 0.238),
    (-0.157, -0.404, -0.061),
    (0.157, -0.404, -0.061),
    (0.636, -0.363, 0.238),
    (0.000, -0.227, -0.057),
    (0.000, -0.097, -0.139),
    (0.000, 0.030, -0.227),
    (0.000, 0.158, -0.309),
    (-0.167, 0.267, -0.073),
    (-0.087, 0.289, -0.122),
    (0.000, 0.307, -0.155),
    (0.087, 0.289, -0.122),
    (0.167, 0.267, -0.073),
    (-0.500, -0.206, 0.179),
    (-0.198, -0.188, 0.103),
    (0.198, -0.188, 0.103),
    (0.500, -0.206, 0.179),
    (-0.307, 0.520, 0.179),
    (0.307, 0.520, 0.179),
)


@dataclass(frozen=True)
class HeadPose:
    """How a head is turned, in degrees, as the camera sees it.

    ``yaw_deg``: 0 looks at the camera, above 0 to the right of the picture (the subject's left).
    ``pitch_deg``: above 0 looks up; 0 is where the corners of eyes and mouth are equally far from
    the camera. ``roll_deg``: the tilt, clockwise on the screen. A turn of the photo in its plane
    changes the roll alone.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


def head_pose(landmarks: ArrayLike) -> HeadPose:
    """The pose of the head with the landmarks (68, 2), x and y in pixels.

    ``MEAN_HEAD`` is turned, scaled and moved to lie closest to its points: as seen from afar
    (weak perspective), so that faces very near the camera seem turned less or more than they
    are; and every head is taken for the mean one, so that a long nose reads as a turn. ValueError
    for points that aren't (68, 2), not finite, or in one line.
    """
    points = check_landmarks(landmarks)[list(RIGID_POINTS)]
    rotation = fit_rotation(np.array(MEAN_HEAD), points)
    # rotation = Rz(roll) · Ry(yaw) · Rx(pitch), the nod first.
    yaw_rad = np.arcsin(np.clip(rotation[2, 0], -1, 1))
    pitch_rad = np.arctan2(-rotation[2, 1], rotation[2, 2])
    roll_rad = np.arctan2(rotation[1, 0], rotation[0, 0])
    return HeadPose(*np.degrees([yaw_rad, pitch_rad, roll_rad]).tolist())


def fit_rotation(head: Floats, points: Floats) -> Floats:
    """The rotation (..., 3, 3) by which a head (P, 3) looks most like the points (..., P, 2).

    The least-squares affine camera, then the scaled rotation nearest to it (by singular values).
    ValueError for points that fix none, such as those in one line.
    """
    inverse = np.linalg.pinv(head - head.mean(axis=0))
    cameras = np.swapaxes(points - points.mean(axis=-2, keepdims=True), -1, -2) @ inverse.T
    left, sizes, right = np.linalg.svd(cameras, full_matrices=False)
    if not (sizes[..., 1] > 1e-9 * sizes[..., 0]).all():
        raise ValueError("the points lie in one line or place: no pose of a head looks so")
    rows = left @ right
    third = np.cross(rows[..., 0, :], rows[..., 1, :])
    return np.concatenate([rows, third[..., None, :]], axis=-2)
