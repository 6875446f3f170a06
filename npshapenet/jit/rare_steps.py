"""Steps of layers that few networks have: additions by themselves, enlarged images, norms; copies.

As in engine.py, memory is bare pointers, and a step a row of int64 whose columns steps.py names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import at, clear, copy, larger, smaller

# As float32: a Python number is float64, and larger and smaller take two of one type.
_ZERO, _ONE, _THREE, _SIX = np.float32(0), np.float32(1), np.float32(3), np.float32(6)


@compiled
def add(step: Any, arena: Any) -> None:
    """output = activation(input + addend), value by value; their pixels are equally far apart."""
    count = step[s.ROW_PIXELS] * step[s.OUTPUT_PIXEL]
    activation = step[s.ACTIVATION]
    for y in range(step[s.ROWS]):
        first = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        second = at(arena, step[s.ADDEND] + y * step[s.ADDEND_ROW])
        target = at(arena, step[s.OUTPUT] + y * step[s.OUTPUT_ROW])
        if activation == s.NONE:
            for place in range(count):
                target[place] = first[place] + second[place]
        elif activation == s.RELU:
            for place in range(count):
                target[place] = larger(first[place] + second[place], _ZERO)
        elif activation == s.HARD_SWISH:
            for place in range(count):
                value = first[place] + second[place]
                target[place] = value * smaller(larger(value + _THREE, _ZERO), _SIX) / _SIX


@compiled
def copy_pixels(step: Any, arena: Any) -> None:
    """output[y · FACTOR + i, x · FACTOR + j] = input[y, x], for all channels and all i, j."""
    factor, out_pixel, out_row = step[s.FACTOR], step[s.OUTPUT_PIXEL], step[s.OUTPUT_ROW]
    for y in range(step[s.SOURCE_ROWS]):
        source_row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        for i in range(factor):
            target = at(arena, step[s.OUTPUT] + (y * factor + i) * out_row)
            for x in range(step[s.SOURCE_ROW_PIXELS]):
                source = at(source_row, x * step[s.INPUT_PIXEL])
                for j in range(factor):
                    copy(source, at(target, (x * factor + j) * out_pixel), step[s.CHANNELS])


@compiled
def norm(step: Any, weights: Any, arena: Any) -> None:
    """output = (input − mean) / √(variance + ε) · factor + addend, by groups of channels.

    The mean and the variance of a group are the means of what its channels give. Sums are made
    row by row and then over the rows: closer to the truth in float32 than one long sum, and the
    inner loop over channels is what the compiler turns into vectors.
    """
    rows, row_pixels, channels = step[s.ROWS], step[s.ROW_PIXELS], step[s.CHANNELS]
    groups, group_channels = step[s.GROUPS], step[s.GROUP_CHANNELS]
    epsilon = weights[step[s.WEIGHTS]]
    factor = at(weights, step[s.WEIGHTS] + 1)
    addend = at(factor, channels)
    share = _ONE / np.float32(rows * row_pixels)
    mean = at(arena, step[s.SUMS])
    scale = at(mean, channels)
    row_sum = at(scale, channels)
    clear(mean, channels)
    clear(scale, channels)
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        clear(row_sum, channels)
        for x in range(row_pixels):
            pixel = at(row, x * channels)
            for channel in range(channels):
                row_sum[channel] += pixel[channel]
        for channel in range(channels):
            mean[channel] += row_sum[channel] * share
    average_groups(mean, groups, group_channels)
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        clear(row_sum, channels)
        for x in range(row_pixels):
            pixel = at(row, x * channels)
            for channel in range(channels):
                difference = pixel[channel] - mean[channel]
                row_sum[channel] += difference * difference
        for channel in range(channels):
            scale[channel] += row_sum[channel] * share
    average_groups(scale, groups, group_channels)
    for channel in range(channels):
        scale[channel] = factor[channel] / np.sqrt(scale[channel] + epsilon)
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        target_row = at(arena, step[s.OUTPUT] + y * step[s.OUTPUT_ROW])
        for x in range(row_pixels):
            pixel, target = at(row, x * channels), at(target_row, x * channels)
            for channel in range(channels):
                difference = pixel[channel] - mean[channel]
                target[channel] = difference * scale[channel] + addend[channel]


@compiled
def average_groups(values: Any, groups: Any, group_channels: Any) -> None:
    """The number of each channel becomes the mean of those of its group."""
    share = _ONE / np.float32(group_channels)
    for group in range(groups):
        members = at(values, group * group_channels)
        mean = _ZERO
        for channel in range(group_channels):
            mean += members[channel] * share
        for channel in range(group_channels):
            members[channel] = mean
