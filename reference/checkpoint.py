"""A training run's state in one file: enough to go on, and enough to evaluate and export."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from reference.atomic import write_atomically
from reference.networks.build import build_extractor
from reference.networks.shapenet import TRANSFORM_COUNT, ShapeNet
from reference.recipe import Recipe, from_values, to_values

FORMAT = "npshapenet checkpoint 1"
SHAPE_MODEL_KEYS = ("mean", "components", "parameter_scales", "parameter_offsets")


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours; the message names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """``averaged`` are the weights to use, ``model`` and ``optimizer`` those to train on from.

    ``step`` is the number of steps done; ``log`` has a row of figures for each validation;
    ``data`` says which files were trained on (base name, faces, weight).
    """

    recipe: Recipe
    shape_model: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    step: int
    average_count: int
    best_percent: float
    crop_factor: float
    data: tuple[Mapping[str, Any], ...]
    log: tuple[Mapping[str, float], ...]

    def network(self) -> ShapeNet:
        """The network with the averaged weights, in evaluation mode, on the CPU."""
        network = build_network(self.recipe, self.shape_model)
        network.load_state_dict(dict(self.averaged))
        return network.eval()


def build_network(recipe: Recipe, shape_model: Mapping[str, Tensor]) -> ShapeNet:
    """An untrained network of a recipe around a shape model (the four SHAPE_MODEL_KEYS)."""
    output_count = len(shape_model["components"]) + TRANSFORM_COUNT
    extractor = build_extractor(recipe.network, output_count)
    return ShapeNet(extractor, *(shape_model[key] for key in SHAPE_MODEL_KEYS))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    values = {key: getattr(checkpoint, key) for key in Checkpoint.__dataclass_fields__}
    values["recipe"] = to_values(checkpoint.recipe)
    values["format"] = FORMAT

    def write(file: BinaryIO) -> None:
        torch.save(values, file)

    write_atomically(path, write)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint without running anything in it; CheckpointError if it is none."""
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a checkpoint: {reason}") from None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of reference.train")
    try:
        values["recipe"] = from_values(values["recipe"])
        return Checkpoint(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole checkpoint: {error}") from None
