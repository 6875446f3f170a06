"""From a recipe's settings to a network."""

from __future__ import annotations

import typing

from torch import nn

from reference.networks.blocks import Activation
from reference.networks.compact import CompactExtractor, block_settings
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
    if settings.extractor == "compact":
        if settings.activation not in typing.get_args(Activation):
            raise ValueError(
                f"activation must be one of {typing.get_args(Activation)}, "
                f"not {settings.activation!r}"
            )
        end_activation = settings.end_activation or settings.activation
        if end_activation not in typing.get_args(Activation):
            raise ValueError(
                f"end_activation must be one of {typing.get_args(Activation)}, "
                f"not {settings.end_activation!r}"
            )
        return CompactExtractor(
            settings.side_px,
            output_count,
            [block_settings(dict(entry)) for entry in settings.blocks],
            typing.cast(Activation, settings.activation),
            settings.end_channels,
            wide_channels=settings.wide_channels,
            end_activation=typing.cast(Activation, end_activation),
            map_channels=settings.map_channels,
            landmark_count=landmark_count,
        )
    raise ValueError(f"extractor must be compact or original, not {settings.extractor!r}")


def start_from_imagenet(extractor: nn.Module, settings: NetworkSettings) -> None:
    """Give the blocks of which the recipe says so ImageNet's weights; RecipeError if that fails."""
    if isinstance(extractor, CompactExtractor):
        try:
            extractor.start_from_imagenet([block_settings(dict(each)) for each in settings.blocks])
        except ValueError as error:
            raise RecipeError(f"[network] {error}") from None
