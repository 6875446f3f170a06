"""Micro-benchmarks, NumPy and compiled side by side: pytest benchmarks.

Each layer kind and the resize, at the sizes of shapes.toml. The compiled layer runs as a step of
its plan, on its input in the arena; a call of it from Python takes a microsecond more.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.compiled_steps import CompiledSteps
from npshapenet import image, jit, network, plain
from npshapenet.weights import Normalisation

pytest.importorskip("numba")
pytest.importorskip("pytest_benchmark")

Floats = NDArray[np.float32]

SHAPES: dict[str, list[dict[str, Any]]] = tomllib.loads(
    Path(__file__).with_name("shapes.toml").read_text(encoding="utf-8")
)

#: A layer's largest difference, as a share of its largest output (the design's, doubled for
#: two backends that are both in float32).
TOLERANCE = 6e-5

layers = pytest.mark.parametrize("shape", SHAPES["layer"], ids=lambda shape: shape["name"])
resizes = pytest.mark.parametrize("shape", SHAPES["resize"], ids=lambda shape: shape["name"])


class OneLayer:
    """A layer with random tensors, and what it reads: the input, and numbers of another layer."""

    def __init__(self, shape: dict[str, Any]) -> None:
        settings = {key: value for key, value in shape.items() if key not in ("reads", "other")}
        settings |= {"input": network.INPUT}
        graph = [settings]
        if shape["type"] == "Add":
            settings |= {"other": network.INPUT}
        if "other" in shape:
            settings |= {"other": "numbers"}
            pool = {"name": "pool", "type": "GlobalAveragePool", "input": network.INPUT}
            dense = {"name": "numbers", "type": "Dense", "input": "pool"}
            graph = [pool, dense | {"out_features": shape["other"]}, settings]
        self.network = network.from_json({"input_shape": shape["reads"], "layers": graph})
        rng = np.random.default_rng(0)
        self.tensors = {
            name: rng.normal(scale=np.prod(size[1:]) ** -0.5, size=size).astype(np.float32)
            for name, size in self.network.tensor_shapes().items()
        }
        self.image: Floats = rng.normal(size=shape["reads"]).astype(np.float32)
        self.layer = self.network.layers[-1]
        backend = plain.PlainBackend(self.network, self.tensors, Normalisation(1, 0))
        outputs = {network.INPUT: self.image} | backend.layer_outputs(self.image)
        self.images = [outputs[name][None] for name in self.layer.inputs]

    def run_plain(self) -> Floats:
        return plain.run_layer(self.layer, self.tensors, *self.images)


@layers
def test_numpy_layer(benchmark: Any, shape: dict[str, Any]) -> None:
    benchmark.group = shape["name"]
    benchmark(OneLayer(shape).run_plain)


@layers
def test_compiled_layer(benchmark: Any, shape: dict[str, Any]) -> None:
    benchmark.group = shape["name"]
    layer = OneLayer(shape)
    steps = CompiledSteps(layer.network, layer.tensors, layer.image)
    steps.run_all()
    expected = layer.run_plain()[0]
    difference = np.abs(steps.output(shape["name"]) - expected).max()
    assert difference <= TOLERANCE * np.abs(expected).max()
    benchmark(steps.run, steps.names.index(shape["name"]))


@resizes
def test_numpy_resize(benchmark: Any, shape: dict[str, Any]) -> None:
    benchmark.group = shape["name"]
    benchmark(image.resize, _gray(shape), *shape["to"])


@resizes
def test_compiled_resize(benchmark: Any, shape: dict[str, Any]) -> None:
    benchmark.group = shape["name"]
    gray = _gray(shape)
    difference = np.abs(jit.resize(gray, *shape["to"]) - image.resize(gray, *shape["to"])).max()
    assert difference <= 255 * TOLERANCE
    benchmark(jit.resize, gray, *shape["to"])


def _gray(shape: dict[str, Any]) -> NDArray[np.uint8]:
    gray: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape["from"], np.uint8)
    return gray
