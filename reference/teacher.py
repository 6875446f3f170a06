"""What trained networks say together: landmarks to teach others by, or to mend labels with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reference.checkpoint import CheckpointError, load
from reference.data.markup import IBUG68, Markup
from reference.networks.shapenet import ShapeNet


def read_teachers(paths: Sequence[Path], side_px: int, markup: Markup = IBUG68) -> list[ShapeNet]:
    """The networks of checkpoints.

    CheckpointError for one that reads crops of another side, or finds points of another markup.
    """
    networks = []
    for path in paths:
        checkpoint = load(path)
        if checkpoint.side_px != side_px:
            raise CheckpointError(f"{path}: reads {checkpoint.side_px} px; the faces are {side_px}")
        if checkpoint.markup != markup:
            raise CheckpointError(
                f"{path}: finds the points of {checkpoint.markup.name}; the faces' are those of "
                f"{markup.name}, or of another markup of that name"
            )
        networks.append(checkpoint.network())
    return networks


@torch.inference_mode()
def teach(networks: Sequence[ShapeNet], images: Tensor) -> Tensor:
    """The mean landmarks (N, L, 2) over networks.

    Images are (N, 1, side, side), landmarks in the network's coordinates.
    """
    images = images.to(memory_format=torch.channels_last)
    found = [network.stages_to_train(images)[-1] for network in networks]
    return torch.stack(found).mean(dim=0)
