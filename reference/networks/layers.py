"""The shape layer, the similarity transform and their inverse, as layers that are trained through.

Sizes: N faces, K components, L landmarks. Coordinates are the network's: the crop's outer
edges are −1 and 1, x right, y down.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ShapeLayer(nn.Module):
    """Scores (N, K) → shapes (N, L, 2): mean + Σ scores · components."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("components", components.float())

    def forward(self, scores: Tensor) -> Tensor:
        return self.mean + torch.einsum("nk,kld->nld", scores, self.components)


class SimilarityLayer(nn.Module):
    """Shapes (N, L, 2), scaled, turned clockwise on the screen, then moved.

    ``transforms`` (N, 4) are scale, angle in radians, translation x and y.
    """

    def forward(self, shapes: Tensor, transforms: Tensor) -> Tensor:
        scale, angle_rad, translation = transforms[:, 0], transforms[:, 1], transforms[:, 2:4]
        cosine, sine = scale * torch.cos(angle_rad), scale * torch.sin(angle_rad)
        x, y = shapes.unbind(dim=-1)
        turned_x = cosine[:, None] * x - sine[:, None] * y
        turned_y = sine[:, None] * x + cosine[:, None] * y
        return torch.stack([turned_x, turned_y], dim=-1) + translation[:, None, :]


#: The square of a similarity's scale that counts as none at all.
SIZE_MIN = 1e-12


class ShapeFitLayer(nn.Module):
    """Points (N, L, 2) → the parameters (N, K + 4) of a shape near to them.

    ``components`` (K, L, 2) are orthogonal, so that a score is a product with its component: the
    nearest shape. ``weight`` (K, 2·L), which begins so, may be refined to trust some points less:
    see ``reference.refine_fit``.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        rows = components.flatten(1).float()
        self.register_buffer("weight", rows / rows.square().sum(dim=1, keepdim=True))

    def forward(self, points: Tensor) -> Tensor:
        return fit_shape(points, self.mean, self.weight)


def fit_shape(points: Tensor, mean: Tensor, weight: Tensor) -> Tensor:
    """Points (N, L, 2) → scores, scale, angle in radians, translation (N, K + 4).

    The similarity that takes ``mean`` (L, 2) onto the points by least squares; then ``weight``
    (K, 2·L) times what is left of the points, taken back, without the mean.
    """
    factor, move = similarity_onto(points, mean)
    scores = offsets(points, mean, factor, move) @ weight.T
    scale = factor.square().sum(dim=1).sqrt()
    angle_rad = torch.atan2(factor[:, 1], factor[:, 0])
    return torch.cat([scores, scale[:, None], angle_rad[:, None], move], dim=1)


def similarity_onto(points: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity that takes ``mean`` (L, 2) onto points (N, L, 2), by least squares.

    In the complex plane it is the multiplication by a factor, of which real and imaginary part are
    returned (N, 2), and the addition of a translation (N, 2) (Gower, Generalized Procrustes
    analysis, 1975).
    """
    centre = mean.mean(dim=0)
    u, v = ((mean - centre) / (mean - centre).square().sum().clamp_min(SIZE_MIN)).unbind(dim=1)
    x, y = points.unbind(dim=-1)
    factor = torch.stack([x @ u + y @ v, y @ u - x @ v], dim=1)
    return factor, points.mean(dim=1) - _times(factor, centre[None, None])[:, 0]


def offsets(points: Tensor, mean: Tensor, factor: Tensor, move: Tensor) -> Tensor:
    """How points (N, L, 2), taken back by a similarity, differ from ``mean`` (L, 2): (N, 2·L)."""
    conjugate = factor * factor.new_tensor([1, -1])
    inverse = conjugate / factor.square().sum(dim=1, keepdim=True).clamp_min(SIZE_MIN)
    return (_times(inverse, points - move[:, None]) - mean).flatten(1)


def _times(factors: Tensor, points: Tensor) -> Tensor:
    """Complex factors (N, 2) times points (N or 1, L, 2)."""
    real, imaginary = factors[:, None].unbind(dim=-1)
    x, y = points.unbind(dim=-1)
    return torch.stack([real * x - imaginary * y, imaginary * x + real * y], dim=-1)
