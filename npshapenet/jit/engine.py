"""The compiled engine: the entry that walks the steps, and the convolutions.

Numba compiles this file; the multiply-adds are in microkernel.py. ``convolve_panel``
(intrinsics.py) calls the machine code that ``microkernel._emit_convolution`` made for the tile
whose place in cpu.py's table is the first argument. A CONVOLUTION step, from the outside in:

    for each of the two widths of panels (TILE, SECOND_TILE)    convolution
      for each strip of output pixels                         panels
        for each panel: NR output channels                    panels
          for each depth block: a part of a pixel's inputs    panel_strip
            for each tile: MR output pixels                   Emitter.for_each_tile
              for each input k of the block                   microkernel.one_input
                MR · NR/V multiply-adds of V floats, unrolled

All memory is given from outside, as bare pointers: ``p[i]`` is the i-th number, ``at(p, n)`` the
pointer n numbers further on. ``weights``, ``arena``, images and results are float32 (but those
of GRAY, which are bytes); a step, a
crop and the call itself are rows of int64 whose columns steps.py names. Parameters are ``Any``
because Numba infers their types, from RUN_ARGUMENTS. Nothing is allocated, checked or raised here:
the plan has seen to it that all offsets fit. Images in the arena are channels last: [row, column,
channel].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.gray import make_gray
from npshapenet.jit.intrinsics import (
    INTEGERS,
    at,
    clear,
    convolve_panel,
    convolve_panel_depthwise,
    copy,
    floats_at,
    integers_at,
    larger,
    or_null,
    smaller,
)
from npshapenet.jit.landmarks import clamp, place_landmarks
from npshapenet.jit.point_depthwise import point_depthwise
from npshapenet.jit.rare_steps import add, copy_pixels, norm
from npshapenet.jit.resizing import resize
from npshapenet.jit.shape_fitting import fit_similarity, mean_places

RUN_ARGUMENTS = (INTEGERS,)


def walk(is_basic: bool) -> Any:
    """The entry of an engine that takes the basic kinds of steps alone, or all of them."""

    @compiled
    def run(call: Any) -> None:
        """What one call asks for, image after image: all steps for the first, then the second…

        ``call`` is a row of int64 whose columns steps.py names.
        """
        weights, arena = floats_at(call[s.CALL_WEIGHTS]), floats_at(call[s.CALL_ARENA])
        for number in range(call[s.CALL_IMAGE_COUNT]):
            image = at(floats_at(call[s.CALL_IMAGES]), number * call[s.CALL_IMAGE_SIZE])
            image_out = at(floats_at(call[s.CALL_OUT]), number * call[s.CALL_OUT_SIZE])
            crop = at(integers_at(call[s.CALL_CROPS]), number * s.CROP_COLUMNS)
            for place in range(call[s.CALL_STEP_COUNT]):
                step = at(integers_at(call[s.CALL_STEPS]), place * s.COLUMNS)
                kind = step[s.KIND]
                if kind == s.CONVOLUTION:
                    convolution(step, weights, arena)
                elif kind == s.DEPTHWISE:
                    depthwise(step, weights, arena)
                elif kind == s.CLEAR:
                    clear_border(step, arena)
                elif kind == s.RESIZE:
                    resize(
                        step, weights, arena, floats_at(crop[s.CROP_ADDRESS]),
                        crop[s.CROP_IS_FLOAT], crop[s.CROP_HEIGHT], crop[s.CROP_WIDTH],
                        floats_at(call[s.CALL_SCRATCH]),
                    )  # fmt: skip
                elif kind == s.LOAD:
                    load(step, arena, image)
                elif kind == s.STORE:
                    store(step, arena, image_out)
                elif kind == s.CLAMP:
                    clamp(step, weights, arena)
                elif kind == s.PLACE:
                    place_landmarks(
                        step, arena, crop[s.CROP_HEIGHT], crop[s.CROP_WIDTH],
                        at(image_out, step[s.OUTPUT]),
                    )  # fmt: skip
                elif kind == s.POINT_DEPTHWISE:
                    point_depthwise(step, weights, arena)
                elif kind == s.FIT_SIMILARITY:
                    fit_similarity(step, weights, arena)
                elif kind == s.GRAY:
                    make_gray(
                        step, floats_at(crop[s.CROP_ADDRESS]), crop[s.CROP_HEIGHT],
                        crop[s.CROP_WIDTH], image_out,
                    )  # fmt: skip
                elif kind == s.COPY:
                    copy_pixels(step, arena)
                elif is_basic:  # Numba doesn't compile what comes after a condition that is True
                    pass
                elif kind == s.ADD:
                    add(step, arena)
                elif kind == s.NORM:
                    norm(step, weights, arena)
                elif kind == s.MEAN_PLACES:
                    mean_places(step, arena)

    return run


@compiled
def load(step: Any, arena: Any, image: Any) -> None:
    """The network's input: image [channel, row, column] → arena."""
    rows, row_pixels = step[s.ROWS], step[s.ROW_PIXELS]
    for y in range(rows):
        row = at(arena, step[s.OUTPUT] + y * step[s.OUTPUT_ROW])
        if step[s.OUTPUT_PIXEL] == 1:  # gray: whole vectors are copied
            copy(at(image, y * row_pixels), row, row_pixels)
            continue
        for channel in range(step[s.CHANNELS]):
            source = at(image, (channel * rows + y) * row_pixels)
            for x in range(row_pixels):
                row[x * step[s.OUTPUT_PIXEL] + channel] = source[x]


@compiled
def store(step: Any, arena: Any, out: Any) -> None:
    """The network's output: arena → out [channel, row, column]."""
    rows, row_pixels = step[s.ROWS], step[s.ROW_PIXELS]
    for y in range(rows):
        row = at(arena, step[s.INPUT] + y * step[s.INPUT_ROW])
        for channel in range(step[s.CHANNELS]):
            target = at(out, (channel * rows + y) * row_pixels)
            for x in range(row_pixels):
                target[x] = row[x * step[s.INPUT_PIXEL] + channel]


@compiled
def clear_border(step: Any, arena: Any) -> None:
    """Zeros around an image: what a convolution's padding reads.

    The zeros right of a row are also those left of the next.
    """
    gap = step[s.ROW_GAP]
    clear(at(arena, step[s.OUTPUT]), step[s.FIRST_GAP])
    row_end = at(
        arena, step[s.OUTPUT] + step[s.FIRST_GAP] + step[s.ROW_PIXELS] * step[s.OUTPUT_PIXEL]
    )
    for y in range(step[s.ROWS]):
        clear(at(row_end, y * step[s.OUTPUT_ROW]), gap)
    clear(at(row_end, (step[s.ROWS] - 1) * step[s.OUTPUT_ROW] + gap), step[s.LAST_GAP])


@compiled
def convolution(step: Any, weights: Any, arena: Any) -> None:
    """A convolution or dense layer: first the panels of one width, then those of the other."""
    packed = at(weights, step[s.WEIGHTS])
    channels = step[s.PANELS] * step[s.TILE_CHANNELS]
    # np.int64: for a plain 0 Numba would compile the function once more, for that one value.
    panels(step, s.TILE, step[s.PANELS], np.int64(0), packed, arena)
    if step[s.SECOND_PANELS] > 0:
        packed = at(packed, step[s.PANELS] * panel_size(step, step[s.TILE_CHANNELS]))
        panels(step, s.SECOND_TILE, step[s.SECOND_PANELS], channels, packed, arena)


@compiled
def panels(
    step: Any, tile_column: Any, panel_count: Any, first_channel: Any, packed: Any, arena: Any
) -> None:
    """All output pixels for the channels of ``panel_count`` packed panels of one width.

    packed [panel, depth block, 1 + depth of a block, NR]: the biases, then the weights.
    """
    tile_pixels, tile_channels = step[tile_column + 1], step[tile_column + 2]
    rows, row_pixels = step[s.ROWS], step[s.ROW_PIXELS]
    # Strips are whole rows where they fit, else parts of one row.
    strip_rows = larger(step[s.STRIP_PIXELS] // row_pixels, 1)
    strip_pixels = larger(step[s.STRIP_PIXELS], tile_pixels)
    # No range with a step: Numba's would raise an error for a step of 0.
    for strip_row in range((rows + strip_rows - 1) // strip_rows):
        first_row = strip_row * strip_rows
        for strip in range((row_pixels + strip_pixels - 1) // strip_pixels):
            first_pixel = strip * strip_pixels
            # A strip that would be smaller than a tile overlaps the one before.
            pixels = smaller(larger(row_pixels - first_pixel, tile_pixels), strip_pixels)
            x = smaller(first_pixel, row_pixels - pixels)
            for panel in range(panel_count):
                channel = first_channel + panel * tile_channels
                panel_strip(
                    step, tile_column, first_row, smaller(rows - first_row, strip_rows), x, pixels,
                    channel, at(packed, panel * panel_size(step, tile_channels)), arena,
                )  # fmt: skip


@compiled
def panel_size(step: Any, tile_channels: Any) -> Any:
    """The floats of one packed panel."""
    block_depth = step[s.RUNS] * step[s.RUN_LENGTH]
    return step[s.BLOCK_ROWS] * step[s.BLOCK_COLUMNS] * (1 + block_depth) * tile_channels


@compiled
def panel_strip(
    step: Any,
    tile_column: Any,
    y: Any,
    rows: Any,
    x: Any,
    pixels: Any,
    channel: Any,
    packed: Any,
    arena: Any,
) -> None:
    """``rows`` × ``pixels`` output pixels from row y and pixel x on, for one panel's channels.

    packed [depth block, 1 + depth of a block, NR]. Depth block by depth block: the first one
    starts from the bias and the layer's addend, the others from the sums so far; the last one
    activates and writes the output, the others the sums. In the sums no two tiles overlap: a
    pixel of two tiles must not be added to twice.
    """
    tile_pixels, tile_channels = step[tile_column + 1], step[tile_column + 2]
    last_block = step[s.BLOCK_ROWS] * step[s.BLOCK_COLUMNS] - 1
    block_size = (1 + step[s.RUNS] * step[s.RUN_LENGTH]) * tile_channels
    last_pixel = pixels - tile_pixels  # the first one of the last tile of a row
    # A row of sums is whole tiles. Passed as the place of the last tile (see Walk.last), where none
    # starts, so that none is moved back onto its neighbour.
    sums_row = (pixels + tile_pixels - 1) // tile_pixels * tile_pixels * tile_channels
    first_input = step[s.INPUT] + y * step[s.INPUT_ROW] + x * step[s.INPUT_PIXEL]
    for block in range(last_block + 1):
        block_row = block // step[s.BLOCK_COLUMNS]
        block_column = block - block_row * step[s.BLOCK_COLUMNS]
        source = first_input + block_row * step[s.BLOCK_ROW_PITCH]
        source += block_column * step[s.RUN_LENGTH]
        out, out_pixel, out_row = step[s.SUMS], tile_channels, sums_row
        addend, addend_pixel, addend_row = step[s.SUMS], tile_channels, sums_row
        out_last, addend_last = sums_row, sums_row
        activation = np.int64(s.NONE)
        if block == last_block:
            out_pixel, out_row = step[s.OUTPUT_PIXEL], step[s.OUTPUT_ROW]
            out = step[s.OUTPUT] + y * out_row + x * out_pixel + channel
            out_last = last_pixel * out_pixel
            activation = step[s.ACTIVATION]
        if block == 0:
            addend, addend_pixel = s.NOWHERE, step[s.OUTPUT_PIXEL]
            addend_row = step[s.ADDEND_ROW]
            if step[s.ADDEND] >= 0:
                addend = step[s.ADDEND] + y * addend_row + x * addend_pixel + channel
            addend_last = last_pixel * addend_pixel
        convolve_panel(
            step[tile_column],
            rows,
            pixels,
            step[s.RUNS],
            step[s.RUN_PITCH],
            step[s.RUN_LENGTH],
            at(packed, block * block_size),
            activation,
            at(arena, source),  # source
            step[s.INPUT_PIXEL],
            step[s.INPUT_ROW],
            last_pixel * step[s.INPUT_PIXEL],
            at(arena, out),  # output
            out_pixel,
            out_row,
            out_last,
            or_null(arena, addend),  # addend: the layer's, the sums so far or none
            addend_pixel,
            addend_row,
            addend_last,
        )


@compiled
def depthwise(step: Any, weights: Any, arena: Any) -> None:
    """A convolution of each channel by itself, or of a single one: panel by panel, so that the
    part of the image that a panel reads stays in the nearest cache from one row to the next.

    packed [panel, 1 + taps, NR]: the biases, then the weights of each tap.
    """
    tile_pixels, tile_channels = step[s.TILE_PIXELS], step[s.TILE_CHANNELS]
    row_pixels = step[s.ROW_PIXELS]
    panel_size = tile_channels + step[s.TAP_ROWS] * step[s.TAP_COLUMNS] * step[s.WEIGHT_PITCH]
    if step[s.WEIGHT_PITCH] == 0:  # one weight for all taps
        panel_size += tile_channels
    last_pixel = row_pixels - tile_pixels
    for panel in range(step[s.PANELS]):
        channel = panel * tile_channels
        convolve_panel_depthwise(
            step[s.TILE],
            step[s.ROWS],
            row_pixels,
            step[s.TAP_ROWS],
            step[s.TAP_ROW_PITCH],
            step[s.TAP_COLUMNS],
            step[s.TAP_COLUMN_PITCH],
            at(weights, step[s.WEIGHTS] + panel * panel_size),
            step[s.WEIGHT_PITCH],
            step[s.ACTIVATION],
            at(arena, step[s.INPUT] + channel * step[s.INPUT_CHANNEL]),
            step[s.INPUT_PIXEL],
            step[s.INPUT_ROW],
            last_pixel * step[s.INPUT_PIXEL],
            at(arena, step[s.OUTPUT] + channel),
            step[s.OUTPUT_PIXEL],
            step[s.OUTPUT_ROW],
            last_pixel * step[s.OUTPUT_PIXEL],
        )


# With the basic kinds there is a third less to compile, for which somebody waits.
run_basic, run_any = walk(is_basic=True), walk(is_basic=False)
