"""Teach a trained network how wrong it is: python -m reference.train_quality.

Nothing that finds the landmarks is changed: a small head reads what the network has collapsed,
and learns the mean error of pictures that look so. Faces are shown as training changes them and
further off; pictures without a face count as an error of NO_FACE_PERCENT. On the faces that the
network has learnt by heart its errors are smaller than on new ones, so the head is calibrated
on those held out.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from reference.checkpoint import Checkpoint, CheckpointError, load, save
from reference.data.augment import Augmentation, Batch
from reference.data.backgrounds import TRAINING_FAMILIES, background_crops
from reference.data.dataset import FacesError
from reference.data.sources import read_weighted
from reference.data.steps import Steps, loader
from reference.metrics import normalised_mean_errors_percent
from reference.networks.compact import CompactExtractor
from reference.networks.maps import MapExtractor
from reference.networks.quality import QualityHead, expected_error_loss
from reference.networks.shapenet import ShapeNet
from reference.training import check_points, collect

#: The error that a picture without a face counts as: points spread at random over a crop have more.
NO_FACE_PERCENT = 50.0
#: Errors beyond tell nothing more: a shape that lies beside the face.
ERROR_MAX_PERCENT = 100.0
DRAWN_FAMILIES = tuple(family for family in TRAINING_FAMILIES if family != "photo")
BATCH_SIZE = 64
HEAD_STEPS = 4000
HEAD_BATCH_SIZE = 512
HEAD_LEARNING_RATE = 3e-3
CALIBRATION_VIEWS = 16
#: Added to the deviation of each number that the head reads, which may never change at all.
LEAST_DEVIATION = 1e-4


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network collapsed pictures to, (N, C), and its errors on them (N) in percent."""

    collapsed: Tensor
    errors: Tensor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        checkpoint = load(options.checkpoint)
        with_head = train_quality(
            checkpoint, options.data, options.backgrounds or [], options.views, options.seed
        )
        save(options.out, with_head)
    except (CheckpointError, FacesError, ValueError, OSError) as error:
        print(f"reference.train_quality: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: the network of {options.checkpoint} with a quality")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.train_quality",
        description="Add an estimate of its own error to a trained network: the NME expected in "
        "percent. Calibrated on the faces held out of the first file.",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of reference.train")
    parser.add_argument("--data", nargs="+", required=True, metavar="FACES[:WEIGHT]")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--backgrounds",
        nargs="+",
        type=Path,
        metavar="LABELS",
        help="labelled photos, of which the corners without a face are shown too",
    )
    source.add_argument(
        "--no-photos", action="store_true", help="only drawn pictures stand for those without"
    )
    parser.add_argument("--views", type=int, default=6, help="of each face (6)")
    parser.add_argument("--seed", type=int, default=0, help="of changes and weights (0)")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    return parser


def train_quality(
    checkpoint: Checkpoint,
    data_entries: Sequence[str],
    background_labels: Sequence[Path],
    views: int,
    seed: int,
) -> Checkpoint:
    """The checkpoint with a quality head; ValueError where its network can't have one."""
    network = checkpoint.network()
    if not isinstance(network.extractor, CompactExtractor | MapExtractor):
        raise ValueError("a quality head needs a compact or a maps extractor")
    recipe = checkpoint.recipe
    files = [read_weighted(entry) for entry in data_entries]
    data = collect(files, recipe.training.held_out)
    check_points(checkpoint, data)
    usual, far = recipe.augmentation, further(recipe.augmentation)
    side_px = checkpoint.side_px
    faces = [
        look(network, data.faces, data.weights, side_px, settings, count, seed + offset)
        for offset, (settings, count) in enumerate(((usual, views), (far, max(1, views // 3))))
    ]
    face_count = sum(len(part.errors) for part in faces)
    families = TRAINING_FAMILIES if background_labels else DRAWN_FAMILIES
    sources: Sequence[Path | None] = background_labels or [None]
    each = max(1, face_count // (3 * len(sources)))
    pictures = [
        background_crops(labels, each, side_px, seed + place, families)
        for place, labels in enumerate(sources)
    ]
    nothing = [look_at_nothing(network, torch.from_numpy(part)) for part in pictures]
    head = fit_head(joined([*faces, *nothing]), seed)
    held_out_weights = torch.ones(len(data.held_out.crops))
    held_out = look(
        network, data.held_out, held_out_weights, side_px, usual, CALIBRATION_VIEWS, seed + 2
    )
    calibrate(head, held_out)
    state = {key: value.detach().clone() for key, value in head.state_dict().items()}
    return dataclasses.replace(checkpoint, quality=state)


def further(settings: Augmentation) -> Augmentation:
    """Faces badly framed and turned any way, as a tracker or a bad detector may show them."""
    return dataclasses.replace(
        settings, wide_share=0.5, wide_turn_deg=180.0, scale_std=0.3, shift_std=0.25
    )


@torch.inference_mode()
def look(
    network: ShapeNet,
    faces: Batch,
    weights: Tensor,
    side_px: int,
    settings: Augmentation,
    views: int,
    seed: int,
) -> Seen:
    """Show a network ``views`` changed views of each face (times its weight)."""
    steps = Steps(
        faces, weights, side_px=side_px, batch_size=BATCH_SIZE, augmentation=settings, seed=seed
    )
    count = views * steps.steps_per_epoch
    parts = []
    for images, landmarks in tqdm(
        loader(steps, 0, count, workers=0), "looking at faces", count, disable=None, leave=False
    ):
        outputs, collapsed = network.outputs_and_collapsed(_in_channels_last(images))
        found = network.landmarks(outputs)
        errors = normalised_mean_errors_percent(found.numpy(), landmarks.numpy(), faces.markup)
        limited = torch.from_numpy(errors).float().clamp_max(ERROR_MAX_PERCENT)
        parts.append(Seen(collapsed.flatten(1), limited))
    return joined(parts)


@torch.inference_mode()
def look_at_nothing(network: ShapeNet, crops: Tensor) -> Seen:
    """Show a network crops (N, side, side) without a face."""
    images = crops[:, None].float() / 255
    parts = torch.split(_in_channels_last(images), BATCH_SIZE)
    collapsed = torch.cat([network.outputs_and_collapsed(part)[1] for part in parts])
    return Seen(collapsed.flatten(1), torch.full((len(crops),), NO_FACE_PERCENT))


def joined(parts: Sequence[Seen]) -> Seen:
    """All that was seen, one after the other."""
    return Seen(
        torch.cat([part.collapsed for part in parts]), torch.cat([part.errors for part in parts])
    )


def fit_head(seen: Seen, seed: int) -> QualityHead:
    """A head that expects the errors seen."""
    torch.manual_seed(seed)
    mean, deviation = seen.collapsed.mean(dim=0), seen.collapsed.std(dim=0) + LEAST_DEVIATION
    standard = (seen.collapsed - mean) / deviation
    head = QualityHead(standard.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=HEAD_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, HEAD_STEPS)
    for _ in tqdm(range(HEAD_STEPS), "learning its errors", disable=None, leave=False):
        chosen = torch.randint(len(seen.errors), (HEAD_BATCH_SIZE,))
        loss = expected_error_loss(head(standard[chosen]), seen.errors[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # from here on it reads what isn't standardised
        head.hidden.weight.div_(deviation)
        head.hidden.bias.sub_(head.hidden.weight @ mean)
    return head.eval()


@torch.no_grad()
def calibrate(head: QualityHead, seen: Seen) -> None:
    """Multiply what a head expects so that its mean is that of the errors seen."""
    expected = head(seen.collapsed).exp()
    head.dense.bias.add_(math.log(float(seen.errors.mean() / expected.mean())))


def _in_channels_last(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    sys.exit(main())
