"""npshapenet info: what it says of a weights file."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npshapenet.weights import Weights, write

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPSHAPENET_BACKEND", "numpy")


def test_it_says_what_the_file_holds(run: Run, weights_file: Path, weights: Weights) -> None:
    ended = run("info", weights_file)
    assert ended.status == 0
    # The command has no --backend that would choose in its place.
    assert ended.err.startswith("npshapenet: NPSHAPENET_BACKEND is numpy, so ")
    assert ended.err.count("\n") == 1
    summary = dict(line.split(maxsplit=1) for line in ended.out.split("\n\n")[0].splitlines())
    assert summary["file"].startswith(str(weights_file))
    assert summary["file"].endswith("stored as float16")
    assert summary["terms"] == "none"
    assert summary["input"] == "33×33 gray, a square 1.5 times the face's box"
    assert summary["output"] == "68 points (ibug68) of 6 components"
    count = f"{weights.network.multiply_adds():,} multiply-adds"
    assert summary["network"].startswith("13 layers, ")
    assert summary["network"].endswith(count)
    assert summary["backend"] == "numpy"


def test_it_says_where_the_compiled_code_came_from(tmp_path: Path) -> None:
    """Compiled by the first process, and found by the next one."""
    pytest.importorskip("numba")
    from npshapenet.jit import cpu

    folder = tmp_path / "cache"
    environment = {
        **os.environ,
        "NPSHAPENET_BACKEND": "numba",
        "NPSHAPENET_CACHE_DIR": str(folder),
        # A library that the package may carry isn't used then.
        "NUMBA_CPU_NAME": cpu.target().cpu,
        "NUMBA_CPU_FEATURES": cpu.target().features,
    }
    for origin in ("compiled now", f"kept in {folder}"):
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "npshapenet", "info"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        summary = dict(
            line.split(maxsplit=1) for line in ended.stdout.split("\n\n")[0].splitlines()
        )
        assert (summary["backend"], summary["compiled"]) == ("numba", origin)
        assert ended.stderr.count("\n") == (origin == "compiled now")


def test_it_lists_the_layers(run: Run, weights_file: Path, weights: Weights) -> None:
    table = run("info", weights_file).out.split("\n\n")[-1].splitlines()
    names = [line.split()[0] for line in table[1:]]
    assert names == [layer.name for layer in weights.network.layers]
    costs = [int(line.split()[-1].replace(",", "")) for line in table[1:]]
    assert sum(costs) == weights.network.multiply_adds()
    assert "Convolution 3×3 stride 2×2 hard_swish" in table[1]
    assert "Convolution 3×3 depthwise hard_swish" in table[3]


def test_provenance_is_laid_out(run: Run, weights: Weights, tmp_path: Path) -> None:
    provenance = {
        "terms": "research only",
        "figures": {"300w/common": {"nme_percent": 4.5}},
        "data": [{"faces": 7}],
    }
    path = tmp_path / "weights.npz"
    write(path, dataclasses.replace(weights, provenance=provenance))
    out = run("info", path).out
    assert "terms       research only\n" in out
    assert "figures:\n  300w/common:\n    nme_percent: 4.5\n" in out
    assert 'data: [{"faces": 7}]\n' in out
    assert out.index("data:") < out.index("figures:")


def test_long_lists_are_cut(run: Run, weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write(path, dataclasses.replace(weights, provenance={"curve": list(range(10**5))}))
    out = run("info", path).out
    assert "curve: [0, 1, 2, 3" in out
    assert "[...]" in out
    assert len(out) < 5000


def test_a_file_can_not_steer_the_terminal(run: Run, weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    hostile = {"terms": "\x1b[2Jfree\nfor all", "\x1b]0;key": ["\x1b[31m"], "text": "\x9b1m"}
    write(path, dataclasses.replace(weights, provenance=hostile))
    out = run("info", path).out
    assert "[2Jfree for all" in out
    assert all(character.isprintable() or character == "\n" for character in out)


def test_a_file_that_is_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(b"no zip")
    ended = run("info", path)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"npshapenet: {path}: ")
    assert ended.err.count("\n") == 1
