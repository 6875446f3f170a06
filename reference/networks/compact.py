"""The compact extractor: a small network of our own for one gray crop of about 112×112.

Arithmetic stands where the compiled engine is fast: quickly down to 28×28, then separable
blocks and inverted residuals with channels in multiples of 16. A depthwise convolution over
the whole last map takes the place of average pooling: it keeps where a feature was seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from reference.networks.blocks import (
    Activation,
    ConvolutionBlock,
    InvertedResidual,
    SeparableBlock,
)


@dataclass(frozen=True)
class BlockSettings:
    """One block: ``type`` is convolution, separable or inverted; ``hidden`` is for inverted."""

    type: str
    channels: int
    stride: int = 1
    kernel: int = 3
    hidden: int = 0


class CompactExtractor(nn.Module):
    """Images (N, 1, side, side) → (N, output_count)."""

    def __init__(
        self,
        side_px: int,
        output_count: int,
        blocks: Sequence[BlockSettings],
        activation: Activation = "relu",
        end_channels: int = 0,
    ) -> None:
        super().__init__()
        channels, size = 1, side_px
        modules: list[nn.Module] = []
        for settings in blocks:
            modules.append(_block(channels, settings, activation))
            channels, size = settings.channels, -(-size // settings.stride)
        self.blocks = nn.Sequential(*modules)
        self.collapse = ConvolutionBlock(
            channels, channels, size, groups=channels, padding=0, activation="none"
        )
        self.hidden = (
            ConvolutionBlock(channels, end_channels, 1, activation=activation)
            if end_channels
            else nn.Identity()
        )
        self.dense = nn.Linear(end_channels or channels, output_count)
        nn.init.zeros_(self.dense.bias)
        nn.init.normal_(self.dense.weight, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        features = self.hidden(self.collapse(self.blocks(images)))
        out: Tensor = self.dense(features.flatten(1))
        return out


def _block(in_channels: int, settings: BlockSettings, activation: Activation) -> nn.Module:
    if settings.type == "convolution":
        return ConvolutionBlock(
            in_channels,
            settings.channels,
            settings.kernel,
            stride=settings.stride,
            activation=activation,
        )
    if settings.type == "separable":
        return SeparableBlock(
            in_channels, settings.channels, settings.kernel, settings.stride, activation
        )
    if settings.type == "inverted":
        return InvertedResidual(
            in_channels,
            settings.channels,
            settings.hidden,
            settings.kernel,
            settings.stride,
            activation,
        )
    raise ValueError(f"a block's type is convolution, separable or inverted, not {settings.type!r}")


def block_settings(entry: dict[str, object]) -> BlockSettings:
    """A block of a recipe; ValueError names the key that is unknown, missing or off."""
    known = [field.name for field in dataclasses.fields(BlockSettings)]
    if unknown := sorted(set(entry) - set(known)):
        raise ValueError(f"a block has {', '.join(known)}, not {', '.join(unknown)}")
    if not {"type", "channels"} <= set(entry):
        raise ValueError(f"a block has type and channels at least, not {entry}")
    for key in set(entry) - {"type"}:
        value = entry[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
            raise ValueError(
                f"a block's {key} must be a whole number from 1 to 4096, not {value!r}"
            )
    settings = BlockSettings(**entry)  # type: ignore[arg-type]
    if settings.kernel % 2 == 0:
        raise ValueError(f"a block's kernel must be odd, not {settings.kernel}")
    if (settings.type == "inverted") != (settings.hidden > 0):
        raise ValueError(f"hidden is for blocks of type inverted, and they need it: {entry}")
    return settings
