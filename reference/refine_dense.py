"""Fit the last layer of a direct network to faces as they will be seen: reference.refine_dense.

In training faces are turned, moved and covered further than anybody's detector leaves them, and
the last layer finds a middle course for all of it. Fitted once more, by itself, to faces as
detectors frame them, on what the layers before it have learnt, it is closer on those.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reference.checkpoint import CheckpointError, load, save
from reference.data.augment import Augmentation
from reference.data.dataset import FacesError
from reference.data.sources import read_weighted
from reference.data.steps import Steps, loader
from reference.losses import FACE_SIZE_MIN, face_sizes
from reference.networks.compact import CompactExtractor
from reference.networks.shapenet import ShapeNet
from reference.refine_fit import BATCH_SIZE, held_out_percent
from reference.training import check_points, collect

#: Much less than in training: about what two detectors differ by.
AS_DETECTED = Augmentation(mirror_share=0.5, turn_std_deg=3, scale_std=0.02, shift_std=0.015)
#: How hard the layer is held to what it was, in percent of the face's size for a change of 1 in
#: what each of its inputs makes of each of its outputs, over its own spread.
RIDGE = 0.03
#: The least part of the inputs' largest variance that counts as information.
VARIANCE_MIN = 1e-6
ITERATIONS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        checkpoint = load(options.checkpoint)
        files = [read_weighted(entry) for entry in options.data]
        data = collect(files, checkpoint.recipe.training.held_out)
        check_points(checkpoint, data)
        network = checkpoint.network()
        extractor = network.extractor
        if not isinstance(extractor, CompactExtractor):
            raise ValueError(f"{options.checkpoint}: only a compact network ends in a dense layer")
        before = held_out_percent(network, data, checkpoint.side_px)
        mirror_share = 0.0 if data.markup.mirror is None else AS_DETECTED.mirror_share
        steps = Steps(
            data.faces,
            data.weights,
            side_px=checkpoint.side_px,
            batch_size=BATCH_SIZE,
            augmentation=dataclasses.replace(AS_DETECTED, mirror_share=mirror_share),
            seed=options.seed,
        )
        count = options.views * steps.steps_per_epoch
        refine(network, extractor.dense, *inputs_seen(extractor, steps, count))
        after = held_out_percent(network, data, checkpoint.side_px)
        dense = extractor.dense
        refined = {"extractor.dense.weight": dense.weight, "extractor.dense.bias": dense.bias}
        averaged = {**checkpoint.averaged, **refined}
        save(options.out, dataclasses.replace(checkpoint, averaged=averaged, best_percent=after))
    except (CheckpointError, FacesError, ValueError, OSError) as error:
        print(f"reference.refine_dense: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: held-out NME {before:.3f} → {after:.3f} %")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.refine_dense",
        description="Fit the last layer of a trained compact network to faces as detectors frame "
        "them. Nothing else is changed; the quality comes afterwards.",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of reference.train")
    parser.add_argument("--data", nargs="+", required=True, metavar="FACES[:WEIGHT]")
    parser.add_argument("--views", type=int, default=4, help="of each face (4)")
    parser.add_argument("--seed", type=int, default=0, help="of how they are changed (0)")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    return parser


@torch.no_grad()
def inputs_seen(extractor: CompactExtractor, steps: Steps, count: int) -> tuple[Tensor, Tensor]:
    """What the last layer reads (M, C) on ``count`` batches, and their landmarks (M, L, 2)."""
    inputs_parts, landmarks_parts = [], []
    for images, landmarks in tqdm(
        loader(steps, 0, count, workers=0), "looking at faces", count, disable=None, leave=False
    ):
        features = extractor.blocks(images.to(memory_format=torch.channels_last))
        inputs_parts.append(extractor.dense_inputs(extractor.collapsed(features)))
        landmarks_parts.append(landmarks)
    return torch.cat(inputs_parts), torch.cat(landmarks_parts)


def refine(network: ShapeNet, dense: nn.Linear, inputs: Tensor, truth: Tensor) -> None:
    """Bring a network's last layer closest to ``truth`` (M, L, 2), given its inputs (M, C).

    The mean distance in face sizes is minimised by L-BFGS (Nocedal and Wright, Numerical
    Optimization, section 7.2), held to the layer as it was; over inputs turned and scaled to be
    independent and of variance 1, without which it takes some thousand steps.
    """
    to_whitened, from_whitened = whitening(inputs)
    mean = inputs.mean(dim=0)
    whitened = (inputs - mean) @ to_whitened
    weight = dense.weight.detach() @ from_whitened.T
    bias = dense.bias.detach() + dense.weight.detach() @ mean
    change = torch.zeros_like(weight, requires_grad=True)
    move = torch.zeros_like(bias, requires_grad=True)
    sizes = face_sizes(truth).clamp_min(FACE_SIZE_MIN)[:, None]
    optimizer = torch.optim.LBFGS(
        [change, move], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss_percent() -> Tensor:
        optimizer.zero_grad()
        found = network.landmarks_of(whitened @ (weight + change).T + bias + move)
        distances = torch.linalg.vector_norm(found - truth, dim=-1) / sizes
        loss = 100 * distances.mean() + RIDGE * change.square().sum()
        loss.backward()
        value: Tensor = loss.detach()
        return value

    optimizer.step(loss_percent)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        refined = (weight + change) @ to_whitened.T
        dense.weight.copy_(refined)
        dense.bias.copy_(bias + move - refined @ mean)


def whitening(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What makes inputs (M, C) of mean 0 independent and of variance 1 (C, C), and its inverse."""
    variances, directions = torch.linalg.eigh(torch.cov(inputs.double().T))
    deviations = variances.clamp_min(VARIANCE_MIN * variances[-1].item()).sqrt()
    return (directions / deviations).float(), (directions * deviations).T.float()


if __name__ == "__main__":
    sys.exit(main())
