"""The layers MeanPlaces, PointDepthwise and ShapeFit as ONNX nodes.

What they are: npshapenet/layers.py.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reference.onnx_nodes import Graph

Floats = NDArray[np.float32]

#: Points that are all in one place have no size, and nothing is divided by it.
_SIZE_MIN: Final = 1e-12
#: From a complex number r + i·m to the matrix [[r, −m], [m, r]] that points (x, y) are multiplied
#: by, from its left, to be multiplied by the conjugate number.
_CONJUGATE: Final = [[1, 0, 0, 1], [0, -1, 1, 0]]


def add_mean_places(graph: Graph, source: str, output: str, height: int, width: int) -> None:
    """(N, C, H, W) → the softmax over (N, C, H·W), times the places (H·W, 2) → (N, 2·C, 1, 1)."""
    y, x = ((2 * np.arange(extent) + 1) / extent - 1 for extent in (height, width))
    cells = np.stack([np.tile(x, height), np.repeat(y, width)], axis=1)
    places = graph.constant(f"{output}/places", cells)
    flat_shape = graph.constant(f"{output}/flat_shape", [0, 0, -1], np.int64)
    flat = graph.node("Reshape", [source, flat_shape], f"{output}/flat")
    shares = graph.node("Softmax", [flat], f"{output}/shares", axis=2)
    means = graph.node("MatMul", [shares, places], f"{output}/means")
    shape = graph.constant(f"{output}/shape", [0, -1, 1, 1], np.int64)
    graph.node("Reshape", [means, shape], output)


def add_point_depthwise(
    graph: Graph,
    source: str,
    points: str,
    output: str,
    offsets: Floats,
    weight: Floats,
    bias: Floats,
) -> None:
    """(N, C, H, W), points (N, 2·L, 1, 1), offsets (S, 2), weight (C, S), bias (C) →
    (N, C, 1, L)."""

    def constant(name: str, values: Any, dtype: Any = np.float32) -> str:
        return graph.constant(f"{output}/{name}", values, dtype)

    shape = constant("points_shape", [0, 1, -1, 2], np.int64)
    centres = graph.node("Reshape", [points, shape], f"{output}/centres")
    places = graph.node("Add", [centres, constant("offsets", offsets[:, None])], f"{output}/places")
    around = graph.node(
        "GridSample",
        [source, places],
        f"{output}/around",
        mode="bilinear",
        padding_mode="border",
        align_corners=0,
    )
    kernel = constant("weight", weight[:, None, :, None])
    graph.node(
        "Conv",
        [around, kernel, constant("bias", bias)],
        output,
        kernel_shape=(len(offsets), 1),
        group=len(weight),
    )


def add_shape_fit(graph: Graph, source: str, output: str, mean: Floats, weight: Floats) -> None:
    """Points (N, 2·L, 1, 1), mean (L, 2), weight (K, 2·L) → parameters (N, K + 4, 1, 1)."""

    def node(operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        return graph.node(operator, inputs, f"{output}/{name}", **attributes)

    def constant(name: str, values: Any, dtype: Any = np.float32) -> str:
        return graph.constant(f"{output}/{name}", values, dtype)

    axis = constant("axis", [1], np.int64)
    flat = node("Flatten", "flat", source, axis=1)
    similarity = node("MatMul", "similarity", flat, constant("fit", _similarity(mean)))
    factor, move = f"{output}/factor", f"{output}/move"
    graph.node("Split", [similarity, constant("halves", [2, 2], np.int64)], factor, move, axis=1)
    square = node("ReduceSum", "square", node("Mul", "squares", factor, factor), axis, keepdims=1)
    least = constant("least", _SIZE_MIN)
    size = node("Max", "size", square, least)
    inverse = node("Div", "inverse", factor, size)
    back = node("MatMul", "back", inverse, constant("turn", _CONJUGATE))
    matrix = node("Reshape", "matrix", back, constant("matrix_shape", [0, 2, 2], np.int64))
    points = node("Reshape", "points", flat, constant("points_shape", [0, -1, 2], np.int64))
    centred = node("Sub", "centred", points, node("Unsqueeze", "middle", move, axis))
    off = node("Sub", "off", node("MatMul", "taken_back", centred, matrix), constant("mean", mean))
    scores = node(
        "MatMul", "scores", node("Flatten", "off_flat", off, axis=1), constant("weight", weight.T)
    )
    scale = node("Sqrt", "scale", square)
    # ONNX has no atan2: the angle is twice that of (scale + real, imaginary).
    halves = constant("one_each", [1, 1], np.int64)
    real, imaginary = f"{output}/real", f"{output}/imaginary"
    graph.node("Split", [factor, halves], real, imaginary, axis=1)
    beside = node("Add", "beside", scale, real)
    half = node("Atan", "half", node("Div", "slope", imaginary, node("Max", "run", beside, least)))
    angle = node("Mul", "angle", half, constant("twice", 2.0))
    parameters = node("Concat", "parameters", scores, scale, angle, move, axis=1)
    graph.node("Reshape", [parameters, constant("shape", [0, -1, 1, 1], np.int64)], output)


def _similarity(mean: Floats) -> Floats:
    """(2·L, 4): what points, x before y, are multiplied by to give the best similarity.

    That is the complex factor, real and imaginary part, and the translation x and y.
    """
    centre = mean.mean(axis=0)
    centred = mean - centre
    factors = centred / np.maximum(np.sum(centred**2), _SIZE_MIN)
    real, imaginary = factors, np.stack([-factors[:, 1], factors[:, 0]], axis=1)
    x, y = np.zeros((2, *mean.shape))
    x[:, 0] = y[:, 1] = 1 / len(mean)
    x -= real * centre[0] - imaginary * centre[1]
    y -= real * centre[1] + imaginary * centre[0]
    return np.stack([part.ravel() for part in (real, imaginary, x, y)], axis=1, dtype=np.float32)
