"""Each layer type against PyTorch in float64, over shapes, strides, paddings, groups, kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the stored fixtures stand in: test_fixtures.py")

from npshapenet.layers import (
    Add,
    Convolution,
    Dense,
    Enlarge,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    Join,
    MeanPlaces,
    PointDepthwise,
    ShapeFit,
)
from npshapenet.network import Network
from reference.parity import ParityError, check, layer_differences, torch_layers

ACTIVATIONS = st.sampled_from(["none", "relu", "hard_swish"])
#: The same examples in every run: a rare cancellation to next to nothing isn't met by chance.
EXAMPLES = settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def convolutions(draw, kind):
    """A network of one convolution; ``kind`` is dense, grouped, depthwise or pointwise."""
    channels = draw(st.integers(1, 40))
    out_channels = draw(st.integers(1, 40))
    groups = 1
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    if kind == "pointwise":
        kernel = (1, 1)
    elif kind == "depthwise":
        groups, out_channels = channels, channels * draw(st.sampled_from([1, 1, 1, 2, 3]))
        kernel = draw(st.sampled_from([kernel, (3, 3), (5, 5)]))
    elif kind == "grouped":
        groups = draw(st.integers(2, 5))
        channels, out_channels = groups * draw(st.integers(1, 8)), groups * draw(st.integers(1, 8))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, extent - 1)) for extent in kernel)
    size = tuple(
        max(1, extent - 2 * pad) + draw(st.integers(0, 16))
        for extent, pad in zip(kernel, padding, strict=True)
    )
    layer = Convolution(
        "convolution", "input", out_channels, kernel, stride, padding, groups, draw(ACTIVATIONS)
    )
    return Network((channels, *size), (layer,))


@st.composite
def shapes(draw, channels_max=40):
    return tuple(draw(st.integers(1, most)) for most in (channels_max, 20, 20))


@st.composite
def denses(draw):
    outputs = draw(st.integers(1, 150))
    return Network(draw(shapes(60)), (Dense("dense", "input", outputs, draw(ACTIVATIONS)),))


@st.composite
def adds(draw):
    """The input's halves can't be told apart, so what is added is a convolution of it."""
    shape = draw(shapes())
    return Network(
        shape,
        (
            Convolution("other", "input", shape[0], (1, 1)),
            Add("add", *draw(st.permutations(["input", "other"])), activation=draw(ACTIVATIONS)),
        ),
    )


@st.composite
def group_norms(draw):
    groups, each = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    _, height, width = draw(shapes())
    return Network((groups * each, height, width), (GroupNorm("norm", "input", groups),))


@st.composite
def point_depthwises(draw):
    """About points that a dense layer finds, some of them beyond the edges of the image."""
    points = Dense("points", "input", 2 * draw(st.integers(1, 70)))
    places, activation = draw(st.integers(1, 9)), draw(ACTIVATIONS)
    kernel = PointDepthwise("kernel", "input", "points", places, activation)
    return Network(draw(shapes()), (points, kernel))


@st.composite
def joins(draw):
    """Of the input and a convolution of it, in either order."""
    other = Convolution("other", "input", draw(st.integers(1, 40)), (1, 1))
    names = draw(st.permutations(["input", "other"]))
    return Network(draw(shapes()), (other, Join("join", *names)))


LAYERS = {
    "convolution": convolutions("dense"),
    "grouped convolution": convolutions("grouped"),
    "depthwise convolution": convolutions("depthwise"),
    "pointwise convolution": convolutions("pointwise"),
    "dense layer": denses(),
    "add": adds(),
    "instance norm": st.builds(
        lambda shape: Network(shape, (InstanceNorm("norm", "input"),)), shapes()
    ),
    "group norm": group_norms(),
    "enlarge": st.builds(
        lambda shape, factor: Network(shape, (Enlarge("enlarge", "input", factor),)),
        shapes(),
        st.integers(1, 4),
    ),
    "mean places": st.builds(
        lambda shape: Network(shape, (MeanPlaces("places", "input"),)), shapes()
    ),
    "shape fit": st.builds(
        lambda points, scores: Network((2 * points, 1, 1), (ShapeFit("fit", "input", scores),)),
        st.integers(3, 80),
        st.integers(1, 110),
    ),
    "point depthwise": point_depthwises(),
    "join": joins(),
    "average pool": st.builds(
        lambda shape: Network(shape, (GlobalAveragePool("pool", "input"),)), shapes()
    ),
}


def random_numbers(network, seed):
    """Tensors and an image (C, H, W); each channel about a level of its own.

    Channels of norms have their numbers spread evenly, as the difference of two that are nearly
    the same has few digits left.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in network.tensor_shapes().items():
        inputs = np.prod(shape[1:]) if len(shape) > 1 else 1
        tensors[name] = rng.normal(scale=1 / np.sqrt(inputs), size=shape).astype(np.float32)
    levels = rng.normal(size=(network.input_shape[0], 1, 1))
    image = rng.normal(size=network.input_shape)
    if isinstance(network.layers[0], InstanceNorm | GroupNorm):
        channels, height, width = network.input_shape
        spread = np.tile(np.linspace(-1, 1, height * width), (channels, 1))
        image = rng.permuted(spread, axis=1).reshape(network.input_shape)
    if isinstance(network.layers[0], ShapeFit):
        return tensors, points_like(tensors["fit.mean"], rng)
    return tensors, (image + levels).astype(np.float32)


def points_like(mean, rng):
    """A shape (L, 2), turned, scaled, moved and shaken, as (2·L, 1, 1)."""
    factor = rng.uniform(0.3, 3) * np.exp(1j * rng.uniform(-3, 3))
    points = factor * (mean @ [1, 1j]) + complex(*rng.normal(size=2))
    shaken = np.stack([points.real, points.imag], axis=-1)
    shaken += rng.normal(scale=0.1 * abs(factor) * mean.std(), size=mean.shape)
    return shaken.reshape(-1, 1, 1).astype(np.float32)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_give_what_pytorch_gives(kind, backend_name, make_backend, hold):
    @EXAMPLES
    @given(network=LAYERS[kind], seed=st.integers(0, 2**32 - 1))
    def test(network, seed):
        tensors, image = random_numbers(network, seed)
        ours = make_backend(network, tensors).layer_outputs(image)
        theirs = torch_layers(network, tensors, image, ours)
        found = layer_differences(network, ours, theirs)
        hold("layers by hypothesis", backend_name, [renamed(item, kind) for item in found])

    test()


def renamed(item, kind):
    name = "pointwise convolution" if item.name == "other" else kind
    return type(item)(name, item.kind, item.largest, item.scale, item.tolerance)


@pytest.mark.parametrize(
    ("kernel", "shape", "groups"),
    [
        ((7, 7), (64, 12, 12), 1),
        ((1, 7), (300, 5, 12), 1),
        ((1, 1), (2100, 4, 4), 1),
        ((5, 5), (512, 6, 6), 4),
    ],
)
def test_long_sums(kernel, shape, groups, backend_name, make_backend, hold):
    """More than 2048 products, as the original's 7×7 layers have."""
    network = Network(
        shape, (Convolution("long_sum", "input", 24, kernel, groups=groups, activation="relu"),)
    )
    tensors, image = random_numbers(network, 0)
    ours = make_backend(network, tensors).layer_outputs(image)
    theirs = torch_layers(network, tensors, image, ours)
    found = layer_differences(network, ours, theirs)
    assert found[0].tolerance == 3e-5
    hold("layers by hypothesis", backend_name, [renamed(found[0], "long sum")])


@pytest.mark.parametrize("channels", [1, 7, 16])
@pytest.mark.parametrize("activation", ["none", "relu", "hard_swish"])
def test_activations_at_their_corners(activation, channels, make_backend):
    """At and about −3, 0 and 3, and far beyond: by a convolution that changes nothing."""
    corners = np.array([-1e6, -3.5, -3, -2.999, -1, -1e-3, -0.0, 0, 1e-3, 1, 2.999, 3, 3.5, 1e6])
    image = np.resize(corners, (channels, 3, 14)).astype(np.float32)
    network = Network(
        image.shape,
        (Convolution("same", "input", channels, (1, 1), groups=channels, activation=activation),),
    )
    tensors = {
        "same.weight": np.ones((channels, 1, 1, 1), np.float32),
        "same.bias": np.zeros(channels, np.float32),
    }
    ours = make_backend(network, tensors).layer_outputs(image)
    theirs = torch_layers(network, tensors, image, ours)
    # Each number against its own size, as the largest is a million.
    np.testing.assert_allclose(ours["same"], theirs["same"], rtol=1e-6, atol=1e-6)
    check(layer_differences(network, ours, theirs))


@pytest.mark.parametrize("norm", [InstanceNorm("norm", "input"), GroupNorm("norm", "input", 2)])
@pytest.mark.parametrize("level", [0.0, 0.5, 0.3])
def test_norms_of_constant_images(norm, level, make_backend):
    """The difference from the mean is nothing, up to a rounding over the root of epsilon."""
    network = Network((4, 9, 7), (norm,))
    tensors = {
        name: np.full(shape, 0.25 if name.endswith("bias") else 1, np.float32)
        for name, shape in network.tensor_shapes().items()
    }
    image = np.full((4, 9, 7), level, np.float32)
    ours = make_backend(network, tensors).layer_outputs(image)["norm"]
    theirs = torch_layers(network, tensors, image, {"norm": ours})["norm"]
    # Some roundings of the mean, divided by √1e-5.
    tolerance = 8 * np.finfo(np.float32).eps * level / np.sqrt(1e-5) + 1e-7
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


WITH_WEIGHTS = [
    kind
    for kind in LAYERS
    if kind not in ("instance norm", "average pool", "enlarge", "mean places")
]


@pytest.mark.parametrize("kind", WITH_WEIGHTS)
def test_perturbing_one_weight_is_found(kind, make_backend):
    """One number of one tensor is off: the check fails wherever PyTorch says that it matters.

    It doesn't behind a ReLU that stays shut, or where a kernel meets nothing but padding.
    """
    outcomes = []

    @settings(EXAMPLES, max_examples=15)
    @given(network=LAYERS[kind], seed=st.integers(0, 2**32 - 1))
    def test(network, seed):
        tensors, image = random_numbers(network, seed)
        rng = np.random.default_rng(seed)
        for name, tensor in tensors.items():
            wrong = tensor.copy()
            wrong[tuple(rng.integers(extent) for extent in tensor.shape)] += 0.5
            ours = make_backend(network, {**tensors, name: wrong}).layer_outputs(image)
            theirs = torch_layers(network, tensors, image, ours)
            theirs_wrong = torch_layers(network, {**tensors, name: wrong}, image, ours)
            effect = max(d.share for d in layer_differences(network, theirs_wrong, theirs))
            outcomes.append(effect > 1e-3)
            if outcomes[-1]:
                with pytest.raises(ParityError, match=name.split(".")[0]):
                    check(layer_differences(network, ours, theirs))

    test()
    assert np.mean(outcomes) > 0.5
