"""Another face each time: ``predict`` and dlib's predictor on many crops in turn.

A model that is large compared to the caches, as dlib's of 95 MB is, reads other parts of it for
each face: shown the same face again and again, it finds them in the caches, as it never does in
use. The faces are those of both demo photos, in boxes that differ in place and size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.systems import DLIB, PREDICT
from benchmarks.timing import Seconds, time_in_rounds
from benchmarks.workload import Workload
from npshapenet import Box, crop_face
from npshapenet.cli.demo_photos import PEOPLE, read_demo_photo
from npshapenet.model import Model

FACES: Final = 64

#: How far a box is moved at most, and how much larger or smaller it is, as shares of its side.
_MOVED, _RESIZED = 0.15, 0.2


def measure_other_faces(work: Workload, predictor: Path, rounds: int) -> dict[str, Seconds]:
    """Seconds of one face in each round, by system; each round takes all faces in turn.

    ImportError without dlib.
    """
    import dlib

    model = Model(work.weights, "numba")
    find = dlib.shape_predictor(str(predictor))
    rng = np.random.default_rng(0)
    crops, rectangles = [], []
    for number in range(FACES):
        photo = read_demo_photo(sorted(PEOPLE)[number % len(PEOPLE)])
        gray = np.asarray(photo.image.convert("L"))
        box = _varied(photo.box, rng)
        crops.append(crop_face(gray, box, model).gray)
        left, top, right, bottom = (round(edge) for edge in box.edges)
        rectangles.append((gray, dlib.rectangle(left, top, right - 1, bottom - 1)))

    def predict() -> None:
        for crop in crops:
            model.predict(crop)

    def predict_by_dlib() -> None:
        for gray, rectangle in rectangles:
            find(gray, rectangle)

    calls: dict[str, Any] = {PREDICT: predict, DLIB: predict_by_dlib}
    return {name: times / FACES for name, times in time_in_rounds(calls, rounds).items()}


def _varied(box: Box, rng: np.random.Generator) -> Box:
    side = max(box.width, box.height)
    right, down = rng.uniform(-_MOVED, _MOVED, 2) * side
    half = side * (1 + rng.uniform(-_RESIZED, _RESIZED)) / 2
    x, y = (box.left + box.right) / 2 + right, (box.top + box.bottom) / 2 + down
    return Box(x - half, y - half, x + half, y + half)
