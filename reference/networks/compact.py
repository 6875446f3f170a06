"""The compact extractor: a small network of blocks for one gray crop of about 112×112.

Arithmetic stands where the compiled engine is fast: quickly down to 28×28, then separable
blocks and inverted residuals. A depthwise convolution over the whole last map takes the place
of average pooling: it keeps where a feature was seen (as in MobileFaceNets, arXiv 1804.07573).
"""

from __future__ import annotations

from torch import Tensor, nn

from reference.networks.backbone import Backbone
from reference.networks.blocks import Activation, ConvolutionBlock


class CompactExtractor(nn.Module):
    """Images (N, 1, side, side) → (N, output_count).

    After the blocks: ``wide_channels`` by a pointwise convolution, the whole map collapsed to one
    number a channel, ``end_channels`` by another pointwise one, and a dense layer; a count of 0
    leaves its layer out.
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
    ) -> None:
        super().__init__()
        self.blocks = backbone
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

    def forward(self, images: Tensor) -> Tensor:
        return self.from_collapsed(self.collapsed(self.blocks(images)))

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
