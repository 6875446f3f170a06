"""ShapeNet: features → scores and transform → landmarks (arXiv 1902.03459)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.networks.compact import CompactExtractor
from reference.networks.layers import ShapeFitLayer, ShapeLayer, SimilarityLayer
from reference.networks.maps import MapExtractor
from reference.networks.quality import QualityHead
from reference.shape_model import FittedShapeModel

TRANSFORM_COUNT = 4


class ShapeNet(nn.Module):
    """A feature extractor whose outputs are the parameters of a shape model.

    ``extractor`` maps images (N, 1, H, W) to (N, K + 4) numbers; they are scaled and shifted to
    the spread that the parameters have in the training set, so that all of them are learnt
    at one pace. Export folds that into the last layer. Or it finds landmarks, by maps or looks, to
    which the shape model is fitted. ``limits`` (2, K + 4), the least and the largest of each
    parameter, bind what is predicted, not what is trained on. A ``quality`` head may be added to a
    trained network: see ``reference.train_quality``.
    """

    parameter_scales: Tensor
    parameter_offsets: Tensor
    limits: Tensor | None

    def __init__(
        self,
        extractor: nn.Module,
        mean: Tensor,
        components: Tensor,
        parameter_scales: Tensor,
        parameter_offsets: Tensor,
        limits: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.shape_layer = ShapeLayer(mean, components)
        self.shape_fit: ShapeFitLayer | None = None
        if finds_points(extractor):
            self.shape_fit = ShapeFitLayer(mean, components)
        self.similarity_layer = SimilarityLayer()
        self.register_buffer("parameter_scales", parameter_scales.float())
        self.register_buffer("parameter_offsets", parameter_offsets.float())
        self.register_buffer("limits", None if limits is None else limits.float())
        self.quality: QualityHead | None = None
        if isinstance(extractor, CompactExtractor) and self.shape_fit is not None:
            extractor.begin_with(self.landmarks(self.parameter_offsets[None])[0])

    def outputs(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) → K scores, scale, angle in radians, translation (N, K + 4).

        With a quality head, also the logarithm of the expected NME in percent (N, K + 5).
        """
        if self.quality is None:
            return self._to_parameters(self.extractor(images))
        parameters, collapsed = self.outputs_and_collapsed(images)
        return torch.cat([parameters, self.quality(collapsed)[:, None]], dim=1)

    def outputs_and_collapsed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The parameters (N, K + 4), and what a quality head reads (N, C, 1, 1).

        TypeError where the extractor is the original one, which has nothing for it.
        """
        if not isinstance(self.extractor, CompactExtractor | MapExtractor):
            raise TypeError(f"a {type(self.extractor).__name__} has nothing for a quality head")
        if self.shape_fit is not None:
            stages, collapsed = self.extractor.stages_and_collapsed(images)
            return self._to_parameters(stages[-1]), collapsed
        assert isinstance(self.extractor, CompactExtractor)
        collapsed = self.extractor.collapsed(self.extractor.blocks(images))
        return self._to_parameters(self.extractor.from_collapsed(collapsed)), collapsed

    def stages_to_train(self, images: Tensor) -> list[Tensor]:
        """The landmarks (N, L, 2) that losses are of: with looks, those first found and those
        after each look; before the shape model is fitted, where it is."""
        if self.shape_fit is not None:
            assert isinstance(self.extractor, CompactExtractor | MapExtractor)
            return self.extractor.stages_and_collapsed(images)[0]
        # Not in bfloat16, as they come under mixed precision: half a pixel would be lost.
        return [self.landmarks_of(self.extractor(images).float())]

    def landmarks_of(self, found: Tensor) -> Tensor:
        """What a direct extractor gives (N, K + 4) → landmarks (N, L, 2), without limits."""
        return self.landmarks(self._to_parameters(found))

    def landmarks(self, outputs: Tensor) -> Tensor:
        """Outputs (N, K + 4), or more → landmarks (N, L, 2) in the network's coordinates."""
        count = len(self.shape_layer.components)
        shapes = self.shape_layer(outputs[:, :count])
        transforms = outputs[:, count : count + TRANSFORM_COUNT]
        landmarks: Tensor = self.similarity_layer(shapes, transforms)
        return landmarks

    def forward(self, images: Tensor) -> Tensor:
        # Not in bfloat16, as outputs may come under mixed precision: half a pixel would be lost.
        outputs = self.outputs(images).to(self.parameter_scales.dtype)
        parameters = outputs[:, : len(self.parameter_scales)]
        if self.limits is not None:
            parameters = parameters.clamp(*self.limits)
        return self.landmarks(parameters)

    def _to_parameters(self, found: Tensor) -> Tensor:
        if self.shape_fit is not None:
            parameters: Tensor = self.shape_fit(found)
            return parameters
        return found * self.parameter_scales + self.parameter_offsets


def finds_points(extractor: nn.Module) -> bool:
    """Whether an extractor gives landmarks, not parameters."""
    if isinstance(extractor, CompactExtractor):
        return extractor.looks is not None
    return isinstance(extractor, MapExtractor)


def with_shape_model(extractor: nn.Module, model: FittedShapeModel) -> ShapeNet:
    """A ShapeNet around an extractor, its outputs spread as the fitted model's parameters."""
    return ShapeNet(
        extractor,
        torch.from_numpy(model.mean),
        torch.from_numpy(model.components),
        torch.from_numpy(model.parameter_deviations),
        torch.from_numpy(model.parameter_means),
        torch.from_numpy(model.parameter_limits()),
    )
