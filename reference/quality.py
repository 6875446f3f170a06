"""Whether a network's own estimate of its error, its quality, means something.

A quality is an expected NME in percent: larger is worse. Sizes: N faces, M pictures without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

_GROUPS: Final = 10


@dataclass(frozen=True, eq=False)
class Reliability:
    """Faces in groups of equal size by what was expected, least first; G groups.

    ``expected`` and ``true`` (G,) are the groups' mean quality and mean NME, in percent;
    ``true_low`` and ``true_high`` (G,) the 10th and 90th percentile of the NME within.
    """

    expected: Floats
    true: Floats
    true_low: Floats
    true_high: Floats

    @property
    def mean_gap_percent(self) -> float:
        """The mean of |expected − true| over the groups, in percent of the eyes' distance."""
        return float(np.abs(self.expected - self.true).mean())

    def to_json(self) -> dict[str, Any]:
        """All figures, as plain JSON values."""
        return {
            "expected_nme_percent": self.expected.tolist(),
            "true_nme_percent": self.true.tolist(),
            "true_nme_percent_10th": self.true_low.tolist(),
            "true_nme_percent_90th": self.true_high.tolist(),
            "mean_gap_percent": self.mean_gap_percent,
        }


def reliability(quality: ArrayLike, nme_percent: ArrayLike, groups: int = _GROUPS) -> Reliability:
    """Group N faces by their quality (N,) and hold it against their errors (N,), N ≥ groups.

    ValueError for fewer faces, other shapes and numbers that aren't finite.
    """
    expected, true = _pairs(quality, nme_percent)
    if len(expected) < groups:
        raise ValueError(f"{len(expected)} faces don't make {groups} groups")
    parts = np.array_split(np.argsort(expected, kind="stable"), groups)
    return Reliability(
        expected=np.array([expected[part].mean() for part in parts]),
        true=np.array([true[part].mean() for part in parts]),
        true_low=np.array([np.percentile(true[part], 10) for part in parts]),
        true_high=np.array([np.percentile(true[part], 90) for part in parts]),
    )


def rank_correlation(quality: ArrayLike, nme_percent: ArrayLike) -> float:
    """Spearman's rank correlation of quality (N,) and error (N,), −1 to 1; NaN if one is constant.

    ValueError for other shapes and numbers that aren't finite.
    """
    expected, true = _pairs(quality, nme_percent)
    if len(expected) < 2 or not np.ptp(expected) or not np.ptp(true):
        return float("nan")
    return float(stats.spearmanr(expected, true).statistic)


def separation(quality_of_faces: ArrayLike, quality_of_others: ArrayLike) -> float:
    """The area under the ROC curve of telling faces (N,) from pictures without one (M,), 0–1.

    The chance that a picture without a face has the larger expected error of the two, ties
    counting half: 0.5 says nothing, 1 tells all apart (Mann and Whitney's U over N · M).
    ValueError where either is empty.
    """
    faces, others = np.asarray(quality_of_faces), np.asarray(quality_of_others)
    if not faces.size or not others.size:
        raise ValueError(f"{faces.size} faces and {others.size} others: there is nothing to tell")
    return float(stats.mannwhitneyu(others, faces).statistic / (faces.size * others.size))


def _pairs(quality: ArrayLike, nme_percent: ArrayLike) -> tuple[Floats, Floats]:
    expected, true = np.asarray(quality, np.float64), np.asarray(nme_percent, np.float64)
    if expected.ndim != 1 or expected.shape != true.shape:
        raise ValueError(f"accepted are two (N,), not {expected.shape} and {true.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(true).all()):
        raise ValueError("a quality or an error isn't finite")
    return expected, true
