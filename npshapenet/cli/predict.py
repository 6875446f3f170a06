"""npshapenet predict: the landmarks of the faces in photos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

import npshapenet
from npshapenet.cli import outputs, results
from npshapenet.cli.arguments import add_model_arguments, examples, open_model
from npshapenet.cli.errors import FAILED, USAGE, CommandError, reason
from npshapenet.cli.files import make_folder, write_file
from npshapenet.cli.overlays import check_picture_name, overlay
from npshapenet.cli.photos import PhotoError, read_photo
from npshapenet.cli.results import Face
from npshapenet.image import Box, to_gray
from npshapenet.model import Model

_DESCRIPTION: Final = """\
Find the landmarks of the face in each photo: around the box that is given, or, without a box, in
the whole picture, which must then be the crop of a face (1.5 times its box). Photos may be of any
kind that Pillow reads; they are turned as their EXIF data says.
"""

_EPILOG: Final = """\
Coordinates are x and y in pixels of the photo (turned as its EXIF data says), the centre of the
top-left pixel is (0, 0); only .pts files count from 1, as iBUG's do. Points are numbered from 0
in iBUG's order; left and right are the subject's.

A file that can't be used gets a line on the error output, the others are still done, and the
exit status is 1; it is 2 for a wrong command line. Results replace older files of their names,
never a photo that is read. Photos of one name in several folders get their results in folders
of those names.
"""

_EXAMPLES: Final = (
    "npshapenet predict portrait.jpg --box 175 76 266 167",
    "npshapenet predict portrait.jpg --box 175 76 266 167 --draw portrait-landmarks.png",
    "npshapenet predict crops/*.png --out landmarks.csv",
    "npshapenet predict crops/*.png --format pts --out points --draw overlays",
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
    parser.add_argument(
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
        "each face, or for one face a file that ends in .pts",
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
    targets = outputs.plan(
        photos, max(len(boxes), 1), arguments.format, arguments.out, arguments.draw
    )
    for picture in targets.overlays.values():
        check_picture_name(picture)
    model = open_model(arguments.model, arguments.backend)
    for folder in {target.parent for target in targets.files()}:
        make_folder(folder)
    if not boxes:
        print(
            "no --box: each whole picture is taken as the crop of a face "
            f"({model.crop_factor:g} times its box)",
            file=sys.stderr,
        )

    faces: list[Face] = []
    failures: list[tuple[str, str]] = []
    for photo in photos:
        try:
            image = read_photo(photo)
            found = _find_faces(model, str(photo), image, boxes)
            faces += found
            for face in found:
                if (photo, face.number) in targets.points:
                    write_file(targets.points[photo, face.number], results.as_pts(face).encode())
            if photo in targets.overlays:
                picture = targets.overlays[photo]
                write_file(picture, overlay(image, [face.landmarks for face in found], picture))
        except (PhotoError, ValueError, CommandError) as error:
            failures.append((str(photo), reason(error)))
            print(f"npshapenet: {photo}: {reason(error)}", file=sys.stderr)

    # JSON and CSV are whole files without a face too.
    if not targets.points and (faces or targets.format in (outputs.JSON, outputs.CSV)):
        text = _as_text(targets.format, faces, failures, arguments.model, model)
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


def _find_faces(model: Model, photo: str, image: Image.Image, boxes: Sequence[Box]) -> list[Face]:
    if not boxes:
        return [Face(photo, 1, image.size, None, model.predict(to_gray(image)))]
    crops = [npshapenet.crop_face(image, box, model) for box in boxes]
    return [
        Face(photo, number, image.size, box, crop.to_photo(landmarks))
        for number, (box, crop, landmarks) in enumerate(
            zip(boxes, crops, model.predict(crops), strict=True), start=1
        )
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
