"""An environment of NumPy and Pillow alone: 32-bit Arm, a Python too new for Numba, Pyodide."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

#: And what the tests need.
PYTEST = (
    *("pytest", "pluggy", "iniconfig", "packaging", "pygments"),
    *("hypothesis", "sortedcontainers"),
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(make_environment: Callable[..., dict[str, str]]) -> dict[str, str]:
    return make_environment("numpy", "pillow", *PYTEST)


@pytest.fixture
def run(environment: Mapping[str, str], tmp_path: Path) -> Run:
    """``run(*arguments of Python, **more variables)`` in that environment."""

    def run(
        *arguments: str | Path, folder: Path = tmp_path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-S", "-P", *map(str, arguments)],
            env={
                **environment,
                "PYTHONIOENCODING": "utf-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                **variables,
            },
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    return run


def test_numba_is_not_there(run: Run) -> None:
    for package in ("numba", "llvmlite", "scipy"):
        assert f"No module named '{package}'" in run("-c", f"import {package}").stderr


def test_predict(environment: Mapping[str, str], predict, expected, same) -> None:
    """With one line that says why it isn't faster."""
    found = predict(environment, "-S")
    same(found.landmarks, expected)
    assert found.backend == "numpy"
    (line,) = found.complaints.splitlines()
    assert "Numba isn't installed, so the slower NumPy backend is used" in line


SCRIPT = """\
import npshapenet

for _ in range(2):
    npshapenet.load({arguments})
"""


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "Numba isn't installed"),
        ({"NPSHAPENET_BACKEND": "numpy"}, "NPSHAPENET_BACKEND is numpy"),
    ],
)
def test_a_script_gets_one_line(
    run: Run, tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    """However often it loads a model, and without a line of its source."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(arguments=""))
    done = run(script, **variables)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert f"npshapenet: {reason}, so the slower NumPy backend is used" in line

    script.write_text(SCRIPT.format(arguments='backend="numpy"'))
    assert run(script, **variables).stderr == ""


def test_demo(run: Run, tmp_path: Path) -> None:
    done = run("-m", "npshapenet", "demo", "--out", tmp_path / "face.png")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^error +1\.\d\d %", done.stdout, re.MULTILINE)
    assert re.search(r"^numba +not available: ", done.stdout, re.MULTILINE)
    assert (tmp_path / "face.png").stat().st_size > 10_000


def test_numba_asked_for(run: Run) -> None:
    done = run("-c", "import npshapenet; npshapenet.load(backend='numba')")
    assert "pip install numba, or take the backend numpy" in done.stderr


def test_parity_with_pytorch(run: Run) -> None:
    """The parity tests against the stored outputs, by a pytest of that environment."""
    options = ("-q", "-rs", "-p", "no:cacheprovider", "--rootdir", CHECKOUT)
    done = run(
        *("-m", "pytest", *options, CHECKOUT / "tests" / "parity" / "test_fixtures.py"),
        folder=CHECKOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50
    assert "Numba isn't installed" in done.stdout
