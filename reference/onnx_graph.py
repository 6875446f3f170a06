"""A layer graph as the nodes of an ONNX graph, straight from the arrays: no PyTorch needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from npshapenet.layers import (
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
from npshapenet.network import INPUT, Network
from reference import onnx_places
from reference.onnx_nodes import Graph

IMAGE: Final = "image"
PARAMETERS: Final = "parameters"

_ACTIVATIONS: Final = {"relu": "Relu", "hard_swish": "HardSwish"}

Floats = NDArray[np.float32]


def make_network_model(network: Network, tensors: Mapping[str, Floats]) -> onnx.ModelProto:
    """The network alone, for one image: what benchmarks run.

    Input ``image`` (1, C, H, W) float32 as the network reads it, output ``parameters`` (1, P).
    """
    graph = Graph()
    add_network(graph, network, tensors, IMAGE, PARAMETERS)
    image = helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [1, *network.input_shape])
    parameters = helper.make_tensor_value_info(
        PARAMETERS, TensorProto.FLOAT, [1, network.output_count]
    )
    return graph.model([image], [parameters])


def add_network(
    graph: Graph, network: Network, tensors: Mapping[str, Floats], image: str, parameters: str
) -> None:
    """Nodes from the value ``image`` (N, C, H, W) to the value ``parameters`` (N, P)."""
    layers = _Layers(graph, tensors, image)
    for layer, shapes in network.with_input_shapes():
        layers.add(layer, shapes)
    graph.node("Flatten", [layers.value(network.layers[-1].name)], parameters, axis=1)


class _Layers:
    """The nodes of a network's layers."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Floats], image: str) -> None:
        self.graph = graph
        self.tensors = tensors
        self.image = image

    def value(self, name: str) -> str:
        """What the graph calls the output of a layer, or the network's input."""
        return self.image if name == INPUT else f"network/{name}"

    def add(self, layer: Layer, shapes: tuple[Shape, ...]) -> None:
        """The nodes of one layer; ``shapes`` are those that it reads."""
        inputs = [self.value(name) for name in layer.inputs]
        value = self.value(layer.name)
        activation = _ACTIVATIONS.get(getattr(layer, "activation", "none"))
        output = f"{value}/linear" if activation else value
        if isinstance(layer, Convolution):
            self.graph.node(
                "Conv",
                [*inputs, *self._weight_and_bias(layer)],
                output,
                kernel_shape=layer.kernel,
                strides=layer.stride,
                pads=layer.padding * 2,
                group=layer.groups,
            )
        elif isinstance(layer, Dense):
            self._add_dense(layer, inputs[0], output)
        elif isinstance(layer, Add):
            self.graph.node("Add", inputs, output)
        elif isinstance(layer, GlobalAveragePool):
            self.graph.node("GlobalAveragePool", inputs, output)
        elif isinstance(layer, InstanceNorm):
            self._add_norm(value, inputs[0], output, shapes[0][0], layer.epsilon)
        elif isinstance(layer, GroupNorm):
            self._add_group_norm(layer, inputs[0], shapes[0])
        elif isinstance(layer, Enlarge):
            self._add_enlarge(layer, inputs[0], output)
        elif isinstance(layer, MeanPlaces):
            _, height, width = shapes[0]
            onnx_places.add_mean_places(self.graph, inputs[0], output, height, width)
        elif isinstance(layer, PointDepthwise):
            source, points = inputs
            offsets, kernel, bias = (
                self.tensors[f"{layer.name}.{name}"] for name in ("offsets", "weight", "bias")
            )
            onnx_places.add_point_depthwise(
                self.graph, source, points, output, offsets, kernel, bias
            )
        elif isinstance(layer, ShapeFit):
            mean, weight = (self.tensors[f"{layer.name}.{name}"] for name in ("mean", "weight"))
            onnx_places.add_shape_fit(self.graph, inputs[0], output, mean, weight)
        elif isinstance(layer, Join):
            self.graph.node("Concat", inputs, output, axis=1)
        else:
            raise TypeError(f"no ONNX operator for {layer}")
        if activation:
            self.graph.node(activation, [output], value)

    def _add_dense(self, layer: Dense, source: str, output: str) -> None:
        """(N, C, H, W) → (N, C·H·W) → (N, O) → (N, O, 1, 1), which later layers may read."""
        graph, value = self.graph, self.value(layer.name)
        weight, bias = self._weight_and_bias(layer)
        flat = graph.node("Flatten", [source], f"{value}/flat", axis=1)
        product = graph.node("Gemm", [flat, weight, bias], f"{value}/product", transB=1)
        shape = graph.constant(f"{value}/shape", [0, -1, 1, 1], np.int64)
        graph.node("Reshape", [product, shape], output)

    def _add_norm(self, value: str, source: str, output: str, count: int, epsilon: float) -> None:
        """Each of ``count`` channels less its mean, over its standard deviation."""
        scale = self.graph.constant(f"{value}/one", np.ones(count))
        shift = self.graph.constant(f"{value}/zero", np.zeros(count))
        self.graph.node("InstanceNormalization", [source, scale, shift], output, epsilon=epsilon)

    def _add_group_norm(self, layer: GroupNorm, source: str, shape: Shape) -> None:
        """As PyTorch exports it: (N, C, H, W) → (N, G, C·H·W / G), normalised, and back."""
        graph, value = self.graph, self.value(layer.name)
        weight, bias = (
            graph.constant(
                f"{value}/{tensor}", self.tensors[f"{layer.name}.{tensor}"][:, None, None]
            )
            for tensor in ("weight", "bias")
        )
        # In a shape, 0 is what the axis was before: here as many images as come.
        groups = graph.constant(f"{value}/groups", [0, layer.groups, -1], np.int64)
        image = graph.constant(f"{value}/image", [0, *shape], np.int64)
        grouped = graph.node("Reshape", [source, groups], f"{value}/grouped")
        normal = f"{value}/normal"
        self._add_norm(value, grouped, normal, layer.groups, layer.epsilon)
        whole = graph.node("Reshape", [normal, image], f"{value}/whole")
        scaled = graph.node("Mul", [whole, weight], f"{value}/scaled")
        graph.node("Add", [scaled, bias], value)

    def _add_enlarge(self, layer: Enlarge, source: str, output: str) -> None:
        value = self.value(layer.name)
        scales = self.graph.constant(f"{value}/scales", [1, 1, layer.factor, layer.factor])
        self.graph.node(
            "Resize",
            [source, "", scales],
            output,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _weight_and_bias(self, layer: Layer) -> tuple[str, str]:
        value = self.value(layer.name)
        return (
            self.graph.constant(f"{value}/weight", self.tensors[f"{layer.name}.weight"]),
            self.graph.constant(f"{value}/bias", self.tensors[f"{layer.name}.bias"]),
        )
