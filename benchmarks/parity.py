"""Nothing is timed that is wrong: what each system finds, beside the NumPy backend's landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.systems import System
from benchmarks.workload import Workload
from npshapenet.layers import GroupNorm, InstanceNorm
from npshapenet.markup import LEFT_EYE_OUTER_CORNER, RIGHT_EYE_OUTER_CORNER

#: The largest distance between two systems' landmarks, in pixels of the crop; networks that
#: normalise their images differ more between any two backends: that magnifies what differs.
LIMIT_PX: Final = 0.01
LIMIT_NORM_PX: Final = 0.05

#: Systems with a model of their own need only find the face: the mean distance from the points
#: placed by hand, in percent of the distance of the outer eye corners.
LIMIT_OWN_MODEL_PERCENT: Final = 8.0

Floats = NDArray[np.float32]


class ParityError(Exception):
    """A system finds other landmarks than it must; the message says which and by how much."""


def check_parity(systems: Sequence[System], work: Workload) -> dict[str, str]:
    """How far each system's landmarks are from those of the NumPy backend, in pixels, by title.

    Of a system with a model of its own: from the points placed by hand, in percent. ParityError
    names the first one that is too far.
    """
    return {system.title: _check(system, work) for system in systems}


def check_found(who: str, landmarks: Floats, work: Workload) -> float:
    """The largest distance from what the NumPy backend finds, in pixels of the crop.

    ParityError if it is too large.
    """
    difference = float(np.linalg.norm(landmarks - work.expected, axis=1).max())
    layers = work.weights.network.layers
    has_norm = any(isinstance(layer, InstanceNorm | GroupNorm) for layer in layers)
    limit = LIMIT_NORM_PX if has_norm else LIMIT_PX
    if not difference <= limit:
        raise ParityError(
            f"{who} differs from the NumPy backend by {difference:.2g} px; accepted: {limit} px"
        )
    return difference


def _check(system: System, work: Workload) -> str:
    # Twice: a first call may take another way than the later ones, which are timed.
    system.call()
    found = system.landmarks(system.call())
    if not system.has_own_model:
        difference = check_found(system.title, found, work)
        return f"{difference:.0e}" if difference else "0"
    error = _error_percent(found, work)
    if not error <= LIMIT_OWN_MODEL_PERCENT:
        raise ParityError(f"{system.title} is {error:.1f} % from the points placed by hand")
    return f"{error:.1f} %"


def _error_percent(found: Floats, work: Workload) -> float:
    placed = work.placed - np.array([work.crop.left, work.crop.top], np.float32)
    distances = np.linalg.norm(found - placed, axis=1)
    eyes = np.linalg.norm(placed[RIGHT_EYE_OUTER_CORNER] - placed[LEFT_EYE_OUTER_CORNER])
    return float(distances.mean() / eyes * 100)
