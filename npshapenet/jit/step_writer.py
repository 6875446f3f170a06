"""The table of steps in the making, and where an image lies in a step's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.arena import Image, rounded_up
from npshapenet.jit.cpu import Registers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


@dataclass
class StepWriter:
    """Steps and packed weights, one after the other; images, by name, have their place already."""

    registers: Registers
    images: dict[str, Image]
    tensors: Mapping[str, Floats]
    sums: int  # offset of the memory for incomplete sums, which all steps share
    sums_size: int = 0
    steps: list[NDArray[np.int64]] = field(default_factory=list)
    weights: list[Floats] = field(default_factory=list)
    weights_size: int = 0

    def step(self, kind: int, columns: Mapping[int, int]) -> None:
        row = np.zeros(s.COLUMNS, np.int64)
        row[s.KIND] = kind
        for column, value in columns.items():
            row[column] = value
        self.steps.append(row)

    def add_weights(self, values: Floats) -> int:
        """Append packed weights, from the next cache line on; their offset."""
        offset = self.weights_size
        padded = np.zeros(rounded_up(values.size, 16), np.float32)
        padded[: values.size] = values.ravel()
        self.weights.append(padded)
        self.weights_size += padded.size
        return offset

    def reserve_sums(self, count: int) -> int:
        """Memory for ``count`` incomplete sums; its offset."""
        self.sums_size = max(self.sums_size, count)
        return self.sums


def input_columns(image: Image) -> dict[int, int]:
    """For a step that reads the image pixel by pixel."""
    return {
        s.INPUT: image.origin,
        s.INPUT_PIXEL: image.pixel_pitch,
        s.INPUT_ROW: image.row_pitch,
    }


def output_columns(image: Image) -> dict[int, int]:
    return {
        s.OUTPUT: image.origin,
        s.OUTPUT_PIXEL: image.pixel_pitch,
        s.OUTPUT_ROW: image.row_pitch,
        s.ROWS: image.shape[1],
        s.ROW_PIXELS: image.shape[2],
        s.CHANNELS: image.pixel_pitch,
    }


def write_border(writer: StepWriter, image: Image) -> None:
    if image.border == (0, 0):
        return
    gap = image.border[1] * image.pixel_pitch
    writer.step(
        s.CLEAR,
        {
            **output_columns(image),
            s.OUTPUT: image.offset,
            s.ROW_GAP: gap,
            s.FIRST_GAP: image.first_gap,
            s.LAST_GAP: image.border[0] * image.row_pitch,
        },
    )


def write_clear(writer: StepWriter, image: Image) -> None:
    """Zeros everywhere in an image, also in the channels that only fill up a pixel."""
    writer.step(s.CLEAR, {s.OUTPUT: image.offset, s.FIRST_GAP: image.size, s.ROWS: 0})
