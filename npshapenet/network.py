"""The layer graph of a network as data.

A network reads one image (C, H, W) named ``"input"``; each layer reads the output of an earlier
layer by its name, and the output of the last layer is the output of the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, get_args

from npshapenet.layers import LAYER_TYPES, Activation, Layer, NetworkError, Shape

INPUT: Final = "input"

#: Bounds that no honest network comes near, so that a hostile weights file can't ask for more.
LAYERS_MAX: Final = 1024
ELEMENTS_MAX: Final = 1 << 24
MULTIPLY_ADDS_MAX: Final = 1 << 37

# Compiled at the first use, not at import.
_LAYER_NAME: Final = r"[A-Za-z0-9._-]{1,100}"


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
        "layers": [{"type": type(layer).__name__, **layer._asdict()} for layer in network.layers],
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
    name = str(_field_value("", "name", str, entry["name"]))
    layer_type = LAYER_TYPES.get(str(entry.get("type")))
    if layer_type is None:
        raise NetworkError(
            f"layer {name!r} has the unknown type {_short(entry.get('type'))}; "
            f"known are {', '.join(LAYER_TYPES)}"
        )
    fields = layer_type.__annotations__
    values = {key: value for key, value in entry.items() if key != "type"}
    required = set(fields) - set(layer_type._field_defaults)
    if not required <= set(values) <= set(fields):
        raise NetworkError(
            f"layer {name!r} must have {', '.join(fields)}; it has {_short(list(values))}"
        )
    return layer_type(**{key: _field_value(name, key, fields[key], values[key]) for key in values})


def _field_value(layer: str, key: str, annotation: Any, value: Any) -> Any:
    where = f"layer {layer!r}: {key}"
    if annotation is str:
        valid = isinstance(value, str) and re.fullmatch(_LAYER_NAME, value) is not None
    elif annotation == Activation:
        valid = value in get_args(Activation)
    elif annotation is float:
        valid = isinstance(value, float) and 0 < value < 1
    elif annotation is int:
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
