"""python -m reference.fit_detectors: how detectors frame faces, against how the models do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from npshapenet.detectors import Framing
from npshapenet.faces import box_around, landmark_extent
from npshapenet.image import Box
from reference.data.labels import LabelError, read_labels
from reference.detection import detect_faces, fit_framing, unframed
from reference.views import Floats

LANDMARKS: Final = "landmarks"

_DESCRIPTION: Final = """\
Fit the framing that a file of the package holds, on labelled faces of the training set:
  landmarks      from the extent of the 68 points to the labels' boxes (npshapenet/faces.py)
  dlib, opencv   from a detector's boxes to those around the labels' points, by the framing of
                 landmarks (npshapenet/detectors/)
Prints the medians, which are the framing, and the 10th and 90th percentile of each number.

example: python -m reference.fit_detectors landmarks --labels 300w/train/labels.xml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser = argparse.ArgumentParser(
        prog="python -m reference.fit_detectors",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=(LANDMARKS, "dlib", "opencv"), help="what to fit")
    parser.add_argument("--labels", type=Path, required=True, help="dlib's XML, or .pts files")
    options = parser.parse_args(arguments)
    try:
        if options.what == LANDMARKS:
            boxes, targets = landmark_pairs(options.labels)
        else:
            boxes, targets = detector_pairs(options.labels, options.what)
    except (LabelError, ImportError) as error:
        print(f"reference.fit_detectors: {error}", file=sys.stderr)
        return 1
    if not boxes:
        print("reference.fit_detectors: no face was found", file=sys.stderr)
        return 1
    framing, spread = fit_framing(boxes, targets)
    print(_report(framing, spread, len(boxes)))
    return 0


def landmark_pairs(labels: Path) -> tuple[list[Box], list[Box]]:
    """The extent of each face's points, and the box of its label."""
    faces = [face for face in read_labels(labels) if not isinstance(face, LabelError)]
    return [landmark_extent(face.landmarks) for face in faces], [Box(*face.box) for face in faces]


def detector_pairs(labels: Path, name: str) -> tuple[list[Box], list[Box]]:
    """A detector's box of each face that it finds, and the box around the face's points."""
    detector = unframed("dlib" if name == "dlib" else "opencv")
    found = [(face.box, face) for face in detect_faces(labels, detector)]
    pairs = [(box, box_around(face.landmarks)) for box, face in found if box is not None]
    return [box for box, _ in pairs], [target for _, target in pairs]


def _report(framing: Framing, spread: Floats, count: int) -> str:
    lines = [f"{framing}  # {count} faces"]
    for name, low, high in zip(("scale", "shift_x", "shift_y"), *spread, strict=True):
        lines.append(f"{name:<8} 10–90 %: {low:.3f} to {high:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
