"""python -m reference.reproduce: its steps are commands that exist, in an order that works."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from reference import reproduce


class Ended(nullcontext[None]):
    """Stands for a process that has ended."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status

    def __enter__(self) -> Any:
        return self

    def wait(self) -> int:
        return self.status


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, each of which leaves its file and does nothing else."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> Ended:
        commands.append(command[2:])
        folder_or_file = Path(command[command.index("--out") + 1])
        is_training = command[2] == "reference.train"
        product = folder_or_file / "last.pt" if is_training else folder_or_file
        product.parent.mkdir(parents=True, exist_ok=True)
        product.touch()
        return Ended(0)

    monkeypatch.setattr(subprocess, "Popen", run)
    return commands


@pytest.mark.parametrize("model", reproduce.MODELS)
def test_every_step_is_a_command_that_misses_only_its_files(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser of each takes the words; then the first file is not there."""
    pytest.importorskip("torch", reason="the steps are PyTorch's")
    (tmp_path / "out").mkdir()
    for step in reproduce.steps(model, tmp_path / "data", tmp_path / "out"):
        module = importlib.import_module(step.words[0])
        assert module.main(step.words[1:]) == 1, step.words
        error = capsys.readouterr().err
        assert str(tmp_path) in error, step.words
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("model", reproduce.MODELS)
def test_each_step_reads_what_an_earlier_one_wrote(model: str, tmp_path: Path) -> None:
    written: set[str] = set()
    for step in reproduce.steps(model, Path("photos"), tmp_path):
        for word in step.words[:-1]:
            file = word.partition(":")[0]
            if file.startswith(str(tmp_path)):
                # Which of a run's checkpoints is the best one, training decides.
                assert file.replace("best.pt", "last.pt") in written
        written.add(str(step.writes))
    assert step.writes == tmp_path / f"{model}.npz"


def test_broken_off_it_goes_on(ran: list[list[str]], tmp_path: Path) -> None:
    """Nothing is made twice; only training leaves files from which it has to go on."""
    arguments = ["fast", "--data", "photos", "--out", str(tmp_path)]
    assert reproduce.main(arguments) == 0
    first = [command[0] for command in ran]
    assert first.count("reference.prepare") == 3
    assert first.count("reference.train") == 3
    assert not any("--resume" in command for command in ran)
    ran.clear()
    assert reproduce.main(arguments) == 0
    assert not ran
    for name in ("fast-fitted.pt", "fast.pt", "fast.npz"):
        (tmp_path / name).unlink()
    assert reproduce.main(arguments) == 0
    assert [command[0].partition(".")[2] for command in ran] == [
        "train",
        "refine_fit",
        "train_quality",
        "export",
    ]
    assert "--resume" in ran[0]


def test_a_step_that_fails_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda command: Ended(130))
    assert reproduce.main(["accurate", "--data", "photos", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().out.count("python -m ") == 1


def test_a_dry_run_runs_nothing(
    ran: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert reproduce.main(["accurate", "--data", "photos", "--out", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("python -m reference.") == 10
    assert not ran
    assert not out.exists()


SLOWLY = """
import signal, sys, time
from pathlib import Path

def end(*_):
    time.sleep(1)
    Path("checkpoint").touch()
    sys.exit(130)

signal.signal(signal.SIGINT, end)
Path("begun").touch()
time.sleep(60)
"""
WITH_THAT_STEP = """
import sys
from pathlib import Path
from reference import reproduce
reproduce.steps = lambda *_: [reproduce.Step(("slowly",), Path("never"), Path("never"))] * 2
sys.exit(reproduce.main(["fast", "--data", "photos", "--out", "."]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_lets_a_step_write_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "slowly.py").write_text(SLOWLY)
    here = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, here)))}
    command = [sys.executable, "-c", WITH_THAT_STEP]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert (tmp_path / "checkpoint").exists()
