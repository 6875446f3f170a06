"""The microkernels, and what else plain Numba lacks, as functions that Numba can call.

Numba calls a function marked ``@intrinsic`` while it compiles, with the *types* of the arguments.
It returns a signature (``result(first, second)``: a type, called, makes one) and a function that
appends the LLVM instructions, which is given the arguments as ``values``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from npshapenet.jit import cpu
from npshapenet.jit.emitter import FLOAT_POINTER, INDEX, Emitter, Value
from npshapenet.jit.microkernel import declare, tiles_of
from npshapenet.jit.vector_loops import (
    emit_blend,
    emit_clear,
    emit_copy,
    emit_find_pixels,
    emit_gray,
    emit_mean_places,
    emit_sum_places,
)

FLOATS = types.CPointer(types.float32)
INTEGERS = types.CPointer(types.int64)
BYTES = types.CPointer(types.uint8)


def _emit_tile_call(builder: ir.IRBuilder, kind: str, values: Sequence[Value]) -> None:
    """Call the tile whose index in cpu.py's table the first value is, with the others."""
    tile_index, *arguments = (
        builder.bitcast(value, FLOAT_POINTER) if value.type.is_pointer else value
        for value in values
    )
    after = builder.append_basic_block("after")
    switch = builder.switch(tile_index, after)
    for number, tile in enumerate(tiles_of(kind)):
        block = builder.append_basic_block("tile")
        switch.add_case(number, block)
        builder.position_at_end(block)
        builder.call(declare(builder.module, kind, tile), arguments)
        builder.branch(after)
    builder.position_at_end(after)


@intrinsic
def convolve_panel(
    typing_context: Any,
    tile_index: Any,
    rows: Any,
    row_pixels: Any,
    runs: Any,
    run_pitch: Any,
    run_length: Any,
    panel: Any,
    activation: Any,
    source: Any,
    source_pixel: Any,
    source_row: Any,
    source_last: Any,
    out: Any,
    out_pixel: Any,
    out_row: Any,
    out_last: Any,
    addend: Any,
    addend_pixel: Any,
    addend_row: Any,
    addend_last: Any,
) -> Any:
    """One panel by the convolution tile ``tile_index`` of cpu.py's table: see _emit_convolution."""
    i, f = types.int64, FLOATS

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _emit_tile_call(builder, "convolution", values)
        return context.get_dummy_value()

    return types.void(i, i, i, i, i, i, f, i, *[f, i, i, i] * 3), generate


@intrinsic
def convolve_panel_depthwise(
    typing_context: Any,
    tile_index: Any,
    rows: Any,
    row_pixels: Any,
    tap_rows: Any,
    tap_row_pitch: Any,
    tap_columns: Any,
    tap_column_pitch: Any,
    panel: Any,
    weight_pitch: Any,
    activation: Any,
    source: Any,
    source_pixel: Any,
    source_row: Any,
    source_last: Any,
    out: Any,
    out_pixel: Any,
    out_row: Any,
    out_last: Any,
) -> Any:
    """One panel by the depthwise tile ``tile_index`` of cpu.py's table: see _emit_depthwise."""
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
        is_given = builder.icmp_signed(">=", values[1], ir.Constant(INDEX, 0))
        return builder.select(is_given, builder.gep(values[0], [values[1]]), null)

    return pointer(pointer, types.int64), generate


@intrinsic
def floats_at(typing_context: Any, address: Any) -> Any:
    """A pointer made of a number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], FLOAT_POINTER)

    return FLOATS(types.int64), generate


@intrinsic
def integers_at(typing_context: Any, address: Any) -> Any:
    """A pointer made of a number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], INDEX.as_pointer())

    return INTEGERS(types.int64), generate


@intrinsic
def as_integers(typing_context: Any, pointer: Any) -> Any:
    """The same address as a pointer to int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], INDEX.as_pointer())

    return INTEGERS(pointer), generate


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
    """Rows of floats or bytes, added up with one weight each: see emit_blend."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_blend(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, FLOATS, FLOATS), generate


@intrinsic
def clear(typing_context: Any, values: Any, count: Any) -> Any:
    """``count`` zeros: see emit_clear."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_clear(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(FLOATS, types.int64), generate


@intrinsic
def copy(typing_context: Any, source: Any, target: Any, count: Any) -> Any:
    """``count`` floats from one place to another: see emit_copy."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_copy(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(FLOATS, FLOATS, types.int64), generate


@intrinsic
def gray_row(
    typing_context: Any, source: Any, width: Any, first: Any, second: Any, third: Any, row: Any
) -> Any:
    """Three bytes a pixel → one: see emit_gray."""
    i = types.int64

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_gray(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(BYTES, i, i, i, i, BYTES), generate


@intrinsic
def softmax_places(
    typing_context: Any,
    source: Any,
    rows: Any,
    row_pixels: Any,
    pixel_pitch: Any,
    row_pitch: Any,
    places: Any,
) -> Any:
    """Mean columns and rows of channels: see emit_mean_places."""
    i = types.int64

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_mean_places(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(FLOATS, i, i, i, i, FLOATS), generate


@intrinsic
def find_pixels(
    typing_context: Any,
    x: Any,
    y: Any,
    count: Any,
    x_offset: Any,
    y_offset: Any,
    columns: Any,
    rows: Any,
    pixel_pitch: Any,
    row_pitch: Any,
    found: Any,
) -> Any:
    """The pixels about points, and the shares that they have: see emit_find_pixels."""
    f, number = FLOATS, types.float32

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_find_pixels(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(f, f, types.int64, *[number] * 6, f), generate


@intrinsic
def sum_places(
    typing_context: Any,
    image: Any,
    right: Any,
    below: Any,
    places: Any,
    found: Any,
    pitch: Any,
    panel: Any,
    activation: Any,
    count: Any,
    out: Any,
    out_pitch: Any,
    channels: Any,
) -> Any:
    """The sums of a depthwise convolution about points: see emit_sum_places."""
    i, f = types.int64, FLOATS

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit_sum_places(Emitter(builder, cpu.target().registers.floats), *values)
        return context.get_dummy_value()

    return types.void(f, i, i, i, f, i, f, i, i, f, i, i), generate


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
    return types.int64(types.float64), lambda context, builder, signature, values: builder.fptosi(
        values[0], INDEX
    )
