"""Losses on landmarks, normalised by the size of the face."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: In the network's coordinates: far below any face in a crop around it.
FACE_SIZE_MIN = 0.02


def face_sizes(landmarks: Tensor) -> Tensor:
    """The square root of the area (N) of the landmarks' bounds (N, L, 2).

    Unlike the distance of the eyes it doesn't shrink when the head turns.
    """
    extents = landmarks.amax(dim=1) - landmarks.amin(dim=1)
    return extents.prod(dim=1).sqrt()


#: What the landmarks before the last look count for: those first found, and those in between.
FIRST_WEIGHT, BETWEEN_WEIGHT = 0.5, 0.25


def stages_loss(
    stages: Sequence[Tensor], truth: Tensor, width: float = 0.1, curvature: float = 0.02
) -> tuple[Tensor, Tensor]:
    """The loss to train by, and the wing loss of the last stage alone; landmarks (N, L, 2).

    Earlier stages count too, so that each look starts from about the right place.
    """
    *earlier, last = (wing_loss(stage, truth, width, curvature) for stage in stages)
    total = last
    for place, loss in enumerate(earlier):
        total = total + (BETWEEN_WEIGHT if place else FIRST_WEIGHT) * loss
    return total, last


def steady_loss(
    prediction: Tensor, truth: Tensor, width: float = 0.1, curvature: float = 0.02
) -> Tensor:
    """What the points of faces shown twice differ by, moved back, as a wing loss.

    Landmarks (2N, L, 2): the second half are the same faces as the first, elsewhere in the image.
    """
    first_errors, second_errors = (prediction - truth).chunk(2)
    faces, _ = truth.chunk(2)
    return wing_loss(faces + second_errors - first_errors, faces, width, curvature)


def wing_loss(
    prediction: Tensor, truth: Tensor, width: float = 0.1, curvature: float = 0.02
) -> Tensor:
    """The mean wing loss of the points' distances in face sizes; landmarks (N, L, 2).

    Logarithmic up to ``width``, so that small errors count, and linear beyond, so that a few
    bad labels don't rule: Feng et al., Wing Loss, arXiv 1711.06753, equation 5.
    """
    distances = torch.linalg.vector_norm(prediction - truth, dim=-1)
    # Labels whose points lie on one line have no area, and must not end a run.
    distances = distances / face_sizes(truth).clamp_min(FACE_SIZE_MIN)[:, None]
    logarithmic = width * torch.log1p(distances / curvature)
    shift = width - width * math.log1p(width / curvature)
    return torch.where(distances < width, logarithmic, distances - shift).mean()
