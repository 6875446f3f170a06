"""Clips made from labelled faces: one photo moved in a known way, so that the truth moves along.

The whole photo is moved, as by a camera: a similarity around the middle of the landmarks. Outside
the photo its nearest pixel is repeated. Sizes: F frames, 68 landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reference.data.face import Box
from reference.views import View

Floats = NDArray[np.float64]
Gray = NDArray[np.uint8]

FRAMES_PER_SECOND: Final = 30.0


@dataclass(frozen=True)
class Pose:
    """Where a moved photo is: ``shift_x``, in sizes of the face, right; ``scale``; clockwise."""

    shift_x: float = 0.0
    scale: float = 1.0
    angle_rad: float = 0.0


Motion = Callable[[float], Pose]  # of the time in seconds

#: The motions of the report. A face's size is the longer side of its landmarks' extent.
MOTIONS: Final = MappingProxyType(
    {
        "still": lambda time_s: Pose(),
        "slow drift": lambda time_s: Pose(shift_x=0.15 * math.sin(0.2 * math.tau * time_s)),
        "quick shake": lambda time_s: Pose(shift_x=0.1 * math.sin(2 * math.tau * time_s)),
        "zoom": lambda time_s: Pose(scale=math.exp(0.3 * math.sin(0.5 * math.tau * time_s))),
        "turn": lambda time_s: Pose(angle_rad=math.radians(20) * math.sin(0.5 * math.tau * time_s)),
    }
)


@dataclass(frozen=True, eq=False)
class Clip:
    """A gray photo (H, W) in motion: frames of its size, at ``FRAMES_PER_SECOND``.

    ``noise_levels`` is the standard deviation, in gray levels of 256, of the normal noise that is
    drawn anew for each frame; the same seed draws the same.
    """

    photo: Gray
    box: Box
    landmarks: Floats
    motion: Motion
    frame_count: int
    noise_levels: float
    seed: int

    def frames(self) -> Iterator[Gray]:
        """The frames, ``uint8`` (H, W)."""
        rng = np.random.default_rng(self.seed)
        height, width = self.photo.shape
        margin = max(height, width)
        filled = Image.fromarray(np.pad(self.photo, margin, mode="edge"))
        for frame in range(self.frame_count):
            matrix, offset = self._to_photo(frame)
            # Pillow maps pixel edges, of the frame to those of the padded photo.
            a, b = matrix
            edges = offset + 0.5 - matrix @ (0.5, 0.5) + margin
            coefficients = (*a, edges[0], *b, edges[1])
            moved = filled.transform(
                (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
            )
            levels = np.asarray(moved, np.float32)
            levels = levels + np.float32(self.noise_levels) * rng.standard_normal(
                levels.shape, np.float32
            )
            yield np.rint(levels).clip(0, 255).astype(np.uint8)

    def truth(self, frame: float) -> Floats:
        """The true landmarks (68, 2) at a frame, or between two."""
        return self._moved(self.landmarks, frame)

    def true_box(self, frame: float) -> Box:
        """The face's box, moved and scaled, but not turned."""
        left, top, right, bottom = self.box
        middle = np.array([[left + right, top + bottom]]) / 2 - 0.5
        ((x, y),) = self._moved(middle, frame) + 0.5
        half_width = (right - left) / 2 * self._pose(frame).scale
        half_height = (bottom - top) / 2 * self._pose(frame).scale
        return x - half_width, y - half_height, x + half_width, y + half_height

    def _pose(self, frame: float) -> Pose:
        return self.motion(frame / FRAMES_PER_SECOND)

    def _moved(self, points: Floats, frame: float) -> Floats:
        """Points (..., 2) of the photo where they are in a frame."""
        matrix, offset = self._to_photo(frame)
        moved: Floats = (points - offset) @ np.linalg.inv(matrix).T
        return moved

    def _to_photo(self, frame: float) -> tuple[Floats, Floats]:
        """Matrix (2, 2) and offset (2,) from a frame's points, (x, y), to the photo's."""
        pose = self._pose(frame)
        cosine, sine = math.cos(pose.angle_rad), math.sin(pose.angle_rad)
        matrix = np.array([[cosine, sine], [-sine, cosine]]) / pose.scale
        low, high = self.landmarks.min(axis=0), self.landmarks.max(axis=0)
        middle = (low + high) / 2
        shift = np.array([pose.shift_x * float((high - low).max()), 0.0])
        return matrix, middle - matrix @ (middle + shift)


def clip_of(
    view: View, motion: Motion, frame_count: int, noise_levels: float, seed: int = 0
) -> Clip:
    """The clip of a labelled face."""
    photo = np.asarray(view.photo.convert("L"))
    return Clip(photo, view.box, view.landmarks, motion, frame_count, noise_levels, seed)
