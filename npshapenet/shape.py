"""From parameters to landmarks: PCA reconstruction and similarity transform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """The linear model of a shape: ``mean`` (L, 2) and ``components`` (K, L, 2), x before y.

    The components are unit eigenvectors multiplied by the standard deviation of their scores,
    so that scores have unit variance over the training shapes.
    """

    mean: Floats
    components: Floats

    def shape(self, scores: Floats) -> Floats:
        """Scores (..., K) → shapes (..., L, 2): mean + Σ scores · components."""
        flat_components = self.components.reshape(len(self.components), -1)
        # A product for each face: a batch gives to the bit what single calls give.
        offsets = scores[..., None, :] @ flat_components
        return self.mean + offsets.reshape(*scores.shape[:-1], *self.mean.shape)


@dataclass(frozen=True, eq=False)
class Parameters:
    """What the network says of a face: PCA scores and a similarity transform.

    ``scores`` (..., K), ``scale`` (...), ``angle_rad`` (...), clockwise on the screen, and
    ``translation`` (..., 2) in the network's coordinates: the crop's outer edges, widened to a
    square, are −1 and 1, x right, y down. The leading axes are those of the batch: none for
    one crop. ``quality`` is None: no model yet estimates its own error.
    """

    scores: Floats
    scale: Floats
    angle_rad: Floats
    translation: Floats
    quality: Floats | None = None
    shape_model: ShapeModel = field(kw_only=True, repr=False)

    def landmarks(self, side_px: ArrayLike) -> Floats:
        """The points (..., L, 2) in pixels of a square crop of the given side.

        The centre of the crop's top-left pixel is (0, 0). ``side_px`` is one number, or one
        for each face of the batch.
        """
        half_px = np.asarray(side_px, np.float32) / np.float32(2)
        return self._placed(half_px, half_px - np.float32(0.5))

    def network_landmarks(self) -> Floats:
        """The points (..., L, 2) in the network's coordinates.

        ``scale · R · shape + translation`` with ``R = [[cos, −sin], [sin, cos]]`` on (x, y)
        (ShapeNet, arXiv 1902.03459, section 2).
        """
        return self._placed(np.float32(1), np.float32(0))

    def _placed(self, unit: Floats | np.float32, origin: Floats | np.float32) -> Floats:
        """The points with the network's coordinates times ``unit`` (...), plus ``origin`` (...)."""
        scale = self.scale * unit
        turn = np.empty((*np.shape(scale), 2, 2), np.float32)  # Rᵀ, for points as rows
        turn[..., 0, 0] = turn[..., 1, 1] = scale * np.cos(self.angle_rad)
        turn[..., 0, 1] = scale * np.sin(self.angle_rad)
        turn[..., 1, 0] = -turn[..., 0, 1]
        unit, origin = np.asarray(unit)[..., None], np.asarray(origin)[..., None]
        moved = self.translation * unit + origin
        placed: Floats = self.shape_model.shape(self.scores) @ turn
        placed += moved[..., None, :]
        return placed


def split_outputs(outputs: Floats, shape_model: ShapeModel) -> Parameters:
    """The outputs (..., K + 4) of a network: K scores, scale, angle in radians, x and y."""
    count = len(shape_model.components)
    return Parameters(
        scores=outputs[..., :count],
        # [()] makes a number of an array without axes, and leaves others as they are.
        scale=outputs[..., count][()],
        angle_rad=outputs[..., count + 1][()],
        translation=outputs[..., count + 2 : count + 4],
        shape_model=shape_model,
    )
