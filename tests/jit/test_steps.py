"""Every kind of step against the NumPy backend, layer by layer, over odd shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npshapenet.jit import CompiledBackend
from npshapenet.layers import (
    Activation,
    Add,
    Convolution,
    Dense,
    Enlarge,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    Join,
    Layer,
    MeanPlaces,
    PointDepthwise,
    Shape,
    ShapeFit,
)
from npshapenet.network import Network
from npshapenet.plain import PlainBackend
from npshapenet.weights import Normalisation

Floats = NDArray[np.float32]
NORMALISATION = Normalisation(scale=2.0, offset=-1.0)
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "hard_swish")


def random_tensors(network: Network, rng: np.random.Generator) -> dict[str, Floats]:
    """Weights that keep the outputs of deep layers near 1, biases near 0.1."""
    tensors = {}
    for name, shape in network.tensor_shapes().items():
        spread = 0.1 if name.endswith("bias") else 1 / math.sqrt(math.prod(shape[1:]))
        tensors[name] = rng.normal(0, spread, shape).astype(np.float32)
    return tensors


def both_backends(network: Network, seed: int = 0) -> tuple[CompiledBackend, PlainBackend, Floats]:
    rng = np.random.default_rng(seed)
    tensors = random_tensors(network, rng)
    image = rng.normal(0, 1, network.input_shape).astype(np.float32)
    arguments = (network, tensors, NORMALISATION)
    return CompiledBackend(*arguments), PlainBackend(*arguments), image


def assert_same_layers(network: Network, seed: int = 0) -> None:
    """Each layer's output, and the network's, to 1e-5 of the largest value; 3e-5 for sums that
    are longer than 2048."""
    compiled, plain, image = both_backends(network, seed)
    got, wanted = compiled.layer_outputs(image), plain.layer_outputs(image)
    assert list(got) == list(wanted)
    tensors = network.tensor_shapes()
    for name, truth in wanted.items():
        summed = math.prod(tensors.get(f"{name}.weight", (1,))[1:])
        tolerance = 3e-5 if summed > 2048 else 1e-5
        largest = float(np.abs(truth).max())
        assert got[name].shape == truth.shape
        error = float(np.abs(got[name] - truth).max())
        assert error <= tolerance * largest + 1e-7, f"{name}: {error} of {largest}"
    last = wanted[network.layers[-1].name].ravel()
    outputs = compiled.run(image[None])[0]
    assert np.abs(outputs - last).max() <= 3e-5 * np.abs(last).max() + 1e-7


def one(input_shape: Shape, layer: Layer) -> Network:
    return Network(input_shape, (layer,))


CONVOLUTIONS = [
    # input shape, out channels, kernel, stride, padding, groups
    ((1, 1, 1), 1, (1, 1), (1, 1), (0, 0), 1),
    ((1, 1, 1), 5, (3, 3), (1, 1), (1, 1), 1),
    ((3, 1, 2), 2, (1, 5), (1, 1), (0, 2), 1),  # a kernel wider than the row
    ((2, 5, 3), 7, (7, 7), (1, 1), (3, 3), 1),
    ((1, 56, 57), 16, (3, 3), (2, 2), (1, 1), 1),
    ((3, 17, 19), 33, (5, 5), (2, 3), (2, 0), 1),
    ((16, 14, 14), 48, (1, 1), (1, 1), (0, 0), 1),
    ((16, 14, 14), 49, (1, 1), (2, 2), (0, 0), 1),
    ((17, 9, 6), 80, (2, 3), (1, 1), (1, 2), 1),
    ((64, 20, 3), 40, (7, 1), (1, 1), (0, 0), 1),
    ((64, 3, 20), 40, (1, 7), (1, 1), (0, 0), 1),
    ((64, 13, 21), 24, (7, 7), (2, 2), (0, 0), 1),  # long sums, in depth blocks
    ((256, 7, 9), 48, (5, 5), (2, 2), (0, 0), 1),
    ((1000, 3, 3), 10, (1, 1), (1, 1), (0, 0), 1),
    ((70, 40, 33), 40, (5, 1), (1, 1), (0, 0), 1),  # more pixels than a group
    ((4, 9, 9), 6, (3, 3), (1, 1), (1, 1), 2),
    ((12, 5, 6), 24, (3, 2), (2, 1), (0, 1), 12),  # two outputs for each channel
]


@pytest.mark.parametrize(
    ("shape", "outputs", "kernel", "stride", "padding", "groups"), CONVOLUTIONS, ids=str
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_convolution(
    shape: Shape,
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    activation: Activation,
) -> None:
    layer = Convolution("c", "input", outputs, kernel, stride, padding, groups, activation)
    assert_same_layers(one(shape, layer))


DEPTHWISE = [
    ((2, 1, 1), (3, 3), (1, 1), (1, 1)),
    ((16, 56, 56), (3, 3), (2, 2), (1, 1)),
    ((33, 14, 13), (3, 3), (1, 1), (1, 1)),
    ((96, 7, 7), (5, 5), (1, 1), (2, 2)),
    ((48, 14, 15), (5, 5), (2, 2), (2, 2)),
    ((100, 7, 7), (7, 7), (1, 1), (0, 0)),
    ((64, 3, 2), (7, 7), (1, 1), (3, 3)),
    ((20, 9, 31), (1, 4), (3, 1), (0, 2)),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), DEPTHWISE, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_depthwise(
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    activation: Activation,
) -> None:
    channels = shape[0]
    layer = Convolution("d", "input", channels, kernel, stride, padding, channels, activation)
    assert_same_layers(one(shape, layer))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 4), (128, 2, 2), (96, 7, 7), (40, 1, 1)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense(shape: Shape, activation: Activation) -> None:
    assert_same_layers(one(shape, Dense("d", "input", 71, activation)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 4), (96, 7, 7), (20, 31, 1)], ids=str)
def test_global_average_pool(shape: Shape) -> None:
    assert_same_layers(one(shape, GlobalAveragePool("p", "input")))


@pytest.mark.parametrize("shape", [(1, 2, 1), (5, 3, 4), (130, 21, 20)], ids=str)
def test_instance_norm(shape: Shape) -> None:
    assert_same_layers(one(shape, InstanceNorm("n", "input", 1e-5)))


def test_instance_norm_of_one_pixel_and_of_equal_pixels_is_zero() -> None:
    for shape in ((3, 1, 1), (3, 4, 4)):
        compiled, _, _ = both_backends(one(shape, InstanceNorm("n", "input")))
        assert not compiled.run(np.full((1, *shape), 2.0, np.float32)).any()


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 1, 3), 1), ((6, 5, 3), 2), ((40, 9, 4), 5), ((96, 14, 14), 3), ((17, 6, 7), 17)],
    ids=str,
)
def test_group_norm(shape: Shape, groups: int) -> None:
    assert_same_layers(one(shape, GroupNorm("n", "input", groups)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 4), (64, 7, 7), (33, 14, 9)], ids=str)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_enlarge(shape: Shape, factor: int) -> None:
    assert_same_layers(one(shape, Enlarge("e", "input", factor)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 4), (68, 28, 28), (17, 1, 31)], ids=str)
def test_mean_places(shape: Shape) -> None:
    assert_same_layers(one(shape, MeanPlaces("m", "input")))


@pytest.mark.parametrize(
    ("shape", "points", "places"),
    [
        ((1, 1, 1), 1, 1),
        ((5, 3, 1), 2, 4),
        ((5, 1, 6), 16, 2),
        ((32, 28, 28), 68, 5),
        ((64, 14, 14), 68, 5),
        ((24, 13, 20), 17, 9),
    ],
    ids=str,
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_point_depthwise(shape: Shape, points: int, places: int, activation: Activation) -> None:
    """About points that come of a few pixels, some of them beyond the edges of the image.

    Of few, as a long sum differs by as much as moves a point over noise.
    """
    layers: Sequence[Layer] = (
        Convolution("pixels", "input", 8, (1, 1), stride=(9, 9)),
        Dense("points", "pixels", 2 * points),
        PointDepthwise("d", "input", "points", places, activation),
    )
    assert_same_layers(Network(shape, tuple(layers)))


@pytest.mark.parametrize(("points", "scores"), [(2, 1), (5, 3), (17, 16), (68, 100)])
def test_shape_fit(points: int, scores: int) -> None:
    assert_same_layers(one((2 * points, 1, 1), ShapeFit("f", "input", scores)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 1, 1), (5, 3, 4), (128, 7, 7)], ids=str)
@pytest.mark.parametrize("names", [("c", "input"), ("input", "c"), ("c", "c")], ids=str)
def test_join(shape: Shape, names: tuple[str, str]) -> None:
    """Of two images, in either order, and of one with itself."""
    layers: Sequence[Layer] = (
        Convolution("c", "input", 19, (1, 1)),
        Join("j", *names),
        Convolution("d", "j", 6, (1, 1)),
    )
    assert_same_layers(Network(shape, tuple(layers)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_add_of_any_two_layers(activation: Activation) -> None:
    """Sums that can't be fused: of the input with itself, of layers that others read too."""
    layers: Sequence[Layer] = (
        Add("double", "input", "input", activation),
        Convolution("c", "double", 19, (3, 3), padding=(1, 1)),
        Add("sum", "c", "double", activation),
        Convolution("d", "c", 19, (5, 5), padding=(2, 2), groups=19),
        Add("last", "d", "sum", activation),
    )
    assert_same_layers(Network((19, 6, 7), tuple(layers)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("first", ["project", "stem"])
def test_residual_is_fused(activation: Activation, first: str) -> None:
    """An inverted residual: the sum is made by the projection, whichever operand is named first."""
    other = "stem" if first == "project" else "project"
    layers: Sequence[Layer] = (
        Convolution("stem", "input", 24, (3, 3), (2, 2), (1, 1), activation="relu"),
        Convolution("expand", "stem", 48, (1, 1), activation="hard_swish"),
        Convolution("depthwise", "expand", 48, (3, 3), (1, 1), (1, 1), 48, "hard_swish"),
        Convolution("project", "depthwise", 24, (1, 1)),
        Add("sum", first, other, activation),
        Convolution("next", "sum", 8, (3, 3), padding=(1, 1)),
    )
    network = Network((1, 30, 26), tuple(layers))
    compiled, _, _ = both_backends(network)
    assert "project" not in compiled._plan.images
    assert_same_layers(network)


def test_image_that_is_read_with_and_without_padding() -> None:
    layers: Sequence[Layer] = (
        Convolution("a", "input", 20, (1, 1), activation="relu"),
        Convolution("b", "a", 20, (5, 3), padding=(2, 1), groups=20),
        Convolution("c", "a", 20, (3, 1), padding=(1, 0)),
        Convolution("d", "a", 20, (1, 1)),
        Add("e", "b", "c"),
        Add("f", "d", "e"),
        InstanceNorm("g", "f"),
        Convolution("h", "g", 3, (3, 3), padding=(1, 1)),
        Dense("i", "h", 11),
    )
    assert_same_layers(Network((3, 11, 10), tuple(layers)))


@st.composite
def convolutions(draw: st.DrawFn) -> Network:
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    channels = groups * draw(st.integers(1, 40))
    if draw(st.booleans()):
        groups = channels
    outputs = channels if groups == channels else groups * draw(st.integers(1, 50))
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    padding = draw(st.tuples(*(st.integers(0, size - 1) for size in kernel)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    height, width = (
        draw(st.integers(max(size - 2 * border, 1), 30))
        for size, border in zip(kernel, padding, strict=True)
    )
    activation = draw(st.sampled_from(ACTIVATIONS))
    layer = Convolution("c", "input", outputs, kernel, stride, padding, groups, activation)
    return one((channels, height, width), layer)


@settings(max_examples=200, deadline=None)
@given(network=convolutions(), seed=st.integers(0, 1000))
def test_any_convolution(network: Network, seed: int) -> None:
    assert_same_layers(network, seed)


@pytest.mark.parametrize("layer", ["c", "d", "s", "f"])
def test_a_wrong_weight_is_noticed(layer: str) -> None:
    """The comparison can fail: one weight changed by a hundredth of its layer's spread."""
    layers: Sequence[Layer] = (
        Convolution("c", "input", 32, (3, 3), (2, 2), (1, 1), activation="relu"),
        Convolution("d", "c", 32, (3, 3), (1, 1), (1, 1), 32),
        Convolution("s", "d", 32, (1, 1)),
        Dense("f", "s", 10),
    )
    network = Network((1, 16, 16), tuple(layers))
    tensors = random_tensors(network, np.random.default_rng(3))
    image = np.random.default_rng(4).normal(0, 1, network.input_shape).astype(np.float32)
    truth = PlainBackend(network, tensors, NORMALISATION).layer_outputs(image)[layer]
    weight = tensors[f"{layer}.weight"]
    weight.flat[0] += 0.01 * weight.std()
    got = CompiledBackend(network, tensors, NORMALISATION).layer_outputs(image)[layer]
    assert np.abs(got - truth).max() > 1e-5 * np.abs(truth).max()
