"""The pose of heads whose pose is known, because they are drawn from the mean head itself."""

from __future__ import annotations

import numpy as np
import pytest

from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.head_pose import MEAN_HEAD, RIGID_POINTS, head_pose
from npshapenet.markup import MIRROR


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Nod, then turn, then tilt: x right, y down, z away from the viewer."""
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    nod = np.array(
        [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    )
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return tilt @ turn @ nod


def view(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """The points (68, 2) of the mean head so turned, 120 pixels wide; the others at random."""
    points = np.random.default_rng(1).uniform(0, 200, (68, 2))
    turned = np.array(MEAN_HEAD) @ rotation(yaw_deg, pitch_deg, roll_deg).T
    points[list(RIGID_POINTS)] = turned[:, :2] * 120 + (300, 70)
    return points


@pytest.mark.parametrize("yaw_deg", [-60, -20, 0, 35])
@pytest.mark.parametrize("pitch_deg", [-40, 0, 25])
@pytest.mark.parametrize("roll_deg", [-100, 0, 30])
def test_known_poses(yaw_deg, pitch_deg, roll_deg):
    pose = head_pose(view(yaw_deg, pitch_deg, roll_deg))
    found = pose.yaw_deg, pose.pitch_deg, pose.roll_deg
    np.testing.assert_allclose(found, (yaw_deg, pitch_deg, roll_deg), atol=1e-6)


def test_the_signs_are_what_a_viewer_sees():
    """The nose goes where the head turns to, against the corners of the eyes."""

    def nose_from_eyes(points):
        return points[30] - points[[36, 45]].mean(axis=0)

    ahead = nose_from_eyes(view(0, 0, 0))
    assert nose_from_eyes(view(30, 0, 0))[0] > ahead[0] + 20  # to the right of the picture
    assert nose_from_eyes(view(0, 30, 0))[1] < ahead[1] - 20  # up
    right_eye, left_eye = view(0, 0, 20)[[36, 45]]
    assert left_eye[1] > right_eye[1] + 20  # clockwise on the screen


def test_a_mirrored_face_is_turned_the_other_way():
    points = read_demo_photo("astronaut").landmarks
    mirrored = points[list(MIRROR)] * np.array([-1, 1], np.float32)
    pose, other = head_pose(points), head_pose(mirrored)
    np.testing.assert_allclose(
        (other.yaw_deg, other.pitch_deg, other.roll_deg),
        (-pose.yaw_deg, pose.pitch_deg, -pose.roll_deg),
        atol=1e-4,  # the landmarks are float32
    )


@pytest.mark.parametrize("name", ["astronaut", "grace_hopper"])
def test_the_demo_photos_look_ahead(name):
    """Both look at the camera; a smile that lifts the mouth reads as some 10° of a nod."""
    pose = head_pose(read_demo_photo(name).landmarks)
    assert abs(pose.yaw_deg) < 5
    assert abs(pose.pitch_deg) < 15
    assert abs(pose.roll_deg) < 5


def test_the_mean_head_is_symmetric_and_as_wide_as_its_unit():
    head = dict(zip(RIGID_POINTS, np.array(MEAN_HEAD), strict=True))
    for point, place in head.items():
        np.testing.assert_allclose(head[MIRROR[point]], place * [-1, 1, 1], atol=1e-9)
    assert head[45][0] - head[36][0] == pytest.approx(1)
    # The corners of eyes and mouth are equally far; the tip of the nose is nearer.
    assert head[36][2] == pytest.approx(head[48][2], abs=0.002)
    assert head[30][2] < head[36][2] - 0.3


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        (np.zeros((68, 2)), "one line or place"),
        (np.stack([np.arange(68.0), 2 * np.arange(68.0)], axis=1), "one line"),
        (np.full((68, 2), np.nan), "finite"),
        (np.zeros((67, 2)), r"\(67, 2\)"),
    ],
)
def test_points_without_a_pose_are_refused(points, complaint):
    with pytest.raises(ValueError, match=complaint):
        head_pose(points)
