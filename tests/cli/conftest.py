"""The command line in this process: small random weights, the NumPy backend, the demo photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import npshapenet
from npshapenet.cli import main

#: The face of astronaut.jpg.
BOX = ("175", "76", "266", "167")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``run("info", path)``: the command line, with anything that becomes text."""

    def run_command(*arguments: object) -> Ended:
        status = main([str(argument) for argument in arguments])
        return Ended(status, *capsys.readouterr())

    return run_command


@pytest.fixture
def terminal() -> Callable[[], AbstractContextManager[Callable[[], str]]]:
    """``with terminal() as sent``: the error output is one; ``sent()`` is what is new on it."""
    if not hasattr(os, "openpty"):
        pytest.skip("makes a terminal as POSIX has them")
    return _terminal


@contextmanager
def _terminal() -> Iterator[Callable[[], str]]:
    screen, stderr = os.openpty()
    with open(screen, "rb", buffering=0) as shown, open(stderr, "w", encoding="utf-8") as stream:

        def sent() -> str:
            # The system takes its time: what comes before the mark is all.
            print(end="\0", file=stream, flush=True)
            content = b""
            while not content.endswith(b"\0"):
                content += shown.read(1 << 16)
            return content[:-1].decode()

        with redirect_stderr(stream):
            yield sent


@pytest.fixture
def predict(run: Callable[..., Ended], weights_file: Path) -> Callable[..., Ended]:
    """``predict(photo, "--box", *BOX)``: with the small weights, in NumPy."""

    def run_predict(*arguments: object) -> Ended:
        return run("predict", "--model", weights_file, "--backend", "numpy", *arguments)

    return run_predict


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """A photo in colour, 512×512, with one face."""
    return Path(str(files("npshapenet"))) / "demo" / "astronaut.jpg"


@pytest.fixture
def face_crop(astronaut: Path, tmp_path: Path) -> Path:
    """A gray PNG, 137×137, that is the crop of a face."""
    path = tmp_path / "crop.png"
    Image.open(astronaut).convert("L").crop((152, 53, 289, 190)).save(path)
    return path


@pytest.fixture(scope="session")
def expected(weights_file: Path, astronaut: Path) -> Callable[..., np.ndarray]:
    """``expected(box)``: the landmarks in the photo by the package's own functions."""
    model = npshapenet.load(weights_file, backend="numpy")

    def landmarks(box: Sequence[str] = BOX, photo: Path = astronaut) -> np.ndarray:
        crop = npshapenet.crop_face(Image.open(photo), [float(edge) for edge in box], model)
        return crop.to_photo(model.predict(crop))

    return landmarks
