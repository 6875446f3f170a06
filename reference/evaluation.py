"""Showing labelled faces to systems, and keeping what they found beside what is true.

Sizes: N faces of a set, M of them on which a system found something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference import metrics
from reference.data.labels import LabelError, LabelledFace
from reference.data.markup import IBUG68, Markup
from reference.metrics import Figures
from reference.systems import System
from reference.views import View, open_view, open_views

Floats = NDArray[np.float64]

#: Another way of showing a face, from the usual one and the face's place in its set.
Change = Callable[[View, int], View]


def unchanged(view: View, place: int) -> View:
    """Show a face as it is labelled."""
    return view


@dataclass(frozen=True)
class Failure:
    """A face for which there is no figure, and why."""

    face: str
    kind: str
    detail: str


@dataclass(frozen=True, eq=False)
class Result:
    """What one system found on the faces of one set.

    ``places`` (M,) are the places of the faces in the set, in order; ``predictions`` and
    ``truth`` (M, L, 2) their landmarks; ``is_inside`` (M,) says of which 1.5 × the box needs no
    pixel from outside the photo; ``failures`` has the N − M other faces; ``markup`` says what the
    landmarks are.
    """

    places: NDArray[np.intp]
    predictions: Floats
    truth: Floats
    is_inside: NDArray[np.bool_]
    failures: Sequence[Failure]
    markup: Markup = IBUG68

    def nme_percent(self) -> Floats:
        """The error of each face found (M,), in percent of the distance of the scale points."""
        return metrics.normalised_mean_errors_percent(self.predictions, self.truth, self.markup)

    def figures(self, only_inside: bool = False) -> Figures | None:
        """The figures over the faces found, or those of them inside; None where there is none."""
        chosen = self.is_inside if only_inside else np.ones_like(self.is_inside)
        if not chosen.any():
            return None
        return metrics.summarise(self.predictions[chosen], self.truth[chosen], self.markup)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Systems on one set of labels: a result for each system, by its name.

    ``faces`` (N) are those that could be shown to the systems, as ``change`` shows them;
    ``skipped`` are the labels that couldn't be.
    """

    name: str
    labels: Path
    faces: Sequence[LabelledFace]
    skipped: Sequence[Failure]
    results: Mapping[str, Result]
    change: Change
    markup: Markup = IBUG68

    def view(self, place: int) -> View:
        """Open a face again, as it was shown; LabelError where its photo is gone by now."""
        return self.change(open_view(self.faces[place], self.markup), place)


def evaluate(
    systems: Sequence[System],
    labels: Path,
    name: str,
    change: Change = unchanged,
    progress: bool = False,
    markup: Markup = IBUG68,
) -> Evaluation:
    """Show each labelled face to each system, each photo opened once; all have the markup's points.

    A label that can't be evaluated, and a face with which a system can't work (it raises
    ValueError, or finds what isn't finite), is kept by name and left out of the figures.
    LabelError where the labels can't be read at all.
    """
    faces: list[LabelledFace] = []
    truth: list[Floats] = []
    inside: list[bool] = []
    skipped: list[Failure] = []
    found: dict[str, list[Floats | Failure]] = {system.name: [] for system in systems}
    for opened in open_views(labels, name, progress, markup):
        if isinstance(opened, LabelError):
            skipped.append(Failure(opened.image, opened.kind, opened.detail))
            continue
        face, view = opened[0], change(opened[1], len(faces))
        faces.append(face)
        truth.append(view.landmarks)
        inside.append(view.is_inside)
        for system in systems:
            found[system.name].append(_landmarks_or_failure(system, view, face.name))
    results = {
        system: _result(outcomes, truth, inside, markup) for system, outcomes in found.items()
    }
    return Evaluation(name, labels, faces, skipped, results, change, markup)


def _landmarks_or_failure(system: System, view: View, face: str) -> Floats | Failure:
    try:
        landmarks = system(view.photo, view.box)
    except ValueError as error:
        return Failure(face, "refused", str(error))
    if landmarks.shape != view.landmarks.shape or not np.isfinite(landmarks).all():
        return Failure(face, "not landmarks", f"{landmarks.shape}, not all of them finite")
    return landmarks


def _result(
    outcomes: Sequence[Floats | Failure],
    truth: Sequence[Floats],
    inside: Sequence[bool],
    markup: Markup,
) -> Result:
    found = {p: item for p, item in enumerate(outcomes) if not isinstance(item, Failure)}
    shape = (len(found), markup.point_count, 2)
    return Result(
        places=np.array(list(found), np.intp),
        predictions=np.array(list(found.values()), np.float64).reshape(shape),
        truth=np.array([truth[place] for place in found], np.float64).reshape(shape),
        is_inside=np.array([inside[place] for place in found], bool),
        failures=[item for item in outcomes if isinstance(item, Failure)],
        markup=markup,
    )
