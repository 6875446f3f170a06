"""A depthwise convolution about points, wherever they are: the layer PointDepthwise, compiled.

What it is is said in network.py, and in NumPy in plain.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import as_integers, at, larger, smaller, sum_places, truncated

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@compiled
def point_depthwise(step: Any, weights: Any, arena: Any) -> None:
    """output [point] = activation(bias + Σ_place weight · image at the point + the place's offset).

    For each point first where its places are in the image, then all channels of all places.
    """
    rows, columns, places = step[s.SOURCE_ROWS], step[s.SOURCE_ROW_PIXELS], step[s.PLACES]
    pixel_pitch, row_pitch = step[s.INPUT_PIXEL], step[s.INPUT_ROW]
    # From a pixel to those on its right and below; the four of an image of one column are two.
    right, below = smaller(columns - 1, 1) * pixel_pitch, smaller(rows - 1, 1) * row_pitch
    last_left, last_above = larger(columns - 2, 0), larger(rows - 2, 0)
    half_width, half_height = np.float32(columns) * _HALF, np.float32(rows) * _HALF
    x_last, y_last = np.float32(columns - 1), np.float32(rows - 1)
    points, offsets = at(arena, step[s.POINTS_AT]), at(weights, step[s.WEIGHTS])
    # What sum_places reads: the pixel above left of each place, then the shares of the four.
    shares = at(arena, step[s.SUMS])
    pixels = as_integers(at(shares, 4 * places))
    for point in range(step[s.ROW_PIXELS]):
        for place in range(places):
            x = inside(points[2 * point] + offsets[2 * place], half_width, x_last)
            y = inside(points[2 * point + 1] + offsets[2 * place + 1], half_height, y_last)
            left, above = smaller(truncated(x), last_left), smaller(truncated(y), last_above)
            x_share, y_share = x - np.float32(left), y - np.float32(above)
            of_four = at(shares, 4 * place)
            of_four[0] = (_ONE - x_share) * (_ONE - y_share)
            of_four[1] = x_share * (_ONE - y_share)
            of_four[2] = (_ONE - x_share) * y_share
            of_four[3] = x_share * y_share
            pixels[place] = above * row_pitch + left * pixel_pitch
        sum_places(
            at(arena, step[s.INPUT]),
            right,
            below,
            places,
            pixels,
            shares,
            at(offsets, step[s.WEIGHT_PITCH]),
            step[s.ACTIVATION],
            at(arena, step[s.OUTPUT] + point * step[s.OUTPUT_PIXEL]),
            step[s.CHANNELS],
        )


@compiled
def inside(place: Any, half: Any, last: Any) -> Any:
    """A coordinate from −1 to 1, counted in pixels from the centre of the first to the last's.

    What is no number is the first.
    """
    return smaller(last, larger(_ZERO, (place + _ONE) * half - _HALF))
