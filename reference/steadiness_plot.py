"""The figures of reference.tracked_steadiness as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reference.atomic import write_atomically
from reference.tracked_clips import Figures

Floats = NDArray[np.float64]

#: Of Okabe and Ito's palette.
_COLOURS: Final = {"without filter": "#D55E00", "with filter": "#0072B2"}


def draw_steadiness(
    path: Path,
    title: str,
    by_motion: Mapping[str, Mapping[str, Figures]],
    traces: Mapping[str, Floats],
    jitter_aim_percent: float,
    lag_aim_frames: float,
) -> None:
    """Write a PNG: jitter and lag of each motion, and one point's way in the quick shake.

    ``by_motion`` has for each motion the figures "without filter" and "with filter"; ``traces``
    one coordinate over the frames (F,), by name. The aims are those of the still face's jitter
    and of the quick shake's lag.
    """
    figure = Figure(figsize=(9.6, 6.2), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.add_gridspec(2, 2)
    jitter, lag = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    _bars(jitter, by_motion, "jitter", "%.2f")
    jitter.set_ylabel("jitter, % of the distance\nof the outer eye corners", fontsize=8)
    moving = {name: each for name, each in by_motion.items() if name != "still"}
    _bars(lag, moving, "lag_frames", "%.2f")
    lag.set_ylabel("lag, frames of 1/30 s", fontsize=8)
    for axes, motion, aim in (
        (jitter, list(by_motion).index("still"), jitter_aim_percent),
        (lag, list(moving).index("quick shake"), lag_aim_frames),
    ):
        axes.hlines(aim, motion - 0.45, motion + 0.45, color="0.2", linewidth=1.2, label="aim")
    jitter.legend(frameon=False, fontsize=8)

    trace = figure.add_subplot(grid[1, :])
    for name, values in traces.items():
        trace.plot(values, label=name, color=_COLOURS.get(name, "0.2"), linewidth=1.2)
    trace.set_xlabel("frame", fontsize=8)
    trace.set_ylabel("x of the nose tip, pixels", fontsize=8)
    trace.set_title("quick shake, one face", fontsize=9, loc="left")
    trace.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    for axes in (jitter, lag, trace):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png")

    write_atomically(path, write)


def _bars(
    axes: Axes, by_motion: Mapping[str, Mapping[str, Figures]], value: str, form: str
) -> None:
    places = np.arange(len(by_motion))
    for index, (name, colour) in enumerate(_COLOURS.items()):
        heights = [getattr(each[name], value) for each in by_motion.values()]
        bars = axes.bar(places + 0.4 * (index - 0.5), heights, 0.37, label=name, color=colour)
        axes.bar_label(bars, fmt=form, padding=1, fontsize=7)
    axes.set_xticks(places, list(by_motion))
