"""How far predicted landmarks are from true ones, over the distance of the outer eye corners.

Sizes: N faces, 68 landmarks in iBUG's order (indices from 0). Errors are in percent of the
inter-ocular distance: from outer eye corner to outer eye corner, the normaliser of the 300-W
challenge (Sagonas et al., "300 Faces In-The-Wild Challenge: Database and Results", Image and
Vision Computing 2016), which is larger than the distance of the pupils that other papers use.
Of another markup, L landmarks, errors are in percent of the distance of its ``scale_points``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference.data.markup import IBUG68, Markup

Floats = NDArray[np.float64]

LANDMARKS: Final = IBUG68.point_count

#: The landmarks of each region of which an error is reported.
REGIONS: Final = MappingProxyType(
    {
        "jaw": range(0, 17),
        "brows": range(17, 27),
        "nose": range(27, 36),
        "eyes": range(36, 48),
        "mouth": range(48, 68),
    }
)

#: Up to which error AUC@8 integrates, and over which FR@8 and FR@10 call a face failed.
AUC_LIMIT_PERCENT: Final = 8.0
FAILURE_LIMITS_PERCENT: Final = (8.0, 10.0)


def interocular_distances_px(truth: ArrayLike) -> Floats:
    """Distance of the outer eye corners, 36 and 45, of each face: (N, 68, 2) → (N,).

    In the unit of the input. ValueError as `scale_distances_px`.
    """
    return scale_distances_px(truth, IBUG68)


def scale_distances_px(truth: ArrayLike, markup: Markup) -> Floats:
    """Distance of the two scale points of the markup, of each face: (N, L, 2) → (N,).

    In the unit of the input. ValueError for another shape, for numbers that aren't finite and
    for faces whose scale points coincide.
    """
    points = _checked_landmarks("truth", truth, markup)
    first, second = markup.scale_points
    distances = _lengths(points[:, first] - points[:, second])
    coinciding = np.flatnonzero(distances == 0)
    if coinciding.size:
        raise ValueError(
            f"the {scale_points_text(markup)} of face {coinciding[0]} are in one place: "
            "there is no distance to divide by"
        )
    return distances


def scale_points_text(markup: Markup) -> str:
    """What to call the two points whose distance normalises errors."""
    first, second = markup.scale_points
    return f"{'outer eye corners' if markup == IBUG68 else 'points'} ({first}, {second})"


def interocular_errors_percent(prediction: ArrayLike, truth: ArrayLike) -> Floats:
    """Distance of each predicted landmark from its true place: 2 × (N, 68, 2) → (N, 68).

    In percent of the face's inter-ocular distance. ValueError as `scale_distances_px`.
    """
    return normalised_errors_percent(prediction, truth, IBUG68)


def normalised_errors_percent(prediction: ArrayLike, truth: ArrayLike, markup: Markup) -> Floats:
    """Distance of each predicted landmark from its true place: 2 × (N, L, 2) → (N, L).

    In percent of the distance of the scale points. ValueError as `scale_distances_px`.
    """
    true_points = _checked_landmarks("truth", truth, markup)
    predicted_points = _checked_landmarks("prediction", prediction, markup)
    if len(predicted_points) != len(true_points):
        raise ValueError(f"{len(predicted_points)} predictions for {len(true_points)} faces")
    distances = _lengths(predicted_points - true_points)
    return 100 * distances / scale_distances_px(true_points, markup)[:, None]


def interocular_nme_percent(prediction: ArrayLike, truth: ArrayLike) -> Floats:
    """Normalised mean error of each face: 2 × (N, 68, 2) → (N,).

    The mean distance of the 68 landmarks over the distance of the outer eye corners, in percent
    (the 300-W challenge's error). ValueError as `scale_distances_px`.
    """
    return normalised_mean_errors_percent(prediction, truth, IBUG68)


def normalised_mean_errors_percent(
    prediction: ArrayLike, truth: ArrayLike, markup: Markup
) -> Floats:
    """Normalised mean error of each face: 2 × (N, L, 2) → (N,).

    The mean distance of the L landmarks over that of the scale points, in percent. ValueError as
    `scale_distances_px`.
    """
    nme: Floats = normalised_errors_percent(prediction, truth, markup).mean(axis=1)
    return nme


def interocular_region_nme_percent(prediction: ArrayLike, truth: ArrayLike) -> dict[str, Floats]:
    """Normalised mean error of each face's regions, by name: 2 × (N, 68, 2) → 5 × (N,).

    The mean distance of the region's landmarks, over the same inter-ocular distance as the
    error of the whole face, in percent. ValueError as `scale_distances_px`.
    """
    errors = interocular_errors_percent(prediction, truth)
    return {name: errors[:, list(indices)].mean(axis=1) for name, indices in REGIONS.items()}


def area_under_curve(nme_percent: ArrayLike, limit_percent: float = AUC_LIMIT_PERCENT) -> float:
    """Area under the cumulative error curve from 0 to the limit, as a share of all: (N,) → 0–1.

    The curve F(e) is the share of faces with an error of at most e. F being a sum of steps, its
    integral is had without bins: ∫₀ˡ F(e) de / l = mean(max(0, 1 − error / l)). 1 means no error,
    0 that all errors reach the limit. (AUC_α of Yang et al., "An Empirical Study of Recent Face
    Alignment Methods", arXiv 1511.05049.) ValueError for no face, and for what is no error.
    """
    errors = _checked_errors(nme_percent)
    _check_limit(limit_percent)
    return float(np.clip(1 - errors / limit_percent, 0, 1).mean())


def failure_rate(nme_percent: ArrayLike, limit_percent: float) -> float:
    """Share of faces with an error over the limit, not at it: (N,) → 0–1.

    (As Burgos-Artizzu et al., "Robust Face Landmark Estimation under Occlusion", ICCV 2013,
    count failures, at 10 %.) ValueError as `area_under_curve`.
    """
    errors = _checked_errors(nme_percent)
    _check_limit(limit_percent)
    return float((errors > limit_percent).mean())


@dataclass(frozen=True)
class Figures:
    """The errors of one system on one set, in percent of the distance of the scale points.

    `auc_8` is 0–1, higher is better; the failure rates are percent of the faces; `by_region`
    holds mean errors, of iBUG's points alone: of another markup it is empty.
    """

    faces: int
    nme_mean: float
    nme_median: float
    auc_8: float
    failure_rate_8: float
    failure_rate_10: float
    by_region: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The figures under names that say their units and normaliser, as plain JSON values."""
        nme = "nme_interocular_percent" if self.by_region else "nme_percent"
        figures = {
            "faces": self.faces,
            f"{nme}_mean": self.nme_mean,
            f"{nme}_median": self.nme_median,
            "auc_8_share": self.auc_8,
            "failure_rate_8_percent": self.failure_rate_8,
            "failure_rate_10_percent": self.failure_rate_10,
        }
        return figures | ({f"{nme}_by_region": dict(self.by_region)} if self.by_region else {})


def summarise(prediction: ArrayLike, truth: ArrayLike, markup: Markup = IBUG68) -> Figures:
    """All figures of a set of faces: 2 × (N, L, 2), N ≥ 1.

    ValueError for no face, and as `scale_distances_px`.
    """
    nme = normalised_mean_errors_percent(prediction, truth, markup)
    is_ibug = markup == IBUG68
    regions = interocular_region_nme_percent(prediction, truth) if is_ibug else {}
    return Figures(
        faces=len(nme),
        auc_8=area_under_curve(nme),
        failure_rate_8=100 * failure_rate(nme, FAILURE_LIMITS_PERCENT[0]),
        failure_rate_10=100 * failure_rate(nme, FAILURE_LIMITS_PERCENT[1]),
        nme_mean=float(nme.mean()),
        nme_median=float(np.median(nme)),
        by_region={name: float(errors.mean()) for name, errors in regions.items()},
    )


def _lengths(vectors: Floats) -> Floats:
    """(…, 2) → (…); hypot, so that neither tiny nor huge coordinates lose their squares."""
    lengths: Floats = np.hypot(vectors[..., 0], vectors[..., 1])
    return lengths


def _checked_landmarks(role: str, landmarks: ArrayLike, markup: Markup) -> Floats:
    points = np.asarray(landmarks, np.float64)
    count = markup.point_count
    if points.ndim != 3 or points.shape[1:] != (count, 2):
        raise ValueError(
            f"{role}: accepted are landmarks of shape (N, {count}, 2), not {points.shape}"
        )
    if not np.isfinite(points).all():
        face = int(np.flatnonzero(~np.isfinite(points).all(axis=(1, 2)))[0])
        raise ValueError(f"{role}: the landmarks of face {face} aren't all finite")
    return points


def _checked_errors(nme_percent: ArrayLike) -> Floats:
    errors = np.asarray(nme_percent, np.float64)
    if errors.ndim != 1 or not errors.size:
        raise ValueError(f"accepted are the errors of at least one face (N,), not {errors.shape}")
    if not (errors >= 0).all():
        raise ValueError("errors are distances: none is negative or NaN")
    return errors


def _check_limit(limit_percent: float) -> None:
    if not 0 < limit_percent < np.inf:
        raise ValueError(f"a limit is a positive percentage, not {limit_percent}")
