"""From the start of a process to its first landmarks, and the memory that it then holds.

Every measurement is a process of its own; the systems take turns. The Numba backend is measured
cold, with an empty folder for its compiled code; warm, with what an earlier process kept; and as
a wheel installs it that carries compiled code. The other files are in the system's caches:
each system ran once before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import systems
from benchmarks.parity import check_found
from benchmarks.workload import Workload
from npshapenet import jit
from npshapenet.jit.build import build
from npshapenet.network import to_json

COLD: Final = f"{systems.NUMBA}, cold"
WARM: Final = f"{systems.NUMBA}, warm"
CARRIED: Final = f"{systems.NUMBA}, carried code"

_SCRIPT: Final = Path(__file__).with_name("first_landmarks.py")
_CROP: Final = "crop.npy"
_CACHE_VARIABLE: Final = "NPSHAPENET_CACHE_DIR"


class StartUpError(Exception):
    """A process ended without landmarks; the message says which, and its last words."""


@dataclass(frozen=True)
class StartUp:
    """One process: the time to its first landmarks, its memory then, its compiled code's origin."""

    seconds: float
    resident_kib: int | None
    peak_kib: int | None
    origin: str


@dataclass(frozen=True)
class _Candidate:
    """What is started: arguments of first_landmarks.py; where its packages lie."""

    name: str
    arguments: tuple[str, ...]
    finds_landmarks: bool
    has_empty_cache: bool = False
    packages: Path | None = None  # a folder to be searched before all others


def copy_with_code(folder: Path) -> Path:
    """A copy of the package in ``folder``, with the code that a wheel carries.

    The folder, as a path to be searched for packages; BuildError if the code can't be made.
    """
    source, copy = Path(jit.__file__).parent.parent, folder / "npshapenet"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.code"))
    build(copy / "jit" / "carried_code")
    return folder


def measure_start_ups(
    work: Workload,
    available: Collection[str],
    repetitions: int,
    with_code: Path | None = None,
) -> dict[str, list[StartUp]]:
    """The start-ups of the systems that are ``available``, by name, in the order of repetition.

    ``with_code`` is what ``copy_with_code`` made, to be measured too.
    ParityError if one finds other landmarks than the NumPy backend; StartUpError if one fails.
    """
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        candidates = list(_candidates(work, available, folder))
        if with_code and systems.NUMBA in available:
            arguments = "numba", work.model_name, str(folder / _CROP)
            candidates.append(_Candidate(CARRIED, arguments, True, True, with_code))
        measured: dict[str, list[StartUp]] = {candidate.name: [] for candidate in candidates}
        for number in range(repetitions + 1):
            for candidate in candidates:
                if candidate.name == COLD and number == 0:  # its files are those of the warm one
                    continue
                with _cache(folder, candidate) as cache:
                    start_up = _start(candidate, cache, work, folder)
                if number > 0:  # the first ones fill the system's caches
                    measured[candidate.name].append(start_up)
        return measured


@contextmanager
def _cache(folder: Path, candidate: _Candidate) -> Iterator[Path]:
    """The folder for compiled code: an empty one, or one that the others share."""
    if candidate.has_empty_cache:
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            yield Path(empty)
    else:
        yield folder


def _candidates(work: Workload, available: Collection[str], folder: Path) -> Iterator[_Candidate]:
    """Write the files that the processes read, and say how each is started."""
    crop, image = folder / _CROP, folder / "image.npy"
    np.save(crop, work.crop.gray)
    np.save(image, work.image)
    model = work.model_name
    if systems.NUMPY in available:
        yield _Candidate(systems.NUMPY, ("numpy", model, str(crop)), True)
    if systems.NUMBA in available:
        yield _Candidate(WARM, ("numba", model, str(crop)), True)
        yield _Candidate(COLD, ("numba", model, str(crop)), True, has_empty_cache=True)
    if systems.ONNX_RUNTIME in available:
        from reference.onnx_graph import make_network_model

        network = folder / "network.onnx"
        onnx_model = make_network_model(work.weights.network, work.weights.tensors)
        network.write_bytes(onnx_model.SerializeToString())
        arguments = "onnxruntime", str(network), str(image)
        yield _Candidate(systems.ONNX_RUNTIME, arguments, False)
    if systems.PYTORCH in available:
        import torch

        network = folder / "network.pt"
        tensors = {name: torch.from_numpy(array) for name, array in work.weights.tensors.items()}
        torch.save({"graph": to_json(work.weights.network), "tensors": tensors}, network)
        yield _Candidate(systems.PYTORCH, ("pytorch", str(network), str(image)), False)


def _start(candidate: _Candidate, cache: Path, work: Workload, work_folder: Path) -> StartUp:
    # -P: the script's folder isn't searched, so npshapenet is the one that is installed.
    command = [sys.executable, "-P", str(_SCRIPT), *candidate.arguments]
    environment = {**os.environ, _CACHE_VARIABLE: str(cache)}
    # Packages are compiled to bytecode when they are installed: so here, for all systems.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(work_folder / "bytecode")
    if candidate.packages:
        others = os.environ.get("PYTHONPATH")
        path = [str(candidate.packages), *([others] if others else [])]
        environment["PYTHONPATH"] = os.pathsep.join(path)
    with tempfile.TemporaryFile("w+") as complaints:
        start = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process:
            assert process.stdout is not None
            first_line = process.stdout.readline()
            seconds = time.perf_counter() - start
            rest = process.stdout.read()
        if process.returncode or first_line != "found\n":
            complaints.seek(0)
            last = (complaints.read().strip().splitlines() or ["it said nothing"])[-1]
            raise StartUpError(f"{candidate.name}, started anew: {last}")
    report: dict[str, Any] = json.loads(rest)
    found = np.array(report["found"], np.float32)
    landmarks = found.reshape(-1, 2) if candidate.finds_landmarks else work.landmarks(found)
    check_found(f"{candidate.name}, started anew,", landmarks, work)
    memory = report["memory_kib"]
    return StartUp(seconds, memory.get("VmRSS"), memory.get("VmHWM"), report["origin"])
