"""The microkernels: tiles of multiply-adds in vector registers, written for LLVM.

This is the only place that decides what is to stay in registers. A CPU multiplies and adds V
float32 (4, 8 or 16) in one instruction. What makes a convolution fast is to hold a *tile* of the
output in registers, MR pixels × NR channels, while everything that its sums need streams past:
for each input k of the depth, NR/V vectors of weights are loaded once and used for all MR
pixels, and the k-th input of each pixel is loaded once, repeated V times (*broadcast*) and used
for all channels. Python loops here run while code is being made: they unroll the tile. The loops
that the CPU runs are those of ``Emitter.loop``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from npshapenet.jit import cpu
from npshapenet.jit.emitter import FLOAT_POINTER, INDEX, VOID, Emitter, Value, Walk


class _PixelRow:
    """Addresses of MR pixels that are ``pitch`` floats apart."""

    def __init__(self, emit: Emitter, pitch: Value, pixels: int) -> None:
        self._emit, self._pixels = emit, pixels
        self._near = [emit.builder.mul(pitch, emit.index(count)) for count in range(3)]
        self._three = emit.builder.mul(pitch, emit.index(3))

    def from_first(self, first: Value) -> list[Value]:
        """For three pixels one pointer is kept, to the first; the others are reached as pointer +
        pitch and pointer + 2 · pitch, which a load computes by itself. A pointer for each pixel
        would take more registers than there are."""
        pointers = []
        anchor = first
        for pixel in range(self._pixels):
            if pixel % 3 == 0:
                pointer = self._emit.opaque(anchor)
                anchor = self._emit.at(anchor, self._three)
            pointers.append(self._emit.at(pointer, self._near[pixel % 3]))
        return pointers


def _emit_convolution(
    emit: Emitter,
    tile: cpu.Tile,
    rows: Value,  # of the output
    row_pixels: Value,  # at least MR
    runs: Value,  # for each pixel: so many contiguous runs of inputs,
    run_pitch: Value,  # so far apart,
    run_length: Value,  # so long
    panel: Value,  # NR biases, then for each input its NR weights
    activation: Value,
    *images: Value,  # the four fields of Walk, of the source, the output and the addend
) -> None:
    """``out[p, n] = activation(bias[n] + addend[p, n] + Σ_k source[p, k] · panel[k, n])``

    for all pixels p, tile by tile, and NR channels n; k runs through all inputs of all runs.
    The addend is the layer's, or, in all depth blocks but the first, the sums so far; its first
    pixel may be null: then there is none.
    """
    pixels, vectors = tile
    channels = vectors * emit.width
    source, out, addend = (Walk(*images[place : place + 4]) for place in (0, 4, 8))
    inputs = _PixelRow(emit, source.pixel_pitch, pixels)
    outputs = _PixelRow(emit, out.pixel_pitch, pixels)
    addends = _PixelRow(emit, addend.pixel_pitch, pixels)
    biases = [emit.load_aligned(panel, vector) for vector in range(vectors)]
    null = ir.Constant(FLOAT_POINTER, None)
    has_addend = emit.builder.icmp_unsigned("!=", addend.first, null)

    build = emit.builder
    depth = build.mul(runs, run_length)
    # From the last input of a run to the first of the next.
    run_step = build.add(build.sub(run_pitch, run_length), emit.index(1))

    # One loop over the runs' inputs, one k in each round. Unrolled by two or four,
    # LLVM finds too few registers for the larger tiles; a loop for each run costs the
    # network's first convolution, whose runs are short, a fifth of its time.
    def one_input(carried: list[Value]) -> list[Value]:
        # sums[pixel · NR/V + vector]: the accumulators.
        at_input, run_remaining, weights_at, *sums = carried
        weights = [emit.load_aligned(weights_at, vector) for vector in range(vectors)]
        for pixel, pointer in enumerate(inputs.from_first(at_input)):
            value = emit.broadcast(pointer)
            for vector in range(vectors):
                place = pixel * vectors + vector
                sums[place] = emit.multiply_add(value, weights[vector], sums[place])
            emit.fence()
        # One float on, or at a run's end to the next run; a 1×1 convolution has one run.
        run_remaining = build.sub(run_remaining, emit.index(1))
        is_run_done = build.icmp_signed("==", run_remaining, emit.index(0))
        at_input = emit.at(at_input, build.select(is_run_done, run_step, emit.index(1)))
        run_remaining = build.select(is_run_done, run_length, run_remaining)
        return [at_input, run_remaining, emit.at(weights_at, channels), *sums]

    def one_tile(firsts: list[Value]) -> None:
        source_first, out_first, addend_first = firsts

        def with_addend() -> list[Value]:
            return [
                emit.add(biases[vector], emit.load(pointer, vector))
                for pointer in addends.from_first(addend_first)
                for vector in range(vectors)
            ]

        def without_addend() -> list[Value]:
            return [bias for _ in range(pixels) for bias in biases]

        sums = emit.choose(has_addend, with_addend, without_addend)
        weights = emit.at(panel, channels)
        sums = emit.loop(depth, [source_first, run_length, weights, *sums], one_input)[3:]
        emit.store_activated(sums, activation, outputs.from_first(out_first))

    emit.for_each_tile(pixels, rows, row_pixels, [source, out, addend], one_tile)


def _emit_depthwise(
    emit: Emitter,
    tile: cpu.DepthwiseTile,
    rows: Value,  # of the output
    row_pixels: Value,  # at least MR
    tap_rows: Value,
    tap_row_pitch: Value,  # distance between the inputs of taps one below the other
    tap_columns: Value,
    tap_column_pitch: Value,
    panel: Value,  # NR biases, then NR weights for each tap,
    weight_pitch: Value,  # so far apart
    activation: Value,
    *images: Value,  # the four fields of Walk, of the source (at the first tap) and the output
) -> None:
    """``out[p, n] = activation(bias[n] + Σ_tap source[p, tap, n] · panel[tap, n])``

    for all pixels p, tile by tile, and NR channels n.
    """
    vectors = tile.vectors
    source, out = Walk(*images[:4]), Walk(*images[4:])
    outputs = _PixelRow(emit, out.pixel_pitch, tile.pixels)
    biases = [emit.load_aligned(panel, vector) for vector in range(vectors)]
    taps = _Taps(tap_rows, tap_row_pitch, tap_columns, tap_column_pitch, weight_pitch)
    sum_taps = _sum_of_any_taps if tile.tap_columns == 0 else _sum_of_sliding_taps
    sums_from = sum_taps(emit, tile, source.pixel_pitch, taps)

    def one_tile(firsts: list[Value]) -> None:
        source_first, out_first = firsts
        weights = emit.at(panel, vectors * emit.width)
        sums = [bias for _ in range(tile.pixels) for bias in biases]
        sums = sums_from(source_first, weights, sums)
        emit.store_activated(sums, activation, outputs.from_first(out_first))

    emit.for_each_tile(tile.pixels, rows, row_pixels, [source, out], one_tile)


class _Taps(NamedTuple):
    """The kernel of a depthwise convolution, as the arguments of _emit_depthwise say it."""

    rows: Value
    row_pitch: Value
    columns: Value
    column_pitch: Value
    weight_pitch: Value


# From the pointers to a tile's first input and to the first weight, and the sums so far, which
# stand pixel by pixel, to the whole sums.
_TapSum = Callable[[Value, Value, list[Value]], list[Value]]


def _sum_of_any_taps(
    emit: Emitter, tile: cpu.DepthwiseTile, pixel_pitch: Value, taps: _Taps
) -> _TapSum:
    """Tap by tap, for kernels and strides of all sizes."""
    build, vectors = emit.builder, tile.vectors
    inputs = _PixelRow(emit, pixel_pitch, tile.pixels)
    count = build.mul(taps.rows, taps.columns)
    # One loop over all taps: a loop over the columns inside one over the rows spends more
    # time in between than in its few rounds.
    before_last = build.sub(taps.columns, emit.index(1))
    row_step = build.sub(taps.row_pitch, build.mul(taps.column_pitch, before_last))

    def one_tap(carried: list[Value]) -> list[Value]:
        tap, columns_remaining, weights_at, *sums = carried
        factors = [emit.load_aligned(weights_at, vector) for vector in range(vectors)]
        for pixel, pointer in enumerate(inputs.from_first(tap)):
            for vector in range(vectors):
                place = pixel * vectors + vector
                value = emit.load_aligned(pointer, vector)
                sums[place] = emit.multiply_add(value, factors[vector], sums[place])
        columns_remaining = build.sub(columns_remaining, emit.index(1))
        is_row_done = build.icmp_signed("==", columns_remaining, emit.index(0))
        tap = emit.at(tap, build.select(is_row_done, row_step, taps.column_pitch))
        columns_remaining = build.select(is_row_done, taps.columns, columns_remaining)
        return [tap, columns_remaining, emit.at(weights_at, taps.weight_pitch), *sums]

    def sums_from(first: Value, weights: Value, sums: list[Value]) -> list[Value]:
        return emit.loop(count, [first, taps.columns, weights, *sums], one_tap)[3:]

    return sums_from


def _sum_of_sliding_taps(
    emit: Emitter, tile: cpu.DepthwiseTile, pixel_pitch: Value, taps: _Taps
) -> _TapSum:
    """Row of taps by row of taps, where each input is loaded once for all pixels that need it.

    For one number of columns and one stride, which decide which pixels these are.
    """
    pixels, vectors, columns, stride, is_broadcast = tile
    input_count = stride * (pixels - 1) + columns
    inputs = _PixelRow(emit, taps.column_pitch, input_count)

    def one_row(carried: list[Value]) -> list[Value]:
        row, weights_at, *sums = carried
        factors = [
            [emit.load_aligned(weights_at, column * vectors + vector) for vector in range(vectors)]
            for column in range(columns)
        ]
        for place, pointer in enumerate(inputs.from_first(row)):
            # This input is tap ``column`` of that pixel for which stride · pixel + column is place.
            meets = [
                (column, (place - column) // stride)
                for column in range(columns)
                if (place - column) % stride == 0 and 0 <= (place - column) // stride < pixels
            ]
            for vector in range(vectors):
                if is_broadcast and vector == 0:
                    value = emit.broadcast(pointer)
                elif not is_broadcast:
                    value = emit.load_aligned(pointer, vector)
                for column, pixel in meets:
                    total = pixel * vectors + vector
                    sums[total] = emit.multiply_add(value, factors[column][vector], sums[total])
            emit.fence()
        weights_at = emit.at(weights_at, columns * vectors * emit.width)
        return [emit.at(row, taps.row_pitch), weights_at, *sums]

    def sums_from(first: Value, weights: Value, sums: list[Value]) -> list[Value]:
        return emit.loop(taps.rows, [first, weights, *sums], one_row)[2:]

    return sums_from


# The kinds of tiles: how to emit one, and the types of its arguments, those of the images last.
_I, _P = INDEX, FLOAT_POINTER
_IMAGE = [_P, _I, _I, _I]
_KINDS: dict[str, tuple[Callable[..., None], list[ir.Type]]] = {
    "convolution": (_emit_convolution, [_I, _I, _I, _I, _I, _P, _I, *_IMAGE * 3]),
    "depthwise": (_emit_depthwise, [_I, _I, _I, _I, _I, _I, _P, _I, _I, *_IMAGE * 2]),
}


def tiles_of(kind: str) -> Sequence[cpu.Tile | cpu.DepthwiseTile]:
    """The table of this CPU's tiles of one kind."""
    registers = cpu.target().registers
    return registers.tiles if kind == "convolution" else registers.depthwise_tiles


def declare(module: ir.Module, kind: str, tile: cpu.Tile | cpu.DepthwiseTile) -> ir.Function:
    """The function of one tile, in a module that may only know its name."""
    name = symbol(kind, tile)
    function_type = ir.FunctionType(VOID, _KINDS[kind][1])
    known = module.globals.get(name)
    return known if known is not None else ir.Function(module, function_type, name)


def symbol(kind: str, tile: cpu.Tile | cpu.DepthwiseTile) -> str:
    """The name of a tile's function in the object file."""
    return "_".join(["npshapenet", kind, *(str(int(number)) for number in tile)])


def symbols() -> list[str]:
    return [symbol(kind, tile) for kind in _KINDS for tile in tiles_of(kind)]


def tile_functions() -> ir.Module:
    """The functions of all tiles, which the functions that Numba compiles call by name.

    They are a module of their own because Numba would otherwise optimise them again for each
    of its functions that reaches them.
    """
    module = ir.Module("tiles")
    width = cpu.target().registers.floats
    for kind, (emit_tile, _) in _KINDS.items():
        for tile in tiles_of(kind):
            function = declare(module, kind, tile)
            function.attributes.add("nounwind")
            builder = ir.IRBuilder(function.append_basic_block())
            emit_tile(Emitter(builder, width), tile, *function.args)
            builder.ret_void()
    return module
