"""python -m reference.evaluate_detectors: photos to landmarks with real detectors, end to end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np

import npshapenet
from npshapenet.detectors import DetectorName, installed
from npshapenet.drawing import draw_landmarks
from npshapenet.faces import Face, faces_in
from npshapenet.image import Box
from reference import metrics
from reference.data.labels import LabelError
from reference.detection import DetectedFace, detect_faces, framing_of, unframed
from reference.evaluate import set_names
from reference.views import Floats

_DESCRIPTION: Final = """\
Measure npshapenet.find_faces with the detectors that are installed: the share of the labelled
faces that are found, and the error of those, with the detector's boxes as they come, as the
package frames them, and with a second look; beside them the same model on the same faces with the
labels' boxes. Prints a Markdown table for each set.
"""
_EPILOG: Final = """\
found is the share of the labelled faces that a box of the detector overlaps; others is how many
more boxes it gave, per 100 photos: faces without a label, and what is no face. NME is the mean
distance of the 68 landmarks over the distance of the outer eye corners, in %; FR@8 the share of
the faces found whose NME is over 8 %.

example: python -m reference.evaluate_detectors fast --labels 300w/common/labels.xml
"""


@dataclass(frozen=True, eq=False)
class Row:
    """One way to find the faces of a set: its name, and the landmarks (M, 68, 2) and the truth."""

    boxes: str
    looks: int
    predictions: Floats
    truth: Floats


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser, options = _parse(arguments)
    try:
        model = npshapenet.load(options.model)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if not options.detectors:
        parser.error("no detector is installed: pip install dlib-bin 'opencv-python-headless<5'")
    for labels, name in zip(options.labels, set_names(options.labels), strict=True):
        try:
            table = _table(options, model, labels, name)
        except (LabelError, ImportError) as error:
            print(f"reference.evaluate_detectors: {error}", file=sys.stderr)
            return 1
        print("\n".join(table), end="\n\n", flush=True)
    return 0


def _table(
    options: argparse.Namespace, model: npshapenet.Model, labels: Path, name: str
) -> list[str]:
    lines: list[str] = []
    for detector in options.detectors:
        faces = detect_faces(labels, unframed(detector))
        found = [face for face in faces if face.box is not None]
        if not lines:
            lines += [
                f"{name}, {len(faces)} faces, {options.model}",
                "",
                "| detector | found % | others per 100 | boxes | looks | NME % | FR@8 % |",
                "| --- | --- | --- | --- | --- | --- | --- |",
            ]
        share = 100 * len(found) / len(faces)
        others = 100 * sum(face.others for face in faces) / len(faces)
        for row in rows(found, detector, model):
            figures = metrics.summarise(row.predictions, row.truth)
            lines.append(
                f"| {detector} | {share:.1f} | {others:.1f} | {row.boxes} | {row.looks} | "
                f"{figures.nme_mean:.2f} | {figures.failure_rate_8:.1f} |"
            )
        if options.out:
            draw_worst(options.out / f"{detector}-{name.replace('/', '-')}", found, detector, model)
    return lines


def rows(
    found: Sequence[DetectedFace], detector: DetectorName, model: npshapenet.Model
) -> list[Row]:
    """The faces that a detector found, looked at in every way."""
    framing = framing_of(detector)
    as_they_come = [face.box for face in found if face.box is not None]
    ways: list[tuple[str, int, list[Box]]] = [
        ("the label's", 1, [face.label_box for face in found]),
        ("the label's", 2, [face.label_box for face in found]),
        ("as they come", 1, as_they_come),
        ("framed", 1, [framing(box) for box in as_they_come]),
        ("framed", 2, [framing(box) for box in as_they_come]),
    ]
    truth = np.array([face.landmarks for face in found])
    return [
        Row(
            boxes=name,
            looks=looks,
            predictions=np.array(
                [
                    _look(face, box, model, looks).landmarks
                    for face, box in zip(found, boxes, strict=True)
                ],
                np.float64,
            ),
            truth=truth,
        )
        for name, looks, boxes in ways
    ]


def _look(face: DetectedFace, box: Box, model: npshapenet.Model, looks: int) -> Face:
    (seen,) = faces_in(face.photo, [box], model=model, looks=looks)
    return seen


def draw_worst(
    folder: Path,
    found: Sequence[DetectedFace],
    detector: DetectorName,
    model: npshapenet.Model,
    count: int = 12,
) -> None:
    """Draw the faces with the largest errors after a second look, each as a PNG of its photo."""
    framing = framing_of(detector)
    seen = [
        _look(face, framing(face.box), model, looks=2) for face in found if face.box is not None
    ]
    errors = metrics.interocular_nme_percent(
        np.array([face.landmarks for face in seen], np.float64),
        np.array([face.landmarks for face in found]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for rank, place in enumerate(np.argsort(-errors)[:count]):
        picture = draw_landmarks(found[place].photo, seen[place].landmarks)
        picture.save(folder / f"{rank:02d}-{errors[place]:.1f}-percent.png")


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m reference.evaluate_detectors",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a weights file or a bundled model's name")
    parser.add_argument("--labels", nargs="+", type=Path, required=True)
    parser.add_argument(
        "--detectors",
        nargs="+",
        choices=get_args(DetectorName),
        default=installed(),
        help="default: those that are installed",
    )
    parser.add_argument("--out", type=Path, help="folder for pictures of the worst faces")
    return parser, parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
