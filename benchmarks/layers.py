"""Where the time of the compiled network goes: each part of its plan, timed while it runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from benchmarks.compiled_steps import CompiledSteps
from benchmarks.peak import make_peak
from benchmarks.timing import Call
from benchmarks.workload import Workload
from npshapenet.layers import Add, Convolution, Dense, Layer, Shape
from npshapenet.model import Backend
from npshapenet.network import Network

#: Passes through all parts in a round.
_PASSES: Final = 20

#: Rounds of the peak's loop in a pass: as long as a small network.
_PEAK_LOOPS: Final = 2_000

#: What the clock can't tell from nothing.
_LEAST_S: Final = 1e-9

_BYTES: Final = 4


@dataclass(frozen=True)
class LayerTime:
    """One part of the plan: what it is, and the median of its times."""

    name: str
    what: str
    seconds: float
    multiply_adds: int
    bytes_touched: int  # weights, inputs and output, each once


@dataclass(frozen=True)
class Profile:
    """The parts in running order; and, of the same rounds, the whole network and the peak."""

    layers: list[LayerTime]
    whole_s: float  # all parts in one call
    crop_s: float  # from a gray crop, in one call
    peak_flops: float  # in a second
    call_s: float  # the time of an empty call, which is taken off that of each part


def profile(work: Workload, backend: Backend, rounds: int) -> Profile:
    """Time the parts of the compiled backend, and the whole, in as many rounds of passes."""
    network = work.weights.network
    steps = CompiledSteps(network, work.weights.tensors, work.image[0])
    if not np.array_equal(steps.run_all(), backend.run(work.image)[0]):
        raise RuntimeError("the parts of the plan don't give what the whole gives")
    peak = make_peak(_PEAK_LOOPS)
    calls: list[Call] = [
        *(partial(steps.run, part) for part in range(len(steps.names))),
        steps.run_nothing,
        lambda: backend.run(work.image),
        lambda: backend.outputs([work.crop.gray]),
        peak,
    ]
    # All in turn and each alone: what interrupts one doesn't stretch the others.
    passes = [[_seconds(call) for call in calls] for _ in range(rounds * _PASSES)]
    *parts_s, call_s, whole_s, crop_s, peak_s = np.median(passes, axis=0).tolist()
    layers = [
        LayerTime(
            name=name,
            what=" + ".join(_describe(network, layer) for layer in group),
            seconds=max(seconds - call_s, _LEAST_S),
            multiply_adds=sum(layer.multiply_adds(*_inputs(network, layer)) for layer in group),
            bytes_touched=_BYTES * _numbers_touched(network, group),
        )
        for name, group, seconds in zip(steps.names, steps.layers, parts_s, strict=True)
    ]
    return Profile(
        layers=layers,
        whole_s=whole_s,
        crop_s=crop_s,
        peak_flops=peak.flops_per_call / (peak_s - call_s),
        call_s=call_s,
    )


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _inputs(network: Network, layer: Layer) -> tuple[Shape, ...]:
    shapes = network.shapes()
    return tuple(shapes[name] for name in layer.inputs)


def _describe(network: Network, layer: Layer) -> str:
    """Such as ``3×3 depthwise /2, 64×14×14 → 64×7×7``; sizes are C×H×W."""
    inputs = _inputs(network, layer)
    before = "×".join(map(str, inputs[0]))
    after = "×".join(map(str, network.shapes()[layer.name]))
    if isinstance(layer, Add):
        return "add"
    if isinstance(layer, Dense):
        return f"dense, {math.prod(inputs[0])} → {layer.out_features}"
    if not isinstance(layer, Convolution):
        return f"{type(layer).__name__}, {before} → {after}"
    kind = "×".join(map(str, layer.kernel))
    if layer.groups > 1:
        is_depthwise = layer.groups == inputs[0][0] == layer.out_channels
        kind += " depthwise" if is_depthwise else f" in {layer.groups} groups"
    if layer.stride != (1, 1):
        down, across = layer.stride
        kind += f" /{down}" if down == across else f" /{down}×{across}"
    return f"{kind}, {before} → {after}"


def _numbers_touched(network: Network, group: tuple[Layer, ...]) -> int:
    """Tensors of these layers, what they read from others, and the output of the last."""
    if not group:
        return 0
    names = {layer.name for layer in group}
    count = math.prod(network.shapes()[group[-1].name])
    for layer in group:
        shapes = _inputs(network, layer)
        count += sum(math.prod(shape) for shape in layer.tensor_shapes(*shapes).values())
        count += sum(
            math.prod(shape)
            for name, shape in zip(layer.inputs, shapes, strict=True)
            if name not in names
        )
    return count
