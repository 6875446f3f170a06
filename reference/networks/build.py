"""From a recipe's settings to a network."""

from __future__ import annotations

import typing

from torch import nn

from reference.networks.blocks import Activation
from reference.networks.compact import CompactExtractor, block_settings
from reference.networks.original import SIDE_PX, Norm, OriginalExtractor
from reference.recipe import NetworkSettings, RecipeError


def build_extractor(settings: NetworkSettings, output_count: int) -> nn.Module:
    """The extractor that a recipe names; RecipeError says which setting is off."""
    try:
        return _extractor(settings, output_count)
    except ValueError as error:
        raise RecipeError(f"[network] {error}") from None


def _extractor(settings: NetworkSettings, output_count: int) -> nn.Module:
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
        return CompactExtractor(
            settings.side_px,
            output_count,
            [block_settings(dict(entry)) for entry in settings.blocks],
            typing.cast(Activation, settings.activation),
            settings.end_channels,
        )
    raise ValueError(f"extractor must be compact or original, not {settings.extractor!r}")
