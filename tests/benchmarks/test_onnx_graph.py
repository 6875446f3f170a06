"""The ONNX model of a network, run by ONNX Runtime, against the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from npshapenet.network import INPUT, LAYER_TYPES, Activation, Add, Convolution, Dense, Network
from npshapenet.plain import PlainBackend
from npshapenet.weights import Normalisation

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from benchmarks.onnx_graph import IMAGE, PARAMETERS, make_onnx_model

Floats = NDArray[np.float32]

#: Of the largest output, between two backends in float32.
TOLERANCE = 2e-5


def run_onnx(network: Network, tensors: Mapping[str, Floats], image: Floats) -> Floats:
    model = make_onnx_model(network, tensors).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run([PARAMETERS], {IMAGE: image})
    return np.asarray(outputs)


def run_plain(network: Network, tensors: Mapping[str, Floats], image: Floats) -> Floats:
    return PlainBackend(network, tensors, Normalisation(1, 0)).run(image)


def largest_difference(found: Floats, expected: Floats) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture
def image(network: Network, rng: np.random.Generator) -> Floats:
    return rng.normal(size=(1, *network.input_shape)).astype(np.float32)


def test_all_layer_types(network: Network, tensors: Mapping[str, Floats], image: Floats) -> None:
    assert {type(layer) for layer in network.layers} == set(
        LAYER_TYPES.values()
    )  # none is left out
    found = run_onnx(network, tensors, image)
    assert largest_difference(found, run_plain(network, tensors, image)) <= TOLERANCE


def test_each_layer(network: Network, tensors: Mapping[str, Floats], image: Floats) -> None:
    """The network cut short after each layer, so that no later one hides what differs."""
    for count, layer in enumerate(network.layers, start=1):
        part = Network(network.input_shape, network.layers[:count])
        names = part.tensor_shapes()
        some = {name: tensor for name, tensor in tensors.items() if name in names}
        difference = largest_difference(run_onnx(part, some, image), run_plain(part, some, image))
        assert difference <= TOLERANCE, layer.name


@pytest.mark.parametrize("name", ["stem.weight", "depthwise.weight", "wide.bias", "hidden.weight"])
def test_a_changed_tensor_is_noticed(
    network: Network, tensors: Mapping[str, Floats], image: Floats, name: str
) -> None:
    changed = {**tensors, name: tensors[name] + np.float32(0.1)}
    found = run_onnx(network, changed, image)
    assert largest_difference(found, run_plain(network, tensors, image)) > TOLERANCE


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


def test_input_and_output(network: Network, tensors: Mapping[str, Floats]) -> None:
    graph = make_onnx_model(network, tensors).graph
    (image,), (parameters,) = graph.input, graph.output
    shapes = [
        [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (image, parameters)
    ]
    assert [image.name, parameters.name] == ["image", "parameters"]
    assert shapes == [[1, 1, 33, 33], [1, 10]]
