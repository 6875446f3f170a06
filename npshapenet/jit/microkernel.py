"""The microkernels: tiles of multiply-adds in vector registers, written for LLVM.

This is the only place that knows vector registers. A CPU multiplies and adds V float32 (4, 8
or 16) in one instruction. What makes a convolution fast is to hold a *tile* of the output in
registers, MR pixels × NR channels, while everything that its sums need streams past: for each
step of depth k, NR/V vectors of weights are loaded once and used for all MR pixels, and one
input value of each pixel is loaded once, repeated V times (*broadcast*) and used for all
channels. Python loops here run while code is being made: they unroll the tile. The loops that
the CPU runs are those of ``Emitter.loop``.

Numba sees each microkernel as a function, made by ``@intrinsic``; the tiles that exist are
listed in cpu.py and chosen by their place in that list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npshapenet.jit import cpu
from npshapenet.jit.steps import HARD_SWISH, NONE

FLOATS = types.CPointer(types.float32)
BYTES = types.CPointer(types.uint8)

_FLOAT = ir.FloatType()
_FLOAT_POINTER = _FLOAT.as_pointer()
_INDEX = ir.IntType(64)
_VOID = ir.VoidType()

Value = Any  # an ir.Value: a number, pointer or vector that exists when the code runs


class _Image(NamedTuple):
    """Where an image's pixels are, for a loop over tiles; distances in floats."""

    first: Value  # pointer to the first pixel
    pixel: Value  # from one pixel to the next
    row: Value  # from one row to the next
    last: Value  # from a row's first pixel to the first one of its last tile


class Emitter:
    """Appends instructions to one function: the few things that a vector register can do."""

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.builder = builder
        self.width = width
        self.vector = ir.VectorType(_FLOAT, width)

    def index(self, value: int) -> Value:
        return ir.Constant(_INDEX, value)

    def at(self, pointer: Value, offset: Value | int) -> Value:
        """``pointer + offset``, counted in floats."""
        if isinstance(offset, int):
            offset = self.index(offset)
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Value, vector: int = 0, align: int = 4) -> Value:
        """V floats from memory; ``vector`` counts in vectors from the pointer."""
        pointer = self.at(pointer, vector * self.width)
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(pointer, align=align)

    def load_aligned(self, pointer: Value, vector: int = 0) -> Value:
        """As load, from where the arena and the packed weights promise alignment."""
        return self.load(pointer, vector, align=4 * self.width)

    def store(self, value: Value, pointer: Value, vector: int = 0) -> None:
        pointer = self.at(pointer, vector * self.width)
        self.builder.store(
            value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=4
        )

    def repeat(self, number: Value | float) -> Value:
        """One float in all V places."""
        if isinstance(number, float):
            return ir.Constant(self.vector, [number] * self.width)
        first = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
        )
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(
            first, ir.Constant(self.vector, ir.Undefined), everywhere
        )

    def broadcast(self, pointer: Value) -> Value:
        """The one float at ``pointer``, in all V places: a single load instruction."""
        return self.repeat(self.builder.load(pointer, align=4))

    def multiply_add(self, a: Value, b: Value, total: Value) -> Value:
        """``a · b + total``. Not llvm.fma: without the instruction that calls a function."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.fmuladd.v{self.width}f32"
        )
        return self.builder.call(function, [a, b, total])

    def add(self, a: Value, b: Value) -> Value:
        return self.builder.fadd(a, b)

    def at_least(self, value: Value, lower: Value) -> Value:
        below = self.builder.fcmp_ordered("<", value, lower)  # false for NaN, which stays
        return self.builder.select(below, lower, value)

    def at_most(self, value: Value, upper: Value) -> Value:
        return self.builder.select(self.builder.fcmp_ordered(">", value, upper), upper, value)

    def hard_swish(self, x: Value) -> Value:
        """``x · min(max(x + 3, 0), 6) / 6``"""
        gate = self.at_least(self.add(x, self.repeat(3.0)), self.repeat(0.0))
        gate = self.at_most(gate, self.repeat(6.0))
        return self.builder.fmul(self.builder.fmul(x, gate), self.repeat(1.0 / 6.0))

    def fence(self) -> None:
        """An instruction that is none: loads from after it are not moved to before it.

        Without it LLVM starts the loads of several steps of depth at once, finds too few
        registers for them and moves accumulators to memory and back.
        """
        nothing = ir.FunctionType(_VOID, [])
        self.builder.asm(nothing, "", "~{memory}", [], side_effect=True)

    def opaque(self, pointer: Value) -> Value:
        """The same pointer, of which LLVM no longer knows how it was computed.

        Otherwise it computes each pixel's address from the one before, and every load waits
        for a chain of additions.
        """
        same = ir.FunctionType(pointer.type, [pointer.type])
        return self.builder.asm(same, "", "=r,0", [pointer], side_effect=False)

    def loop(
        self,
        count: Value,
        carried: Sequence[Value],
        body: Callable[[list[Value]], list[Value]],
    ) -> list[Value]:
        """Run ``body`` ``count`` times; what it returns, it is given in the next round."""
        before = self.builder.block
        head, inside, after = (
            self.builder.append_basic_block(name) for name in ("head", "body", "after")
        )
        self.builder.branch(head)
        self.builder.position_at_end(head)
        done = self.builder.phi(_INDEX)
        done.add_incoming(self.index(0), before)
        current = [self.builder.phi(value.type) for value in carried]
        for phi, value in zip(current, carried, strict=True):
            phi.add_incoming(value, before)
        self.builder.cbranch(self.builder.icmp_signed("<", done, count), inside, after)
        self.builder.position_at_end(inside)
        following = body(list(current))
        done.add_incoming(self.builder.add(done, self.index(1)), self.builder.block)
        for phi, value in zip(current, following, strict=True):
            phi.add_incoming(value, self.builder.block)
        self.builder.branch(head)
        self.builder.position_at_end(after)
        return current

    def for_each_tile(
        self,
        tile_pixels: int,
        rows: Value,
        row_pixels: Value,
        images: Sequence[_Image],
        body: Callable[[list[Value]], None],
    ) -> None:
        """Run ``body`` for each tile of an image of ``rows`` × ``row_pixels`` pixels.

        It is given where the tile's first pixel is in each of ``images``. The last tile of a
        row overlaps its neighbour instead of being shorter.
        """
        build = self.builder
        size = self.index(tile_pixels)
        rounded = build.add(row_pixels, self.index(tile_pixels - 1))
        tiles_in_row = build.sdiv(rounded, size)
        steps = [build.mul(image.pixel, size) for image in images]
        lasts = [image.last for image in images]

        def one_row(row_starts: list[Value]) -> list[Value]:
            def one_tile(offsets: list[Value]) -> list[Value]:
                firsts = []
                for start, offset, last in zip(row_starts, offsets, lasts, strict=True):
                    is_beyond = build.icmp_signed(">", offset, last)
                    firsts.append(self.at(start, build.select(is_beyond, last, offset)))
                body(firsts)
                return [build.add(o, step) for o, step in zip(offsets, steps, strict=True)]

            self.loop(tiles_in_row, [self.index(0)] * len(images), one_tile)
            return [self.at(s, image.row) for s, image in zip(row_starts, images, strict=True)]

        self.loop(rows, [image.first for image in images], one_row)

    def choose(
        self,
        condition: Value,
        then: Callable[[], list[Value]],
        otherwise: Callable[[], list[Value]],
    ) -> list[Value]:
        """The values of ``then()`` or of ``otherwise()``; only that one runs."""
        ends = []
        blocks = [self.builder.append_basic_block(name) for name in ("then", "else", "after")]
        self.builder.cbranch(condition, blocks[0], blocks[1])
        for block, branch in zip(blocks, (then, otherwise), strict=False):
            self.builder.position_at_end(block)
            ends.append((branch(), self.builder.block))
            self.builder.branch(blocks[2])
        self.builder.position_at_end(blocks[2])
        merged = [self.builder.phi(value.type) for value in ends[0][0]]
        for values, block in ends:
            for phi, value in zip(merged, values, strict=True):
                phi.add_incoming(value, block)
        return merged


def _store_activated(
    emit: Emitter, sums: list[Value], activation: Value, out_pixels: list[Value]
) -> None:
    """Each accumulator, after the activation, to its pixel and vector of channels."""
    vectors = len(sums) // len(out_pixels)

    def store(values: list[Value]) -> list[Value]:
        for number, value in enumerate(values):
            emit.store(value, out_pixels[number // vectors], number % vectors)
        return []

    def clamped() -> list[Value]:
        is_linear = emit.builder.icmp_signed("==", activation, emit.index(NONE))
        lower = emit.builder.select(
            is_linear, ir.Constant(_FLOAT, float("-inf")), ir.Constant(_FLOAT, 0.0)
        )
        lowest = emit.repeat(lower)
        return store([emit.at_least(value, lowest) for value in sums])

    is_swish = emit.builder.icmp_signed("==", activation, emit.index(HARD_SWISH))
    emit.choose(is_swish, lambda: store([emit.hard_swish(value) for value in sums]), clamped)


class _PixelRow:
    """Addresses of the pixels of a tile, ``pitch`` floats apart, that move through memory.

    Every third pixel has a pointer; the others are one or two pitches away, which an
    instruction's address can hold. A pointer for each would not fit into the registers.
    """

    def __init__(self, emit: Emitter, pitch: Value, pixels: int) -> None:
        self._emit, self._pixels = emit, pixels
        self._pitches = [emit.builder.mul(pitch, emit.index(count)) for count in range(3)]
        self._three = emit.builder.mul(pitch, emit.index(3))
        self.anchor_count = -(-pixels // 3)

    def anchors(self, first: Value) -> list[Value]:
        anchors = [first]
        for _ in range(self.anchor_count - 1):
            anchors.append(self._emit.at(anchors[-1], self._three))
        return [self._emit.opaque(anchor) for anchor in anchors]

    def moved(self, anchors: list[Value], distance: Value | int) -> list[Value]:
        return [self._emit.at(anchor, distance) for anchor in anchors]

    def pixels(self, anchors: list[Value]) -> list[Value]:
        return [
            self._emit.at(anchors[pixel // 3], self._pitches[pixel % 3])
            for pixel in range(self._pixels)
        ]


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
    *images: Value,  # first, pixel, row, last of the left operand, the output and the addend
) -> None:
    """``out[p, n] = activation(bias[n] + addend[p, n] + Σ_k left[p, k] · panel[k, n])``

    for all pixels p, tile by tile, and NR channels n; k runs through all inputs of all runs.
    The addend's first pixel may be null: then there is none.
    """
    pixels, vectors = tile
    channels = vectors * emit.width
    left, out, addend = (_Image(*images[place : place + 4]) for place in (0, 4, 8))
    inputs = _PixelRow(emit, left.pixel, pixels)
    outputs = _PixelRow(emit, out.pixel, pixels)
    addends = _PixelRow(emit, addend.pixel, pixels)
    biases = [emit.load_aligned(panel, vector) for vector in range(vectors)]
    null = ir.Constant(_FLOAT_POINTER, None)
    has_addend = emit.builder.icmp_unsigned("!=", addend.first, null)

    build = emit.builder
    depth = build.mul(runs, run_length)
    run_step = build.add(build.sub(run_pitch, run_length), emit.index(1))

    def one_depth(carried: list[Value]) -> list[Value]:
        at_input, left_in_run, weights_at, *sums = carried
        weights = [emit.load_aligned(weights_at, vector) for vector in range(vectors)]
        for pixel, pointer in enumerate(inputs.pixels(inputs.anchors(at_input))):
            value = emit.broadcast(pointer)
            for vector in range(vectors):
                place = pixel * vectors + vector
                sums[place] = emit.multiply_add(value, weights[vector], sums[place])
            emit.fence()
        left_in_run = build.sub(left_in_run, emit.index(1))
        is_run_done = build.icmp_signed("==", left_in_run, emit.index(0))
        at_input = emit.at(at_input, build.select(is_run_done, run_step, emit.index(1)))
        left_in_run = build.select(is_run_done, run_length, left_in_run)
        return [at_input, left_in_run, emit.at(weights_at, channels), *sums]

    def one_tile(firsts: list[Value]) -> None:
        left_first, out_first, addend_first = firsts

        def with_addend() -> list[Value]:
            return [
                emit.add(biases[vector], emit.load(pointer, vector))
                for pointer in addends.pixels(addends.anchors(addend_first))
                for vector in range(vectors)
            ]

        sums = emit.choose(has_addend, with_addend, lambda: biases * pixels)
        weights = emit.at(panel, channels)
        sums = emit.loop(depth, [left_first, run_length, weights, *sums], one_depth)[3:]
        _store_activated(emit, sums, activation, outputs.pixels(outputs.anchors(out_first)))

    emit.for_each_tile(pixels, rows, row_pixels, [left, out, addend], one_tile)


def _emit_depthwise(
    emit: Emitter,
    tile: cpu.Tile,
    rows: Value,  # of the output
    row_pixels: Value,  # at least MR
    tap_rows: Value,
    tap_row_pitch: Value,  # distance between the inputs of taps one below the other
    tap_columns: Value,
    tap_column_pitch: Value,
    panel: Value,  # NR biases, then NR weights for each tap,
    weight_pitch: Value,  # so far apart
    activation: Value,
    *images: Value,  # first, pixel, row, last of the input (at the first tap) and the output
) -> None:
    """``out[p, n] = activation(bias[n] + Σ_tap left[p, tap, n] · panel[tap, n])``

    for all pixels p, tile by tile, and NR channels n. Loading each input once for all taps that
    use it would save loads, which a CPU does as fast as multiply-adds; but it would need a
    kernel for every size and stride. This one serves all.
    """
    pixels, vectors = tile
    build = emit.builder
    left, out = _Image(*images[:4]), _Image(*images[4:])
    inputs = _PixelRow(emit, left.pixel, pixels)
    outputs = _PixelRow(emit, out.pixel, pixels)
    biases = [emit.load_aligned(panel, vector) for vector in range(vectors)]
    taps = build.mul(tap_rows, tap_columns)
    # One loop over all taps: a loop over the columns inside one over the rows spends more
    # time in between than in its few rounds.
    before_last = build.sub(tap_columns, emit.index(1))
    row_step = build.sub(tap_row_pitch, build.mul(tap_column_pitch, before_last))

    def one_tap(carried: list[Value]) -> list[Value]:
        tap, columns_left, weights_at, *sums = carried
        factors = [emit.load_aligned(weights_at, vector) for vector in range(vectors)]
        for pixel, pointer in enumerate(inputs.pixels(inputs.anchors(tap))):
            for vector in range(vectors):
                place = pixel * vectors + vector
                value = emit.load_aligned(pointer, vector)
                sums[place] = emit.multiply_add(value, factors[vector], sums[place])
        columns_left = build.sub(columns_left, emit.index(1))
        is_row_done = build.icmp_signed("==", columns_left, emit.index(0))
        tap = emit.at(tap, build.select(is_row_done, row_step, tap_column_pitch))
        columns_left = build.select(is_row_done, tap_columns, columns_left)
        return [tap, columns_left, emit.at(weights_at, weight_pitch), *sums]

    def one_tile(firsts: list[Value]) -> None:
        left_first, out_first = firsts
        weights = emit.at(panel, vectors * emit.width)
        state = [left_first, tap_columns, weights, *biases * pixels]
        sums = emit.loop(taps, state, one_tap)[3:]
        _store_activated(emit, sums, activation, outputs.pixels(outputs.anchors(out_first)))

    emit.for_each_tile(pixels, rows, row_pixels, [left, out], one_tile)


def _emit_blend(
    emit: Emitter, source: Value, width: Value, taps: Value, weights: Value, row: Value
) -> None:
    """``row[x] = Σ_tap weights[tap] · source[tap, x]`` for the ``width`` ≥ V columns x.

    source (taps, width) is float32, or bytes, which become floats on the way.
    """
    build = emit.builder
    element = source.type.pointee
    vector = ir.VectorType(element, emit.width)

    def load(place: Value) -> Value:
        pointer = build.bitcast(build.gep(source, [place]), vector.as_pointer())
        values = build.load(pointer, align=element.width // 8 if element != _FLOAT else 4)
        return values if element == _FLOAT else build.uitofp(values, emit.vector)

    def one_tap(carried: list[Value]) -> list[Value]:
        place, weight_at, total = carried
        total = emit.multiply_add(emit.broadcast(weight_at), load(place), total)
        return [build.add(place, width), emit.at(weight_at, 1), total]

    def one_vector(carried: list[Value]) -> list[Value]:
        (x,) = carried
        last = build.sub(width, emit.index(emit.width))
        here = build.select(build.icmp_signed(">", x, last), last, x)
        total = emit.loop(taps, [here, weights, emit.repeat(0.0)], one_tap)[2]
        emit.store(total, emit.at(row, here))
        return [build.add(x, emit.index(emit.width))]

    rounded = build.add(width, emit.index(emit.width - 1))
    emit.loop(build.sdiv(rounded, emit.index(emit.width)), [emit.index(0)], one_vector)


# The kinds of tiles: how to emit one, and the types of its arguments, those of the images last.
_I, _P = _INDEX, _FLOAT_POINTER
_IMAGE = [_P, _I, _I, _I]
_KINDS: dict[str, tuple[Callable[..., None], list[ir.Type]]] = {
    "convolution": (_emit_convolution, [_I, _I, _I, _I, _I, _P, _I, *_IMAGE * 3]),
    "depthwise": (_emit_depthwise, [_I, _I, _I, _I, _I, _I, _P, _I, _I, *_IMAGE * 2]),
}


def _tiles(kind: str) -> Sequence[cpu.Tile]:
    registers = cpu.target().registers
    return registers.tiles if kind == "convolution" else registers.depthwise_tiles


def _declare(module: ir.Module, kind: str, tile: cpu.Tile) -> ir.Function:
    name = symbol(kind, tile)
    function_type = ir.FunctionType(_VOID, _KINDS[kind][1])
    return cgutils.get_or_insert_function(module, function_type, name)


def symbol(kind: str, tile: cpu.Tile) -> str:
    """The name of a tile's function in the object file."""
    return f"npshapenet_{kind}_{tile[0]}x{tile[1]}"


def symbols() -> list[str]:
    return [symbol(kind, tile) for kind in _KINDS for tile in _tiles(kind)]


def tile_functions() -> ir.Module:
    """The functions of all tiles, which the functions that Numba compiles call by name.

    They are a module of their own because Numba would otherwise optimise them again for each
    of its functions that reaches them.
    """
    module = ir.Module("tiles")
    width = cpu.target().registers.floats
    for kind, (emit_tile, _) in _KINDS.items():
        for tile in _tiles(kind):
            function = _declare(module, kind, tile)
            function.attributes.add("nounwind")
            builder = ir.IRBuilder(function.append_basic_block())
            emit_tile(Emitter(builder, width), tile, *function.args)
            builder.ret_void()
    return module


def _emit_tile_call(builder: ir.IRBuilder, kind: str, values: Sequence[Value]) -> None:
    """Call the tile whose place in cpu.py's table the first value gives, with the others."""
    place, *arguments = (
        builder.bitcast(value, _FLOAT_POINTER) if value.type.is_pointer else value
        for value in values
    )
    after = builder.append_basic_block("after")
    switch = builder.switch(place, after)
    for number, tile in enumerate(_tiles(kind)):
        block = builder.append_basic_block("tile")
        switch.add_case(number, block)
        builder.position_at_end(block)
        builder.call(_declare(builder.module, kind, tile), arguments)
        builder.branch(after)
    builder.position_at_end(after)


@intrinsic
def convolve_panel(
    typing_context: Any,
    place: Any,
    rows: Any,
    row_pixels: Any,
    runs: Any,
    run_pitch: Any,
    run_length: Any,
    panel: Any,
    activation: Any,
    left: Any,
    left_pixel: Any,
    left_row: Any,
    left_last: Any,
    out: Any,
    out_pixel: Any,
    out_row: Any,
    out_last: Any,
    addend: Any,
    addend_pixel: Any,
    addend_row: Any,
    addend_last: Any,
) -> Any:
    """One panel by the convolution tile at ``place`` in cpu.py's table: see _emit_convolution."""
    i, f = types.int64, FLOATS

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _emit_tile_call(builder, "convolution", values)
        return context.get_dummy_value()

    return types.void(i, i, i, i, i, i, f, i, *[f, i, i, i] * 3), generate


@intrinsic
def convolve_panel_depthwise(
    typing_context: Any,
    place: Any,
    rows: Any,
    row_pixels: Any,
    tap_rows: Any,
    tap_row_pitch: Any,
    tap_columns: Any,
    tap_column_pitch: Any,
    panel: Any,
    weight_pitch: Any,
    activation: Any,
    left: Any,
    left_pixel: Any,
    left_row: Any,
    left_last: Any,
    out: Any,
    out_pixel: Any,
    out_row: Any,
    out_last: Any,
) -> Any:
    """One panel by the depthwise tile at ``place`` in cpu.py's table: see _emit_depthwise."""
    i, f = types.int64, FLOATS

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _emit_tile_call(builder, "depthwise", values)
        return context.get_dummy_value()

    return types.void(i, i, i, i, i, i, i, f, i, i, *[f, i, i, i] * 2), generate


@intrinsic
def at(typing_context: Any, pointer: Any, offset: Any) -> Any:
    """``pointer + offset``, counted in elements."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.int64), generate


@intrinsic
def or_null(typing_context: Any, pointer: Any, offset: Any) -> Any:
    """``pointer + offset``, or null where the offset is negative."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        null = ir.Constant(values[0].type, None)
        is_given = builder.icmp_signed(">=", values[1], ir.Constant(_INDEX, 0))
        return builder.select(is_given, builder.gep(values[0], [values[1]]), null)

    return pointer(pointer, types.int64), generate


@intrinsic
def as_bytes(typing_context: Any, pointer: Any) -> Any:
    """The same address as a pointer to bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(8).as_pointer())

    return BYTES(pointer), generate


@intrinsic
def blend_rows(
    typing_context: Any, source: Any, width: Any, taps: Any, weights: Any, row: Any
) -> Any:
    """Rows of floats or bytes, added up with one weight each: see _emit_blend."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _emit_blend(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, FLOATS, FLOATS), generate


@intrinsic
def smaller(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller of two numbers of one type; Numba's ``min`` costs a tenth of a second."""
    return a(a, a), lambda context, builder, signature, values: _keep(builder, ">", *values)


@intrinsic
def larger(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of two numbers of one type."""
    return a(a, a), lambda context, builder, signature, values: _keep(builder, "<", *values)


def _keep(builder: ir.IRBuilder, order: str, a: Value, b: Value) -> Value:
    """b where ``a order b``, else a: also where a is NaN."""
    is_integer = isinstance(a.type, ir.IntType)
    compare = builder.icmp_signed if is_integer else builder.fcmp_ordered
    return builder.select(compare(order, a, b), b, a)


@intrinsic
def truncated(typing_context: Any, value: Any) -> Any:
    """A float64 without its fraction, as int64."""
    return types.int64(types.float64), lambda context, builder, signature, values: (
        builder.fptosi(values[0], _INDEX)
    )
