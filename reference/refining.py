"""What the commands that refine the end of a trained network share: reading, judging, writing."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from reference.checkpoint import CheckpointError, load, save
from reference.data.augment import Augmentation
from reference.data.dataset import FacesError
from reference.data.sources import read_weighted
from reference.data.steps import Steps, loader
from reference.metrics import normalised_mean_errors_percent
from reference.networks.shapenet import ShapeNet
from reference.training import TrainingData, check_points, collect, held_out_images

BATCH_SIZE = 64

#: Changes a network, looking at views of faces; the tensors that are new, by name. ValueError for
#: a network whose end is another.
Refine = Callable[[ShapeNet, Iterator[tuple[Tensor, Tensor]]], Mapping[str, Tensor]]


def refining_parser(prog: str, description: str, views: int) -> argparse.ArgumentParser:
    """The options of such a command; ``views`` of each face are looked at unless said."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of reference.train")
    parser.add_argument("--data", nargs="+", required=True, metavar="FACES[:WEIGHT]")
    parser.add_argument("--views", type=int, default=views, help=f"of each face ({views})")
    parser.add_argument("--seed", type=int, default=0, help="of how they are changed (0)")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    return parser


def run_refining(
    name: str, options: argparse.Namespace, augmentation: Augmentation, refine: Refine
) -> int:
    """Refine a checkpoint's network, write it and say what it gained; 0 on success, 1 on failure.

    ``augmentation`` is how the faces are changed; they are mirrored only where they have a mirror.
    """
    try:
        checkpoint = load(options.checkpoint)
        files = [read_weighted(entry) for entry in options.data]
        data = collect(files, checkpoint.recipe.training.held_out)
        check_points(checkpoint, data)
        network, side_px = checkpoint.network(), checkpoint.side_px
        before = held_out_percent(network, data, side_px)
        refined = refine(network, _views(data, side_px, augmentation, options.views, options.seed))
        after = held_out_percent(network, data, side_px)
        averaged = {**checkpoint.averaged, **refined}
        save(options.out, dataclasses.replace(checkpoint, averaged=averaged, best_percent=after))
    except (CheckpointError, FacesError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"{name}: {options.checkpoint}: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: held-out NME {before:.3f} → {after:.3f} %")
    return 0


def _views(
    data: TrainingData, side_px: int, augmentation: Augmentation, views: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (N, 1, side, side) in channels last, and landmarks (N, L, 2), batch after batch."""
    if data.markup.mirror is None:
        augmentation = dataclasses.replace(augmentation, mirror_share=0.0)
    steps = Steps(
        data.faces,
        data.weights,
        side_px=side_px,
        batch_size=BATCH_SIZE,
        augmentation=augmentation,
        seed=seed,
    )
    count = views * steps.steps_per_epoch
    for images, landmarks in tqdm(
        loader(steps, 0, count, workers=0), "looking at faces", count, disable=None, leave=False
    ):
        yield images.to(memory_format=torch.channels_last), landmarks


@torch.inference_mode()
def held_out_percent(network: ShapeNet, data: TrainingData, side_px: int) -> float:
    """The mean NME of the held-out faces, unchanged crops, in percent."""
    images, truth = held_out_images(data, side_px)
    found = torch.cat([network(part) for part in torch.split(images, BATCH_SIZE)])
    errors = normalised_mean_errors_percent(found.numpy(), truth.numpy(), data.markup)
    return float(errors.mean())
