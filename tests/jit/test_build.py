"""Libraries that a wheel carries: built, used where they fit, and only there.

Each test is a process that imports a copy of the package with libraries of the test's choice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npshapenet
from npshapenet.jit import carried, objects
from npshapenet.jit.build import build
from npshapenet.jit.carried import LEVELS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not carried.is_possible(), reason="libraries are for Linux x86-64"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to link with"),
]

PREDICT = """
import json, sys
import numpy as np
for name in sys.argv[3:]:
    sys.modules[name] = None  # as if it weren't installed
import npshapenet
from npshapenet import jit
model = npshapenet.load(sys.argv[1])
landmarks = model.predict(np.load(sys.argv[2]))
heavy = [name for name in ("numba", "llvmlite", "torch") if sys.modules.get(name)]
print(json.dumps([landmarks.tolist(), jit.origin(), heavy, model.backend_name]))
"""
FITTING = [level for level in LEVELS if level.flags <= carried.cpu_flags()]
BEST = FITTING[0].name if FITTING else ""

Answer = tuple[np.ndarray, str, list[str], str]  # landmarks, origin, modules, backend


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The library of each level, built anew."""
    paths = build(tmp_path_factory.mktemp("libraries"))
    return {level.name: path for level, path in zip(LEVELS, paths, strict=True)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a copy of the package lies in, without libraries."""
    folder = tmp_path_factory.mktemp("copy")
    source = Path(npshapenet.__file__).parent
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(source, folder / "npshapenet", ignore=ignored)
    return folder


@pytest.fixture
def installed(package: Path) -> Path:
    """The copy's folder of libraries, empty."""
    folder = package / "npshapenet" / "jit" / "libraries"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def predict(package: Path, weights_file: Path, tmp_path_factory: Any) -> Callable[..., Answer]:
    """``predict(*missing modules, **environment)``: by a process that imports the copy."""
    folder = tmp_path_factory.mktemp("crop")
    gray = np.random.default_rng(5).integers(0, 256, (75, 60), np.uint8)
    np.save(folder / "crop.npy", gray)
    # What has to be compiled is kept for the tests that follow.
    known = {"PYTHONPATH": str(package), "NPSHAPENET_CACHE_DIR": str(folder / "cache")}

    def run(*missing: str, **environment: str) -> Answer:
        command = [sys.executable, "-P", "-c", PREDICT, str(weights_file), folder / "crop.npy"]
        done = subprocess.run(
            [*command, *missing],
            env={**os.environ, **known, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        landmarks, *rest = json.loads(done.stdout)
        return (np.array(landmarks, np.float32), *rest)

    return run


@pytest.fixture(scope="module")
def expected(package: Path, predict: Callable[..., Answer]) -> np.ndarray:
    """The landmarks by the engine compiled for this CPU."""
    shutil.rmtree(package / "npshapenet" / "jit" / "libraries", ignore_errors=True)
    landmarks, origin, modules, _ = predict()
    assert origin == "compiled now"
    assert "numba" in modules
    return landmarks


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """The levels add up in other orders, some with a fused multiply-add: 1e-3 pixels."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_best_level_is_used(libraries, installed, predict, expected) -> None:
    for path in libraries.values():
        shutil.copy(path, installed)
    landmarks, origin, modules, backend = predict()
    assert origin == f"carried with the package ({BEST})"
    assert modules == []
    assert backend == "numba"
    assert_same(landmarks, expected)


@pytest.mark.parametrize("level", [level.name for level in FITTING])
def test_each_level(libraries, installed, predict, expected, level: str) -> None:
    shutil.copy(libraries[level], installed)
    landmarks, origin, modules, _ = predict("numba", "llvmlite")
    assert origin == f"carried with the package ({level})"
    assert modules == []
    assert_same(landmarks, expected)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "foreign", "foreign, sealed"])
def test_damaged_library(libraries, installed, predict, expected, damage: str) -> None:
    content = bytearray(libraries["baseline"].read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"something else altogether" * 100)
    if damage == "foreign, sealed":
        content = bytearray(carried.seal(bytes(content)))
    (installed / libraries["baseline"].name).write_bytes(content)
    landmarks, origin, _, _ = predict()
    assert origin.startswith("kept in ")
    assert np.array_equal(landmarks, expected)


def test_library_of_other_sources(libraries, installed, predict, expected) -> None:
    digest = objects.sources_digest()[:24]
    name = libraries["baseline"].name
    assert digest in name
    shutil.copy(libraries["baseline"], installed / name.replace(digest, "0" * 24))
    landmarks, origin, _, _ = predict()
    assert origin.startswith("kept in ")
    assert np.array_equal(landmarks, expected)


def test_other_cpu_asked_for(libraries, installed, predict, expected) -> None:
    shutil.copy(libraries["baseline"], installed)
    landmarks, origin, _, _ = predict(NUMBA_CPU_NAME="generic")
    assert origin == "compiled now"
    assert_same(landmarks, expected)


def test_level_that_the_cpu_has_not(monkeypatch, libraries) -> None:
    monkeypatch.setattr(carried, "FOLDER", libraries["v4"].parent)
    for variable in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(variable, raising=False)
    levels = {"v4": frozenset(), "v3": LEVELS[0].flags - LEVELS[1].flags}
    for name, missing in {**levels, "baseline": LEVELS[0].flags}.items():
        monkeypatch.setattr(carried, "cpu_flags", lambda m=missing: LEVELS[0].flags - m)
        found = carried.open_best(objects.sources_digest())
        assert found is not None
        assert found[1].name == name


def test_only_memset_is_left_open(libraries) -> None:
    if shutil.which("nm") is None:
        pytest.skip("there is no nm")
    for path in libraries.values():
        command = ["nm", "-D", "--undefined-only", path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() in ([], ["U", "memset"])
