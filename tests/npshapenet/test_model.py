"""From a weights file and crops to landmarks: shapes, coordinates, backends, threads."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pickle
import subprocess
import sys
import threading
import types
import warnings

import numpy as np
import pytest

import npshapenet
from npshapenet import Box, Crop, Model, load
from npshapenet import model as model_module
from npshapenet.layers import Dense, GlobalAveragePool
from npshapenet.network import Network
from npshapenet.plain import PlainBackend
from npshapenet.weights import WeightsError


@pytest.fixture(scope="module")
def model(weights):
    return Model(weights, backend="numpy")


@pytest.fixture
def crops(rng):
    sizes = [(33, 33), (16, 16), (50, 41), (20, 75)]
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def constant_model(weights):
    """Whatever it sees: first score 2, half as large, turned clockwise by a quarter, moved."""
    network = Network((1, 33, 33), (GlobalAveragePool("pool", "input"), Dense("out", "pool", 10)))
    bias = np.array([2, 0, 0, 0, 0, 0, 0.5, np.pi / 2, 0.25, -0.5], np.float32)
    tensors = {"out.weight": np.zeros((10, 1), np.float32), "out.bias": bias}
    return Model(dataclasses.replace(weights, network=network, tensors=tensors), "numpy")


# Shapes


def test_shapes(model, crops):
    square = crops[0]
    assert model.predict(square).shape == (68, 2)
    assert model.predict(square).dtype == np.float32
    assert model.predict(Crop(square, 5, 5)).shape == (68, 2)
    assert model.predict(np.stack([square] * 3)).shape == (3, 68, 2)
    assert model.predict(square[None]).shape == (1, 68, 2)
    assert model.predict(crops).shape == (4, 68, 2)
    assert model.predict(tuple(crops)).shape == (4, 68, 2)
    assert model.predict([Crop(crops[1], 0, 0), crops[2]]).shape == (2, 68, 2)
    assert model.predict([]).shape == (0, 68, 2)
    assert model.predict(np.zeros((0, 20, 20), np.uint8)).shape == (0, 68, 2)
    assert model.predict([]).dtype == np.float32


def test_shapes_of_parameters(model, crops):
    one = model.parameters(crops[0])
    assert (one.scores.shape, one.scale.shape, one.translation.shape) == ((6,), (), (2,))
    assert one.quality is None
    several = model.parameters(crops)
    assert (several.scores.shape, several.angle_rad.shape) == ((4, 6), (4,))
    assert model.parameters([]).translation.shape == (0, 2)
    np.testing.assert_array_equal(one.landmarks(33), model.predict(crops[0]))


def test_a_batch_is_its_single_crops(model, crops):
    batch = model.predict(crops)
    for crop, landmarks in zip(crops, batch, strict=True):
        np.testing.assert_array_equal(model.predict(crop), landmarks)
    assert np.abs(batch[0] - batch[1]).max() > 1
    np.testing.assert_array_equal(
        model.predict(Crop(crops[2], left=100, top=-7)), model.predict(crops[2])
    )


@pytest.mark.parametrize("which", [slice(0, 1), slice(0, 4), slice(0, 0), 2])
def test_parameters_and_landmarks_at_once(which, model, crops):
    chosen = crops[which]
    parameters, landmarks = model.parameters_and_landmarks(chosen)
    np.testing.assert_array_equal(landmarks, model.predict(chosen))
    expected = model.parameters(chosen)
    for name in ("scores", "scale", "angle_rad", "translation", "quality"):
        np.testing.assert_array_equal(getattr(parameters, name), getattr(expected, name))


def test_parameters_of_one_face_of_a_batch(model, crops):
    batch = model.parameters(crops)
    for index, crop in enumerate(crops):
        own, alone = batch.of_face(index), model.parameters(crop)
        np.testing.assert_array_equal(own.scores, alone.scores)
        np.testing.assert_array_equal(own.landmarks(40), alone.landmarks(40))


def test_a_crop_is_the_same_before_and_after_the_first_prediction(weights, rng):
    """Only then is it cut by compiled code."""
    model, photo = Model(weights), rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    box = Box(50, 30, 130, 70)
    before = model.crop_face(photo, box)
    model.predict(before)
    after = model.crop_face(photo, box)
    assert (before.left, before.top) == (after.left, after.top)
    np.testing.assert_array_equal(before.gray, after.gray)


def test_forms_of_one_crop(model, crops):
    gray = crops[2]
    expected = model.predict(gray)
    for other in (gray.astype(int), gray.astype(">i2"), np.asfortranarray(gray), gray / 255):
        np.testing.assert_allclose(model.predict(other), expected, rtol=0, atol=1e-3)


# Coordinates


@pytest.mark.parametrize(
    ("size", "side", "before"),
    [
        ((40, 40), 40, (0, 0)),
        ((40, 31), 40, (4, 0)),  # 9 columns are missing: 4 before, 5 after
        ((20, 33), 33, (0, 6)),
        ((16, 300), 300, (0, 142)),
    ],
)
def test_landmarks_are_in_pixels_of_the_crop(size, side, before, constant_model, weights):
    shape = weights.shape_model.mean + 2 * weights.shape_model.components[0].astype(float)
    u = 0.5 * -shape[:, 1] + 0.25
    v = 0.5 * shape[:, 0] - 0.5
    expected = np.stack([u, v], -1) * side / 2 + side / 2 - 0.5 - before
    landmarks = constant_model.predict(np.zeros(size, np.uint8))
    # float32 of numbers up to 300.
    np.testing.assert_allclose(landmarks, expected, rtol=0, atol=1e-4)


def test_crop_to_photo(constant_model, rng):
    photo = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    crop = npshapenet.crop_face(photo, Box(50, 30, 90, 70), constant_model)
    assert (crop.left, crop.top, crop.gray.shape) == (40, 20, (60, 60))
    on_photo = crop.to_photo(constant_model.predict(crop))
    expected = np.add(constant_model.predict(crop.gray), (40, 20))
    np.testing.assert_allclose(on_photo, expected, rtol=0, atol=1e-4)


def test_crop_takes_the_factor_of_the_model(weights, rng):
    wide = Model(dataclasses.replace(weights, crop_factor=2.0), "numpy")
    photo = rng.integers(0, 256, (90, 120), dtype=np.uint8)
    assert npshapenet.crop_face(photo, (50, 30, 90, 70), wide).gray.shape == (80, 80)


# What is refused


@pytest.mark.parametrize(
    ("crops", "error", "message"),
    [
        (np.zeros((40, 40, 3), np.uint8), ValueError, "looks like colour"),
        (np.zeros((40, 40, 4), np.uint8), ValueError, "looks like colour"),
        (np.zeros((5, 40, 40, 3), np.uint8), ValueError, "looks like colour"),
        (np.zeros((5, 1, 40, 40), np.uint8), ValueError, r"shape \(5, 1, 40, 40\)"),
        (np.zeros((40, 40, 1), np.uint8), ValueError, "drops the last axis"),
        (np.zeros((3, 40, 10), np.uint8), ValueError, "at least 16×16"),
        (np.zeros((3, 10, 40), np.uint8), ValueError, r"crop 0 of 3: .*\(10, 40\)"),
        (np.full((3, 40, 40), 2.0), ValueError, "crop 0 of 3: .*from 2 to 2"),
        (np.zeros(0), ValueError, "empty"),
        (np.ma.zeros((2, 40, 40)), TypeError, "MaskedArray"),
        ([np.zeros((40, 40)), np.full((40, 40), np.nan)], ValueError, "crop 1 of 2: .*NaN"),
        ([np.zeros((40, 40)), None], TypeError, "crop 1 of 2: .*NoneType"),
        ([[0.0] * 40] * 40, TypeError, "crop 0 of 40: .*list"),
        ([np.zeros((2, 40, 40))], ValueError, r"crop 0 of 1: .*\(2, 40, 40\)"),
        ([[np.zeros((40, 40))]], TypeError, "crop 0 of 1: .*list"),
        (Crop(np.zeros((10, 10), np.uint8), 0, 0), ValueError, r"\(10, 10\)"),
        ("face.png", TypeError, "got str"),
        (None, TypeError, "got NoneType"),
        ({}, TypeError, "got dict"),
        ((crop for crop in ()), TypeError, "got generator"),
    ],
)
def test_refuses(crops, error, message, model):
    for call in (model.predict, model.parameters):
        with pytest.raises(error, match=message):
            call(crops)


@pytest.mark.parametrize("threads", [0, -1, 2.0, "2", True])
def test_refuses_threads(threads, model, crops):
    with pytest.raises(ValueError, match="threads must be"):
        model.predict(crops, threads=threads)


# Backends


@pytest.fixture
def no_numba(monkeypatch):
    """As on a machine that has no wheel of Numba, with a package that carries no libraries."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("npshapenet.jit.is_carried", lambda: False)
    monkeypatch.delenv("NPSHAPENET_BACKEND", raising=False)
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("numba", "llvmlite") else find_spec(name, *rest),
    )


class FakeCompiled(PlainBackend):
    """Stands for the compiled backend: counts its calls and the threads that they come from."""

    name = "numba"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.warmups = 0
        self.calls = []
        self.error = None

    def warmup(self):
        self.warmups += 1
        if self.error:
            raise self.error

    def outputs(self, crops):
        self.calls.append((len(crops), threading.get_ident()))
        return super().outputs(crops)


@pytest.fixture
def fake_numba(monkeypatch):
    """As on a machine that has Numba, with a compiled backend that is quick to make."""
    monkeypatch.delenv("NPSHAPENET_BACKEND", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: object())
    monkeypatch.setitem(
        sys.modules, "npshapenet.jit", types.SimpleNamespace(CompiledBackend=FakeCompiled)
    )


def test_numba_comes_first(fake_numba, weights):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Model(weights).backend_name == "numba"


def test_carried_code_needs_no_numba(no_numba, monkeypatch, weights):
    monkeypatch.setitem(
        sys.modules,
        "npshapenet.jit",
        types.SimpleNamespace(CompiledBackend=FakeCompiled, is_carried=lambda: True),
    )
    monkeypatch.setattr("npshapenet.jit", sys.modules["npshapenet.jit"], raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Model(weights).backend_name == "numba"


def test_without_numba(no_numba, weights, crops):
    with pytest.warns(RuntimeWarning, match=r"Numba isn't installed.*backend=\"numpy\""):
        model = Model(weights)
    assert model.backend_name == "numpy"
    assert model.predict(crops).shape == (4, 68, 2)


def test_the_environment_chooses(no_numba, fake_numba, weights, monkeypatch):
    """And a line says so of NumPy: a variable that was set long ago is easily forgotten."""
    monkeypatch.setenv("NPSHAPENET_BACKEND", "numpy")
    with pytest.warns(RuntimeWarning, match="NPSHAPENET_BACKEND is numpy, so the slower") as said:
        assert Model(weights).backend_name == "numpy"
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Model(weights, backend="numpy").backend_name == "numpy"
        assert Model(weights, backend="numba").backend_name == "numba"
        monkeypatch.setenv("NPSHAPENET_BACKEND", "numba")
        assert Model(weights).backend_name == "numba"
        monkeypatch.setenv("NPSHAPENET_BACKEND", "")
        assert Model(weights).backend_name == "numba"
    monkeypatch.setenv("NPSHAPENET_BACKEND", "torch")
    with pytest.raises(ValueError, match="NPSHAPENET_BACKEND is 'torch'; accepted: numba, numpy"):
        Model(weights)


def test_unknown_backend(weights):
    with pytest.raises(ValueError, match="backend is 'cuda'; accepted: numba, numpy"):
        Model(weights, backend="cuda")


def test_numba_that_does_not_work(fake_numba, weights, crops):
    model = Model(weights)
    model.backend.error = ImportError("Numba needs NumPy 2.3 or less")
    with pytest.warns(RuntimeWarning, match=r"doesn't work here \(Numba needs NumPy 2.3 or less"):
        landmarks = model.predict(crops)
    assert model.backend_name == "numpy"
    np.testing.assert_array_equal(landmarks, Model(weights, "numpy").predict(crops))

    asked_for = Model(weights, backend="numba")
    asked_for.backend.error = ImportError("no")
    with pytest.raises(ImportError, match="pip install numba"):
        asked_for.predict(crops)


def test_numba_that_can_not_even_be_made_ready(fake_numba, weights, monkeypatch):
    def missing(*arguments):
        raise ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite")

    monkeypatch.setattr(sys.modules["npshapenet.jit"], "CompiledBackend", missing)
    with pytest.warns(RuntimeWarning, match=r"doesn't work here \(No module named 'llvmlite'\)"):
        assert Model(weights).backend_name == "numpy"
    with pytest.raises(ModuleNotFoundError, match="pip install numba") as caught:
        Model(weights, backend="numba")
    assert caught.value.name == "llvmlite"


def test_warms_up_once(fake_numba, weights, crops):
    model = Model(weights)
    assert model.backend.warmups == 0
    model.predict(crops)
    model.parameters(crops[0])
    assert model.backend.warmups == 1


@pytest.mark.parametrize(
    ("threads", "parts"), [(1, [7]), (2, [3, 4]), (3, [1, 3, 3]), (9, [1] * 7)]
)
def test_threads_share_a_batch(threads, parts, fake_numba, weights, rng):
    model = Model(weights)
    batch = rng.integers(0, 256, (7, 20, 20), dtype=np.uint8)
    landmarks = model.predict(batch, threads=threads)
    assert sorted(count for count, _ in model.backend.calls) == parts
    expected = Model(weights, "numpy").predict(batch)
    np.testing.assert_array_equal(landmarks, expected)


def test_threads_are_chosen_by_the_batch(fake_numba, weights, monkeypatch):
    asked_for = []

    def run_in_parts(run, crops, thread_count):
        asked_for.append(thread_count)
        return [run(crops)]

    monkeypatch.setattr(model_module, "_processor_count", lambda: 4)
    monkeypatch.setattr("npshapenet.threads.run_in_parts", run_in_parts)
    model = Model(weights)
    for count, thread_counts in ((1, []), (15, []), (16, [2]), (200, [4])):
        model.predict(np.zeros((count, 16, 16), np.uint8))
        assert asked_for == thread_counts
        asked_for.clear()


def test_many_threads_use_one_model(model, crops):
    expected = [model.predict(crop) for crop in crops]
    failures = []

    def work():
        for _ in range(5):
            for crop, landmarks in zip(crops, expected, strict=True):
                if not np.array_equal(model.predict(crop), landmarks):
                    failures.append(crop)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_copy_for_another_process(fake_numba, weights, crops):
    model = Model(weights)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.backend is not model.backend
    np.testing.assert_array_equal(copy.predict(crops), model.predict(crops))


# Models


def test_what_a_model_says_of_itself(model):
    assert (model.landmark_count, model.markup, model.crop_factor) == (68, "ibug68", 1.5)
    assert model.backend_name == "numpy"
    assert repr(model) == (
        "<Model: 68 points (ibug68) from 33×33 gray, "
        f"{model.weights.network.multiply_adds() / 1e6:.1f} million multiply-adds, backend numpy>"
    )
    assert model.regions is npshapenet.REGIONS
    model.warmup()


def test_other_points_have_no_regions(weights, make_shape_model):
    nine = dataclasses.replace(weights, shape_model=make_shape_model(landmarks=9), markup="points9")
    with pytest.raises(ValueError, match=r"the 9 points of this model \(points9\) have no named"):
        _ = Model(nine, "numpy").regions


def test_load(weights_file, model, crops):
    for path in (weights_file, str(weights_file)):
        loaded = load(path, backend="numpy")
        np.testing.assert_array_equal(loaded.predict(crops), model.predict(crops))


def test_load_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"named 'faast'; there are: .*such as ./faast.npz"):
        load("faast")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError):
        load("none.npz")
    (tmp_path / "bad.npz").write_bytes(b"bad")
    with pytest.raises(WeightsError, match=r"bad.npz: not an .npz file"):
        load(str(tmp_path / "bad.npz"))


@pytest.fixture
def bundled(tmp_path, weights_file, monkeypatch):
    """The small model in the place of the bundled one, not yet loaded."""
    os.link(weights_file, tmp_path / "fast.npz")
    monkeypatch.setattr(model_module, "_MODELS_FOLDER", str(tmp_path))
    monkeypatch.setattr(model_module, "_default_model", None)
    monkeypatch.setenv("NPSHAPENET_BACKEND", "numpy")


def test_bundled_models(bundled, model, crops):
    assert model_module.bundled_models() == ["fast"]
    with pytest.raises(ValueError, match="there are: fast "):
        load("slow")
    for name in (None, "fast"):
        np.testing.assert_array_equal(load(name).predict(crops), model.predict(crops))
    np.testing.assert_array_equal(npshapenet.predict(crops), model.predict(crops))
    photo = np.zeros((90, 120), np.uint8)
    assert npshapenet.crop_face(photo, Box(50, 30, 90, 70)).gray.shape == (60, 60)


def test_the_default_model_is_loaded_once(bundled, monkeypatch, crops):
    loads = []
    start = threading.Barrier(4)

    def counting_load():
        loads.append(1)
        return load()

    monkeypatch.setattr(model_module, "load", counting_load)

    def work():
        start.wait()
        npshapenet.predict(crops[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_import_is_light():
    """Nothing that takes time is imported, loaded or compiled by ``import npshapenet``."""
    heavy = ["PIL", "numba", "llvmlite", "json", "zipfile", "concurrent", "npshapenet.plain"]
    heavy += [f"npshapenet.{part}" for part in ("faces", "tracking", "smoothing", "detectors")]
    code = f"""
import sys, numpy
before = set(sys.modules)
import npshapenet
new = set(sys.modules) - before
print([name for name in {heavy} if name in new])
print(npshapenet.model._default_model)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split("\n")[:2] == ["[]", "None"]


def test_the_public_face():
    assert all(hasattr(npshapenet, name) for name in npshapenet.__all__)
    assert set(npshapenet.__all__) <= set(dir(npshapenet))
    assert npshapenet.openings.mouth_opening
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        npshapenet.no_such_name  # noqa: B018
    assert npshapenet.__version__.count(".") == 2
