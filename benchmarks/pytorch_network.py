"""A weights file's layer graph run by PyTorch. Needs PyTorch and nothing of this project, but for
maps and looks, whose functions are those of ``reference``.

Functions instead of modules, which took a fifth longer for a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[..., Tensor]


class PyTorchNetwork:
    """Images (N, 1, H, W) → outputs (N, P).

    ``graph`` is the JSON of ``npshapenet.network.to_json``, ``tensors`` are those of the weights
    file. Convolutions' weights are kept in the memory format; the images should come in it too.
    """

    def __init__(
        self,
        graph: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        tensors = {
            name: tensor.contiguous(memory_format=memory_format) if tensor.dim() == 4 else tensor
            for name, tensor in tensors.items()
        }
        # The outputs that a layer reads, by their places; the image has place 0.
        places = {"input": 0}
        reads = []
        for place, layer in enumerate(graph["layers"], start=1):
            names = [layer["input"], *([layer["other"]] if "other" in layer else [])]
            reads.append(tuple(places[name] for name in names))
            places[layer["name"]] = place
        # What no later layer reads is let go, so that its memory serves again.
        last_reads = {place: reader for reader, read in enumerate(reads) for place in read}
        done = [
            tuple(place for place, last in last_reads.items() if last == reader)
            for reader in range(len(reads))
        ]
        layers = [_make_layer(layer, tensors) for layer in graph["layers"]]
        self._layers = list(zip(layers, reads, done, strict=True))

    def __call__(self, images: Tensor) -> Tensor:
        outputs: list[Any] = [images]
        for layer, reads, done in self._layers:
            outputs.append(layer(*[outputs[place] for place in reads]))
            for place in done:
                outputs[place] = None
        flat: Tensor = outputs[-1].flatten(1)
        return flat


def _make_layer(layer: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Function:
    linear = _make_linear_layer(layer, tensors)
    activation = layer.get("activation", "none")
    if activation == "none":
        return linear
    activate = {"relu": functional.relu, "hard_swish": functional.hardswish}[activation]
    return lambda *images: activate(linear(*images), inplace=True)


def _make_linear_layer(layer: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Function:
    kind = layer["type"]
    if kind == "Add":
        return torch.add
    if kind == "InstanceNorm":
        return partial(_instance_norm, epsilon=layer["epsilon"])
    if kind == "GlobalAveragePool":
        return partial(functional.adaptive_avg_pool2d, output_size=1)
    if kind == "Enlarge":
        return partial(functional.interpolate, scale_factor=layer["factor"])
    if kind == "MeanPlaces":
        return _mean_places
    if kind == "Join":
        return lambda first, second: torch.cat([first, second], dim=1)
    if kind == "ShapeFit":
        mean, weight = (tensors[f"{layer['name']}.{tensor}"] for tensor in ("mean", "weight"))
        return partial(_shape_fit, mean=mean, weight=weight)
    weight, bias = tensors[f"{layer['name']}.weight"], tensors[f"{layer['name']}.bias"]
    if kind == "PointDepthwise":
        offsets = tensors[f"{layer['name']}.offsets"]
        kernel = weight[:, None, :, None]
        return partial(_point_depthwise, offsets=offsets, weight=kernel, bias=bias)
    if kind == "GroupNorm":
        groups, epsilon = layer["groups"], layer["epsilon"]
        return lambda images: functional.group_norm(images, groups, weight, bias, epsilon)
    if kind == "Dense":
        return lambda images: functional.linear(images.flatten(1), weight, bias)[:, :, None, None]
    if kind != "Convolution":
        raise ValueError(f"layer {layer['name']}: unknown type {kind}")
    return partial(
        functional.conv2d,
        weight=weight,
        bias=bias,
        stride=tuple(layer["stride"]),
        padding=tuple(layer["padding"]),
        groups=layer["groups"],
    )


def _mean_places(maps: Tensor) -> Tensor:
    from reference.networks.maps import mean_places

    return mean_places(maps).flatten(1)[:, :, None, None]


def _point_depthwise(
    images: Tensor, points: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    from reference.networks.looks import sample_around

    around = sample_around(images, points.reshape(len(points), -1, 2), offsets)
    return functional.conv2d(around, weight, bias, groups=len(weight))


def _shape_fit(points: Tensor, mean: Tensor, weight: Tensor) -> Tensor:
    from reference.networks.layers import fit_shape

    return fit_shape(points.reshape(len(points), *mean.shape), mean, weight)[:, :, None, None]


def _instance_norm(images: Tensor, epsilon: float) -> Tensor:
    if images[0, 0].numel() == 1:  # PyTorch's own refuses maps of one pixel, whose norm is 0
        return torch.zeros_like(images)
    return functional.instance_norm(images, eps=epsilon)
