"""python -m benchmarks.detectors: how long the face detectors take, by the size of the photo."""

from __future__ import annotations

import functools
import statistics
import sys
import time

import numpy as np
from PIL import Image

from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.detectors import Detector, DetectorName, detector_named, installed
from npshapenet.faces import find_faces

SIZES = ((320, 240), (640, 480), (1920, 1080))
ROUNDS = 7


def main() -> int:
    """Print a Markdown table, and return the exit status: 1 where no detector is installed."""
    names = installed()
    if not names:
        print("benchmarks.detectors: no detector is installed", file=sys.stderr)
        return 1
    found = {name: _open(name) for name in names}
    sizes = [f"{width}×{height}" for width, height in SIZES]
    print(f"| detector | to load it | {' | '.join(sizes)} |")
    print(f"| --- | --- | {' | '.join('---' for _ in sizes)} |")
    medians_ms = _median_times_ms({name: detector for name, (detector, _) in found.items()})
    for name, (_, load_ms) in found.items():
        cells = [f"{ms:.0f} ms" for ms in (load_ms, *medians_ms[name])]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


def _open(name: DetectorName) -> tuple[Detector, float]:
    """A detector, and how many milliseconds it took to load it and its package."""
    start = time.perf_counter()
    detector = detector_named(name)
    return detector, (time.perf_counter() - start) * 1e3


def _median_times_ms(found: dict[DetectorName, Detector]) -> dict[DetectorName, list[float]]:
    """The median time of find_faces with each detector on each size, the rounds interleaved."""
    photos = [_photo(*size) for size in SIZES]
    calls = {
        (name, place): functools.partial(find_faces, photo, detector)
        for name, detector in found.items()
        for place, photo in enumerate(photos)
    }
    times_ms: dict[tuple[DetectorName, int], list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            times_ms[key].append((time.perf_counter() - start) * 1e3)
    return {
        name: [statistics.median(times_ms[name, place]) for place in range(len(photos))]
        for name in found
    }


def _photo(width: int, height: int) -> np.ndarray:
    """The demo photo, as high as asked for, repeated to its width: faces side by side."""
    image = read_demo_photo("astronaut").image.resize((height, height), Image.Resampling.BICUBIC)
    tile = np.asarray(image)
    count = -(-width // height)
    return np.ascontiguousarray(np.tile(tile, (1, count, 1))[:, :width])


if __name__ == "__main__":
    sys.exit(main())
