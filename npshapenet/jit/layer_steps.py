"""From an operation to its steps: tiles chosen, weights packed, offsets written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.arena import Image, rounded_up
from npshapenet.jit.cpu import Registers
from npshapenet.jit.operations import Operation, is_depthwise
from npshapenet.jit.packing import (
    pack_convolution,
    pack_depthwise,
    pack_point_depthwise,
    pack_similarity,
)
from npshapenet.jit.step_writer import (
    StepWriter,
    input_columns,
    output_columns,
    write_clear,
)
from npshapenet.jit.tiles import (
    choose_depthwise_tile,
    choose_tiles,
    has_broadcast_tile,
    sums_size,
)
from npshapenet.layers import (
    Add,
    Convolution,
    Dense,
    Enlarge,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    Join,
    MeanPlaces,
    PointDepthwise,
    ShapeFit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_ACTIVATIONS = {"none": s.NONE, "relu": s.RELU, "hard_swish": s.HARD_SWISH}


def write_operation(writer: StepWriter, operation: Operation) -> None:
    layer = operation.layer
    source, target = writer.images[operation.inputs[0]], writer.images[operation.name]
    # The step in the making: column → value. INPUT… are as for reading pixel by pixel; a
    # convolution replaces them.
    columns = {
        **input_columns(source),
        **output_columns(target),
        s.ACTIVATION: _ACTIVATIONS[operation.activation],
        s.ADDEND: s.NOWHERE,
    }
    addend_name = operation.addend or (layer.other if isinstance(layer, Add) else None)
    addend = None if addend_name is None else writer.images[addend_name]
    if addend is not None:
        columns[s.ADDEND] = addend.origin
        columns[s.ADDEND_ROW] = addend.row_pitch
    if isinstance(layer, Convolution):
        weight, bias = writer.tensors[f"{layer.name}.weight"], writer.tensors[f"{layer.name}.bias"]
        if is_depthwise(layer, source.shape):
            _write_depthwise(writer, layer, source, target, columns, weight, bias)
        elif addend is None and _is_broadcast(writer.registers, layer, source, target):
            _write_depthwise(
                writer, layer, source, target, columns, weight, bias, is_broadcast=True
            )
        else:
            weight = _without_groups(weight, layer.groups)
            write_convolution(writer, layer, source, target, columns, weight, bias, addend)
    elif isinstance(layer, Dense):
        # A convolution whose kernel is the whole image.
        channels, height, width = source.shape
        weight = writer.tensors[f"{layer.name}.weight"].reshape(-1, channels, height, width)
        bias = writer.tensors[f"{layer.name}.bias"]
        whole = Convolution(layer.name, layer.input, layer.out_features, (height, width))
        write_convolution(writer, whole, source, target, columns, weight, bias, addend)
    elif isinstance(layer, GlobalAveragePool):
        # A depthwise convolution whose kernel is the whole image, one weight for all taps.
        channels, height, width = source.shape
        weight = np.full((channels, 1, 1, 1), 1 / (height * width), np.float32)
        whole = Convolution(layer.name, layer.input, channels, (height, width), groups=channels)
        bias = np.zeros(channels, np.float32)
        _write_depthwise(writer, whole, source, target, columns, weight, bias)
    elif isinstance(layer, InstanceNorm):
        # A group norm of groups of one channel, which multiplies and adds nothing.
        channels = source.shape[0]
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        _write_norm(writer, columns, layer.epsilon, channels, ones, zeros)
    elif isinstance(layer, GroupNorm):
        weight, bias = writer.tensors[f"{layer.name}.weight"], writer.tensors[f"{layer.name}.bias"]
        _write_norm(writer, columns, layer.epsilon, layer.groups, weight, bias)
    elif isinstance(layer, Enlarge):
        writer.step(s.COPY, columns | {**_source_size_columns(source), s.FACTOR: layer.factor})
    elif isinstance(layer, MeanPlaces):
        _write_mean_places(writer, source, target)
    elif isinstance(layer, PointDepthwise):
        points = writer.images[layer.other]
        offsets, weight, bias = (
            writer.tensors[f"{layer.name}.{tensor}"] for tensor in ("offsets", "weight", "bias")
        )
        _write_point_depthwise(writer, columns, source, points, offsets, weight, bias)
    elif isinstance(layer, ShapeFit):
        mean, weight = (writer.tensors[f"{layer.name}.{tensor}"] for tensor in ("mean", "weight"))
        _write_shape_fit(writer, source, target, mean, weight)
    elif isinstance(layer, Join):
        _write_join(writer, source, writer.images[layer.other], target)
    else:
        writer.step(s.ADD, columns)


def _write_norm(
    writer: StepWriter,
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
        s.WEIGHTS: writer.add_weights(packed),
        s.SUMS: writer.reserve_sums(3 * filled_up),
    }
    writer.step(s.NORM, columns)


def _write_mean_places(writer: StepWriter, source: Image, target: Image) -> None:
    write_clear(writer, target)
    columns = {
        **input_columns(source),
        **_source_size_columns(source),
        s.OUTPUT: target.origin,
        s.CHANNELS: source.shape[0],
        s.SUMS: writer.reserve_sums(2 * source.pixel_pitch),
    }
    writer.step(s.MEAN_PLACES, columns)


def _write_shape_fit(
    writer: StepWriter, source: Image, target: Image, mean: Floats, weight: Floats
) -> None:
    """mean (L, 2), weight (K, 2·L).

    The similarity, then a dense layer from what is left of the points to the scores. The dense
    layer adds the transform too, which is its addend behind K zeros. What goes from one to the
    other lies in the memory for sums, of which a dense layer needs none.
    """
    scores, coordinates = weight.shape
    differences = Image((coordinates, 1, 1), rounded_up(coordinates, s.CHANNEL_MULTIPLE))
    transform = Image(target.shape, target.pixel_pitch)
    differences.offset = writer.reserve_sums(differences.size + transform.size)
    transform.offset = differences.offset + differences.size
    write_clear(writer, transform)
    columns = {
        s.INPUT: source.origin,
        s.OUTPUT: differences.origin,
        s.POINTS: len(mean),
        s.TRANSFORM: transform.origin + scores,
        s.WEIGHTS: writer.add_weights(pack_similarity(mean)),
    }
    writer.step(s.FIT_SIMILARITY, columns)
    rows = np.zeros((target.shape[0], coordinates, 1, 1), np.float32)
    rows[:scores, :, 0, 0] = weight
    bias = np.zeros(len(rows), np.float32)
    columns = {
        **output_columns(target),
        s.ACTIVATION: s.NONE,
        s.ADDEND: transform.origin,
        s.ADDEND_ROW: transform.row_pitch,
    }
    dense = Convolution("scores", "", len(rows), (1, 1))
    write_convolution(writer, dense, differences, target, columns, rows, bias, transform)


def _write_point_depthwise(
    writer: StepWriter,
    columns: dict[int, int],
    source: Image,
    points: Image,
    offsets: Floats,
    weight: Floats,
    bias: Floats,
) -> None:
    """offsets (S, 2), weight (C, S), bias (C)."""
    pitch = rounded_up(columns[s.ROW_PIXELS], s.CHANNEL_MULTIPLE)
    packed, places_size = pack_point_depthwise(offsets, weight, bias)
    columns |= {
        **_source_size_columns(source),
        s.POINTS_AT: points.origin,
        s.PLACES: len(offsets),
        s.WEIGHTS: writer.add_weights(packed),
        s.WEIGHT_PITCH: places_size,
        s.POINTS_PITCH: pitch,
        s.SUMS: writer.reserve_sums((2 + 5 * len(offsets)) * pitch),
    }
    writer.step(s.POINT_DEPTHWISE, columns)


def _write_join(writer: StepWriter, first: Image, second: Image, target: Image) -> None:
    write_clear(writer, target)
    for source, channel in ((first, 0), (second, first.shape[0])):
        columns = {
            **input_columns(source),
            **output_columns(target),
            **_source_size_columns(source),
            s.OUTPUT: target.origin + channel,
            s.CHANNELS: source.shape[0],
            s.FACTOR: 1,
        }
        writer.step(s.COPY, columns)


def _source_size_columns(image: Image) -> dict[int, int]:
    """For a step that walks through what it reads, not through what it writes."""
    return {s.SOURCE_ROWS: image.shape[1], s.SOURCE_ROW_PIXELS: image.shape[2]}


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


def write_convolution(
    writer: StepWriter,
    layer: Convolution,
    source: Image,
    target: Image,
    columns: dict[int, int],
    weight: Floats,
    bias: Floats,
    addend: Image | None,
) -> None:
    """weight (C', C, kh, kw), bias (C'): kh runs of kw · C contiguous inputs for each pixel."""
    kernel_rows, kernel_columns = layer.kernel
    columns |= _window_columns(layer, source)
    _, height, width = target.shape
    images = [target, *([addend] if addend is not None else [])]
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
    columns |= choose_tiles(writer.registers, columns, runs, run_pitch, run_length)
    columns[s.SUMS] = writer.reserve_sums(sums_size(columns))
    columns[s.WEIGHTS] = writer.add_weights(pack_convolution(weight, bias, depth_pixel, columns))
    writer.step(s.CONVOLUTION, columns)


def _is_broadcast(registers: Registers, layer: Convolution, source: Image, target: Image) -> bool:
    """Whether a convolution of a gray image is computed like a depthwise one, all of whose
    channels read the same: its depth is too short for the other tiles."""
    is_gray = source.shape[0] == source.pixel_pitch == 1
    return is_gray and has_broadcast_tile(
        registers, layer.kernel[1], layer.stride[1], target.shape[2]
    )


def _write_depthwise(
    writer: StepWriter,
    layer: Convolution,
    source: Image,
    target: Image,
    columns: dict[int, int],
    weight: Floats,
    bias: Floats,
    *,
    is_broadcast: bool = False,
) -> None:
    """weight (C, 1, kh, kw) or, the same for all taps, (C, 1, 1, 1); bias (C).

    ``is_broadcast``: the image has one channel, and the output's C channels all read it.
    """
    columns |= _window_columns(layer, source)
    columns |= {
        s.TAP_ROWS: layer.kernel[0],
        s.TAP_ROW_PITCH: source.row_pitch,
        s.TAP_COLUMNS: layer.kernel[1],
        s.TAP_COLUMN_PITCH: source.pixel_pitch,
    }
    columns[s.INPUT_CHANNEL] = 0 if is_broadcast else 1
    columns |= choose_depthwise_tile(writer.registers, columns, is_broadcast=is_broadcast)
    is_constant = weight.shape[2:] == (1, 1)
    columns[s.WEIGHT_PITCH] = 0 if is_constant else columns[s.TILE_CHANNELS]
    columns[s.WEIGHTS] = writer.add_weights(pack_depthwise(weight, bias, columns))
    writer.step(s.DEPTHWISE, columns)
