"""The NumPy backend against the definitions, written as loops in float64, and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npshapenet import plain
from npshapenet.image import network_input
from npshapenet.layers import Add, Convolution, Dense, GlobalAveragePool, GroupNorm, InstanceNorm
from npshapenet.network import Network
from npshapenet.plain import PlainBackend

#: float32 has 2^-24 of rounding per operation; sums of up to some hundred terms stay within this
#: share of the largest output.
TOLERANCE = 1e-5


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-6)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def convolution_by_loops(images, weight, bias, stride, padding, groups):
    """One output number at a time, the image's outside looked up as zero."""
    count, _, height, width = images.shape
    outputs, group_channels, rows, columns = weight.shape
    new_height = (height + 2 * padding[0] - rows) // stride[0] + 1
    new_width = (width + 2 * padding[1] - columns) // stride[1] + 1
    result = np.zeros((count, outputs, new_height, new_width))
    for n, o, y, x in np.ndindex(*result.shape):
        first = o // (outputs // groups) * group_channels
        total = float(bias[o])
        for c, i, j in np.ndindex(group_channels, rows, columns):
            row, column = y * stride[0] - padding[0] + i, x * stride[1] - padding[1] + j
            if 0 <= row < height and 0 <= column < width:
                total += float(images[n, first + c, row, column]) * float(weight[o, c, i, j])
        result[n, o, y, x] = total
    return result


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pairs,
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    groups=st.integers(1, 3),
    group_sizes=pairs,
    count=st.integers(0, 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_convolution(kernel, stride, padding, extra, groups, group_sizes, count, seed):
    rng = np.random.default_rng(seed)
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    height, width = (max(k - 2 * p, 1) + e for k, p, e in zip(kernel, padding, extra, strict=True))
    images = rng.normal(size=(count, groups * group_sizes[0], height, width))
    weight = rng.normal(size=(groups * group_sizes[1], group_sizes[0], *kernel))
    bias = rng.normal(size=len(weight))
    images, weight, bias = (array.astype(np.float32) for array in (images, weight, bias))
    expected = convolution_by_loops(images, weight, bias, stride, padding, groups)
    actual = plain.convolution(images, weight, bias, stride, padding, groups)
    if count:
        assert_close(actual, expected)
    assert actual.shape == expected.shape


def test_convolution_is_scipys_correlation(rng):
    signal = pytest.importorskip("scipy.signal")
    images = rng.normal(size=(1, 5, 20, 17)).astype(np.float32)
    weight = rng.normal(size=(3, 5, 3, 5)).astype(np.float32)
    expected = [
        signal.correlate(images[0].astype(float), kernel.astype(float), mode="valid")[0]
        for kernel in weight
    ]
    actual = plain.convolution(images, weight, np.zeros(3, np.float32))
    assert_close(actual[0], np.array(expected))


def test_depthwise_convolution_is_scipys_correlation(rng):
    signal = pytest.importorskip("scipy.signal")
    images = rng.normal(size=(2, 4, 11, 9)).astype(np.float32)
    weight = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    expected = [
        [
            signal.correlate2d(channel.astype(float), kernel.astype(float), "same")
            for channel, kernel in zip(image, weight[:, 0], strict=True)
        ]
        for image in images
    ]
    actual = plain.convolution(images, weight, np.zeros(4, np.float32), padding=(1, 1), groups=4)
    assert_close(actual, np.array(expected))


def test_a_wrong_weight_is_noticed(rng):
    """The tolerance is no blanket: a thousandth more on one weight fails."""
    images = rng.normal(size=(1, 8, 6, 6)).astype(np.float32)
    weight = rng.normal(size=(8, 8, 3, 3)).astype(np.float32)
    bias = np.zeros(8, np.float32)
    expected = convolution_by_loops(images, weight, bias, (1, 1), (1, 1), 1)
    weight[3, 4, 1, 1] += 1e-3
    with pytest.raises(AssertionError):
        assert_close(plain.convolution(images, weight, bias, padding=(1, 1)), expected)


@given(
    shape=st.tuples(*[st.integers(1, n) for n in (3, 4, 9, 9)]),
    offset=st.sampled_from([0, 1, 100]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_instance_norm(shape, offset, seed):
    images = np.random.default_rng(seed).normal(offset, size=shape).astype(np.float32)
    expected = np.empty(shape)
    for index in np.ndindex(*shape[:2]):
        values = [float(value) for value in images[index].ravel()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        expected[index] = (images[index] - mean) / math.sqrt(variance + 1e-5)
    # The mean's rounding, 2^-24 of the offset, counts in units of the deviation; with few
    # pixels that can be far smaller than 1, but not below the root of epsilon.
    tolerance = 1e-5 + offset * 2**-22 / math.sqrt(images.var(axis=(2, 3)).min() + 1e-5)
    assert_close(plain.instance_norm(images, 1e-5), expected, tolerance)


def test_instance_norm_of_a_constant_is_zero():
    assert (plain.instance_norm(np.full((1, 2, 4, 4), 0.5, np.float32), 1e-5) == 0).all()


@given(
    shape=st.tuples(*[st.integers(1, n) for n in (3, 3, 3, 6, 6)]),
    offset=st.sampled_from([0, 1]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_group_norm(shape, offset, seed):
    rng = np.random.default_rng(seed)
    count, groups, each, height, width = shape
    images = rng.normal(offset, size=(count, groups * each, height, width)).astype(np.float32)
    weight, bias = rng.normal(size=(2, groups * each)).astype(np.float32)
    expected = np.empty(images.shape)
    for image, group in np.ndindex(count, groups):
        channels = slice(group * each, (group + 1) * each)
        values = [float(value) for value in images[image, channels].ravel()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        expected[image, channels] = (images[image, channels] - mean) / math.sqrt(variance + 1e-5)
    expected = expected * weight[:, None, None] + bias[:, None, None]
    # As for the instance norm: the mean's rounding in units of a deviation that may be tiny.
    deviation = math.sqrt(images.reshape(count, groups, -1).var(axis=2).min() + 1e-5)
    actual = plain.group_norm(images, weight, bias, groups, 1e-5)
    assert_close(actual, expected, 1e-5 + 2**-22 / deviation)


def test_global_average_pool(rng):
    images = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
    expected = [[[[math.fsum(channel.ravel()) / 35]] for channel in image] for image in images]
    assert_close(plain.global_average_pool(images), np.array(expected))


def test_dense(rng):
    images = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    weight = rng.normal(size=(7, 60)).astype(np.float32)
    bias = rng.normal(size=7).astype(np.float32)
    expected = np.zeros((2, 7, 1, 1))
    for n, o in np.ndindex(2, 7):
        total = float(bias[o])
        for c, y, x in np.ndindex(3, 4, 5):
            total += float(images[n, c, y, x]) * float(weight[o, (c * 4 + y) * 5 + x])
        expected[n, o] = total
    assert_close(plain.dense(images, weight, bias), expected)


def test_activations():
    values = np.array([-100, -4, -3, -1.5, -0.25, 0, 0.25, 1, 3, 4, 100], np.float32)
    assert plain.activate(values, "none") is values
    np.testing.assert_array_equal(
        plain.activate(values, "relu"), [0, 0, 0, 0, 0, 0, 0.25, 1, 3, 4, 100]
    )
    by_definition = [x * min(max(x + 3.0, 0.0), 6.0) / 6.0 for x in values.tolist()]
    np.testing.assert_allclose(plain.activate(values, "hard_swish"), by_definition, rtol=1e-6)
    with pytest.raises(ValueError, match="gelu"):
        plain.activate(values, "gelu")


def activated_by_definition(x, activation):
    if activation == "relu":
        return np.where(x > 0, x, 0)
    return x * np.minimum(np.maximum(x + 3, 0), 6) / 6 if activation == "hard_swish" else x


def network_by_definition(network, tensors, image):
    """Every layer in float64, by the loops above."""
    values = {"input": image[None].astype(np.float64)}
    for layer in network.layers:
        x = values[layer.inputs[0]]
        match layer:
            case Convolution():
                weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
                y = convolution_by_loops(x, weight, bias, layer.stride, layer.padding, layer.groups)
            case Dense():
                weight = tensors[f"{layer.name}.weight"].astype(np.float64)
                y = (weight @ x.ravel() + tensors[f"{layer.name}.bias"])[None, :, None, None]
            case Add():
                y = x + values[layer.other]
            case InstanceNorm():
                centred = x - x.mean(axis=(2, 3), keepdims=True)
                y = centred / np.sqrt((centred**2).mean(axis=(2, 3), keepdims=True) + layer.epsilon)
            case GroupNorm():
                groups = x.reshape(1, layer.groups, -1)
                centred = groups - groups.mean(axis=2, keepdims=True)
                y = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + layer.epsilon)
                weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
                y = y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]
            case GlobalAveragePool():
                y = x.mean(axis=(2, 3), keepdims=True)
        values[layer.name] = activated_by_definition(y, getattr(layer, "activation", "none"))
    return {layer.name: values[layer.name][0] for layer in network.layers}


@pytest.fixture(scope="module")
def small():
    """Every layer type once, small enough for loops."""
    return Network(
        (1, 9, 9),
        (
            Convolution("stem", "input", 4, (3, 3), (2, 2), (1, 1), activation="hard_swish"),
            Convolution("depthwise", "stem", 4, (3, 3), padding=(1, 1), groups=4),
            Add("sum", "stem", "depthwise", activation="relu"),
            InstanceNorm("norm", "sum"),
            Convolution("grouped", "norm", 6, (1, 3), groups=2, activation="relu"),
            GroupNorm("group_norm", "grouped", 3),
            GlobalAveragePool("pool", "group_norm"),
            Dense("hidden", "pool", 8, activation="hard_swish"),
            Dense("head", "hidden", 5),
        ),
    )


def test_whole_network(small, make_tensors, weights, rng):
    tensors = make_tensors(small)
    backend = PlainBackend(small, tensors, weights.normalisation)
    images = rng.normal(size=(3, 1, 9, 9)).astype(np.float32)
    outputs = backend.run(images)
    assert backend.name == "numpy"
    assert outputs.shape == (3, 5)
    for image, output in zip(images, outputs, strict=True):
        expected = network_by_definition(small, tensors, image)
        layers = backend.layer_outputs(image)
        assert list(layers) == list(expected)
        for name, values in expected.items():
            assert layers[name].shape == small.shapes()[name]
            assert_close(layers[name], values)
        assert_close(output, expected["head"].ravel())


def test_outputs_of_crops(weights, rng):
    backend = PlainBackend(weights.network, weights.tensors, weights.normalisation)
    backend.warmup()
    crops = [
        rng.integers(0, 256, (40, 40), dtype=np.uint8),
        rng.random((20, 60), np.float32),
    ]
    images = np.stack([network_input(crop, 33, weights.normalisation) for crop in crops])
    np.testing.assert_array_equal(backend.outputs(crops), backend.run(images[:, None]))
    assert backend.outputs([]).shape == (0, 10)
    # A crop gives the same numbers alone and with others.
    np.testing.assert_array_equal(backend.outputs(crops[1:])[0], backend.outputs(crops)[1])


def test_unknown_layer():
    with pytest.raises(TypeError, match="no arithmetic"):
        plain.run_layer("attention", {}, np.zeros((1, 1, 2, 2), np.float32))
