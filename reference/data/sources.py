"""Faces files as a command line names them: a path, and how often its faces are seen."""

from __future__ import annotations

import math
from pathlib import Path

from reference.data.dataset import Faces, FacesError, read_faces


def read_weighted(entry: str) -> tuple[str, Faces, float]:
    """``FACES[:WEIGHT]`` → base name, faces, weight; FacesError names what is off."""
    path, separator, weight_text = entry.rpartition(":")
    if not (separator and path.endswith(".npz")):
        return Path(entry).stem, read_faces(Path(entry)), 1.0
    try:
        weight = float(weight_text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise FacesError(f"{entry}: the weight must be a number above 0")
    return Path(path).stem, read_faces(Path(path)), weight
