"""Processes that find no compiled code, or none that is any good, end in the right landmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import npshapenet
from npshapenet.jit import cpu, objects
from npshapenet.jit.machine_code import MachineCode

Floats = NDArray[np.float32]

CROP = """
import numpy as np
crop = np.random.default_rng(5).integers(0, 256, (120, 100), np.uint8)
"""

#: Waits until it may start, then says its landmarks and where its compiled code came from.
PREDICT = f"""
{CROP}
import json, sys
import npshapenet
from npshapenet import jit
print("ready", flush=True)
sys.stdin.readline()
landmarks = npshapenet.load("fast", backend="numba").predict(crop)
print(json.dumps([landmarks.tolist(), jit.origin()]))
"""

#: On a disk with room for nothing: files can be made, and no byte written to them.
ON_A_FULL_DISK = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + PREDICT


class Answer(NamedTuple):
    """What a process found, how, and its lines on stderr."""

    landmarks: Floats
    origin: str
    complaints: list[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this process and of those that it starts, empty."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("NPSHAPENET_CACHE_DIR", str(folder))
    # A library that the package may carry isn't used then.
    monkeypatch.setenv("NUMBA_CPU_NAME", cpu.target().cpu)
    monkeypatch.setenv("NUMBA_CPU_FEATURES", cpu.target().features)
    return folder


def predict_at_once(count: int, program: str = PREDICT) -> list[Answer]:
    """By so many processes, none of which begins before all are ready."""
    # -P: without the working folder on sys.path, where another npshapenet may lie.
    command = [sys.executable, "-P", "-c", program]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        landmarks, origin = json.loads(out)
        answers.append(Answer(np.array(landmarks, np.float32), origin, err.splitlines()))
    return answers


@pytest.fixture(scope="module")
def expected() -> Floats:
    """The landmarks that the NumPy backend finds."""
    names: dict[str, NDArray[np.uint8]] = {}
    exec(CROP, names)
    return npshapenet.load("fast", backend="numpy").predict(names["crop"])


def assert_same(found: Floats, expected: Floats) -> None:
    """The backends add up in other orders: 1e-3 pixels."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_two_first_processes_at_once(folder: Path, expected: Floats) -> None:
    """Both compile, unless one is seconds behind; one file is kept, and it is whole."""
    answers = predict_at_once(2)
    for answer in answers:
        assert_same(answer.landmarks, expected)
    origins = {answer.origin for answer in answers}
    assert "compiled now" in origins
    assert origins <= {"compiled now", f"kept in {folder}"}
    assert [file.name for file in folder.iterdir()] == [objects.file_name(is_basic=True)]
    (later,) = predict_at_once(1)
    np.testing.assert_array_equal(later.landmarks, answers[0].landmarks)
    assert (later.origin, later.complaints) == (f"kept in {folder}", [])


def wrong_code() -> bytes:
    """The content of a file that would be loaded, of code that returns at once: no landmarks."""
    return MachineCode(cpu.target().registers, b"\xc3" * 100_000, 0).to_file()


def keep(folder: Path, name: str = "", content: bytes = b"") -> Path:
    """Put a file there as an earlier process would, by default the one that is looked for."""
    file = folder / (name or objects.file_name(is_basic=True))
    file.write_bytes(content or wrong_code())
    file.chmod(0o600)
    return file


@pytest.mark.skipif(not cpu.is_linux_x86_64(), reason="the code is that of x86-64 Linux")
def test_the_wrong_code_would_be_loaded(folder: Path) -> None:
    """If it were whole and safe: so the cases below are refused for what ails them alone."""
    keep(folder)
    assert objects._load_or_compile().origin == f"kept in {folder}"


def is_truncated(folder: Path) -> None:
    keep(folder, content=wrong_code()[:50_000])


def is_of_another_version(folder: Path) -> None:
    keep(folder, name="engine-basic-0123456789abcdef.code")


def may_be_written_by_others(folder: Path) -> None:
    keep(folder).chmod(0o622)


def is_no_folder(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("in the way")


def is_on_a_full_disk(folder: Path) -> None:
    assert list(folder.iterdir()) == []


POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="modes and limits are POSIX's")


@pytest.mark.parametrize(
    ("damage", "program", "origin"),
    [
        (is_truncated, PREDICT, "compiled now"),
        (is_of_another_version, PREDICT, "compiled now"),
        pytest.param(
            may_be_written_by_others,
            PREDICT,
            "in memory only: others may write to it: {file}",
            marks=POSIX_ONLY,
        ),
        pytest.param(is_no_folder, PREDICT, "in memory only: ", marks=POSIX_ONLY),
        pytest.param(
            is_on_a_full_disk, ON_A_FULL_DISK, "in memory only: File too large", marks=POSIX_ONLY
        ),
    ],
    ids=["truncated", "of another version", "others may write", "no folder", "full disk"],
)
def test_kept_code_that_is_no_good(
    folder: Path, expected: Floats, damage: Callable[[Path], None], program: str, origin: str
) -> None:
    """The process compiles anew, and says in a line that it does; in another, why it can't keep
    the code."""
    damage(folder)
    (answer,) = predict_at_once(1, program)
    assert_same(answer.landmarks, expected)
    kept_file = folder / objects.file_name(is_basic=True)
    assert answer.origin.startswith(origin.format(file=kept_file))
    complaints = ["npshapenet: compiling for this CPU"]
    if answer.origin == "compiled now":
        assert objects._load_or_compile().origin == f"kept in {folder}"
        assert len(kept_file.read_bytes()) != len(wrong_code())
    else:
        complaints.append(f"npshapenet: the compiled code can't be kept, {answer.origin}")
    assert len(answer.complaints) == len(complaints)
    for line, start in zip(answer.complaints, complaints, strict=True):
        assert line.startswith(start)
    if damage is is_on_a_full_disk:
        assert list(folder.iterdir()) == []
