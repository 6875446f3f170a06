"""What these tests share: copies of the package, a face, processes that know of little else."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import npshapenet
from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.jit import carried, cpu
from npshapenet.jit.build import build
from npshapenet.model import DEFAULT_MODEL

Floats = NDArray[np.float32]

#: Of the crop's file and, if not the default, a model's name. Says what it found and how: a JSON
#: list of landmarks, backend, origin of the compiled code, peak of resident memory in MiB, and
#: which compilers were imported.
PREDICT = """
import json, sys
import numpy as np
import npshapenet
from npshapenet import jit
model = npshapenet.load(*sys.argv[2:])
landmarks = model.predict(np.load(sys.argv[1]))
compiled = model.backend_name == "numba"
peak = None
if sys.platform == "linux":
    # Of this program alone: what getrusage gives includes the process that started it.
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith("VmHWM")]
    peak = int(line.split()[1]) / 1024
print(json.dumps([
    landmarks.tolist(), model.backend_name, jit.origin() if compiled else "", peak,
    sorted({"numba", "llvmlite"} & set(sys.modules)),
]))
"""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a process that ran PREDICT said."""

    landmarks: Floats
    backend: str
    origin: str
    peak_mib: float | None
    compilers: list[str]
    complaints: str


def answer(done: subprocess.CompletedProcess[str]) -> Answer:
    """The answer of a process that has ended well."""
    assert done.returncode == 0, done.stderr
    landmarks, *rest = json.loads(done.stdout)
    return Answer(np.array(landmarks, np.float32), *rest, done.stderr)


def distributions(*names: str) -> Iterator[Path]:
    """The files and folders that make up installed distributions."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in sorted(tops):
            yield Path(str(distribution.locate_file(top)))


@pytest.fixture(scope="session")
def predict_program() -> str:
    """The program that ``read_answer`` understands; its argument is the crop's file."""
    return PREDICT


@pytest.fixture(scope="session")
def read_answer() -> Callable[[subprocess.CompletedProcess[str]], Answer]:
    """``read_answer(done)``: what a process that ran the program said."""
    return answer


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a copy of the package lies in, without machine code."""
    folder = tmp_path_factory.mktemp("package")
    copy_package(folder)
    return folder


def copy_package(folder: Path) -> None:
    """npshapenet as it is installed, but without the machine code that it may carry."""
    source = Path(npshapenet.__file__).parent
    ignored = shutil.ignore_patterns("carried_code", "__pycache__")
    shutil.copytree(source, folder / "npshapenet", ignore=ignored)


@pytest.fixture(scope="session")
def carried_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what ``python -m npshapenet.jit.build`` writes, for any x86-64."""
    pytest.importorskip("numba")
    if not cpu.is_linux_x86_64():
        pytest.skip("code to carry is made on Linux x86-64")
    folder = tmp_path_factory.mktemp("carried") / "carried_code"
    build(folder, carried.LEVELS[-1:])
    return folder


@pytest.fixture(scope="session")
def crop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crop of a face, as an array in a file."""
    photo = read_demo_photo("astronaut")
    path = tmp_path_factory.mktemp("crop") / "crop.npy"
    model = npshapenet.load(backend="numpy")
    np.save(path, npshapenet.crop_face(photo.image, photo.box, model).gray)
    return path


@pytest.fixture(scope="session")
def expected(crop_file: Path) -> Floats:
    """Its landmarks."""
    return npshapenet.load(backend="numpy").predict(np.load(crop_file))


@pytest.fixture(scope="session")
def predict(crop_file: Path) -> Callable[..., Answer]:
    """``predict(environment, *options of Python, model="fast")``: by a new process, in no folder
    of ours."""

    def run(environment: Mapping[str, str], *options: str, model: str = DEFAULT_MODEL) -> Answer:
        command = [sys.executable, "-P", *options, "-c", PREDICT, str(crop_file), model]
        with tempfile.TemporaryDirectory() as elsewhere:
            return answer(
                subprocess.run(
                    command, env=dict(environment), cwd=elsewhere, capture_output=True, text=True
                )
            )

    return run


def assert_same(found: Floats, expected: Floats) -> None:
    """The backends add up in other orders: 1e-3 pixels."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.fixture
def same() -> Callable[[Floats, Floats], None]:
    """``same(found, expected)``: the same landmarks."""
    return assert_same


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """``make_environment(*distributions)`` → the environment variables of processes that find
    these and npshapenet, and nothing else: with the option -S of Python's."""

    def make(*names: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("environment")
        link_all(distributions(*names), folder)
        copy_package(folder)
        return {"PYTHONPATH": str(folder)}

    return make


def link_all(paths: Iterable[Path], folder: Path) -> None:
    for path in paths:
        (folder / path.name).symlink_to(path)


@pytest.fixture(scope="session")
def crop_picture(crop_file: Path) -> Path:
    """The same crop as a PNG file."""
    path = crop_file.with_suffix(".png")
    Image.fromarray(np.load(crop_file)).save(path)
    return path
