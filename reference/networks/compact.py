"""The compact extractor: a small network of blocks for one gray crop of about 112×112.

Arithmetic stands where the compiled engine is fast: quickly down to 28×28, then separable
blocks and inverted residuals. A depthwise convolution over the whole last map takes the place
of average pooling: it keeps where a feature was seen (as in MobileFaceNets, arXiv 1804.07573).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.networks.backbone import Backbone
from reference.networks.blocks import Activation, ConvolutionBlock
from reference.networks.looks import LookSettings, look_again, make_looks

#: Looks read the features of so many sizes, those before the last.
LOOK_SIZES = 2


class CompactExtractor(nn.Module):
    """Images (N, 1, side, side) → (N, output_count), or with looks landmarks (N, L, 2).

    After the blocks: ``wide_channels`` by a pointwise convolution, the whole map collapsed to one
    number a channel, ``end_channels`` by another pointwise one, and a dense layer; a count of 0
    leaves its layer out. With looks the dense layer gives points in the network's coordinates,
    ``output_count`` = 2·L, and each look moves them.
    """

    def __init__(
        self,
        backbone: Backbone,
        output_count: int,
        activation: Activation = "relu",
        end_channels: int = 0,
        *,
        wide_channels: int = 0,
        end_activation: Activation | None = None,
        looks: LookSettings | None = None,
    ) -> None:
        super().__init__()
        self.blocks = backbone
        self.looks: nn.ModuleList | None = None
        if looks is not None:
            places = backbone.stages[:-1][-LOOK_SIZES:]
            if not places:
                raise ValueError("looks need blocks of two sizes at least")
            look_channels = [backbone.settings[place].channels for place in places]
            self.looks = make_looks(looks, look_channels, output_count // 2)
        channels = backbone.channels
        self.wide: nn.Module = nn.Identity()
        if wide_channels:
            self.wide = ConvolutionBlock(channels, wide_channels, 1, activation=activation)
            channels = wide_channels
        self.collapse = ConvolutionBlock(
            channels, channels, backbone.side_px, groups=channels, padding=0, activation="none"
        )
        self.hidden: nn.Module = nn.Identity()
        if end_channels:
            self.hidden = ConvolutionBlock(
                channels, end_channels, 1, activation=end_activation or activation
            )
        self.dense = nn.Linear(end_channels or channels, output_count)
        nn.init.zeros_(self.dense.bias)
        nn.init.normal_(self.dense.weight, std=0.01)

    @torch.no_grad()
    def begin_with(self, points: Tensor) -> None:
        """Have the dense layer of an untrained network with looks give these points (L, 2)."""
        self.dense.bias.copy_(points.flatten())

    def forward(self, images: Tensor) -> Tensor:
        if self.looks is not None:
            return self.stages_and_collapsed(images)[0][-1]
        return self.from_collapsed(self.collapsed(self.blocks(images)))

    def stages_and_collapsed(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The landmarks, first and after each look; what ``collapsed`` gives, joined with what the
        last look read."""
        assert self.looks is not None
        features = self.blocks.of_each_stage(images)
        collapsed = self.collapsed(features[-1])
        first = self.from_collapsed(collapsed).view(len(images), -1, 2)
        # Not in bfloat16, as they come under mixed precision: half a pixel would be lost.
        first = first.to(torch.promote_types(first.dtype, torch.float32))
        return look_again(self.looks, features[:-1][-LOOK_SIZES:], first, collapsed)

    def collapsed(self, features: Tensor) -> Tensor:
        """The blocks' features → one number a channel (N, C, 1, 1)."""
        out: Tensor = self.collapse(self.wide(features))
        return out

    def from_collapsed(self, collapsed: Tensor) -> Tensor:
        """What ``collapsed`` gave → (N, output_count)."""
        out: Tensor = self.dense(self.dense_inputs(collapsed))
        return out

    def dense_inputs(self, collapsed: Tensor) -> Tensor:
        """What ``collapsed`` gave → what the last layer reads (N, C)."""
        out: Tensor = self.hidden(collapsed).flatten(1)
        return out
