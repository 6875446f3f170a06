"""A mean head in three dimensions from labelled faces in photos: structure from motion.

Sizes: N faces, P points. Coordinates: x right, y down, z away from the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from npshapenet.head_pose import RIGID_POINTS, fit_rotation
from npshapenet.markup import MIRROR
from reference.views import Floats

_RIGHT_EYE, _LEFT_EYE, _NOSE_TIP = (RIGID_POINTS.index(point) for point in (36, 45, 30))
_RIGHT_MOUTH, _LEFT_MOUTH = (RIGID_POINTS.index(point) for point in (48, 54))
#: The place in RIGID_POINTS of the point that each becomes in the mirror.
_MIRROR: Final = [RIGID_POINTS.index(MIRROR[point]) for point in RIGID_POINTS]


def fit_head(landmarks: Floats, iterations: int = 100) -> Floats:
    """The head (P, 3) of RIGID_POINTS that the landmarks (N, 68, 2) are views of.

    Every face is taken for the same rigid head under weak perspective, and every one counts
    mirrored too. First by factorisation (Tomasi and Kanade, "Shape and Motion from Image Streams
    under Orthography", 1992), then by turns: the pose of each face, the head that fits them all.
    In units of the distance of the outer eye corners, symmetric, the centre at 0; the corners of
    eyes and mouth are equally far away.
    """
    points = landmarks[:, list(RIGID_POINTS)]
    mirrored = points[:, _MIRROR] * [-1, 1]
    views = np.concatenate([points, mirrored])
    views -= views.mean(axis=1, keepdims=True)
    views /= np.sqrt(np.mean(views**2, axis=(1, 2), keepdims=True))
    head = _factorise(views)
    for _ in range(iterations):
        cameras = _cameras(head, views)
        squares = np.einsum("nij,nik->jk", cameras, cameras)
        head = np.linalg.solve(squares, np.einsum("nij,npi->jp", cameras, views)).T
        head /= np.sqrt(np.mean(head**2))
    return _upright(head)


def head_as_source(head: Floats) -> str:
    """The lines of MEAN_HEAD in npshapenet/head_pose.py."""
    rows = [", ".join(f"{value + 0.0:.3f}" for value in row) for row in np.round(head, 3)]
    return "\n".join(f"    ({row})," for row in rows)


def _cameras(head: Floats, views: Floats) -> Floats:
    """Of each view (N, P, 2) the scaled rotation's first two rows (N, 2, 3)."""
    rows = fit_rotation(head, views)[:, :2]
    seen = head @ np.swapaxes(rows, 1, 2)
    scales = np.sum(seen * views, axis=(1, 2)) / np.sum(seen**2, axis=(1, 2))
    cameras: Floats = scales[:, None, None] * rows
    return cameras


def _factorise(views: Floats) -> Floats:
    """Views (N, P, 2), centred → the head (P, 3), up to a rotation and a mirror image in depth."""
    count = views.shape[1]
    left, sizes, right = np.linalg.svd(
        views.transpose(0, 2, 1).reshape(-1, count), full_matrices=False
    )
    motion, shape = left[:, :3] * sizes[:3], right[:3]
    across, down = motion[0::2], motion[1::2]
    # Both rows of a view are equally long and at right angles, whatever the six numbers of the
    # symmetric matrix by which lengths are measured: the least singular vector holds them.
    constraints = np.concatenate(
        [_products(across, across) - _products(down, down), _products(across, down)]
    )
    a, b, c, d, e, f = np.linalg.svd(constraints, full_matrices=False)[2][-1]
    lengths, axes = np.linalg.eigh(np.array([[a, b, c], [b, d, e], [c, e, f]]))
    lengths = np.abs(lengths)
    upgrade = axes * np.sqrt(np.maximum(lengths, 1e-4 * lengths.max()))
    head: Floats = np.linalg.solve(upgrade, shape).T
    return head


def _products(one: Floats, other: Floats) -> Floats:
    """The coefficients (N, 6) of oneᵀ·M·other in the six numbers of a symmetric M (3, 3)."""
    columns = []
    for i, j in _upper_triangle():
        product = one[:, i] * other[:, j]
        columns.append(product if i == j else product + one[:, j] * other[:, i])
    return np.stack(columns, axis=1)


def _upper_triangle() -> Sequence[tuple[int, int]]:
    return [(i, j) for i in range(3) for j in range(i, 3)]


def _upright(head: Floats) -> Floats:
    """A head (P, 3) turned so that it looks at the viewer, made symmetric and of unit width."""
    head = head - head.mean(axis=0)
    # What all points have in common with their mirror images' directions is the x axis.
    x_axis = np.linalg.svd(head[_MIRROR] - head)[2][0]
    if (head[_LEFT_EYE] - head[_RIGHT_EYE]) @ x_axis < 0:
        x_axis = -x_axis
    eyes, mouth = head[[_RIGHT_EYE, _LEFT_EYE]], head[[_RIGHT_MOUTH, _LEFT_MOUTH]]
    down = mouth.mean(axis=0) - eyes.mean(axis=0)
    down -= (down @ x_axis) * x_axis
    y_axis = down / np.linalg.norm(down)
    turned = head @ np.array([x_axis, y_axis, np.cross(x_axis, y_axis)]).T
    if turned[_NOSE_TIP, 2] > turned[[_RIGHT_EYE, _LEFT_EYE], 2].mean():
        turned[:, 2] *= -1  # views don't tell a head from its mirror image in depth
    symmetric = (turned + turned[_MIRROR] * [-1, 1, 1]) / 2
    width = np.linalg.norm(symmetric[_LEFT_EYE] - symmetric[_RIGHT_EYE])
    upright: Floats = symmetric / width
    return upright
