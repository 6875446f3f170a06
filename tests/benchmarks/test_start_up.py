"""Processes that are started anew; no time is asserted."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import systems
from benchmarks.parity import ParityError
from benchmarks.start_up import StartUpError, measure_start_ups
from benchmarks.workload import Workload


def test_numpy_backend(work: Workload) -> None:
    measured = measure_start_ups(work, {systems.NUMPY, systems.DLIB}, 1)
    assert list(measured) == [systems.NUMPY]
    (start_up,) = measured[systems.NUMPY]
    assert start_up.seconds > 0
    assert start_up.origin == ""
    if sys.platform == "linux":
        assert start_up.resident_kib is not None
        assert start_up.peak_kib is not None
        assert 1024 < start_up.resident_kib <= start_up.peak_kib


def test_onnx_runtime(work: Workload) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    measured = measure_start_ups(work, {systems.ONNX_RUNTIME}, 1)
    assert len(measured[systems.ONNX_RUNTIME]) == 1


def test_a_process_that_fails(work: Workload) -> None:
    missing = replace(work, model_name="./missing.npz")
    with pytest.raises(StartUpError, match=r"^NumPy backend, started anew: .*missing\.npz"):
        measure_start_ups(missing, {systems.NUMPY}, 1)


def test_wrong_landmarks(work: Workload) -> None:
    wrong = replace(work, expected=work.expected + np.float32(1))
    with pytest.raises(ParityError, match="NumPy backend, started anew, differs"):
        measure_start_ups(wrong, {systems.NUMPY}, 1)
