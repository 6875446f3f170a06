"""python -m reference.evaluate_measures: the error of what is measured on faces."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import npshapenet
from npshapenet.alignment import TEMPLATE, alignment, five_points
from npshapenet.faces import Face, faces_in
from npshapenet.head_pose import head_pose
from npshapenet.image import Box
from npshapenet.openings import eye_openings, mouth_opening
from reference.data.labels import LabelError
from reference.evaluate import set_names
from reference.views import Floats, usable_views

_DESCRIPTION: Final = """\
Compare what npshapenet measures on the points that a model finds with the same on the labels'
points, boxes from the labels, and on the photo turned in its plane and mirrored with what should
come of it. Prints two Markdown tables for each set: the median and the 90th percentile of the
absolute difference; and how far the model finds eyes open that are closed in the labels, or open.
"""
_EPILOG: Final = """\
There is no true pose in the sets: the differences say how far the points carry it, not how far
the mean head is from each person's.

example: python -m reference.evaluate_measures fast --labels 300w/common/labels.xml
"""
_TURN_DEG: Final = 20.0
#: Borders between eyes by the opening that the labels have.
_OPENINGS: Final = (0.0, 0.1, 0.2, 0.3, np.inf)


@dataclass(frozen=True, eq=False)
class Seen:
    """A labelled face (68, 2), what the model says of it, and of its photo turned and mirrored."""

    truth: Floats
    face: Face
    turned: Face
    mirrored: Face


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser = argparse.ArgumentParser(
        prog="python -m reference.evaluate_measures",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a weights file or a bundled model's name")
    parser.add_argument("--labels", nargs="+", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        model = npshapenet.load(options.model)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for labels, name in zip(options.labels, set_names(options.labels), strict=True):
        try:
            seen = look(labels, model)
        except LabelError as error:
            print(f"reference.evaluate_measures: {error}", file=sys.stderr)
            return 1
        print("\n".join(_table(seen, f"{name}, {len(seen)} faces, {options.model}")), end="\n\n")
        print("\n".join(_openings_table(seen)), end="\n\n")
    return 0


def look(labels: Path, model: npshapenet.Model) -> list[Seen]:
    """The model's view of each labelled face that can be used; LabelError if none can."""
    seen = []
    for view in usable_views(labels, str(labels), progress=True):
        box = Box(*view.box)
        centre = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        # Pillow turns against the clock.
        turned = view.photo.rotate(-_TURN_DEG, Image.Resampling.BICUBIC, center=centre)
        mirrored = view.photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        width = view.photo.width
        mirrored_box = Box(width - box.right, box.top, width - box.left, box.bottom)
        faces = [
            faces_in(photo, [place], model=model)[0]
            for photo, place in ((view.photo, box), (turned, box), (mirrored, mirrored_box))
        ]
        seen.append(Seen(view.landmarks, *faces))
    if not seen:
        raise LabelError(labels, "", "no face", "no label that can be used")
    return seen


def differences(seen: Sequence[Seen]) -> dict[str, tuple[Floats, str]]:
    """The absolute difference of each measure on each face (N,), and its unit."""

    def each(difference: Callable[[Seen], float]) -> Floats:
        return np.abs(np.array([difference(one) for one in seen], np.float64))

    def opening(points: Floats | NDArray[np.float32]) -> float:
        return float(np.mean(eye_openings(points)))

    return {
        "eye opening": (each(lambda s: opening(s.face.landmarks) - opening(s.truth)), ""),
        "mouth opening": (
            each(lambda s: s.face.mouth_opening() - mouth_opening(s.truth)),
            "",
        ),
        "tilt by the transform": (
            each(lambda s: np.degrees(s.face.tilt_rad) - head_pose(s.truth).roll_deg),
            "°",
        ),
        "roll": (each(lambda s: s.face.head_pose().roll_deg - head_pose(s.truth).roll_deg), "°"),
        "yaw": (each(lambda s: s.face.head_pose().yaw_deg - head_pose(s.truth).yaw_deg), "°"),
        "pitch": (
            each(lambda s: s.face.head_pose().pitch_deg - head_pose(s.truth).pitch_deg),
            "°",
        ),
        "yaw, photo turned by 20°": (
            each(lambda s: s.turned.head_pose().yaw_deg - s.face.head_pose().yaw_deg),
            "°",
        ),
        "pitch, photo turned by 20°": (
            each(lambda s: s.turned.head_pose().pitch_deg - s.face.head_pose().pitch_deg),
            "°",
        ),
        "tilt, photo turned by 20°": (
            each(lambda s: np.degrees(s.turned.tilt_rad - s.face.tilt_rad) - _TURN_DEG),
            "°",
        ),
        "yaw, photo mirrored": (
            each(lambda s: s.mirrored.head_pose().yaw_deg + s.face.head_pose().yaw_deg),
            "°",
        ),
        "pitch, photo mirrored": (
            each(lambda s: s.mirrored.head_pose().pitch_deg - s.face.head_pose().pitch_deg),
            "°",
        ),
        "the five points in the aligned crop of 112×112": (
            each(_shift_in_aligned_crop),
            " px",
        ),
    }


def _shift_in_aligned_crop(seen: Seen) -> float:
    """How far the true points are, on average, from where the crop by the true ones has them."""
    by_truth, by_model = (
        _into_crop(alignment(points), five_points(seen.truth))
        for points in (seen.truth, seen.face.landmarks)
    )
    return float(np.linalg.norm(by_model - by_truth, axis=1).mean())


def _into_crop(to_photo: Floats, points: Floats) -> Floats:
    in_crop: Floats = (points - to_photo[:, 2]) @ np.linalg.inv(to_photo[:, :2]).T
    assert in_crop.shape == np.shape(TEMPLATE)
    return in_crop


def _table(seen: Sequence[Seen], title: str) -> list[str]:
    lines = [title, "", "| measure | median | 90 % under |", "| --- | --- | --- |"]
    for name, (values, unit) in differences(seen).items():
        median, high = np.percentile(values, [50, 90])
        digits = 1 if unit else 3
        lines.append(f"| {name} | {median:.{digits}f}{unit} | {high:.{digits}f}{unit} |")
    return lines


def _openings_table(seen: Sequence[Seen]) -> list[str]:
    """The openings found, of eyes that the labels say are so far open."""
    true = np.array([eye_openings(one.truth) for one in seen]).ravel()
    found = np.array([one.face.eye_openings() for one in seen]).ravel()
    lines = [
        "| eyes open by, in the labels | eyes | found: 10 % under | median | 90 % under |",
        "| --- | --- | --- | --- | --- |",
    ]
    for low, high in pairwise(_OPENINGS):
        those = found[(true >= low) & (true < high)]
        interval = f"{low:g}–{high:g}" if np.isfinite(high) else f"{low:g} and more"
        cells = (
            [f"{value:.2f}" for value in np.percentile(those, [10, 50, 90])] if len(those) else []
        )
        lines.append(f"| {interval} | {len(those)} | {' | '.join(cells or ['', '', ''])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
