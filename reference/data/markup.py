"""Which points an object is labelled with, and what training and measuring know of them."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from npshapenet.weights import LANDMARKS_MAX
from reference.data.mirror import MIRROR


class MarkupError(ValueError):
    """A markup that doesn't hold together; the message names the key, and the file if there is one.

    It also says what came and what is accepted.
    """


@dataclass(frozen=True)
class Markup:
    """The points of an object, by their numbers from 0.

    ``mirror`` is the point that each becomes in a picture mirrored left to right, or None where
    the object isn't mirrored. The distance of the two ``scale_points`` normalises errors. The line
    from the centre of the first group of ``level_points`` to that of the second tells the tilt:
    first those at the left of the picture of an upright object, then those at the right.
    """

    name: str
    point_count: int
    mirror: tuple[int, ...] | None
    scale_points: tuple[int, int]
    level_points: tuple[tuple[int, ...], tuple[int, ...]]

    def to_values(self) -> dict[str, Any]:
        """Plain values, as TOML, a faces file's meta or a checkpoint hold them."""
        values = dataclasses.asdict(self)
        values["scale_points"] = list(self.scale_points)
        values["level_points"] = [list(group) for group in self.level_points]
        if self.mirror is None:
            del values["mirror"]
        else:
            values["mirror"] = list(self.mirror)
        return values


#: iBUG's 68 points of a face: errors over the distance of the outer eye corners, level by the eyes.
IBUG68: Final = Markup("ibug68", 68, MIRROR, (36, 45), ((36, 39), (42, 45)))


def read_markup(path: Path) -> Markup:
    """Read a markup from a TOML file of the fields of ``Markup``; without ``mirror`` it is None.

    MarkupError names the file, the key, what came and what is accepted.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MarkupError(f"{path}: not a markup in TOML: {error}") from None
    try:
        return from_values(values)
    except MarkupError as error:
        raise MarkupError(f"{path}: {error}") from None


def from_values(values: object) -> Markup:
    """A markup from plain values; MarkupError names the key that is off."""
    if not isinstance(values, Mapping):
        raise MarkupError(f"a markup is a table, not {values!r}")
    keys = [field.name for field in dataclasses.fields(Markup)]
    if unknown := sorted(set(values) - set(keys)):
        raise MarkupError(f"unknown key {unknown[0]}; accepted: {', '.join(keys)}")
    if missing := [key for key in keys if key not in values and key != "mirror"]:
        raise MarkupError(f"{missing[0]} is missing; needed: {', '.join(keys)}, mirror or not")
    name, count = values["name"], values["point_count"]
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise MarkupError(f"name is {name!r}; accepted: a line of text")
    if type(count) is not int or not 2 <= count <= LANDMARKS_MAX:
        raise MarkupError(f"point_count is {count!r}; accepted: 2 to {LANDMARKS_MAX}")
    mirror = _mirror(values["mirror"], count) if "mirror" in values else None
    markup = Markup(
        name,
        count,
        mirror,
        _scale_points(values["scale_points"], count),
        _level_points(values["level_points"], count, mirror),
    )
    if name == IBUG68.name and markup != IBUG68:
        raise MarkupError(f"name {name!r} is that of iBUG's points; accepted: another")
    return markup


def _points(value: object, count: int) -> tuple[int, ...] | None:
    """Different points of a list, or None where it is no such list."""
    if not isinstance(value, list) or any(type(point) is not int for point in value):
        return None
    is_whole = len(set(value)) == len(value) and all(0 <= point < count for point in value)
    return tuple(value) if is_whole else None


def _mirror(value: object, count: int) -> tuple[int, ...]:
    mirror = _points(value, count)
    accepted = f"accepted: each of 0 to {count - 1} once, the point that it becomes in the mirror"
    if mirror is None or len(mirror) != count:
        raise MarkupError(f"mirror is {_shortened(value)}; {accepted}")
    for point, becomes in enumerate(mirror):
        if mirror[becomes] != point:
            raise MarkupError(
                f"mirror makes {point} of {becomes}, but not {becomes} of {point}; {accepted}, "
                "and back in a second one"
            )
    return mirror


def _scale_points(value: object, count: int) -> tuple[int, int]:
    points = _points(value, count)
    if points is None or len(points) != 2:
        raise MarkupError(
            f"scale_points is {_shortened(value)}; accepted: two different points of 0 to "
            f"{count - 1}"
        )
    return points[0], points[1]


def _level_points(
    value: object, count: int, mirror: tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    groups = value if isinstance(value, list) and len(value) == 2 else []
    left, right = (_points(group, count) for group in groups) if groups else (None, None)
    if not left or not right or set(left) & set(right):
        raise MarkupError(
            f"level_points is {_shortened(value)}; accepted: two lists of points of 0 to "
            f"{count - 1}, those at the left and those at the right, none in both"
        )
    if mirror is not None:
        sides = {frozenset(left), frozenset(right)}
        if {frozenset(mirror[point] for point in side) for side in sides} != sides:
            raise MarkupError(
                f"level_points is {_shortened(value)}; accepted: two lists that mirror turns into "
                "each other, or each into itself"
            )
    return left, right


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
