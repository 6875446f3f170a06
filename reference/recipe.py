"""The settings of a training run, read from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reference.data.augment import Augmentation
from reference.data.markup import Markup


class RecipeError(ValueError):
    """A recipe that can't be used; the message names the file and the key."""


@dataclass(frozen=True)
class ShapeModelSettings:
    """``components`` (K) or ``variance_kept``, and the alignment before PCA."""

    components: int | None = None
    variance_kept: float | None = None
    alignment: str = "similarity"


@dataclass(frozen=True)
class NetworkSettings:
    """``extractor`` is compact, maps or original.

    ``blocks`` and ``activation`` are the first two's, ``norm`` the last one's. ``end_channels``,
    ``wide_channels`` and ``end_activation``, that after the end channels where it is another, are
    the compact one's; ``map_channels`` the maps one's. Both may have ``looks``: how many, and the
    channels and rank of each (``reference.networks.looks``).
    """

    extractor: str = "compact"
    side_px: int = 112
    activation: str = "relu"
    end_channels: int = 0
    end_activation: str = ""
    wide_channels: int = 0
    map_channels: int = 0
    looks: int = 0
    look_channels: int = 16
    look_rank: int = 48
    norm: str = "instance"
    blocks: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast: rates are those of AdamW, decay that of the averaged weights.

    ``steady_weight``: each face is also shown moved by up to ``steady_shift_px``, and what its
    points then differ by counts so much beside their errors; 0: it isn't.
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up_epochs: float = 2.0
    average_decay: float = 0.999
    loss_width: float = 0.1
    loss_curvature: float = 0.02
    gradient_norm_max: float = 5.0
    steady_weight: float = 0.0
    steady_shift_px: float = 1.0
    held_out: int = 100
    validate_every_epochs: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """All settings of a run, but for its data and its folder."""

    name: str
    shape_model: ShapeModelSettings = field(default_factory=ShapeModelSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)


SECTIONS = {
    "shape_model": ShapeModelSettings,
    "network": NetworkSettings,
    "training": TrainingSettings,
    "augmentation": Augmentation,
}


#: The smallest values of settings that can't be 0, and what no setting reaches.
LEAST = {
    "components": 1,
    "side_px": 16,
    "look_channels": 1,
    "look_rank": 1,
    "epochs": 1,
    "batch_size": 1,
    "validate_every_epochs": 1,
    "loss_width": 1e-6,
    "loss_curvature": 1e-6,
    "gradient_norm_max": 1e-6,
}
LIMIT = 1 << 31


def read_recipe(path: Path) -> Recipe:
    """Read a TOML recipe; RecipeError names what is unknown or of the wrong type.

    With ``base``, another recipe beside it, a recipe only says what is different from that one.
    """
    values = _read(path)
    if "base" in values:
        values = _changed(_read(path.parent / str(values.pop("base"))), values)
    values.setdefault("name", path.stem)
    try:
        return from_values(values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: not a recipe in TOML: {error}") from None


def _changed(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with others in their place, section by section and key by key."""
    changed = dict(base)
    for key, value in values.items():
        is_section = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        changed[key] = {**base[key], **value} if is_section else value
    return changed


def from_values(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as TOML or a checkpoint holds them."""
    if unknown := set(values) - set(SECTIONS) - {"name"}:
        raise RecipeError(
            f"a recipe has name, {', '.join(SECTIONS)}, not {', '.join(sorted(unknown))}"
        )
    sections = {
        section: _settings(section, settings_type, values.get(section, {}))
        for section, settings_type in SECTIONS.items()
    }
    return Recipe(name=str(values["name"]), **sections)


def check_mirror(recipe: Recipe, markup: Markup) -> None:
    """RecipeError where faces are to be mirrored of which the markup has no mirror."""
    share = recipe.augmentation.mirror_share
    if share and markup.mirror is None:
        raise RecipeError(
            f"[augmentation] mirror_share is {share:g}, but the markup {markup.name} has no "
            "mirror: write mirror_share = 0 into the recipe, or prepare the faces with a markup "
            "that says which point each becomes"
        )


def to_values(recipe: Recipe) -> dict[str, Any]:
    """Plain values, for a checkpoint or a settings file; None is left out."""
    values = dataclasses.asdict(recipe)
    values["network"]["blocks"] = [dict(block) for block in recipe.network.blocks]
    for section in SECTIONS:
        values[section] = {k: v for k, v in values[section].items() if v is not None}
    return values


def _settings(section: str, settings_type: Any, values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise RecipeError(f"[{section}] must be a table, not {values!r}")
    fields = {item.name: item for item in dataclasses.fields(settings_type)}
    if unknown := set(values) - set(fields):
        raise RecipeError(
            f"[{section}] has {', '.join(sorted(fields))}, not {', '.join(sorted(unknown))}"
        )
    return settings_type(
        **{key: _value(f"[{section}] {key}", fields[key], value) for key, value in values.items()}
    )


def _value(where: str, item: Any, value: Any) -> Any:
    annotation = str(item.type)
    if annotation.startswith("tuple"):
        if not isinstance(value, list | tuple) or not all(isinstance(v, Mapping) for v in value):
            raise RecipeError(f"{where} must be a list of tables, not {value!r}")
        return tuple(dict(entry) for entry in value)
    accepted: Any = str
    if annotation.startswith("float"):
        accepted = int | float
    elif annotation.startswith("int"):
        accepted = int
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise RecipeError(f"{where} must be of type {annotation}, not {value!r}")
    if accepted is str:
        return value
    least = LEAST.get(item.name, 0)
    if not least <= value < LIMIT:
        raise RecipeError(f"{where} must be a number from {least:g} on, not {value!r}")
    if item.name.endswith("_share") and value > 1:
        raise RecipeError(f"{where} is a probability: 0 to 1, not {value!r}")
    return float(value) if accepted == int | float else value
