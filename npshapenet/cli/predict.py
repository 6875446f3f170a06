"""npshapenet predict: the landmarks of the faces in photos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from PIL import Image

import npshapenet
from npshapenet.cli import outputs, results
from npshapenet.cli.arguments import add_model_arguments, examples, open_model
from npshapenet.cli.errors import FAILED, USAGE, CommandError, reason
from npshapenet.cli.files import make_folder, write_file
from npshapenet.cli.overlays import check_picture_name, overlay
from npshapenet.cli.photos import PhotoError, read_photo
from npshapenet.cli.results import Face
from npshapenet.detectors import Detector, DetectorName, detector_named
from npshapenet.faces import Face as FoundFace
from npshapenet.faces import faces_in, find_faces
from npshapenet.image import Box, to_gray
from npshapenet.model import Model

_DESCRIPTION: Final = """\
Find the landmarks of the faces in each photo: those that a detector finds (dlib's or OpenCV's, if
one is installed), in its order; or the one around the box that is given; or with --whole in
the whole picture, which must then be the crop of a face (1.5 times its box). Photos may be of any
kind that Pillow reads; they are turned as their EXIF data says.
"""

_EPILOG: Final = """\
Coordinates are x and y in pixels of the photo (turned as its EXIF data says), the centre of the
top-left pixel is (0, 0); only .pts files count from 1, as iBUG's do. Points are numbered from 0
in iBUG's order; left and right are the subject's.

A file that can't be used, or a photo in which no face is found, gets a line on the error output,
the others are still done, and the exit status is 1; it is 2 for a wrong command line, and where
a detector is needed and none is installed. Results replace older files of their names, never a
photo that is read. Photos of one name in several folders get their results in folders of those
names. The quality, of models that give one, is the error that the model expects of the points,
in percent of the distance of the outer eye corners.
"""

_EXAMPLES: Final = (
    "npshapenet predict party.jpg --draw party-landmarks.png",
    "npshapenet predict portrait.jpg --box 175 76 266 167",
    "npshapenet predict portrait.jpg --box 175 76 266 167 --draw portrait-landmarks.png",
    "npshapenet predict crops/*.png --whole --out landmarks.csv",
    "npshapenet predict photos/*.jpg --looks 2 --format pts --out points --draw overlays",
)


def add_to(subcommands: Any) -> None:
    """Add the subcommand to npshapenet's parser."""
    parser = subcommands.add_parser(
        "predict",
        help="find the landmarks of faces in photos",
        description=_DESCRIPTION,
        epilog=f"{_EPILOG}\n{examples(_EXAMPLES)}",
    )
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--box",
        dest="boxes",
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        nargs=4,
        type=float,
        action="append",
        default=[],
        help="the face's box, as a detector gives it: its edges in pixels, right and bottom "
        "exclusive. One box holds for every photo; several, for several faces, need one photo",
    )
    where.add_argument(
        "--whole", action="store_true", help="each whole picture is the crop of one face"
    )
    where.add_argument(
        "--detector",
        choices=("auto", *get_args(DetectorName)),
        default="auto",
        help="what finds the faces where neither --box nor --whole is given; default: auto, "
        "dlib where it is installed, else OpenCV",
    )
    parser.add_argument(
        "--looks",
        type=int,
        choices=(1, 2),
        default=1,
        help="2: crop each face again by its first landmarks, for boxes that sit badly; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--format",
        choices=outputs.FORMATS,
        help="default: what the ending of --out says, on the screen a table",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write the results there and not to the screen; for pts a folder, with a file for "
        "each face (PHOTO-1.pts, PHOTO-2.pts where there may be several), or for one face a file "
        "that ends in .pts",
    )
    parser.add_argument(
        "--draw",
        metavar="FOLDER_OR_FILE",
        type=Path,
        help="write each photo with its landmarks drawn on it: as PHOTO-landmarks.png into a "
        "folder, or for one photo to a file whose ending says its form, such as .png",
    )
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do it, and return the exit status."""
    photos = outputs.without_repetition(arguments.photos)
    boxes = [_box(edges) for edges in arguments.boxes]
    if len(boxes) > 1 and len(photos) > 1:
        raise CommandError("several boxes need one photo: run it once for each photo", USAGE)
    if arguments.whole and arguments.looks > 1:
        raise CommandError("--whole leaves nothing for a second look", USAGE)
    faces_each = len(boxes) or (1 if arguments.whole else None)
    targets = outputs.plan(photos, faces_each, arguments.format, arguments.out, arguments.draw)
    for picture in targets.overlays.values():
        check_picture_name(picture)
    find = _finder(arguments, boxes, open_model(arguments.model, arguments.backend))
    for folder in targets.folders():
        make_folder(folder)

    faces: list[Face] = []
    failures: list[tuple[str, str]] = []
    for photo in photos:
        try:
            image = read_photo(photo)
            found = find(str(photo), image)
            targets.check_count(photo, len(found))
            faces += found
            for face in found:
                path = targets.points(photo, face.number)
                if path is not None:
                    write_file(path, results.as_pts(face).encode())
            if photo in targets.overlays:
                picture = targets.overlays[photo]
                write_file(picture, overlay(image, [face.landmarks for face in found], picture))
        except (PhotoError, ValueError, CommandError) as error:
            failures.append((str(photo), reason(error)))
            print(f"npshapenet: {photo}: {reason(error)}", file=sys.stderr)

    # JSON and CSV are whole files without a face too.
    if not targets.has_files_of_points and (faces or targets.format in (outputs.JSON, outputs.CSV)):
        text = _as_text(targets.format, faces, failures, arguments.model, find.model)
        if targets.results is None:
            print(text, end="")
        else:
            # Names that are no Unicode come out as the bytes that they are.
            write_file(targets.results, text.encode(errors="surrogateescape"))
    return FAILED if failures else 0


def _box(edges: Sequence[float]) -> Box:
    left, top, right, bottom = edges
    if left >= right or top >= bottom:
        raise CommandError(
            f"--box {left:g} {top:g} {right:g} {bottom:g} has no extent: it takes left, top, right "
            "and bottom, not width and height",
            USAGE,
        )
    try:
        return Box(left, top, right, bottom)
    except ValueError as error:
        raise CommandError(reason(error), USAGE) from error


@dataclass(frozen=True)
class _InBoxes:
    """The face in each box, which is the same in every photo."""

    model: Model
    boxes: Sequence[Box]
    looks: int

    def __call__(self, photo: str, image: Image.Image) -> list[Face]:
        return _results(
            photo, image, faces_in(image, self.boxes, model=self.model, looks=self.looks)
        )


@dataclass(frozen=True)
class _Whole:
    """The face of which the whole picture is the crop."""

    model: Model

    def __call__(self, photo: str, image: Image.Image) -> list[Face]:
        gray = to_gray(image)
        landmarks = self.model.predict(gray)
        quality = self.model.parameters(gray).quality if self.model.weights.has_quality else None
        expected = None if quality is None else float(quality)
        return [Face(photo, 1, image.size, None, landmarks, expected)]


@dataclass(frozen=True)
class _Detected:
    """The faces that a detector finds; ValueError where there is none."""

    model: Model
    detector: Detector
    looks: int

    def __call__(self, photo: str, image: Image.Image) -> list[Face]:
        found = find_faces(image, self.detector, model=self.model, looks=self.looks)
        if not found:
            raise ValueError("no face found; --box gives the box of one")
        return _results(photo, image, found)


def _finder(
    arguments: argparse.Namespace, boxes: Sequence[Box], model: Model
) -> _InBoxes | _Whole | _Detected:
    """How the faces of a photo are found, by what the command line says."""
    if boxes:
        return _InBoxes(model, boxes, arguments.looks)
    if arguments.whole:
        return _Whole(model)
    try:
        return _Detected(model, detector_named(arguments.detector), arguments.looks)
    except ImportError as error:
        raise CommandError(
            f"{reason(error)} (here: --box, or --whole where the picture is the crop of a face)",
            USAGE,
        ) from error


def _results(photo: str, image: Image.Image, found: Sequence[FoundFace]) -> list[Face]:
    return [
        Face(photo, number, image.size, face.box, face.landmarks, face.quality)
        for number, face in enumerate(found, start=1)
    ]


def _as_text(
    form: str,
    faces: Sequence[Face],
    failures: Sequence[tuple[str, str]],
    model_name: str,
    model: Model,
) -> str:
    if form == outputs.JSON:
        about = {
            "npshapenet": npshapenet.__version__,
            "model": model_name,
            "backend": model.backend_name,
            "markup": model.markup,
        }
        return results.as_json(faces, failures, about)
    if form == outputs.CSV:
        return results.as_csv(faces)
    if form == outputs.PTS:
        return "".join(map(results.as_pts, faces))
    return results.as_table(faces)
