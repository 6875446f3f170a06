"""From parameters to landmarks: PCA reconstruction and similarity transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]

#: The numbers of the similarity transform, beside the scores of the shape model.
TRANSFORM_NUMBERS: Final = 4
#: No estimate of an error is given outside these: percent of the inter-ocular distance.
QUALITY_LIMITS_PERCENT: Final = (np.float32(0.1), np.float32(100))

_I: Final = np.complex64(1j)


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """The linear model of a shape: ``mean`` (L, 2) and ``components`` (K, L, 2), x before y.

    The components are unit eigenvectors multiplied by the standard deviation of their scores,
    so that scores have unit variance over the training shapes. ``limits`` (2, K + 4), if there
    are any, are the least and the largest that each parameter may be, in the order of
    ``split_outputs``: what lies outside is moved to the nearest, so that whatever the picture,
    the points stay near the shapes that the model was trained on.
    """

    mean: Floats
    components: Floats
    limits: Floats | None = None

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
    one crop. ``quality`` (...) is the network's estimate of its own error, the NME expected in
    percent: a good face has some 3, a picture without a face 30 and more. None where a model
    gives no estimate.
    """

    scores: Floats
    scale: Floats
    angle_rad: Floats
    translation: Floats
    quality: Floats | None = None
    shape_model: ShapeModel = field(kw_only=True, repr=False)

    def of_face(self, index: int) -> Parameters:
        """Those of one face of a batch."""
        return Parameters(
            self.scores[index],
            self.scale[index],
            self.angle_rad[index],
            self.translation[index],
            None if self.quality is None else self.quality[index],
            shape_model=self.shape_model,
        )

    def landmarks(self, side_px: ArrayLike) -> Floats:
        """The points (..., L, 2) in pixels of a square crop of the given side.

        The centre of the crop's top-left pixel is (0, 0). ``side_px`` is one number, or one
        for each face of the batch.
        """
        half_px = np.asarray(side_px, np.float32) / np.float32(2)
        return self._placed(half_px, half_px - np.float32(0.5))

    def crop_landmarks(self, sizes_px: Sequence[tuple[int, ...]]) -> Floats:
        """The points (N, L, 2) of a batch, each in pixels of its crop of (height, width).

        A crop that isn't square lies in the middle of the square that the network saw, as
        ``image.widen_to_square`` puts it.
        """
        sizes = np.array(sizes_px, np.int64).reshape(-1, 2)
        sides = sizes.max(axis=1, initial=0)
        before = (sides[:, None] - sizes[:, ::-1]) // 2  # columns, rows
        landmarks: Floats = self.landmarks(sides) - before.astype(np.float32)[:, None]
        return landmarks

    def network_landmarks(self) -> Floats:
        """The points (..., L, 2) in the network's coordinates.

        ``scale · R · shape + translation`` with ``R = [[cos, −sin], [sin, cos]]`` on (x, y)
        (ShapeNet, arXiv 1902.03459, section 2).
        """
        return self._placed(np.ones((), np.float32), np.zeros((), np.float32))

    def _placed(self, unit: Floats, origin: Floats) -> Floats:
        """The points with the network's coordinates times ``unit`` (...), plus ``origin`` (...)."""
        # A point is the complex number x + iy: to turn it is to multiply by cos + i sin.
        turn = self.scale * unit * np.exp(_I * self.angle_rad)
        moved = self.translation * unit[..., None] + origin[..., None]
        points = self.shape_model.shape(self.scores)
        complex_points = points.view(turn.dtype)  # (..., L, 1)
        complex_moved = moved.view(turn.dtype)[..., None, :]
        placed = complex_points * turn[..., None, None] + complex_moved
        landmarks: Floats = placed.view(points.dtype)
        return landmarks


def split_outputs(outputs: Floats, shape_model: ShapeModel) -> Parameters:
    """What the outputs (..., K + 4) or (..., K + 5) of a network mean.

    K scores, scale, angle in radians, x and y, within the shape model's limits; then, if there
    is one more, the natural logarithm of the quality.
    """
    count = len(shape_model.components)
    quality = None
    if outputs.shape[-1] > count + TRANSFORM_NUMBERS:
        quality = _within(np.exp(outputs[..., -1]), *QUALITY_LIMITS_PERCENT)
        outputs = outputs[..., :-1]
    if shape_model.limits is not None:
        outputs = _within(outputs, *shape_model.limits)
    return Parameters(
        scores=outputs[..., :count],
        # [()] makes a number of an array without axes, and leaves others as they are.
        scale=outputs[..., count][()],
        angle_rad=outputs[..., count + 1][()],
        translation=outputs[..., count + 2 : count + 4],
        quality=quality,
        shape_model=shape_model,
    )


def with_landmarks(
    outputs: Floats, shape_model: ShapeModel, sizes_px: Sequence[tuple[int, ...]]
) -> Floats:
    """Outputs (N, P) of crops of such sizes → their landmarks behind them (N, P + 2·L)."""
    landmarks = split_outputs(outputs, shape_model).crop_landmarks(sizes_px)
    return np.concatenate([outputs, landmarks.reshape(len(outputs), shape_model.mean.size)], axis=1)


def _within(values: Floats, least: ArrayLike, most: ArrayLike) -> Floats:
    """As np.clip, which takes longer for so few numbers."""
    return np.minimum(np.maximum(values, least), most)
