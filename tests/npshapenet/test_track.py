"""One face over time: how its motion goes on."""

from __future__ import annotations

import numpy as np
import pytest

from npshapenet import Box
from npshapenet.track import Track, centre, distance, overlap


def box_at(x: float, y: float) -> Box:
    return Box(x - 30, y - 40, x + 30, y + 40)


def test_a_new_track_heads_nowhere() -> None:
    track = Track(1, box_at(50, 60), None)
    assert track.heading(0) == track.heading(9) == (50, 60)


def test_heading_follows_steady_motion() -> None:
    track = Track(1, box_at(50, 60), None)
    for step in range(1, 21):
        track.go_on(box_at(50 + 4 * step, 60 - 3 * step), is_confirmed=False)
    # Each frame halves what the speed is off by.
    assert track.heading(5) == pytest.approx((150, -15), abs=1e-3)


def test_half_of_the_speed_is_new() -> None:
    track = Track(1, box_at(0, 0), None)
    track.go_on(box_at(8, -4), is_confirmed=True)
    assert track.heading(1) == (8 + 4, -4 - 2)
    track.go_on(box_at(8, -4), is_confirmed=True)
    assert track.heading(2) == (8 + 2 * 2, -4 - 2 * 1)


def test_a_face_that_is_found_again_starts_at_rest() -> None:
    track = Track(1, box_at(0, 0), None)
    track.go_on(box_at(8, -4), is_confirmed=False)
    track.lose()
    assert (track.frames_lost, track.frames_unconfirmed) == (1, 1)
    track.find(box_at(20, 20))
    assert (track.frames_lost, track.frames_unconfirmed) == (0, 0)
    assert track.heading(3) == (20, 20)


def test_distances_are_in_longer_sides() -> None:
    assert centre(box_at(7, 9)) == (7, 9)
    assert distance(box_at(7, 9), (7 + 24, 9 - 32)) == pytest.approx(0.5)


def test_overlap_is_intersection_over_union(rng: np.random.Generator) -> None:
    assert overlap(box_at(0, 0), box_at(0, 0)) == 1
    assert overlap(box_at(0, 0), box_at(60, 0)) == 0
    assert overlap(box_at(0, 0), box_at(30, 0)) == pytest.approx(1 / 3)
    x, y = rng.uniform(-100, 100, 2)
    assert overlap(box_at(x, y), box_at(x + 9, y - 9)) == overlap(
        box_at(x + 9, y - 9), box_at(x, y)
    )
