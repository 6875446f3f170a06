"""Landmarks on frames are where they are, and the frame itself stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2", reason="videos need OpenCV: pip install '.[opencv]'")

from npshapenet import Box, Face
from npshapenet.video import draw_faces


def face_at(x: float, y: float, number: int | None = None) -> Face:
    """All 68 points on an upright line, 20 pixels down from (x, y)."""
    landmarks = np.stack([np.full(68, x), np.linspace(y, y + 20, 68)], axis=1).astype(np.float32)
    parameters: Any = None
    return Face(Box(x - 5, y - 5, x + 5, y + 25), landmarks, parameters, None, number)


@pytest.mark.parametrize("x", [50.0, 50.25, 50.5])
def test_lines_are_where_the_points_are(x: float) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    drawn = draw_faces(frame, [face_at(x, 20)])
    brightness = drawn[25:35].max(axis=2).astype(float)
    place = (brightness * np.arange(80)).sum() / brightness.sum()
    assert place == pytest.approx(x, abs=0.06)  # OpenCV draws in 16ths of a pixel
    assert not drawn[:18].any()
    assert not drawn[43:].any()
    assert not frame.any()


def test_an_id_is_written() -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    without, drawn = draw_faces(frame, [face_at(50, 40)]), draw_faces(frame, [face_at(50, 40, 7)])
    assert (drawn != without).any()


def test_faces_outside_are_no_trouble() -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    assert not draw_faces(frame, [face_at(500, -300)]).any()


def test_a_view_of_other_order_of_colours_is_drawn_on() -> None:
    frame = np.zeros((60, 80, 3), np.uint8)[..., ::-1]
    assert draw_faces(frame, [face_at(50, 20)]).any()
