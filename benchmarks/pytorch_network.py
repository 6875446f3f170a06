"""A weights file's layer graph as a PyTorch module. Needs PyTorch and nothing of this project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """As nn.InstanceNorm2d, which refuses maps of one pixel."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, images: Tensor) -> Tensor:
        if images[0, 0].numel() == 1:
            return torch.zeros_like(images)
        return nn.functional.instance_norm(images, eps=self.epsilon)


class Sum(nn.Module):
    """The sum of two images."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class DenseLayer(nn.Module):
    """Images (N, C, H, W) → (N, O, 1, 1)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])

    def forward(self, images: Tensor) -> Tensor:
        product: Tensor = self.linear(images.flatten(1))
        return product[:, :, None, None]


class PyTorchNetwork(nn.Module):
    """Images (N, 1, H, W) → outputs (N, P).

    ``graph`` is the JSON of ``npshapenet.network.to_json``, ``tensors`` are those of the weights
    file.
    """

    def __init__(self, graph: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_make_layer(layer, tensors) for layer in graph["layers"])
        # Which outputs a layer reads, by their places; the image has place 0.
        places = {"input": 0}
        self.sources: list[tuple[int, ...]] = []
        for place, layer in enumerate(graph["layers"], start=1):
            names = [layer["input"], *([layer["other"]] if "other" in layer else [])]
            self.sources.append(tuple(places[name] for name in names))
            places[layer["name"]] = place
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        outputs = [images]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            outputs.append(layer(*[outputs[place] for place in sources]))
        return outputs[-1].flatten(1)


def _make_layer(layer: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    module = _make_linear_layer(layer, tensors)
    activation = layer.get("activation", "none")
    if activation == "relu":
        return _Activated(module, nn.ReLU(inplace=True))
    if activation == "hard_swish":
        return _Activated(module, nn.Hardswish(inplace=True))
    assert activation == "none", activation
    return module


class _Activated(nn.Module):
    def __init__(self, layer: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.activation = activation

    def forward(self, *images: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.layer(*images))
        return activated


def _make_linear_layer(layer: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    kind = layer["type"]
    if kind == "Add":
        return Sum()
    if kind == "InstanceNorm":
        return InstanceNorm(layer["epsilon"])
    if kind == "GlobalAveragePool":
        return nn.AdaptiveAvgPool2d(1)
    weight, bias = tensors[f"{layer['name']}.weight"], tensors[f"{layer['name']}.bias"]
    if kind == "Dense":
        module: nn.Module = DenseLayer(weight)
        holder: Any = module.linear
    elif kind == "Convolution":
        module = holder = nn.Conv2d(
            weight.shape[1] * layer["groups"],
            layer["out_channels"],
            tuple(layer["kernel"]),
            tuple(layer["stride"]),
            tuple(layer["padding"]),
            groups=layer["groups"],
        )
    else:
        raise ValueError(f"layer {layer['name']}: unknown type {kind}")
    holder.weight = nn.Parameter(weight)
    holder.bias = nn.Parameter(bias)
    return module
