"""python -m reference.prepare: labelled photos to one file of cut faces, and a contact sheet."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reference.data.contact_sheet import write_sheet
from reference.data.crop import Geometry, StoredFace, store_face
from reference.data.dataset import Faces, collect, describe, write_faces
from reference.data.dlib_xml import read_title
from reference.data.labels import LabelError, LabelledFace, read_labels
from reference.data.markup import IBUG68, Markup, MarkupError, read_markup
from reference.data.photo import PhotoError, read_gray

MAX_SIDE_PX = 1024
MAX_LABEL_SHIFT_PX = 20

_DESCRIPTION = """\
Cut the labelled faces of photos, in gray, and write them with their points to one .npz file that
reference.train reads, and a contact sheet beside it.
"""
_EPILOG = """\
labels: dlib's XML (<image file><box top left width height><part name x y>), or a folder of iBUG's
.pts files with an image beside each. Several may be given; their faces are shuffled together.
The points are iBUG's 68, or those that a file given with --markup describes.

example: python -m reference.prepare 300w/train/labels.xml --out faces.npz
"""


@dataclass(frozen=True)
class Prepared:
    """What was made of the labels: the faces, and the labels that were skipped."""

    faces: Faces
    skipped: Sequence[LabelError]


def prepare(
    labels: Sequence[Path],
    geometry: Geometry,
    seed: int = 0,
    skip_bad: bool = False,
    progress: bool = False,
    markup: Markup = IBUG68,
    label_shift_px: float = 0.0,
) -> Prepared:
    """Read the labels, cut their faces, shuffle them by the seed.

    ``label_shift_px`` is kept for training, and changes nothing here.

    Raises LabelError for the first label that can't be used, unless `skip_bad`; in any case where
    a labels file as a whole can't be read, or no face is left.
    """
    entries = [
        (index, entry) for index, path in enumerate(labels) for entry in read_labels(path, markup)
    ]
    stored: list[StoredFace] = []
    skipped: list[LabelError] = []
    counts = [0] * len(labels)
    # None: shown on a terminal only, so that a log gets the messages alone.
    disable = None if progress else True
    bar = tqdm(entries, desc="cutting faces", unit="face", disable=disable, leave=False)
    for (index, _), outcome in zip(entries, _store_all((e for _, e in bar), geometry), strict=True):
        if isinstance(outcome, StoredFace):
            stored.append(outcome)
            counts[index] += 1
        elif skip_bad:
            skipped.append(outcome)
            tqdm.write(f"skipped: {outcome}", file=sys.stderr)
        else:
            bar.close()
            raise outcome
    if not stored:
        raise LabelError(labels[0], "", "no face left", f"all {len(skipped)} labels were skipped")
    order = np.random.default_rng(seed).permutation(len(stored))
    sources = [_source(path, count) for path, count in zip(labels, counts, strict=True)]
    kinds = Counter(error.kind for error in skipped)
    meta = describe(geometry, seed, sources, kinds, markup, label_shift_px)
    return Prepared(collect([stored[index] for index in order], meta), skipped)


def _source(path: Path, count: int) -> dict[str, str | int]:
    title = read_title(path) if path.suffix.lower() == ".xml" else ""
    return {"labels": path.resolve().name, "title": title, "faces": count}


def _store_all(
    entries: Iterable[LabelledFace | LabelError], geometry: Geometry
) -> Iterator[StoredFace | LabelError]:
    """Yield each face cut, or why it couldn't be; faces of one photo, in turn, open it once."""
    opened: tuple[Path, NDArray[np.uint8] | PhotoError] | None = None
    for entry in entries:
        if isinstance(entry, LabelError):
            yield entry
            continue
        if opened is None or opened[0] != entry.image:
            opened = (entry.image, _try_gray(entry.image))
        yield _store(entry, opened[1], geometry)


def _try_gray(path: Path) -> NDArray[np.uint8] | PhotoError:
    try:
        return read_gray(path)
    except PhotoError as error:
        return error


def _store(
    face: LabelledFace, gray: NDArray[np.uint8] | PhotoError, geometry: Geometry
) -> StoredFace | LabelError:
    if isinstance(gray, PhotoError):
        return LabelError(face.labels, face.name, gray.kind, gray.detail)
    try:
        return store_face(face, gray, geometry)
    except LabelError as error:
        return error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 failed (2, usage, is argparse's)."""
    options = _parse(arguments)
    geometry = Geometry(options.side, options.margin, options.crop_factor)
    try:
        markup = IBUG68 if options.markup is None else read_markup(options.markup)
        prepared = prepare(
            options.labels,
            geometry,
            options.seed,
            options.skip_bad,
            progress=True,
            markup=markup,
            label_shift_px=options.label_shift_px,
        )
        # The faces last: where they are, all of it is there.
        write_sheet(options.sheet, prepared.faces)
        write_faces(options.out, prepared.faces)
    except (LabelError, MarkupError, OSError) as error:
        print(f"reference.prepare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reference.prepare: interrupted, nothing half-written is left", file=sys.stderr)
        return 130
    _report(options.out, options.sheet, prepared)
    return 0


def _report(out: Path, sheet: Path, prepared: Prepared) -> None:
    side = prepared.faces.geometry.stored_px
    print(f"{out}: {len(prepared.faces)} faces of {side}×{side} pixels; look at {sheet}")
    if prepared.skipped:
        counts = Counter(error.kind for error in prepared.skipped).most_common()
        reasons = ", ".join(f"{kind} {count}" for kind, count in counts)
        print(f"skipped {len(prepared.skipped)}: {reasons}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reference.prepare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("labels", nargs="+", type=Path, help=".xml file or folder of .pts files")
    parser.add_argument("--out", type=Path, required=True, help="faces file to write, .npz")
    parser.add_argument(
        "--markup",
        type=Path,
        metavar="TOML",
        help="what the points are, where they aren't iBUG's 68: see docs/training.md",
    )
    parser.add_argument(
        "--label-shift-px",
        type=float,
        default=0.0,
        metavar="PX",
        help="how far right of the true points the labels lie, in pixels of the photos, as "
        "reference.label_shift measures it: a face that training mirrors gets labels as far right",
    )
    parser.add_argument("--sheet", type=Path, help="contact sheet (default: .png beside --out)")
    parser.add_argument("--side", type=int, default=112, help="network's crop, pixels (112)")
    parser.add_argument("--margin", type=int, default=28, help="room on each side, pixels (28)")
    parser.add_argument("--crop-factor", type=float, default=1.5, help="crop over box (1.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the faces (0)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad labels, count them")
    options = parser.parse_args(arguments)
    _check_options(parser, options)
    return options


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    options.sheet = options.sheet or options.out.with_suffix(".png")
    if options.out.suffix.lower() != ".npz":
        parser.error(f"--out {options.out}: accepted: a name that ends in .npz")
    if options.sheet.suffix.lower() != ".png":
        parser.error(f"--sheet {options.sheet}: accepted: a name that ends in .png")
    for path in (options.out, options.sheet):
        if not path.parent.is_dir():
            parser.error(f"{path}: the folder {path.parent} does not exist")
    if not 16 <= options.side <= MAX_SIDE_PX:
        parser.error(f"--side {options.side}: accepted: 16 to {MAX_SIDE_PX}")
    if not 0 <= options.margin <= options.side:
        parser.error(f"--margin {options.margin}: accepted: 0 to the side, {options.side}")
    if not 0.5 <= options.crop_factor <= 4:
        parser.error(f"--crop-factor {options.crop_factor}: accepted: 0.5 to 4")
    if not abs(options.label_shift_px) <= MAX_LABEL_SHIFT_PX:
        parser.error(f"--label-shift-px {options.label_shift_px}: accepted: ±{MAX_LABEL_SHIFT_PX}")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: accepted: 0 and above")


if __name__ == "__main__":
    sys.exit(main())
