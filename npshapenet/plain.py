"""The NumPy backend: every layer in the fewest clear lines.

It is the truth that the compiled backend is held against, and what runs where Numba doesn't.
Arrays are float32 (N, C, H, W): images, channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from npshapenet.image import network_input, rgb_to_gray
from npshapenet.layers import (
    Activation,
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
    ShapeFit,
)
from npshapenet.network import INPUT, Network
from npshapenet.shape import ShapeModel, split_outputs, with_landmarks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npshapenet.image import Gray
    from npshapenet.weights import Normalisation

    Floats = NDArray[np.float32]


_X_PLUS_IY: Final = np.array([1, 1j], np.complex64)
#: Points that are all in one place have no size, and nothing is divided by it.
_SIZE_MIN: Final = np.float32(1e-12)


def convolution(
    images: Floats,
    weight: Floats,
    bias: Floats,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Floats:
    """Cross-correlation: images (N, C, H, W), weight (O, C / groups, rows, columns), bias (O)
    → (N, O, H', W').

    The sum, over the places of the kernel, of the image moved there times the weights of that
    place, which form a matrix from input to output channels.
    """
    count, channels = images.shape[:2]
    outputs, _, *kernel = weight.shape
    images = np.pad(images, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    height, width = (
        (extent - reach) // step + 1
        for extent, reach, step in zip(images.shape[2:], kernel, stride, strict=True)
    )
    matrices = weight.reshape(groups, outputs // groups, channels // groups, *kernel)
    total = np.zeros((count, outputs, height, width), np.float32)
    for row, column in np.ndindex(*kernel):
        moved = images[
            :,
            :,
            row : row + stride[0] * (height - 1) + 1 : stride[0],
            column : column + stride[1] * (width - 1) + 1 : stride[1],
        ]
        if groups == channels == outputs:
            total += moved * weight[:, :, row, column, None]
        else:
            pixels = moved.reshape(count, groups, channels // groups, height * width)
            total += (matrices[..., row, column] @ pixels).reshape(total.shape)
    return total + bias[:, None, None]


def instance_norm(images: Floats, epsilon: float) -> Floats:
    """Each channel of each image less its mean, over the root of its variance plus epsilon."""
    mean = images.mean(axis=(2, 3), keepdims=True)
    variance = images.var(axis=(2, 3), keepdims=True)
    normalised: Floats = (images - mean) / np.sqrt(variance + np.float32(epsilon))
    return normalised


def group_norm(images: Floats, weight: Floats, bias: Floats, groups: int, epsilon: float) -> Floats:
    """Each group of channels of an image less its mean, over the root of its variance plus
    epsilon; then each channel times its weight (C), plus its bias (C).
    """
    count, channels, height, width = images.shape
    grouped = images.reshape(count, groups, channels // groups * height, width)
    normalised = instance_norm(grouped, epsilon).reshape(images.shape)
    return normalised * weight[:, None, None] + bias[:, None, None]


def global_average_pool(images: Floats) -> Floats:
    """(N, C, H, W) → (N, C, 1, 1), the mean of each channel."""
    mean: Floats = images.mean(axis=(2, 3), keepdims=True)
    return mean


def dense(images: Floats, weight: Floats, bias: Floats) -> Floats:
    """(N, C, H, W), weight (O, C·H·W), bias (O) → (N, O, 1, 1)."""
    flat = images.reshape(len(images), -1)
    return (flat @ weight.T + bias)[:, :, None, None]


def enlarge(images: Floats, factor: int) -> Floats:
    """(N, C, H, W) → (N, C, factor·H, factor·W), each value repeated."""
    return images.repeat(factor, axis=2).repeat(factor, axis=3)


def mean_places(images: Floats) -> Floats:
    """(N, C, H, W) → (N, 2·C, 1, 1): the mean x and y of each channel's softmax.

    In coordinates whose −1 and 1 are the outer edges of the image.
    """
    count, channels, height, width = images.shape
    shares = np.exp(images - images.max(axis=(2, 3), keepdims=True))
    shares /= shares.sum(axis=(2, 3), keepdims=True)
    x, y = (
        ((2 * np.arange(extent) + 1) / extent - 1).astype(np.float32) for extent in (width, height)
    )
    places = np.stack([shares.sum(axis=2) @ x, shares.sum(axis=3) @ y], axis=-1)
    return places.reshape(count, 2 * channels, 1, 1)


def point_depthwise(
    images: Floats, points: Floats, offsets: Floats, weight: Floats, bias: Floats
) -> Floats:
    """Images (N, C, H, W), points (N, 2·L, 1, 1), offsets (S, 2), weight (C, S), bias (C) →
    (N, C, 1, L).

    A depthwise convolution about the points; at a point + offset the image is read between the
    centres of four pixels.
    """
    count, channels, height, width = images.shape
    last = np.array([width - 1, height - 1], np.float32)
    wanted = points.reshape(count, -1, 1, 2) + offsets
    # fmax and fmin, unlike clip, take what is no number for the first pixel.
    places = np.fmin(np.fmax((wanted + 1) * ((last + 1) / 2) - np.float32(0.5), 0), last)
    first = np.minimum(places.astype(np.intp), np.maximum(last.astype(np.intp) - 1, 0))
    second = np.minimum(first + 1, last.astype(np.intp))
    shares = np.stack([1 - (places - first), places - first])
    output = np.broadcast_to(bias, (count, wanted.shape[1], channels)).copy()
    number = np.arange(count)[:, None, None]
    for x, x_share in zip((first[..., 0], second[..., 0]), shares[..., 0], strict=True):
        for y, y_share in zip((first[..., 1], second[..., 1]), shares[..., 1], strict=True):
            shares_of_pixels = (x_share * y_share)[..., None]
            output += np.sum(shares_of_pixels * images[number, :, y, x] * weight.T, axis=2)
    return output.transpose(0, 2, 1)[:, :, None]


def shape_fit(points: Floats, mean: Floats, weight: Floats) -> Floats:
    """Points (N, 2·L, 1, 1), mean (L, 2), weight (K, 2·L) → parameters (N, K + 4, 1, 1).

    A point is a complex number here, and a similarity the multiplication by one: its scale and
    angle are those of the factor.
    """
    targets = points.reshape(len(points), *mean.shape) @ _X_PLUS_IY
    means = mean @ _X_PLUS_IY
    centred = means - means.mean()
    factors = targets @ centred.conj() / np.maximum(np.sum(np.abs(centred) ** 2), _SIZE_MIN)
    translations = targets.mean(axis=1) - factors * means.mean()
    size = np.maximum(np.abs(factors) ** 2, _SIZE_MIN)
    taken_back = (targets - translations[:, None]) * (factors.conj() / size)[:, None]
    differences = np.stack([taken_back.real, taken_back.imag], axis=-1) - mean
    scores = differences.reshape(len(points), -1) @ weight.T
    similarities = np.abs(factors), np.angle(factors), translations.real, translations.imag
    return np.column_stack([scores, *similarities])[:, :, None, None]


def activate(images: Floats, activation: Activation) -> Floats:
    """The activation of every number: relu, or hard_swish, x · min(max(x + 3, 0), 6) / 6."""
    if activation == "relu":
        return np.maximum(images, 0)
    if activation == "hard_swish":
        return images * np.clip(images + 3, 0, 6) / np.float32(6)
    if activation == "none":
        return images
    raise ValueError(f"unknown activation {activation!r}")


def run_layer(layer: Layer, tensors: Mapping[str, Floats], *inputs: Floats) -> Floats:
    """The output (N, C, H, W) of a layer, from the outputs of the layers that it reads."""
    images = inputs[0]
    if isinstance(layer, Convolution):
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        output = convolution(images, weight, bias, layer.stride, layer.padding, layer.groups)
        return activate(output, layer.activation)
    if isinstance(layer, Dense):
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        return activate(dense(images, weight, bias), layer.activation)
    if isinstance(layer, Add):
        return activate(images + inputs[1], layer.activation)
    if isinstance(layer, InstanceNorm):
        return instance_norm(images, layer.epsilon)
    if isinstance(layer, GroupNorm):
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        return group_norm(images, weight, bias, layer.groups, layer.epsilon)
    if isinstance(layer, GlobalAveragePool):
        return global_average_pool(images)
    if isinstance(layer, Enlarge):
        return enlarge(images, layer.factor)
    if isinstance(layer, MeanPlaces):
        return mean_places(images)
    if isinstance(layer, PointDepthwise):
        offsets, weight, bias = (
            tensors[f"{layer.name}.{tensor}"] for tensor in ("offsets", "weight", "bias")
        )
        output = point_depthwise(images, inputs[1], offsets, weight, bias)
        return activate(output, layer.activation)
    if isinstance(layer, ShapeFit):
        return shape_fit(images, tensors[f"{layer.name}.mean"], tensors[f"{layer.name}.weight"])
    if isinstance(layer, Join):
        return np.concatenate(inputs, axis=1)
    raise TypeError(f"no arithmetic for {layer}")


class PlainBackend:
    """A network in NumPy; see ``npshapenet.model.Backend``. Threads may share it."""

    name: Final = "numpy"

    def __init__(
        self,
        network: Network,
        tensors: Mapping[str, Floats],
        normalisation: Normalisation,
        shape_model: ShapeModel | None = None,
    ) -> None:
        self.network = network
        self.tensors = tensors
        self.normalisation = normalisation
        self.shape_model = shape_model

    def warmup(self) -> None:
        """Nothing: the first call is as fast as the next."""

    def outputs(self, crops: Sequence[Gray]) -> Floats:
        side = self.network.input_shape[1]
        outputs = np.empty((len(crops), self.network.output_count), np.float32)
        for index, crop in enumerate(crops):
            image = network_input(crop, side, self.normalisation)
            outputs[index] = self.run(image[None, None])[0]
        return outputs

    def landmarks(self, crops: Sequence[Gray]) -> Floats:
        if self.shape_model is None:
            raise ValueError("landmarks need a shape model, and this backend was given none")
        parameters = split_outputs(self.outputs(crops), self.shape_model)
        return parameters.crop_landmarks([crop.shape for crop in crops])

    def outputs_and_landmarks(self, crops: Sequence[Gray]) -> Floats:
        if self.shape_model is None:
            raise ValueError("landmarks need a shape model, and this backend was given none")
        sizes = [crop.shape for crop in crops]
        return with_landmarks(self.outputs(crops), self.shape_model, sizes)

    def rgb_to_gray(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return rgb_to_gray(pixels)

    def run(self, images: Floats) -> Floats:
        outputs = np.empty((len(images), self.network.output_count), np.float32)
        last = self.network.layers[-1].name
        # One image at a time: its layers stay in the cache, and a batch gives what single calls do.
        for index, image in enumerate(images):
            outputs[index] = self.layer_outputs(image)[last].ravel()
        return outputs

    def layer_outputs(self, image: Floats) -> dict[str, Floats]:
        values = {INPUT: image[None]}
        for layer in self.network.layers:
            values[layer.name] = run_layer(
                layer, self.tensors, *(values[source] for source in layer.inputs)
            )
        return {layer.name: values[layer.name][0] for layer in self.network.layers}
