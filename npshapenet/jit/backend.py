"""CompiledBackend: hands the plan's memory to the compiled engine, one workspace a call."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from npshapenet import image
from npshapenet.jit import objects
from npshapenet.jit import steps as s
from npshapenet.jit.arena import Image
from npshapenet.jit.plan import Plan, aligned_zeros, make_plan, resize_step
from npshapenet.jit.resize_memory import scratch_size
from npshapenet.network import Network
from npshapenet.shape import ShapeModel, split_outputs, with_landmarks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Gray = NDArray[np.uint8] | NDArray[np.float32]

# Inside a call threads don't wait for each other, as they do for Python between two; but a call
# can't be interrupted.
_CROPS_PER_CALL = 32

_STEP, _CROP, _CALL = (
    ctypes.c_int64 * columns for columns in (s.COLUMNS, s.CROP_COLUMNS, s.CALL_COLUMNS)
)


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
    step = resize_step(Image((1, height, width), 1, offset=0), widen=widen, weights=0)
    step[s.OUTPUT_ROW] = row
    weights = np.array([1, 0], np.float32)
    arena = np.empty(height * row, np.float32)
    workspace = _Workspace(arena, weights, (height, width), is_basic=True)
    workspace.run_crops(_Steps(step[None]), [gray], 0, 0)
    return np.ascontiguousarray(workspace.arena.reshape(height, row)[:, :width])


def rgb_to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Part of a photo, ``uint8`` (H, W, 3), to gray (H, W): what ``image.rgb_to_gray`` gives.

    Which is called for pixels that aren't three neighbouring bytes each, in either order, and for
    rows that are narrower than a vector.
    """
    height, width, _ = pixels.shape
    row_bytes, pixel_bytes, channel_bytes = pixels.strides
    if pixel_bytes != 3 or abs(channel_bytes) != 1 or width < objects.registers().floats:
        return image.rgb_to_gray(pixels)
    gray = np.empty((height, width), np.uint8)
    first, shares = pixels.ctypes.data, image.LUMA_SHARES
    if channel_bytes == -1:
        first, shares = first - 2, shares[::-1]
    step, crop, call = _STEP(), _CROP(), _CALL()
    step[s.KIND], step[s.INPUT_ROW] = s.GRAY, row_bytes
    step[s.FIRST_SHARE], step[s.SECOND_SHARE], step[s.THIRD_SHARE] = shares
    crop[s.CROP_ADDRESS], crop[s.CROP_HEIGHT], crop[s.CROP_WIDTH] = first, height, width
    call[s.CALL_STEPS], call[s.CALL_STEP_COUNT] = ctypes.addressof(step), 1
    call[s.CALL_CROPS], call[s.CALL_IMAGE_COUNT] = ctypes.addressof(crop), 1
    call[s.CALL_OUT] = _address(gray)
    library = objects.library(is_basic=True)  # whose code must stay where it is
    library.run(ctypes.addressof(call))
    return gray


class _Workspace:
    """The memory that one call of the engine needs for itself: no two calls share one.

    It has the arena, the scratch for the resize, which grows with the crops, and the call's
    row of numbers, of which little changes from one call to the next.
    """

    def __init__(
        self, arena: Floats, weights: Floats, network_size: tuple[int, int], *, is_basic: bool
    ) -> None:
        """``network_size``: rows and columns of the network's input; ``is_basic``: see Plan."""
        self.arena = arena
        self._network_size, self._vector_floats = network_size, objects.registers().floats
        self._scratch = np.empty(0, np.float32)
        # The last crop's size, for which the scratch is large enough.
        self._fits: tuple[int, ...] = (0, 0)
        self._crops = (ctypes.c_int64 * (_CROPS_PER_CALL * s.CROP_COLUMNS))()
        self._call = _CALL()
        self._call[s.CALL_WEIGHTS] = weights.ctypes.data
        self._call[s.CALL_ARENA] = arena.ctypes.data
        self._call[s.CALL_CROPS] = ctypes.addressof(self._crops)
        self._call_address = ctypes.addressof(self._call)
        self._library = objects.library(is_basic=is_basic)  # whose code must stay where it is
        self._run = self._library.run

    def run_images(self, steps: _Steps, images: Floats, out: Floats) -> None:
        """images (N, C, H, W) → out (N, P)."""
        call = self._call
        call[s.CALL_STEPS], call[s.CALL_STEP_COUNT] = steps.address, steps.count
        call[s.CALL_IMAGES], call[s.CALL_IMAGE_COUNT] = _address(images), len(images)
        call[s.CALL_IMAGE_SIZE], call[s.CALL_OUT_SIZE] = images[0].size, out[0].size
        call[s.CALL_OUT] = _address(out)
        self._run(self._call_address)

    def run_crops(self, steps: _Steps, crops: Sequence[Gray], out: int, out_size: int) -> None:
        """Up to _CROPS_PER_CALL crops → so many times ``out_size`` floats, from ``out`` on."""
        call, numbers, place = self._call, self._crops, 0
        for crop in crops:
            shape = crop.shape
            if shape != self._fits:
                self._make_room(shape)
            numbers[place] = _address(crop)
            numbers[place + s.CROP_IS_FLOAT] = crop.dtype != np.uint8
            numbers[place + s.CROP_HEIGHT], numbers[place + s.CROP_WIDTH] = shape
            place += s.CROP_COLUMNS
        call[s.CALL_STEPS], call[s.CALL_STEP_COUNT] = steps.address, steps.count
        call[s.CALL_IMAGE_COUNT] = len(crops)
        call[s.CALL_OUT], call[s.CALL_OUT_SIZE] = out, out_size
        self._run(self._call_address)

    def _make_room(self, shape: tuple[int, ...]) -> None:
        size = scratch_size(shape, self._network_size, self._vector_floats)
        if size > len(self._scratch):
            self._scratch = aligned_zeros(size)
            self._call[s.CALL_SCRATCH] = self._scratch.ctypes.data
        self._fits = shape


class _Steps:
    """A table of steps, and where it is: asking an array for its address takes a microsecond."""

    def __init__(self, table: NDArray[np.int64]) -> None:
        self.table, self.address, self.count = table, table.ctypes.data, len(table)


class CompiledBackend:
    """A network's outputs by compiled code; any number of threads may call one backend."""

    name = "numba"

    def __init__(
        self,
        network: Network,
        tensors: Mapping[str, Floats],
        normalisation: Normalisation,
        shape_model: ShapeModel | None = None,
    ) -> None:
        self._network = network
        self._tensors = {key: np.asarray(value, np.float32) for key, value in tensors.items()}
        self._normalisation = normalisation
        self._shape_model = shape_model
        self._plan = self._make_plan()
        # As many as there were calls at the same time: the memory of a new arena has to be found by
        # the system first.
        self._free_workspaces: list[_Workspace] = []
        self._input_shape = network.input_shape
        self._image_steps = _Steps(self._plan.steps)
        self._crop_steps, self._landmark_steps, self._both_steps = (
            None if steps is None else _Steps(steps)
            for steps in (self._plan.crop_steps, self._plan.landmark_steps, self._plan.both_steps)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = self._network, self._tensors, self._normalisation, self._shape_model
        return type(self), arguments

    def _make_plan(self, *, fuse: bool = True, share: bool = True) -> Plan:
        return make_plan(
            self._network,
            self._tensors,
            objects.registers(),
            scale=self._normalisation.scale,
            offset=self._normalisation.offset,
            shape_model=self._shape_model,
            fuse=fuse,
            share=share,
        )

    def _take_workspace(self) -> _Workspace:
        """One that no other call uses; to be put back."""
        try:
            return self._free_workspaces.pop()
        except IndexError:
            return self._new_workspace(self._plan)

    def _new_workspace(self, plan: Plan) -> _Workspace:
        size = self._input_shape[1:]
        return _Workspace(plan.new_arena(), plan.weights, size, is_basic=plan.is_basic)

    def warmup(self) -> None:
        """Load or compile the engine, so that the next call is fast."""
        objects.library(is_basic=self._plan.is_basic)

    def run(self, images: Floats) -> Floats:
        """Images (N, C, H, W) as the network reads them → outputs (N, P)."""
        images = np.ascontiguousarray(images, np.float32)
        count = len(images)
        if images.shape != (count, *self._input_shape):
            expected = ", ".join(map(str, self._input_shape))
            raise ValueError(f"images must be (N, {expected}), not {images.shape}")
        outputs = np.empty((count, self._plan.output_count), np.float32)
        if count:
            workspace = self._take_workspace()
            workspace.run_images(self._image_steps, images, outputs)
            self._free_workspaces.append(workspace)
        return outputs

    def outputs(self, crops: Sequence[Gray]) -> Floats:
        """Checked gray crops (H, W) of any sizes → outputs (N, P)."""
        if self._input_shape[0] != 1:
            channels = self._input_shape[0]
            raise ValueError(f"gray crops can't feed a network that reads {channels} channels")
        if self._crop_steps is None:
            images = np.empty((len(crops), *self._input_shape), np.float32)
            for image, crop in zip(images, crops, strict=True):
                image[0] = self._network_input(crop)
            return self.run(images)
        outputs = np.empty((len(crops), self._plan.output_count), np.float32)
        self._run_crops(self._crop_steps, crops, outputs)
        return outputs

    def landmarks(self, crops: Sequence[Gray]) -> Floats:
        """Checked gray crops (H, W) of any sizes → landmarks (N, L, 2) in pixels of each crop."""
        if self._shape_model is None:
            raise ValueError("landmarks need a shape model, and this backend was given none")
        if self._landmark_steps is None:
            sizes = [crop.shape for crop in crops]
            return split_outputs(self.outputs(crops), self._shape_model).crop_landmarks(sizes)
        landmarks = np.empty((len(crops), *self._shape_model.mean.shape), np.float32)
        self._run_crops(self._landmark_steps, crops, landmarks)
        return landmarks

    def outputs_and_landmarks(self, crops: Sequence[Gray]) -> Floats:
        """Checked gray crops (H, W) of any sizes → their outputs and landmarks (N, P + 2·L)."""
        if self._shape_model is None:
            raise ValueError("landmarks need a shape model, and this backend was given none")
        if self._both_steps is None:
            sizes = [crop.shape for crop in crops]
            return with_landmarks(self.outputs(crops), self._shape_model, sizes)
        columns = self._plan.output_count + self._shape_model.mean.size
        both = np.empty((len(crops), columns), np.float32)
        self._run_crops(self._both_steps, crops, both)
        return both

    def rgb_to_gray(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Part of a photo, ``uint8`` (H, W, 3), to gray (H, W)."""
        return rgb_to_gray(pixels)

    def _run_crops(self, steps: _Steps, crops: Sequence[Gray], out: Floats) -> None:
        """Write the results of each crop to its place in ``out`` (N, …)."""
        workspace = self._take_workspace()
        count, address, stride = len(crops), _address(out), out.strides[0]
        for first in range(0, count, _CROPS_PER_CALL):
            some = crops if count <= _CROPS_PER_CALL else crops[first : first + _CROPS_PER_CALL]
            workspace.run_crops(steps, some, address + first * stride, stride // 4)
        self._free_workspaces.append(workspace)

    def _network_input(self, crop: Gray) -> Floats:
        """What a RESIZE step in the plan would give, for inputs that are too narrow for one."""
        _, height, width = self._network.input_shape
        pixels = _resized(crop, height, width, widen=True)
        scale, offset = self._normalisation.scale, self._normalisation.offset
        return pixels * np.float32(scale) + np.float32(offset)

    def layer_outputs(self, image: Floats) -> dict[str, Floats]:
        """One image (C, H, W) → every layer's output (C, H, W), for parity tests.

        Computed by the same steps as ``run`` where they give a layer's output. A layer that is
        fused with the next is computed by the steps of an unfused plan, from the same inputs.
        """
        image = np.ascontiguousarray(image, np.float32)
        fused, unfused = (self._make_plan(fuse=fuse, share=False) for fuse in (True, False))
        out = np.empty((1, fused.output_count), np.float32)
        whole, parted = (self._new_workspace(plan) for plan in (fused, unfused))
        whole.run_images(_Steps(fused.steps), image[None], out)
        parted.run_images(_Steps(unfused.steps), image[None], out)
        found = {name: place.view(whole.arena).copy() for name, place in fused.images.items()}
        parts = dict(zip(unfused.images, itertools.pairwise([0, *unfused.ends]), strict=True))
        for layer in self._network.layers:
            if layer.name in found:
                continue
            for name in layer.inputs:
                unfused.images[name].view(parted.arena)[:] = found[name]
            first, end = parts[layer.name]
            parted.run_images(_Steps(unfused.steps[first:end].copy()), image[None], out)
            found[layer.name] = unfused.images[layer.name].view(parted.arena).copy()
        return {layer.name: found[layer.name] for layer in self._network.layers}
