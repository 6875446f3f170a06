"""python -m benchmarks from end to end, on the small network."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import npshapenet
from benchmarks import systems
from benchmarks.command import main

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )


def test_all_of_it(weights_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    markdown, chart = tmp_path / "report.md", tmp_path / "chart.png"
    done = run(
        *("--model", weights_file, "--rounds", "2", "--start-ups", "0"),
        *("--markdown", markdown, "--chart", chart),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == markdown.read_text(encoding="utf-8")
    for package, name in (
        ("numpy", systems.NUMPY),
        ("llvmlite", systems.NUMBA),  # which Numba needs, and which is asked for first
        ("torch", systems.PYTORCH),
        ("onnxruntime", systems.ONNX_RUNTIME),
        ("openvino", systems.OPENVINO),
    ):
        if importlib.util.find_spec(package):
            assert f"| {name} " in done.stdout
        else:
            assert f"- left out, {name}: {package} is not installed" in done.stdout
    assert (f"| {systems.PREDICT} " in done.stdout) == (f"| {systems.NUMBA} " in done.stdout)
    is_here = CHECKOUT in Path(npshapenet.__file__).resolve().parents
    measured = "the files of this checkout" if is_here else "as installed"
    assert f"- npshapenet: {npshapenet.__version__}, {measured}\n" in done.stdout
    assert str(weights_file.parent) not in done.stdout
    assert str(CHECKOUT) not in done.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_layers(weights_file: Path) -> None:
    pytest.importorskip("numba")
    done = run("--model", weights_file, "--layers", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "| depthwise " in done.stdout
    assert "| network in one call " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--start-ups", "-1"], "--start-ups"),
        (["--model", "./missing.npz"], "--model ./missing.npz: "),
        (["--model", "unheard_of"], "no bundled model is named 'unheard_of'"),
        (["--predictor", "missing.dat"], "--predictor missing.dat: no such file"),
        (["--layers", "--chart", "chart.png"], "--layers leaves out"),
    ],
)
def test_usage(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_chart_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["--chart", "chart.png"])
    assert ended.value.code == 2
    assert "matplotlib" in capsys.readouterr().err
