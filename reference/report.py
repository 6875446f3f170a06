"""What is told of evaluations: tables, metrics.json, plots and sheets of faces."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from reference import metrics, plots, sheets
from reference.atomic import write_atomically
from reference.data.markup import IBUG68, Markup
from reference.evaluation import Evaluation, Failure, Result
from reference.measures import Backgrounds, Measures, trust_of
from reference.metrics import Figures, Floats
from reference.perturbation import Perturbation
from reference.plots import Mark
from reference.quality import Reliability


def normaliser(markup: Markup) -> str:
    """What errors are in percent of."""
    return f"distance of the {metrics.scale_points_text(markup)}"


def table(evaluation: Evaluation, only_inside: bool = False) -> str:
    """The figures of all systems on one set, or on its faces inside, as lines of text."""
    regions = list(metrics.REGIONS) if evaluation.markup == IBUG68 else []
    heads = ["NME mean", "median", "AUC@8", "FR@8 %", "FR@10 %", *regions]
    width = max(len(name) for name in ("system", *evaluation.results))
    which = "those whose crop needs no pixel from outside; " if only_inside else ""
    lines = [
        f"{title(evaluation)}; {which}NME in % of the {normaliser(evaluation.markup)}",
        f"{'system':{width}}  faces  " + "  ".join(f"{head:>7}" for head in heads),
    ]
    for name, result in evaluation.results.items():
        figures = result.figures(only_inside)
        cells = _cells(figures) if figures else ["–"] * len(heads)
        padded = (f"{cell:>{max(7, len(head))}}" for head, cell in zip(heads, cells, strict=True))
        lines.append(f"{name:{width}}  {figures.faces if figures else 0:5}  " + "  ".join(padded))
    return "\n".join(lines) + "\n"


def to_json(
    evaluations: Sequence[Evaluation],
    measures: Mapping[str, Measures] = MappingProxyType({}),
    perturbation: Perturbation | None = None,
    backgrounds: Backgrounds | None = None,
) -> dict[str, Any]:
    """All figures, and what was left out of them, as plain JSON values.

    ``measures`` are those of the evaluations, by the name of the set.
    """
    values = {
        "normaliser": normaliser(evaluations[0].markup if evaluations else IBUG68),
        "perturbation": dataclasses.asdict(perturbation) if perturbation else None,
        "sets": [
            {
                "set": each.name,
                "faces": len(each.faces),
                "skipped": _failures_to_json(each.skipped),
                "systems": {
                    name: _result_to_json(item)
                    | (measures[each.name].to_json(name) if each.name in measures else {})
                    for name, item in each.results.items()
                },
            }
            for each in evaluations
        ],
    }
    if backgrounds:
        faces = qualities_of_faces(measures)
        values["crops_without_a_face"] = {
            name: _background_to_json(backgrounds, name, faces.get(name))
            for name in backgrounds.examined
        }
    return values


def qualities_of_faces(measures: Mapping[str, Measures]) -> dict[str, Floats]:
    """The qualities (N,) of the faces of all sets together, of each system that gives them."""
    found: dict[str, list[Floats]] = {}
    for each in measures.values():
        for name, examined in each.examined.items():
            if examined.quality is not None:
                found.setdefault(name, []).append(examined.quality)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _background_to_json(
    backgrounds: Backgrounds, system: str, faces: Floats | None
) -> dict[str, Any]:
    sound = backgrounds.soundness(system)
    return {
        "soundness": {family: figures.to_json() for family, figures in sound.items()},
        "separation_from_faces_auc": (
            None if faces is None else dict(backgrounds.separation(system, faces))
        ),
    }


def write_figures(folder: Path, values: Mapping[str, Any]) -> None:
    """Write metrics.json: what `to_json` gives."""
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(folder / "metrics.json", write)


def draw(
    folder: Path,
    evaluations: Sequence[Evaluation],
    choices: Sequence[sheets.Choice],
    faces: int,
    marks: Sequence[Mark] = (),
) -> None:
    """Draw each set's plots and, for each system, its sheets of faces of the kinds chosen.

    ``marks`` are drawn into the curves of the set that they belong to.
    """
    for evaluation in evaluations:
        found = {name: item for name, item in evaluation.results.items() if len(item.places)}
        if not found:
            continue
        heading, slug = title(evaluation), _slug(evaluation.name)
        errors = {name: item.nme_percent() for name, item in found.items()}
        of_set = [mark for mark in marks if mark.set_name == evaluation.name]
        is_ibug = evaluation.markup == IBUG68
        label = plots.ERROR_LABEL if is_ibug else f"NME, % of the {normaliser(evaluation.markup)}"
        path = folder / f"curves-{slug}.png"
        plots.draw_cumulative_errors(path, heading, errors, marks=of_set, error_label=label)
        if is_ibug:
            by_region = {
                name: metrics.summarise(item.predictions, item.truth).by_region
                for name, item in found.items()
            }
            plots.draw_errors_by_region(folder / f"regions-{slug}.png", heading, by_region)
        for name in found:
            for choice in choices:
                path = folder / f"{choice}-{slug}-{_slug(name)}.png"
                _write_sheet(path, evaluation, name, choice, faces)


def draw_measures(
    folder: Path, evaluations: Sequence[Evaluation], measures: Mapping[str, Measures]
) -> None:
    """Draw what was measured: the error against the framing by set, the reliability by system."""
    reliabilities: dict[str, dict[str, Reliability]] = {}
    for evaluation in evaluations:
        of_set = measures[evaluation.name]
        if of_set.framing:
            path = folder / f"framing-{_slug(evaluation.name)}.png"
            plots.draw_framing(path, title(evaluation), of_set.framing)
        for name, examined in of_set.examined.items():
            if trust := trust_of(examined):
                reliabilities.setdefault(name, {})[evaluation.name] = trust.reliability
    for name, by_set in reliabilities.items():
        path = folder / f"quality-{_slug(name)}.png"
        plots.draw_reliability(path, f"{name}: expected and true error", by_set)


def _write_sheet(
    path: Path, evaluation: Evaluation, system: str, choice: sheets.Choice, count: int
) -> None:
    result = evaluation.results[system]
    errors = result.nme_percent()
    tiles = [
        sheets.Tile(
            evaluation.view(int(result.places[index])),
            result.predictions[index],
            f"{errors[index]:.2f} %  {evaluation.faces[result.places[index]].name}",
        )
        for index in sheets.choose(errors, choice, count)
    ]
    heading = f"{title(evaluation)}; {system}: the {len(tiles)} {choice}"
    sheets.write_sheet(path, heading, tiles)


def title(evaluation: Evaluation) -> str:
    """The set, how many of its faces there are, and how they are shown."""
    skipped = len(evaluation.skipped)
    text = f"{evaluation.name}: {len(evaluation.faces)} face{'s' * (len(evaluation.faces) != 1)}"
    if skipped:
        text += f", {skipped} label{'s' * (skipped != 1)} left out"
    return f"{text}, {evaluation.change}" if isinstance(evaluation.change, Perturbation) else text


def _cells(figures: Figures) -> list[str]:
    return [
        f"{figures.nme_mean:.2f}",
        f"{figures.nme_median:.2f}",
        f"{figures.auc_8:.4f}",
        f"{figures.failure_rate_8:.2f}",
        f"{figures.failure_rate_10:.2f}",
        *(f"{error:.2f}" for error in figures.by_region.values()),
    ]


def _result_to_json(result: Result) -> dict[str, Any]:
    figures, inside = result.figures(), result.figures(only_inside=True)
    return {
        "figures": figures.to_json() if figures else None,
        "figures_inside": inside.to_json() if inside else None,
        "failed": _failures_to_json(result.failures),
    }


def _failures_to_json(failures: Sequence[Failure]) -> list[dict[str, str]]:
    return [{"face": item.face, "reason": f"{item.kind}: {item.detail}"} for item in failures]


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")
