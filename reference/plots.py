"""Figures of an evaluation: cumulative error curves, and errors by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reference import metrics
from reference.atomic import write_atomically
from reference.metrics import Floats

_SIZE_INCHES = (7.0, 4.6)
_DOTS_PER_INCH = 130
_ERROR_LABEL = "NME, % of the distance of the outer eye corners"
# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Dashes over a solid line: systems that are equal are all seen.
_LINE_STYLES = ("-", (0, (5, 4)), (0, (2, 6)), (0, (8, 2, 2, 2)))


def draw_cumulative_errors(
    path: Path, title: str, nme_percent: Mapping[str, ArrayLike], limit_percent: float = 10.0
) -> None:
    """Write a PNG with each system's share of faces over the error that they stay under.

    nme_percent: each system's errors (N,), N ≥ 1, in percent. Exact steps, not binned; AUC@8 is
    the area left of the thin line. ValueError for no system or no face, OSError where the file
    can't be written.
    """
    figure, axes = _blank(title, nme_percent)
    for index, (name, errors) in enumerate(nme_percent.items()):
        auc = metrics.area_under_curve(errors)
        mean = float(np.mean(np.asarray(errors)))
        places, shares = cumulative_steps(errors, limit_percent)
        axes.step(
            places,
            shares,
            where="post",
            label=f"{name}: mean {mean:.2f} %, AUC@8 {auc:.3f}",
            color=_colour(index),
            linestyle=_LINE_STYLES[index % len(_LINE_STYLES)],
        )
    axes.axvline(metrics.AUC_LIMIT_PERCENT, color="0.6", linewidth=0.8)
    axes.set(xlim=(0, limit_percent), ylim=(0, 1.005), xlabel=_ERROR_LABEL)
    axes.set_ylabel("share of faces with at most this error")
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    _write(path, figure)


def draw_errors_by_region(
    path: Path, title: str, by_region_percent: Mapping[str, Mapping[str, float]]
) -> None:
    """Write a PNG with a group of bars for each region, a bar for each system.

    by_region_percent: each system's mean error of each region, in percent; the regions of the
    first system are drawn. ValueError for no system, OSError where the file can't be written.
    """
    figure, axes = _blank(title, by_region_percent)
    regions = list(next(iter(by_region_percent.values())))
    places = np.arange(len(regions))
    width = 0.8 / len(by_region_percent)
    for index, (name, errors) in enumerate(by_region_percent.items()):
        offset = (index - (len(by_region_percent) - 1) / 2) * width
        heights = [errors[region] for region in regions]
        bars = axes.bar(places + offset, heights, 0.94 * width, label=name, color=_colour(index))
        axes.bar_label(bars, fmt="%.1f", padding=1, fontsize=7)
    axes.set_xticks(places, regions)
    axes.set_ylabel(_ERROR_LABEL, fontsize=8)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    _write(path, figure)


def _blank(title: str, systems: Mapping[str, object]) -> tuple[Figure, Axes]:
    if not systems:
        raise ValueError(f"{title}: there is no system to draw")
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def cumulative_steps(nme_percent: ArrayLike, limit_percent: float) -> tuple[Floats, Floats]:
    """The corners of the cumulative curve of errors (N,): N + 2 places, and the shares there.

    From 0 to the limit, or to the largest error beyond it; a share holds until the next place.
    """
    errors = np.sort(np.asarray(nme_percent, np.float64))
    shares = np.arange(len(errors) + 1) / len(errors)
    end = max(limit_percent, float(errors[-1]))
    return np.concatenate([[0], errors, [end]]), np.concatenate([shares, [1]])


def _colour(index: int) -> str:
    colours: Sequence[str] = _COLOURS
    return colours[index % len(colours)]


def _write(path: Path, figure: Figure) -> None:
    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png")

    write_atomically(path, write)
