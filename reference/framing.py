"""The error against the framing of the face: its box shifted or scaled, the face turned.

`perturbation` changes all at random; here each is changed alone, step by step, and the random mix
is held against the same faces as they are labelled. Sizes: N faces, S steps, D draws.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reference.metrics import interocular_nme_percent
from reference.perturbation import Perturbation, changed_box, turned
from reference.systems import System
from reference.views import View, usable_views

Floats = NDArray[np.float64]

#: What the mix draws from: the bounds within which a good model stays nearly as good.
MIX: Final = Perturbation(shift=0.1, scale=0.15, turn_deg=30)
MIX_DRAWS: Final = 2
#: Box sides from its centre that a turned photo shows: 1.5 × the box, and a little more.
_TURN_REACH: Final = 0.8


@dataclass(frozen=True)
class Axis:
    """One way of changing the framing: ``steps`` in its unit, and the view at a step."""

    name: str
    unit: str
    steps: tuple[float, ...]
    unchanged: float
    change: Callable[[View, float], View]


def _shifted_x(view: View, percent: float) -> View:
    return turned(view, changed_box(view.box, percent / 100, 0, 0), 0)


def _shifted_y(view: View, percent: float) -> View:
    return turned(view, changed_box(view.box, 0, percent / 100, 0), 0)


def _scaled(view: View, factor: float) -> View:
    return turned(view, changed_box(view.box, 0, 0, factor - 1), 0)


def _turned(view: View, angle_deg: float) -> View:
    return turned(view, view.box, math.radians(angle_deg), _TURN_REACH)


_SHIFTS_PERCENT: Final = (-20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0)

AXES: Final = (
    Axis("shift x", "% of the box's width to the right", _SHIFTS_PERCENT, 0, _shifted_x),
    Axis("shift y", "% of the box's height down", _SHIFTS_PERCENT, 0, _shifted_y),
    Axis("scale", "times the box's size", (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3), 1, _scaled),
    Axis("turn", "degrees clockwise", tuple(float(a) for a in range(-45, 46, 15)), 0, _turned),
)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One system along one axis: its errors (S, N) in percent, NaN where it found nothing.

    ``is_inside`` (S, N) says where 1.5 × the box needs no pixel from outside the photo.
    """

    axis: Axis
    nme_percent: Floats
    is_inside: NDArray[np.bool_]

    @property
    def stays_inside(self) -> NDArray[np.bool_]:
        """Which faces (N,) are inside at every step: the same faces all along the axis."""
        return np.asarray(self.is_inside.all(axis=0))

    def means(self, only_inside: bool = False) -> Floats:
        """The mean error at each step (S,), over all faces or those that stay inside."""
        chosen = self.stays_inside if only_inside else np.ones_like(self.stays_inside)
        return _means(self.nme_percent[:, chosen])


@dataclass(frozen=True, eq=False)
class Mix:
    """One system on faces changed at random (D, N), and on the same as labelled (N,)."""

    plain_nme_percent: Floats
    mixed_nme_percent: Floats
    is_inside: NDArray[np.bool_]

    def rise_percent(self, only_inside: bool = False) -> float:
        """By how much of itself the mean error rises, in percent; NaN where no face is left.

        With ``only_inside`` over the draws whose crop needs no pixel from outside the photo, held
        against the same faces as labelled.
        """
        plain = np.broadcast_to(self.plain_nme_percent, self.mixed_nme_percent.shape)
        chosen = np.isfinite(plain) & np.isfinite(self.mixed_nme_percent)
        if only_inside:
            chosen &= self.is_inside
        if not chosen.any():
            return float("nan")
        return float(100 * (self.mixed_nme_percent[chosen].sum() / plain[chosen].sum() - 1))


@dataclass(frozen=True, eq=False)
class Framing:
    """How one system stands another framing: a sweep for each of AXES, and the mix."""

    sweeps: Sequence[Sweep]
    mix: Mix

    def to_json(self) -> dict[str, Any]:
        """All figures, as plain JSON values."""
        return {
            "axes": {sweep.axis.name: _sweep_to_json(sweep) for sweep in self.sweeps},
            "mix": {
                "changes": str(MIX),
                "draws_per_face": len(self.mix.mixed_nme_percent),
                "rise_percent_of_itself": _or_none(self.mix.rise_percent()),
                "rise_percent_of_itself_inside": _or_none(self.mix.rise_percent(True)),
                "inside_share": float(self.mix.is_inside.mean()),
            },
        }


def measure_framing(
    systems: Sequence[System], labels: Path, seed: int = 0, progress: bool = False
) -> Mapping[str, Framing]:
    """Show each face of a set in every framing to each system; each photo is opened once.

    The photos are made gray first, for all systems: colour would only take longer to turn. A
    face's draws of the mix are those that `Perturbation` with ``seed``, ``seed`` + 1, … makes of
    it. LabelError where the labels can't be read.
    """
    changes: list[Callable[[View, int], View]] = [
        lambda view, place, axis=axis, step=step: axis.change(view, step)  # type: ignore[misc]
        for axis in AXES
        for step in axis.steps
    ]
    changes += [
        Perturbation(MIX.shift, MIX.scale, MIX.turn_deg, seed + draw) for draw in range(MIX_DRAWS)
    ]
    inside: list[list[bool]] = []
    errors: dict[str, list[list[float]]] = {system.name: [] for system in systems}
    for place, view in enumerate(usable_views(labels, "framing", progress)):
        gray = dataclasses.replace(view, photo=view.photo.convert("L"))
        views = [change(gray, place) for change in changes]
        inside.append([shown.is_inside for shown in views])
        for system in systems:
            errors[system.name].append([_error(system, shown) for shown in views])
    is_inside = np.array(inside, bool).reshape(-1, len(changes)).T
    return {
        name: _framing(np.array(rows, np.float64).reshape(-1, len(changes)).T, is_inside)
        for name, rows in errors.items()
    }


def _framing(nme_percent: Floats, is_inside: NDArray[np.bool_]) -> Framing:
    """Rows of errors and of being inside, in the order of the changes → what they are of."""
    sweeps = []
    first = 0
    for axis in AXES:
        rows = slice(first, first + len(axis.steps))
        sweeps.append(Sweep(axis, nme_percent[rows], is_inside[rows]))
        first += len(axis.steps)
    plain = sweeps[0].nme_percent[AXES[0].steps.index(AXES[0].unchanged)]
    return Framing(sweeps, Mix(plain, nme_percent[first:], is_inside[first:]))


def _error(system: System, view: View) -> float:
    try:
        found = system(view.photo, view.box)
        return float(interocular_nme_percent(found[None], view.landmarks[None])[0])
    except ValueError:
        return float("nan")


def _means(nme_percent: Floats) -> Floats:
    """(S, N) → (S,), over what is finite; NaN where nothing is."""
    finite = np.isfinite(nme_percent)
    counts = finite.sum(axis=1)
    sums = np.where(finite, nme_percent, 0).sum(axis=1)
    means: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _sweep_to_json(sweep: Sweep) -> dict[str, Any]:
    return {
        "unit": sweep.axis.unit,
        "steps": list(sweep.axis.steps),
        "nme_percent_mean": [_or_none(value) for value in sweep.means()],
        "nme_percent_mean_inside": [_or_none(value) for value in sweep.means(only_inside=True)],
        "faces": sweep.nme_percent.shape[1],
        "faces_inside_at_every_step": int(sweep.stays_inside.sum()),
    }


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
