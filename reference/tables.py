"""Measures as lines of text: a title, a line of heads, a line for each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reference.framing import MIX, Framing
from reference.measures import Backgrounds, Measures, trust_of
from reference.openings import PAIRS
from reference.soundness import REACH_SIDES, Soundness, soundness
from reference.steadiness import Steadiness

_NONE = "–"
_FLOOR_TITLE = "floor: the NME that the shape model leaves at best"


def aligned(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their heads, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    ]
    return "\n".join([title, *lines]) + "\n"


def measures_text(title: str, measures: Measures) -> str:
    """The tables of all that was measured on a set, a blank line between them."""
    tables = []
    if measures.openings:
        tables.append(_openings(title, measures))
    elif measures.floors_percent:  # of other points than iBUG's
        floors = [[name, _percent(floor)] for name, floor in measures.floors_percent.items()]
        tables.append(aligned(f"{title}; {_FLOOR_TITLE}", ["system", "floor"], floors))
    if measures.framing:
        tables.append(_mix(title, measures.framing))
        tables.append(_sweeps(title, measures.framing))
    if measures.steadiness:
        tables.append(_steadiness(title, measures.steadiness))
    if measures.examined:
        rows = [[name, *_sound(soundness(item))] for name, item in measures.examined.items()]
        tables.append(aligned(f"{title}; {_SOUND_TITLE}", ["system", *_SOUND_HEADS], rows))
        tables += _trust(title, measures)
    return "\n".join(tables)


def backgrounds_text(
    backgrounds: Backgrounds, quality_of_faces: Mapping[str, NDArray[np.float64]]
) -> str:
    """The tables of crops without a face; ``quality_of_faces`` (N,) by system, where it has one."""
    count = len(backgrounds.families)
    rows = [
        [name, family, *_sound(figures)]
        for name in backgrounds.examined
        for family, figures in backgrounds.soundness(name).items()
    ]
    heads = ["system", "family", *_SOUND_HEADS]
    tables = [aligned(f"{count} crops without a face; {_SOUND_TITLE}", heads, rows)]
    separations = [
        [name, family, f"{area:.4f}"]
        for name, faces in quality_of_faces.items()
        for family, area in backgrounds.separation(name, faces).items()
    ]
    if separations:
        title = "telling faces from crops without one by their quality: area under the ROC curve"
        tables.append(aligned(title, ["system", "crops", "AUC"], separations))
    return "\n".join(tables)


def _openings(title: str, measures: Measures) -> str:
    heads = ["system", *(f"{name} {figure}" for name in PAIRS for figure in ("error", "bias", "r"))]
    rows = []
    for system, errors in measures.openings.items():
        cells = []
        for name in PAIRS:
            error = errors[name]
            cells += [_percent(error.mean_percent), _signed(error.bias_percent)]
            cells.append(_percent(error.correlation))
        floor = measures.floors_percent.get(system)
        rows.append([system, *cells, _percent(floor)])
    return aligned(
        f"{title}; openings of eyes and mouth in % of the eyes' distance, bias above 0: found too "
        f"open, r: correlation;\n{_FLOOR_TITLE}",
        [*heads, "floor"],
        rows,
    )


def _mix(title: str, framing: Mapping[str, Framing]) -> str:
    rows = [
        [
            name,
            *(_signed(item.mix.rise_percent(only_inside)) for only_inside in (False, True)),
            f"{100 * item.mix.is_inside.mean():.0f}",
        ]
        for name, item in framing.items()
    ]
    heads = ["system", "rise %", "rise % inside", "inside % of the draws"]
    return aligned(f"{title}; {MIX}: the mean NME rises by this much of itself", heads, rows)


def _sweeps(title: str, framing: Mapping[str, Framing]) -> str:
    """The framings have the same axes; each has its own steps, written before the error."""
    rows = []
    for name, item in framing.items():
        for sweep in item.sweeps:
            steps = [f"{step:g}" for step in sweep.axis.steps]
            means = [_percent(value) for value in sweep.means()]
            rows.append([name, sweep.axis.name, *(map(": ".join, zip(steps, means, strict=True)))])
    heads = ["system", "changed", *[""] * (max(map(len, rows)) - 2)]
    padded = [row + [""] * (len(heads) - len(row)) for row in rows]
    return aligned(f"{title}; mean NME in % by how the face is framed", heads, padded)


def _steadiness(title: str, steadiness: Mapping[str, Steadiness]) -> str:
    rows = [
        [
            name,
            *map(
                _percent,
                (
                    item.photo_shift,
                    item.photo_noise,
                    item.input_shift,
                    item.input_noise,
                    item.input_px_per_photo_px,
                ),
            ),
        ]
        for name, item in steadiness.items()
    ]
    heads = ["system", "photo shift", "photo noise", "input shift", "input noise", "input px"]
    return aligned(
        f"{title}; movement of the landmarks in % of the eyes' distance, the face shifted by a "
        "pixel or with noise of 2/255,\non the photo and on the network's input; input px: what "
        "a pixel of the photo is in the input",
        heads,
        rows,
    )


_SOUND_TITLE = (
    f"shapes that aren't finite or have a landmark over {REACH_SIDES:g} sides from the crop's "
    "centre;\nclipped: shapes of which the limits moved a parameter, and how many by kind"
)
_SOUND_HEADS = ("shapes", "not finite", "beyond", "farthest", "possible", "clipped", "by kind")


def _sound(figures: Soundness) -> list[str]:
    kinds = figures.clipped_parameters
    return [
        str(figures.shapes),
        str(figures.not_finite),
        str(figures.beyond_reach),
        _percent(figures.farthest_sides),
        _percent(figures.possible_sides),
        _NONE if figures.clipped_shapes is None else str(figures.clipped_shapes),
        _NONE if kinds is None else ", ".join(f"{kind} {count}" for kind, count in kinds.items()),
    ]


def _trust(title: str, measures: Measures) -> list[str]:
    rows = []
    for name, examined in measures.examined.items():
        trust = trust_of(examined)
        if trust is None:
            continue
        groups = trust.reliability
        pairs = zip(groups.expected, groups.true, strict=True)
        rows.append(
            [
                name,
                f"{trust.rank_correlation:.3f}",
                _percent(groups.mean_gap_percent),
                *(f"{expected:.1f}: {true:.1f}" for expected, true in pairs),
            ]
        )
    if not rows:
        return []
    heads = [
        "system",
        "rank correlation",
        "gap",
        *(f"tenth {k}" for k in range(1, len(rows[0]) - 2)),
    ]
    text = f"{title}; quality against the true NME: expected: true by tenths of the faces, in %"
    return [aligned(text, heads, rows)]


def _percent(value: float | None) -> str:
    return _NONE if value is None or not np.isfinite(value) else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}" if np.isfinite(value) else _NONE
