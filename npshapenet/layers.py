"""The layers that a network is made of, as data: one named tuple for each type.

Sizes are written (C, H, W): channels, rows, columns. Each layer reads the output of earlier ones
by their names. The arithmetic lives in the backends: a layer here only knows its shapes, its
tensors and what it costs.

Named tuples, here and in jit/, as each start of a program pays for the making of these classes: a
third of a millisecond for a frozen dataclass, a twentieth for one of these.
"""

import math
from typing import Final, Literal, NamedTuple, get_args

Shape = tuple[int, int, int]
Activation = Literal["none", "relu", "hard_swish"]

#: Beyond what an honest network has, so that a hostile weights file can't ask for more.
KERNEL_MAX: Final = 63


class NetworkError(ValueError):
    """A layer graph that is not well formed; the message names the layer."""


class Convolution(NamedTuple):
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


class InstanceNorm(NamedTuple):
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


class GroupNorm(NamedTuple):
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


class Add(NamedTuple):
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


class GlobalAveragePool(NamedTuple):
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


class Dense(NamedTuple):
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


class Enlarge(NamedTuple):
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


class MeanPlaces(NamedTuple):
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


class PointDepthwise(NamedTuple):
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


class ShapeFit(NamedTuple):
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


class Join(NamedTuple):
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
