"""Which systems there are, that they find the same landmarks, and that wrong ones are noticed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import systems
from benchmarks.comparison import compare
from benchmarks.parity import ParityError, check_parity
from benchmarks.systems import Choice, System, open_systems
from benchmarks.workload import CROP_SIDE_PX, Workload


@pytest.fixture
def without_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no other library that runs networks were installed."""
    for package in ("torch", "onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture
def without_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)


def make_system(work: Workload, *, moved_px: float = 0, name: str = "system") -> System:
    landmarks = work.expected + np.float32(moved_px)
    return System(name, "", lambda: landmarks, np.asarray)


def test_workload_is_one_face(work: Workload) -> None:
    assert work.crop.gray.shape == (CROP_SIDE_PX, CROP_SIDE_PX)
    assert work.crop.gray.dtype == np.uint8
    assert work.image.shape == (1, *work.weights.network.input_shape)
    assert work.shown_name == "small.npz"


@pytest.mark.usefixtures("without_runtimes", "without_dlib")
def test_what_is_not_installed_is_left_out(work: Workload, tmp_path: Path) -> None:
    opened, left_out = open_systems(work, Choice(predictor=tmp_path, torch_compile=True))
    assert opened[0].name == systems.NUMPY
    assert left_out[systems.PYTORCH] == "torch is not installed"
    assert left_out[systems.TORCH_COMPILE] == "torch is not installed"
    assert left_out[systems.ONNX_RUNTIME] == "onnxruntime is not installed"
    assert left_out[systems.OPENVINO] == "openvino is not installed"
    assert left_out[systems.DLIB] == "dlib is not installed"


@pytest.mark.usefixtures("without_runtimes")
def test_what_was_not_asked_for_is_left_out(work: Workload) -> None:
    _, left_out = open_systems(work, Choice())
    assert "--torch-compile" in left_out[systems.TORCH_COMPILE]
    assert "--predictor" in left_out[systems.DLIB]


@pytest.mark.usefixtures("without_runtimes")
def test_our_own_agree(work: Workload) -> None:
    pytest.importorskip("numba")
    opened, _ = open_systems(work, Choice())
    assert [system.name for system in opened] == [systems.NUMPY, systems.NUMBA, systems.PREDICT]
    assert list(check_parity(opened, work)) == [system.title for system in opened]


@pytest.mark.usefixtures("without_runtimes")
def test_a_file_that_is_no_predictor(work: Workload, tmp_path: Path) -> None:
    pytest.importorskip("dlib")
    path = tmp_path / "nothing.dat"
    path.write_bytes(b"no predictor")
    _, left_out = open_systems(work, Choice(predictor=path))
    assert left_out[systems.DLIB].startswith("nothing.dat: not a shape predictor")


def test_wrong_landmarks_are_not_timed(work: Workload) -> None:
    right, wrong = make_system(work), make_system(work, moved_px=0.2, name="wrong")
    assert check_parity([right], work) == {"system": "0"}
    with pytest.raises(ParityError, match=r"wrong differs from the NumPy backend by 0\.28 px"):
        check_parity([right, wrong], work)


def test_landmarks_that_are_no_numbers_are_not_timed(work: Workload) -> None:
    with pytest.raises(ParityError, match="nan"):
        check_parity([make_system(work, moved_px=float("nan"))], work)


def test_another_model_must_find_the_face(work: Workload) -> None:
    placed = work.placed - np.array([work.crop.left, work.crop.top], np.float32)
    found = replace(make_system(work), call=lambda: placed, has_own_model=True)
    assert check_parity([found], work) == {"system": "0.0 %"}
    missed = replace(found, call=lambda: placed + np.float32(20))
    with pytest.raises(ParityError, match="from the points placed by hand"):
        check_parity([missed], work)


def test_the_faster_variant_is_chosen(work: Workload) -> None:
    def slow() -> None:
        sum(range(200_000))

    variants = [
        System("system", "slow", slow, np.asarray),
        System("system", "fast", lambda: None, np.asarray),
    ]
    comparison = compare(variants, None, 3)
    assert comparison.chosen["system"].title == "system (fast)"
    assert list(comparison.slower) == ["system (slow)"]
    assert comparison.share_of_peak("system", work.multiply_adds) is None
