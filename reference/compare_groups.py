"""python -m reference.compare_groups: how far two systems are apart, by groups of people.

Where photos have no labels, a more accurate system stands in for them: what is told is how far
the first is from it, not from the truth.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from reference import sheets
from reference.data.face import Box
from reference.data.photo import PhotoError, read_gray
from reference.evaluate import open_systems
from reference.metrics import interocular_nme_percent
from reference.systems import BACKENDS, System, UnusableSystem
from reference.views import View

Floats = NDArray[np.float64]

_DESCRIPTION = """\
Compare two systems on unlabelled portraits, by age, gender and ancestry, as a Markdown table: the
mean distance of their landmarks in % of the distance of the outer eye corners (the second's), its
95 % interval (from the number of faces and their spread), and the share of faces over 8 %.
"""
_EPILOG = """\
photos
  a folder of portraits in the form of UTKFace's aligned set: named age_gender_race_date.jpg, gender
  0 male, 1 female, race 0 White, 1 Black, 2 Asian, 3 Indian, 4 other, the face filling the picture
boxes
  fixed: one place in every picture, where the aligned faces lie
  fitted: around the landmarks that the second system finds in the fixed box, as the labels of the
  other sets have them: both systems get the same box
what it says
  the second system errs too, and both may err alike; with --sheet look at the faces

example: python -m reference.compare_groups fast accurate --photos utkface --sheet groups.png
"""

#: Where aligned faces have their box, in shares of the picture's sides: the median of the fitted.
_FIXED_BOX: Final = (0.055, 0.055, 0.93, 0.93)
#: Boxes of dlib's detector against the landmarks: the shift of the centre and the side, in shares
#: of the landmarks' extent (medians over 300-W's labels).
_BOX_SHIFT: Final = (-0.002, -0.085)
_BOX_SIDE: Final = 1.035

_NAME: Final = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+(\.\w+)+")
_AGES: Final = ((0, 2), (3, 9), (10, 19), (20, 39), (40, 59), (60, 79), (80, 150))
_GENDERS: Final = ("male", "female")
_RACES: Final = ("White", "Black", "Asian", "Indian", "other")
_FAILED_PERCENT: Final = 8.0


@dataclass(frozen=True)
class Person:
    """What the name of a photo says of who is on it."""

    age: int
    gender: str
    race: str

    @property
    def groups(self) -> tuple[tuple[str, str], ...]:
        """The groups that the person belongs to, each by its kind and name."""
        low, high = next(ages for ages in _AGES if ages[0] <= self.age <= ages[1])
        ages = f"{low} and older" if high == _AGES[-1][1] else f"{low}–{high}"
        return (("age", ages), ("gender", self.gender), ("ancestry", self.race))


def read_name(name: str) -> Person | None:
    """The person of age_gender_race_date.jpg, or None where the name has another form."""
    found = _NAME.fullmatch(name)
    if not found or int(found[1]) > _AGES[-1][1]:
        return None
    return Person(int(found[1]), _GENDERS[int(found[2])], _RACES[int(found[3])])


def fixed_box(photo: Image.Image) -> Box:
    """The box of an aligned portrait: the same share of each."""
    left, top, right, bottom = _FIXED_BOX
    return left * photo.width, top * photo.height, right * photo.width, bottom * photo.height


def fitted_box(landmarks: Floats) -> Box:
    """The box that a detector would give around landmarks (68, 2), by the medians of labels."""
    low, high = landmarks.min(axis=0) + 0.5, landmarks.max(axis=0) + 0.5
    extent = float((high - low).max())
    x, y = (low + high) / 2 + extent * np.array(_BOX_SHIFT)
    half = _BOX_SIDE * extent / 2
    return float(x - half), float(y - half), float(x + half), float(y + half)


@dataclass(frozen=True, eq=False)
class Comparison:
    """One portrait: who is on it, what both systems found, and how far apart, in percent.

    ``view`` has the second system's landmarks in the place of the truth.
    """

    name: str
    person: Person
    view: View
    landmarks: Floats
    distance_percent: float


def compare(
    measured: System, standard: System, photos: Sequence[Path], is_fitted: bool
) -> list[Comparison]:
    """Show each photo to both systems, in the same box.

    Photos that can't be read, have another name or no box that a system takes are left out.
    """
    found = []
    for path in tqdm(photos, unit="face", disable=None, leave=False):
        person = read_name(path.name)
        if person is None:
            continue
        try:
            photo = Image.fromarray(read_gray(path))
            box = fixed_box(photo)
            if is_fitted:
                box = fitted_box(standard(photo, box))
            view = View(photo, box, standard(photo, box), False)
            landmarks = measured(photo, box)
            distance = interocular_nme_percent(landmarks[None], view.landmarks[None])[0]
        except (PhotoError, ValueError):
            continue
        found.append(Comparison(path.name, person, view, landmarks, float(distance)))
    return found


def by_group(comparisons: Sequence[Comparison]) -> Mapping[tuple[str, str], Floats]:
    """The distances (N,) of all, then of each group, in the order of age, gender, ancestry."""
    groups: dict[tuple[str, str], list[float]] = {("", "all"): []}
    kinds = [
        *(("age", Person(age, "male", "other").groups[0][1]) for age, _ in _AGES),
        *(("gender", name) for name in _GENDERS),
        *(("ancestry", name) for name in _RACES),
    ]
    groups |= {key: [] for key in kinds}
    for item in comparisons:
        for key in (("", "all"), *item.person.groups):
            groups[key].append(item.distance_percent)
    return {key: np.array(values) for key, values in groups.items() if values}


def markdown(groups: Mapping[tuple[str, str], Floats], measured: str, standard: str) -> str:
    """A table in Markdown, a line for each group."""
    heads = ["group", "faces", f"{measured} from {standard}, %", "95 % interval", "median, %"]
    rows = [[*heads, "over 8 %, %"], ["---"] * 6]
    for (kind, name), distances in groups.items():
        label = f"{kind} {name}".strip()
        mean, median = distances.mean(), np.median(distances)
        failed = 100 * (distances > _FAILED_PERCENT).mean()
        interval = "–"
        if len(distances) > 1:
            error = 1.96 * distances.std(ddof=1) / np.sqrt(len(distances))
            interval = f"{mean - error:.2f}–{mean + error:.2f}"
        figures = [f"{mean:.2f}", interval, f"{median:.2f}", f"{failed:.1f}"]
        rows.append([label, str(len(distances)), *figures])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 done, 1 no photo could be compared, 2 a wrong command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        measured, standard = open_systems([options.measured, options.standard], options.backend)
    except UnusableSystem as error:
        parser.error(str(error))
    if not options.photos.is_dir():
        parser.error(f"--photos {options.photos}: no such folder")
    photos = sorted(path for path in options.photos.iterdir() if path.is_file())
    comparisons = compare(measured, standard, photos, options.box == "fitted")
    if len(comparisons) < len(photos):
        left_out = len(photos) - len(comparisons)
        print(
            f"{left_out} of {len(photos)} files left out: no portrait of the form", file=sys.stderr
        )
    if not comparisons:
        return 1
    print(markdown(by_group(comparisons), measured.name, standard.name))
    if options.sheet:
        title = f"green: {standard.name}, pink: {measured.name}; farthest apart and typical"
        sheets.write_sheet(options.sheet, title, _tiles(comparisons, options.faces))
    return 0


def _tiles(comparisons: Sequence[Comparison], faces: int) -> list[sheets.Tile]:
    distances = [item.distance_percent for item in comparisons]
    chosen = [
        *sheets.choose(distances, "worst", faces // 2),
        *sheets.choose(distances, "typical", faces - faces // 2),
    ]
    return [
        sheets.Tile(item.view, item.landmarks, f"{item.distance_percent:.2f} %  {item.name}")
        for item in (comparisons[index] for index in chosen)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.compare_groups",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("measured", metavar="SYSTEM", help="as for reference.evaluate")
    parser.add_argument("standard", metavar="STANDARD", help="a more accurate system")
    parser.add_argument("--photos", type=Path, required=True, help="folder of portraits")
    parser.add_argument("--box", choices=("fixed", "fitted"), default="fitted", help="(fitted)")
    parser.add_argument("--backend", choices=BACKENDS, help="of weights files that name none")
    parser.add_argument("--sheet", type=Path, help="PNG of the farthest apart and typical faces")
    parser.add_argument("--faces", type=int, default=24, help="how many on the sheet (24)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
