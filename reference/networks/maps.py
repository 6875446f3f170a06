"""Maps of where each landmark lies: learnt beside the parameters, and left out at export.

A map has to say for every place whether the landmark is there, so that each face teaches the
blocks before it far more than one row of parameters does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from reference.networks.blocks import ConvolutionBlock, SeparableBlock


class MapHead(nn.Module):
    """Features of several sizes → landmarks (N, L, 2) in the network's coordinates.

    From the smallest features to the largest, each enlarged twofold and added to the next
    (Lin et al., Feature Pyramid Networks, arXiv 1612.03144); then a map for each landmark and
    the mean place in it (Nibali et al., arXiv 1801.07372, section 3).

    ``feature_channels`` are those of the features, the largest first; each has half the side of
    the one before.
    """

    def __init__(
        self, feature_channels: Sequence[int], map_channels: int, landmark_count: int
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            ConvolutionBlock(channels, map_channels, 1, activation="none")
            for channels in feature_channels
        )
        self.mixing = nn.ModuleList(
            SeparableBlock(map_channels, map_channels, 3, 1, "relu") for _ in feature_channels
        )
        self.maps = nn.Conv2d(map_channels, landmark_count, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        levels = list(zip(features, self.lateral, self.mixing, strict=True))[::-1]
        above: Tensor | None = None
        for level, lateral, mixing in levels:
            mixed = lateral(level)
            if above is not None:
                mixed = mixed + functional.interpolate(above, size=mixed.shape[-2:])
            above = mixing(functional.relu(mixed))
        # In bfloat16, as under mixed precision, places would be rounded to a pixel.
        return mean_places(self.maps(above).float())


def mean_places(maps: Tensor) -> Tensor:
    """The mean place (N, L, 2) of each map (N, L, H, W) after a softmax over its cells."""
    *_, height, width = maps.shape
    shares = maps.flatten(2).softmax(dim=-1).reshape(maps.shape)
    x, y = (
        (torch.arange(count, device=maps.device) + 0.5) * (2 / count) - 1
        for count in (width, height)
    )
    return torch.stack([(shares.sum(dim=2) * x).sum(-1), (shares.sum(dim=3) * y).sum(-1)], dim=-1)
