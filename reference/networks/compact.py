"""The compact extractor: a small network of blocks for one gray crop of about 112×112.

Arithmetic stands where the compiled engine is fast: quickly down to 28×28, then separable
blocks and inverted residuals. A depthwise convolution over the whole last map takes the place
of average pooling: it keeps where a feature was seen (as in MobileFaceNets, arXiv 1804.07573).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from reference.networks.blocks import (
    Activation,
    ConvolutionBlock,
    InvertedResidual,
    SeparableBlock,
)
from reference.networks.imagenet import load_lite0, read_lite0
from reference.networks.maps import MapHead

BLOCK_TYPES = ("convolution", "separable", "linear_separable", "inverted")
#: The map head reads the last features of so many sizes.
MAP_SIZES = 3


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


class CompactExtractor(nn.Module):
    """Images (N, 1, side, side) → (N, output_count).

    After the blocks: ``wide_channels`` by a pointwise convolution, the whole map collapsed to one
    number a channel, ``end_channels`` by another pointwise one, and a dense layer; a count of 0
    leaves its layer out. With ``map_channels`` it also has a map head, for training.
    """

    def __init__(
        self,
        side_px: int,
        output_count: int,
        blocks: Sequence[BlockSettings],
        activation: Activation = "relu",
        end_channels: int = 0,
        *,
        wide_channels: int = 0,
        end_activation: Activation | None = None,
        map_channels: int = 0,
        landmark_count: int = 68,
    ) -> None:
        super().__init__()
        channels, size = 1, side_px
        modules: list[nn.Module] = []
        sizes: list[int] = []
        for settings in blocks:
            modules.append(_block(channels, settings, activation))
            channels, size = settings.channels, -(-size // settings.stride)
            sizes.append(size)
        self.blocks = nn.Sequential(*modules)
        self.maps: MapHead | None = None
        self.map_sources = _last_of_each_size(sizes)[-MAP_SIZES:] if map_channels else []
        if map_channels:
            self.maps = MapHead(
                [blocks[place].channels for place in self.map_sources], map_channels, landmark_count
            )
        self.wide: nn.Module = nn.Identity()
        if wide_channels:
            self.wide = ConvolutionBlock(channels, wide_channels, 1, activation=activation)
            channels = wide_channels
        self.collapse = ConvolutionBlock(
            channels, channels, size, groups=channels, padding=0, activation="none"
        )
        self.hidden: nn.Module = nn.Identity()
        if end_channels:
            self.hidden = ConvolutionBlock(
                channels, end_channels, 1, activation=end_activation or activation
            )
        self.dense = nn.Linear(end_channels or channels, output_count)
        nn.init.zeros_(self.dense.bias)
        nn.init.normal_(self.dense.weight, std=0.01)

    def start_from_imagenet(self, blocks: Sequence[BlockSettings]) -> None:
        """Give the blocks that say so the weights of EfficientNet-Lite0's.

        ValueError where they don't fit, or aren't installed.
        """
        started = {
            settings.lite0: module
            for settings, module in zip(blocks, self.blocks, strict=True)
            if settings.lite0
        }
        if started:
            load_lite0(started, read_lite0())

    def forward(self, images: Tensor) -> Tensor:
        return self.from_collapsed(self.collapsed(self.blocks(images)))

    def with_maps(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """As ``forward``, and the landmarks (N, L, 2) of the map head, None where there is none."""
        features = images
        sources = []
        for place, block in enumerate(self.blocks):
            features = block(features)
            if place in self.map_sources:
                sources.append(features)
        landmarks = self.maps(sources) if self.maps is not None else None
        return self.from_collapsed(self.collapsed(features)), landmarks

    def collapsed(self, features: Tensor) -> Tensor:
        """The blocks' features → one number a channel (N, C, 1, 1)."""
        out: Tensor = self.collapse(self.wide(features))
        return out

    def from_collapsed(self, collapsed: Tensor) -> Tensor:
        """What ``collapsed`` gave → (N, output_count)."""
        out: Tensor = self.dense(self.hidden(collapsed).flatten(1))
        return out


def _last_of_each_size(sizes: Sequence[int]) -> list[int]:
    """The places of the blocks after which the features shrink, and of the last one."""
    shrinking = [
        place for place, (one, other) in enumerate(itertools.pairwise(sizes)) if other < one
    ]
    return [*shrinking, len(sizes) - 1]


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
