"""The bar chart: milliseconds for a face, all systems, on a logarithmic axis."""

from __future__ import annotations

import io
from typing import Final

from benchmarks.comparison import Comparison
from benchmarks.systems import NUMBA, NUMPY, PREDICT

_OURS: Final = frozenset({NUMPY, NUMBA, PREDICT})
_OUR_COLOUR: Final = "#1b6ca8"
_OTHER_COLOUR: Final = "#b0b0b0"
_WIDTH_INCHES: Final = 8.0
_BAR_INCHES: Final = 0.42
_DPI: Final = 120


def draw_chart(comparison: Comparison, model: str, cpu: str) -> bytes:
    """A PNG picture, the fastest system on top; whiskers from the 10th to the 90th percentile."""
    from matplotlib.figure import Figure

    summaries = {name: comparison.summary(name) for name in comparison.chosen}
    names = sorted(summaries, key=lambda name: summaries[name].median, reverse=True)
    medians = [summaries[name].median * 1e3 for name in names]
    below = [(summaries[name].median - summaries[name].low) * 1e3 for name in names]
    above = [(summaries[name].high - summaries[name].median) * 1e3 for name in names]

    figure = Figure((_WIDTH_INCHES, 1.3 + _BAR_INCHES * len(names)), dpi=_DPI, layout="tight")
    axes = figure.add_subplot()
    axes.barh(
        [comparison.chosen[name].title for name in names],
        medians,
        xerr=[below, above],
        color=[_OUR_COLOUR if name in _OURS else _OTHER_COLOUR for name in names],
        error_kw={"ecolor": "#404040", "elinewidth": 1, "capsize": 3},
    )
    for place, (median, more) in enumerate(zip(medians, above, strict=True)):
        axes.annotate(
            f"{median:#.3g}",
            (median + more, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(min(medians) / 2, max(summary.high for summary in summaries.values()) * 2e3)
    axes.set_xlabel("milliseconds for a face (logarithmic)")
    figure.suptitle(f"{model}\none core: {cpu}", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
