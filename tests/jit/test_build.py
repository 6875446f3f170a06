"""Code that a wheel carries: built, used where they fit, and only there.

Each test is a process that imports a copy of the package with code of the test's choice.
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
from npshapenet.jit import carried, cpu, linking, objects
from npshapenet.jit.build import build
from npshapenet.jit.carried import LEVELS
from npshapenet.jit.cpu import SSE2
from npshapenet.jit.machine_code import MachineCode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not cpu.is_linux_x86_64(), reason="code is carried on Linux x86-64"),
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
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The code of each level, built anew."""
    paths = build(tmp_path_factory.mktemp("built"))
    return {level.name: path for level, path in zip(LEVELS, paths, strict=True)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a copy of the package lies in, without carried code."""
    folder = tmp_path_factory.mktemp("copy")
    source = Path(npshapenet.__file__).parent
    ignored = shutil.ignore_patterns("*.code", "__pycache__")
    shutil.copytree(source, folder / "npshapenet", ignore=ignored)
    return folder


@pytest.fixture
def installed(package: Path) -> Path:
    """The copy's folder of carried code, empty."""
    folder = package / "npshapenet" / "jit" / "carried_code"
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
    shutil.rmtree(package / "npshapenet" / "jit" / "carried_code", ignore_errors=True)
    landmarks, origin, modules, _ = predict()
    assert origin == "compiled now"
    assert "numba" in modules
    return landmarks


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """The levels add up in other orders, some with a fused multiply-add: 1e-3 pixels."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_best_level_is_used(built, installed, predict, expected) -> None:
    for path in built.values():
        shutil.copy(path, installed)
    landmarks, origin, modules, backend = predict()
    assert origin == f"carried with the package ({BEST})"
    assert modules == []
    assert backend == "numba"
    assert_same(landmarks, expected)


@pytest.mark.parametrize("level", [level.name for level in FITTING])
def test_each_level(built, installed, predict, expected, level: str) -> None:
    shutil.copy(built[level], installed)
    landmarks, origin, modules, _ = predict("numba", "llvmlite")
    assert origin == f"carried with the package ({level})"
    assert modules == []
    assert_same(landmarks, expected)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "foreign", "an object file"])
def test_damaged_code(built, installed, predict, expected, damage: str) -> None:
    content = bytearray(built["baseline"].read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"something else altogether" * 100)
    if damage == "an object file":
        content = bytearray(MachineCode(SSE2, bytes(content), entry=None).to_file())
    (installed / built["baseline"].name).write_bytes(content)
    landmarks, origin, _, _ = predict()
    assert origin.startswith("kept in ")
    assert np.array_equal(landmarks, expected)


def test_code_of_other_sources(built, installed, predict, expected) -> None:
    digest = objects.sources_checksum()
    name = built["baseline"].name
    assert digest in name
    shutil.copy(built["baseline"], installed / name.replace(digest, "0" * 16))
    landmarks, origin, _, _ = predict()
    assert origin.startswith("kept in ")
    assert np.array_equal(landmarks, expected)


def test_other_cpu_asked_for(built, installed, predict, expected) -> None:
    shutil.copy(built["baseline"], installed)
    landmarks, origin, _, _ = predict(NUMBA_CPU_NAME="generic")
    assert origin == "compiled now"
    assert_same(landmarks, expected)


def test_level_that_the_cpu_has_not(monkeypatch, built) -> None:
    monkeypatch.setattr(carried, "FOLDER", built["v4"].parent)
    for variable in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(variable, raising=False)
    levels = {"v4": frozenset(), "v3": LEVELS[0].flags - LEVELS[1].flags}
    for name, missing in {**levels, "baseline": LEVELS[0].flags}.items():
        monkeypatch.setattr(carried, "cpu_flags", lambda m=missing: LEVELS[0].flags - m)
        found = carried.find_best(objects.sources_checksum())
        assert found is not None
        assert found[1].name == name


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to try it with")
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("int outside(int); int run(int x) { return outside(x); }", "relocation"),
        ("static int count; int run(void) { return ++count; }", "may change"),
        ("static int count = 3; int run(void) { return ++count; }", "may change"),
        ("int other(void) { return 1; }", "no function run"),
    ],
)
def test_code_that_needs_a_real_linker(tmp_path: Path, source: str, complaint: str) -> None:
    (tmp_path / "code.c").write_text(source)
    command = ["cc", "-O1", "-fPIC", "-c", "code.c", "-o", "code.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with pytest.raises(linking.LinkError, match=complaint):
        linking.link((tmp_path / "code.o").read_bytes(), "run")
