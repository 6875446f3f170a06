"""Teach a map network's shape fit which points to trust: python -m reference.refine_fit.

The nearest shape of the model to all the points takes every point for equally right. But a
point of the jaw is found worse than the corner of an eye, its errors go along with its neighbours',
and the well-found points say something about it. So the scores become the linear function of
the points that came closest to the labels: least squares, in one go, on what the trained network
finds on the faces and, where there is a mirror, their mirror images.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from reference.checkpoint import Checkpoint, CheckpointError, load, save
from reference.data.augment import Augmentation
from reference.data.dataset import FacesError
from reference.data.sources import read_weighted
from reference.data.steps import Steps, loader
from reference.metrics import normalised_mean_errors_percent
from reference.networks.layers import offsets, similarity_onto
from reference.networks.shapenet import ShapeNet
from reference.training import TrainingData, check_points, collect, held_out_images

BATCH_SIZE = 64
#: How hard the scores are held to the nearest shape's, as a share of the points' mean variance.
RIDGE = 0.01
#: Faces as they will be seen, and their mirror images; what training adds makes errors of its own.
MIRRORED = Augmentation(mirror_share=0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        checkpoint = load(options.checkpoint)
        files = [read_weighted(entry) for entry in options.data]
        data = collect(files, checkpoint.recipe.training.held_out)
        check_points(checkpoint, data)
        network = checkpoint.network()
        if network.shape_fit is None:
            raise ValueError(f"{options.checkpoint}: only networks with maps fit a shape to points")
        before = held_out_percent(network, data, checkpoint.side_px)
        found, true = offsets_seen(network, checkpoint, data, options.views, options.seed)
        network.shape_fit.weight.copy_(refined_weight(network.shape_fit.weight, found, true))
        after = held_out_percent(network, data, checkpoint.side_px)
        averaged = {**checkpoint.averaged, "shape_fit.weight": network.shape_fit.weight}
        save(options.out, dataclasses.replace(checkpoint, averaged=averaged, best_percent=after))
    except (CheckpointError, FacesError, ValueError, OSError) as error:
        print(f"reference.refine_fit: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: held-out NME {before:.3f} → {after:.3f} %")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.refine_fit",
        description="Refine how a trained map network fits the shape model to its points. Nothing "
        "else is changed; the quality comes afterwards.",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of reference.train")
    parser.add_argument("--data", nargs="+", required=True, metavar="FACES[:WEIGHT]")
    parser.add_argument("--views", type=int, default=2, help="of each face (2)")
    parser.add_argument("--seed", type=int, default=0, help="of which are mirrored (0)")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    return parser


@torch.inference_mode()
def offsets_seen(
    network: ShapeNet, checkpoint: Checkpoint, data: TrainingData, views: int, seed: int
) -> tuple[Tensor, Tensor]:
    """What found and labelled points differ from the mean shape by, 2 × (M, 2·L).

    Both are taken back by the similarity of the points that were found.
    """
    assert network.shape_fit is not None
    mean = network.shape_fit.mean
    steps = Steps(
        data.faces,
        data.weights,
        side_px=checkpoint.side_px,
        batch_size=BATCH_SIZE,
        augmentation=Augmentation() if data.markup.mirror is None else MIRRORED,
        seed=seed,
    )
    count = views * steps.steps_per_epoch
    found_parts, true_parts = [], []
    for images, landmarks in tqdm(
        loader(steps, 0, count, workers=0), "looking at faces", count, disable=None, leave=False
    ):
        points = network.landmarks_to_train(images.to(memory_format=torch.channels_last))
        similarity = similarity_onto(points, mean)
        found_parts.append(offsets(points, mean, *similarity))
        true_parts.append(offsets(landmarks, mean, *similarity))
    return torch.cat(found_parts), torch.cat(true_parts)


def refined_weight(weight: Tensor, found: Tensor, true: Tensor, ridge: float = RIDGE) -> Tensor:
    """The weight (K, 2·L) that brings ``found`` (M, 2·L) closest to the scores of ``true``.

    Ridge regression towards ``weight``, with which the scores of both are the nearest shapes'.
    """
    found, true, plain = found.double(), true.double(), weight.double()
    variances = found.T @ found / len(found)
    held = ridge * variances.diagonal().mean() * torch.eye(len(variances), dtype=torch.float64)
    wanted = (found.T @ true / len(found) + held) @ plain.T
    refined: Tensor = torch.linalg.solve(variances + held, wanted)
    return refined.T.float()


@torch.inference_mode()
def held_out_percent(network: ShapeNet, data: TrainingData, side_px: int) -> float:
    """The mean NME of the held-out faces, unchanged crops, in percent."""
    images, truth = held_out_images(data, side_px)
    found = torch.cat([network(part) for part in torch.split(images, BATCH_SIZE)])
    errors = normalised_mean_errors_percent(found.numpy(), truth.numpy(), data.markup)
    return float(errors.mean())


if __name__ == "__main__":
    sys.exit(main())
