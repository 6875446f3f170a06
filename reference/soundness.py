"""Whether what a system gives is a shape at all, on faces and on pictures without one.

A shape is sound if its landmarks are finite and none is farther from the crop's centre than
REACH_SIDES, so that whatever a detector takes for a face, what is drawn stays about it. Sizes: N
crops, P outputs of a network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npshapenet.shape import ShapeModel
from reference.data.face import Box
from reference.metrics import LANDMARKS, interocular_nme_percent
from reference.systems import ModelSystem, System
from reference.views import CROP_FACTOR, usable_views

Floats = NDArray[np.float64]

#: How far from the crop's centre a landmark may lie, in sides of the crop: half a side beyond
#: its edges, where no face that the crop was cut around reaches.
REACH_SIDES: Final = 1.0


@dataclass(frozen=True, eq=False)
class Examined:
    """What one system gave on N crops.

    ``sides`` (N, 68, 2): landmarks from the centre of 1.5 × the box, in its sides; NaN where the
    system refused. ``nme_percent`` (N,), on labelled faces; ``outputs`` (N, P), before the limits
    of the shape model, ``shape_model`` and ``quality`` (N,), of weights files: else None.
    """

    sides: Floats
    nme_percent: Floats | None = None
    outputs: Floats | None = None
    quality: Floats | None = None
    shape_model: ShapeModel | None = None


@dataclass(frozen=True)
class Soundness:
    """How sound the shapes are.

    ``not_finite`` and ``beyond_reach`` count shapes; ``farthest_sides`` is the farthest finite
    landmark's distance from the crop's centre, in sides of the crop. ``clipped_shapes`` counts
    those of which the shape model's limits moved a parameter, ``clipped_parameters`` how many by
    kind; ``possible_sides`` is what the limits allow at most. None where there are no limits.
    """

    shapes: int
    not_finite: int
    beyond_reach: int
    farthest_sides: float
    clipped_shapes: int | None = None
    clipped_parameters: Mapping[str, int] | None = None
    possible_sides: float | None = None

    @property
    def is_sound(self) -> bool:
        """Whether every shape is finite and within reach."""
        return self.not_finite == 0 and self.beyond_reach == 0

    def to_json(self) -> dict[str, Any]:
        """All figures, as plain JSON values."""
        clipped = self.clipped_parameters
        return {
            "shapes": self.shapes,
            "not_finite": self.not_finite,
            "reach_crop_sides": REACH_SIDES,
            "beyond_reach": self.beyond_reach,
            "farthest_crop_sides": self.farthest_sides,
            "farthest_possible_crop_sides": self.possible_sides,
            "clipped_shapes": self.clipped_shapes,
            "clipped_parameters": None if clipped is None else dict(clipped),
        }


def examine_faces(
    systems: Sequence[System], labels: Path, progress: bool = False
) -> Mapping[str, Examined]:
    """Show each labelled face to each system; LabelError where the labels can't be read."""
    views = list(usable_views(labels, "soundness", progress))
    truth = np.array([view.landmarks for view in views]).reshape(-1, LANDMARKS, 2)
    boxes = [view.box for view in views]
    return {
        system.name: _examine(
            system, zip((view.photo for view in views), boxes, strict=True), truth
        )
        for system in systems
    }


def examine_crops(systems: Sequence[System], crops: NDArray[np.uint8]) -> Mapping[str, Examined]:
    """Show crops (N, S, S) to each system, in a box of which the crop is 1.5 times as large."""
    side = crops.shape[-1]
    low = side / 2 - side / CROP_FACTOR / 2
    box = (low, low, side - low, side - low)
    photos = [Image.fromarray(crop) for crop in crops]
    return {system.name: _examine(system, ((photo, box) for photo in photos)) for system in systems}


def soundness(examined: Examined) -> Soundness:
    """The figures of one system's shapes; what isn't finite counts as such, whatever the reason."""
    finite = np.asarray(np.isfinite(examined.sides).all(axis=(1, 2)))
    distances = np.hypot(*np.moveaxis(examined.sides[finite], -1, 0)).reshape(-1, LANDMARKS)
    figures = Soundness(
        shapes=len(finite),
        not_finite=int((~finite).sum()),
        beyond_reach=int((distances > REACH_SIDES).any(axis=1).sum()),
        farthest_sides=float(distances.max(initial=0)),
    )
    model = examined.shape_model
    if model is None or model.limits is None or examined.outputs is None:
        return figures
    count = len(model.components)
    parameters = examined.outputs[:, : count + 4]
    is_clipped = (parameters < model.limits[0]) | (parameters > model.limits[1])
    by_kind = {
        "scores": is_clipped[:, :count],
        "scale": is_clipped[:, count],
        "angle": is_clipped[:, count + 1],
        "translation": is_clipped[:, count + 2 :],
    }
    return dataclasses.replace(
        figures,
        clipped_shapes=int(is_clipped.any(axis=1).sum()),
        clipped_parameters=MappingProxyType({k: int(v.sum()) for k, v in by_kind.items()}),
        possible_sides=possible_sides(model),
    )


def possible_sides(model: ShapeModel) -> float:
    """How far from the crop's centre the limits let a landmark come at most, in crop sides.

    Every score at its limit and pulling the same way, which no face does: a bound, not a figure of
    what happens. ValueError for a shape model without limits.
    """
    if model.limits is None:
        raise ValueError("the shape model has no limits: its landmarks can be anywhere")
    largest = np.abs(model.limits.astype(np.float64)).max(axis=0)
    count = len(model.components)
    reach = np.hypot(*np.moveaxis(model.components.astype(np.float64), -1, 0))  # (K, L)
    of_shape = np.hypot(*model.mean.astype(np.float64).T) + largest[:count] @ reach
    network_units = np.hypot(*largest[count + 2 :]) + largest[count] * of_shape.max()
    return float(network_units / 2)  # the crop is two of them wide


def _examine(
    system: System, shown: Iterable[tuple[Image.Image, Box]], truth: Floats | None = None
) -> Examined:
    sides, found, outputs, quality = [], [], [], []
    for photo, box in shown:
        landmarks = np.full((LANDMARKS, 2), np.nan)
        try:
            if isinstance(system, ModelSystem):
                answer = system.answer(photo, box)
                landmarks = answer.landmarks
                outputs.append(answer.outputs)
                quality.append(answer.quality)
            else:
                landmarks = system(photo, box)
        except ValueError:
            pass  # what was refused is not finite
        found.append(landmarks)
        sides.append(_in_sides(landmarks, box))
    is_model = isinstance(system, ModelSystem) and len(outputs) == len(sides)
    has_quality = is_model and None not in quality
    return Examined(
        sides=np.array(sides).reshape(-1, LANDMARKS, 2),
        nme_percent=None if truth is None else _nme(np.array(found), truth),
        outputs=np.array(outputs) if is_model else None,
        quality=np.array(quality, np.float64) if has_quality else None,
        shape_model=system.model.weights.shape_model if isinstance(system, ModelSystem) else None,
    )


def _in_sides(landmarks: Floats, box: Box) -> Floats:
    left, top, right, bottom = box
    side = CROP_FACTOR * max(right - left, bottom - top)
    # The box counts from pixel edges, landmarks from their centres.
    centre = np.array([left + right, top + bottom]) / 2 - 0.5
    return (landmarks - centre) / side


def _nme(found: Floats, truth: Floats) -> Floats:
    """(N,), NaN where what was found isn't finite."""
    nme = np.full(len(found), np.nan)
    finite = np.isfinite(found).all(axis=(1, 2))
    if finite.any():
        nme[finite] = interocular_nme_percent(found[finite], truth[finite])
    return nme
