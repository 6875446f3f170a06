"""The map extractor: a map of where each landmark lies, and the mean place in it.

A map has to say for every place whether the landmark is there: each face teaches the blocks before
it far more than one row of parameters does, and what is found moves with the face.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from reference.networks.backbone import Backbone
from reference.networks.blocks import ConvolutionBlock, SeparableBlock
from reference.networks.looks import LookSettings, look_again, make_looks

#: The map head reads the last features of so many sizes.
MAP_SIZES = 3


class MapExtractor(nn.Module):
    """Images (N, 1, side, side) → landmarks (N, L, 2) in the network's coordinates.

    Looks, if there are any, read what the maps are made of and the largest features.
    """

    def __init__(
        self,
        backbone: Backbone,
        map_channels: int,
        landmark_count: int,
        looks: LookSettings | None = None,
    ) -> None:
        super().__init__()
        self.blocks = backbone
        channels = [backbone.settings[place].channels for place in backbone.stages[-MAP_SIZES:]]
        self.maps = MapHead(channels, map_channels, landmark_count)
        self.looks: nn.ModuleList | None = None
        if looks is not None:
            self.looks = make_looks(looks, [map_channels, channels[0]], landmark_count)

    def forward(self, images: Tensor) -> Tensor:
        return self.stages_and_collapsed(images)[0][-1]

    def stages_and_collapsed(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The landmarks, first and after each look; the mean of each channel of the last features,
        joined with what the last look read (N, C, 1, 1)."""
        features = self.blocks.of_each_stage(images)[-MAP_SIZES:]
        mixed = self.maps.mixed(features)
        first = mean_places(self.maps.maps(mixed))
        collapsed = features[-1].mean(dim=(2, 3), keepdim=True)
        return look_again(self.looks or (), [mixed, features[0]], first, collapsed)


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
        return mean_places(self.maps(self.mixed(features)))

    def mixed(self, features: Sequence[Tensor]) -> Tensor:
        """Features of several sizes, the largest first → what the maps are made of."""
        levels = list(zip(features, self.lateral, self.mixing, strict=True))[::-1]
        above: Tensor | None = None
        for level, lateral, mixing in levels:
            mixed = lateral(level)
            if above is not None:
                mixed = mixed + functional.interpolate(above, size=mixed.shape[-2:])
            above = mixing(functional.relu(mixed))
        assert above is not None
        return above


def mean_places(maps: Tensor) -> Tensor:
    """The mean place (N, L, 2) of each map (N, L, H, W) after a softmax over its cells."""
    # In bfloat16, as under mixed precision, places would be rounded to a pixel.
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    *_, height, width = maps.shape
    shares = maps.flatten(2).softmax(dim=-1).reshape(maps.shape)
    x, y = (
        (torch.arange(count, device=maps.device) + 0.5) * (2 / count) - 1
        for count in (width, height)
    )
    return torch.stack([(shares.sum(dim=2) * x).sum(-1), (shares.sum(dim=3) * y).sum(-1)], dim=-1)
