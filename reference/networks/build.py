"""From a recipe's settings to a network."""

from __future__ import annotations

import typing

from torch import nn

from reference.networks.backbone import Backbone, block_settings
from reference.networks.blocks import Activation
from reference.networks.compact import CompactExtractor
from reference.networks.imagenet import load_lite0, read_lite0
from reference.networks.looks import LookSettings
from reference.networks.maps import MapExtractor
from reference.networks.original import SIDE_PX, Norm, OriginalExtractor
from reference.recipe import NetworkSettings, RecipeError


def build_extractor(
    settings: NetworkSettings, output_count: int, landmark_count: int = 68
) -> nn.Module:
    """The extractor that a recipe names; RecipeError says which setting is off."""
    try:
        return _extractor(settings, output_count, landmark_count)
    except ValueError as error:
        raise RecipeError(f"[network] {error}") from None


def _extractor(settings: NetworkSettings, output_count: int, landmark_count: int) -> nn.Module:
    if settings.extractor == "original":
        if settings.side_px != SIDE_PX:
            raise ValueError(f"the original extractor needs side_px = {SIDE_PX}")
        if settings.norm not in typing.get_args(Norm):
            raise ValueError(f"norm must be one of {typing.get_args(Norm)}, not {settings.norm!r}")
        return OriginalExtractor(output_count, typing.cast(Norm, settings.norm))
    if settings.extractor not in ("compact", "maps"):
        raise ValueError(f"extractor must be compact, maps or original, not {settings.extractor!r}")
    activation = _activation("activation", settings.activation)
    blocks = [block_settings(dict(entry)) for entry in settings.blocks]
    backbone = Backbone(settings.side_px, blocks, activation)
    looks = None
    if settings.looks:
        looks = LookSettings(settings.looks, settings.look_channels, settings.look_rank)
    if settings.extractor == "maps":
        if not settings.map_channels:
            raise ValueError("the maps extractor needs map_channels")
        return MapExtractor(backbone, settings.map_channels, landmark_count, looks)
    return CompactExtractor(
        backbone,
        output_count if looks is None else 2 * landmark_count,
        activation,
        settings.end_channels,
        wide_channels=settings.wide_channels,
        end_activation=_activation("end_activation", settings.end_activation or activation),
        looks=looks,
    )


def _activation(key: str, name: str) -> Activation:
    if name not in typing.get_args(Activation):
        raise ValueError(f"{key} must be one of {typing.get_args(Activation)}, not {name!r}")
    return typing.cast(Activation, name)


def start_from_imagenet(extractor: nn.Module) -> None:
    """Give the blocks of which the recipe says so ImageNet's weights; RecipeError if that fails."""
    if not isinstance(extractor, CompactExtractor | MapExtractor):
        return
    started = {
        settings.lite0: block
        for settings, block in zip(extractor.blocks.settings, extractor.blocks, strict=True)
        if settings.lite0
    }
    if started:
        try:
            load_lite0(started, read_lite0())
        except ValueError as error:
            raise RecipeError(f"[network] {error}") from None
