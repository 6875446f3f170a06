"""A one-folder program of PyInstaller's, in an environment that has nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("PyInstaller", reason="needs pyinstaller")

pytestmark = pytest.mark.slow

WITHOUT_NUMBA = ("--exclude-module", "numba", "--exclude-module", "llvmlite")

Freeze = Callable[..., Path]


@pytest.fixture(scope="module")
def freeze(tmp_path_factory: pytest.TempPathFactory, package: Path, predict_program: str) -> Freeze:
    """``freeze(*options)`` → the program, made by PyInstaller with no more than these."""

    def make(*options: str) -> Path:
        folder = tmp_path_factory.mktemp("frozen")
        (folder / "landmarks.py").write_text(predict_program)
        command = [sys.executable, "-P", "-m", "PyInstaller", "--log-level", "WARN", "--noconfirm"]
        # The copy of the package, also where the installed one is found by what PyInstaller can't
        # follow, as an editable one is. Its caches stay in the folder.
        environment = {
            **os.environ,
            "PYTHONPATH": str(package),
            "PYINSTALLER_CONFIG_DIR": str(folder / "configuration"),
        }
        done = subprocess.run(
            [*command, *options, "landmarks.py"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return folder / "dist" / "landmarks" / "landmarks"

    return make


@pytest.fixture
def run(tmp_path: Path, crop_file: Path, read_answer) -> Callable[..., object]:
    """``run(program, **environment)``: in an empty folder, with these variables alone."""

    def run(program: Path, **environment: str) -> object:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        needed = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
        return read_answer(
            subprocess.run(
                [program, crop_file],
                cwd=elsewhere,
                env={**needed, **environment},
                capture_output=True,
                text=True,
            )
        )

    return run


def test_with_numba(freeze, run, expected, same, tmp_path: Path) -> None:
    """Compiles on the machine where it runs, and keeps the code; the NumPy backend is there too."""
    pytest.importorskip("numba")
    program = freeze()
    cache = tmp_path / "cache"
    for origin in ("compiled now", f"kept in {cache}"):
        found = run(program, NPSHAPENET_CACHE_DIR=str(cache))
        same(found.landmarks, expected)
        assert (found.backend, found.origin) == ("numba", origin)
    assert "numba" not in found.compilers
    found = run(program, NPSHAPENET_BACKEND="numpy")
    same(found.landmarks, expected)
    assert (found.backend, found.compilers) == ("numpy", [])


def test_numpy_alone(freeze, run, expected, same) -> None:
    """Without Numba, and then without the engine's sources, as another tool may leave them out:
    NumPy, and a line that says why."""
    program = freeze(*WITHOUT_NUMBA)
    found = run(program)
    same(found.landmarks, expected)
    assert (found.backend, found.compilers) == ("numpy", [])
    assert "Numba isn't installed" in found.complaints
    chosen = run(program, NPSHAPENET_BACKEND="numpy").complaints
    assert "NPSHAPENET_BACKEND is numpy" in chosen
    assert len(chosen.splitlines()) == 1

    (source,) = program.parent.rglob("npshapenet/jit/engine.py")
    source.unlink()
    found = run(program)
    same(found.landmarks, expected)
    assert found.backend == "numpy"
    assert "engine.py is missing, which a frozen program must have as well" in found.complaints


def test_code_that_the_package_carries(
    freeze, run, expected, same, package: Path, carried_code: Path
) -> None:
    """Compiled, without Numba and without a place to keep anything."""
    folder = package / "npshapenet" / "jit" / "carried_code"
    folder.symlink_to(carried_code)
    try:
        program = freeze(*WITHOUT_NUMBA)
    finally:
        folder.unlink()
    found = run(program)
    same(found.landmarks, expected)
    assert (found.backend, found.origin) == ("numba", "carried with the package (baseline)")
    assert (found.compilers, found.complaints) == ([], "")
