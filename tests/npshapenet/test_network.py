"""The layer graph: shapes, costs, JSON, and graphs that are not well formed."""

from __future__ import annotations

import copy
import json
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npshapenet.layers import (
    Add,
    Convolution,
    Dense,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    NetworkError,
    PointDepthwise,
)
from npshapenet.network import Network, from_json, to_json

#: The extractor of the paper's code: out channels, kernel, stride, output side or sides, and
#: multiply-adds, as its authors' network reports them.
ORIGINAL = [
    (64, (7, 1), 1, (218, 224), 21_876_736),
    (64, (1, 7), 1, (218, 218), 1_362_608_128),
    (128, (7, 7), 2, (106, 106), 4_510_220_288),
    (128, (7, 1), 1, (100, 106), 1_215_692_800),
    (128, (1, 7), 1, (100, 100), 1_146_880_000),
    (256, (7, 7), 2, (47, 47), 3_546_841_088),
    (256, (5, 1), 1, (43, 47), 662_241_280),
    (256, (1, 5), 1, (43, 43), 605_880_320),
    (256, (5, 5), 2, (20, 20), 655_360_000),
    (256, (5, 1), 1, (16, 20), 104_857_600),
    (256, (1, 5), 1, (16, 16), 83_886_080),
    (128, (5, 5), 2, (6, 6), 29_491_200),
    (128, (3, 1), 1, (4, 6), 1_179_648),
    (128, (1, 3), 1, (4, 4), 786_432),
    (128, (3, 1), 1, (2, 4), 393_216),
    (128, (1, 3), 1, (2, 2), 196_608),
    (29, (2, 2), 1, (1, 1), 14_848),
]


def test_shapes_and_costs_of_the_original_network():
    layers = []
    for index, (channels, kernel, stride, _, _) in enumerate(ORIGINAL):
        source = f"conv_{index - 1}" if index else "input"
        layers.append(Convolution(f"conv_{index}", source, channels, kernel, (stride, stride)))
    network = Network((1, 224, 224), tuple(layers))
    for (layer, inputs), (channels, _, _, size, multiply_adds) in zip(
        network.with_input_shapes(), ORIGINAL, strict=True
    ):
        assert network.shapes()[layer.name] == (channels, *size)
        assert layer.multiply_adds(*inputs) == multiply_adds
    assert network.multiply_adds() == 13_948_406_272
    assert network.output_count == 29
    numbers = sum(math.prod(shape) for shape in network.tensor_shapes().values())
    assert numbers == 6_248_029


def test_small_network(network):
    assert network.shapes()["stem"] == (16, 17, 17)
    assert network.shapes()["wide"] == (12, 17, 9)
    assert network.shapes()["tall"] == (20, 7, 9)
    assert network.shapes()["strided"] == (20, 4, 5)
    assert network.shapes()["pool"] == (20, 1, 1)
    assert network.output_count == 10
    shapes = network.tensor_shapes()
    assert shapes["depthwise.weight"] == (24, 1, 3, 3)
    assert shapes["wide.weight"] == (12, 4, 1, 5)
    assert shapes["head.weight"] == (10, 18)
    assert "norm.weight" not in shapes


def test_json_and_pickle_round_trip(network):
    assert from_json(json.loads(json.dumps(to_json(network)))) == network
    assert pickle.loads(pickle.dumps(network)) == network


CONVOLUTION = Convolution("a", "input", 8, (3, 3))


@pytest.mark.parametrize(
    ("input_shape", "layers", "message"),
    [
        ((1, 8, 8), (), "1 to 1024 layers"),
        ((0, 8, 8), (CONVOLUTION,), "'input' would give"),
        ((1, 1 << 13, 1 << 13), (CONVOLUTION,), "'input' would give"),
        ((1, 8, 8), (CONVOLUTION, CONVOLUTION), "two layers are named 'a'"),
        ((1, 8, 8), (InstanceNorm("input", "input"),), "two layers are named 'input'"),
        ((1, 8, 8), (InstanceNorm("a", "b"), InstanceNorm("b", "a")), "reads 'b'"),
        ((1, 8, 8), (InstanceNorm("a", "a"),), "reads 'a'"),
        ((1, 8, 8), (InstanceNorm("", "input"),), "can't be named ''"),
        ((1, 8, 8), (InstanceNorm("a/../b", "input"),), "can't be named"),
        ((1, 8, 8), (InstanceNorm("a\n", "input"),), r"can't be named 'a\\n'"),
        ((1, 2, 8), (CONVOLUTION,), r"'a' would give an output of \(8, 0, 6\)"),
        ((1, 8, 8), (CONVOLUTION, Add("b", "input", "a")), "shapes differ"),
        ((3, 8, 8), (Convolution("a", "input", 8, (3, 3), groups=2),), "2 groups"),
        ((2, 8, 8), (Convolution("a", "input", 3, (3, 3), groups=2),), "2 groups"),
        ((2, 8, 8), (Convolution("a", "input", 2, (3, 3), groups=0),), "0 groups"),
        ((9, 8, 8), (GroupNorm("a", "input", 2),), "9 channels can't be divided into 2 groups"),
        ((9, 8, 8), (GroupNorm("a", "input", 0),), "into 0 groups"),
        ((1, 8, 8), (Convolution("a", "input", 2, (0, 3)),), r"kernel can't be \(0, 3\)"),
        ((1, 8, 8), (Convolution("a", "input", 2, (99, 99)),), "kernel can't be"),
        ((2, 8, 8), (PointDepthwise("a", "input", "input", 3),), "'a' reads points"),
        ((4, 1, 1), (PointDepthwise("a", "input", "input", 0),), "1 to 63 places, not 0"),
        ((4, 1, 1), (PointDepthwise("a", "input", "input", 64),), "1 to 63 places, not 64"),
        ((1, 8, 8), (Convolution("a", "input", 2, (3, 3), (0, 1)),), "stride can't be"),
        ((1, 8, 8), (Convolution("a", "input", 2, (3, 3), (1, 1), (3, 3)),), "padding"),
        ((1, 8, 8), (Convolution("a", "input", 2, (3, 3), (1, 1), (0, -1)),), "padding"),
        ((1, 8, 8), (Dense("a", "input", 0),), r"output of \(0, 1, 1\)"),
        ((1, 8, 8), (Dense("a", "input", 1 << 30),), "output of"),
        (
            (1, 1000, 1000),
            (
                Convolution("a", "input", 16, (63, 63), padding=(31, 31)),
                Convolution("b", "a", 16, (63, 63), padding=(31, 31)),
            ),
            "multiply-adds are too many",
        ),
    ],
)
def test_bad_graph(input_shape, layers, message):
    with pytest.raises(NetworkError, match=message):
        Network(input_shape, layers)


DELETED = object()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("input_shape",), DELETED, "input_shape must be 3"),
        (("input_shape",), [1, 33], "input_shape must be 3"),
        (("input_shape",), [1, 33, 33.0], "input_shape must be 3"),
        (("input_shape",), [True, 33, 33], "input_shape must be 3"),
        (("input_shape",), [1, 33, 10**30], "input_shape must be 3"),
        (("layers",), DELETED, "an object with input_shape and layers"),
        (("layers",), {}, "an object with input_shape and layers"),
        (("layers", 0), 5, "a layer must be an object"),
        (("layers", 0, "name"), 5, "a layer must be an object with a name"),
        (("layers", 0, "type"), "Attention", "'stem' has the unknown type 'Attention'; known are"),
        (("layers", 0, "type"), [], "unknown type"),
        (("layers", 0, "kernel"), DELETED, "'stem' must have"),
        (("layers", 0, "dilation"), [1, 1], "'stem' must have"),
        (("layers", 0, "kernel"), 3, "'stem': kernel must be 2 small whole numbers"),
        (("layers", 0, "kernel"), [3, -3], "'stem': kernel must be 2 small whole numbers"),
        (("layers", 0, "stride"), [0, 1], "stride can't be"),
        (("layers", 0, "out_channels"), 0, "out_channels can't be 0"),
        (("layers", 0, "out_channels"), 1e3, "out_channels can't be"),
        (("layers", 0, "out_channels"), True, "out_channels can't be"),
        (("layers", 0, "out_channels"), 10**30, "out_channels can't be"),
        (("layers", 0, "activation"), "gelu", "activation can't be 'gelu'"),
        (("layers", 0, "activation"), [], "activation can't be"),
        (("layers", 0, "input"), None, "input can't be None"),
        (("layers", 5, "epsilon"), 0.0, "'norm': epsilon can't be"),
        (("layers", 5, "epsilon"), "1e-5", "'norm': epsilon can't be"),
    ],
)
def test_bad_json(network, where, value, message):
    graph = copy.deepcopy(to_json(network))
    place = graph
    for key in where[:-1]:
        place = place[key]
    if value is DELETED:
        del place[where[-1]]
    else:
        place[where[-1]] = value
    with pytest.raises(NetworkError, match=message):
        from_json(graph)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(values)
@settings(max_examples=50, deadline=None)
def test_any_json_gives_one_error(value):
    with pytest.raises(NetworkError):
        from_json(value)


fields = st.sampled_from(
    ["name", "input", "out_channels", "kernel", "stride", "padding", "groups", "activation", "type"]
)


@given(fields, values | st.lists(st.integers(-1, 4), min_size=2, max_size=2) | st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_any_field_gives_a_network_or_one_error(field, value):
    layers = [
        {"type": "Convolution", "name": "a", "input": "input", "out_channels": 4, "kernel": [3, 3]},
        {"type": "GlobalAveragePool", "name": "b", "input": "a"},
    ]
    layers[0][field] = value
    message = ""
    try:
        network = from_json({"input_shape": [1, 9, 9], "layers": layers})
    except NetworkError as error:
        message = str(error)
    assert len(message) < 400
    if not message:
        assert network.shapes()["b"] == (network.shapes()["a"][0], 1, 1)


def test_pool_and_dense():
    network = Network((2, 5, 6), (GlobalAveragePool("pool", "input"), Dense("out", "pool", 3)))
    assert network.shapes() == {"input": (2, 5, 6), "pool": (2, 1, 1), "out": (3, 1, 1)}
    assert network.multiply_adds() == 6
