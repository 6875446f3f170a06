"""Eyes and mouth: ratios on faces of known openings."""

from __future__ import annotations

import numpy as np
import pytest

from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.openings import eye_openings, mouth_opening


def face(right_px: float, left_px: float, lips_px: float) -> np.ndarray:
    """Eyes 30 wide and 100 apart from outer corner to outer corner, so far open as given."""
    points = np.zeros((68, 2))
    eye = np.array([(0, 0), (10, -0.5), (20, -0.5), (30, 0), (20, 0.5), (10, 0.5)])
    points[36:42] = eye * (1, right_px)
    points[42:48] = eye * (1, left_px) + np.array((70, 0))
    x = np.array([30, 40, 50, 60, 70, 60, 50, 40])
    points[60:68] = np.stack([x, 80 + lips_px * np.array([0, *[-0.5] * 3, 0, *[0.5] * 3])], axis=1)
    return points


def turned(points: np.ndarray) -> np.ndarray:
    """By 40°, scaled by 3 and moved."""
    factor = 3 * np.exp(1j * np.radians(40))
    moved = (points @ [1, 1j]) * factor + (200 - 90j)
    return np.stack([moved.real, moved.imag], axis=-1)


@pytest.mark.parametrize("change", [np.asarray, turned])
def test_known_openings(change):
    points = change(face(right_px=9, left_px=3, lips_px=25))
    assert eye_openings(points) == pytest.approx((0.3, 0.1))
    assert eye_openings(points).right > eye_openings(points).left
    assert mouth_opening(points) == pytest.approx(0.25)


def test_closed():
    points = face(0, 0, 0)
    assert eye_openings(points) == (0, 0)
    assert mouth_opening(points) == 0


def test_right_is_the_subjects():
    """The eye at the left of the picture."""
    points = face(9, 3, 0)
    assert points[36:42, 0].mean() < points[42:48, 0].mean()
    assert eye_openings(points).right == pytest.approx(0.3)


def test_the_demo_photos():
    """A smile that shows the teeth, and closed lips."""
    smiling, still = (read_demo_photo(name).landmarks for name in ("astronaut", "grace_hopper"))
    assert mouth_opening(smiling) > 0.08 > 0.04 > mouth_opening(still)
    assert all(0.2 < opening < 0.45 for opening in (*eye_openings(smiling), *eye_openings(still)))


@pytest.mark.parametrize("measure", [eye_openings, mouth_opening])
@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        (np.zeros((68, 2)), "in one place"),
        (np.full((68, 2), np.inf), "finite"),
        (np.zeros((68, 3)), r"\(68, 3\)"),
        (np.zeros((9, 2)), r"\(9, 2\)"),
    ],
)
def test_what_are_no_points_is_refused(measure, points, complaint):
    with pytest.raises(ValueError, match=complaint):
        measure(points)
