"""Steady points in a video: the One-Euro filter, a low-pass that opens up when a point moves.

Géry Casiez, Nicolas Roussel, Daniel Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for
Noisy Input in Interactive Systems", CHI 2012. L is the number of points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

_Cutoff = TypeVar("_Cutoff", float, "Floats")


@dataclass(frozen=True)
class Smoothing:
    """How much a One-Euro filter smooths.

    ``cutoff_hz`` is the cut-off frequency for a point at rest: lower is steadier.
    ``cutoff_hz_per_speed`` is what each face size a second of the point's speed adds to it: higher
    follows faster. ``speed_cutoff_hz`` smooths the speed itself. In the paper's terms f_cmin, β
    and dcutoff. The defaults were chosen by ``python -m reference.tracked_steadiness --tune``.
    ValueError for numbers that aren't finite, cut-offs that aren't positive, a negative β.
    """

    cutoff_hz: float = 0.5
    cutoff_hz_per_speed: float = 60.0
    speed_cutoff_hz: float = 6.0

    def __post_init__(self) -> None:
        for name in ("cutoff_hz", "speed_cutoff_hz"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, not {getattr(self, name)}")
        if not 0 <= self.cutoff_hz_per_speed < math.inf:
            raise ValueError(
                f"cutoff_hz_per_speed must be 0 or more, not {self.cutoff_hz_per_speed}"
            )


DEFAULT_SMOOTHING: Final = Smoothing()


class OneEuroFilter:
    """The points of one face over time, smoothed; each point has a state of its own.

    Speeds are in units of the face's size, so that the same settings serve small and large faces.
    """

    def __init__(self, settings: Smoothing = DEFAULT_SMOOTHING) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all: the next points come out as they are."""
        self._points: Floats | None = None
        self._speeds: Floats = np.zeros((0, 2))
        self._time_s = -math.inf

    def __call__(self, landmarks: ArrayLike, time_s: float) -> Floats:
        """The points (L, 2) at a time in seconds, smoothed: float64 (L, 2), in the same pixels.

        Times may be unevenly spaced, but must increase; after a long pause the new points count
        nearly alone. ValueError, and nothing changed, for a time that doesn't come after the last,
        points that aren't finite, or another number of points.
        """
        points = np.array(landmarks, np.float64)
        self._check(points, time_s)
        if self._points is None:
            self._speeds = np.zeros_like(points)
            smooth = points
        else:
            # Algorithm 1 of the paper, with a point's two speeds taken together: it is the
            # motion that opens the filter, whichever its direction.
            step_s = time_s - self._time_s
            moved = points - self._points
            speed_period_s = _period_s(self.settings.speed_cutoff_hz)
            # α · moved / step + (1 − α) · speeds, without a division by a step that may be tiny.
            self._speeds = (moved + speed_period_s * self._speeds) / (step_s + speed_period_s)
            speed = np.hypot(self._speeds[:, 0], self._speeds[:, 1]) / face_size(points)
            cutoff_hz = self.settings.cutoff_hz + self.settings.cutoff_hz_per_speed * speed
            share = step_s / (step_s + _period_s(cutoff_hz))
            smooth = self._points + share[:, None] * moved
        self._points, self._time_s = smooth, time_s
        return smooth.copy()

    def _check(self, points: Floats, time_s: float) -> None:
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise ValueError(f"landmarks must be (L, 2), x and y; got shape {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError("landmarks must be finite numbers; got NaN or infinity")
        if self._points is not None and len(points) != len(self._points):
            raise ValueError(f"{len(points)} points came after {len(self._points)}: reset() first")
        if not (math.isfinite(time_s) and time_s > self._time_s):
            raise ValueError(
                f"time_s is {time_s:g} after {self._time_s:g}; accepted: times that increase"
            )


def face_size(points: Floats) -> float:
    """The longer side of the points' (L, 2) bounding box; at least one pixel."""
    # Along rows that are whole in memory NumPy is faster.
    rows = np.ascontiguousarray(points.T)
    extent: list[float] = (rows.max(axis=1) - rows.min(axis=1)).tolist()
    return max(1.0, *extent)


def _period_s(cutoff_hz: _Cutoff) -> _Cutoff:
    """The time constant τ of a low-pass: 1 / (2π · cut-off), equation 5 of the paper."""
    return 1 / (2 * math.pi * cutoff_hz)
