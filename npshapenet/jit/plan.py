"""A network and its tensors → a plan: the steps, the packed weights and the arena's size.

Done once, when a model is loaded, in NumPy. The plan decides everything that the compiled
engine then only follows: which layers are fused, where each image lies, which tiles compute
it and in what order its weights stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.arena import Image, place, rounded_up
from npshapenet.jit.cpu import Registers
from npshapenet.jit.layer_steps import write_convolution, write_operation
from npshapenet.jit.operations import find_lifetimes, find_operations, lay_out_images
from npshapenet.jit.step_writer import (
    StepWriter,
    input_columns,
    output_columns,
    write_border,
    write_clear,
)
from npshapenet.layers import Convolution
from npshapenet.network import INPUT, Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npshapenet.shape import ShapeModel

    Floats = NDArray[np.float32]


@dataclass
class Plan:
    """What the engine needs to run a network, ready to be handed over by address."""

    steps: NDArray[np.int64]  # (steps, COLUMNS)
    weights: Floats
    arena_size: int  # floats
    images: dict[str, Image]  # the input and each output that exists, by layer name
    ends: list[int]  # after how many steps each of them is there
    output_count: int
    # The same steps for a gray crop, which is resized straight into the arena; None where the
    # network's input isn't one float a pixel (see lay_out_images) or narrower than a vector.
    crop_steps: NDArray[np.int64] | None
    # From a gray crop to landmarks, and to the outputs with the landmarks behind them; None without
    # a shape model, where crop_steps is None, and where the outputs are several pixels.
    landmark_steps: NDArray[np.int64] | None
    both_steps: NDArray[np.int64] | None

    def new_arena(self) -> Floats:
        return aligned_zeros(self.arena_size)

    @property
    def is_basic(self) -> bool:
        """Whether the engine of the basic kinds of steps can take all of them."""
        return s.BASIC_KINDS.issuperset(self.steps[:, s.KIND].tolist())


def aligned_zeros(count: int) -> Floats:
    """``count`` zeros that start at a multiple of 64 bytes."""
    memory = np.zeros(count + 16, np.float32)
    start = (-memory.ctypes.data % 64) // 4
    return memory[start : start + count]


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
    operations = find_operations(network, fuse=fuse)
    images = lay_out_images(network, operations)
    outputs = images[operations[-1].name]
    images_size = place(find_lifetimes(operations, images), share=share)
    points = None
    if shape_model is not None and outputs.shape[1:] == (1, 1):
        shape = shape_model.mean.size, 1, 1
        points = Image(shape, rounded_up(shape[0], s.CHANNEL_MULTIPLE), offset=images_size)
        images_size += points.size
    writer = StepWriter(registers, images, tensors, sums=images_size)
    normalisation = writer.add_weights(np.array([scale, offset], np.float32))
    _write_load(writer)
    ends = [len(writer.steps)]
    for operation in operations:
        # Cleared in every run: since the last one other images have lain there.
        write_border(writer, images[operation.name])
        write_operation(writer, operation)
        ends.append(len(writer.steps))
    _write_store(writer, outputs)
    count = len(writer.steps)
    if shape_model is not None and points is not None:
        _write_landmarks(writer, outputs, points, shape_model)
    steps = np.stack(writer.steps)
    weights = aligned_zeros(writer.weights_size)
    np.concatenate(writer.weights, out=weights)
    crop_steps = landmark_steps = both_steps = None
    if images[INPUT].pixel_pitch == 1 and images[INPUT].shape[2] >= registers.floats:
        from_crop = steps.copy()
        from_crop[steps[:, s.KIND] == s.LOAD] = resize_step(
            images[INPUT], widen=True, weights=normalisation
        )
        crop_steps = from_crop[:count]
        if points is not None:
            both_steps = from_crop
            landmark_steps = np.delete(from_crop, count - 1, axis=0)  # without STORE
            landmark_steps[-1, s.OUTPUT] = 0
    return Plan(
        steps=steps[:count],
        weights=weights,
        arena_size=images_size + writer.sums_size,
        images=images,
        ends=ends,
        output_count=network.output_count,
        crop_steps=crop_steps,
        landmark_steps=landmark_steps,
        both_steps=both_steps,
    )


def _write_load(writer: StepWriter) -> None:
    image = writer.images[INPUT]
    if image.pixel_pitch != image.shape[0]:
        # The channels that fill up are zeros too: clear everything.
        write_clear(writer, image)
    else:
        write_border(writer, image)
    writer.step(s.LOAD, {**output_columns(image), s.CHANNELS: image.shape[0]})


def resize_step(image: Image, *, widen: bool, weights: int) -> NDArray[np.int64]:
    """The step that makes the image from a gray crop, in place of LOAD (see jit/resizing.py)."""
    row = np.zeros(s.COLUMNS, np.int64)
    for column, value in output_columns(image).items():
        row[column] = value
    row[[s.KIND, s.WIDEN, s.WEIGHTS]] = s.RESIZE, widen, weights
    return row


def _write_store(writer: StepWriter, image: Image) -> None:
    writer.step(
        s.STORE,
        {
            **output_columns(image),
            **input_columns(image),
            s.CHANNELS: image.shape[0],
        },
    )


def _write_landmarks(
    writer: StepWriter, outputs: Image, points: Image, shape_model: ShapeModel
) -> None:
    """From the network's outputs, its parameters within their limits, to points in pixels."""
    limits, scores = shape_model.limits, len(shape_model.components)
    if limits is not None:
        columns = {
            s.OUTPUT: outputs.origin,
            s.CHANNELS: limits.shape[1],  # not the quality, which may come after the parameters
            s.WEIGHTS: writer.add_weights(limits),
        }
        writer.step(s.CLAMP, columns)
    # ``mean + Σ scores · components`` is a dense layer that reads the first of the outputs.
    components = Convolution("shape model", "", points.shape[0], (1, 1))
    weight = shape_model.components.reshape(scores, -1).T.reshape(-1, scores, 1, 1)
    columns = {**output_columns(points), s.ACTIVATION: s.NONE, s.ADDEND: s.NOWHERE}
    read = Image((scores, 1, 1), outputs.pixel_pitch, offset=outputs.offset)
    write_convolution(
        writer, components, read, points, columns, weight, shape_model.mean.ravel(), None
    )
    columns = {
        s.INPUT: points.origin,
        s.OUTPUT: outputs.shape[0],
        s.CHANNELS: points.shape[0],
        s.TRANSFORM: outputs.origin + scores,
    }
    writer.step(s.PLACE, columns)
