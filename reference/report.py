"""What is told of evaluations: tables, metrics.json, plots and sheets of faces."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from reference import metrics, plots, sheets
from reference.atomic import write_atomically
from reference.evaluation import Evaluation, Failure, Result
from reference.metrics import Figures
from reference.perturbation import Perturbation

NORMALISER: Final = "distance of the outer eye corners (36, 45)"


def table(evaluation: Evaluation, only_inside: bool = False) -> str:
    """The figures of all systems on one set, or on its faces inside, as lines of text."""
    heads = ["NME mean", "median", "AUC@8", "FR@8 %", "FR@10 %", *metrics.REGIONS]
    width = max(len(name) for name in ("system", *evaluation.results))
    which = "those whose crop needs no pixel from outside; " if only_inside else ""
    lines = [
        f"{_title(evaluation)}; {which}NME in % of the {NORMALISER}",
        f"{'system':{width}}  faces  " + "  ".join(f"{head:>7}" for head in heads),
    ]
    for name, result in evaluation.results.items():
        figures = result.figures(only_inside)
        cells = _cells(figures) if figures else ["–"] * len(heads)
        padded = (f"{cell:>{max(7, len(head))}}" for head, cell in zip(heads, cells, strict=True))
        lines.append(f"{name:{width}}  {figures.faces if figures else 0:5}  " + "  ".join(padded))
    return "\n".join(lines) + "\n"


def to_json(
    evaluations: Sequence[Evaluation], perturbation: Perturbation | None = None
) -> dict[str, Any]:
    """All figures, and what was left out of them, as plain JSON values."""
    return {
        "normaliser": NORMALISER,
        "perturbation": dataclasses.asdict(perturbation) if perturbation else None,
        "sets": [
            {
                "set": each.name,
                "faces": len(each.faces),
                "skipped": _failures_to_json(each.skipped),
                "systems": {name: _result_to_json(item) for name, item in each.results.items()},
            }
            for each in evaluations
        ],
    }


def write_figures(folder: Path, values: Mapping[str, Any]) -> None:
    """Write metrics.json: what `to_json` gives."""
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(folder / "metrics.json", write)


def draw(
    folder: Path, evaluations: Sequence[Evaluation], choices: Sequence[sheets.Choice], faces: int
) -> None:
    """Draw each set's plots and, for each system, its sheets of faces of the kinds chosen."""
    for evaluation in evaluations:
        found = {name: item for name, item in evaluation.results.items() if len(item.places)}
        if not found:
            continue
        title, slug = _title(evaluation), _slug(evaluation.name)
        errors = {name: item.nme_percent() for name, item in found.items()}
        plots.draw_cumulative_errors(folder / f"curves-{slug}.png", title, errors)
        by_region = {
            name: metrics.summarise(item.predictions, item.truth).by_region
            for name, item in found.items()
        }
        plots.draw_errors_by_region(folder / f"regions-{slug}.png", title, by_region)
        for name in found:
            for choice in choices:
                path = folder / f"{choice}-{slug}-{_slug(name)}.png"
                _write_sheet(path, evaluation, name, choice, faces)


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
    title = f"{_title(evaluation)}; {system}: the {len(tiles)} {choice}"
    sheets.write_sheet(path, title, tiles)


def _title(evaluation: Evaluation) -> str:
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
        *(f"{figures.by_region[region]:.2f}" for region in metrics.REGIONS),
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
