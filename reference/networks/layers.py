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
    """Points (N, L, 2) → the parameters (N, K + 4) of the nearest shape of a shape model.

    ``components`` (K, L, 2) are orthogonal, so that a score is a product with its component.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        super().__init__()
        rows = components.flatten(1).float()
        # Not in the network's state: they are the shape model's, which has its own place there.
        self.register_buffer("mean", mean.float(), persistent=False)
        weight = rows / rows.square().sum(dim=1, keepdim=True)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        return fit_shape(points, self.mean, self.weight)


def fit_shape(points: Tensor, mean: Tensor, weight: Tensor) -> Tensor:
    """Points (N, L, 2) → scores, scale, angle in radians, translation (N, K + 4).

    The similarity that takes ``mean`` (L, 2) onto the points by least squares (Gower,
    Generalized Procrustes analysis, 1975); then ``weight`` (K, 2·L) times what is left of the
    points, taken back, without the mean.
    """
    centre, middle = mean.mean(dim=0), points.mean(dim=1)
    factors = (mean - centre) / (mean - centre).square().sum().clamp_min(SIZE_MIN)
    x, y = points.unbind(dim=-1)
    real = x @ factors[:, 0] + y @ factors[:, 1]
    imaginary = y @ factors[:, 0] - x @ factors[:, 1]
    square = real.square() + imaginary.square()
    along, across = real / square.clamp_min(SIZE_MIN), imaginary / square.clamp_min(SIZE_MIN)
    move_x = middle[:, 0] - (real * centre[0] - imaginary * centre[1])
    move_y = middle[:, 1] - (real * centre[1] + imaginary * centre[0])
    x, y = x - move_x[:, None], y - move_y[:, None]
    back_x = along[:, None] * x + across[:, None] * y
    back_y = along[:, None] * y - across[:, None] * x
    scores = (torch.stack([back_x, back_y], dim=-1) - mean).flatten(1) @ weight.T
    transform = [square.sqrt(), torch.atan2(imaginary, real), move_x, move_y]
    return torch.cat([scores, torch.stack(transform, dim=1)], dim=1)
