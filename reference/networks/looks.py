"""Looks: points that were found are looked at again, where they lie, and moved.

One row of numbers, or a coarse map, says about where a landmark is; what the features hold right
there says how far off that was. So a shape is first guessed, then corrected by what is seen
around its own points, a few times (shape-indexed features: Cao et al., Face Alignment by Explicit
Shape Regression, CVPR 2012; with learnt features, Trigeorgis et al., Mnemonic Descent Method, CVPR
2016). It costs little: features are read at a few hundred places, not computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from reference.networks.blocks import ConvolutionBlock

#: Where around each point a look reads: there, and to its four sides; 1 is half the crop's side.
OFFSETS: Final = ((0.0, 0.0), (0.08, 0.0), (-0.08, 0.0), (0.0, 0.08), (0.0, -0.08))
#: What a look gives is multiplied by that: learnt at the pace of the layers before it, its moves,
#: a few hundredths of the crop, would overshoot.
MOVE_SCALE: Final = 0.1


@dataclass(frozen=True)
class LookSettings:
    """How many looks, the channels that each makes of a point's surroundings, and the ``rank`` of
    the matrix from those of all points to their moves."""

    count: int
    channels: int
    rank: int


class Look(nn.Module):
    """Points (N, L, 2) → points nearer to the landmarks, by the features around each.

    The features at OFFSETS from a point become one number a channel (``patch``, each channel by
    itself), then ``channels`` numbers (``point``, the same for all points); all of them together
    say where every point goes, as a face's points go together (``narrow`` and ``move``).
    """

    offsets: Tensor

    def __init__(
        self, feature_channels: Sequence[int], settings: LookSettings, landmark_count: int
    ) -> None:
        super().__init__()
        channels = sum(feature_channels)
        self.feature_channels = tuple(feature_channels)
        self.register_buffer("offsets", torch.tensor(OFFSETS), persistent=False)
        self.patch = ConvolutionBlock(
            channels,
            channels,
            (len(OFFSETS), 1),
            groups=channels,
            activation="hard_swish",
            padding=0,
        )
        self.point = ConvolutionBlock(channels, settings.channels, 1, activation="hard_swish")
        self.narrow = nn.Linear(landmark_count * settings.channels, settings.rank, bias=False)
        self.move = nn.Linear(settings.rank, 2 * landmark_count)
        nn.init.zeros_(self.move.bias)
        nn.init.normal_(self.move.weight, std=0.02)

    def forward(self, features: Sequence[Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
        """The points, moved, and the mean over all points of what was read (N, C, 1, 1)."""
        around = torch.cat([sample_around(part, points, self.offsets) for part in features], dim=1)
        read = self.patch(around)
        moves = self.move(self.narrow(self.point(read).flatten(1)))
        return points + MOVE_SCALE * moves.view(points.shape), read.mean(dim=(2, 3), keepdim=True)


def make_looks(
    settings: LookSettings, feature_channels: Sequence[int], landmark_count: int
) -> nn.ModuleList:
    """The looks, one after the other; each reads features of so many channels."""
    return nn.ModuleList(
        Look(feature_channels, settings, landmark_count) for _ in range(settings.count)
    )


def look_again(
    looks: Iterable[nn.Module], features: Sequence[Tensor], points: Tensor, collapsed: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The points (N, L, 2) as they come and after each look; and ``collapsed`` (N, C, 1, 1) joined
    with what the last look read, for a quality head."""
    stages, read = [points], []
    for look in looks:
        points, mean = look(features, points)
        stages.append(points)
        read = [mean]
    return stages, torch.cat([collapsed, *read], dim=1)


def sample_around(features: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
    """Features (N, C, H, W) at points (N, L, 2) + offsets (S, 2), between pixels: (N, C, S, L)."""
    # In bfloat16, as under mixed precision, places would be rounded to a pixel.
    dtype = torch.promote_types(features.dtype, torch.float32)
    places = (points[:, None] + offsets[:, None]).to(dtype)
    return functional.grid_sample(
        features.to(dtype), places, mode="bilinear", padding_mode="border", align_corners=False
    )
