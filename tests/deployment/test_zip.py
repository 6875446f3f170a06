"""A wheel that is imported as it is: a zip file on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a zip file, with what a wheel has of it."""
    path = tmp_path_factory.mktemp("wheel") / "npshapenet-0.1.0-py3-none-any.whl"
    return make_zip(path, package)


def make_zip(path: Path, *folders: Path) -> Path:
    """The files of folders in one zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            # As a wheel has them, without entries for folders.
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(wheel),
        "NPSHAPENET_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONIOENCODING": "utf-8",
    }


def test_it_is_imported_from_the_zip_file(wheel: Path, environment: dict[str, str]) -> None:
    program = "import npshapenet; print(npshapenet.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(wheel)


def test_numpy_backend(environment, predict, expected, same) -> None:
    found = predict({**environment, "NPSHAPENET_BACKEND": "numpy"})
    same(found.landmarks, expected)
    assert found.backend == "numpy"


def test_compiled_backend(environment, predict, expected, same, tmp_path: Path) -> None:
    """Compiles, keeps the code, and finds it again."""
    pytest.importorskip("numba")
    for origin in ("compiled now", f"kept in {tmp_path / 'cache'}"):
        found = predict(environment)
        same(found.landmarks, expected)
        assert (found.backend, found.origin) == ("numba", origin)


def test_code_that_the_wheel_carries(
    environment, predict, expected, same, package: Path, carried_code: Path, tmp_path: Path
) -> None:
    """It is read from the zip file as well: nothing is compiled."""
    shutil.copytree(carried_code, tmp_path / "more" / "npshapenet" / "jit" / "carried_code")
    wheel = make_zip(tmp_path / "with-code.whl", package, tmp_path / "more")
    found = predict({**environment, "PYTHONPATH": str(wheel)})
    same(found.landmarks, expected)
    assert (found.origin, found.compilers) == ("carried with the package (baseline)", [])


@pytest.mark.parametrize("command", ["info", "demo", "predict"])
def test_commands(environment, tmp_path: Path, crop_picture: Path, command: str) -> None:
    arguments = {
        "info": [],
        "demo": ["--out", str(tmp_path / "face.png")],
        "predict": [str(crop_picture), "--whole"],
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "npshapenet", command, *arguments[command]],
        # What other tests have compiled of the same sources will do.
        env={**os.environ, "PYTHONPATH": environment["PYTHONPATH"], "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_name_that_no_bundled_model_has(environment) -> None:
    program = "import npshapenet; npshapenet.load('slow')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True
    )
    assert "no bundled model is named 'slow'; there are: accurate, fast" in done.stderr
