"""The per-layer profile: the parts of the plan give what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.compiled_steps import LOAD, STORE, CompiledSteps
from benchmarks.layers import profile
from benchmarks.report import report_profile
from benchmarks.workload import Workload
from npshapenet.model import Model

pytest.importorskip("numba")


def test_parts_give_what_the_whole_gives(work: Workload) -> None:
    network = work.weights.network
    steps = CompiledSteps(network, work.weights.tensors, work.image[0])
    whole = Model(work.weights, "numba").backend.run(work.image)[0]
    assert np.array_equal(steps.run_all(), whole)
    assert steps.names[0] == LOAD
    assert steps.names[-1] == STORE
    computed = [layer.name for group in steps.layers for layer in group]
    assert computed == [layer.name for layer in network.layers]


def test_profile(work: Workload) -> None:
    found = profile(work, Model(work.weights, "numba").backend, rounds=1)
    assert sum(layer.multiply_adds for layer in found.layers) == work.multiply_adds
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["stem"].what == "3×3 /2, 1×33×33 → 16×17×17"
    assert by_name["depthwise"].what == "3×3 depthwise, 24×17×17 → 24×17×17"
    assert by_name["residual"].what == "1×1, 24×17×17 → 16×17×17 + add"
    assert by_name["wide"].what == "1×5 in 4 groups /1×2, 16×17×17 → 12×17×9"
    assert by_name["head"].what == "dense, 18 → 10"
    # 18 · 10 weights, 10 biases, 18 inputs, 10 outputs
    assert by_name["head"].bytes_touched == 4 * (18 * 10 + 10 + 18 + 10)
    text = report_profile(found)
    assert all(f"| {name} " in text for name in [*by_name, "sum", "network in one call"])
