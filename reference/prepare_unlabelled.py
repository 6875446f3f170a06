"""Cut faces that nobody has labelled: python -m reference.prepare_unlabelled.

Networks find the points, and by them the box; their landmarks stand in place of labels. Photos
on which the networks disagree are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from npshapenet.faces import box_around
from reference.checkpoint import CheckpointError
from reference.data.contact_sheet import write_sheet
from reference.data.crop import Frame, Geometry, StoredFace, crop_frame, cut, store_face
from reference.data.dataset import FacesError, collect, describe, write_faces
from reference.data.face import Box, LabelError, labelled_face
from reference.data.photo import PhotoError, read_gray
from reference.metrics import interocular_nme_percent
from reference.networks.shapenet import ShapeNet
from reference.teacher import read_teachers, teach

Floats = NDArray[np.float64]

ENDINGS = (".jpg", ".jpeg", ".png")
LOOKS = 3
#: Where two looks, or a face and its mirror image, differ by more, the points aren't to be trusted.
DISAGREEMENT_MAX_PERCENT = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    geometry = Geometry()
    try:
        networks = read_teachers(options.teachers, geometry.side_px)
        photos = sorted(p for p in options.photos.iterdir() if p.suffix.lower() in ENDINGS)
        stored: list[StoredFace] = []
        skipped: Counter[str] = Counter()
        for photo in tqdm(photos, "looking", disable=None, leave=False):
            try:
                stored.append(_stored(photo, options.box, geometry, networks))
            except (LabelError, PhotoError) as error:
                skipped[error.kind] += 1
        if not stored:
            raise FacesError(f"{options.photos}: no face was found in {len(photos)} photos")
        order = np.random.default_rng(options.seed).permutation(len(stored))
        source = {"labels": options.photos.name, "title": "found", "faces": len(stored)}
        meta = describe(geometry, options.seed, [source], skipped)
        faces = collect([stored[index] for index in order], meta)
        write_sheet(options.out.with_suffix(".png"), faces)
        write_faces(options.out, faces)
    except (CheckpointError, FacesError, OSError) as error:
        print(f"reference.prepare_unlabelled: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {len(faces)} faces; left out: {dict(skipped) or 'none'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.prepare_unlabelled",
        description="Cut the face of each photo of a folder, found by trained networks, and write "
        "a faces file with their landmarks, and a contact sheet beside it.",
    )
    parser.add_argument("photos", type=Path, help="a folder with a face in each photo")
    parser.add_argument("--teachers", nargs="+", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument(
        "--box",
        nargs=4,
        type=float,
        required=True,
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="where the face's box lies about, in shares of the photo's sides",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the faces (0)")
    parser.add_argument("--out", type=Path, required=True, help="the faces file to write")
    return parser


def _stored(
    photo: Path, box_shares: Sequence[float], geometry: Geometry, networks: Sequence[ShapeNet]
) -> StoredFace:
    """The face of a photo, cut by its own points; LabelError where they can't be trusted."""
    gray = read_gray(photo)
    height, width = gray.shape
    sides = np.array([width, height, width, height])
    box: Box = tuple(np.array(box_shares) * sides)
    landmarks, before = np.zeros((68, 2)), np.zeros((68, 2))
    for _ in range(LOOKS):
        before = landmarks
        landmarks = _look(gray, crop_frame(box, geometry.crop_factor), geometry, networks)
        box = box_around(landmarks).edges
    difference = float(interocular_nme_percent(before[None], landmarks[None])[0])
    if difference > DISAGREEMENT_MAX_PERCENT:
        detail = f"two looks differ by {difference:.1f} %"
        raise LabelError(photo, photo.name, "points not sure", detail)
    return store_face(
        labelled_face(photo, photo, f"{photo.name}#0", box, landmarks), gray, geometry
    )


def _look(
    gray: NDArray[np.uint8], frame: Frame, geometry: Geometry, networks: Sequence[ShapeNet]
) -> Floats:
    """The landmarks (68, 2) in pixels of the photo, of the face in a frame."""
    margin = geometry.margin_px
    crop = np.rint(cut(gray, frame, geometry))[margin:-margin, margin:-margin] / 255
    found = teach(networks, torch.from_numpy(crop.astype(np.float32))[None, None])[0]
    corner = np.array([frame.left, frame.top])
    return (found.double().numpy() + 1) / 2 * frame.side + corner - 0.5


if __name__ == "__main__":
    sys.exit(main())
