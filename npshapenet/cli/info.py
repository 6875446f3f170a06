"""npshapenet info: what a weights file holds, where it comes from, and its terms."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from npshapenet import jit
from npshapenet.cli.arguments import examples, open_model
from npshapenet.layers import Convolution, Dense, GroupNorm, Layer, PointDepthwise, Shape
from npshapenet.model import DEFAULT_MODEL, Model, bundled_models

_WIDTH: Final = 100
_TEXT_MAX: Final = 8 * _WIDTH

_DESCRIPTION: Final = """\
Say what a weights file holds: its terms and origin, the shape model, the layers of the network and
what they cost; and what would compute it here.
"""

_EXAMPLES: Final = (
    "npshapenet info                  the default model",
    "npshapenet info ./weights.npz    a file of one's own",
)


def add_to(subcommands: Any) -> None:
    """Add the subcommand to npshapenet's parser."""
    parser = subcommands.add_parser(
        "info",
        help="say what a weights file holds, and its terms",
        description=_DESCRIPTION,
        epilog=examples(_EXAMPLES),
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        nargs="?",
        default=DEFAULT_MODEL,
        help=f"a bundled model ({', '.join(bundled_models())}) or the path of a weights file, "
        "which has a folder or ends in .npz; default: %(default)s",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print it, and return the exit status."""
    model = open_model(arguments.weights)
    for title, text in _summary(arguments.weights, model):
        print(f"{title:<12}{text}")
    print()
    origin = {key: item for key, item in model.weights.provenance.items() if key != "terms"}
    for line in _outline(origin):
        print(line)
    print()
    for line in _layer_table(model):
        print(line)
    return 0


def _summary(name_or_path: str, model: Model) -> Iterator[tuple[str, str]]:
    weights = model.weights
    _, height, width = weights.network.input_shape
    file, size = _file(name_or_path)
    numbers = sum(tensor.size for tensor in weights.tensors.values())
    yield "file", f"{file}, {size / 1024:.0f} KiB, stored as {weights.storage}"
    yield "terms", _printable(weights.provenance.get("terms", "not stated"))
    yield "input", f"{width}×{height} gray, a square {weights.crop_factor:g} times the face's box"
    components = len(weights.shape_model.components)
    quality = ", and a quality" if weights.has_quality else ""
    yield (
        "output",
        f"{weights.landmark_count} points ({weights.markup}) of {components} components{quality}",
    )
    yield (
        "network",
        f"{len(weights.network.layers)} layers, {numbers:,} weights, "
        f"{weights.network.multiply_adds():,} multiply-adds",
    )
    yield "backend", model.backend_name
    if model.backend_name == "numba":
        model.warmup()
        yield "compiled", jit.origin()


def _file(name_or_path: str) -> tuple[str, int]:
    """Where the weights file is, and how many bytes it has."""
    if name_or_path not in bundled_models():
        return name_or_path, Path(name_or_path).stat().st_size
    # Not a path: the package may lie in a zip file.
    file = files("npshapenet") / "models" / f"{name_or_path}.npz"
    return str(file), len(file.read_bytes())


def _outline(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """JSON as indented lines, a key each, those that hold others last; lists as JSON, cut short."""
    for key, item in sorted(value.items(), key=lambda entry: isinstance(entry[1], Mapping)):
        if isinstance(item, Mapping):
            yield f"{indent}{_printable(key)}:"
            yield from _outline(item, indent + "  ")
        else:
            text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            yield from textwrap.wrap(
                textwrap.shorten(f"{_printable(key)}: {_printable(text)}", _TEXT_MAX),
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent + "    ",
            )


def _layer_table(model: Model) -> Iterator[str]:
    network = model.weights.network
    shapes = network.shapes()
    rows = [("layer", "type", "reads", "gives (C, H, W)", "multiply-adds")]
    for layer, inputs in network.with_input_shapes():
        rows.append(
            (
                _printable(layer.name),
                _layer_type(layer, inputs),
                _printable(", ".join(layer.inputs)),
                "×".join(map(str, shapes[layer.name])),
                f"{layer.multiply_adds(*inputs):,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *texts, cost in rows:
        columns = [f"{text:<{width}}" for text, width in zip(texts, widths, strict=False)]
        yield "  ".join([*columns, f"{cost:>{widths[-1]}}"])


def _layer_type(layer: Layer, inputs: tuple[Shape, ...]) -> str:
    words = [type(layer).__name__]
    if isinstance(layer, Convolution):
        words.append("×".join(map(str, layer.kernel)))
        if layer.stride != (1, 1):
            words.append(f"stride {'×'.join(map(str, layer.stride))}")
        if layer.groups > 1:
            is_depthwise = layer.groups == inputs[0][0]
            words.append("depthwise" if is_depthwise else f"groups {layer.groups}")
    if isinstance(layer, GroupNorm):
        words.append(f"groups {layer.groups}")
    if isinstance(layer, PointDepthwise):
        words.append(f"{layer.places} places")
    if isinstance(layer, Convolution | Dense | PointDepthwise) and layer.activation != "none":
        words.append(layer.activation)
    return " ".join(words)


def _printable(text: object) -> str:
    """Text of a file from anywhere, without the characters that steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))
