"""A depthwise convolution about points, wherever they are: the layer PointDepthwise, compiled.

What it is is said in layers.py, and in NumPy in plain.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import at, find_pixels, smaller, sum_places


@compiled
def point_depthwise(step: Any, weights: Any, arena: Any) -> None:
    """output [point] = activation(bias + Σ_place weight · image at the point + the place's offset).

    First where all places of all points are in the image, whole vectors of points at once; then
    point by point whole vectors of channels of all places.
    """
    rows, columns = step[s.SOURCE_ROWS], step[s.SOURCE_ROW_PIXELS]
    places, count, pitch = step[s.PLACES], step[s.ROW_PIXELS], step[s.POINTS_PITCH]
    points, offsets = at(arena, step[s.POINTS_AT]), at(weights, step[s.WEIGHTS])
    x = at(arena, step[s.SUMS])
    y = at(x, pitch)
    found = at(y, pitch)
    for point in range(count):
        x[point], y[point] = points[2 * point], points[2 * point + 1]
    for point in range(count, pitch):  # those that fill up the last vector
        x[point], y[point] = np.float32(0), np.float32(0)
    for place in range(places):
        find_pixels(
            x,
            y,
            pitch,
            offsets[2 * place],
            offsets[2 * place + 1],
            np.float32(columns),
            np.float32(rows),
            np.float32(step[s.INPUT_PIXEL]),
            np.float32(step[s.INPUT_ROW]),
            at(found, 5 * pitch * place),
        )
    # From a pixel to those on its right and below; an image of one column has none on the right.
    right = smaller(columns - 1, 1) * step[s.INPUT_PIXEL]
    below = smaller(rows - 1, 1) * step[s.INPUT_ROW]
    sum_places(
        at(arena, step[s.INPUT]),
        right,
        below,
        places,
        found,
        pitch,
        at(offsets, step[s.WEIGHT_PITCH]),
        step[s.ACTIVATION],
        count,
        at(arena, step[s.OUTPUT]),
        step[s.OUTPUT_PIXEL],
        step[s.CHANNELS],
    )
