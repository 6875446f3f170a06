"""The compiled engine layer by layer: parts of a plan's table of steps, run one at a time.

Only for measuring: a call from Python costs about a microsecond, as much as a small layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

import numpy as np
from numpy.typing import NDArray

from npshapenet.jit import objects
from npshapenet.jit import steps as s
from npshapenet.jit.plan import make_plan
from npshapenet.layers import Layer
from npshapenet.network import INPUT, Network

Floats = NDArray[np.float32]

#: The names of the first and the last part.
LOAD: Final = "load"
STORE: Final = "store"


class CompiledSteps:
    """A network's plan for one image, cut into parts that each compute one image of the arena.

    ``names`` are the parts': LOAD, the layers whose outputs they give, STORE. ``layers`` are the
    layers that each part computes: two where an addition is fused, none for LOAD and STORE.
    """

    def __init__(self, network: Network, tensors: Mapping[str, Floats], image: Floats) -> None:
        """``image`` (C, H, W), as the network reads it."""
        self._plan = make_plan(network, tensors, objects.registers())
        self._engine = objects.library(is_basic=self._plan.is_basic)
        self._arena = self._plan.new_arena()
        self._image = np.ascontiguousarray(image, np.float32)
        self._out = np.empty(self._plan.output_count, np.float32)
        ends = [*self._plan.ends, len(self._plan.steps)]
        self.names = [LOAD, *(name for name in self._plan.images if name != INPUT), STORE]
        self.layers = [_layers(network, name, self._plan.images.keys()) for name in self.names]
        self._parts = [
            self._call(first, end) for first, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        self._nothing = self._call(0, 0)

    def run(self, part: int) -> None:
        """Run one part, on what the parts before it have left in the arena."""
        self._engine.run(self._parts[part].ctypes.data)

    def run_all(self) -> Floats:
        """Run the parts one after the other; the network's outputs (P)."""
        for part in range(len(self.names)):
            self.run(part)
        return self._out

    def run_nothing(self) -> None:
        """A call that computes nothing: what the time of each part has too much."""
        self._engine.run(self._nothing.ctypes.data)

    def output(self, name: str) -> Floats:
        """A layer's output (C, H, W), as long as no later part has used its place."""
        return self._plan.images[name].view(self._arena).copy()

    def _call(self, first: int, end: int) -> NDArray[np.int64]:
        """The call of some steps, as npshapenet.jit.steps describes it."""
        steps = self._plan.steps
        call = np.zeros(s.CALL_COLUMNS, np.int64)
        call[s.CALL_STEPS] = steps.ctypes.data + first * steps.strides[0]
        call[s.CALL_STEP_COUNT] = end - first
        call[s.CALL_WEIGHTS] = self._plan.weights.ctypes.data
        call[s.CALL_ARENA] = self._arena.ctypes.data
        call[s.CALL_IMAGES] = self._image.ctypes.data
        call[s.CALL_IMAGE_COUNT] = 1
        call[s.CALL_OUT] = self._out.ctypes.data
        return call


def _layers(network: Network, name: str, given: Set[str]) -> tuple[Layer, ...]:
    """The layer of that name, after those that it reads and that have no image of their own."""
    by_name = {layer.name: layer for layer in network.layers}
    if name not in by_name:
        return ()
    fused = [by_name[source] for source in by_name[name].inputs if source not in given]
    return *fused, by_name[name]
