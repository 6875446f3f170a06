"""The shape layer and the similarity transform, as layers that are trained through.

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
