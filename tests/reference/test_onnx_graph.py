"""The ONNX model of a network, run by ONNX Runtime, against the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from npshapenet.layers import Activation, Add, Convolution, Dense
from npshapenet.network import INPUT, Network
from npshapenet.plain import PlainBackend
from npshapenet.weights import Normalisation
from reference import fixtures

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime

from reference import onnx_graph

Floats = NDArray[np.float32]

#: Of the largest output, between two backends in float32.
TOLERANCE = 2e-5


def run_onnx(network: Network, tensors: Mapping[str, Floats], image: Floats) -> Floats:
    model = onnx_graph.make_network_model(network, tensors).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run([onnx_graph.PARAMETERS], {onnx_graph.IMAGE: image})
    return np.asarray(outputs)


def run_plain(network: Network, tensors: Mapping[str, Floats], image: Floats) -> Floats:
    return PlainBackend(network, tensors, Normalisation(1, 0)).run(image)


def largest_difference(found: Floats, expected: Floats) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture
def every_layer() -> Network:
    return fixtures.NETWORK


@pytest.fixture
def every_tensor() -> Mapping[str, Floats]:
    return fixtures.small_weights().tensors


@pytest.fixture
def image(every_layer: Network, rng: np.random.Generator) -> Floats:
    return rng.normal(size=(1, *every_layer.input_shape)).astype(np.float32)


def test_every_layer(
    every_layer: Network, every_tensor: Mapping[str, Floats], image: Floats
) -> None:
    """The network cut short after each layer, so that no later one hides what differs."""
    for count, layer in enumerate(every_layer.layers, start=1):
        part = Network(every_layer.input_shape, every_layer.layers[:count])
        tensors = {name: every_tensor[name] for name in part.tensor_shapes()}
        found, expected = run_onnx(part, tensors, image), run_plain(part, tensors, image)
        assert largest_difference(found, expected) <= TOLERANCE, layer.name


def test_a_changed_tensor_is_noticed(
    every_layer: Network, every_tensor: Mapping[str, Floats], image: Floats
) -> None:
    expected = run_plain(every_layer, every_tensor, image)
    # A norm takes off what is added before it, so the last convolutions' tensors and later ones.
    for name in ("large.weight", "large.bias", "group_norm.weight", "group_norm.bias", "head.bias"):
        changed = every_tensor[name].copy()
        changed.flat[0] += 0.5
        found = run_onnx(every_layer, {**every_tensor, name: changed}, image)
        assert largest_difference(found, expected) > TOLERANCE, name


@pytest.mark.parametrize("activation", ["none", "relu", "hard_swish"])
def test_activation_of_each_layer(
    rng: np.random.Generator,
    activation: Activation,
    make_tensors: Callable[[Network], dict[str, Floats]],
) -> None:
    network = Network(
        (2, 5, 7),
        (
            Convolution("convolution", INPUT, 2, (1, 1), activation=activation),
            Add("add", "convolution", INPUT, activation=activation),
            Dense("dense", "add", 3, activation=activation),
        ),
    )
    tensors = make_tensors(network)
    image = 4 * rng.normal(size=(1, 2, 5, 7)).astype(np.float32)
    found = run_onnx(network, tensors, image)
    assert largest_difference(found, run_plain(network, tensors, image)) <= TOLERANCE


def test_input_and_output(every_layer: Network, every_tensor: Mapping[str, Floats]) -> None:
    graph = onnx_graph.make_network_model(every_layer, every_tensor).graph
    (image,), (parameters,) = graph.input, graph.output
    shapes = [
        [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (image, parameters)
    ]
    assert [image.name, parameters.name] == ["image", "parameters"]
    assert shapes == [[1, 1, 17, 17], [1, 8]]
