"""Nothing is read or written outside the arrays that the engine is given.

The arrays lie against pages that may not be touched, once with their end and once with their
beginning: an access beside them ends the process, so it is one of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = '''
import ctypes, math, mmap, sys
import numpy as np
from npshapenet import image
from npshapenet.jit import objects
from npshapenet.jit import steps as s
from npshapenet.jit.plan import make_plan
from npshapenet.jit.resize_memory import scratch_size
from npshapenet.layers import (
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
from npshapenet.shape import ShapeModel

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = mmap.PAGESIZE

def fenced(size, at_end):
    """``size`` bytes between pages that may not be touched, against the one or the other."""
    pages = -(-size // PAGE)
    # Given back with the array that is returned, as there may be only so many in a process.
    whole = np.frombuffer(mmap.mmap(-1, (pages + 2) * PAGE), np.uint8)
    start = PAGE + (pages * PAGE - size if at_end else 0)
    for fence in (0, (pages + 1) * PAGE):
        assert libc.mprotect(whole.ctypes.data + fence, PAGE, 0) == 0
    return whole[start : start + size]

def check(network, crop_shape=None, kind=np.uint8, landmarks=0, both=False, **given):
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32)
               for name, shape in network.tensor_shapes().items()} | given
    shape_model = None
    if landmarks:
        shape = rng.normal(0, 1, (1 + network.output_count - 4, landmarks, 2)).astype(np.float32)
        limits = np.array([[-2], [2]], np.float32).repeat(network.output_count, axis=1)
        shape_model = ShapeModel(shape[0], shape[1:], limits)
    plan = make_plan(network, tensors, objects.registers(), shape_model=shape_model)
    steps, out_size = plan.steps, plan.output_count
    if crop_shape is None:
        images = rng.normal(0, 1, (2, *network.input_shape)).astype(np.float32)
        height = width = scratch_floats = 0
    else:
        steps = plan.crop_steps
        images = rng.integers(0, 2, crop_shape).astype(kind)
        height, width = crop_shape
        size = network.input_shape[1:]
        scratch_floats = scratch_size(crop_shape, size, objects.registers().floats)
    if landmarks:
        steps, out_size = plan.landmark_steps, 2 * landmarks
    if both:
        steps, out_size = plan.both_steps, out_size + plan.output_count
    results = []
    for at_end in (False, True):
        def place(array):
            memory = fenced(array.nbytes, at_end).view(array.dtype)
            memory[:] = array.ravel()
            return memory
        arena = place(np.full(plan.arena_size, np.nan, np.float32))
        scratch = place(np.full(scratch_floats, np.nan, np.float32))
        count = 2 if crop_shape is None else 1
        out = place(np.full(count * out_size, np.nan, np.float32))
        arrays = [place(steps), place(plan.weights), place(images)]
        pixels = arrays[2].ctypes.data
        crop = place(np.array([pixels, kind != np.uint8, height, width]))
        call = place(np.zeros(s.CALL_COLUMNS, np.int64))
        call[s.CALL_STEPS], call[s.CALL_STEP_COUNT] = arrays[0].ctypes.data, len(steps)
        call[s.CALL_WEIGHTS], call[s.CALL_ARENA] = arrays[1].ctypes.data, arena.ctypes.data
        call[s.CALL_IMAGES], call[s.CALL_IMAGE_COUNT] = pixels, count
        call[s.CALL_IMAGE_SIZE] = images[0].size
        call[s.CALL_OUT], call[s.CALL_OUT_SIZE] = out.ctypes.data, out_size
        call[s.CALL_CROPS], call[s.CALL_SCRATCH] = crop.ctypes.data, scratch.ctypes.data
        for _ in range(1 if crop_shape is None else 2):  # the second one finds its tables
            out[:] = np.nan
            objects.library(is_basic=plan.is_basic).run(call.ctypes.data)
            assert np.isfinite(out).all(), network
            results.append(out.copy())
    for result in results[1:]:
        assert np.array_equal(results[0], result)

def convolution(shape, *arguments):
    check(Network(shape, (Convolution("c", "input", *arguments),)))

for size in (1, 2, 5, 7, 13, 14, 15, 28, 31):
    for channels in (1, 3, 16, 17, 40):
        shape = (channels, size, size + 1)
        convolution(shape, 19, (1, 1))
        convolution(shape, 64, (3, 3), (1, 1), (1, 1))
        convolution(shape, 33, (3, 5), (2, 1), (2, 4), 1, "relu")
        convolution(shape, 8, (min(size, 7), 1))
        convolution(shape, channels, (3, 3), (1, 1), (1, 1), channels, "hard_swish")
        convolution(shape, channels, (5, 5), (2, 2), (4, 2), channels)
        check(Network(shape, (GlobalAveragePool("p", "input"),)))
        check(Network(shape, (InstanceNorm("n", "input"),)))
        for groups in {1, channels, math.gcd(channels, 4)}:
            check(Network(shape, (GroupNorm("n", "input", groups),)))
        for groups, outputs, kernel, stride, padding in (
            (2, 38, (1, 1), (1, 1), (0, 0)),
            (2, 66, (3, 3), (1, 1), (1, 1)),
            (3, 24, (3, 5), (2, 1), (2, 4)),
        ):
            grouped = groups * channels, size, size + 1
            convolution(grouped, outputs, kernel, stride, padding, groups, "relu")
        check(Network(shape, (MeanPlaces("m", "input"),)))
        for factor in (1, 2, 3):
            check(Network(shape, (Enlarge("e", "input", factor),)))
        for names in (("c", "input"), ("input", "c"), ("input", "input")):
            check(Network(shape, (Convolution("c", "input", 19, (1, 1)), Join("j", *names))))
        check(Network(shape, (Dense("d", "input", 37),)))
        for points in (1, 16, 37):
            layers = (Dense("p", "input", 2 * points), PointDepthwise("d", "input", "p", 3, "relu"))
            check(Network(shape, layers))
            beyond = np.tile(np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30, 1]), points)
            check(Network(shape, layers), **{"p.bias": beyond[: 2 * points]})
        layers = (Dense("p", "input", 14), ShapeFit("f", "p", channels))
        check(Network(shape, layers))
        check(Network(shape, (
            Convolution("a", "input", 24, (1, 1)), Convolution("b", "a", 24, (1, 1)),
            Add("s", "b", "a", "relu"), Add("t", "s", "s"),
            Convolution("e", "t", 24, (5, 5), (1, 1), (2, 2), 24))))
convolution((256, 9, 9), 48, (5, 5), (2, 2))
convolution((64, 24, 30), 80, (7, 7), (2, 2))
convolution((70, 60, 12), 40, (7, 1))
for crop_shape in ((1, 1), (16, 16), (17, 90), (150, 150), (33, 16), (3, 40), (700, 300)):
    for side in (16, 17, 33, 112):
        network = Network((1, side, side), (Convolution("c", "input", 5, (3, 3), (2, 2), (1, 1)),))
        for kind in (np.uint8, np.float32):
            check(network, crop_shape, kind)
            for landmarks, outputs in ((1, 5), (5, 9), (68, 24)):
                layers = (*network.layers, Dense("d", "c", outputs))
                for both in (False, True):
                    check(Network(network.input_shape, layers), crop_shape, kind, landmarks, both)
for height, width in ((1, 16), (3, 17), (40, 63), (150, 150)):
    for at_end, pitch in ((False, 3 * width), (True, 3 * width), (False, 3 * width + 7)):
        photo = np.random.default_rng(0).integers(0, 256, (height, pitch), np.uint8)
        pixels = photo[:, : 3 * width].reshape(height, width, 3)
        source, out = fenced(photo.size, at_end), fenced(height * width, at_end)
        source[:] = photo.ravel()
        step, crop, call = (np.zeros(columns, np.int64)
                            for columns in (s.COLUMNS, s.CROP_COLUMNS, s.CALL_COLUMNS))
        step[[s.KIND, s.INPUT_ROW]] = s.GRAY, pitch
        step[[s.FIRST_SHARE, s.SECOND_SHARE, s.THIRD_SHARE]] = image.LUMA_SHARES
        crop[[s.CROP_ADDRESS, s.CROP_HEIGHT, s.CROP_WIDTH]] = source.ctypes.data, height, width
        call[[s.CALL_STEPS, s.CALL_STEP_COUNT]] = step.ctypes.data, 1
        call[[s.CALL_CROPS, s.CALL_IMAGE_COUNT]] = crop.ctypes.data, 1
        call[s.CALL_OUT] = out.ctypes.data
        objects.library(is_basic=True).run(call.ctypes.data)
        assert np.array_equal(out, image.rgb_to_gray(pixels).ravel())
print("clean")
'''


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are fenced by mprotect")
def test_fenced_memory(tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(CHECK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "clean\n"
