"""ShapeNet: features → scores and transform → landmarks (arXiv 1902.03459)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.networks.layers import ShapeLayer, SimilarityLayer
from reference.shape_model import FittedShapeModel

TRANSFORM_COUNT = 4


class ShapeNet(nn.Module):
    """A feature extractor whose outputs are the parameters of a shape model.

    ``extractor`` maps images (N, 1, H, W) to (N, K + 4) numbers; they are scaled and shifted to
    the spread that the parameters have in the training set, so that all of them are learnt
    at one pace. Export folds that into the last layer.
    """

    parameter_scales: Tensor
    parameter_offsets: Tensor

    def __init__(
        self,
        extractor: nn.Module,
        mean: Tensor,
        components: Tensor,
        parameter_scales: Tensor,
        parameter_offsets: Tensor,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.shape_layer = ShapeLayer(mean, components)
        self.similarity_layer = SimilarityLayer()
        self.register_buffer("parameter_scales", parameter_scales.float())
        self.register_buffer("parameter_offsets", parameter_offsets.float())

    def outputs(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) → K scores, scale, angle in radians, translation (N, K + 4)."""
        raw: Tensor = self.extractor(images)
        return raw * self.parameter_scales + self.parameter_offsets

    def landmarks(self, outputs: Tensor) -> Tensor:
        """Outputs (N, K + 4) → landmarks (N, L, 2) in the network's coordinates."""
        count = outputs.shape[1] - TRANSFORM_COUNT
        shapes = self.shape_layer(outputs[:, :count])
        landmarks: Tensor = self.similarity_layer(shapes, outputs[:, count:])
        return landmarks

    def forward(self, images: Tensor) -> Tensor:
        # Not in bfloat16, as outputs may come under mixed precision: half a pixel would be lost.
        return self.landmarks(self.outputs(images).to(self.parameter_scales.dtype))


def with_shape_model(extractor: nn.Module, model: FittedShapeModel) -> ShapeNet:
    """A ShapeNet around an extractor, its outputs spread as the fitted model's parameters."""
    return ShapeNet(
        extractor,
        torch.from_numpy(model.mean),
        torch.from_numpy(model.components),
        torch.from_numpy(model.parameter_deviations),
        torch.from_numpy(model.parameter_means),
    )
