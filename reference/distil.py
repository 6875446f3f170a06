"""What networks see on changed faces, as faces to train a smaller one on: reference.distil.

The smaller network learns from the teachers' landmarks (Hinton et al., arXiv 1503.02531) on many
views of each face. They are made once, so that neither the teachers nor the changes have to be
computed again in each epoch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reference.checkpoint import CheckpointError
from reference.data.crop import Geometry
from reference.data.dataset import Faces, FacesError, describe, write_faces
from reference.data.markup import IBUG68, Markup
from reference.data.sources import read_weighted
from reference.data.steps import Steps, loader
from reference.networks.shapenet import ShapeNet
from reference.recipe import RecipeError, check_mirror, read_recipe
from reference.teacher import read_teachers, teach
from reference.training import collect, held_out_images

BATCH_SIZE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        recipe = read_recipe(options.recipe)
        side_px = recipe.network.side_px
        files = [read_weighted(entry) for entry in options.data]
        data = collect(files, recipe.training.held_out)
        check_mirror(recipe, data.markup)
        teachers = read_teachers(options.teachers, side_px, data.markup)
        steps = Steps(
            data.faces,
            data.weights,
            side_px=side_px,
            batch_size=BATCH_SIZE,
            augmentation=recipe.augmentation,
            seed=options.seed,
        )
        views = _views(steps, options.epochs * steps.steps_per_epoch, teachers, options.trust)
        images, landmarks = zip(*views, held_out_images(data, side_px), strict=True)
        faces = as_faces(
            torch.cat(images), torch.cat(landmarks), data.crop_factor, options.seed, data.markup
        )
        write_faces(options.out, faces)
    except (CheckpointError, FacesError, RecipeError, OSError) as error:
        print(f"reference.distil: {error}", file=sys.stderr)
        return 1
    held_out = len(data.held_out.crops)
    print(f"{options.out}: {len(faces) - held_out} views, and {held_out} faces held out")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.distil",
        description="Change faces as a recipe's augmentation does, have teachers find their "
        "landmarks, and write both as a faces file. The faces that the recipe holds out of the "
        "first file come last in it, unchanged, with their labels.",
    )
    parser.add_argument("--recipe", type=Path, required=True, help="its augmentation is used")
    parser.add_argument("--teachers", nargs="+", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--data", nargs="+", required=True, metavar="FACES[:WEIGHT]")
    parser.add_argument("--epochs", type=int, default=20, help="views of each face (20)")
    parser.add_argument(
        "--trust",
        type=float,
        default=0.6,
        help="the teachers' share in the landmarks; the labels have the rest (0.6)",
    )
    parser.add_argument("--seed", type=int, default=100, help="of the changes (100)")
    parser.add_argument("--out", type=Path, required=True, help="the faces file to write")
    return parser


def _views(
    steps: Steps, count: int, teachers: Sequence[ShapeNet], trust: float
) -> list[tuple[Tensor, Tensor]]:
    """Images in 8 bits and their landmarks, a batch each."""
    views = []
    for images, labels in tqdm(
        loader(steps, 0, count, workers=1), "teaching", count, disable=None, leave=False
    ):
        # The teachers see what will be stored.
        stored = (images * 255).round() / 255
        found = teach(teachers, stored)
        views.append((stored, trust * found + (1 - trust) * labels))
    return views


def as_faces(
    images: Tensor, landmarks: Tensor, crop_factor: float, seed: int, markup: Markup = IBUG68
) -> Faces:
    """Network images (N, 1, side, side) and landmarks (N, L, 2), −1 to 1, as a faces file's.

    Without room around them. A view has no place in a photo: its box and frame are zeros.
    """
    count, side_px = len(images), images.shape[-1]
    geometry = Geometry(side_px, margin_px=0, crop_factor=crop_factor)
    source = {"labels": "", "title": "views", "faces": count}
    stored = (landmarks + 1) * (side_px / 2) - 0.5
    return Faces(
        crops=(images[:, 0] * 255).round().to(torch.uint8).numpy(),
        landmarks=stored.float().numpy(),
        names=np.array([f"view {index}" for index in range(count)]),
        boxes=np.zeros((count, 4), np.float32),
        crop_frames=np.zeros((count, 3), np.int32),
        photo_edges=np.tile(np.array([0, 0, side_px, side_px], np.float32), (count, 1)),
        meta=describe(geometry, seed, [source], {}, markup),
    )


if __name__ == "__main__":
    sys.exit(main())
