"""How far sideways of the true points a set's labels lie: python -m reference.label_shift.

Labels may lie beside what they mark, all by as much: counted from 1 in place of 0, scaled by the
corners of the pixels and not by their centres. Upwards and downwards a network learns that along
with the rest. Sideways it can't where training mirrors faces: half of them then lie as far on the
other side. What a network finds on a face and on its mirror image, on average, favours no side, so
that what the labels differ from it by is their shift.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.checkpoint import CheckpointError
from reference.data.augment import Augmentation, augment, mirrored
from reference.data.dataset import FacesError, read_faces
from reference.data.steps import gather
from reference.teacher import read_teachers, teach

BATCH_SIZE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        faces = read_faces(options.faces)
        if faces.markup.mirror is None:
            raise FacesError(f"{options.faces}: the points of {faces.markup.name} have no mirror")
        side_px = faces.geometry.side_px
        teachers = read_teachers(options.teachers, side_px, faces.markup)
        images, labels = augment(gather([faces]), side_px, Augmentation(), torch.Generator())
        found = torch.cat([teach(teachers, part) for part in torch.split(images, BATCH_SIZE)])
        flipped = torch.cat(
            [teach(teachers, part.flip(-1)) for part in torch.split(images, BATCH_SIZE)]
        )
        shifts = label_shifts(labels, found, mirrored(flipped, faces.markup.mirror))
        shifts_px = shifts * faces.crop_frames[:, 2] / 2
    except (CheckpointError, FacesError, OSError) as error:
        print(f"reference.label_shift: {error}", file=sys.stderr)
        return 1
    low, median, high = np.percentile(shifts_px, (25, 50, 75))
    print(
        f"{options.faces}: labels lie {median:.2f} pixels of the photo to the right "
        f"(median of {len(faces)} faces; quarters {low:.2f} and {high:.2f})"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.label_shift",
        description="Measure how far right of what trained networks find, on faces and on their "
        "mirror images, the labels of a set lie: what reference.prepare takes as --label-shift-px.",
    )
    parser.add_argument("faces", type=Path, help="a faces file of reference.prepare")
    parser.add_argument("--teachers", nargs="+", type=Path, required=True, metavar="CHECKPOINT")
    return parser


def label_shifts(labels: Tensor, found: Tensor, found_in_mirror: Tensor) -> NDArray[np.float32]:
    """How far right each face's labels lie of what was found (N), all (N, L, 2) in one unit.

    ``found_in_mirror`` was found in the mirror images, and is mirrored back.
    """
    shifts: NDArray[np.float32] = (labels - (found + found_in_mirror) / 2)[..., 0].mean(1).numpy()
    return shifts


if __name__ == "__main__":
    sys.exit(main())
