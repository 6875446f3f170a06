"""Where images lie in the arena: channels last, some with a border of zeros, none overlapping
another that is alive at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from npshapenet.layers import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_ALIGNMENT = 16  # floats: 64 bytes, a cache line


def rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@dataclass
class Image:
    """One layer's output (C, H, W) in the arena, as [row, column, channel].

    ``pixel_pitch`` floats from one pixel to the next, C of them used and the others 0. The
    border is ``border[0]`` rows of zeros above and below, and ``border[1]`` columns; those right
    of a row are also those left of the next.
    """

    shape: Shape
    pixel_pitch: int
    border: tuple[int, int] = (0, 0)
    offset: int = -1  # of the first float, border included; set by ``place``

    @property
    def row_pitch(self) -> int:
        """Floats from one row to the next."""
        return (self.shape[2] + self.border[1]) * self.pixel_pitch

    @property
    def first_gap(self) -> int:
        """Floats of border before the first pixel."""
        return self.border[0] * self.row_pitch + self.border[1] * self.pixel_pitch

    @property
    def origin(self) -> int:
        """Offset of the first pixel."""
        return self.offset + self.first_gap

    @property
    def size(self) -> int:
        """All floats, border included."""
        return self.first_gap + (self.shape[1] + self.border[0]) * self.row_pitch

    def view(self, arena: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image as (C, H, W), in the arena's memory."""
        strides = (4, 4 * self.row_pitch, 4 * self.pixel_pitch)
        return np.lib.stride_tricks.as_strided(arena[self.origin :], self.shape, strides)


class Lifetime(NamedTuple):
    """An image, the operation that writes it and the last one that reads it, by their numbers in
    running order."""

    image: Image
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime], *, share: bool = True) -> int:
    """Give each image its offset, first fit; the floats that the arena needs.

    Images that are never alive together share memory, so that all of it stays in a near cache; with
    ``share`` false none do.
    """
    placed: list[Lifetime] = []
    for new in sorted(lifetimes, key=lambda lifetime: lifetime.first):
        size = rounded_up(new.image.size, _ALIGNMENT)
        rivals = sorted(
            (
                old.image
                for old in placed
                if not share or (old.first <= new.last and new.first <= old.last)
            ),
            key=lambda image: image.offset,
        )
        offset = 0
        for image in rivals:
            if offset + size <= image.offset:
                break
            offset = max(offset, rounded_up(image.offset + image.size, _ALIGNMENT))
        new.image.offset = offset
        placed.append(new)
    return max(rounded_up(old.image.offset + old.image.size, _ALIGNMENT) for old in placed)
