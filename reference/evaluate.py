"""python -m reference.evaluate: the error of checkpoints, weights files and dlib's predictors."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from npshapenet.model import BackendName
from reference import sheets
from reference.data.backgrounds import FAMILIES, TESTING_FAMILIES, Family
from reference.data.labels import LabelError
from reference.data.markup import IBUG68, Markup, MarkupError, read_markup
from reference.evaluation import Evaluation, Failure, evaluate, unchanged
from reference.framing import MIX_DRAWS
from reference.measures import Asked, Backgrounds, Measures, measure, measure_backgrounds
from reference.perturbation import Perturbation
from reference.plots import Mark
from reference.report import (
    draw,
    draw_measures,
    normaliser,
    qualities_of_faces,
    table,
    title,
    to_json,
    write_figures,
)
from reference.soundness import REACH_SIDES
from reference.systems import BACKENDS, OpenSystem, System, UnusableSystem, open_system
from reference.tables import backgrounds_text, measures_text

_DESCRIPTION = """\
Measure how far predicted landmarks are from labelled ones, for several systems on several sets.
Prints tables for each set; with --out also writes metrics.json, the cumulative error curves, the
errors by region and sheets of faces with truth and prediction. More is measured where it is asked
for: --framing, --steadiness, --soundness.
"""
_EPILOG = f"""\
systems
  a checkpoint of reference.train (.pt); a weights file (.npz) or the name of a bundled model,
  both with :numpy or :numba behind it to choose the backend; a predictor file of dlib (.dat)
labels
  dlib's XML, or a folder of iBUG's .pts files with an image beside each
figures
  NME is the mean distance of the 68 landmarks over the {normaliser(IBUG68)},
  in %, here its mean and median over the faces; AUC@8 is the area under the cumulative error
  curve from 0 to 8 %, between 0 and 1; FR@8 and FR@10 are the share of faces over 8 and 10 %.
  Openings are the distances of the lids and of the inner lips over the same distance, in %; the
  floor is the NME that a shape model of so many components leaves with the best parameters.
  --framing: the error against a shift (-20 to 20 %), a scale (0.7 to 1.3) and a turn (-45 to 45
  degrees) alone, and by how much of itself it rises where all are drawn at random: shift up to
  10 %, scale 0.85 to 1.15, turn up to 30 degrees, {MIX_DRAWS} draws a face. Inside are the crops
  that need no pixel from outside the photo; in the plot the same faces at every step.
  --steadiness: how far the landmarks move, in % of the eyes' distance, where the face is shifted
  by one pixel to each of four sides (the shift taken back), or has noise of 2/255 added. Once it
  is a pixel of the photo, by which the box moves and with it the crop; once one of the network's
  input, for which the photo is resampled.
  --soundness: on all faces, and on crops without one, whether each shape is finite and keeps
  within {REACH_SIDES:g} sides of the crop's centre; how many parameters the shape model's limits
  moved. Where the weights give a quality (the NME that they expect): its rank correlation with
  the true NME, the true NME by tenths of the expected, and the area under the ROC curve by which
  it tells faces from crops without one ("never seen in training": {", ".join(TESTING_FAMILIES)}).
other points
  Networks that were trained on faces prepared with a markup of their own are measured by it; for
  others of another number of points --markup names its file. There are no regions, openings,
  --framing, --steadiness and --soundness then.
exit status
  0 done, 1 a set or a system gave no figure at all, 2 a wrong command line or unusable system

examples
  python -m reference.evaluate fast run/best.pt --labels common/labels.xml --out figures
  python -m reference.evaluate fast --labels 300w/common/labels.xml aflw/val/labels.xml \\
      --framing --steadiness --soundness --mark "300w/common:PFLD, 153 M:3.67:0.2" --out figures
"""
_NAMED_FAILURES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser, options = _parse(arguments)
    try:
        systems = open_systems(options.systems, options.backend, options.markup)
        _check_asked(parser, options, systems[0].markup)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
    except (UnusableSystem, MarkupError, OSError) as error:
        parser.error(str(error))
    try:
        evaluations = _evaluate_all(systems, options)
        measures = _measure_all(systems, evaluations, options)
        backgrounds = _measure_backgrounds(systems, measures, options)
        if options.out:
            values = to_json(evaluations, measures, options.perturbation, backgrounds)
            write_figures(options.out, values)
            draw(options.out, evaluations, options.sheets, options.faces, options.mark)
            draw_measures(options.out, evaluations, measures)
    except (OSError, ImportError, LabelError) as error:
        print(f"reference.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reference.evaluate: interrupted", file=sys.stderr)
        return 130
    has_all = all(result.figures() for each in evaluations for result in each.results.values())
    return 0 if has_all and len(evaluations) == len(options.labels) else 1


def _evaluate_all(systems: Sequence[OpenSystem], options: argparse.Namespace) -> list[Evaluation]:
    """Evaluate set by set, telling of each as soon as it is done; a set that is none is named."""
    evaluations = []
    for labels, name in zip(options.labels, set_names(options.labels), strict=True):
        try:
            evaluation = evaluate(
                systems, labels, name, options.change, progress=True, markup=systems[0].markup
            )
        except LabelError as error:
            print(f"reference.evaluate: {error}", file=sys.stderr)
            continue
        evaluations.append(evaluation)
        print(table(evaluation), flush=True)
        if options.perturbation:
            print(table(evaluation, only_inside=True), flush=True)
        _name_failures(evaluation)
    return evaluations


def _measure_all(
    systems: Sequence[System], evaluations: Sequence[Evaluation], options: argparse.Namespace
) -> dict[str, Measures]:
    """What is measured beside the errors, by set; each set's tables are printed once measured."""
    measures = {}
    for evaluation in evaluations:
        measured = measure(systems, evaluation, options.asked, progress=True)
        measures[evaluation.name] = measured
        print(measures_text(title(evaluation), measured), flush=True)
    return measures


def _measure_backgrounds(
    systems: Sequence[System], measures: Mapping[str, Measures], options: argparse.Namespace
) -> Backgrounds | None:
    if not options.soundness:
        return None
    families: Sequence[Family] = options.families
    labels = [path for path in options.labels if path.exists()]
    backgrounds = measure_backgrounds(systems, labels, families, options.per_family, options.seed)
    print(backgrounds_text(backgrounds, qualities_of_faces(measures)), flush=True)
    return backgrounds


def set_names(labels: Sequence[Path]) -> list[str]:
    """Names for sets: the last two parts of their paths, without a final labels.xml.

    Where two would be the same, all are the paths as they were given.
    """
    resolved = [path.resolve() for path in labels]
    places = [path.parent if path.name == "labels.xml" else path for path in resolved]
    names = ["/".join(place.parts[-2:]).removesuffix(".xml") for place in places]
    return names if len(set(names)) == len(names) else [str(path) for path in labels]


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


def open_systems(
    texts: Sequence[str], backend: BackendName | None, markup_file: Path | None = None
) -> list[OpenSystem]:
    """Load the systems; where two have the same short name, both get the one that was given.

    UnusableSystem for one that can't be evaluated, or not together with the first; MarkupError for
    a file that is no markup.
    """
    markup = None if markup_file is None else read_markup(markup_file)
    systems = [open_system(text, backend, markup) for text in texts]
    for text, system in zip(texts, systems, strict=True):
        if system.markup != systems[0].markup:
            raise UnusableSystem(
                f"{text}: finds the points of {system.markup.name}, {texts[0]} those of "
                f"{systems[0].markup.name}: they can't be measured on the same labels"
            )
    counts = Counter(system.name for system in systems)
    named = [
        dataclasses.replace(system, name=text) if counts[system.name] > 1 else system
        for system, text in zip(systems, texts, strict=True)
    ]
    if twice := [name for name, count in Counter(s.name for s in named).items() if count > 1]:
        raise UnusableSystem(f"{twice[0]}: is named twice")
    return named


def _check_asked(
    parser: argparse.ArgumentParser, options: argparse.Namespace, markup: Markup
) -> None:
    """Exit with the usage where something is asked for that only iBUG's points have."""
    if markup != IBUG68 and (options.framing or options.steadiness or options.soundness):
        parser.error(
            f"--framing, --steadiness and --soundness are for the points of {IBUG68.name}, "
            f"not for those of {markup.name}"
        )


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
    parser.add_argument(
        "--markup",
        type=Path,
        metavar="TOML",
        help="what the points of the labels are, where the systems don't say",
    )
    parser.add_argument("--out", type=Path, help="folder for figures and pictures, made if missing")
    parser.add_argument(
        "--sheets",
        nargs="+",
        choices=get_args(sheets.Choice),
        default=["worst"],
        help="which faces to draw (worst)",
    )
    parser.add_argument("--faces", type=int, default=24, help="how many on a sheet (24)")
    parser.add_argument(
        "--mark",
        nargs="+",
        type=_mark,
        default=[],
        metavar="SET:NAME:NME[:FR8]",
        help="a published mean NME, and share over 8 %%, in %%, to mark in the curves of a set",
    )
    more = parser.add_argument_group("more", "measured on the faces as they are labelled")
    more.add_argument("--framing", action="store_true", help="error by shift, scale and turn")
    more.add_argument("--steadiness", action="store_true", help="movement by a pixel, by noise")
    more.add_argument(
        "--soundness", action="store_true", help="bounds of the shapes, with and without a face"
    )
    more.add_argument(
        "--families",
        nargs="+",
        choices=FAMILIES,
        default=FAMILIES,
        help="of crops without a face (all; pictures needs scikit-image)",
    )
    more.add_argument(
        "--per-family", type=int, default=200, help="how many of each, of photo by set (200)"
    )
    perturbed = parser.add_argument_group(
        "harder",
        "each face changed at random, evenly between ± these; those whose crop stays inside the\n"
        "photo get figures of their own",
    )
    perturbed.add_argument(
        "--shift", type=float, default=0.0, help="of the box, share of its sides"
    )
    perturbed.add_argument("--scale", type=float, default=0.0, help="of the box, share of its size")
    perturbed.add_argument("--turn", type=float, default=0.0, help="of the face, degrees")
    perturbed.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    options = parser.parse_args(arguments)
    try:
        bounds = options.shift, options.scale, options.turn
        options.perturbation = Perturbation(*bounds, options.seed) if any(bounds) else None
    except ValueError as error:
        parser.error(f"--{error}")
    options.change = options.perturbation or unchanged
    options.asked = Asked(options.framing, options.steadiness, options.soundness, options.seed)
    if options.perturbation and (options.framing or options.steadiness or options.soundness):
        parser.error("--framing, --steadiness and --soundness go without --shift, --scale, --turn")
    if options.per_family < 1:
        parser.error(f"--per-family {options.per_family}: accepted: 1 and above")
    if stray := {mark.set_name for mark in options.mark} - set(set_names(options.labels)):
        names = ", ".join(set_names(options.labels))
        parser.error(f"--mark: no set is named {min(stray)}; there are: {names}")
    if options.faces < 1:
        parser.error(f"--faces {options.faces}: accepted: 1 and above")
    return parser, options


def _mark(text: str) -> Mark:
    parts = text.split(":")
    try:
        if not 3 <= len(parts) <= 4:
            raise ValueError
        numbers = [float(part) for part in parts[2:]]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: accepted: SET:NAME:NME or SET:NAME:NME:FR8, such as common:PFLD:3.67:0.2"
        ) from None
    return Mark(parts[0], parts[1], *numbers)


if __name__ == "__main__":
    sys.exit(main())
