"""Which tiles compute a layer: those that waste least, by a small model of the CPU."""

from __future__ import annotations

import math
from collections.abc import Mapping

from npshapenet.jit import steps as s
from npshapenet.jit.cpu import Registers, Tile

# The model: each cycle the CPU starts two multiply-adds and two loads; an accumulator can be
# added to every fourth cycle; beginning and storing a tile costs about so many cycles more.
_LATENCY = 4
_TILE_START = 20
_STORE = 1.0  # per accumulator

# A panel of a depth block stays in the first-level cache while the tiles of a group use it.
_BLOCK_FLOATS = 8192
_GROUP_PIXELS = 512  # their inputs and sums stay in the second-level cache meanwhile


def _tile_cycles(tile: Tile, depth: int) -> float:
    pixels, vectors = tile
    sums = pixels * vectors
    return depth * max(sums / 2, (pixels + vectors) / 2, _LATENCY) + _TILE_START + _STORE * sums


def choose_tiles(registers: Registers, columns: Mapping[int, int]) -> dict[int, int]:
    """The columns of a CONVOLUTION that say how it is cut into panels, blocks and tiles.

    Two widths of panels may share the channels; for each the tile with the fewest cycles.
    """
    vectors = columns[s.CHANNELS] // registers.floats
    row_pixels = columns[s.ROW_PIXELS]
    depth = columns[s.RUNS] * columns[s.RUN_LENGTH]
    best: dict[int, tuple[float, int]] = {}  # by panel width in vectors: cycles, place
    for place, tile in enumerate(registers.tiles):
        if tile[0] > row_pixels:
            continue
        cycles = math.ceil(row_pixels / tile[0]) * _tile_cycles(tile, depth)
        if tile[1] not in best or cycles < best[tile[1]][0]:
            best[tile[1]] = cycles, place
    _, widths, counts = min(
        (
            count * best[width][0] + (vectors - count * width) // last * best[last][0],
            (width, last),
            (count, (vectors - count * width) // last),
        )
        for width in best
        for last in best
        for count in range(vectors // width + 1)
        if (vectors - count * width) % last == 0
    )
    if counts[0] == 0:
        widths, counts = widths[::-1], counts[::-1]
    result: dict[int, int] = {}
    for column, width, count in zip((s.TILE, s.LAST_TILE), widths, counts, strict=True):
        place = best[width][1]
        result[column] = place
        result[column + 1] = registers.tiles[place][0]
        result[column + 2] = width * registers.floats
        result[column + 3] = count
    widest = max(result[s.TILE_CHANNELS], result[s.LAST_TILE_CHANNELS])
    return result | _depth_blocks(columns, widest)


def _depth_blocks(columns: Mapping[int, int], panel_width: int) -> dict[int, int]:
    """Cut the depth so that a block of a panel is at most _BLOCK_FLOATS, in equal parts.

    Either several whole runs make a block, or several blocks a run.
    """
    runs, length = columns[s.RUNS], columns[s.RUN_LENGTH]
    most = max(_BLOCK_FLOATS // panel_width, 1)
    runs_in_block = max(n for n in _divisors(runs) if n * length <= most or n == 1)
    parts_of_run = min(n for n in _divisors(length) if length // n <= most)
    if length // parts_of_run < most // 4:
        parts_of_run = 1  # several parts would do, but only very short ones are equal
    return {
        s.RUNS: runs_in_block,
        s.RUN_LENGTH: length // parts_of_run,
        s.BLOCK_ROWS: runs // runs_in_block,
        s.BLOCK_ROW_PITCH: runs_in_block * columns[s.RUN_PITCH],
        s.BLOCK_COLUMNS: parts_of_run,
        s.GROUP_PIXELS: _GROUP_PIXELS,
    }


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def sums_size(columns: Mapping[int, int]) -> int:
    """The floats that a CONVOLUTION needs for sums that are not complete yet."""
    if columns[s.BLOCK_ROWS] * columns[s.BLOCK_COLUMNS] == 1:
        return 0
    widest = max(columns[s.TILE_CHANNELS], columns[s.LAST_TILE_CHANNELS])
    tile_pixels = max(columns[s.TILE_PIXELS], columns[s.LAST_TILE_PIXELS])
    row_pixels = min(columns[s.ROW_PIXELS], max(_GROUP_PIXELS, tile_pixels))
    rows = max(_GROUP_PIXELS // columns[s.ROW_PIXELS], 1)
    return widest * rows * (row_pixels + tile_pixels)


def choose_depthwise_tile(registers: Registers, columns: Mapping[int, int]) -> dict[int, int]:
    """The columns of a DEPTHWISE step that name its tile."""
    vectors = columns[s.CHANNELS] // registers.floats
    row_pixels = columns[s.ROW_PIXELS]
    taps = columns[s.TAP_ROWS] * columns[s.TAP_COLUMNS]

    def cycles(place: int) -> float:
        pixels, width = registers.depthwise_tiles[place]
        sums = pixels * width
        each = taps * max((sums + width) / 2, _LATENCY) + _TILE_START + _STORE * sums
        return math.ceil(row_pixels / pixels) * (vectors // width) * each

    place = min(
        (
            place
            for place, (pixels, width) in enumerate(registers.depthwise_tiles)
            if pixels <= row_pixels and vectors % width == 0
        ),
        key=cycles,
    )
    pixels, width = registers.depthwise_tiles[place]
    return {
        s.TILE: place,
        s.TILE_PIXELS: pixels,
        s.TILE_CHANNELS: width * registers.floats,
        s.PANELS: vectors // width,
    }
