"""CompiledBackend: hands the plan's memory to the compiled engine, one arena for each thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npshapenet.jit import cpu, objects
from npshapenet.jit import steps as s
from npshapenet.jit.plan import Floats, Plan, aligned_zeros, make_plan
from npshapenet.network import INPUT, Network

Gray = NDArray[np.uint8] | NDArray[np.float32]


class Normalisation(Protocol):
    """Network input = gray in [0, 1] · scale + offset."""

    @property
    def scale(self) -> float: ...
    @property
    def offset(self) -> float: ...


def origin() -> str:
    """Where the compiled code came from: "compiled now", "kept in <folder>" or why it is not."""
    return objects.library().origin


def resize(gray: Gray, height: int, width: int) -> Floats:
    """A gray image (H, W) → float32 (height, width) by the triangle filter, in its own units."""
    row = max(width, cpu.target().registers.floats)
    out = np.empty((height, row), np.float32)
    _resize_into(gray, gray.shape, (height, width), (1.0, 0.0), out.ctypes.data, row)
    return np.ascontiguousarray(out[:, :width])


def _resize_into(
    gray: Gray,
    widened: tuple[int, int],
    size: tuple[int, int],
    scale_and_offset: tuple[float, float],
    out: int,
    out_row: int,
) -> None:
    """gray (H, W), taken as if ``widened`` by its edges, → ``size`` rows and columns at the
    address ``out``; see jit/resizing.py."""
    height, width = gray.shape
    scratch = _memory.scratch(size[0] * width)
    panel = _memory.panel((width + 1) * cpu.target().registers.floats)
    address = gray.ctypes.data
    objects.library().resize(
        address,
        address,
        gray.dtype != np.uint8,
        height,
        width,
        *widened,
        size[0],
        *scale_and_offset,
        out,
        out_row,
        scratch.ctypes.data,
        size[1],
        panel.ctypes.data,
    )


class _ThreadMemory(threading.local):
    """Memory for the resize: grows with the largest crop that this thread has seen."""

    def __init__(self) -> None:
        self._scratch = self._panel = aligned_zeros(0)

    def scratch(self, count: int) -> Floats:
        if self._scratch.size < count:
            self._scratch = aligned_zeros(count)
        return self._scratch

    def panel(self, count: int) -> Floats:
        if self._panel.size < count:
            self._panel = aligned_zeros(count)
        return self._panel


_memory = _ThreadMemory()


class _Prepared:
    """A plan and its addresses, as the engine's C function takes them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        is_load = plan.steps[:, s.KIND] == s.LOAD
        # For crops, which the resize puts straight into the arena, no image is loaded.
        self._steps_by_load = (np.ascontiguousarray(plan.steps[~is_load]), plan.steps)
        self._steps = [(steps.ctypes.data, len(steps)) for steps in self._steps_by_load]
        self._weights = plan.weights.ctypes.data
        self._input_size = math.prod(plan.images[INPUT].shape)

    def run(self, arena: int, images: int, count: int, out: int, *, load: bool) -> None:
        """Run all steps for ``count`` images; addresses of the arena, images and outputs."""
        objects.library().run(
            *self._steps[load],
            self._weights,
            arena,
            images,
            count,
            self._input_size,
            out,
            self.plan.output_count,
        )


class CompiledBackend:
    """A network's outputs by compiled code; any number of threads may call one backend."""

    name = "numba"

    def __init__(
        self, network: Network, tensors: Mapping[str, Floats], normalisation: Normalisation
    ) -> None:
        self._network = network
        self._tensors = {key: np.asarray(value, np.float32) for key, value in tensors.items()}
        self._normalisation = normalisation
        self._prepared = _Prepared(self._plan())
        self._thread = threading.local()

    def _plan(self, *, fuse: bool = True, share: bool = True) -> Plan:
        registers = cpu.target().registers
        return make_plan(self._network, self._tensors, registers, fuse=fuse, share=share)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "network": self._network,
            "tensors": self._tensors,
            "normalisation": self._normalisation,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # arenas and addresses are made anew

    def _arena(self) -> int:
        """The address of this thread's arena."""
        try:
            return self._thread.address  # type: ignore[no-any-return]
        except AttributeError:
            self._thread.arena = self._prepared.plan.new_arena()
            self._thread.address = self._thread.arena.ctypes.data
            return self._thread.address  # type: ignore[no-any-return]

    def warmup(self) -> None:
        """Load or compile the engine, so that the next call is fast."""
        objects.library()

    def run(self, images: Floats) -> Floats:
        """Images (N, C, H, W) as the network reads them → outputs (N, P)."""
        images = np.ascontiguousarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != self._network.input_shape:
            expected = ", ".join(map(str, self._network.input_shape))
            raise ValueError(f"images must be (N, {expected}), not {images.shape}")
        outputs = np.empty((len(images), self._prepared.plan.output_count), np.float32)
        self._prepared.run(
            self._arena(), images.ctypes.data, len(images), outputs.ctypes.data, load=True
        )
        return outputs

    def outputs(self, crops: Sequence[Gray]) -> Floats:
        """Checked gray crops (H, W) of any sizes → outputs (N, P)."""
        channels, height, width = self._network.input_shape
        if channels != 1:
            raise ValueError(f"gray crops can't feed a network that reads {channels} channels")
        outputs = np.empty((len(crops), self._prepared.plan.output_count), np.float32)
        target = self._prepared.plan.images[INPUT]
        if target.pixel != 1 or width < cpu.target().registers.floats:
            images = np.stack([self._network_input(crop) for crop in crops])
            return self.run(images[:, None]) if len(crops) else outputs
        arena = self._arena()
        out, out_size = outputs.ctypes.data, outputs.strides[0]
        for number, crop in enumerate(crops):
            self._resize(crop, arena + 4 * target.origin, target.row)
            self._prepared.run(arena, 0, 1, out + number * out_size, load=False)
        return outputs

    def _resize(self, crop: Gray, out: int, out_row: int) -> None:
        """Widen a crop to a square, resize and normalise it; to the address ``out``."""
        side = max(crop.shape)
        scale, offset = self._normalisation.scale, self._normalisation.offset
        if crop.dtype == np.uint8:
            scale /= 255
        size = self._network.input_shape[1:]
        _resize_into(crop, (side, side), size, (scale, offset), out, out_row)

    def _network_input(self, crop: Gray) -> Floats:
        _, height, width = self._network.input_shape
        row = max(width, cpu.target().registers.floats)
        out = np.empty((height, row), np.float32)
        self._resize(crop, out.ctypes.data, row)
        return out[:, :width]

    def layer_outputs(self, image: Floats) -> dict[str, Floats]:
        """One image (C, H, W) → every layer's output (C, H, W), for parity tests.

        Computed by the same steps as ``run`` where they give a layer's output; a layer that is
        fused with the next is taken from a second, unfused plan.
        """
        image = np.ascontiguousarray(image, np.float32)
        found = {}
        for fuse in (False, True):
            plan = self._plan(fuse=fuse, share=False)
            arena = plan.new_arena()
            out = np.empty(plan.output_count, np.float32)
            _Prepared(plan).run(
                arena.ctypes.data, image.ctypes.data, 1, out.ctypes.data, load=True
            )
            for name, place in plan.images.items():
                found[name] = place.view(arena).copy()
        return {layer.name: found[layer.name] for layer in self._network.layers}
