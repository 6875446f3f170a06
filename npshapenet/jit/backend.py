"""CompiledBackend: hands the plan's memory to the compiled engine, one arena a call."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from npshapenet.jit import objects
from npshapenet.jit import steps as s
from npshapenet.jit.arena import CHANNEL_MULTIPLE, Image
from npshapenet.jit.plan import Plan, aligned_zeros, make_plan, resize_step
from npshapenet.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Gray = NDArray[np.uint8] | NDArray[np.float32]

# Inside a call threads don't wait for each other, as they do for Python between two; but a call
# can't be interrupted.
_CROPS_PER_CALL = 16


class Normalisation(Protocol):
    """Network input = gray in [0, 1] · scale + offset."""

    @property
    def scale(self) -> float: ...
    @property
    def offset(self) -> float: ...


def _address(array: NDArray[Any]) -> int:
    """Where an array's memory is; ``array.ctypes.data`` takes a whole microsecond."""
    if array.flags.writeable and array.size:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    return array.ctypes.data


def origin() -> str:
    """Where the compiled code came from: "carried with the package (<level>)", "compiled now",
    "kept in <folder>" or why it is not."""
    return objects.library().origin


def is_carried() -> bool:
    """Whether the package carries the compiled code for this CPU: then numba isn't needed."""
    return objects.is_carried()


def resize(gray: Gray, height: int, width: int) -> Floats:
    """A gray image (H, W) → float32 (height, width) by the triangle filter, in its own units."""
    pixels = _resized(gray, height, width, widen=False)
    return pixels if gray.dtype != np.uint8 else pixels * np.float32(255)


def _resized(gray: Gray, height: int, width: int, *, widen: bool) -> Floats:
    """``gray`` in [0, 1], bytes made so, as float32 (height, width)."""
    row = max(width, objects.registers().floats)
    out = np.empty((height, row), np.float32)
    image = Image((1, height, width), 1, offset=0)
    step = resize_step(image, widen=widen, weights=0)
    step[s.OUTPUT_ROW] = row
    weights = np.array([1, 0], np.float32)
    scratch = _scratch.address(gray.shape, height)
    objects.library().run(
        step.ctypes.data, 1, weights.ctypes.data, out.ctypes.data,
        None, 1, 0, None, 0, _crop_table([gray]), scratch,
    )  # fmt: skip
    return np.ascontiguousarray(out[:, :width])


def _crop_table(crops: Sequence[Gray]) -> ctypes.Array[ctypes.c_int64]:
    """Where the engine finds gray crops: see steps.py."""
    numbers: list[int] = []
    for crop in crops:
        numbers += _address(crop), crop.dtype != np.uint8, *crop.shape
    return (ctypes.c_int64 * len(numbers))(*numbers)


class _Scratch(threading.local):
    """Memory for the resize: grows with the largest crop that this thread has seen."""

    def __init__(self) -> None:
        self._size = 0

    def address(self, shape: tuple[int, ...], out_height: int) -> int:
        """For a crop of ``shape`` that becomes ``out_height`` rows; see jit/resizing.py."""
        height, width = shape
        size = max(height, CHANNEL_MULTIPLE * (width + 1)) + out_height * width
        if size > self._size:
            self._size = size
            self._memory = aligned_zeros(size)
            self._address: int = self._memory.ctypes.data
        return self._address


_scratch = _Scratch()


class CompiledBackend:
    """A network's outputs by compiled code; any number of threads may call one backend."""

    name = "numba"

    def __init__(
        self, network: Network, tensors: Mapping[str, Floats], normalisation: Normalisation
    ) -> None:
        self._network = network
        self._tensors = {key: np.asarray(value, np.float32) for key, value in tensors.items()}
        self._normalisation = normalisation
        self._plan = self._make_plan()
        # As many as there were calls at the same time: the threads of a batch come and go, and the
        # memory of a new arena has to be found by the system first.
        self._free_arenas: list[tuple[int, Floats]] = []
        # Addresses and sizes, taken once: asking an array for its address takes a microsecond.
        self._steps, self._weights = self._plan.steps.ctypes.data, self._plan.weights.ctypes.data
        self._step_count, self._output_count = len(self._plan.steps), self._plan.output_count
        self._input_shape, self._input_size = network.input_shape, math.prod(network.input_shape)
        crop_steps = self._plan.crop_steps
        self._crop_steps = None if crop_steps is None else crop_steps.ctypes.data

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._network, self._tensors, self._normalisation)

    def _make_plan(self, *, fuse: bool = True, share: bool = True) -> Plan:
        return make_plan(
            self._network,
            self._tensors,
            objects.registers(),
            scale=self._normalisation.scale,
            offset=self._normalisation.offset,
            fuse=fuse,
            share=share,
        )

    def _take_arena(self) -> tuple[int, Floats]:
        """An arena that no other call uses, its address first; to be put back."""
        try:
            return self._free_arenas.pop()
        except IndexError:
            arena = self._plan.new_arena()
            return arena.ctypes.data, arena

    def warmup(self) -> None:
        """Load or compile the engine, so that the next call is fast."""
        objects.library()

    def run(self, images: Floats) -> Floats:
        """Images (N, C, H, W) as the network reads them → outputs (N, P)."""
        images = np.ascontiguousarray(images, np.float32)
        count = len(images)
        if images.shape != (count, *self._input_shape):
            expected = ", ".join(map(str, self._input_shape))
            raise ValueError(f"images must be (N, {expected}), not {images.shape}")
        outputs = np.empty((count, self._output_count), np.float32)
        arena = self._take_arena()
        objects.library().run(
            self._steps, self._step_count, self._weights, arena[0],
            _address(images), count, self._input_size,
            _address(outputs), self._output_count, None, None,
        )  # fmt: skip
        self._free_arenas.append(arena)
        return outputs

    def outputs(self, crops: Sequence[Gray]) -> Floats:
        """Checked gray crops (H, W) of any sizes → outputs (N, P)."""
        channels, height, _ = self._input_shape
        if channels != 1:
            raise ValueError(f"gray crops can't feed a network that reads {channels} channels")
        if self._crop_steps is None:
            images = np.empty((len(crops), *self._input_shape), np.float32)
            for image, crop in zip(images, crops, strict=True):
                image[0] = self._network_input(crop)
            return self.run(images)
        run, arena, step_count = objects.library().run, self._take_arena(), self._step_count
        outputs = np.empty((len(crops), self._output_count), np.float32)
        out, out_size = _address(outputs), outputs.strides[0]
        for first in range(0, len(crops), _CROPS_PER_CALL):
            some = crops[first : first + _CROPS_PER_CALL]
            for crop in some:
                scratch = _scratch.address(crop.shape, height)
            run(
                self._crop_steps, step_count, self._weights, arena[0],
                None, len(some), 0, out + first * out_size, self._output_count,
                _crop_table(some), scratch,
            )  # fmt: skip
        self._free_arenas.append(arena)
        return outputs

    def _network_input(self, crop: Gray) -> Floats:
        """What a RESIZE step in the plan would give, for inputs that are too narrow for one."""
        _, height, width = self._network.input_shape
        pixels = _resized(crop, height, width, widen=True)
        scale, offset = self._normalisation.scale, self._normalisation.offset
        return pixels * np.float32(scale) + np.float32(offset)

    def layer_outputs(self, image: Floats) -> dict[str, Floats]:
        """One image (C, H, W) → every layer's output (C, H, W), for parity tests.

        Computed by the same steps as ``run`` where they give a layer's output; a layer that is
        fused with the next is taken from a second, unfused plan.
        """
        image = np.ascontiguousarray(image, np.float32)
        found = {}
        for fuse in (False, True):
            plan = self._make_plan(fuse=fuse, share=False)
            arena, out = plan.new_arena(), np.empty(plan.output_count, np.float32)
            objects.library().run(
                plan.steps.ctypes.data, len(plan.steps), plan.weights.ctypes.data,
                arena.ctypes.data, image.ctypes.data, 1, image.size,
                out.ctypes.data, out.size, None, None,
            )  # fmt: skip
            for name, place in plan.images.items():
                found[name] = place.view(arena).copy()
        return {layer.name: found[layer.name] for layer in self._network.layers}
