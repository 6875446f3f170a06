"""Loops over vectors beside the tiles: rows blended and made gray, places summed, floats cleared
and copied, mean places.

Written for LLVM like the microkernels, of which they have no part: no sums are held for a tile,
only in emit_sum_places for one point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from npshapenet.jit.emitter import FLOAT, INDEX, Emitter, Value


def emit_blend(
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
        values = build.load(pointer, align=element.width // 8 if element != FLOAT else 4)
        return values if element == FLOAT else build.uitofp(values, emit.vector)

    def one_tap(carried: list[Value]) -> list[Value]:
        place, weight_at, total = carried
        total = emit.multiply_add(emit.broadcast(weight_at), load(place), total)
        return [build.add(place, width), emit.at(weight_at, 1), total]

    def one_vector(x: Value) -> None:
        total = emit.loop(taps, [x, weights, emit.repeat(0.0)], one_tap)[2]
        emit.store(total, emit.at(row, x))

    _for_each_vector(emit, width, one_vector)


def emit_gray(
    emit: Emitter,
    source: Value,
    width: Value,
    first: Value,
    second: Value,
    third: Value,
    row: Value,
) -> None:
    """``row[x] = (Σ share[c] · source[x, c] + 2¹⁵) / 2¹⁶`` for the ``width`` ≥ V columns x.

    ``first``, ``second`` and ``third`` are the shares; source and row are bytes.
    """
    build, lanes = emit.builder, range(emit.width)
    byte, integer = ir.IntType(8), ir.IntType(32)
    integers = ir.VectorType(integer, emit.width)
    three = ir.VectorType(byte, 3 * emit.width)
    places = [ir.Constant(integers, [3 * lane + channel for lane in lanes]) for channel in range(3)]
    shares = [emit.repeat(build.trunc(share, integer)) for share in (first, second, third)]
    half, bits = (ir.Constant(integers, [number] * emit.width) for number in (1 << 15, 16))

    def one_vector(x: Value) -> None:
        pixels_at = build.gep(source, [build.mul(x, emit.index(3))])
        pixels = build.load(build.bitcast(pixels_at, three.as_pointer()), align=1)
        total = half
        for place, share in zip(places, shares, strict=True):
            channel = build.shuffle_vector(pixels, ir.Constant(three, ir.Undefined), place)
            total = build.add(total, build.mul(build.zext(channel, integers), share))
        gray = build.trunc(build.lshr(total, bits), ir.VectorType(byte, emit.width))
        out = build.bitcast(build.gep(row, [x]), gray.type.as_pointer())
        build.store(gray, out, align=1)

    _for_each_vector(emit, width, one_vector)


def _for_each_vector(emit: Emitter, width: Value, body: Callable[[Value], None]) -> None:
    """Make the loop over a row of ``width`` ≥ V columns: ``body`` appends what is done with the V
    columns from x on. The last vector is moved back onto its neighbour."""
    build = emit.builder
    size = emit.index(emit.width)
    last = build.sub(width, size)

    def one_vector(carried: list[Value]) -> list[Value]:
        (x,) = carried
        body(build.select(build.icmp_signed(">", x, last), last, x))
        return [build.add(x, size)]

    rounded = build.add(width, emit.index(emit.width - 1))
    emit.loop(build.sdiv(rounded, size), [emit.index(0)], one_vector)


def emit_clear(emit: Emitter, values: Value, count: Value) -> None:
    """``values[0 … count − 1] = 0``, in vectors, then one by one.

    A loop that LLVM sees through would become a call of memset, which is outside of the engine.
    """
    build = emit.builder
    zero, width = ir.Constant(FLOAT, 0.0), emit.index(emit.width)

    def one_vector(carried: list[Value]) -> list[Value]:
        emit.store(emit.repeat(0.0), carried[0])
        emit.fence()
        return [emit.at(carried[0], emit.width)]

    def one_float(carried: list[Value]) -> list[Value]:
        build.store(zero, carried[0])
        emit.fence()
        return [emit.at(carried[0], 1)]

    rest = emit.loop(build.sdiv(count, width), [values], one_vector)
    emit.loop(build.srem(count, width), rest, one_float)


def emit_copy(emit: Emitter, source: Value, target: Value, count: Value) -> None:
    """``target[0 … count − 1] = source[0 … count − 1]``, in vectors, then one by one."""
    build, width = emit.builder, emit.index(emit.width)

    def one_vector(carried: list[Value]) -> list[Value]:
        source_at, target_at = carried
        emit.store(emit.load(source_at), target_at)
        emit.fence()
        return [emit.at(source_at, emit.width), emit.at(target_at, emit.width)]

    def one_float(carried: list[Value]) -> list[Value]:
        source_at, target_at = carried
        build.store(build.load(source_at), target_at)
        emit.fence()
        return [emit.at(source_at, 1), emit.at(target_at, 1)]

    rest = emit.loop(build.sdiv(count, width), [source, target], one_vector)
    emit.loop(build.srem(count, width), rest, one_float)


def emit_find_pixels(
    emit: Emitter,
    x: Value,
    y: Value,
    count: Value,
    x_offset: Value,
    y_offset: Value,
    columns: Value,
    rows: Value,
    pixel_pitch: Value,
    row_pitch: Value,
    found: Value,
) -> None:
    """Where points, moved by an offset, are among the pixels of an image.

    x and y (count), −1 and 1 the edges of the image, for whole vectors of points. found (5, count):
    how far in floats the pixel above and left of each point is from the first one; the shares of
    this pixel, of that on its right, and of the two below. Sizes and distances are given as floats.
    """
    build = emit.builder
    zero, one = emit.repeat(0.0), emit.repeat(1.0)
    # Above 2²³ a float has no digits after the point: adding rounds.
    rounder = emit.repeat(2.0**23)

    def place(axis: Value, offset: Value, extent: Value) -> tuple[Value, Value]:
        """The pixel before the place, counted from 0, and how far beyond it the place is."""
        half = emit.repeat(build.fmul(extent, ir.Constant(FLOAT, 0.5)))
        last = build.fsub(emit.repeat(extent), one)
        moved = emit.add(emit.add(emit.load(axis), emit.repeat(offset)), one)
        wanted = build.fsub(build.fmul(moved, half), emit.repeat(0.5))
        # What is no number is taken for the first pixel.
        wanted = build.select(build.fcmp_ordered(">", wanted, zero), wanted, zero)
        wanted = emit.at_most(wanted, last)
        nearest = build.fsub(emit.add(wanted, rounder), rounder)
        is_after = build.fcmp_ordered(">", nearest, wanted)
        before = build.fsub(nearest, build.select(is_after, one, zero))
        # The last pixel is on the right of the one before it, if there is one.
        before = emit.at_most(before, emit.at_least(build.fsub(last, one), zero))
        return before, build.fsub(wanted, before)

    def one_vector(carried: list[Value]) -> list[Value]:
        x_at, y_at, target = carried
        left, x_share = place(x_at, x_offset, columns)
        above, y_share = place(y_at, y_offset, rows)
        distance = build.fmul(left, emit.repeat(pixel_pitch))
        distance = emit.add(build.fmul(above, emit.repeat(row_pitch)), distance)
        x_rest, y_rest = build.fsub(one, x_share), build.fsub(one, y_share)
        shares = [(x_rest, y_rest), (x_share, y_rest), (x_rest, y_share), (x_share, y_share)]
        values = [distance, *(build.fmul(*pair) for pair in shares)]
        for row, value in enumerate(values):
            emit.store(value, emit.at(target, build.mul(count, emit.index(row))))
        return [emit.at(pointer, emit.width) for pointer in (x_at, y_at, target)]

    emit.loop(build.sdiv(count, emit.index(emit.width)), [x, y, found], one_vector)


#: Accumulators of a point, where its channels make so many vectors; fewer where they don't.
_VECTORS_AT_ONCE = (4, 2, 1)


def emit_sum_places(
    emit: Emitter,
    image: Value,
    right: Value,
    below: Value,
    places: Value,
    found: Value,
    pitch: Value,
    panel: Value,
    activation: Value,
    count: Value,
    out: Value,
    out_pitch: Value,
    channels: Value,
) -> None:
    """``out[point, n] = activation(bias[n] + Σ_place weight[place, n] · Σ_four share · pixel[n])``

    for ``count`` points and all ``channels`` n, which are whole vectors. found (places, 5, pitch)
    is what emit_find_pixels wrote. panel (1 + places, channels): the biases, the weights.
    """
    build = emit.builder
    *rows, rows_pitch = (build.mul(pitch, emit.index(row)) for row in range(6))

    def part(vectors: int, first: Value) -> None:
        """So many vectors of channels, from the channel ``first`` on."""

        def one_place(carried: list[Value]) -> list[Value]:
            found_at, weight_at, *sums = carried
            columns = [emit.at(found_at, row) for row in rows]
            distance = build.fptosi(build.load(columns[0], align=4), INDEX)
            above = emit.at(image, build.add(distance, first))
            corners = [above, emit.at(above, right), emit.at(above, below)]
            corners.append(emit.at(corners[2], right))
            shares = [emit.broadcast(column) for column in columns[1:]]
            following = []
            for vector, total in enumerate(sums):
                mixed = build.fmul(shares[0], emit.load_aligned(corners[0], vector))
                for share, corner in zip(shares[1:], corners[1:], strict=True):
                    mixed = emit.multiply_add(share, emit.load_aligned(corner, vector), mixed)
                weight = emit.load_aligned(weight_at, vector)
                following.append(emit.multiply_add(weight, mixed, total))
            return [emit.at(found_at, rows_pitch), emit.at(weight_at, channels), *following]

        biases = [emit.load_aligned(emit.at(panel, first), vector) for vector in range(vectors)]
        weights = emit.at(emit.at(panel, channels), first)

        def one_point(carried: list[Value]) -> list[Value]:
            found_at, out_at = carried
            sums = emit.loop(places, [found_at, weights, *biases], one_place)[2:]
            emit.store_activated(sums, activation, [out_at])
            return [emit.at(found_at, 1), emit.at(out_at, out_pitch)]

        emit.loop(count, [found, emit.at(out, first)], one_point)

    # As many vectors at once as there are, then fewer for the rest.
    first = emit.index(0)
    for vectors in _VECTORS_AT_ONCE:
        size = emit.index(vectors * emit.width)

        def one_part(carried: list[Value], vectors: int = vectors, size: Value = size) -> Any:
            part(vectors, carried[0])
            return [build.add(carried[0], size)]

        (first,) = emit.loop(build.sdiv(build.sub(channels, first), size), [first], one_part)


def emit_mean_places(
    emit: Emitter,
    source: Value,
    rows: Value,
    row_pixels: Value,
    pixel_pitch: Value,
    row_pitch: Value,
    places: Value,
) -> None:
    """The mean column and row, counted from 0, of each channel's softmax.

    source (rows, row_pixels, pixel_pitch) → places (2, pixel_pitch): the columns, then the rows.
    V channels at a time: first their largest values, so that no exponential is above 1.
    """
    build = emit.builder
    zero, one = emit.repeat(0.0), emit.repeat(1.0)

    def largest_of_row(carried: list[Value]) -> list[Value]:
        row, highest = carried

        def one_pixel(inner: list[Value]) -> list[Value]:
            value = emit.load_aligned(inner[0])
            return [emit.at(inner[0], pixel_pitch), emit.at_least(value, inner[1])]

        return [emit.at(row, row_pitch), emit.loop(row_pixels, [row, highest], one_pixel)[1]]

    def one_vector(carried: list[Value]) -> list[Value]:
        first, place = carried
        highest = emit.loop(rows, [first, emit.load_aligned(first)], largest_of_row)[1]

        def one_row(carried: list[Value]) -> list[Value]:
            row, y, total, total_x, total_y = carried

            def one_pixel(inner: list[Value]) -> list[Value]:
                pixel, x, row_total, row_x = inner
                share = emit.exponential(build.fsub(emit.load_aligned(pixel), highest))
                return [
                    emit.at(pixel, pixel_pitch),
                    emit.add(x, one),
                    emit.add(row_total, share),
                    emit.multiply_add(share, x, row_x),
                ]

            row_total, row_x = emit.loop(row_pixels, [row, zero, zero, zero], one_pixel)[2:]
            return [
                emit.at(row, row_pitch),
                emit.add(y, one),
                emit.add(total, row_total),
                emit.add(total_x, row_x),
                emit.multiply_add(row_total, y, total_y),
            ]

        total, total_x, total_y = emit.loop(rows, [first, zero, zero, zero, zero], one_row)[2:]
        emit.store(build.fdiv(total_x, total), place)
        emit.store(build.fdiv(total_y, total), emit.at(place, pixel_pitch))
        return [emit.at(first, emit.width), emit.at(place, emit.width)]

    vectors = build.sdiv(pixel_pitch, emit.index(emit.width))
    emit.loop(vectors, [source, places], one_vector)
