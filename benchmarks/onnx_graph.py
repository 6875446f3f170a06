"""A weights file's layer graph as an ONNX model, straight from the arrays: no PyTorch needed.

Input ``image`` (1, C, H, W) float32 as the network reads it, output ``parameters`` (1, P).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from npshapenet.network import (
    INPUT,
    Add,
    Convolution,
    Dense,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    Layer,
    Network,
    Shape,
)

IMAGE: Final = "image"
PARAMETERS: Final = "parameters"

#: The first operator set with HardSwish, and the file version of its time: every runtime has them.
OPSET: Final = 14
IR_VERSION: Final = 7

_ACTIVATIONS: Final = {"relu": "Relu", "hard_swish": "HardSwish"}

Floats = NDArray[np.float32]


def make_onnx_model(network: Network, tensors: Mapping[str, Floats]) -> onnx.ModelProto:
    """The network with its tensors, checked by onnx.checker."""
    graph = _Graph(tensors)
    for layer, shapes in network.with_input_shapes():
        graph.add_layer(layer, shapes)
    graph.node("Flatten", [network.layers[-1].name], PARAMETERS, axis=1)
    image = helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [1, *network.input_shape])
    parameters = helper.make_tensor_value_info(
        PARAMETERS, TensorProto.FLOAT, [1, network.output_count]
    )
    model = helper.make_model(
        helper.make_graph(graph.nodes, "npshapenet", [image], [parameters], graph.initialisers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="npshapenet",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants in the making. A layer's output has the layer's name."""

    def __init__(self, tensors: Mapping[str, Floats]) -> None:
        self.tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add_layer(self, layer: Layer, shapes: tuple[Shape, ...]) -> None:
        """The nodes of one layer; ``shapes`` are those that it reads."""
        inputs = [IMAGE if name == INPUT else name for name in layer.inputs]
        activation = _ACTIVATIONS.get(getattr(layer, "activation", "none"))
        output = f"{layer.name}/linear" if activation else layer.name
        if isinstance(layer, Convolution):
            self.node(
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
            self.node("Add", inputs, output)
        elif isinstance(layer, GlobalAveragePool):
            self.node("GlobalAveragePool", inputs, output)
        elif isinstance(layer, InstanceNorm):
            self._add_norm(layer.name, inputs[0], output, shapes[0][0], layer.epsilon)
        elif isinstance(layer, GroupNorm):
            self._add_group_norm(layer, inputs[0], shapes[0])
        else:
            raise TypeError(f"no ONNX operator for {layer}")
        if activation:
            self.node(activation, [output], layer.name)

    def _add_dense(self, layer: Dense, source: str, output: str) -> None:
        """(1, C, H, W) → (1, C·H·W) → (1, O) → (1, O, 1, 1), which later layers may read."""
        weight, bias = self._weight_and_bias(layer)
        flat, product = f"{layer.name}/flat", f"{layer.name}/product"
        self.node("Flatten", [source], flat, axis=1)
        self.node("Gemm", [flat, weight, bias], product, transB=1)
        shape = self.constant(f"{layer.name}/shape", np.array([1, -1, 1, 1], np.int64))
        self.node("Reshape", [product, shape], output)

    def _add_norm(self, name: str, source: str, output: str, count: int, epsilon: float) -> None:
        """Each of ``count`` channels less its mean, over its standard deviation."""
        scale = self.constant(f"{name}/one", np.ones(count, np.float32))
        shift = self.constant(f"{name}/zero", np.zeros(count, np.float32))
        self.node("InstanceNormalization", [source, scale, shift], output, epsilon=epsilon)

    def _add_group_norm(self, layer: GroupNorm, source: str, shape: Shape) -> None:
        """As PyTorch exports it: (1, C, H, W) → (1, G, C·H·W / G), normalised, and back."""
        name = layer.name
        weight, bias = (
            self.constant(f"{name}/{tensor}", self.tensors[f"{name}.{tensor}"][:, None, None])
            for tensor in ("weight", "bias")
        )
        groups = self.constant(f"{name}/groups", np.array([1, layer.groups, -1], np.int64))
        image = self.constant(f"{name}/image", np.array([1, *shape], np.int64))
        self.node("Reshape", [source, groups], f"{name}/grouped")
        self._add_norm(name, f"{name}/grouped", f"{name}/normal", layer.groups, layer.epsilon)
        self.node("Reshape", [f"{name}/normal", image], f"{name}/whole")
        self.node("Mul", [f"{name}/whole", weight], f"{name}/scaled")
        self.node("Add", [f"{name}/scaled", bias], name)

    def _weight_and_bias(self, layer: Layer) -> tuple[str, str]:
        names = f"{layer.name}.weight", f"{layer.name}.bias"
        for name in names:
            self.constant(name, self.tensors[name])
        return names
