"""A network and its tensors → a plan: the steps, the packed weights and the arena's size.

Done once, when a model is loaded, in NumPy. The plan decides everything that the compiled
engine then only follows: which layers are fused, where each image lies, which tiles compute
it and in what order its weights stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.arena import CHANNEL_MULTIPLE, Image, Lifetime, place, rounded_up
from npshapenet.jit.cpu import Registers
from npshapenet.jit.packing import pack_convolution, pack_depthwise
from npshapenet.jit.tiles import choose_depthwise_tile, choose_tiles, sums_size
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npshapenet.shape import ShapeModel

    Floats = NDArray[np.float32]

_ACTIVATIONS = {"none": s.NONE, "relu": s.RELU, "hard_swish": s.HARD_SWISH}


@dataclass
class Plan:
    """What the engine needs to run a network, ready to be handed over by address."""

    steps: NDArray[np.int64]  # (steps, COLUMNS)
    weights: Floats
    arena_size: int  # floats
    images: dict[str, Image]  # the input and each output that exists, by layer name
    output_count: int
    # The same steps for a gray crop, which is resized straight into the arena; None where the
    # network's input isn't gray or too narrow for that.
    crop_steps: NDArray[np.int64] | None
    # From a gray crop to landmarks; None without a shape model, or where crop_steps are.
    landmark_steps: NDArray[np.int64] | None

    def new_arena(self) -> Floats:
        return aligned_zeros(self.arena_size)


def aligned_zeros(count: int) -> Floats:
    """``count`` zeros that start at a multiple of 64 bytes."""
    memory = np.zeros(count + 16, np.float32)
    start = (-memory.ctypes.data % 64) // 4
    return memory[start : start + count]


@dataclass(frozen=True)
class _Operation:
    """One layer, or a convolution and the addition that follows it, as one computation."""

    layer: Layer
    name: str  # of its output
    inputs: tuple[str, ...]
    activation: str
    addend: str | None = None


@dataclass
class _Builder:
    """A plan in the making."""

    registers: Registers
    images: dict[str, Image]
    tensors: Mapping[str, Floats]
    sums: int  # offset of the memory for incomplete sums, which all steps share
    sums_size: int = 0
    steps: list[NDArray[np.int64]] = field(default_factory=list)
    weights: list[Floats] = field(default_factory=list)
    weights_size: int = 0

    def step(self, kind: int, columns: Mapping[int, int]) -> None:
        row = np.zeros(s.COLUMNS, np.int64)
        row[s.KIND] = kind
        for column, value in columns.items():
            row[column] = value
        self.steps.append(row)

    def add_weights(self, values: Floats) -> int:
        """Append packed weights, from the next cache line on; their offset."""
        offset = self.weights_size
        padded = np.zeros(rounded_up(values.size, 16), np.float32)
        padded[: values.size] = values.ravel()
        self.weights.append(padded)
        self.weights_size += padded.size
        return offset


def make_plan(
    network: Network,
    tensors: Mapping[str, Floats],
    registers: Registers,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    shape_model: ShapeModel | None = None,
    fuse: bool = True,
    share: bool = True,
) -> Plan:
    """The plan for a network, for a CPU with such registers.

    A crop's gray values in [0, 1] are multiplied by ``scale``, then ``offset`` is added.
    With a shape model, whose parameters the network gives, there are steps for landmarks too.
    Without ``fuse`` every layer is a step of its own; without ``share`` every image keeps its
    place in the arena, to be looked at afterwards.
    """
    operations = _operations(network, fuse=fuse)
    images = _images(network, operations)
    outputs = images[operations[-1].name]
    images_size = place(_lifetimes(operations, images), share=share)
    points = None
    if shape_model is not None and outputs.shape[1:] == (1, 1):
        shape = shape_model.mean.size, 1, 1
        points = Image(shape, rounded_up(shape[0], CHANNEL_MULTIPLE), offset=images_size)
        images_size += points.size
    build = _Builder(registers, images, tensors, sums=images_size)
    normalisation = build.add_weights(np.array([scale, offset], np.float32))
    _emit_load(build)
    for operation in operations:
        # Cleared in every run: since the last one other images have lain there.
        _emit_border(build, images[operation.name])
        _emit(build, operation)
    _emit_store(build, outputs)
    count = len(build.steps)
    if shape_model is not None and points is not None:
        _emit_landmarks(build, outputs, points, shape_model)
    steps = np.stack(build.steps)
    weights = aligned_zeros(build.weights_size)
    np.concatenate(build.weights, out=weights)
    crop_steps = landmark_steps = None
    if images[INPUT].pixel_pitch == 1 and images[INPUT].shape[2] >= registers.floats:
        from_crop = steps.copy()
        from_crop[steps[:, s.KIND] == s.LOAD] = resize_step(
            images[INPUT], widen=True, weights=normalisation
        )
        crop_steps = from_crop[:count]
        if points is not None:
            landmark_steps = np.delete(from_crop, count - 1, axis=0)  # without STORE
    return Plan(
        steps=steps[:count],
        weights=weights,
        arena_size=images_size + build.sums_size,
        images=images,
        output_count=network.output_count,
        crop_steps=crop_steps,
        landmark_steps=landmark_steps,
    )


def _operations(network: Network, *, fuse: bool) -> list[_Operation]:
    """The layers in running order, additions fused with the convolution before where possible."""
    shapes = network.shapes()
    operations: list[_Operation] = []
    readers = [name for layer in network.layers for name in layer.inputs]
    for layer in network.layers:
        activation = getattr(layer, "activation", "none")
        if isinstance(layer, Add) and fuse:
            before = _fusable(layer, operations, readers, shapes)
            if before is not None:
                index = operations.index(before)
                other = layer.other if layer.input == before.name else layer.input
                operations[index] = replace(
                    before, name=layer.name, activation=activation, addend=other
                )
                continue
        operations.append(_Operation(layer, layer.name, layer.inputs, activation))
    return operations


def _fusable(
    add: Add, operations: list[_Operation], readers: list[str], shapes: Mapping[str, Shape]
) -> _Operation | None:
    """The convolution that can add the other operand itself: it is linear, nothing else reads
    its output, and the other operand is there before it runs. (A depthwise one can't: its
    kernel has no addend; no network has needed one.)"""
    known = []  # not INPUT, whose pixels may be closer together than the output's
    for operation in operations:
        layer = operation.layer
        other = add.other if operation.name == add.input else add.input
        if (
            isinstance(layer, Convolution | Dense)
            and not _is_depthwise(layer, shapes[layer.input])
            and operation.name in (add.input, add.other)
            and operation.addend is None
            and operation.activation == "none"
            and readers.count(operation.name) == 1
            and other in known
        ):
            return operation
        known.append(operation.name)
    return None


def _images(network: Network, operations: list[_Operation]) -> dict[str, Image]:
    """An image for the input and for each operation's output, with the border its readers need.

    The input keeps its channel count, a gray image one float a pixel, where only convolutions
    read it: they load one float at a time, the others whole vectors. Everything else is filled
    up to whole vectors.
    """
    shapes = network.shapes()
    borders: dict[str, tuple[int, int]] = {}
    input_is_unfilled = True
    for operation in operations:
        layer = operation.layer
        if INPUT in operation.inputs and (
            not isinstance(layer, Convolution) or _is_depthwise(layer, shapes[INPUT])
        ):
            input_is_unfilled = False
        if isinstance(layer, Convolution):
            old = borders.get(layer.input, (0, 0))
            borders[layer.input] = (max(old[0], layer.padding[0]), max(old[1], layer.padding[1]))
    images = {}
    for name in [INPUT, *(operation.name for operation in operations)]:
        channels = shapes[name][0]
        is_exact = name == INPUT and input_is_unfilled
        pixel_pitch = channels if is_exact else rounded_up(channels, CHANNEL_MULTIPLE)
        images[name] = Image(shapes[name], pixel_pitch, borders.get(name, (0, 0)))
    return images


def _lifetimes(operations: list[_Operation], images: dict[str, Image]) -> list[Lifetime]:
    first = {INPUT: 0}
    last = {INPUT: 0}
    for number, operation in enumerate(operations):
        first[operation.name] = number
        for name in (*operation.inputs, operation.addend, operation.name):
            if name is not None:
                last[name] = number
    last[operations[-1].name] = len(operations)  # STORE reads it after all operations
    return [Lifetime(image, first[name], last[name]) for name, image in images.items()]


def _is_depthwise(layer: Convolution | Dense, shape: Shape) -> bool:
    if isinstance(layer, Dense):
        return False
    return layer.groups == shape[0] == layer.out_channels and layer.groups > 1


def _emit_load(build: _Builder) -> None:
    image = build.images[INPUT]
    if image.pixel_pitch != image.shape[0]:
        # The channels that fill up are zeros too: clear everything.
        clear = {s.OUTPUT: image.offset, s.FIRST_GAP: image.size, s.ROWS: 0}
        build.step(s.CLEAR_BORDER, clear)
    else:
        _emit_border(build, image)
    build.step(s.LOAD, {**_output_columns(image), s.CHANNELS: image.shape[0]})


def resize_step(image: Image, *, widen: bool, weights: int) -> NDArray[np.int64]:
    """The step that makes the image from a gray crop, in place of LOAD (see jit/resizing.py)."""
    row = np.zeros(s.COLUMNS, np.int64)
    for column, value in _output_columns(image).items():
        row[column] = value
    row[[s.KIND, s.WIDEN, s.WEIGHTS]] = s.RESIZE, widen, weights
    return row


def _emit_store(build: _Builder, image: Image) -> None:
    build.step(
        s.STORE,
        {
            **_output_columns(image),
            **_input_columns(image),
            s.CHANNELS: image.shape[0],
        },
    )


def _emit_landmarks(
    build: _Builder, outputs: Image, points: Image, shape_model: ShapeModel
) -> None:
    """From the network's outputs, its parameters within their limits, to points in pixels."""
    limits, scores = shape_model.limits, len(shape_model.components)
    if limits is not None:
        columns = {
            s.OUTPUT: outputs.origin,
            s.CHANNELS: limits.shape[1],  # not the quality, which may come after the parameters
            s.WEIGHTS: build.add_weights(limits),
        }
        build.step(s.CLAMP, columns)
    # ``mean + Σ scores · components`` is a dense layer that reads the first of the outputs.
    components = Convolution("shape model", "", points.shape[0], (1, 1))
    weight = shape_model.components.reshape(scores, -1).T.reshape(-1, scores, 1, 1)
    columns = {**_output_columns(points), s.ACTIVATION: s.NONE, s.ADDEND: s.NOWHERE}
    read = Image((scores, 1, 1), outputs.pixel_pitch, offset=outputs.offset)
    _emit_convolution(
        build, components, read, points, columns, weight, shape_model.mean.ravel(), None
    )
    columns = {
        s.INPUT: points.origin,
        s.CHANNELS: points.shape[0],
        s.TRANSFORM: outputs.origin + scores,
    }
    build.step(s.PLACE, columns)


def _emit_border(build: _Builder, image: Image) -> None:
    if image.border == (0, 0):
        return
    gap = image.border[1] * image.pixel_pitch
    build.step(
        s.CLEAR_BORDER,
        {
            **_output_columns(image),
            s.OUTPUT: image.offset,
            s.ROW_GAP: gap,
            s.FIRST_GAP: image.first_gap,
            s.LAST_GAP: image.border[0] * image.row_pitch,
        },
    )


def _emit(build: _Builder, operation: _Operation) -> None:
    layer = operation.layer
    source, target = build.images[operation.inputs[0]], build.images[operation.name]
    # The step in the making: column → value. INPUT… are as for reading pixel by pixel; a
    # convolution replaces them.
    columns = {
        **_input_columns(source),
        **_output_columns(target),
        s.ACTIVATION: _ACTIVATIONS[operation.activation],
        s.ADDEND: s.NOWHERE,
    }
    addend = operation.addend or (layer.other if isinstance(layer, Add) else None)
    if addend is not None:
        columns[s.ADDEND] = build.images[addend].origin
        columns[s.ADDEND_ROW] = build.images[addend].row_pitch
    if isinstance(layer, Convolution):
        weight, bias = build.tensors[f"{layer.name}.weight"], build.tensors[f"{layer.name}.bias"]
        if _is_depthwise(layer, source.shape):
            _emit_depthwise(build, layer, source, target, columns, weight, bias)
        else:
            weight = _without_groups(weight, layer.groups)
            _emit_convolution(build, layer, source, target, columns, weight, bias, addend)
    elif isinstance(layer, Dense):
        # A convolution whose kernel is the whole image.
        channels, height, width = source.shape
        weight = build.tensors[f"{layer.name}.weight"].reshape(-1, channels, height, width)
        bias = build.tensors[f"{layer.name}.bias"]
        whole = Convolution(layer.name, layer.input, layer.out_features, (height, width))
        _emit_convolution(build, whole, source, target, columns, weight, bias, addend)
    elif isinstance(layer, GlobalAveragePool):
        # A depthwise convolution whose kernel is the whole image, one weight for all taps.
        channels, height, width = source.shape
        weight = np.full((channels, 1, 1, 1), 1 / (height * width), np.float32)
        whole = Convolution(layer.name, layer.input, channels, (height, width), groups=channels)
        bias = np.zeros(channels, np.float32)
        _emit_depthwise(build, whole, source, target, columns, weight, bias)
    elif isinstance(layer, InstanceNorm):
        # A group norm of groups of one channel, which multiplies and adds nothing.
        channels = source.shape[0]
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        _emit_norm(build, columns, layer.epsilon, channels, ones, zeros)
    elif isinstance(layer, GroupNorm):
        weight, bias = build.tensors[f"{layer.name}.weight"], build.tensors[f"{layer.name}.bias"]
        _emit_norm(build, columns, layer.epsilon, layer.groups, weight, bias)
    else:
        build.step(s.ADD, columns)


def _emit_norm(
    build: _Builder,
    columns: dict[int, int],
    epsilon: float,
    groups: int,
    weight: Floats,
    bias: Floats,
) -> None:
    """weight (C), bias (C); 0 for the channels that only fill up, so that they stay 0."""
    filled_up = columns[s.CHANNELS]
    packed = np.zeros(1 + 2 * filled_up, np.float32)
    packed[0] = epsilon
    packed[1 : 1 + len(weight)] = weight
    packed[1 + filled_up : 1 + filled_up + len(bias)] = bias
    columns |= {
        s.GROUPS: groups,
        s.GROUP_CHANNELS: len(weight) // groups,
        s.WEIGHTS: build.add_weights(packed),
        s.SUMS: build.sums,
    }
    build.sums_size = max(build.sums_size, 3 * filled_up)
    build.step(s.NORM, columns)


def _input_columns(image: Image) -> dict[int, int]:
    """For a step that reads the image pixel by pixel."""
    return {
        s.INPUT: image.origin,
        s.INPUT_PIXEL: image.pixel_pitch,
        s.INPUT_ROW: image.row_pitch,
    }


def _output_columns(image: Image) -> dict[int, int]:
    return {
        s.OUTPUT: image.origin,
        s.OUTPUT_PIXEL: image.pixel_pitch,
        s.OUTPUT_ROW: image.row_pitch,
        s.ROWS: image.shape[1],
        s.ROW_PIXELS: image.shape[2],
        s.CHANNELS: image.pixel_pitch,
    }


def _window_columns(layer: Convolution, source: Image) -> dict[int, int]:
    """Where the first tap of the first output pixel is, and how far the next pixels' are."""
    above, left = layer.padding
    return {
        s.INPUT: source.origin - above * source.row_pitch - left * source.pixel_pitch,
        s.INPUT_PIXEL: layer.stride[1] * source.pixel_pitch,
        s.INPUT_ROW: layer.stride[0] * source.row_pitch,
    }


def _without_groups(weight: Floats, groups: int) -> Floats:
    """The weights of a grouped convolution as those of one without groups, with zeros.

    Rare and small in face networks: not worth a kernel of its own.
    """
    if groups == 1:
        return weight
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((weight.shape[0], inputs * groups, *weight.shape[2:]), np.float32)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return full


def _emit_convolution(
    build: _Builder,
    layer: Convolution,
    source: Image,
    target: Image,
    columns: dict[int, int],
    weight: Floats,
    bias: Floats,
    addend: str | None,
) -> None:
    """weight (C', C, kh, kw), bias (C'): kh runs of kw · C contiguous inputs for each pixel."""
    kernel_rows, kernel_columns = layer.kernel
    columns |= _window_columns(layer, source)
    _, height, width = target.shape
    images = [target, *([build.images[addend]] if addend is not None else [])]
    if columns[s.INPUT_ROW] == width * columns[s.INPUT_PIXEL] and all(
        image.row_pitch == width * image.pixel_pitch for image in images
    ):
        # No gaps between rows (1×1, stride 1, no borders): one long row, so that tiles needn't
        # end where a row ends.
        columns |= {s.ROWS: 1, s.ROW_PIXELS: height * width}
    # Of a single column the channels that only fill up a pixel needn't be read.
    depth_pixel = source.shape[0] if kernel_columns == 1 else source.pixel_pitch
    runs, run_pitch, run_length = kernel_rows, source.row_pitch, kernel_columns * depth_pixel
    if run_length == run_pitch:
        # The kernel is as wide as the image, as a dense layer's: the runs are one.
        runs, run_length = 1, kernel_rows * run_length
    columns |= choose_tiles(build.registers, columns, runs, run_pitch, run_length)
    columns[s.SUMS] = build.sums
    build.sums_size = max(build.sums_size, sums_size(columns))
    columns[s.WEIGHTS] = build.add_weights(pack_convolution(weight, bias, depth_pixel, columns))
    build.step(s.CONVOLUTION, columns)


def _emit_depthwise(
    build: _Builder,
    layer: Convolution,
    source: Image,
    target: Image,
    columns: dict[int, int],
    weight: Floats,
    bias: Floats,
) -> None:
    """weight (C, 1, kh, kw) or, the same for all taps, (C, 1, 1, 1); bias (C)."""
    columns |= _window_columns(layer, source)
    columns |= {
        s.TAP_ROWS: layer.kernel[0],
        s.TAP_ROW_PITCH: source.row_pitch,
        s.TAP_COLUMNS: layer.kernel[1],
        s.TAP_COLUMN_PITCH: source.pixel_pitch,
    }
    columns |= choose_depthwise_tile(build.registers, columns)
    is_constant = weight.shape[2:] == (1, 1)
    columns[s.WEIGHT_PITCH] = 0 if is_constant else columns[s.TILE_CHANNELS]
    columns[s.WEIGHTS] = build.add_weights(pack_depthwise(weight, bias, columns))
    build.step(s.DEPTHWISE, columns)
