"""The compiled engine: one function for each kind of step, and the entry that walks them.

Numba compiles this file; the multiply-adds are in microkernel.py. All memory is given from
outside: ``weights``, ``arena``, ``images`` and ``out`` are float32, a step is a row of int64
whose columns steps.py names. Nothing is allocated, checked or raised here: the plan has seen
to it that all offsets fit. Images in the arena are channels last: [row, column, channel].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from npshapenet.jit import steps as s
from npshapenet.jit.microkernel import FLOATS, at, convolution_tile, depthwise_tile, or_null

STEPS = types.CPointer(types.int64)
INDEX = types.int64
RUN_SIGNATURE = types.void(STEPS, INDEX, FLOATS, FLOATS, FLOATS, INDEX, INDEX, FLOATS, INDEX)

# Plain functions on numbers and pointers: no reference counts, exceptions or Python objects.
compiled = njit(
    nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)

_ZERO, _ONE, _THREE, _SIX = np.float32(0), np.float32(1), np.float32(3), np.float32(6)


@compiled
def run(
    steps: Any,
    step_count: Any,
    weights: Any,
    arena: Any,
    images: Any,
    image_count: Any,
    image_size: Any,
    out: Any,
    out_size: Any,
) -> None:
    """images [image, channel, row, column] → out [image, output], one image after the other.

    ``image_size`` and ``out_size`` are the floats of one image and of its outputs.
    """
    for number in range(image_count):
        image = at(images, number * image_size)
        image_out = at(out, number * out_size)
        for place in range(step_count):
            step = at(steps, place * s.COLUMNS)
            kind = step[s.KIND]
            if kind == s.CONVOLUTION:
                convolution(step, weights, arena)
            elif kind == s.DEPTHWISE:
                depthwise(step, weights, arena)
            elif kind == s.CLEAR_BORDER:
                clear_border(step, arena)
            elif kind == s.ADD:
                add(step, arena)
            elif kind == s.INSTANCE_NORM:
                instance_norm(step, weights, arena)
            elif kind == s.LOAD:
                load(step, arena, image)
            elif kind == s.STORE:
                store(step, arena, image_out)


@compiled
def load(step: Any, arena: Any, image: Any) -> None:
    """The network's input: image [channel, row, column] → arena."""
    rows, columns = step[s.ROWS], step[s.ROW_PIXELS]
    for y in range(rows):
        row = at(arena, step[s.OUTPUT] + y * step[s.OUTPUT_ROW])
        for channel in range(step[s.CHANNELS]):
            source = at(image, (channel * rows + y) * columns)
            for x in range(columns):
                row[x * step[s.OUTPUT_PIXEL] + channel] = source[x]


@compiled
def store(step: Any, arena: Any, out: Any) -> None:
    """The network's output: arena → out [channel, row, column]."""
    rows, columns = step[s.ROWS], step[s.ROW_PIXELS]
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        for channel in range(step[s.CHANNELS]):
            target = at(out, (channel * rows + y) * columns)
            for x in range(columns):
                target[x] = row[x * step[s.INPUT_PIXEL] + channel]


@compiled
def clear(values: Any, count: Any) -> None:
    for place in range(count):
        values[place] = _ZERO


@compiled
def clear_border(step: Any, arena: Any) -> None:
    """Zeros around an image: what a convolution's padding reads.

    The zeros right of a row are also those left of the next.
    """
    gap = step[s.ROW_GAP]
    clear(at(arena, step[s.OUTPUT]), step[s.FIRST_GAP])
    row_end = at(arena, step[s.OUTPUT] + step[s.FIRST_GAP] + step[s.ROW_PIXELS] * step[s.OUTPUT_PIXEL])
    for y in range(step[s.ROWS]):
        clear(at(row_end, y * step[s.OUTPUT_ROW]), gap)
    clear(at(row_end, (step[s.ROWS] - 1) * step[s.OUTPUT_ROW] + gap), step[s.LAST_GAP])


@compiled
def convolution(step: Any, weights: Any, arena: Any) -> None:
    """A convolution or dense layer: first the panels of one width, then those of the other."""
    packed = at(weights, step[s.WEIGHTS])
    depth = step[s.RUNS] * step[s.RUN_LENGTH]
    blocks = step[s.BLOCK_ROWS] * step[s.BLOCK_COLUMNS]
    channels = step[s.PANELS] * step[s.TILE_CHANNELS]
    first_channel = channels - channels  # a literal 0 would make Numba compile panels twice
    panels(step, s.TILE, step[s.PANELS], first_channel, packed, arena)
    if step[s.LAST_PANELS] > 0:
        packed = at(packed, channels * (blocks * (depth + 1)))
        panels(step, s.LAST_TILE, step[s.LAST_PANELS], channels, packed, arena)


@compiled
def panels(
    step: Any, tile_column: Any, panel_count: Any, first_channel: Any, packed: Any, arena: Any
) -> None:
    """All output pixels for the channels of ``panel_count`` packed panels of one width.

    packed [panel, depth block, 1 + depth of a block, NR]: the biases, then the weights.
    """
    tile_pixels, tile_channels = step[tile_column + 1], step[tile_column + 2]
    tiles_in_row = (step[s.ROW_PIXELS] + tile_pixels - 1) // tile_pixels
    tiles = step[s.ROWS] * tiles_in_row
    group = max(step[s.GROUP_PIXELS] // tile_pixels, 1)
    blocks = step[s.BLOCK_ROWS] * step[s.BLOCK_COLUMNS]
    panel_size = (step[s.RUNS] * step[s.RUN_LENGTH] + 1) * tile_channels
    for first_tile in range(0, tiles, group):
        last_tile = min(first_tile + group, tiles)
        for panel in range(panel_count):
            channel = first_channel + panel * tile_channels
            for block in range(blocks):
                packed_block = at(packed, (panel * blocks + block) * panel_size)
                block_row = block // step[s.BLOCK_COLUMNS]
                block_column = block - block_row * step[s.BLOCK_COLUMNS]
                source = at(
                    arena,
                    step[s.INPUT]
                    + block_row * step[s.BLOCK_ROW_PITCH]
                    + block_column * step[s.BLOCK_COLUMN_PITCH],
                )
                is_first, is_last = block == 0, block == blocks - 1
                tile_group(
                    step, tile_column, first_tile, last_tile, channel,
                    source, packed_block, arena, is_first, is_last,
                )  # fmt: skip


@compiled
def tile_group(
    step: Any,
    tile_column: Any,
    first_tile: Any,
    last_tile: Any,
    channel: Any,
    source: Any,
    packed_block: Any,
    arena: Any,
    is_first: Any,
    is_last: Any,
) -> None:
    """One depth block of one panel, for the tiles first_tile … last_tile − 1 of the image.

    The first block starts from the bias and the layer's addend, the others from the sums so
    far; the last one activates and writes the output, the others the sums. Each tile has sums
    of its own: tiles overlap, and a pixel of two tiles must not be added to twice.
    """
    tile_pixels, tile_channels = step[tile_column + 1], step[tile_column + 2]
    row_pixels = step[s.ROW_PIXELS]
    tiles_in_row = (row_pixels + tile_pixels - 1) // tile_pixels
    y = first_tile // tiles_in_row
    tile_in_row = first_tile - y * tiles_in_row
    sums = step[s.SUMS]
    for _ in range(first_tile, last_tile):
        # The last tile of a row overlaps its neighbour instead of being shorter.
        x = min(tile_in_row * tile_pixels, row_pixels - tile_pixels)
        out, out_pixel = sums, tile_channels
        if is_last:
            out_pixel = step[s.OUTPUT_PIXEL]
            out = step[s.OUTPUT] + y * step[s.OUTPUT_ROW] + x * out_pixel + channel
        addend, addend_pixel = sums, tile_channels
        if is_first:
            addend, addend_pixel = step[s.ADDEND], step[s.OUTPUT_PIXEL]
            if addend >= 0:
                addend += y * step[s.ADDEND_ROW] + x * addend_pixel + channel
        convolution_tile(
            step[tile_column],
            at(source, y * step[s.INPUT_ROW] + x * step[s.INPUT_PIXEL]),
            step[s.INPUT_PIXEL],
            step[s.RUNS],
            step[s.RUN_PITCH],
            step[s.RUN_LENGTH],
            packed_block,
            at(arena, out),
            out_pixel,
            or_null(arena, addend),
            addend_pixel,
            step[s.ACTIVATION] if is_last else s.NONE,
        )
        sums += tile_pixels * tile_channels
        tile_in_row += 1
        if tile_in_row == tiles_in_row:
            tile_in_row = 0
            y += 1


@compiled
def depthwise(step: Any, weights: Any, arena: Any) -> None:
    """A convolution of each channel by itself: panel by panel, so that the part of the image
    that a panel reads stays in the nearest cache from one row to the next.

    packed [panel, 1 + taps, NR]: the biases, then the weights of each tap.
    """
    tile_pixels, tile_channels = step[s.TILE_PIXELS], step[s.TILE_CHANNELS]
    row_pixels = step[s.ROW_PIXELS]
    panel_size = tile_channels + step[s.TAP_ROWS] * step[s.TAP_COLUMNS] * step[s.WEIGHT_PITCH]
    if step[s.WEIGHT_PITCH] == 0:
        panel_size += tile_channels
    tiles_in_row = (row_pixels + tile_pixels - 1) // tile_pixels
    for panel in range(step[s.PANELS]):
        channel = panel * tile_channels
        panel_weights = at(weights, step[s.WEIGHTS] + panel * panel_size)
        for y in range(step[s.ROWS]):
            source = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW] + channel)
            target = at(arena, step[s.OUTPUT] + y * step[s.OUTPUT_ROW] + channel)
            for tile in range(tiles_in_row):
                x = min(tile * tile_pixels, row_pixels - tile_pixels)
                depthwise_tile(
                    step[s.TILE],
                    at(source, x * step[s.INPUT_PIXEL]),
                    step[s.INPUT_PIXEL],
                    step[s.TAP_ROWS],
                    step[s.TAP_ROW_PITCH],
                    step[s.TAP_COLUMNS],
                    step[s.TAP_COLUMN_PITCH],
                    panel_weights,
                    step[s.WEIGHT_PITCH],
                    at(target, x * step[s.OUTPUT_PIXEL]),
                    step[s.OUTPUT_PIXEL],
                    step[s.ACTIVATION],
                )


@compiled
def add(step: Any, arena: Any) -> None:
    """output = activation(input + addend), value by value."""
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
                target[place] = max(first[place] + second[place], _ZERO)
        else:
            for place in range(count):
                value = first[place] + second[place]
                target[place] = value * min(max(value + _THREE, _ZERO), _SIX) / _SIX


@compiled
def instance_norm(step: Any, weights: Any, arena: Any) -> None:
    """output = (input − mean) / √(variance + ε), mean and variance of each channel.

    The sums are made row by row and then over the rows: closer to the truth in float32 than
    one long sum, and the inner loop over channels is what the compiler turns into vectors.
    """
    rows, columns, channels = step[s.ROWS], step[s.ROW_PIXELS], step[s.CHANNELS]
    epsilon = weights[step[s.WEIGHTS]]
    share = _ONE / np.float32(rows * columns)
    mean = at(arena, step[s.SUMS])
    scale = at(mean, channels)
    row_sum = at(scale, channels)
    clear(mean, channels)
    clear(scale, channels)
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        clear(row_sum, channels)
        for x in range(columns):
            pixel = at(row, x * channels)
            for channel in range(channels):
                row_sum[channel] += pixel[channel]
        for channel in range(channels):
            mean[channel] += row_sum[channel] * share
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        clear(row_sum, channels)
        for x in range(columns):
            pixel = at(row, x * channels)
            for channel in range(channels):
                difference = pixel[channel] - mean[channel]
                row_sum[channel] += difference * difference
        for channel in range(channels):
            scale[channel] += row_sum[channel] * share
    for channel in range(channels):
        scale[channel] = _ONE / np.sqrt(scale[channel] + epsilon)
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        target_row = at(arena, step[s.OUTPUT] + y * step[s.OUTPUT_ROW])
        for x in range(columns):
            pixel, target = at(row, x * channels), at(target_row, x * channels)
            for channel in range(channels):
                target[channel] = (pixel[channel] - mean[channel]) * scale[channel]
