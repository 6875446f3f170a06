"""python -m reference.evaluate: the error of checkpoints, weights files and dlib's predictors."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, get_args

from npshapenet.model import BACKENDS, BackendName
from reference import metrics, plots, sheets
from reference.atomic import write_atomically
from reference.data.labels import LabelError
from reference.evaluation import Evaluation, Failure, Result, evaluate
from reference.metrics import Figures
from reference.systems import ACCEPTED, OpenSystem, UnusableSystem, open_system

NORMALISER = "distance of the outer eye corners (36, 45)"

_DESCRIPTION = """\
Measure how far predicted landmarks are from labelled ones, for several systems on several sets.
Prints a table for each set; with --out also writes metrics.json, the cumulative error curves,
the errors by region and sheets of faces with truth and prediction.
"""
_EPILOG = f"""\
systems
  {ACCEPTED}
labels
  dlib's XML, or a folder of iBUG's .pts files with an image beside each
figures
  NME is the mean distance of the 68 landmarks over the {NORMALISER},
  in %, here its mean and median over the faces; AUC@8 is the area under the cumulative error
  curve from 0 to 8 %, between 0 and 1; FR@8 and FR@10 are the share of faces over 8 and 10 %.
exit status
  0 done, 1 a set or a system gave no figure at all, 2 a wrong command line or unusable system

example: python -m reference.evaluate fast run/best.pt --labels common/labels.xml --out /tmp/eval
"""
_NAMED_FAILURES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser, options = _parse(arguments)
    try:
        systems = _open_systems(options.systems, options.backend)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
    except (UnusableSystem, OSError) as error:
        parser.error(str(error))
    evaluations = []
    try:
        for labels, name in zip(options.labels, set_names(options.labels), strict=True):
            try:
                evaluations.append(evaluate(systems, labels, name, progress=True))
            except LabelError as error:
                print(f"reference.evaluate: {error}", file=sys.stderr)
                continue
            print(table(evaluations[-1]), flush=True)
            _name_failures(evaluations[-1])
        if options.out:
            write_report(options.out, evaluations, options.sheets, options.faces)
    except OSError as error:
        print(f"reference.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reference.evaluate: interrupted", file=sys.stderr)
        return 130
    whole = all(result.figures() for each in evaluations for result in each.results.values())
    return 0 if whole and len(evaluations) == len(options.labels) else 1


def set_names(labels: Sequence[Path]) -> list[str]:
    """Names for sets: the last two parts of their paths, without a final labels.xml.

    Where two would be the same, all are the paths as they were given.
    """
    resolved = [path.resolve() for path in labels]
    folders = [path.parent if path.name == "labels.xml" else path for path in resolved]
    names = ["/".join(folder.with_suffix("").parts[-2:]) for folder in folders]
    return names if len(set(names)) == len(names) else [str(path) for path in labels]


def table(evaluation: Evaluation) -> str:
    """The figures of all systems on one set, as lines of text."""
    heads = ["NME mean", "median", "AUC@8", "FR@8 %", "FR@10 %", *metrics.REGIONS]
    width = max(len(name) for name in ("system", *evaluation.results))
    lines = [
        f"{evaluation.name}: {_counted(evaluation)}; NME in % of the {NORMALISER}",
        f"{'system':{width}}  faces  " + "  ".join(f"{head:>7}" for head in heads),
    ]
    for name, result in evaluation.results.items():
        figures = result.figures()
        cells = _cells(figures) if figures else ["–"] * len(heads)
        padded = (f"{cell:>{max(7, len(head))}}" for head, cell in zip(heads, cells, strict=True))
        lines.append(f"{name:{width}}  {len(result.places):5}  " + "  ".join(padded))
    return "\n".join(lines) + "\n"


def to_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """All figures, and what was left out of them, as plain JSON values."""
    return {
        "normaliser": NORMALISER,
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


def write_report(
    folder: Path, evaluations: Sequence[Evaluation], choices: Sequence[sheets.Choice], faces: int
) -> None:
    """Write metrics.json, and for each set the plots and each system's sheets of faces."""
    text = json.dumps(to_json(evaluations), indent=1, ensure_ascii=False) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(folder / "metrics.json", write)
    for evaluation in evaluations:
        found = {name: item for name, item in evaluation.results.items() if len(item.places)}
        if not found:
            continue
        title, slug = f"{evaluation.name}: {_counted(evaluation)}", _slug(evaluation.name)
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
    title = f"{evaluation.name}, {system}: the {len(tiles)} {choice} of {len(errors)} faces"
    sheets.write_sheet(path, title, tiles)


def _counted(evaluation: Evaluation) -> str:
    skipped = len(evaluation.skipped)
    text = f"{len(evaluation.faces)} face{'s' * (len(evaluation.faces) != 1)}"
    return f"{text}, {skipped} label{'s' * (skipped != 1)} left out" if skipped else text


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
    figures = result.figures()
    return {
        "figures": figures.to_json() if figures else None,
        "failed": _failures_to_json(result.failures),
    }


def _failures_to_json(failures: Sequence[Failure]) -> list[dict[str, str]]:
    return [{"face": item.face, "reason": f"{item.kind}: {item.detail}"} for item in failures]


def _name_failures(evaluation: Evaluation) -> None:
    """Say on stderr what was left out, by reason, and which faces; not more than a screenful."""
    _list_failures("labels that can't be evaluated", evaluation.skipped)
    for name, result in evaluation.results.items():
        _list_failures(f"faces without a result from {name}", result.failures)


def _list_failures(what: str, failures: Sequence[Failure]) -> None:
    if not failures:
        return
    counts = Counter(failure.kind for failure in failures).most_common()
    reasons = ", ".join(f"{kind} {count}" for kind, count in counts)
    print(f"{len(failures)} {what}: {reasons}", file=sys.stderr)
    for failure in failures[:_NAMED_FAILURES]:
        print(f"  {failure.face}: {failure.kind}: {failure.detail}", file=sys.stderr)
    if len(failures) > _NAMED_FAILURES:
        rest = len(failures) - _NAMED_FAILURES
        print(f"  … and {rest} more; metrics.json of --out names all", file=sys.stderr)


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")


def _open_systems(texts: Sequence[str], backend: BackendName | None) -> list[OpenSystem]:
    """Load the systems; where two have the same short name, both get the one that was given."""
    systems = [open_system(text, backend) for text in texts]
    counts = Counter(system.name for system in systems)
    named = [
        dataclasses.replace(system, name=text) if counts[system.name] > 1 else system
        for system, text in zip(systems, texts, strict=True)
    ]
    if twice := [name for name, count in Counter(s.name for s in named).items() if count > 1]:
        raise UnusableSystem(f"{twice[0]}: is named twice")
    return named


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m reference.evaluate",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("systems", nargs="+", metavar="SYSTEM", help="what to measure")
    parser.add_argument(
        "--labels", nargs="+", type=Path, required=True, help="what to measure it on"
    )
    parser.add_argument("--backend", choices=BACKENDS, help="of weights files that name none")
    parser.add_argument("--out", type=Path, help="folder for figures and pictures, made if missing")
    parser.add_argument(
        "--sheets",
        nargs="+",
        choices=get_args(sheets.Choice),
        default=["worst"],
        help="which faces to draw (worst)",
    )
    parser.add_argument("--faces", type=int, default=24, help="how many on a sheet (24)")
    options = parser.parse_args(arguments)
    if options.faces < 1:
        parser.error(f"--faces {options.faces}: accepted: 1 and above")
    return parser, options


if __name__ == "__main__":
    sys.exit(main())
