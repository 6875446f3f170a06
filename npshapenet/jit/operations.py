"""From a network's layers to operations: which layers run as one, and what images they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from npshapenet.jit import steps as s
from npshapenet.jit.arena import Image, Lifetime, rounded_up
from npshapenet.layers import Add, Convolution, Dense, Layer, Shape
from npshapenet.network import INPUT, Network


class Operation(NamedTuple):
    """One layer, or a convolution and the addition that follows it, as one computation."""

    layer: Layer
    name: str  # of its output
    inputs: tuple[str, ...]
    activation: str  # that of the addition where one is fused, not the layer's
    addend: str | None = None  # only where one is fused: else all operands are among inputs


def find_operations(network: Network, *, fuse: bool) -> list[Operation]:
    """The layers in running order, additions fused with the convolution before where possible."""
    shapes = network.shapes()
    operations: list[Operation] = []
    readers = [name for layer in network.layers for name in layer.inputs]
    for layer in network.layers:
        activation = getattr(layer, "activation", "none")
        if isinstance(layer, Add) and fuse:
            before = _fusable(layer, operations, readers, shapes)
            if before is not None:
                index = operations.index(before)
                other = layer.other if layer.input == before.name else layer.input
                operations[index] = before._replace(
                    name=layer.name, activation=activation, addend=other
                )
                continue
        operations.append(Operation(layer, layer.name, layer.inputs, activation))
    return operations


def _fusable(
    add: Add, operations: list[Operation], readers: list[str], shapes: Mapping[str, Shape]
) -> Operation | None:
    """The convolution that can add the other operand itself: it is linear, nothing else reads
    its output, and the other operand is there before it runs. (A depthwise one can't: its
    kernel has no addend; no network has needed one.)"""
    known = []  # not INPUT, whose pixels may be closer together than the output's
    for operation in operations:
        layer = operation.layer
        other = add.other if operation.name == add.input else add.input
        if (
            isinstance(layer, Convolution | Dense)
            and not is_depthwise(layer, shapes[layer.input])
            and operation.name in (add.input, add.other)
            and operation.addend is None
            and operation.activation == "none"
            and readers.count(operation.name) == 1
            and other in known
        ):
            return operation
        known.append(operation.name)
    return None


def lay_out_images(network: Network, operations: list[Operation]) -> dict[str, Image]:
    """An image for the input and for each operation's output, with the border its readers need.

    The input keeps its channel count, a gray image one float a pixel, where only convolutions that
    aren't depthwise read it: they load one float at a time, the others whole vectors.
    Everything else is filled up to whole vectors.
    """
    shapes = network.shapes()
    borders: dict[str, tuple[int, int]] = {}
    input_is_unfilled = True
    for operation in operations:
        layer = operation.layer
        if INPUT in operation.inputs and (
            not isinstance(layer, Convolution) or is_depthwise(layer, shapes[INPUT])
        ):
            input_is_unfilled = False
        if isinstance(layer, Convolution):
            old = borders.get(layer.input, (0, 0))
            borders[layer.input] = (max(old[0], layer.padding[0]), max(old[1], layer.padding[1]))
    images = {}
    for name in [INPUT, *(operation.name for operation in operations)]:
        channels = shapes[name][0]
        is_exact = name == INPUT and input_is_unfilled
        pixel_pitch = channels if is_exact else rounded_up(channels, s.CHANNEL_MULTIPLE)
        images[name] = Image(shapes[name], pixel_pitch, borders.get(name, (0, 0)))
    return images


def find_lifetimes(operations: list[Operation], images: dict[str, Image]) -> list[Lifetime]:
    first = {INPUT: 0}
    last = {INPUT: 0}
    for number, operation in enumerate(operations):
        first[operation.name] = number
        for name in (*operation.inputs, operation.addend, operation.name):
            if name is not None:
                last[name] = number
    last[operations[-1].name] = len(operations)  # STORE reads it after all operations
    return [Lifetime(image, first[name], last[name]) for name, image in images.items()]


def is_depthwise(layer: Convolution | Dense, shape: Shape) -> bool:
    if isinstance(layer, Dense):
        return False
    return layer.groups == shape[0] == layer.out_channels and layer.groups > 1
