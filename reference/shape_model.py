"""Fitting a shape model: alignment of the training shapes, then PCA.

Sizes: N shapes of L landmarks, K components. Coordinates are x right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from reference.data.markup import IBUG68, Markup
from reference.metrics import normalised_mean_errors_percent

Alignment = Literal["none", "rotation", "similarity"]
Floats = NDArray[np.float64]

#: How far a network's parameters may go, whatever it sees: further than any face of the training
#: sets, and near enough that the points stay about the crop. Scores are in standard deviations,
#: the scale is times or over the mean one, angle and translation are from the mean ones.
SCORE_LIMIT = 6.0
SCALE_FACTOR_LIMIT = 2.5
ANGLE_LIMIT_RAD = np.pi / 2
TRANSLATION_LIMIT = 0.75


class LinearShapes(Protocol):
    """A linear shape model, freshly fitted or of a weights file."""

    @property
    def mean(self) -> NDArray[np.floating]:
        """(L, 2)."""

    @property
    def components(self) -> NDArray[np.floating]:
        """(K, L, 2)."""


@dataclass(frozen=True, eq=False)
class FittedShapeModel:
    """A linear shape model with what is known of its fit.

    ``mean`` (L, 2); ``components`` (K, L, 2), unit eigenvectors times the standard deviation
    of their scores; ``variance_kept`` is the share of the aligned shapes' variance that the K
    components explain; ``parameter_means`` and ``parameter_deviations`` (K + 4) are those of
    the training shapes' parameters: K scores, scale, angle in radians, translation x, y.
    """

    mean: Floats
    components: Floats
    variance_kept: float
    parameter_means: Floats
    parameter_deviations: Floats

    def parameter_limits(self) -> Floats:
        """The least and the largest (2, K + 4) that each parameter of a network may be."""
        count = len(self.components)
        scale, *transform = self.parameter_means[count:]
        reach = np.array([ANGLE_LIMIT_RAD, TRANSLATION_LIMIT, TRANSLATION_LIMIT])
        low = np.full(count, -SCORE_LIMIT), [scale / SCALE_FACTOR_LIMIT], transform - reach
        high = np.full(count, SCORE_LIMIT), [scale * SCALE_FACTOR_LIMIT], transform + reach
        return np.stack([np.concatenate(low), np.concatenate(high)])


def fit(
    landmarks: NDArray[np.floating],
    *,
    components: int | None = None,
    variance_kept: float | None = None,
    alignment: Alignment = "similarity",
    markup: Markup = IBUG68,
) -> FittedShapeModel:
    """Fit a shape model to landmarks (N, L, 2), by count or by share of variance.

    Exactly one of ``components`` (1 to min(N − 1, ``components_max``)) and ``variance_kept`` (0 to
    1) is given. Two different shapes are the least. ValueError says which argument is off.
    """
    shapes = np.asarray(landmarks, np.float64)
    if shapes.ndim != 3 or shapes.shape[-1] != 2 or not np.isfinite(shapes).all():
        raise ValueError(f"landmarks must be finite and (N, L, 2), not {shapes.shape}")
    if len(shapes) < 2:
        raise ValueError(f"a shape model needs two shapes and more, not {len(shapes)}")
    if (components is None) == (variance_kept is None):
        raise ValueError("give either components or variance_kept")
    aligned = align(shapes, alignment, markup)
    mean = aligned.mean(axis=0)
    deviations = (aligned - mean).reshape(len(shapes), -1)
    _, singular_values, eigenvectors = scipy.linalg.svd(deviations, full_matrices=False)
    variances = singular_values**2
    if variances.sum() <= np.finfo(float).eps * np.sum(mean**2):
        raise ValueError("all the shapes are one and the same: there is nothing to model")
    shares = np.cumsum(variances) / variances.sum()
    limit = min(len(shapes) - 1, components_max(shapes.shape[1], alignment))
    count = _component_count(components, variance_kept, shares, limit)
    score_deviations = singular_values[:count] / np.sqrt(len(shapes) - 1)
    scaled = (score_deviations[:, None] * eigenvectors[:count]).reshape(count, *mean.shape)
    parameters = fit_parameters(mean, scaled, shapes)
    return FittedShapeModel(
        mean=mean,
        components=scaled,
        variance_kept=float(shares[count - 1]),
        parameter_means=parameters.mean(axis=0),
        parameter_deviations=parameters.std(axis=0),
    )


def components_max(point_count: int, alignment: Alignment) -> int:
    """In how many directions aligned shapes of so many points can vary at all.

    Alignment takes two from 2L, the place, and the tilt; without, they keep all.
    """
    return 2 * point_count - (0 if alignment == "none" else 3)


def _component_count(
    components: int | None, variance_kept: float | None, shares: Floats, limit: int
) -> int:
    limit = min(limit, len(shares))
    if variance_kept is not None:
        if not 0 < variance_kept <= 1:
            raise ValueError(f"variance_kept must be above 0 and at most 1, not {variance_kept}")
        # Rounding may leave the last share a hair under 1.
        return min(int(np.searchsorted(shares, variance_kept - 1e-12)) + 1, limit)
    assert components is not None
    if not 1 <= components <= limit:
        raise ValueError(f"components must be 1 to {limit} for these shapes, not {components}")
    return components


def align(shapes: Floats, alignment: Alignment, markup: Markup = IBUG68) -> Floats:
    """Shapes (N, L, 2) aligned for PCA, centred as a whole on the origin.

    ``none``: moved together, each keeps its place, size and tilt in the crop. ``rotation``:
    each centred and turned so that its eyes are level (ShapeNet, arXiv 1902.03459, section
    2.1), or what the markup has as level points. ``similarity``: generalised Procrustes, each
    also scaled to fit the common mean.
    """
    if alignment == "none":
        moved: Floats = shapes - shapes.mean(axis=(0, 1))
        return moved
    if alignment not in get_args(Alignment):
        raise ValueError(f"alignment must be none, rotation or similarity, not {alignment!r}")
    if shapes.shape[1] != markup.point_count:
        raise ValueError(
            f"alignment {alignment!r} levels points of {markup.point_count} landmarks, "
            f"not {shapes.shape[1]}; alignment 'none' takes any"
        )
    if alignment == "rotation":
        return _levelled(shapes, markup)
    return _generalised_procrustes(shapes, markup)


def tilts_rad(shapes: Floats, markup: Markup = IBUG68) -> Floats:
    """The tilt (N) of the line between the centres of the markup's level points.

    Clockwise on the screen; 0 where a face is upright: its line leads from the subject's right
    eye, at the left of the picture, to the left one.
    """
    start, end = (shapes[:, points].mean(axis=1) for points in markup.level_points)
    x, y = (end - start).T
    angles: Floats = np.arctan2(y, x)
    return angles


def _levelled(shapes: Floats, markup: Markup) -> Floats:
    angles = tilts_rad(shapes, markup)
    turned = _as_complex(shapes) * np.exp(-1j * angles)[:, None]
    return _as_points(turned - turned.mean(axis=1, keepdims=True))


def _generalised_procrustes(shapes: Floats, markup: Markup, iterations: int = 20) -> Floats:
    """Each shape turned, scaled and moved onto the mean of all, until that stands still.

    In the complex plane the best similarity onto a mean is one complex factor (Gower,
    Generalized Procrustes analysis, 1975). The mean that the shapes are put onto is level and has
    unit root mean square distance from its centre.
    """
    centred = _as_complex(shapes)
    centred = centred - centred.mean(axis=1, keepdims=True)
    # Level from the start: faces turned by chance could cancel each other out.
    mean = _as_complex(_levelled(shapes, markup)).mean(axis=0)
    for _ in range(iterations):
        mean = mean * np.exp(-1j * tilts_rad(_as_points(mean[None]), markup))
        mean = mean / np.sqrt(np.mean(np.abs(mean) ** 2))
        factors = (centred.conj() @ mean) / np.sum(np.abs(centred) ** 2, axis=1)
        mean = (factors[:, None] * centred).mean(axis=0)
    return _as_points(factors[:, None] * centred)


def fit_parameters(
    mean: Floats, components: Floats, landmarks: NDArray[np.floating], iterations: int = 10
) -> Floats:
    """The parameters (N, K + 4) that bring a shape model closest to landmarks (N, L, 2).

    Least squares, in turns: the similarity that takes the present shape onto the landmarks,
    then the scores of the landmarks taken back.
    """
    targets = _as_complex(np.asarray(landmarks, np.float64))
    basis = components.reshape(len(components), -1)
    projection = np.linalg.pinv(basis)
    scores = np.zeros((len(targets), len(basis)))
    for _ in range(iterations):
        shapes = _as_complex(mean + (scores @ basis).reshape(len(targets), *mean.shape))
        factor, translation = _best_similarity(shapes, targets)
        taken_back = _as_points((targets - translation[:, None]) / factor[:, None])
        scores = (taken_back - mean).reshape(len(targets), -1) @ projection
    return np.column_stack(
        [scores, np.abs(factor), np.angle(factor), translation.real, translation.imag]
    )


def reconstruct(mean: Floats, components: Floats, parameters: Floats) -> Floats:
    """Landmarks (N, L, 2) of parameters (N, K + 4)."""
    count = len(components)
    shapes = mean + np.tensordot(parameters[:, :count], components, axes=1)
    factor = parameters[:, count] * np.exp(1j * parameters[:, count + 1])
    translation = parameters[:, count + 2] + 1j * parameters[:, count + 3]
    return _as_points(factor[:, None] * _as_complex(shapes) + translation[:, None])


def truncation_floor_percent(
    model: LinearShapes, landmarks: NDArray[np.floating], markup: Markup = IBUG68
) -> float:
    """The mean NME, in percent, that the model leaves even with the best scores.

    Landmarks (N, L, 2) in any unit, N ≥ 1. What a shape model of the weights file has as limits
    is left out of account.
    """
    mean, components = model.mean.astype(np.float64), model.components.astype(np.float64)
    # Where the components can turn and scale the face too, turns converge slowly.
    parameters = fit_parameters(mean, components, landmarks, iterations=100)
    closest = reconstruct(mean, components, parameters)
    return float(normalised_mean_errors_percent(closest, landmarks, markup).mean())


def _best_similarity(
    shapes: NDArray[np.complex128], targets: NDArray[np.complex128]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    shape_means, target_means = shapes.mean(axis=1), targets.mean(axis=1)
    centred = shapes - shape_means[:, None]
    factor = np.sum(centred.conj() * targets, axis=1) / np.sum(np.abs(centred) ** 2, axis=1)
    return factor, target_means - factor * shape_means


def _as_complex(points: Floats) -> NDArray[np.complex128]:
    return points[..., 0] + 1j * points[..., 1]


def _as_points(values: NDArray[np.complex128]) -> Floats:
    return np.stack([values.real, values.imag], axis=-1)


def modes(model: FittedShapeModel, count: int, deviations: Sequence[float]) -> Floats:
    """The shapes (count, len(deviations), L, 2) of the first modes, one at a time."""
    steps = np.asarray(deviations, np.float64)[None, :, None, None]
    shapes: Floats = model.mean + steps * model.components[:count, None]
    return shapes
