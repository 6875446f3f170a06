"""Maps to points, points to a shape: the layers MeanPlaces and ShapeFit, compiled.

What they are is said in layers.py, and in NumPy in plain.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import at, larger, smaller, softmax_places

# Points that are all in one place have no size, and nothing is divided by it.
_SIZE_MIN = 1e-12


@compiled
def mean_places(step: Any, arena: Any) -> None:
    """Maps → points, x before y, in the network's coordinates."""
    pitch, rows, row_pixels = step[s.INPUT_PIXEL], step[s.SOURCE_ROWS], step[s.SOURCE_ROW_PIXELS]
    columns = at(arena, step[s.SUMS])
    rows_at = at(columns, pitch)
    softmax_places(
        at(arena, step[s.INPUT]), rows, row_pixels, pitch, step[s.INPUT_ROW], columns
    )  # fmt: skip
    points = at(arena, step[s.OUTPUT])
    for channel in range(step[s.CHANNELS]):
        points[2 * channel] = (2 * np.float64(columns[channel]) + 1) / row_pixels - 1
        points[2 * channel + 1] = (2 * np.float64(rows_at[channel]) + 1) / rows - 1


@compiled
def fit_similarity(step: Any, weights: Any, arena: Any) -> None:
    """Points → the similarity that takes the mean shape onto them, and what they differ by.

    A similarity is the multiplication by a complex number: (x, y) stand for x + i·y. The
    differences, of the points taken back from the mean shape, are what the next step, a dense
    layer, multiplies with the weight of each score; it adds scale, angle in radians, translation x
    and y, which come to stand behind the scores.
    """
    count = step[s.POINTS]
    centre = at(weights, step[s.WEIGHTS])
    factors = at(centre, 2)
    mean = at(factors, 2 * count)
    points = at(arena, step[s.INPUT])
    differences, transform = at(arena, step[s.OUTPUT]), at(arena, step[s.TRANSFORM])
    real, imaginary, sum_x, sum_y = 0.0, 0.0, 0.0, 0.0
    for point in range(count):
        x, y = np.float64(points[2 * point]), np.float64(points[2 * point + 1])
        factor_x, factor_y = factors[2 * point], factors[2 * point + 1]
        real += factor_x * x + factor_y * y
        imaginary += factor_x * y - factor_y * x
        sum_x += x
        sum_y += y
    move_x = sum_x / count - (real * centre[0] - imaginary * centre[1])
    move_y = sum_y / count - (real * centre[1] + imaginary * centre[0])
    square = real * real + imaginary * imaginary
    back_real = real / larger(square, _SIZE_MIN)
    back_imaginary = imaginary / larger(square, _SIZE_MIN)
    for point in range(count):
        x, y = points[2 * point] - move_x, points[2 * point + 1] - move_y
        differences[2 * point] = np.float32(x * back_real + y * back_imaginary - mean[2 * point])
        differences[2 * point + 1] = np.float32(
            y * back_real - x * back_imaginary - mean[2 * point + 1]
        )
    transform[0] = np.sqrt(square)
    transform[1] = angle_of(real, imaginary)
    transform[2] = move_x
    transform[3] = move_y


@compiled
def angle_of(x: Any, y: Any) -> Any:
    """The angle in radians from the x axis to (x, y); 0 for the origin. Within 1e-13.

    Halved three times by tan(a / 2) = tan a / (1 + √(1 + tan² a)), so that the series of the
    arc tangent, up to the 13th power, is long enough.
    """
    width, height = abs(x), abs(y)
    longer = larger(width, height)
    if longer == 0:
        return 0.0
    tangent = smaller(width, height) / longer
    tangent /= 1 + np.sqrt(1 + tangent * tangent)
    tangent /= 1 + np.sqrt(1 + tangent * tangent)
    tangent /= 1 + np.sqrt(1 + tangent * tangent)
    z = tangent * tangent
    series = 1 - z * (1 / 3 - z * (1 / 5 - z * (1 / 7 - z * (1 / 9 - z * (1 / 11 - z / 13)))))
    angle = 8 * tangent * series
    if height > width:
        angle = np.pi / 2 - angle
    if x < 0:
        angle = np.pi - angle
    return -angle if y < 0 else angle
