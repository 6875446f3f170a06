"""A weights file's layer graph run by PyTorch: the other side of every parity check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from reference.networks.layers import fit_shape
from reference.networks.looks import sample_around
from reference.networks.maps import mean_places

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda values: values,
    "relu": functional.relu,
    "hard_swish": functional.hardswish,
}


def run_graph(
    graph: Mapping[str, Any], tensors: Mapping[str, Tensor], images: Tensor
) -> dict[str, Tensor]:
    """The output (N, C, H, W) of every layer, by name, for images (N, 1, H, W).

    ``graph`` is the JSON of ``npshapenet.network.to_json``. Precision and device are those of
    the tensors and images.
    """
    outputs = {"input": images}
    with torch.inference_mode():
        for layer in graph["layers"]:
            outputs[layer["name"]] = run_layer(layer, tensors, outputs)
    del outputs["input"]
    return outputs


def run_layer(
    layer: Mapping[str, Any], tensors: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> Tensor:
    """One layer's output (N, C, H, W), from the ``outputs`` by name that it reads."""
    name, source = layer["name"], outputs[layer["input"]]
    activate = ACTIVATIONS[layer.get("activation", "none")]
    if layer["type"] == "Convolution":
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return activate(
            functional.conv2d(
                source,
                weight,
                bias,
                stride=tuple(layer["stride"]),
                padding=tuple(layer["padding"]),
                groups=layer["groups"],
            )
        )
    if layer["type"] == "Dense":
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return activate(functional.linear(source.flatten(1), weight, bias))[:, :, None, None]
    if layer["type"] == "Add":
        return activate(source + outputs[layer["other"]])
    if layer["type"] == "InstanceNorm":
        return _normalise(source, layer["epsilon"])
    if layer["type"] == "GroupNorm":
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        count, _, _, width = source.shape
        groups = source.reshape(count, layer["groups"], -1, width)
        normalised = _normalise(groups, layer["epsilon"]).reshape(source.shape)
        return normalised * weight[:, None, None] + bias[:, None, None]
    if layer["type"] == "GlobalAveragePool":
        return source.mean(dim=(2, 3), keepdim=True)
    if layer["type"] == "Enlarge":
        return functional.interpolate(source, scale_factor=layer["factor"])
    if layer["type"] == "MeanPlaces":
        return mean_places(source).flatten(1)[:, :, None, None]
    if layer["type"] == "PointDepthwise":
        points = outputs[layer["other"]].reshape(len(source), -1, 2)
        around = sample_around(source, points, tensors[f"{name}.offsets"])
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return activate(
            functional.conv2d(around, weight[:, None, :, None], bias, groups=len(weight))
        )
    if layer["type"] == "ShapeFit":
        mean, weight = tensors[f"{name}.mean"], tensors[f"{name}.weight"]
        points = source.reshape(len(source), *mean.shape)
        return fit_shape(points, mean, weight)[:, :, None, None]
    if layer["type"] == "Join":
        return torch.cat([source, outputs[layer["other"]]], dim=1)
    raise ValueError(f"layer {name}: unknown type {layer['type']}")


def _normalise(groups: Tensor, epsilon: float) -> Tensor:
    """(N, G, H, W): each group less its mean, over its standard deviation.

    PyTorch's own norms refuse groups of one number, whose norm is 0.
    """
    variance, mean = torch.var_mean(groups, dim=(2, 3), correction=0, keepdim=True)
    return (groups - mean) / torch.sqrt(variance + epsilon)
