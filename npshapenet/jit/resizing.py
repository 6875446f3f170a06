"""A gray crop as the network reads it: widened to a square, resized, normalised; compiled.

The triangle filter has half-pixel centres and is widened by the factor when shrinking; its
weights sum to 1 also at the border. Its two passes are products with matrices of weights.
The rows' pass adds up whole rows in vectors. The columns' pass is done by the convolution
tile: for NR neighbouring output columns, the weights of the input columns that they need, most
of them zero, are written as a packed panel; the tile's pixels are rows. That is more
multiply-adds than there are weights, and still several times faster than one by one.

The weights stay in scratch: as long as crops of one size come, they are made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import cpu, resize_memory
from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import (
    as_bytes,
    as_integers,
    at,
    blend_rows,
    clear,
    convolve_panel,
    larger,
    or_null,
    smaller,
    truncated,
)

_REGISTERS = cpu.target().registers
_NR = _REGISTERS.floats  # the first and the last tile are of one vector
_MR = _REGISTERS.tiles[0][0]
_FIRST_TILE = 0
_ONE_PIXEL_TILE = len(_REGISTERS.tiles) - 1
_ONE = np.float32(1)

_block_count = compiled(resize_memory.block_count)
_most_taps = compiled(resize_memory.most_taps)
_most_inputs = compiled(resize_memory.most_inputs)
_filled = compiled(resize_memory.filled)


@compiled
def resize(
    step: Any,
    weights: Any,
    arena: Any,
    gray: Any,
    is_float: Any,
    height: Any,
    width: Any,
    scratch: Any,
) -> None:
    """arena[y, x] = scale · resized gray[y, x] + offset.

    gray (height, width) is float32 or bytes. It is taken as if widened to a square around its
    centre by repeating its edge, where the step says so. A row of the output has room for NR
    floats even if it is shorter. scratch: see resize_memory.py; zeros before the first crop.
    """
    out_height, out_width = step[s.ROWS], step[s.ROW_PIXELS]
    side_height, side_width = height, width
    if step[s.WIDEN] != 0:
        side_height = side_width = larger(height, width)
    blocks = _block_count(out_width, _NR)
    row_taps = _most_taps(side_height, out_height)
    panel_size = _NR * (1 + _most_inputs(side_width, out_width, _NR))
    row_spans = as_integers(at(scratch, resize_memory.KEY_SIZE))
    block_spans = at(row_spans, 2 * out_height)
    row_weights = at(scratch, resize_memory.KEY_SIZE + _filled(4 * (out_height + blocks)))
    panels = at(row_weights, _filled(out_height * row_taps))
    rows = at(panels, _filled(blocks * panel_size))

    key = as_integers(scratch)
    if key[0] != height or key[1] != width or key[2] != is_float:
        scale, offset = weights[step[s.WEIGHTS]], weights[step[s.WEIGHTS] + 1]
        if is_float == 0:
            scale = scale / np.float32(255)
        make_row_weights(row_spans, row_weights, row_taps, out_height, height, side_height)
        for block in range(blocks):
            make_panel(
                at(block_spans, 2 * block), at(panels, block * panel_size), block, out_width,
                width, side_width, scale, offset,
            )  # fmt: skip
        key[0], key[1], key[2] = height, width, is_float

    resize_rows(rows, out_height, gray, is_float, width, row_spans, row_weights, row_taps)
    place, tile_rows = _ONE_PIXEL_TILE, 1
    if out_height >= _MR:
        place, tile_rows = _FIRST_TILE, _MR
    for block in range(blocks):
        low, high = block_spans[2 * block], block_spans[2 * block + 1]
        convolve_panel(
            place,
            1,  # one row of out_height pixels,
            out_height,
            1,  # each of which has one run of inputs
            0,
            high - low,
            at(panels, block * panel_size),
            s.NONE,
            at(rows, low),  # source: a pixel of the tile is a row here
            width,
            0,
            (out_height - tile_rows) * width,
            at(arena, step[s.OUTPUT] + first_column(block, out_width)),  # output
            step[s.OUTPUT_ROW],
            0,
            (out_height - tile_rows) * step[s.OUTPUT_ROW],
            or_null(scratch, s.NOWHERE),  # no addend
            0,
            0,
            0,
        )


@compiled
def first_column(block: Any, out_width: Any) -> Any:
    """Of a block of NR output columns; the last block overlaps its neighbour."""
    return larger(smaller(block * _NR, out_width - _NR), 0)


@compiled
def make_row_weights(
    spans: Any, row_weights: Any, row_taps: Any, out_height: Any, height: Any, side_height: Any
) -> None:
    """For each output row, which input rows it is made of, and their weights."""
    before = (side_height - height) // 2
    factor = side_height / out_height
    sharpness = 1.0 / larger(factor, 1.0)
    pitch = np.int64(1)
    clear(row_weights, out_height * row_taps)
    for y in range(out_height):
        low, high = span(y, factor, side_height, before, height)
        spans[2 * y], spans[2 * y + 1] = low, high
        target = at(row_weights, y * row_taps)
        add_weights(target, pitch, y, factor, sharpness, side_height, before, height, low, _ONE)


@compiled
def resize_rows(
    rows: Any,
    out_height: Any,
    gray: Any,
    is_float: Any,
    width: Any,
    spans: Any,
    row_weights: Any,
    row_taps: Any,
) -> None:
    """gray (height, width) → rows (out_height, width)."""
    for y in range(out_height):
        low, high = spans[2 * y], spans[2 * y + 1]
        weights = at(row_weights, y * row_taps)
        row = at(rows, y * width)
        if width < _NR:
            for x in range(width):
                total = weights[0] * gray_at(gray, is_float, low * width + x)
                for tap in range(low + 1, high):
                    total += weights[tap - low] * gray_at(gray, is_float, tap * width + x)
                row[x] = total
        elif is_float != 0:
            blend_rows(at(gray, low * width), width, high - low, weights, row)
        else:
            blend_rows(at(as_bytes(gray), low * width), width, high - low, weights, row)


@compiled
def gray_at(gray: Any, is_float: Any, place: Any) -> Any:
    """One number of a crop."""
    if is_float != 0:
        return gray[place]
    return np.float32(as_bytes(gray)[place])


@compiled
def taps(position: Any, factor: Any, size: Any) -> Any:
    """The filter at an output position: its first and last tap, and its centre.

    ``factor`` inputs make one output; ``size`` inputs are there after widening.
    """
    support = larger(factor, 1.0)
    centre = (position + 0.5) * factor
    first = larger(truncated(centre - support + 0.5), 0)
    return first, smaller(truncated(centre + support + 0.5), size) - 1, centre


@compiled
def span(position: Any, factor: Any, size: Any, before: Any, extent: Any) -> Any:
    """The inputs that an output needs, the first and one past the last, of the ``extent`` that
    exist; widening has put ``before`` repetitions of the first one before them."""
    first, last, _ = taps(position, factor, size)
    low = smaller(larger(first - before, 0), extent - 1)
    return low, smaller(larger(last - before, 0), extent - 1) + 1


@compiled
def add_weights(
    target: Any,
    pitch: Any,
    position: Any,
    factor: Any,
    sharpness: Any,
    size: Any,
    before: Any,
    extent: Any,
    low: Any,
    scale: Any,
) -> None:
    """Add ``scale`` times each tap's weight to target[(input − low) · pitch]; see span.

    ``sharpness`` is what the triangle loses in height from one input to the next.
    """
    first, last, centre = taps(position, factor, size)
    total = 0.0
    for tap in range(first, last + 1):
        total += larger(1.0 - abs(tap + 0.5 - centre) * sharpness, 0.0)
    share = scale / total
    for tap in range(first, last + 1):
        place = smaller(larger(tap - before, 0), extent - 1) - low
        weight = larger(1.0 - abs(tap + 0.5 - centre) * sharpness, 0.0)
        target[place * pitch] += np.float32(weight * share)


@compiled
def make_panel(
    spans: Any,
    panel: Any,
    block: Any,
    out_width: Any,
    width: Any,
    side_width: Any,
    scale: Any,
    offset: Any,
) -> None:
    """The weights of one block of NR output columns as a packed panel, and its inputs' span.

    panel [1 + high − low, NR]: ``offset`` as bias, then the weights of inputs low … high − 1.
    """
    x = first_column(block, out_width)
    before = (side_width - width) // 2
    factor = side_width / out_width
    sharpness = 1.0 / larger(factor, 1.0)
    columns = smaller(_NR, out_width - x)
    low, _ = span(x, factor, side_width, before, width)
    _, high = span(x + columns - 1, factor, side_width, before, width)
    spans[0], spans[1] = low, high
    for column in range(_NR):
        panel[column] = offset
    weights = at(panel, _NR)
    clear(weights, (high - low) * _NR)
    pitch = np.int64(_NR)
    for column in range(columns):
        target = at(weights, column)
        add_weights(
            target, pitch, x + column, factor, sharpness, side_width, before, width, low, scale
        )
