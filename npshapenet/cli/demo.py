"""npshapenet demo: the whole way on a photo that comes with the package."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import npshapenet
from npshapenet import jit
from npshapenet.cli.arguments import add_model_arguments, examples, open_model
from npshapenet.cli.demo_photos import PEOPLE, read_demo_photo
from npshapenet.cli.errors import CommandError, reason
from npshapenet.cli.files import write_file
from npshapenet.cli.overlays import check_picture_name, overlay
from npshapenet.image import Crop
from npshapenet.markup import IBUG68, LEFT_EYE_OUTER_CORNER, RIGHT_EYE_OUTER_CORNER
from npshapenet.model import BackendName

_BACKENDS: Final[tuple[BackendName, ...]] = ("numpy", "numba")

#: A backend is timed until it has taken this long, and at least for so many calls.
_TIMED_S: Final = 0.5
_CALLS_MIN: Final = 10
_CALLS_MAX: Final = 1000

_PICTURE_SIDE_PX: Final = 640

Points = NDArray[np.float32]

_DESCRIPTION: Final = """\
Find the landmarks of the face in a photo that comes along, say how far they are from points placed
by hand and how long each backend takes, and draw them.
"""

_EXAMPLES: Final = (
    "npshapenet demo",
    "npshapenet demo --photo grace_hopper --out face.png",
)


def add_to(subcommands: Any) -> None:
    """Add the subcommand to npshapenet's parser."""
    parser = subcommands.add_parser(
        "demo",
        help="find the landmarks in a photo that comes along, and time it",
        description=_DESCRIPTION,
        epilog=examples(_EXAMPLES),
    )
    parser.add_argument("--photo", choices=PEOPLE, default="astronaut", help="default: %(default)s")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        default=Path("npshapenet-demo.png"),
        help="the photo with its landmarks; default: %(default)s, in the working folder",
    )
    add_model_arguments(parser, backend=False)
    parser.set_defaults(run=run)


@dataclass(frozen=True, eq=False)
class Timing:
    """Landmarks (L, 2) in pixels of the crop, and how long they took."""

    landmarks: Points
    first_ms: float
    median_ms: float
    calls: int


def run(arguments: argparse.Namespace) -> int:
    """Do it, and return the exit status."""
    check_picture_name(arguments.out)
    photo = read_demo_photo(arguments.photo)
    model = open_model(arguments.model, "numpy")
    crop = npshapenet.crop_face(photo.image, photo.box, model)
    width, height = photo.image.size
    _say("photo", f"{photo.file_name}, {width}×{height}: {PEOPLE[arguments.photo]}")
    side = len(crop.gray)
    _say("face", f"{photo.box} → {side}×{side} gray crop at {crop.left}, {crop.top}")
    network = model.weights.network
    _, input_height, input_width = network.input_shape
    _say(
        "model",
        f"{arguments.model}: {input_width}×{input_height} gray → "
        f"{len(model.weights.shape_model.components)} scores and a transform → "
        f"{model.landmark_count} points; {network.multiply_adds() / 1e6:.1f} million multiply-adds",
    )
    timings = dict(_time_backends(arguments.model, crop))
    if len(timings) == len(_BACKENDS):
        first, second = (timing.landmarks for timing in timings.values())
        _say("agreement", f"the two differ by at most {np.abs(first - second).max():.1g} px")
    landmarks = crop.to_photo(next(iter(timings.values())).landmarks)
    if model.markup == IBUG68:
        _say(
            "error",
            f"{_nme_percent(landmarks, photo.landmarks):.2f} % from the points placed by hand "
            "(mean distance / distance of the outer eye corners)",
        )
    image, enlarged = _close_up(photo.image, crop, landmarks)
    write_file(arguments.out, overlay(image, [enlarged], arguments.out))
    _say("picture", f"{arguments.out.absolute()}, the face enlarged")
    return 0


def _close_up(photo: Image.Image, crop: Crop, landmarks: Points) -> tuple[Image.Image, Points]:
    """The photo around a crop (its side and a quarter), enlarged, and the landmarks in it."""
    side = len(crop.gray)
    left, top = max(crop.left - side // 8, 0), max(crop.top - side // 8, 0)
    extent = min(side * 5 // 4, photo.width - left, photo.height - top)
    scale = _PICTURE_SIDE_PX / extent
    image = photo.crop((left, top, left + extent, top + extent))
    enlarged = image.resize((_PICTURE_SIDE_PX, _PICTURE_SIDE_PX), Image.Resampling.BICUBIC)
    origin = np.array([left, top], np.float32)
    return enlarged, (landmarks - origin + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)


def _time_backends(name_or_path: str, crop: Crop) -> Iterator[tuple[str, Timing]]:
    """Each backend that there is here, timed and reported."""
    for backend in _BACKENDS:
        try:
            model = open_model(name_or_path, backend)
            timing = _time(partial(model.predict, crop))
        except (CommandError, ImportError) as error:
            _say(backend, f"not available: {reason(error)}")
            continue
        first = _duration(timing.first_ms)
        if backend == "numba":
            first += f" ({jit.origin()})"
        _say(
            backend,
            f"first call {first}, then {timing.median_ms:.2f} ms a face (median of {timing.calls})",
        )
        yield backend, timing


def _time(predict: Callable[[], Points]) -> Timing:
    """Time a first call, then so many that the median says something."""
    start = time.perf_counter()
    landmarks = predict()
    first_s = time.perf_counter() - start
    times_s: list[float] = []
    while len(times_s) < _CALLS_MIN or (sum(times_s) < _TIMED_S and len(times_s) < _CALLS_MAX):
        start = time.perf_counter()
        predict()
        times_s.append(time.perf_counter() - start)
    return Timing(landmarks, first_s * 1e3, statistics.median(times_s) * 1e3, len(times_s))


def _duration(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _nme_percent(landmarks: Points, truth: Points) -> float:
    distances = np.linalg.norm(landmarks - truth, axis=1)
    eyes = truth[RIGHT_EYE_OUTER_CORNER] - truth[LEFT_EYE_OUTER_CORNER]
    return float(distances.mean() / np.linalg.norm(eyes) * 100)


def _say(title: str, text: str) -> None:
    print(f"{title:<11}{text}", flush=True)
