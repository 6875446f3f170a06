"""A training run's state in one file: enough to go on, and enough to evaluate and export."""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from reference.atomic import write_atomically
from reference.data.markup import IBUG68, Markup
from reference.data.markup import from_values as markup_from_values
from reference.networks.build import build_extractor
from reference.networks.quality import QualityHead
from reference.networks.shapenet import TRANSFORM_COUNT, ShapeNet
from reference.recipe import Recipe, from_values, to_values

FORMAT = "npshapenet checkpoint 1"
#: What torch.load raises, beside its own, for files that were cut, overwritten or made up.
DAMAGED_FILE_ERRORS = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)
SHAPE_MODEL_KEYS = ("mean", "components", "parameter_scales", "parameter_offsets", "limits")


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours; the message names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """``averaged`` are the weights to use, ``model`` and ``optimizer`` those to train on from.

    ``step`` is the number of steps done; ``log`` has a row of figures for each validation;
    ``data`` says which files were trained on (base name, faces, weight). ``running_loss`` is
    NaN before the first step. ``quality`` is the state of a quality head, once one is trained.
    ``markup`` says what the landmarks are; the file has it where they aren't iBUG's.
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
    running_loss: float = math.nan
    quality: Mapping[str, Tensor] | None = None
    markup: Markup = IBUG68

    @property
    def extractor(self) -> str:
        """ "compact" or "original"."""
        return self.recipe.network.extractor

    @property
    def side_px(self) -> int:
        """The side of what the network reads."""
        return self.recipe.network.side_px

    def network(self) -> ShapeNet:
        """The network with the averaged weights, in evaluation mode, on the CPU."""
        network = build_network(self.recipe, self.shape_model)
        network.load_state_dict(dict(self.averaged))
        if self.quality is not None:
            network.quality = quality_head(self.quality)
        return network.eval()


def build_network(recipe: Recipe, shape_model: Mapping[str, Tensor]) -> ShapeNet:
    """An untrained network of a recipe around a shape model (the SHAPE_MODEL_KEYS)."""
    output_count = len(shape_model["components"]) + TRANSFORM_COUNT
    landmark_count = len(shape_model["mean"])
    extractor = build_extractor(recipe.network, output_count, landmark_count)
    return ShapeNet(extractor, *(shape_model[key] for key in SHAPE_MODEL_KEYS))


def quality_head(state: Mapping[str, Tensor]) -> QualityHead:
    """The head of a checkpoint's ``quality``."""
    hidden_channels, channels = state["hidden.weight"].shape
    head = QualityHead(channels, hidden_channels)
    head.load_state_dict(dict(state))
    return head


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    values = {key: getattr(checkpoint, key) for key in Checkpoint.__dataclass_fields__}
    values["recipe"] = to_values(checkpoint.recipe)
    if values.pop("markup") != IBUG68:
        values["markup"] = checkpoint.markup.to_values()
    values["format"] = FORMAT

    def write(file: BinaryIO) -> None:
        torch.save(values, file)

    write_atomically(path, write)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint without running anything in it; CheckpointError if it is none."""
    return from_stored(path, read_file(path))


def read_file(path: Path) -> Any:
    """What ``torch.save`` put into a file, without running anything in it.

    CheckpointError if there is anything but plain values and tensors, or nothing readable.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except pickle.UnpicklingError:
        # PyTorch's own line advises to load with weights_only=False, which would run what is in it.
        raise CheckpointError(
            f"{path}: not a checkpoint, or damaged, or more in it than tensors and plain values"
        ) from None
    except DAMAGED_FILE_ERRORS as error:
        raise CheckpointError(f"{path}: not a checkpoint: {first_line(error)}") from None


def is_ours(values: object) -> bool:
    """Whether the content of a file is a checkpoint of reference.train."""
    return isinstance(values, dict) and values.get("format") == FORMAT


def from_stored(path: Path, values: Any) -> Checkpoint:
    """The checkpoint that ``save`` wrote as these values; CheckpointError if it is none."""
    if not is_ours(values):
        raise CheckpointError(f"{path}: not a checkpoint of reference.train")
    values = {key: value for key, value in values.items() if key != "format"}
    try:
        values["recipe"] = from_values(values["recipe"])
        if "markup" in values:
            values["markup"] = markup_from_values(values["markup"])
        checkpoint = Checkpoint(**values)
        _check(checkpoint)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole checkpoint: {first_line(error)}") from None
    return checkpoint


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check(checkpoint: Checkpoint) -> None:
    """Raise some error if the tensors aren't those of the recipe's network, or not finite."""
    shape_model = checkpoint.shape_model
    if set(shape_model) != set(SHAPE_MODEL_KEYS):
        raise ValueError(f"its shape model has {', '.join(shape_model)}")
    landmark_count = checkpoint.markup.point_count
    score_count = len(shape_model["components"])
    shapes = {
        "mean": (landmark_count, 2),
        "components": (score_count, landmark_count, 2),
        "parameter_scales": (score_count + TRANSFORM_COUNT,),
        "parameter_offsets": (score_count + TRANSFORM_COUNT,),
        "limits": (2, score_count + TRANSFORM_COUNT),
    }
    for key, shape in shapes.items():
        if shape_model[key].shape != shape:
            raise ValueError(f"{key} is {tuple(shape_model[key].shape)} in place of {shape}")
    if checkpoint.quality is not None:
        quality_head(checkpoint.quality)
        if not all(torch.isfinite(tensor).all() for tensor in checkpoint.quality.values()):
            raise ValueError("quality: numbers that are not finite")
    # Without memory for its weights, so that no recipe can ask for more than the file holds.
    with torch.device("meta"):
        network = build_network(checkpoint.recipe, shape_model)
    for name, state in (("averaged", checkpoint.averaged), ("model", checkpoint.model)):
        # The sizes are compared; a whole line for each that differs would be too much.
        try:
            network.load_state_dict(dict(state), assign=True)
        except RuntimeError:
            raise ValueError(f"{name}: tensors that are not those of the recipe") from None
        if not all(torch.isfinite(tensor).all() for tensor in state.values()):
            raise ValueError(f"{name}: numbers that are not finite")
