"""From the network's outputs to landmarks in pixels, compiled: what shape.py says in NumPy.

The sum over the shape model's components is a dense layer, of which the plan makes a step like
any other; here is what comes before and after it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import at, larger, smaller

_HALF = np.float32(0.5)

# π/2 as a number of 33 bits, so that multiples of it are exact, and what is missing.
_QUARTER_TURN = 1.57079632673412561417e00
_QUARTER_TURN_REST = 6.07710050650619224932e-11
# A float64 as large as this has no digits after the point: to add it rounds to whole numbers.
_ROUNDER = 1.5 * 2.0**52


@compiled
def clamp(step: Any, weights: Any, arena: Any) -> None:
    """Numbers outside their limits become the nearest one within; NaN stays."""
    count = step[s.CHANNELS]
    values = at(arena, step[s.OUTPUT])
    least = at(weights, step[s.WEIGHTS])
    largest = at(least, count)
    for place in range(count):
        values[place] = smaller(larger(values[place], least[place]), largest[place])


@compiled
def place_landmarks(step: Any, arena: Any, height: Any, width: Any, out: Any) -> None:
    """out [point, xy] = scale · R · shape + translation, in pixels of the crop (height, width).

    The network's coordinates end at −1 and 1 at the edges of the square that the crop was
    widened to, whose pixels begin half a pixel before the centre of the first.
    """
    shape = at(arena, step[s.INPUT])
    transform = at(arena, step[s.TRANSFORM])
    side = larger(height, width)
    half = np.float32(side) * _HALF
    cosine, sine = cosine_and_sine(transform[1])
    along = np.float32(cosine * (transform[0] * half))
    across = np.float32(sine * (transform[0] * half))
    origin_x = transform[2] * half + (half - _HALF) - np.float32((side - width) // 2)
    origin_y = transform[3] * half + (half - _HALF) - np.float32((side - height) // 2)
    for point in range(step[s.CHANNELS] // 2):
        x, y = shape[2 * point], shape[2 * point + 1]
        out[2 * point] = along * x - across * y + origin_x
        out[2 * point + 1] = across * x + along * y + origin_y


@compiled
def cosine_and_sine(angle_rad: Any) -> Any:
    """Both in float64, by Taylor's series about the nearest multiple of π/2; what the C library
    has would have to be found by the library that a wheel carries. Exact to float32 up to a
    million radians, and of no use far beyond."""
    angle = np.float64(angle_rad)
    quarters = (angle * (2 / np.pi) + _ROUNDER) - _ROUNDER
    x = (angle - quarters * _QUARTER_TURN) - quarters * _QUARTER_TURN_REST
    z = x * x
    sine = x * (1 - z / 6 * (1 - z / 20 * (1 - z / 42 * (1 - z / 72 * (1 - z / 110)))))
    cosine = 1 - z / 2 * (1 - z / 12 * (1 - z / 30 * (1 - z / 56 * (1 - z / 90))))
    # How many of the four quarters the last whole turn has: 0, 1, ±2 or −1.
    quarter = quarters - 4 * ((quarters / 4 + _ROUNDER) - _ROUNDER)
    if quarter == 1:
        return -sine, cosine
    if quarter == -1:
        return sine, -cosine
    if quarter == 0:
        return cosine, sine
    return -cosine, -sine
