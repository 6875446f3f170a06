"""What was found in the photos, as text: a table, JSON, CSV, or iBUG's .pts form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npshapenet.image import Box
from npshapenet.markup import LANDMARK_COUNT, REGIONS

#: Digits behind the point of a coordinate in pixels.
_DIGITS = 3


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one photo: landmarks (L, 2) in pixels of the photo.

    ``photo`` is the path as it was given, ``number`` counts the photo's faces from 1, ``size``
    is the photo's width and height, ``box`` is None where the whole picture was the crop,
    ``quality`` is the NME that the model expects, in percent, None where it gives none.
    """

    photo: str
    number: int
    size: tuple[int, int]
    box: Box | None
    landmarks: NDArray[np.float32]
    quality: float | None = None


def as_table(faces: Sequence[Face]) -> str:
    """For people: each face under a line with its photo and box, a line a point."""
    return "\n".join(_table_of(face) for face in faces)


def _table_of(face: Face) -> str:
    width, height = face.size
    where = "the whole picture" if face.box is None else str(face.box)
    quality = "" if face.quality is None else f", quality {face.quality:.1f} %"
    regions = region_names(len(face.landmarks))
    region_width = max(map(len, ["region", *regions]))
    lines = [
        f"{face.photo}, {width}×{height}, {where}{quality}",
        f"{'point':>5}  {'region':<{region_width}}  {'x':>8}  {'y':>8}",
    ]
    for index, ((x, y), region) in enumerate(zip(face.landmarks, regions, strict=True)):
        lines.append(f"{index:>5}  {region:<{region_width}}  {x:>8.2f}  {y:>8.2f}")
    return "\n".join(lines) + "\n"


def as_json(
    faces: Sequence[Face], failures: Sequence[tuple[str, str]], about: Mapping[str, Any]
) -> str:
    """One object: ``about``'s entries, ``faces``, a line each, and ``failed``, photo and reason.

    Only ASCII, whatever the photos' names.
    """
    lists: dict[str, list[dict[str, Any]]] = {
        "faces": [
            {
                "photo": face.photo,
                "width": face.size[0],
                "height": face.size[1],
                "box": None if face.box is None else face.box.edges,
                "quality": _rounded_quality(face.quality),
                "landmarks": _rounded(face.landmarks),
            }
            for face in faces
        ],
        "failed": [{"photo": photo, "reason": reason} for photo, reason in failures],
    }
    entries = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
    for key, items in lists.items():
        lines = ",".join(f"\n{json.dumps(item)}" for item in items)
        entries.append(f"{json.dumps(key)}: [{lines}]")
    return "{" + ",\n".join(entries) + "}\n"


def as_csv(faces: Sequence[Face]) -> str:
    """A line a point: photo, face, point, region, x, y, and the quality of its face, or nothing."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["photo", "face", "point", "region", "x", "y", "quality"])
    for face in faces:
        regions = region_names(len(face.landmarks))
        for index, ((x, y), region) in enumerate(
            zip(_rounded(face.landmarks), regions, strict=True)
        ):
            quality = _rounded_quality(face.quality)
            table.writerow([face.photo, face.number, index, region, x, y, quality])
    return text.getvalue()


def as_pts(face: Face) -> str:
    """One face in iBUG's form, whose pixels count from 1: the top-left one's centre is (1, 1)."""
    points = [f"{x:.3f} {y:.3f}" for x, y in face.landmarks.astype(np.float64) + 1.0]
    head = ["version: 1", f"n_points: {len(points)}", "{"]
    return "\n".join([*head, *points, "}"]) + "\n"


def region_names(count: int) -> list[str]:
    """The region of each point; empty names where the points aren't iBUG's 68."""
    names = [""] * count
    if count == LANDMARK_COUNT:
        for region, indices in REGIONS.items():
            for index in indices:
                names[index] = region
    return names


def _rounded_quality(quality: float | None) -> float | None:
    return None if quality is None else round(quality, _DIGITS)


def _rounded(landmarks: NDArray[np.float32]) -> list[list[float]]:
    rounded: list[list[float]] = landmarks.astype(np.float64).round(_DIGITS).tolist()
    return rounded
