"""How far open eyes and mouth are, and how far a system is off: what blink detectors build on.

Sizes: N faces, 68 landmarks in iBUG's order. Openings are in percent of the distance of the
outer eye corners, left and right are the subject's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reference.metrics import interocular_distances_px

Floats = NDArray[np.float64]

#: The pairs of landmarks, upper and lower, whose mean distance is an opening.
PAIRS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = MappingProxyType(
    {
        "right eye": ((37, 41), (38, 40)),
        "left eye": ((43, 47), (44, 46)),
        "mouth": ((61, 67), (62, 66), (63, 65)),
    }
)


@dataclass(frozen=True)
class OpeningError:
    """The error of one opening over the faces of a set.

    ``mean_percent`` is the mean of |found − true|, ``bias_percent`` that of found − true (above 0:
    found too far open), both in percent of the distance of the outer eye corners;
    ``correlation`` is Pearson's of found and true over the faces, NaN where either never changes.
    """

    mean_percent: float
    bias_percent: float
    correlation: float

    def to_json(self) -> dict[str, Any]:
        """The figures under names that say their units; a correlation that is none is null."""
        return {
            "error_interocular_percent_mean": self.mean_percent,
            "bias_interocular_percent": self.bias_percent,
            "correlation": None if np.isnan(self.correlation) else self.correlation,
        }


def openings_percent(landmarks: Floats, eye_distances_px: Floats) -> dict[str, Floats]:
    """The openings (N,) of landmarks (N, 68, 2), over the distances given (N,)."""
    return {
        name: 100
        * np.mean(
            [np.hypot(*(landmarks[:, low] - landmarks[:, up]).T) for up, low in pairs], axis=0
        )
        / eye_distances_px
        for name, pairs in PAIRS.items()
    }


def opening_errors(prediction: Floats, truth: Floats) -> dict[str, OpeningError]:
    """The error of each opening: 2 × (N, 68, 2), N ≥ 1.

    Both openings are over the true distance of the outer eye corners, the normaliser of the NME.
    ValueError as `metrics.interocular_distances_px`.
    """
    distances = interocular_distances_px(truth)
    found, true = (openings_percent(points, distances) for points in (prediction, truth))
    return {name: _error(found[name], true[name]) for name in PAIRS}


def _error(found: Floats, true: Floats) -> OpeningError:
    varies = found.std() > 0 and true.std() > 0
    return OpeningError(
        mean_percent=float(np.abs(found - true).mean()),
        bias_percent=float((found - true).mean()),
        correlation=float(np.corrcoef(found, true)[0, 1]) if varies else float("nan"),
    )
