"""One face over time: where it was, where it is heading, how its points are smoothed."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from npshapenet.faces import Face
from npshapenet.image import Box
from npshapenet.smoothing import OneEuroFilter

#: x and y; of single points, plain numbers are faster than NumPy's.
Point = tuple[float, float]

#: How much each frame renews of the speed by which a face is heading somewhere.
_SPEED_SHARE: Final = 0.5
#: How far, in sides of its box, the edges of a face's box may move before its crop is another. The
#: crops of a face at rest are then the same, and don't jump by whole pixels where a box is rounded.
_AT_REST: Final = 0.006


class Track:
    """A face that a ``Tracker`` follows, or has lost and looks for.

    ``box`` is the one around its unsmoothed landmarks when it was last seen. By ``crop_box`` its
    next crop is cut: that one or, while the face rests, an earlier one. Counted in frames:
    ``frames_lost``, since it was last seen; ``frames_unconfirmed``, since the detector last found
    it.
    """

    def __init__(self, number: int, box: Box, smoother: OneEuroFilter | None) -> None:
        self.id = number
        self.box = self.crop_box = box
        self.frames_lost = 0
        self.frames_unconfirmed = 0
        self._speed_px: Point = (0.0, 0.0)
        self._smoother = smoother

    def heading(self, frames: int) -> Point:
        """Where the centre of its box is so many frames later, if it goes on as it did."""
        (x, y), (speed_x, speed_y) = centre(self.box), self._speed_px
        return x + speed_x * frames, y + speed_y * frames

    def go_on(self, box: Box, is_confirmed: bool) -> None:
        """It was seen in the next frame, and its landmarks are in that box."""
        (x, y), (last_x, last_y) = centre(box), centre(self.box)
        speed_x, speed_y = self._speed_px
        self._speed_px = (
            speed_x + _SPEED_SHARE * (x - last_x - speed_x),
            speed_y + _SPEED_SHARE * (y - last_y - speed_y),
        )
        self.box = box
        if not _is_at_rest(self.crop_box, box):
            self.crop_box = box
        self.frames_unconfirmed = 0 if is_confirmed else self.frames_unconfirmed + 1

    def lose(self) -> None:
        """It was not seen in the next frame."""
        self.frames_lost += 1

    def find(self, box: Box) -> None:
        """It was lost, and is seen again in that box; its points begin anew."""
        self.box = self.crop_box = box
        self.frames_lost = self.frames_unconfirmed = 0
        self._speed_px = (0.0, 0.0)
        if self._smoother is not None:
            self._smoother.reset()

    def named(self, face: Face, time_s: float) -> Face:
        """The face as it was seen at that time, with the track's id and smoothed landmarks."""
        landmarks = face.landmarks
        if self._smoother is not None:
            landmarks = self._smoother(landmarks, time_s).astype(np.float32)
        return Face(face.box, landmarks, face.parameters, face.quality, self.id)


def centre(box: Box) -> Point:
    """The centre of a box."""
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def side_px(box: Box) -> float:
    """The longer side of a box."""
    return max(box.width, box.height)


def distance(box: Box, point: Point) -> float:
    """From the centre of a box to a point, in sides of the box."""
    return math.dist(centre(box), point) / side_px(box)


def _is_at_rest(before: Box, now: Box) -> bool:
    """Whether no edge of a box has moved by more than _AT_REST of its side."""
    limit_px = _AT_REST * side_px(before)
    return all(abs(a - b) <= limit_px for a, b in zip(before.edges, now.edges, strict=True))


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes: 0 for none, 1 for equal ones."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (first.width * first.height + second.width * second.height - shared)
