"""The command npshapenet as a whole: version, help, and how it is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import npshapenet

Run = Callable[..., Any]


def test_version(run: Run) -> None:
    ended = run("--version")
    assert (ended.status, ended.out) == (0, f"npshapenet {npshapenet.__version__}\n")


def test_without_a_command_it_explains_itself(run: Run) -> None:
    ended = run()
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == run("--help").out


@pytest.mark.parametrize("command", ["predict", "demo", "info"])
def test_help_has_examples(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert f"  npshapenet {command}" in ended.out
    assert command in run("--help").out
    assert max(map(len, ended.out.splitlines())) <= 110


def test_help_states_the_conventions(run: Run) -> None:
    text = run("predict", "--help").out
    for word in (".pts files count from 1", "the subject's", "EXIF", "(0, 0)", "exclusive"):
        assert word in text


def test_an_unknown_command_gets_one_line(run: Run) -> None:
    ended = run("detect")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "detect" in ended.err


def test_a_backend_that_is_chosen_by_name_needs_no_line(
    predict: Run, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPSHAPENET_BACKEND", "numpy")
    ended = predict(astronaut, "--box", "175", "76", "266", "167")  # with --backend numpy
    assert (ended.status, ended.err) == (0, "")


def test_it_runs_as_a_module() -> None:
    # -P: without the working folder on sys.path, where another npshapenet may lie.
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "npshapenet", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"npshapenet {npshapenet.__version__}\n"
