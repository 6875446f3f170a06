"""Crops without a face, by families: what a network is to call no face.

Some families are for training; the others are kept for tests, so that a figure on them says
something about pictures of a kind that training never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from npshapenet.image import resize
from reference.data import patterns
from reference.data.face import LabelError, LabelledFace
from reference.data.labels import read_labels
from reference.data.photo import PhotoError, read_gray

Gray = NDArray[np.uint8]

Family = Literal[
    "noise", "flat", "gradient", "clouds", "shapes", "photo", "stripes", "text", "pictures"
]
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)
#: What training may show a network.
TRAINING_FAMILIES: Final[tuple[Family, ...]] = (
    "noise",
    "flat",
    "gradient",
    "clouds",
    "shapes",
    "photo",
)
#: What training never sees; of `photo`, tests take other photos than training.
TESTING_FAMILIES: Final[tuple[Family, ...]] = ("photo", "stripes", "text", "pictures")

#: scikit-image's pictures without a face, human or other.
PICTURES: Final = (
    "brick.png",
    "cell.png",
    "clock_motion.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)

_SMALLEST_CUT_PX: Final = 24
#: How many of the cuts of photos reach beyond the photo's edge, and how far, of their side.
_BEYOND_SHARE: Final = 0.3
_BEYOND_REACH: Final = 1 / 3

_PATTERNS: Final[Mapping[Family, Callable[[int, Generator], Gray]]] = {
    "noise": patterns.noise,
    "flat": patterns.flat,
    "gradient": patterns.gradient,
    "clouds": patterns.clouds,
    "shapes": patterns.shapes,
    "stripes": patterns.stripes,
    "text": patterns.text,
}


def background_crops(
    labels: Path | None,
    count: int,
    side_px: int,
    seed: int,
    families: Sequence[Family] = TRAINING_FAMILIES,
) -> Gray:
    """Crops without a face, uint8 (count, side, side), the families in turn.

    Crop i is of ``families[i % len(families)]``: see `families_of`. The same arguments give the
    same crops, and a larger count begins with those of a smaller one.

    ``labels`` (dlib's XML, or a folder of .pts files) are needed for the family ``photo`` alone:
    squares of any size from 24 pixels, cut from labelled photos beside the face, so that they
    share no pixel with the face's box or the bounds of its landmarks; 3 of 10 reach beyond the
    photo by up to a third of their side, where its nearest pixel is repeated. ``pictures`` are
    cuts of scikit-image's sample pictures. Both are resized as inference resizes a crop. The
    others are drawn: see `patterns`.

    ValueError for a family that isn't known, for none, and where ``photo`` has no labels; its
    subclass LabelError where the labels can't be read or no photo has room beside its face;
    ImportError where ``pictures`` are asked for and scikit-image isn't installed.
    """
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or not families:
        came = ", ".join(unknown) or "none"
        raise ValueError(f"families: {came}; accepted: {', '.join(FAMILIES)}")
    crops = np.empty((count, side_px, side_px), np.uint8)
    for offset, family in enumerate(families):
        places = range(offset, count, len(families))
        code = FAMILIES.index(family)
        generators = [np.random.default_rng((seed, code, index)) for index in range(len(places))]
        drawn = _draw(family, labels, side_px, seed, generators)
        for place, crop in zip(places, drawn, strict=True):
            crops[place] = crop
    return crops


def families_of(count: int, families: Sequence[Family] = TRAINING_FAMILIES) -> list[Family]:
    """The family of each of ``count`` crops that `background_crops` gives."""
    return [families[index % len(families)] for index in range(count)]


def _draw(
    family: Family, labels: Path | None, side_px: int, seed: int, generators: Sequence[Generator]
) -> list[Gray]:
    if not generators:
        return []
    if family == "photo":
        if labels is None:
            raise ValueError("the family photo cuts labelled photos: give their labels")
        return _cuts_beside_faces(labels, side_px, seed, generators)
    if family == "pictures":
        return _cuts_of_pictures(side_px, generators)
    return [_PATTERNS[family](side_px, generator) for generator in generators]


def _cuts_beside_faces(
    labels: Path, side_px: int, seed: int, generators: Sequence[Generator]
) -> list[Gray]:
    """A cut for each generator, from the photos in random order, in rounds if need be."""
    faces = [face for face in read_labels(labels) if isinstance(face, LabelledFace)]
    order = np.random.default_rng(seed).permutation(len(faces))
    cuts: list[Gray] = []
    while len(cuts) < len(generators):
        before = len(cuts)
        for index in order:
            if len(cuts) == len(generators):
                break
            try:
                photo = read_gray(faces[index].image)
            except PhotoError:
                continue  # prepare and evaluate name it
            cut = cut_beside_face(photo, faces[index], generators[len(cuts)])
            if cut is not None:
                cuts.append(_resized(cut, side_px))
        if len(cuts) == before:
            raise LabelError(labels, "", "no room", "no photo has room for a cut beside its face")
    return cuts


def cut_beside_face(photo: Gray, face: LabelledFace, rng: Generator) -> Gray | None:
    """A square (S, S) of a photo (H, W) that shares no pixel with its face, S from 24.

    None where there isn't room for one.
    """
    size = np.array(photo.shape[::-1])
    # Pixels that hold a landmark or touch the box: from low to below high.
    low = np.floor(np.minimum(face.landmarks.min(axis=0) + 0.5, face.box[:2])).astype(int)
    high = np.ceil(np.maximum(face.landmarks.max(axis=0) + 0.5, face.box[2:])).astype(int)
    beyond = _BEYOND_REACH if rng.random() < _BEYOND_SHARE else 0.0
    room = np.concatenate([low, size - high])  # left, above, right, below
    largest = np.minimum(room, np.tile(size[::-1], 2)) / (1 - beyond)
    chances = np.maximum(largest - _SMALLEST_CUT_PX + 1, 0)
    if not chances.any():
        return None
    direction = int(rng.choice(4, p=chances / chances.sum()))
    side = int(_SMALLEST_CUT_PX * (largest[direction] / _SMALLEST_CUT_PX) ** rng.random())
    outside = int(beyond * side)
    first, last = np.full(2, -outside), size - side + outside
    axis = direction % 2
    if direction < 2:
        last[axis] = low[axis] - side
    else:
        first[axis] = high[axis]
    corner = rng.integers(first, last + 1)
    columns, rows = (
        np.arange(start, start + side).clip(0, end - 1)
        for start, end in zip(corner, size, strict=True)
    )
    cut: Gray = photo[np.ix_(rows, columns)]
    return cut


def _cuts_of_pictures(side_px: int, generators: Sequence[Generator]) -> list[Gray]:
    try:
        import skimage
    except ImportError:
        raise ImportError(
            "the family pictures cuts scikit-image's sample pictures: pip install scikit-image"
        ) from None
    folder = Path(skimage.__file__).parent / "data"
    pictures = [read_gray(folder / name) for name in PICTURES]
    cuts = []
    for index, rng in enumerate(generators):
        picture = pictures[index % len(pictures)]
        smallest = _SMALLEST_CUT_PX * 2
        side = int(smallest * (min(picture.shape) / smallest) ** rng.random())
        top, left = (int(rng.integers(length - side + 1)) for length in picture.shape)
        cuts.append(_resized(picture[top : top + side, left : left + side], side_px))
    return cuts


def _resized(gray: Gray, side_px: int) -> Gray:
    return np.rint(resize(gray, side_px, side_px)).clip(0, 255).astype(np.uint8)
