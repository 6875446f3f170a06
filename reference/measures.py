"""What is measured of systems on a set beside their errors, as far as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reference import quality
from reference.data.backgrounds import TESTING_FAMILIES, Family, background_crops, families_of
from reference.data.markup import IBUG68
from reference.evaluation import Evaluation
from reference.framing import Framing, measure_framing
from reference.openings import OpeningError, opening_errors
from reference.quality import Reliability
from reference.shape_model import truncation_floor_percent
from reference.soundness import Examined, Soundness, examine_crops, examine_faces, soundness
from reference.steadiness import Steadiness, measure_steadiness
from reference.systems import ModelSystem, System

Floats = NDArray[np.float64]

#: Backgrounds are drawn as crops of this side: that of a common face.
_BACKGROUND_SIDE_PX: Final = 150
#: Added to the seed, so that no picture here is one that training has drawn by a small seed.
_BACKGROUND_SEED: Final = 1_000_000


@dataclass(frozen=True)
class Asked:
    """What is to be measured of each set; ``seed`` is that of everything drawn at random."""

    framing: bool = False
    steadiness: bool = False
    soundness: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measures:
    """By the systems' names, each as far as it was asked for and can be had.

    ``floors_percent``: the NME that the shape model leaves with the best parameters.
    """

    openings: Mapping[str, Mapping[str, OpeningError]]
    floors_percent: Mapping[str, float]
    framing: Mapping[str, Framing] = field(default_factory=dict)
    steadiness: Mapping[str, Steadiness] = field(default_factory=dict)
    examined: Mapping[str, Examined] = field(default_factory=dict)

    def to_json(self, system: str) -> dict[str, Any]:
        """All of one system, as plain JSON values; without what there isn't."""
        values: dict[str, Any] = {}
        if system in self.openings:
            values["openings"] = {k: v.to_json() for k, v in self.openings[system].items()}
        if system in self.floors_percent:
            values["truncation_floor_percent"] = self.floors_percent[system]
        if system in self.framing:
            values["framing"] = self.framing[system].to_json()
        if system in self.steadiness:
            values["steadiness"] = self.steadiness[system].to_json()
        if system in self.examined:
            examined = self.examined[system]
            values["soundness"] = soundness(examined).to_json()
            if trust := trust_of(examined):
                values["quality"] = trust.to_json()
        return values


@dataclass(frozen=True, eq=False)
class Trust:
    """How a quality agrees with the true errors of a set."""

    rank_correlation: float
    reliability: Reliability

    def to_json(self) -> dict[str, Any]:
        """All figures, as plain JSON values."""
        correlation = self.rank_correlation
        return {
            "rank_correlation": None if np.isnan(correlation) else correlation,
            **self.reliability.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """What systems gave on crops without a face: ``families`` (N), one for each of N crops."""

    families: Sequence[str]
    examined: Mapping[str, Examined]

    def of(self, system: str, families: Sequence[str]) -> Examined:
        """What one system gave on the crops of some families."""
        chosen = np.array([family in families for family in self.families])
        whole = self.examined[system]
        return Examined(
            sides=whole.sides[chosen],
            outputs=None if whole.outputs is None else whole.outputs[chosen],
            quality=None if whole.quality is None else whole.quality[chosen],
            shape_model=whole.shape_model,
        )

    def soundness(self, system: str) -> Mapping[str, Soundness]:
        """By family, in the order of their first crop."""
        return {name: soundness(self.of(system, [name])) for name in dict.fromkeys(self.families)}

    def separation(self, system: str, quality_of_faces: Floats) -> Mapping[str, float]:
        """The area under the ROC curve against faces: of what training never saw, then by family.

        Empty where the system has no quality.
        """
        if self.examined[system].quality is None:
            return {}
        groups = {"never seen in training": TESTING_FAMILIES} | {
            name: (name,) for name in dict.fromkeys(self.families)
        }
        figures = {}
        for name, families in groups.items():
            others = self.of(system, families).quality
            if others is not None and others.size:
                figures[name] = quality.separation(quality_of_faces, others)
        return figures


def measure(
    systems: Sequence[System], evaluation: Evaluation, asked: Asked, progress: bool = False
) -> Measures:
    """Measure what is asked for on an evaluation's set, shown as it is labelled.

    Openings are of iBUG's points alone, and so is all that is asked for.
    """
    found = {name: item for name, item in evaluation.results.items() if len(item.places)}
    models = [system for system in systems if isinstance(system, ModelSystem)]
    labels, seed, markup = evaluation.labels, asked.seed, evaluation.markup
    faces = found if markup == IBUG68 else {}
    return Measures(
        openings={n: opening_errors(item.predictions, item.truth) for n, item in faces.items()},
        floors_percent={
            model.name: truncation_floor_percent(
                model.model.weights.shape_model, found[model.name].truth, markup
            )
            for model in models
            if model.name in found
        },
        framing=measure_framing(systems, labels, seed, progress) if asked.framing else {},
        steadiness=measure_steadiness(systems, labels, seed, progress) if asked.steadiness else {},
        examined=examine_faces(systems, labels, progress) if asked.soundness else {},
    )


def trust_of(examined: Examined) -> Trust | None:
    """How the quality agrees with the errors; None without a quality or with too few faces."""
    if examined.quality is None or examined.nme_percent is None:
        return None
    finite = np.isfinite(examined.nme_percent)
    expected, true = examined.quality[finite], examined.nme_percent[finite]
    try:
        groups = quality.reliability(expected, true)
    except ValueError:
        return None
    return Trust(quality.rank_correlation(expected, true), groups)


def measure_backgrounds(
    systems: Sequence[System],
    labels: Sequence[Path],
    families: Sequence[Family],
    count_per_family: int,
    seed: int = 0,
) -> Backgrounds:
    """Show crops without a face to each system: so many of each family.

    Those of the family ``photo`` are cut from the labelled photos, so many of each labels file.
    ValueError and ImportError as `background_crops`.
    """
    seed += _BACKGROUND_SEED
    drawn: tuple[Family, ...] = tuple(family for family in families if family != "photo")
    parts = []
    names: list[str] = []
    if drawn:
        count = count_per_family * len(drawn)
        parts.append(background_crops(None, count, _BACKGROUND_SIDE_PX, seed, drawn))
        names += families_of(count, drawn)
    if "photo" in families:
        for path in labels:
            parts.append(
                background_crops(path, count_per_family, _BACKGROUND_SIDE_PX, seed, ("photo",))
            )
            names += families_of(count_per_family, ("photo",))
    crops = np.concatenate(parts)
    return Backgrounds(names, examine_crops(systems, crops))
