"""python -m reference.pareto: error against cost of networks that were tried, as a plot."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reference.plots import draw_pareto

_DESCRIPTION = """\
Draw networks that were tried by what they cost and how far they are off: a point each, a line
through those that nothing cheaper betters.
"""
_EPILOG = """\
trials
  a CSV file with a head: name, the columns of cost and error, and note, which may be empty; a note
  stands behind the name. A trial without a figure in either column is left out.

  name,multiply_adds_millions,nme_300w_common,note
  fast,7.8,3.92,bundled

example: python -m reference.pareto trials.csv --out docs/pareto.png
"""
_LABELS = {
    "multiply_adds_millions": "million multiply-adds a face",
    "milliseconds": "milliseconds a face, compiled engine, one core",
    "nme_300w_common": "NME on 300-W common, % of the distance of the outer eye corners",
}


class TrialsError(ValueError):
    """A file of trials that isn't as it must be; the message names it."""


@dataclass(frozen=True)
class Trial:
    """One network: what it costs and how far it is off, both above 0."""

    name: str
    cost: float
    error: float
    note: str = ""


def read_trials(path: Path, cost: str, error: str) -> list[Trial]:
    """The trials of a CSV file that have a figure in both columns; TrialsError for any other."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            heads = [head.strip() for head in reader.fieldnames or []]
            reader.fieldnames = heads
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise TrialsError(f"{path}: {problem}") from None
    if missing := [name for name in ("name", cost, error) if name not in heads]:
        raise TrialsError(
            f"{path}: no column {missing[0]}; there are: {', '.join(heads) or 'none'}"
        )
    trials = []
    for line, row in enumerate(rows, 2):
        cells = {key: (row.get(key) or "").strip() for key in ("name", cost, error, "note")}
        if cells[cost] and cells[error]:
            of_cost, of_error = (_positive(path, line, name, cells[name]) for name in (cost, error))
            trials.append(Trial(cells["name"], of_cost, of_error, cells["note"]))
    if not trials:
        raise TrialsError(f"{path}: no trial has both {cost} and {error}")
    return trials


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Those that no other betters in one figure without being worse in the other; cheapest first.

    Of equal ones the first is kept.
    """
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.cost, trial.error)):
        if not kept or trial.error < kept[-1].error:
            kept.append(trial)
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 done, 1 a file that can't be read or written."""
    options = _parser().parse_args(arguments)
    try:
        trials = read_trials(options.trials, options.cost, options.error)
        draw_pareto(
            options.out,
            [(_label(trial), trial.cost, trial.error) for trial in trials],
            [(trial.cost, trial.error) for trial in front(trials)],
            _LABELS.get(options.cost, options.cost),
            _LABELS.get(options.error, options.error),
        )
    except (TrialsError, OSError) as error:
        print(f"reference.pareto: {error}", file=sys.stderr)
        return 1
    return 0


def _label(trial: Trial) -> str:
    return f"{trial.name} ({trial.note})" if trial.note else trial.name


def _positive(path: Path, line: int, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise TrialsError(f"{path}: line {line}: {name} is {text!r}; accepted: a number above 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.pareto",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trials", type=Path, help="a CSV file")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--cost", default="multiply_adds_millions", help="column of the cost")
    parser.add_argument("--error", default="nme_300w_common", help="column of the error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
