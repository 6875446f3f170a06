"""A gray crop as the network reads it: widened to a square, resized, normalised; compiled.

The triangle filter has half-pixel centres and is widened by the factor when shrinking; its
weights sum to 1 also at the border. Its two passes are products with matrices of weights.
The rows' pass adds up whole rows. The columns' pass is done by the convolution tile: for NR
neighbouring output columns, the weights of the input columns that they need, most of them
zero, are written as a packed panel; the tile's pixels are rows. That is more multiply-adds
than there are weights, and still several times faster than adding them up one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from npshapenet.jit import cpu
from npshapenet.jit.engine import INDEX, compiled
from npshapenet.jit.microkernel import FLOATS, at, convolve_panel, or_null
from npshapenet.jit.steps import NONE

BYTES = types.CPointer(types.uint8)
RESIZE_SIGNATURE = types.void(
    BYTES, FLOATS, *[INDEX] * 6, types.float32, types.float32, *[FLOATS, INDEX] * 2, FLOATS
)

_REGISTERS = cpu.target().registers
_NR = _REGISTERS.floats  # the first and the last tile are of one vector
_MR = _REGISTERS.tiles[0][0]
_ONE_PIXEL = len(_REGISTERS.tiles) - 1
_ZERO = np.float32(0)


@compiled
def resize(
    gray_bytes: Any,
    gray_floats: Any,
    is_float: Any,
    height: Any,
    width: Any,
    side_height: Any,
    side_width: Any,
    out_height: Any,
    scale: Any,
    offset: Any,
    out: Any,
    out_row: Any,
    scratch: Any,
    out_width: Any,
    panel: Any,
) -> None:
    """out[y, x] = scale · resized[y, x] + offset, rows ``out_row`` floats apart.

    gray [row, column] is one of the first two, by ``is_float``. It is taken as if widened to
    side_height × side_width around its centre by repeating its edge. A row of ``out``
    has room for NR floats even if ``out_width`` is less; ``scratch`` holds out_height × width
    floats, ``panel`` NR · (width + 1).
    """
    top, before = (side_height - height) // 2, (side_width - width) // 2
    for y in range(out_height):
        row = at(scratch, y * width)
        for x in range(width):
            row[x] = _ZERO
        first, count, centre, support = taps(y, side_height, out_height)
        total = tap_sum(first, count, centre, support)
        for tap in range(first, first + count):
            weight = np.float32(triangle(tap, centre, support) / total)
            source_row = min(max(tap - top, 0), height - 1)
            if is_float != 0:
                add_row(row, at(gray_floats, source_row * width), width, weight)
            else:
                add_row(row, at(gray_bytes, source_row * width), width, weight)
    for block in range(0, out_width, _NR):
        x = max(min(block, out_width - _NR), 0)  # the last block overlaps its neighbour
        low, high = pack_panel(panel, x, before, width, side_width, out_width, scale, offset)
        place, tile_rows = _ONE_PIXEL, 1
        if out_height >= _MR:
            place, tile_rows = 0, _MR
        convolve_panel(
            place,
            1,
            out_height,
            1,
            0,
            high - low,
            panel,
            NONE,
            at(scratch, low),
            width,
            0,
            (out_height - tile_rows) * width,
            at(out, x),
            out_row,
            0,
            (out_height - tile_rows) * out_row,
            or_null(scratch, -1),
            0,
            0,
            0,
        )


@compiled
def taps(position: Any, size: Any, out_size: Any) -> Any:
    """Which inputs the filter at an output position reads: first, count; centre and support."""
    factor = size / out_size
    support = max(factor, 1.0)
    centre = (position + 0.5) * factor
    first = max(int(centre - support + 0.5), 0)
    return first, min(int(centre + support + 0.5), size) - first, centre, support


@compiled
def triangle(tap: Any, centre: Any, support: Any) -> Any:
    return max(1.0 - abs(tap + 0.5 - centre) / support, 0.0)


@compiled
def tap_sum(first: Any, count: Any, centre: Any, support: Any) -> Any:
    total = 0.0
    for tap in range(first, first + count):
        total += triangle(tap, centre, support)
    return total


@compiled
def add_row(row: Any, source: Any, width: Any, weight: Any) -> None:
    """row[x] += weight · source[x]"""
    for x in range(width):
        row[x] += weight * np.float32(source[x])


@compiled
def pack_panel(
    panel: Any,
    x: Any,
    before: Any,
    width: Any,
    side_width: Any,
    out_width: Any,
    scale: Any,
    offset: Any,
) -> Any:
    """The weights of output columns x … x + NR − 1 as a packed panel: which inputs it spans.

    panel [1 + high − low, NR]: ``offset`` as bias, then the weights of inputs low … high − 1.
    """
    first, _, _, _ = taps(x, side_width, out_width)
    columns = min(_NR, out_width - x)
    last_first, last_count, _, _ = taps(x + columns - 1, side_width, out_width)
    low = min(max(first - before, 0), width - 1)
    high = min(max(last_first + last_count - 1 - before, 0), width - 1) + 1
    for place in range((high - low + 1) * _NR):
        panel[place] = offset if place < _NR else _ZERO
    for column in range(columns):
        first, count, centre, support = taps(x + column, side_width, out_width)
        total = tap_sum(first, count, centre, support)
        for tap in range(first, first + count):
            source = min(max(tap - before, 0), width - 1) - low
            weight = scale * np.float32(triangle(tap, centre, support) / total)
            panel[(source + 1) * _NR + column] += weight
    return low, high
