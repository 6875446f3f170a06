"""Figures of an evaluation: errors by face, by region, by framing, and against the expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from reference import metrics
from reference.atomic import write_atomically
from reference.framing import Framing
from reference.metrics import Floats
from reference.quality import Reliability

_SIZE_INCHES = (7.0, 4.6)
_DOTS_PER_INCH = 130
# Fewer faces make no curve.
_INSIDE_MIN = 20
ERROR_LABEL = "NME, % of the distance of the outer eye corners"
# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Dashes over a solid line: systems that are equal are all seen.
_LINE_STYLES = ("-", (0, (5, 4)), (0, (2, 6)), (0, (8, 2, 2, 2)))


@dataclass(frozen=True)
class Mark:
    """A published point: a system of which a set's mean NME is known, in percent, and no more.

    ``failure_rate_8``, the share of faces over 8 %, in percent, where it is known too.
    """

    set_name: str
    name: str
    nme_percent: float
    failure_rate_8: float | None = None


def draw_cumulative_errors(
    path: Path,
    title: str,
    nme_percent: Mapping[str, ArrayLike],
    limit_percent: float = 10.0,
    marks: Sequence[Mark] = (),
    error_label: str = ERROR_LABEL,
) -> None:
    """Write a PNG with each system's share of faces over the error that they stay under.

    nme_percent: each system's errors (N,), N ≥ 1, in percent. Exact steps, not binned; AUC@8 is
    the area left of the thin line. A triangle below each curve is its mean; of the marks, each in
    a colour of its own, there is nothing but that, and one at 8 % where its share is known. The
    label says what errors are in percent of.
    ValueError for no system or no face, OSError where the file can't be written.
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
        if mean <= limit_percent:
            axes.plot(mean, 0, "^", color=_colour(index), markersize=7, clip_on=False, zorder=3)
    for index, mark in enumerate(marks, len(nme_percent)):
        _draw_mark(axes, mark, _colour(index), limit_percent)
    axes.axvline(metrics.AUC_LIMIT_PERCENT, color="0.6", linewidth=0.8)
    axes.set(xlim=(0, limit_percent), ylim=(0, 1.005), xlabel=f"{error_label} (triangles: mean)")
    axes.set_ylabel("share of faces with at most this error")
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    _write(path, figure)


def _draw_mark(axes: Axes, mark: Mark, colour: str, limit_percent: float) -> None:
    label = f"{mark.name}: mean {mark.nme_percent:.2f} %"
    places, heights = [mark.nme_percent], [0.0]
    if mark.failure_rate_8 is not None:
        places.append(metrics.AUC_LIMIT_PERCENT)
        heights.append(1 - mark.failure_rate_8 / 100)
    is_within = mark.nme_percent <= limit_percent
    axes.plot(places, heights, "^", color=colour, label=label, markersize=7, clip_on=not is_within)


def draw_framing(path: Path, title: str, framing: Mapping[str, Framing]) -> None:
    """Write a PNG with the mean error against each way of framing a face, a panel for each.

    Solid: all faces; dotted: those whose crop stays inside the photo at every step of the panel,
    where they are 20 and more. ValueError for no system, OSError where the file can't be
    written.
    """
    if not framing:
        raise ValueError(f"{title}: there is no system to draw")
    sweeps = next(iter(framing.values())).sweeps
    figure = Figure(figsize=(10.0, 7.0), dpi=_DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(2, -(-len(sweeps) // 2), sharey=True, squeeze=False)
    for place, (panel, sweep) in enumerate(zip(panels.flat, sweeps, strict=True)):
        inside = int(sweep.stays_inside.sum())
        for index, (name, item) in enumerate(framing.items()):
            of_system = item.sweeps[place]
            steps, colour = sweep.axis.steps, _colour(index)
            label = name if place == 0 else None
            panel.plot(steps, of_system.means(), "o-", color=colour, markersize=4, label=label)
            if inside >= _INSIDE_MIN:
                means = of_system.means(only_inside=True)
                panel.plot(steps, means, "o:", color=colour, markersize=3, fillstyle="none")
        of_which = f"; {inside} faces stay inside" if inside >= _INSIDE_MIN else ""
        panel.set_title(f"{sweep.axis.name}{of_which}", fontsize=10)
        panel.set_xlabel(sweep.axis.unit, fontsize=9)
        panel.set_xticks(sweep.axis.steps)
        panel.axvline(sweep.axis.unchanged, color="0.8", linewidth=0.8, zorder=0)
        _plain(panel)
    means = np.concatenate([sweep.means() for each in framing.values() for sweep in each.sweeps])
    # One system that breaks down doesn't flatten the curves of the others.
    panels[0, 0].set_ylim(0, min(1.05 * np.nanmax(means), 5 * np.nanmin(means)))
    figure.suptitle(f"{title}\nsolid: all faces; dotted: those inside", fontsize=11)
    figure.supylabel(ERROR_LABEL, fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    _write(path, figure)


def draw_reliability(path: Path, title: str, by_set: Mapping[str, Reliability]) -> None:
    """Write a PNG with the true error of groups of faces against the expected, by set.

    Bars reach from the 10th to the 90th percentile of a group's errors; on the thin line a
    quality says the truth. ValueError for no set, OSError where the file can't be written.
    """
    figure, axes = _blank(title, by_set)
    for index, (name, groups) in enumerate(by_set.items()):
        # Side by side, where bars of several sets would hide each other.
        places = groups.expected * (1 + 0.012 * (index - (len(by_set) - 1) / 2))
        below, above = groups.true - groups.true_low, groups.true_high - groups.true
        axes.errorbar(
            places,
            groups.true,
            np.abs([below, above]),
            label=f"{name}: mean gap {groups.mean_gap_percent:.2f} %",
            color=_colour(index),
            marker="o",
            markersize=4,
            elinewidth=0.8,
            linewidth=1.2,
        )
    ends = np.concatenate([[*g.expected, *g.true_low, *g.true_high] for g in by_set.values()])
    ends = np.array([max(0.8 * ends.min(), 0.1), 1.1 * ends.max()])
    axes.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (axes.xaxis, axes.yaxis):
        _log_ticks(axis)
    axes.grid(axis="x", color="0.9")
    axes.set_xlabel("expected NME (quality), %, tenths of the faces")
    axes.set_ylabel(f"true {ERROR_LABEL}", fontsize=8)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    _write(path, figure)


def draw_pareto(
    path: Path,
    trials: Sequence[tuple[str, float, float]],
    front: Sequence[tuple[float, float]],
    cost_label: str,
    error_label: str,
) -> None:
    """Write a PNG of trials (label, cost, error), with a stepped line through those of the front.

    Costs and errors are above 0; the cost has a logarithmic axis. Labels stand beside their
    points, to whichever side has room; those of the front are filled. ValueError for no trial,
    OSError where the file can't be written.
    """
    if not trials:
        raise ValueError("there is no trial to draw")
    figure = Figure(figsize=(8.0, 5.4), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    axes.grid(axis="x", color="0.9")
    _, costs, errors = zip(*trials, strict=True)
    front_costs, front_errors = zip(*front, strict=True)
    axes.step(front_costs, front_errors, where="post", color="0.6", linewidth=1)
    axes.plot(costs, errors, "o", color=_COLOURS[0], markersize=6, markerfacecolor="white")
    axes.plot(front_costs, front_errors, "o", color=_COLOURS[0], markersize=6)
    axes.set_xscale("log")
    axes.set_xlim(0.8 * min(costs), 1.25 * max(costs))
    _log_ticks(axes.xaxis)
    axes.set_xlabel(cost_label)
    axes.set_ylabel(error_label, fontsize=9)
    _write_labels(figure, axes, trials)
    _write(path, figure)


def _write_labels(figure: Figure, axes: Axes, trials: Sequence[tuple[str, float, float]]) -> None:
    """Put each label beside its point where it covers no point and no label before it."""
    figure.draw_without_rendering()
    taken = [
        Bbox.from_bounds(x - 4, y - 4, 8, 8)
        for x, y in axes.transData.transform([(cost, error) for _, cost, error in trials])
    ]
    frame = axes.get_window_extent()
    # Flush left or right and an offset in points: beside, above, below.
    sides = [("left", 5, 5), ("left", 7, -3), ("right", -7, -3), ("right", -5, 6)]
    sides += [("left", 5, -11), ("right", -5, -11), ("center", 0, 14), ("center", 0, -19)]
    for name, cost, error in trials:
        boxes = []
        for flush, x, y in sides:
            text = axes.annotate(
                name, (cost, error), (x, y), textcoords="offset points", ha=flush, fontsize=8
            )
            box = text.get_window_extent()
            outside = box.x0 < frame.x0 or box.x1 > frame.x1
            boxes.append((sum(box.overlaps(other) for other in taken) + 3 * outside, text, box))
        least = min(range(len(boxes)), key=lambda index: boxes[index][0])
        for index, (_, text, box) in enumerate(boxes):
            if index == least:
                taken.append(box)
            else:
                text.remove()


def _log_ticks(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


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
    axes.set_ylabel(ERROR_LABEL, fontsize=8)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    _write(path, figure)


def _blank(title: str, systems: Mapping[str, object]) -> tuple[Figure, Axes]:
    if not systems:
        raise ValueError(f"{title}: there is no system to draw")
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


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
