"""Which tiles compute a layer: those that waste least, by a small model of the CPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from npshapenet.jit import steps as s
from npshapenet.jit.cpu import DepthwiseTile, Registers, Tile

# The model, of a CPU of today, not of one in particular: each cycle it starts two multiply-adds
# and two loads; an accumulator can be added to every fourth cycle. Beginning and storing a tile
# takes longer by what is estimated here: only the order of the tiles counts, not their times.
_LATENCY = 4
_TILE_START = 20
_STORE = 1.0  # per accumulator

# Estimated from the sizes of caches: what a panel holds of a depth block, 32 KiB, stays in the
# first or the second level while the tiles of a strip use it. Measured on a Zen 5 with five
# layers, neither matters much: a quarter or four times as much changes the time by up to 5 %.
_BLOCK_FLOATS = 8192
_STRIP_PIXELS = 512  # their inputs and sums stay in the second level meanwhile


def _tile_cycles(tile: Tile, depth: int) -> float:
    """For each input the slowest of three: multiply-adds, loads, waiting for an accumulator."""
    pixels, vectors = tile
    sums = pixels * vectors
    return depth * max(sums / 2, (pixels + vectors) / 2, _LATENCY) + _TILE_START + _STORE * sums


def choose_tiles(
    registers: Registers, columns: Mapping[int, int], runs: int, run_pitch: int, run_length: int
) -> dict[int, int]:
    """The columns of a CONVOLUTION that say how it is cut into panels, blocks and tiles.

    ``columns`` says how large the output is; each of its pixels has so many runs of inputs, so
    far apart and so long. For each width of panels the tile with the fewest cycles is taken.
    """
    vectors = columns[s.CHANNELS] // registers.floats
    row_pixels = columns[s.ROW_PIXELS]
    depth = runs * run_length
    best: dict[int, tuple[float, int]] = {}  # by panel width in vectors: cycles, index
    for index, tile in enumerate(registers.tiles):
        if tile[0] > row_pixels:
            continue
        cycles = math.ceil(row_pixels / tile[0]) * _tile_cycles(tile, depth)
        if tile[1] not in best or cycles < best[tile[1]][0]:
            best[tile[1]] = cycles, index
    widths, counts = _panel_widths(vectors, {width: best[width][0] for width in best})
    result: dict[int, int] = {}
    for column, width, count in zip((s.TILE, s.SECOND_TILE), widths, counts, strict=True):
        index = best[width][1]
        result[column] = index
        result[column + 1] = registers.tiles[index][0]
        result[column + 2] = width * registers.floats
        result[column + 3] = count
    widest = max(result[s.TILE_CHANNELS], result[s.SECOND_TILE_CHANNELS])
    most = max(_BLOCK_FLOATS // widest, 1)
    if columns[s.ROWS] * row_pixels == 1:
        most = depth  # a dense layer reads each weight once
    return result | _depth_blocks(runs, run_pitch, run_length, most)


def _panel_widths(
    vectors: int, cycles: Mapping[int, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two widths of panels that share ``vectors`` of channels, and how many of each.

    ``cycles``: for each possible width, those of one panel. Width 1 is always among them.
    """
    choices = []
    for width, last in itertools.product(cycles, repeat=2):
        for count in range(vectors // width + 1):
            last_count, uncovered = divmod(vectors - count * width, last)
            if uncovered == 0:
                total = count * cycles[width] + last_count * cycles[last]
                choices.append((total, (width, last), (count, last_count)))
    _, widths, counts = min(choices)
    if counts[0] == 0:
        # One width is enough: the second, which the engine skips, is the same.
        return (widths[1], widths[1]), (counts[1], 0)
    return widths, counts


def _depth_blocks(runs: int, run_pitch: int, run_length: int, most: int) -> dict[int, int]:
    """Cut the depth into equal parts (RUN_LENGTH is one number) of at most so many inputs, where
    equal parts allow it.

    Either several whole runs make a block, or several blocks a run.
    """
    runs_in_block = max(n for n in _divisors(runs) if n * run_length <= most or n == 1)
    parts_of_run = min(n for n in _divisors(run_length) if run_length // n <= most)
    if parts_of_run > 1 and run_length // parts_of_run < most // 4:
        # The only equal parts that fit are very short (of a prime length, say): rather one part,
        # even if it is too long.
        parts_of_run = 1
    return {
        s.RUNS: runs_in_block,
        s.RUN_PITCH: run_pitch,
        s.RUN_LENGTH: run_length // parts_of_run,
        s.BLOCK_ROWS: runs // runs_in_block,
        s.BLOCK_ROW_PITCH: runs_in_block * run_pitch,
        s.BLOCK_COLUMNS: parts_of_run,
        s.STRIP_PIXELS: _STRIP_PIXELS,
    }


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def sums_size(columns: Mapping[int, int]) -> int:
    """The floats that a CONVOLUTION needs for sums that are not complete yet."""
    if columns[s.BLOCK_ROWS] * columns[s.BLOCK_COLUMNS] == 1:
        return 0
    widest = max(columns[s.TILE_CHANNELS], columns[s.SECOND_TILE_CHANNELS])
    tile_pixels = max(columns[s.TILE_PIXELS], columns[s.SECOND_TILE_PIXELS])
    row_pixels = min(columns[s.ROW_PIXELS], max(_STRIP_PIXELS, tile_pixels))
    rows = max(_STRIP_PIXELS // columns[s.ROW_PIXELS], 1)
    # + tile_pixels: each row of sums is rounded up to whole tiles.
    return widest * rows * (row_pixels + tile_pixels)


def choose_depthwise_tile(
    registers: Registers, columns: Mapping[int, int], *, is_broadcast: bool = False
) -> dict[int, int]:
    """The columns of a DEPTHWISE step that name its tile.

    ``is_broadcast``: the image has one channel, which all the output's channels read; to be asked
    for where ``has_broadcast_tile`` says so.
    """
    vectors = columns[s.CHANNELS] // registers.floats
    row_pixels = columns[s.ROW_PIXELS]
    tap_rows, tap_columns = columns[s.TAP_ROWS], columns[s.TAP_COLUMNS]
    stride = columns[s.INPUT_PIXEL] // columns[s.TAP_COLUMN_PITCH]

    def fits(tile: DepthwiseTile) -> bool:
        return (
            tile.pixels <= row_pixels
            and vectors % tile.vectors == 0
            and tile.is_broadcast == is_broadcast
            and (tile.tap_columns == 0 or tile[2:4] == (tap_columns, stride))
        )

    def cycles(tile: DepthwiseTile) -> float:
        sums = tile.pixels * tile.vectors
        # Loads, more than multiply-adds: an input for each of them, and the weights.
        loads = float(sums + tile.vectors)
        if tile.tap_columns:
            # Of a row of taps each input once, shared among its taps.
            inputs = tile.stride * (tile.pixels - 1) + tap_columns
            loads = (inputs + tap_columns) * tile.vectors / tap_columns
        each = tap_rows * tap_columns * max(sums / 2, loads / 2, _LATENCY)
        each += _TILE_START + _STORE * sums
        return math.ceil(row_pixels / tile.pixels) * (vectors // tile.vectors) * each

    fitting = [tile for tile in registers.depthwise_tiles if fits(tile)]
    # Measured: those of this kernel are faster even where the model says otherwise.
    tile = min([tile for tile in fitting if tile.tap_columns] or fitting, key=cycles)
    return {
        s.TILE: registers.depthwise_tiles.index(tile),
        s.TILE_PIXELS: tile.pixels,
        s.TILE_CHANNELS: tile.vectors * registers.floats,
        s.PANELS: vectors // tile.vectors,
    }


def has_broadcast_tile(registers: Registers, kernel_columns: int, stride: int, width: int) -> bool:
    """Whether a tile is for images of one channel, such a kernel and rows of ``width`` outputs."""
    return any(
        tile.is_broadcast and tile.vectors == 1 and tile.pixels <= width
        for tile in registers.depthwise_tiles
        if (tile.tap_columns, tile.stride) == (kernel_columns, stride)
    )
