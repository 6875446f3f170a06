"""Which file each result goes to: decided, and checked for collisions, before any work is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from npshapenet.cli.errors import FAILED, USAGE, CommandError

TABLE, JSON, CSV, PTS = FORMATS = ("table", "json", "csv", "pts")

_FORMAT_OF_ENDING: Final = {".txt": TABLE, ".json": JSON, ".csv": CSV, ".pts": PTS}


@dataclass(frozen=True)
class Targets:
    """Where the results go.

    ``results`` is the one file of all results, None for the screen. ``points_stems`` has, where
    each face goes to a file of its own, that file's path for each photo, without the face's
    number and ending; else it is empty. ``faces_each`` is how many faces a photo has, None where
    that is found out. ``overlays`` has a picture for each photo.
    """

    format: str
    results: Path | None
    faces_each: int | None
    points_stems: Mapping[Path, Path] = field(default_factory=dict)
    overlays: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def has_files_of_points(self) -> bool:
        """Whether each face goes to a file of its own."""
        return bool(self.points_stems)

    def points(self, photo: Path, number: int) -> Path | None:
        """The file of a photo's face, counted from 1; None where there is none for each face."""
        if photo not in self.points_stems:
            return None
        stem = self.points_stems[photo]
        end = ".pts" if self.faces_each == 1 else f"-{number}.pts"
        return stem.with_name(stem.name + end)

    def check_count(self, photo: Path, count: int) -> None:
        """CommandError where more faces were found than a .pts file holds."""
        if self.format == PTS and not self.has_files_of_points and count > (self.faces_each or 1):
            raise CommandError(f"{count} faces in the form pts need a folder: --out FOLDER", FAILED)

    def folders(self) -> set[Path]:
        """The folders of all of them."""
        return {file.parent for file in [*self.points_stems.values(), *self.single_files()]}

    def single_files(self) -> list[Path]:
        """All but those of the faces."""
        return [*self.overlays.values(), *([] if self.results is None else [self.results])]

    def files(self) -> list[Path]:
        """All that are known before the faces are; numbers keep the others apart."""
        counted = range(1, (self.faces_each or 1) + 1)
        points = [self.points(photo, number) for photo in self.points_stems for number in counted]
        return [*(path for path in points if path is not None), *self.single_files()]


def plan(
    photos: Sequence[Path],
    faces_each: int | None,
    form: str | None,
    out: Path | None,
    draw: Path | None,
) -> Targets:
    """The targets for photos of so many faces each, by --format, --out and --draw.

    None: as many as are found. CommandError if they don't fit together, or a file would be
    written twice, or over a photo.
    """
    form = form or _format_by_ending(out)
    names = names_in_folder(photos)
    overlays = {} if draw is None else _overlays(photos, names, draw)
    if form != PTS:
        if out is not None and out.is_dir():
            raise CommandError(f"--out {out} is a folder; {form} goes to one file", USAGE)
        targets = Targets(form, out, faces_each, overlays=overlays)
    elif out is not None and not _names_file(out):
        stems = {photo: out / name for photo, name in zip(photos, names, strict=True)}
        targets = Targets(form, None, faces_each, stems, overlays)
    elif len(photos) * (faces_each or 1) == 1:
        targets = Targets(form, out, faces_each, overlays=overlays)
    else:
        raise CommandError("several faces in the form pts need a folder: --out FOLDER", USAGE)
    _check(targets.files(), photos)
    return targets


def without_repetition(photos: Sequence[Path]) -> list[Path]:
    """The photos in their order, each once, however its path is written."""
    return list({os.path.abspath(photo): photo for photo in reversed(photos)}.values())[::-1]


def names_in_folder(photos: Sequence[Path]) -> list[Path]:
    """A different relative path for each photo, for results in one folder.

    The shortest that serves for all: the file's name without its ending; the path below the
    folder that all photos share, without the ending; the same with it. So a/x.jpg and b/x.jpg
    give a/x and b/x. Case makes no difference: many file systems know none.
    """
    below_shared = _below_shared_folder(photos)
    schemes: list[Callable[[Path, Path], Path]] = [
        lambda photo, below: Path(photo.stem),
        lambda photo, below: below.with_suffix(""),
        lambda photo, below: below,
    ]
    for scheme in schemes:
        names = [scheme(*paths) for paths in zip(photos, below_shared, strict=True)]
        if len({str(name).casefold() for name in names}) == len(names):
            break
    return names


def _below_shared_folder(photos: Sequence[Path]) -> list[Path]:
    absolute = [os.path.abspath(photo) for photo in photos]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError:  # two drives of Windows
        return [Path(*path.parts[1:]) for path in map(Path, absolute)]
    return [Path(os.path.relpath(path, shared)) for path in absolute]


def _names_file(path: Path) -> bool:
    """Whether the path has an ending, and isn't a folder all the same."""
    return path.suffix != "" and not path.is_dir()


def _format_by_ending(out: Path | None) -> str:
    if out is None:
        return TABLE
    form = _FORMAT_OF_ENDING.get(out.suffix.lower())
    if form is None:
        endings = ", ".join(_FORMAT_OF_ENDING)
        raise CommandError(f"--out {out} ends in none of {endings}: add --format", USAGE)
    return form


def _overlays(photos: Sequence[Path], names: Sequence[Path], draw: Path) -> dict[Path, Path]:
    if _names_file(draw):
        if len(photos) > 1:
            raise CommandError(f"--draw {draw} is one file; several photos need a folder", USAGE)
        return {photos[0]: draw}
    return {
        photo: draw / f"{name}-landmarks.png" for photo, name in zip(photos, names, strict=True)
    }


def _check(targets: Sequence[Path], photos: Sequence[Path]) -> None:
    photo_paths = {os.path.realpath(photo) for photo in photos}
    seen: set[str] = set()
    for target in targets:
        path = os.path.realpath(target)
        if path in photo_paths:
            raise CommandError(f"{target} is a photo that is read: it would be replaced", USAGE)
        if path in seen:
            raise CommandError(f"two results would be written to {target}", USAGE)
        seen.add(path)
