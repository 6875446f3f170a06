"""The command: what is asked for, what is measured in which order, what is printed."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from benchmarks.batches import measure_batches
from benchmarks.chart import draw_chart
from benchmarks.comparison import compare
from benchmarks.layers import profile
from benchmarks.machine import cpu_name, describe_machine, load_average
from benchmarks.other_faces import measure_other_faces
from benchmarks.parity import ParityError, check_parity
from benchmarks.peak import make_peak
from benchmarks.report import (
    describe_model,
    facts,
    report_batches,
    report_comparison,
    report_other_faces,
    report_profile,
    report_start_ups,
    without_folder,
)
from benchmarks.start_up import CARRIED, StartUpError, copy_with_code, measure_start_ups
from benchmarks.systems import DLIB, NUMBA, Choice, open_systems
from benchmarks.workload import Workload, make_workload
from npshapenet import jit, load
from npshapenet.cli.errors import CommandError
from npshapenet.cli.files import write_file
from npshapenet.jit.build import BuildError
from npshapenet.model import DEFAULT_MODEL, Model

_DESCRIPTION = """\
Time both backends on one face, beside what else is installed and runs the same network, on one
core and one thread; the way from the start of a process to its first landmarks, and its memory.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.chart and asked.layers:
        parser.error("--chart draws the comparison, which --layers leaves out")
    if asked.chart and importlib.util.find_spec("matplotlib") is None:
        parser.error("--chart needs matplotlib, which isn't installed")
    if asked.predictor and not asked.predictor.is_file():
        parser.error(f"--predictor {asked.predictor}: no such file")
    try:
        work = make_workload(asked.model, load(asked.model, backend="numpy"))
    except (ValueError, OSError) as error:
        parser.error(f"--model {asked.model}: {error}")
    try:
        _run(asked, work)
    except (CommandError, ParityError, StartUpError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=_DESCRIPTION)
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        default=DEFAULT_MODEL,
        help="a bundled model or a weights file; default: %(default)s",
    )
    parser.add_argument(
        "--predictor", metavar="FILE.dat", type=Path, help="compare with dlib's predictor, this one"
    )
    parser.add_argument(
        "--torch-compile", action="store_true", help="compare with torch.compile too"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=100, help="rounds of timing; default: %(default)s"
    )
    parser.add_argument(
        "--start-ups",
        type=_not_negative,
        default=5,
        help="processes started for each system; 0 leaves that out; default: %(default)s",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="instead of all that, the compiled network's time layer by layer",
    )
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the report to a file")
    parser.add_argument(
        "--chart", metavar="FILE.png", type=Path, help="draw the milliseconds for a face as bars"
    )
    return parser


def _run(asked: argparse.Namespace, work: Workload) -> None:
    load_before = load_average()
    parts, comparison = [], None
    if asked.layers:
        parts.append(_profile(asked, work))
    else:
        choice = Choice(asked.predictor, asked.torch_compile)
        systems, left_out = open_systems(work, choice)
        differences = check_parity(systems, work)
        _say(f"timing {len(systems)} systems in {asked.rounds} rounds…")
        peak = None if NUMBA in left_out else make_peak()
        comparison = compare(systems, peak, asked.rounds)
        parts.append(report_comparison(comparison, differences, left_out, work, asked.rounds))
        if NUMBA not in left_out:
            if any(system.name == DLIB for system in systems):
                _say("timing another face each time…")
                times = measure_other_faces(work, asked.predictor, max(asked.rounds // 4, 1))
                parts.append(report_other_faces(times))
            _say("timing a batch on one core and on two…")
            batches = report_batches(measure_batches(work, asked.rounds))
            parts.append(batches or facts({"left out, a batch on two cores": "there is one core"}))
        if asked.start_ups:
            names = {system.name for system in systems}
            parts.append(_start_ups(work, names, asked.start_ups))
    machine = describe_machine()
    machine |= {
        "model": describe_model(work),
        "rounds": str(asked.rounds),
        "load average": f"{load_before} before, {load_average()} after",
    }
    with contextlib.suppress(ImportError):
        machine["compiled code"] = without_folder(jit.origin())
    report = "\n\n".join([facts(machine), *parts]) + "\n"
    print(report, end="")
    if asked.markdown:
        write_file(asked.markdown, report.encode())
    if asked.chart and comparison:
        write_file(asked.chart, draw_chart(comparison, describe_model(work), cpu_name()))


def _start_ups(work: Workload, names: Collection[str], repetitions: int) -> str:
    notes, package = {}, None
    with tempfile.TemporaryDirectory() as folder:
        if NUMBA in names:
            _say("compiling the code that a wheel carries…")
            try:
                package = copy_with_code(Path(folder))
            except BuildError as error:
                notes[f"left out, {CARRIED}"] = str(error).splitlines()[0]
        _say(f"starting each system {repetitions} times…")
        report = report_start_ups(measure_start_ups(work, names, repetitions, package))
    return "\n\n".join([report, facts(notes)]) if notes else report


def _profile(asked: argparse.Namespace, work: Workload) -> str:
    try:
        model = Model(work.weights, "numba")
        model.warmup()
    except ImportError as error:
        raise CommandError(f"--layers needs the compiled backend: {error}", 1) from None
    _say(f"timing the layers in {asked.rounds} rounds…")
    return report_profile(profile(work, model.backend, asked.rounds))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
