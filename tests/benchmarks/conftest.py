"""What the benchmarks' tests share: a workload of the small network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import npshapenet
from benchmarks.workload import Workload, make_workload
from npshapenet.layers import (
    LAYER_TYPES,
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
from npshapenet.network import Network

Floats = NDArray[np.float32]

EVERY_LAYER = Network(
    (1, 21, 17),
    (
        Convolution("stem", "input", 16, (3, 3), (2, 2), (1, 1), activation="hard_swish"),
        Convolution("depthwise", "stem", 16, (3, 3), (1, 1), (1, 1), 16, "relu"),
        Convolution("pointwise", "depthwise", 16, (1, 1)),
        Add("residual", "stem", "pointwise"),
        InstanceNorm("instance_norm", "residual"),
        Convolution("wide", "instance_norm", 12, (1, 5), (1, 2), (0, 2), 4, "relu"),
        GroupNorm("group_norm", "wide", groups=3),
        Convolution("tall", "group_norm", 20, (5, 1), (2, 1), activation="hard_swish"),
        Add("sum", "tall", "tall", activation="relu"),
        Dense("flat", "sum", 9, activation="relu"),
        GlobalAveragePool("pool", "sum"),
        Dense("hidden", "pool", 9, activation="hard_swish"),
        Add("both", "flat", "hidden", activation="hard_swish"),
        Enlarge("enlarged", "tall", factor=2),
        MeanPlaces("places", "enlarged"),
        PointDepthwise("seen", "wide", "places", places=2, activation="relu"),
        Dense("moved", "seen", 40),
        ShapeFit("fit", "moved", scores=3),
        Join("joined", "both", "fit"),
        Dense("head", "joined", 10),
    ),
)
assert {type(layer) for layer in EVERY_LAYER.layers} == set(LAYER_TYPES.values())


@pytest.fixture
def every_layer() -> Network:
    """All layer types, activations, and both ways to read an output twice."""
    return EVERY_LAYER


@pytest.fixture
def every_tensor(make_tensors: Callable[[Network], dict[str, Floats]]) -> dict[str, Floats]:
    return make_tensors(EVERY_LAYER)


@pytest.fixture(scope="session")
def work(weights_file: Path) -> Workload:
    return make_workload(str(weights_file), npshapenet.load(weights_file, backend="numpy"))
