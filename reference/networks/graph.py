"""A trained network as the layer graph and tensors of a weights file, batch norm folded.

The graph is written as the JSON that ``npshapenet.network.from_json`` reads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from reference.networks.blocks import ConvolutionBlock, InvertedResidual, SeparableBlock
from reference.networks.compact import LOOK_SIZES, CompactExtractor
from reference.networks.layers import ShapeFitLayer
from reference.networks.looks import MOVE_SCALE, Look
from reference.networks.maps import MAP_SIZES, MapExtractor
from reference.networks.original import OriginalExtractor
from reference.networks.quality import QualityHead
from reference.networks.shapenet import ShapeNet

INPUT = "input"
Doubles = NDArray[np.float64]


class GraphError(ValueError):
    """A module that no layer of the weights file can stand for."""


@dataclass
class Graph:
    """Layers and their tensors, in float64 until they are stored."""

    layers: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Doubles] = field(default_factory=dict)

    def add(self, layer_type: str, name: str, source: str, **fields: Any) -> str:
        """Append a layer and return its name."""
        self.layers.append({"type": layer_type, "name": name, "input": source, **fields})
        return name

    def add_convolution(
        self,
        name: str,
        source: str,
        convolution: nn.Conv2d,
        activation: str,
        weight: Doubles,
        bias: Doubles,
    ) -> str:
        """Append a convolution with the sizes of a PyTorch one and tensors of its own."""
        if convolution.dilation != (1, 1) or convolution.padding_mode != "zeros":
            raise GraphError(f"layer {name}: only undilated convolutions padded with zeros")
        assert not isinstance(convolution.padding, str)
        self.tensors[f"{name}.weight"] = weight
        self.tensors[f"{name}.bias"] = bias
        return self.add(
            "Convolution",
            name,
            source,
            out_channels=convolution.out_channels,
            kernel=list(convolution.kernel_size),
            stride=list(convolution.stride),
            padding=list(convolution.padding),
            groups=convolution.groups,
            activation=activation,
        )


def describe(network: ShapeNet, side_px: int) -> tuple[dict[str, Any], dict[str, Doubles]]:
    """The graph as JSON and its tensors (float64) that give ``network.outputs``."""
    graph = Graph()
    last = emit(network.extractor, graph, "", INPUT)
    if network.shape_fit is not None:
        _add_shape_fit(graph, last, network.shape_fit, network.quality)
        return {"input_shape": [1, side_px, side_px], "layers": graph.layers}, graph.tensors
    scales, offsets = _doubles(network.parameter_scales), _doubles(network.parameter_offsets)
    weight, bias = graph.tensors[f"{last}.weight"], graph.tensors[f"{last}.bias"]
    graph.tensors[f"{last}.weight"] = weight * scales.reshape(-1, *[1] * (weight.ndim - 1))
    graph.tensors[f"{last}.bias"] = bias * scales + offsets
    if network.quality is not None:
        _join_quality(graph, network.quality)
    return {"input_shape": [1, side_px, side_px], "layers": graph.layers}, graph.tensors


@functools.singledispatch
def emit(module: nn.Module, graph: Graph, name: str, source: str) -> str:
    """Append the layers of a module that reads ``source``; return the name of its output."""
    raise GraphError(f"{type(module).__name__} has no layer in the weights file")


@emit.register
def _(module: ConvolutionBlock, graph: Graph, name: str, source: str) -> str:
    weight, bias = _with_norm(module.convolution, module.norm)
    activation = _activation_name(module.activation)
    return graph.add_convolution(name, source, module.convolution, activation, weight, bias)


@emit.register
def _(module: SeparableBlock, graph: Graph, name: str, source: str) -> str:
    deep = emit(module.depthwise, graph, f"{name}_depthwise", source)
    return emit(module.pointwise, graph, f"{name}_pointwise", deep)


@emit.register
def _(module: InvertedResidual, graph: Graph, name: str, source: str) -> str:
    wide = emit(module.widen, graph, f"{name}_widen", source)
    deep = emit(module.depthwise, graph, f"{name}_depthwise", wide)
    narrow = emit(module.narrow, graph, f"{name}_narrow", deep)
    if not module.has_residual:
        return narrow
    return graph.add("Add", f"{name}_add", narrow, other=source, activation="none")


@emit.register
def _(module: CompactExtractor, graph: Graph, name: str, source: str) -> str:
    stages = []
    for index, block in enumerate(module.blocks):
        source = emit(block, graph, f"block_{index + 1}", source)
        if index in module.blocks.stages:
            stages.append(source)
    if isinstance(module.wide, ConvolutionBlock):
        source = emit(module.wide, graph, "wide", source)
    source = emit(module.collapse, graph, "collapse", source)
    if isinstance(module.hidden, ConvolutionBlock):
        source = emit(module.hidden, graph, "hidden", source)
    points = emit(module.dense, graph, "dense", source)
    return _add_looks(graph, module.looks, stages[:-1][-LOOK_SIZES:], points)


@emit.register
def _(module: MapExtractor, graph: Graph, name: str, source: str) -> str:
    stages = []
    for index, block in enumerate(module.blocks):
        source = emit(block, graph, f"block_{index + 1}", source)
        if index in module.blocks.stages:
            stages.append(source)
    head = module.maps
    parts = list(zip(stages[-MAP_SIZES:], head.lateral, head.mixing, strict=True))
    above = ""
    for level, (stage, lateral, mixing) in reversed(list(enumerate(parts, start=1))):
        if above:
            # Before the convolution that it is added to, so that the two can be computed as one.
            above = graph.add("Enlarge", f"map_{level}_above", above, factor=2)
            beside = emit(lateral, graph, f"map_{level}_beside", stage)
            joined = graph.add("Add", f"map_{level}_sum", beside, other=above, activation="relu")
        else:
            joined = emit(lateral, graph, f"map_{level}_beside", stage)
            graph.layers[-1]["activation"] = "relu"
        above = emit(mixing, graph, f"map_{level}", joined)
    assert head.maps.bias is not None
    weight, bias = _doubles(head.maps.weight), _doubles(head.maps.bias)
    maps = graph.add_convolution("maps", above, head.maps, "none", weight, bias)
    points = graph.add("MeanPlaces", "places", maps)
    return _add_looks(graph, module.looks, [above, stages[-MAP_SIZES]], points)


def _add_looks(
    graph: Graph, looks: nn.ModuleList | None, features: Sequence[str], points: str
) -> str:
    """The looks, if any; each reads its features by themselves up to the sum in ``point``."""
    for number, look in enumerate(looks or (), start=1):
        assert isinstance(look, Look)
        points = _add_look(graph, f"look_{number}", look, features, points)
    return points


def _add_look(graph: Graph, name: str, look: Look, features: Sequence[str], points: str) -> str:
    patch_weight, patch_bias = _with_norm(look.patch.convolution, look.patch.norm)
    weight, bias = _with_norm(look.point.convolution, look.point.norm)
    ends = np.cumsum(look.feature_channels)
    seen = ""  # of each point, the parts so far
    for part, (source, end) in enumerate(zip(features, ends, strict=True), start=1):
        channels = slice(end - look.feature_channels[part - 1], end)
        count = int(end - channels.start)
        patch = graph.add(
            "PointDepthwise",
            f"{name}_patch_{part}",
            source,
            other=points,
            places=len(look.offsets),
            activation=_activation_name(look.patch.activation),
        )
        graph.tensors[f"{patch}.offsets"] = _doubles(look.offsets)
        graph.tensors[f"{patch}.weight"] = patch_weight[channels, 0, :, 0]
        graph.tensors[f"{patch}.bias"] = patch_bias[channels]
        point = nn.Conv2d(count, look.point.convolution.out_channels, 1)
        beside = graph.add_convolution(
            f"{name}_point_{part}",
            patch,
            point,
            "none",
            weight[:, channels],
            bias if part == 1 else np.zeros_like(bias),
        )
        if seen:
            name_of_sum = f"{name}_sum_{part}"
            beside = graph.add("Add", name_of_sum, beside, other=seen, activation="none")
        seen = beside
    graph.layers[-1]["activation"] = _activation_name(look.point.activation)
    narrow = emit(look.narrow, graph, f"{name}_narrow", seen)
    move = emit(look.move, graph, f"{name}_move", narrow)
    for tensor in ("weight", "bias"):
        graph.tensors[f"{move}.{tensor}"] = MOVE_SCALE * graph.tensors[f"{move}.{tensor}"]
    return graph.add("Add", name, move, other=points, activation="none")


@emit.register
def _(module: nn.Linear, graph: Graph, name: str, source: str) -> str:
    graph.tensors[f"{name}.weight"] = _doubles(module.weight)
    bias = np.zeros(module.out_features) if module.bias is None else _doubles(module.bias)
    graph.tensors[f"{name}.bias"] = bias
    return graph.add("Dense", name, source, out_features=module.out_features, activation="none")


@emit.register
def _(module: OriginalExtractor, graph: Graph, name: str, source: str) -> str:
    """Convolution, ReLU, norm; a batch norm is folded into the convolution that follows it.

    That is exact because none of these convolutions is padded.
    """
    stages = dict(module.stages.named_children())
    pending: nn.BatchNorm2d | None = None
    for stage, child in stages.items():
        if isinstance(child, nn.Conv2d):
            weight, bias = _behind_norm(child, pending)
            pending = None
            activation = "relu" if f"{stage}_relu" in stages else "none"
            source = graph.add_convolution(stage, source, child, activation, weight, bias)
        elif isinstance(child, nn.BatchNorm2d):
            pending = child
        elif isinstance(child, nn.InstanceNorm2d):
            source = graph.add("InstanceNorm", stage, source, epsilon=child.eps)
        elif isinstance(child, nn.GroupNorm):
            graph.tensors[f"{stage}.weight"] = _doubles(child.weight)
            graph.tensors[f"{stage}.bias"] = _doubles(child.bias)
            source = graph.add(
                "GroupNorm", stage, source, groups=child.num_groups, epsilon=child.eps
            )
        elif not isinstance(child, nn.ReLU):
            raise GraphError(f"{type(child).__name__} has no layer in the weights file")
    return source


def _add_shape_fit(
    graph: Graph, points: str, fit: ShapeFitLayer, quality: QualityHead | None
) -> None:
    """From points to parameters, and beside them the quality, if there is one."""
    graph.tensors["fit.mean"] = _doubles(fit.mean)
    graph.tensors["fit.weight"] = _doubles(fit.weight)
    graph.add("ShapeFit", "fit", points, scores=len(fit.weight))
    if quality is None:
        return
    layers = {layer["name"]: layer for layer in graph.layers}
    patches = [layer for layer in graph.layers if layer["type"] == "PointDepthwise"]
    last_patches = [layer["name"] for layer in patches if layer["other"] == patches[-1]["other"]]
    collapsed = "collapse"
    if collapsed not in layers:
        last_features = layers[f"map_{MAP_SIZES}_beside"]["input"]
        collapsed = graph.add("GlobalAveragePool", "pool", last_features)
    for patch in last_patches:
        read = graph.add("GlobalAveragePool", f"{patch}_mean", patch)
        collapsed = graph.add("Join", f"quality_reads_{patch}", collapsed, other=read)
    hidden = emit(quality.hidden, graph, "quality_hidden", collapsed)
    graph.layers[-1]["activation"] = "hard_swish"
    expected = emit(quality.dense, graph, "quality", hidden)
    graph.add("Join", "parameters", "fit", other=expected)


def _join_quality(graph: Graph, head: QualityHead) -> None:
    """Put the quality head beside the extractor's last two layers: more channels, one more row."""
    layers = {layer["name"]: layer for layer in graph.layers}
    if "hidden" not in layers or layers["hidden"]["activation"] != "hard_swish":
        raise GraphError("a quality needs end_channels, with hard_swish behind them")
    count, added = head.hidden.in_features, head.hidden.out_features
    _append(graph, "hidden", _doubles(head.hidden.weight).reshape(added, count, 1, 1), head.hidden)
    layers["hidden"]["out_channels"] += added
    weight = graph.tensors["dense.weight"]
    graph.tensors["dense.weight"] = np.pad(weight, ((0, 0), (0, added)))
    row = np.pad(_doubles(head.dense.weight), ((0, 0), (weight.shape[1], 0)))
    _append(graph, "dense", row, head.dense)
    layers["dense"]["out_features"] += 1


def _append(graph: Graph, name: str, weight: Doubles, source: nn.Linear) -> None:
    for tensor, values in (("weight", weight), ("bias", _doubles(source.bias))):
        key = f"{name}.{tensor}"
        graph.tensors[key] = np.concatenate([graph.tensors[key], values])


def _with_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Doubles, Doubles]:
    """The weight and bias of a convolution with the batch norm that follows it."""
    scale, shift = _scale_and_shift(norm)
    return _doubles(convolution.weight) * scale[:, None, None, None], shift


def _behind_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Doubles, Doubles]:
    """The weight and bias of an unpadded convolution with the batch norm before it."""
    assert convolution.bias is not None
    weight, bias = _doubles(convolution.weight), _doubles(convolution.bias)
    if norm is None:
        return weight, bias
    scale, shift = _scale_and_shift(norm)
    bias = bias + np.einsum("oihw,i->o", weight, shift)
    return weight * scale[None, :, None, None], bias


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Doubles, Doubles]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = _doubles(norm.weight) / np.sqrt(_doubles(norm.running_var) + norm.eps)
    return scale, _doubles(norm.bias) - _doubles(norm.running_mean) * scale


def _activation_name(module: nn.Module) -> str:
    names: dict[type[nn.Module], str] = {
        nn.Identity: "none",
        nn.ReLU: "relu",
        nn.Hardswish: "hard_swish",
    }
    return names[type(module)]


def _doubles(tensor: Tensor) -> Doubles:
    return tensor.detach().cpu().double().numpy()
