"""The layer graph of a network as data: one frozen dataclass per layer type.

Sizes are written (C, H, W): channels, rows, columns. A network reads one image named
``"input"``; each layer reads the output of an earlier layer by its name, and the output of
the last layer is the output of the network. The arithmetic lives in the backends: a layer
here only knows its shapes, its tensors and what it costs.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

Shape = tuple[int, int, int]
Activation = Literal["none", "relu", "hard_swish"]

INPUT: Final = "input"

#: Bounds that no honest network comes near, so that a hostile weights file can't ask for more.
LAYERS_MAX: Final = 1024
ELEMENTS_MAX: Final = 1 << 24
KERNEL_MAX: Final = 63
MULTIPLY_ADDS_MAX: Final = 1 << 37

# Compiled at the first use, not at import.
_LAYER_NAME: Final = r"[A-Za-z0-9._-]{1,100}"


class NetworkError(ValueError):
    """A layer graph that is not well formed; the message names the layer."""


@dataclass(frozen=True)
class Convolution:
    """Cross-correlation with zero padding, bias and activation, as PyTorch's Conv2d.

    Tensors: ``weight`` (out_channels, C / groups, rows, columns) and ``bias`` (out_channels).
    ``padding`` is the number of rows and of columns of zeros on each side.
    """

    name: str
    input: str
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    activation: Activation = "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """(C, H, W) → (out_channels, H', W'); NetworkError if nothing is left of the image."""
        ((channels, *size),) = input_shapes
        if self.groups < 1 or channels % self.groups or self.out_channels % self.groups:
            raise NetworkError(
                f"layer {self.name!r}: {channels} input and {self.out_channels} output channels "
                f"can't be divided into {self.groups} groups"
            )
        if not all(1 <= kernel <= KERNEL_MAX for kernel in self.kernel):
            raise NetworkError(f"layer {self.name!r}: a kernel can't be {self.kernel}")
        # More padding than kernel would give outputs that see no pixel.
        if not all(0 <= p < kernel for p, kernel in zip(self.padding, self.kernel, strict=True)):
            raise NetworkError(
                f"layer {self.name!r}: padding {self.padding} for a kernel of {self.kernel}"
            )
        if min(self.stride) < 1:
            raise NetworkError(f"layer {self.name!r}: a stride can't be {self.stride}")
        height, width = (
            (extent + 2 * padding - kernel) // stride + 1
            for extent, kernel, stride, padding in zip(
                size, self.kernel, self.stride, self.padding, strict=True
            )
        )
        return self.out_channels, height, width

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        ((channels, _, _),) = input_shapes
        return {
            "weight": (self.out_channels, channels // self.groups, *self.kernel),
            "bias": (self.out_channels,),
        }

    def multiply_adds(self, *input_shapes: Shape) -> int:
        weight = self.tensor_shapes(*input_shapes)["weight"]
        _, height, width = self.output_shape(*input_shapes)
        return math.prod(weight) * height * width


@dataclass(frozen=True)
class InstanceNorm:
    """Each channel of each image less its mean, over its standard deviation; no weights.

    The variance is the biased one, ``epsilon`` is added to it before the root (PyTorch's
    InstanceNorm2d without affine parameters and running statistics).
    """

    name: str
    input: str
    epsilon: float = 1e-5

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        (shape,) = input_shapes
        return shape

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        return {}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        return 0


@dataclass(frozen=True)
class GroupNorm:
    """Each of ``groups`` runs of neighbouring channels less its mean, over its standard
    deviation; then each channel times its weight, plus its bias.

    Tensors: ``weight`` (C) and ``bias`` (C). The variance is the biased one, ``epsilon`` is added
    to it before the root (PyTorch's GroupNorm).
    """

    name: str
    input: str
    groups: int
    epsilon: float = 1e-5

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        (shape,) = input_shapes
        if self.groups < 1 or shape[0] % self.groups:
            raise NetworkError(
                f"layer {self.name!r}: {shape[0]} channels can't be divided into "
                f"{self.groups} groups"
            )
        return shape

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        ((channels, _, _),) = input_shapes
        return {"weight": (channels,), "bias": (channels,)}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Add:
    """The sum of two earlier outputs of one shape, then the activation: a residual."""

    name: str
    input: str
    other: str
    activation: Activation = "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        first, second = input_shapes
        if first != second:
            raise NetworkError(f"layer {self.name!r} adds {first} to {second}: shapes differ")
        return first

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        return {}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        return 0


@dataclass(frozen=True)
class GlobalAveragePool:
    """The mean of each channel: (C, H, W) → (C, 1, 1)."""

    name: str
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        ((channels, _, _),) = input_shapes
        return channels, 1, 1

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        return {}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Dense:
    """A matrix product with all C·H·W inputs in that order, bias and activation.

    Tensors: ``weight`` (out_features, C·H·W) and ``bias`` (out_features). The output is
    (out_features, 1, 1).
    """

    name: str
    input: str
    out_features: int
    activation: Activation = "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        return self.out_features, 1, 1

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        (shape,) = input_shapes
        return {
            "weight": (self.out_features, math.prod(shape)),
            "bias": (self.out_features,),
        }

    def multiply_adds(self, *input_shapes: Shape) -> int:
        (shape,) = input_shapes
        return self.out_features * math.prod(shape)


@dataclass(frozen=True)
class Enlarge:
    """Each value repeated in ``factor`` rows and columns: (C, H, W) → (C, factor·H, factor·W)."""

    name: str
    input: str
    factor: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        ((channels, height, width),) = input_shapes
        return channels, self.factor * height, self.factor * width

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        return {}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        return 0


@dataclass(frozen=True)
class MeanPlaces:
    """Where in each channel the softmax of its values lies in the mean: (C, H, W) → (2·C, 1, 1).

    x before y, channel after channel, in coordinates whose −1 and 1 are the outer edges of the
    image (Nibali et al., arXiv 1801.07372, section 3).
    """

    name: str
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        ((channels, _, _),) = input_shapes
        return 2 * channels, 1, 1

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        return {}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        (shape,) = input_shapes
        return math.prod(shape)  # by the place in its row; the rows' sums are few


@dataclass(frozen=True)
class PointDepthwise:
    """A depthwise convolution about L points, wherever they are: (C, H, W) and points (2·L, 1, 1),
    x before y, → (C, 1, L).

    Tensors: ``offsets`` (places, 2), the places of the kernel about a point, x before y; ``weight``
    (C, places), ``bias`` (C). Points and offsets are in coordinates whose −1 and 1 are the outer
    edges of the image, which is read between its pixels: each of the four nearest counts by how
    near its centre is, and beyond the outermost centres there is more of the same (PyTorch's
    grid_sample with border padding). After Dai et al., Deformable Convolutional Networks, arXiv
    1703.06211, section 2.1.
    """

    name: str
    input: str
    other: str  # the points
    places: int
    activation: Activation = "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        (channels, _, _), points = input_shapes
        if points[0] % 2 or points[1:] != (1, 1):
            raise NetworkError(f"layer {self.name!r} reads points (2·L, 1, 1), not {points}")
        if not 1 <= self.places <= KERNEL_MAX:
            raise NetworkError(
                f"layer {self.name!r}: a kernel has 1 to {KERNEL_MAX} places, not {self.places}"
            )
        return channels, 1, points[0] // 2

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        channels = input_shapes[0][0]
        return {
            "offsets": (self.places, 2),
            "weight": (channels, self.places),
            "bias": (channels,),
        }

    def multiply_adds(self, *input_shapes: Shape) -> int:
        # Four to read between pixels, one to weigh what is read.
        return 5 * self.places * math.prod(self.output_shape(*input_shapes))


@dataclass(frozen=True)
class ShapeFit:
    """Points (2·L, 1, 1), x before y → the parameters (K + 4, 1, 1) of a shape near to them.

    Tensors: ``mean`` (L, 2), the mean shape, and ``weight`` (K, 2·L). First the similarity that
    takes the mean onto the points, by least squares; then the scores, ``weight`` times what the
    points, taken back, differ from the mean by. The output is K scores, scale, angle in radians,
    translation x and y.
    """

    name: str
    input: str
    scores: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        (shape,) = input_shapes
        if shape[0] % 2 or shape[0] < 4 or shape[1:] != (1, 1):
            raise NetworkError(
                f"layer {self.name!r} fits a shape to points (2·L, 1, 1), two and more, not {shape}"
            )
        return self.scores + 4, 1, 1

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        ((coordinates, _, _),) = input_shapes
        return {"mean": (coordinates // 2, 2), "weight": (self.scores, coordinates)}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        ((coordinates, _, _),) = input_shapes
        return (self.scores + 4) * coordinates


@dataclass(frozen=True)
class Join:
    """The channels of two images of one size, one after the other."""

    name: str
    input: str
    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        first, second = input_shapes
        if first[1:] != second[1:]:
            raise NetworkError(f"layer {self.name!r} joins {first} and {second}: sizes differ")
        return first[0] + second[0], *first[1:]

    def tensor_shapes(self, *input_shapes: Shape) -> dict[str, tuple[int, ...]]:
        return {}

    def multiply_adds(self, *input_shapes: Shape) -> int:
        return 0


Layer = (
    Convolution
    | InstanceNorm
    | GroupNorm
    | Add
    | GlobalAveragePool
    | Dense
    | Enlarge
    | MeanPlaces
    | PointDepthwise
    | ShapeFit
    | Join
)
LAYER_TYPES: dict[str, type[Layer]] = {layer.__name__: layer for layer in get_args(Layer)}


@dataclass(frozen=True)
class Network:
    """An input shape (C, H, W) and the layers in the order in which they run.

    Checked when made: NetworkError names the first layer that repeats a name, reads what no
    earlier layer gives, or has sizes that are not positive or beyond all reason.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= LAYERS_MAX:
            raise NetworkError(f"a network has 1 to {LAYERS_MAX} layers, not {len(self.layers)}")
        if self.multiply_adds() > MULTIPLY_ADDS_MAX:
            raise NetworkError(f"{self.multiply_adds():.0e} multiply-adds are too many")

    def shapes(self) -> Mapping[str, Shape]:
        """The output shape (C, H, W) of the input and of each layer, by name."""
        return MappingProxyType(self._shapes)

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        shapes = {INPUT: _checked_shape(INPUT, self.input_shape)}
        for layer in self.layers:
            if not re.fullmatch(_LAYER_NAME, layer.name):
                raise NetworkError(
                    f"a layer can't be named {_short(layer.name)}; accepted: up to 100 letters, "
                    "digits, dots, underlines and hyphens"
                )
            if layer.name in shapes:
                raise NetworkError(f"two layers are named {layer.name!r}")
            for source in layer.inputs:
                if source not in shapes:
                    raise NetworkError(
                        f"layer {layer.name!r} reads {source!r}, which no earlier layer gives"
                    )
            output = layer.output_shape(*(shapes[source] for source in layer.inputs))
            shapes[layer.name] = _checked_shape(layer.name, output)
        return shapes

    def with_input_shapes(self) -> Iterator[tuple[Layer, tuple[Shape, ...]]]:
        """Each layer with the shapes that it reads, in running order."""
        shapes = self._shapes
        for layer in self.layers:
            yield layer, tuple(shapes[source] for source in layer.inputs)

    @property
    def output_count(self) -> int:
        """How many numbers the last layer gives."""
        return math.prod(self._shapes[self.layers[-1].name])

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, named ``<layer>.<tensor>``."""
        return {
            f"{layer.name}.{tensor}": shape
            for layer, inputs in self.with_input_shapes()
            for tensor, shape in layer.tensor_shapes(*inputs).items()
        }

    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return sum(layer.multiply_adds(*inputs) for layer, inputs in self.with_input_shapes())


def to_json(network: Network) -> dict[str, Any]:
    """The graph as plain JSON values, for the metadata of a weights file."""
    return {
        "input_shape": list(network.input_shape),
        "layers": [
            {"type": type(layer).__name__, **dataclasses.asdict(layer)} for layer in network.layers
        ],
    }


def from_json(value: Any) -> Network:
    """The graph that ``to_json`` wrote; NetworkError names what is not as it must be."""
    if not isinstance(value, Mapping) or not isinstance(value.get("layers"), list | tuple):
        raise NetworkError("the layer graph must be an object with input_shape and layers")
    input_shape = _integers("input_shape", value.get("input_shape"), 3)
    layers = tuple(_layer_from_json(entry) for entry in value["layers"])
    return Network((input_shape[0], input_shape[1], input_shape[2]), layers)


def _layer_from_json(entry: Any) -> Layer:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise NetworkError(f"a layer must be an object with a name, not {_short(entry)}")
    name = str(_field_value("", "name", "str", entry["name"]))
    layer_type = LAYER_TYPES.get(str(entry.get("type")))
    if layer_type is None:
        raise NetworkError(
            f"layer {name!r} has the unknown type {_short(entry.get('type'))}; "
            f"known are {', '.join(LAYER_TYPES)}"
        )
    fields = {field.name: field for field in dataclasses.fields(layer_type)}
    values = {key: value for key, value in entry.items() if key != "type"}
    required = {key for key, field in fields.items() if field.default is dataclasses.MISSING}
    if not required <= set(values) <= set(fields):
        raise NetworkError(
            f"layer {name!r} must have {', '.join(fields)}; it has {_short(list(values))}"
        )
    return layer_type(
        **{key: _field_value(name, key, str(fields[key].type), values[key]) for key in values}
    )


def _field_value(layer: str, key: str, annotation: str, value: Any) -> Any:
    where = f"layer {layer!r}: {key}"
    if annotation == "str":
        valid = isinstance(value, str) and re.fullmatch(_LAYER_NAME, value) is not None
    elif annotation == "Activation":
        valid = value in get_args(Activation)
    elif annotation == "float":
        valid = isinstance(value, float) and 0 < value < 1
    elif annotation == "int":
        valid = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20
    else:
        return _integers(where, value, 2)
    if not valid:
        raise NetworkError(f"{where} can't be {_short(value)}")
    return value


def _integers(where: str, value: Any, count: int) -> tuple[int, ...]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != count
        or not all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        or not all(0 <= item < 1 << 16 for item in value)
    ):
        raise NetworkError(f"{where} must be {count} small whole numbers, not {_short(value)}")
    return tuple(value)


def _short(value: object) -> str:
    """A value from a file in an error message: one line, of bounded length."""
    return repr(value)[:80]


def _checked_shape(name: str, shape: Shape) -> Shape:
    if min(shape) < 1 or math.prod(shape) > ELEMENTS_MAX:
        raise NetworkError(f"layer {name!r} would give an output of {shape}")
    return shape
