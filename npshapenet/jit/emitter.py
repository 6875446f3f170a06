"""What a vector register can do, as LLVM instructions: the vocabulary of the microkernels.

LLVM is the compiler behind Numba. Its instructions are made by calls: ``builder.fadd(a, b)``
appends an addition to the function in the making and gives a name for its result, which later
instructions use. Everything typed ``Value`` is such a name: a number, pointer or vector that
will exist when the code runs.

A function is made of *blocks*, which end in a jump; a *phi* at the start of a block is a value
that depends on the block jumped from: that is how a loop carries its variables.

Of the names: ``gep`` is a pointer plus an offset; ``bitcast`` the same bits as another type;
``icmp`` and ``fcmp`` compare; ``select(c, a, b)`` is a where c holds, else b; ``branch``,
``cbranch`` and ``switch`` jump to one, two or many blocks; ``position_at_end`` says to which block
is appended from now on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from npshapenet.jit.steps import HARD_SWISH, NONE

FLOAT = ir.FloatType()
FLOAT_POINTER = FLOAT.as_pointer()
INDEX = ir.IntType(64)
VOID = ir.VoidType()

Value = Any

# ln 2 to so few digits that its products with whole numbers up to 127 are exact, and the rest.
_LN_2 = 0.693359375
_LN_2_REST = math.log(2) - _LN_2
_EXPONENTIAL_TERMS = 7


class Walk(NamedTuple):
    """How a loop over tiles walks through an image; distances in floats."""

    first: Value  # pointer to the first pixel
    pixel_pitch: Value  # from one pixel to the next
    row_pitch: Value  # from one row to the next
    last: Value  # from a row's first pixel to the first one of its last tile


class Emitter:
    """Appends instructions to one function: the few things that a vector register can do."""

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.builder = builder
        self.width = width
        self.vector = ir.VectorType(FLOAT, width)

    def index(self, value: int) -> Value:
        return ir.Constant(INDEX, value)

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
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=4)

    def repeat(self, number: Value | float) -> Value:
        """One number in all V places."""
        if isinstance(number, float):
            return ir.Constant(self.vector, [number] * self.width)
        undefined = ir.Constant(ir.VectorType(number.type, self.width), ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def broadcast(self, pointer: Value) -> Value:
        """The one float at ``pointer``, in all V places: a single load instruction."""
        return self.repeat(self.builder.load(pointer, align=4))

    def multiply_add(self, a: Value, b: Value, total: Value) -> Value:
        """``a · b + total``, fused where the CPU has such an instruction.

        llvm.fma would call a slow function where it hasn't; fmuladd then multiplies and adds.
        """
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.width}f32"
        function = self.builder.module.globals.get(name)
        if function is None:
            function = ir.Function(self.builder.module, kind, name)
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

    def store_activated(
        self, sums: list[Value], activation: Value, out_pixels: list[Value]
    ) -> None:
        """Each accumulator, after the activation, to its pixel and vector of channels."""
        vectors = len(sums) // len(out_pixels)

        # Activations are computed in two places: here and in rare_steps.add.
        def store(values: list[Value]) -> list[Value]:
            for number, value in enumerate(values):
                self.store(value, out_pixels[number // vectors], number % vectors)
            return []  # nothing goes on from here; choose() asks for a list

        def clamped() -> list[Value]:
            # NONE and RELU in one branch: not below −∞, or not below 0.
            is_linear = self.builder.icmp_signed("==", activation, self.index(NONE))
            lower = self.builder.select(
                is_linear, ir.Constant(FLOAT, float("-inf")), ir.Constant(FLOAT, 0.0)
            )
            lowest = self.repeat(lower)
            return store([self.at_least(value, lowest) for value in sums])

        is_swish = self.builder.icmp_signed("==", activation, self.index(HARD_SWISH))
        self.choose(is_swish, lambda: store([self.hard_swish(value) for value in sums]), clamped)

    def exponential(self, x: Value) -> Value:
        """eˣ for x ≤ 0, to float32's last digits; below −87 as for −87, some 10⁻³⁸.

        eˣ = 2ⁿ · eʳ with r = x − n · ln 2 between −½ ln 2 and ½ ln 2, where Taylor's series is
        short; 2ⁿ is multiplied by adding n to the exponent among the bits of the float.
        """
        build, integers = self.builder, ir.VectorType(ir.IntType(32), self.width)
        x = self.at_least(x, self.repeat(-87.0))
        # Above 2²³ a float has no digits after the point: adding rounds, and n is in the last bits.
        rounder = 1.5 * 2.0**23
        rounded = self.multiply_add(x, self.repeat(1 / math.log(2)), self.repeat(rounder))
        n = build.fsub(rounded, self.repeat(rounder))
        # ln 2 in two parts, as n · ln 2 is near x and what is left must keep its digits.
        r = self.multiply_add(n, self.repeat(-_LN_2), x)
        r = self.multiply_add(n, self.repeat(-_LN_2_REST), r)
        series = self.repeat(1 / math.factorial(_EXPONENTIAL_TERMS))
        for power in reversed(range(_EXPONENTIAL_TERMS)):
            series = self.multiply_add(series, r, self.repeat(1 / math.factorial(power)))
        exponent = build.shl(
            build.bitcast(rounded, integers), ir.Constant(integers, [23] * self.width)
        )
        return build.bitcast(build.add(build.bitcast(series, integers), exponent), self.vector)

    def fence(self) -> None:
        """An instruction that is none: loads from after it are not moved to before it.

        Without it LLVM starts the loads of several rounds at once, finds too few
        registers for them and moves accumulators to memory and back.
        """
        nothing = ir.FunctionType(VOID, [])
        # "~{memory}": it may have changed memory, as far as LLVM knows.
        self.builder.asm(nothing, "", "~{memory}", [], side_effect=True)

    def opaque(self, pointer: Value) -> Value:
        """The same pointer, of which LLVM no longer knows how it was computed.

        Otherwise it computes each pixel's address from the one before, and every load waits
        for a chain of additions.
        """
        same = ir.FunctionType(pointer.type, [pointer.type])
        # No instruction; "=r,0": the result is in the register of the argument.
        return self.builder.asm(same, "", "=r,0", [pointer], side_effect=False)

    def loop(
        self,
        count: Value,
        carried: Sequence[Value],
        body: Callable[[list[Value]], list[Value]],
    ) -> list[Value]:
        """Make a loop, which the CPU will go through ``count`` times.

        ``body`` is called once, now: it appends the instructions of one round, and what it returns
        is what the next round is given. Returns the carried values after the last round.
        """
        before = self.builder.block
        head, inside, after = (
            self.builder.append_basic_block(name) for name in ("head", "body", "after")
        )
        self.builder.branch(head)
        self.builder.position_at_end(head)
        round_number = self.builder.phi(INDEX)
        round_number.add_incoming(self.index(0), before)
        current = [self.builder.phi(value.type) for value in carried]
        for phi, value in zip(current, carried, strict=True):
            phi.add_incoming(value, before)
        self.builder.cbranch(self.builder.icmp_signed("<", round_number, count), inside, after)
        self.builder.position_at_end(inside)
        following = body(list(current))
        round_number.add_incoming(self.builder.add(round_number, self.index(1)), self.builder.block)
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
        walks: Sequence[Walk],
        body: Callable[[list[Value]], None],
    ) -> None:
        """Make the loops over all tiles of an image of ``rows`` × ``row_pixels`` pixels.

        ``body``, called once, appends the instructions of one tile. It is given where the tile's
        first pixel is in the image of each of ``walks``. The last tile of a row is moved
        back onto its neighbour instead of being shorter.
        """
        build = self.builder
        size = self.index(tile_pixels)
        rounded = build.add(row_pixels, self.index(tile_pixels - 1))
        tiles_in_row = build.sdiv(rounded, size)
        steps = [build.mul(walk.pixel_pitch, size) for walk in walks]
        lasts = [walk.last for walk in walks]

        def one_row(row_starts: list[Value]) -> list[Value]:
            def one_tile(offsets: list[Value]) -> list[Value]:
                firsts = []
                for start, offset, last in zip(row_starts, offsets, lasts, strict=True):
                    is_beyond = build.icmp_signed(">", offset, last)
                    firsts.append(self.at(start, build.select(is_beyond, last, offset)))
                body(firsts)
                return [build.add(o, step) for o, step in zip(offsets, steps, strict=True)]

            self.loop(tiles_in_row, [self.index(0) for _ in walks], one_tile)
            return [self.at(s, walk.row_pitch) for s, walk in zip(row_starts, walks, strict=True)]

        self.loop(rows, [walk.first for walk in walks], one_row)

    def choose(
        self,
        condition: Value,
        then: Callable[[], list[Value]],
        otherwise: Callable[[], list[Value]],
    ) -> list[Value]:
        """The values of ``then()`` or of ``otherwise()``.

        Both are called now and append their instructions; the CPU runs only those of one. The two
        may open blocks of their own: loops and choices nest.
        """
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
