"""Move labels that were registered badly: python -m reference.refit_labels.

A set whose points were carried over from other crops may be off by a scale and a shift, the same
for all points of a face. Networks that were trained on many such faces have learnt the mean, in
which these faults cancel out; so each face's points are scaled and moved, never bent, towards
what the networks find.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from reference.checkpoint import CheckpointError
from reference.data.augment import Augmentation, augment
from reference.data.dataset import Faces, FacesError, read_faces, write_faces
from reference.data.steps import gather
from reference.losses import face_sizes
from reference.teacher import read_teachers, teach

Floats = NDArray[np.float64]

#: How much of the way a label goes, and how far at most: of its size, and of the face's.
TRUST = 0.75
SCALE_CHANGE_MAX = 0.04
SHIFT_MAX = 0.04
ITERATIONS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        faces = read_faces(options.faces)
        networks = read_teachers(options.teachers, faces.geometry.side_px, faces.markup)
        side_px = faces.geometry.side_px
        images, labels = augment(gather([faces]), side_px, Augmentation(), torch.Generator())
        parts = tqdm(torch.split(images, 64), "looking", disable=None, leave=False)
        found = torch.cat([teach(networks, part) for part in parts])
        truth = labels.double().numpy()
        refitted = refit(truth, found.double().numpy())
        write_faces(options.out, _with_landmarks(faces, refitted))
    except (CheckpointError, FacesError, OSError) as error:
        print(f"reference.refit_labels: {error}", file=sys.stderr)
        return 1
    moved = np.linalg.norm(refitted - truth, axis=-1).mean(axis=1) / _sizes(truth)
    print(f"{options.out}: labels moved by {100 * np.median(moved):.2f} % of the face (median)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.refit_labels",
        description="Scale and move each face's points towards what networks find: for sets whose "
        "labels were registered badly. Writes another faces file.",
    )
    parser.add_argument("faces", type=Path, help="a faces file of reference.prepare")
    parser.add_argument("--teachers", nargs="+", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True, help="the faces file to write")
    return parser


def refit(labels: Floats, found: Floats) -> Floats:
    """Labels (N, L, 2) scaled and moved towards the points found (N, L, 2), as far as trusted.

    Least squares with weights: points that differ much, as under a hand or on the jaw of a
    turned head, count little (Geman and McClure's weights, by the median distance).
    """
    weights = np.ones(labels.shape[:2])
    for _ in range(ITERATIONS):
        shares = (weights / weights.sum(axis=1, keepdims=True))[..., None]
        label_means = (shares * labels).sum(axis=1, keepdims=True)
        found_means = (shares * found).sum(axis=1, keepdims=True)
        centred, found_centred = labels - label_means, found - found_means
        scales = (shares * centred * found_centred).sum((1, 2)) / (shares * centred**2).sum((1, 2))
        placed = centred * scales[:, None, None] + found_means
        distances = np.linalg.norm(placed - found, axis=-1)
        typical = np.median(distances, axis=1, keepdims=True) + 1e-6
        weights = 1 / (1 + (distances / (2 * typical)) ** 2)
    scales = 1 + TRUST * np.clip(scales - 1, -SCALE_CHANGE_MAX, SCALE_CHANGE_MAX)
    shifts = TRUST * (found_means - label_means)[:, 0]
    lengths = np.linalg.norm(shifts, axis=1) / _sizes(labels)
    shifts *= np.minimum(1, SHIFT_MAX / np.maximum(lengths, 1e-9))[:, None]
    moved: Floats = centred * scales[:, None, None] + label_means + shifts[:, None]
    return moved


def _sizes(landmarks: Floats) -> Floats:
    sizes: Floats = face_sizes(torch.from_numpy(landmarks)).numpy()
    return sizes


def _with_landmarks(faces: Faces, landmarks: Floats) -> Faces:
    """The faces with other landmarks, given in the network's coordinates."""
    geometry = faces.geometry
    reach = geometry.stored_px / geometry.side_px
    stored = (landmarks + reach) * (geometry.side_px / 2) - 0.5
    meta = {**faces.meta, "refitted": True}
    return dataclasses.replace(faces, landmarks=stored.astype(np.float32), meta=meta)


if __name__ == "__main__":
    sys.exit(main())
