"""What a tracker makes of a clip, against the clip's truth: error, jitter and lag.

Sizes: F frames, 68 landmarks. The first second is left out, in which a filter comes to rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import npshapenet
from npshapenet.smoothing import OneEuroFilter, Smoothing
from reference import metrics
from reference.clips import FRAMES_PER_SECOND, Clip

Floats = NDArray[np.float64]

#: Frames that aren't counted.
_FIRST: Final = round(FRAMES_PER_SECOND)
#: The lags that are tried, in frames.
_LAGS: Final = np.arange(0, 3.001, 0.05)


class FaceLost(Exception):
    """The tracker gave no face, or more than one, in a frame of a clip."""


@dataclass(frozen=True, eq=False)
class Figures:
    """Of one clip, percent of the distance of the outer eye corners.

    ``nme`` is the mean error. ``lag_frames`` is the delay by which the true motion is most like
    that of the landmarks: 0 to 3, NaN where nothing moves. ``jitter`` is the root mean square
    distance of the landmarks from their mean place, relative to the truth delayed by that lag.
    ``step`` is the root mean square of the change of that distance from frame to frame.
    """

    nme: float
    jitter: float
    step: float
    lag_frames: float


def track(clip: Clip, model: npshapenet.Model) -> Floats:
    """The landmarks (F, 68, 2) that a ``Tracker`` gives without smoothing.

    Its detector is the labelled box, moved along. FaceLost where the face is lost on the way.
    """
    frame = 0
    tracker = npshapenet.Tracker(lambda photo: [clip.true_box(frame)], model, smoothing=None)
    landmarks = []
    for frame, gray in enumerate(clip.frames()):
        faces = tracker.update(gray)
        if len(faces) != 1 or faces[0].id != 1:
            raise FaceLost(f"frame {frame}: faces {[face.id for face in faces]}")
        landmarks.append(faces[0].landmarks)
    return np.array(landmarks, np.float64)


def smoothed(landmarks: Floats, smoothing: Smoothing) -> Floats:
    """The landmarks (F, 68, 2) as a ``Tracker`` with that smoothing gives them."""
    one_euro = OneEuroFilter(smoothing)
    return np.array(
        [one_euro(points, frame / FRAMES_PER_SECOND) for frame, points in enumerate(landmarks)]
    )


def figures(clip: Clip, landmarks: Floats) -> Figures:
    """How a clip's landmarks (F, 68, 2) compare with its truth."""
    frames = np.arange(_FIRST, len(landmarks))
    counted = landmarks[frames]
    truth = _truth(clip, frames)
    unit = metrics.interocular_distances_px(truth)[:, None, None] / 100
    nme = float(metrics.interocular_nme_percent(counted, truth).mean())
    moves = not np.allclose(truth, truth[0])
    lag_frames = _lag_frames(clip, frames, counted) if moves else float("nan")
    delayed = _truth(clip, frames - lag_frames) if moves else truth
    residual = _centred((counted - delayed) / unit)
    return Figures(
        nme, _root_mean_square(residual), _root_mean_square(np.diff(residual, axis=0)), lag_frames
    )


def mean(items: Sequence[Figures]) -> Figures:
    """The mean over clips."""
    return Figures(
        *(
            float(np.mean([getattr(item, name) for item in items]))
            for name in ("nme", "jitter", "step", "lag_frames")
        )
    )


def _lag_frames(clip: Clip, frames: NDArray[np.intp], landmarks: Floats) -> float:
    """The delay of the truth at which its motion is nearest to the landmarks'."""
    motion = _centred(landmarks)
    differences = [
        float(np.square(motion - _centred(_truth(clip, frames - lag))).sum()) for lag in _LAGS
    ]
    return float(_LAGS[int(np.argmin(differences))])


def _truth(clip: Clip, frames: NDArray[Any]) -> Floats:
    return np.array([clip.truth(float(frame)) for frame in frames])


def _centred(points: Floats) -> Floats:
    """Points (F, 68, 2) minus the mean place of each."""
    centred: Floats = points - points.mean(axis=0)
    return centred


def _root_mean_square(distances: Floats) -> float:
    """Of vectors (F, 68, 2)."""
    return float(np.sqrt(np.square(distances).sum(axis=-1).mean()))
