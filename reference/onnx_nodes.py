"""Nodes and constants of an ONNX graph in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: The first operator set with GridSample, and the file version of its time: every runtime has them.
OPSET: Final = 16
IR_VERSION: Final = 8


class Graph:
    """Nodes and constants in the making.

    What is named with a slash belongs to a layer of the network or to a step of its own; layers'
    names have none, so that no two can be the same.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Append a node, named as its first output, which is returned."""
        self._nodes.append(
            helper.make_node(operator, list(inputs), list(outputs), outputs[0], **attributes)
        )
        return outputs[0]

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """Append a constant and return its name."""
        array = np.ascontiguousarray(values, dtype).reshape(np.shape(values))
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The nodes as a whole model, checked by onnx.checker."""
        graph = helper.make_graph(
            self._nodes, "npshapenet", list(inputs), list(outputs), self._constants
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="npshapenet",
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        return model
