"""The first landmarks of each model in a process that may have 256 MiB, whichever way they come."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from npshapenet.model import bundled_models

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the peak is read from /proc"
)

LIMIT_MIB = 256


@pytest.fixture
def environment(package: Path, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(package),
        "NPSHAPENET_CACHE_DIR": str(tmp_path / "cache"),
    }


@pytest.mark.parametrize("model", bundled_models())
def test_numpy_backend(environment, predict, model: str) -> None:
    found = predict({**environment, "NPSHAPENET_BACKEND": "numpy"}, model=model)
    assert found.backend == "numpy"
    assert 10 < found.peak_mib < LIMIT_MIB


@pytest.mark.parametrize("model", bundled_models())
def test_compiled_backend(environment, predict, model: str) -> None:
    """The first process, which compiles, and the next, which loads what was kept."""
    pytest.importorskip("numba")
    first, second = predict(environment, model=model), predict(environment, model=model)
    assert first.origin == "compiled now"
    assert second.origin.startswith("kept in ")
    assert second.peak_mib < first.peak_mib < LIMIT_MIB
