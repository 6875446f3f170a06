"""The blocks that a recipe lists, one after the other: what every extractor of ours begins with."""

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

BLOCK_TYPES = ("convolution", "separable", "linear_separable", "inverted")


@dataclass(frozen=True)
class BlockSettings:
    """One block: ``type`` is one of BLOCK_TYPES; ``hidden`` is for inverted.

    ``lite0`` is the number of the block of EfficientNet-Lite0 whose weights it starts from, 1 for
    the stem; 0: from random ones.
    """

    type: str
    channels: int
    stride: int = 1
    kernel: int = 3
    hidden: int = 0
    lite0: int = 0


class Backbone(nn.Sequential):
    """Images (N, 1, side, side) → features (N, ``channels``, ``side_px``, ``side_px``).

    ``stages`` are the places of the blocks after which the features shrink, and of the last one.
    """

    def __init__(
        self, side_px: int, blocks: Sequence[BlockSettings], activation: Activation
    ) -> None:
        modules: list[nn.Module] = []
        stages: list[int] = []
        channels, size = 1, side_px
        for place, settings in enumerate(blocks):
            modules.append(_block(channels, settings, activation))
            if settings.stride > 1 and place:
                stages.append(place - 1)
            channels, size = settings.channels, -(-size // settings.stride)
        super().__init__(*modules)
        self.channels, self.side_px = channels, size
        self.stages = [*stages, len(blocks) - 1]
        self.settings = tuple(blocks)

    def of_each_stage(self, images: Tensor) -> list[Tensor]:
        """The features after each stage, the largest first."""
        features = images
        kept = []
        for place, block in enumerate(self):
            features = block(features)
            if place in self.stages:
                kept.append(features)
        return kept


def _block(in_channels: int, settings: BlockSettings, activation: Activation) -> nn.Module:
    if settings.type == "convolution":
        return ConvolutionBlock(
            in_channels,
            settings.channels,
            settings.kernel,
            stride=settings.stride,
            activation=activation,
        )
    if settings.type in ("separable", "linear_separable"):
        return SeparableBlock(
            in_channels,
            settings.channels,
            settings.kernel,
            settings.stride,
            activation,
            is_linear=settings.type == "linear_separable",
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
    raise ValueError(f"a block's type is one of {', '.join(BLOCK_TYPES)}, not {settings.type!r}")


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
