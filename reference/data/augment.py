"""Random changes to stored crops: what the network sees in training.

Everything works on whole batches. Sizes: N faces, S the side of a stored crop, side the
network's. Coordinates are the network's: the unchanged 1.5 × box crop has its outer edges at
−1 and 1, x right, y down; the stored crop reaches out to ±S/side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from reference.data.markup import IBUG68, Markup


@dataclass(frozen=True)
class Augmentation:
    """How far faces are changed; every default of 0 leaves them as they are.

    ``turn_std_deg``, ``shift_std`` (in box sides) and ``scale_std`` (of the logarithm) are
    standard deviations of a normal distribution; ``wide_share`` of the faces draw a turn
    evenly from ±``wide_turn_deg`` instead. Shares are probabilities for each face.
    """

    mirror_share: float = 0.0
    turn_std_deg: float = 0.0
    wide_share: float = 0.0
    wide_turn_deg: float = 0.0
    scale_std: float = 0.0
    shift_std: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur_share: float = 0.0
    noise_std: float = 0.0
    occlusion_share: float = 0.0
    border_trim_share: float = 0.0
    border_fill_share: float = 0.0


@dataclass(frozen=True, eq=False)
class Batch:
    """``crops`` uint8 (N, S, S), ``landmarks`` (N, L, 2) and ``photo_edges`` (N, 4).

    Landmarks are in pixels of the stored crop (the centre of its top-left pixel is (0, 0)),
    edges in the same unit counted from the crop's outer edge, as in the faces file. ``markup``
    says what the landmarks are, ``label_shifts`` (N) how far right of the true points they lie,
    in pixels of the stored crop; None: not at all.
    """

    crops: Tensor
    landmarks: Tensor
    photo_edges: Tensor
    markup: Markup = IBUG68
    label_shifts: Tensor | None = None


def augment(
    batch: Batch,
    side_px: int,
    settings: Augmentation,
    generator: torch.Generator,
    moved_px: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Network images (N, 1, side, side) in [0, 1] and landmarks (N, L, 2), −1 to 1.

    With the default settings the image is the middle of the stored crop, untouched. ``moved_px``
    (N, 2) moves the faces last, by pixels of the image: right and down. ValueError for a
    ``mirror_share`` where the markup isn't mirrored.
    """
    if settings.mirror_share and batch.markup.mirror is None:
        raise ValueError(f"mirror_share: the points of {batch.markup.name} have no mirror")
    count, stored_px = batch.crops.shape[0], batch.crops.shape[-1]
    reach = stored_px / side_px
    landmarks = network_landmarks(batch, side_px)
    photo_edges = batch.photo_edges * (2 / side_px) - reach
    to_source, offset = _random_similarities(count, settings, generator)
    if moved_px is not None:
        offset = offset - (to_source @ (moved_px * (2 / side_px))[:, :, None]).squeeze(2)

    grid = _sampling_grid(side_px, to_source, offset)
    edges, is_cut = _trimmed_edges(photo_edges, landmarks, reach, settings, generator)
    is_outside = (grid != _clamped(grid, edges)).any(dim=-1)
    # Where nothing was cut, the stored crop has the repeated pixels already.
    everything = torch.tensor([-reach, -reach, reach, reach])
    inside = _clamped(grid, torch.where(is_cut, edges, everything))
    stored = batch.crops.to(torch.float32)[:, None] / 255
    images = functional.grid_sample(
        stored, inside / reach, mode="bicubic", padding_mode="border", align_corners=False
    ).clamp_(0, 1)
    images = _filled_outside(images, is_outside, settings, generator)

    if batch.label_shifts is not None:
        # A picture in the mirror would get its labels as far right as any other; these, mirrored
        # with it, would lie as far left.
        is_mirrored = torch.linalg.det(to_source) < 0
        landmarks[..., 0] -= (2 * (2 / side_px) * batch.label_shifts * is_mirrored)[:, None]
    turned_back = torch.linalg.inv(to_source)
    landmarks = (landmarks - offset[:, None]) @ turned_back.transpose(1, 2)
    landmarks = _mirrored_order(landmarks, to_source, batch.markup)
    return _photometric(images, settings, generator), landmarks


def network_landmarks(batch: Batch, side_px: int) -> Tensor:
    """The landmarks (N, L, 2) of unchanged crops, −1 to 1."""
    reach = batch.crops.shape[-1] / side_px
    return (batch.landmarks + 0.5) * (2 / side_px) - reach


def mirrored(landmarks: Tensor, mirror: Sequence[int]) -> Tensor:
    """Landmarks (N, L, 2) of the mirrored pictures, renumbered: left stays the subject's left.

    ``mirror`` is that of the markup.
    """
    return landmarks[:, list(mirror)] * torch.tensor([-1.0, 1.0])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Even numbers in −1 to 1."""
    return torch.rand(shape, generator=generator) * 2 - 1


def _chosen(count: int, share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < share


def _random_similarities(
    count: int, settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Matrices (N, 2, 2) and offsets (N, 2) from network coordinates to those of the crop."""
    turn_deg = settings.turn_std_deg * torch.randn(count, generator=generator)
    wide_turn_deg = settings.wide_turn_deg * _uniform((count,), generator)
    turn_deg = torch.where(_chosen(count, settings.wide_share, generator), wide_turn_deg, turn_deg)
    angle_rad = turn_deg * (math.pi / 180)
    # Beyond 2.5 standard deviations the face would leave the crop.
    normal = torch.randn((count, 3), generator=generator).clamp_(-2.5, 2.5)
    scale = torch.exp(settings.scale_std * normal[:, 0])
    # A box side is 2/1.5 of the network's unit; a shift is drawn in box sides.
    offset = settings.shift_std * (2 / 1.5) * normal[:, 1:]
    flip = torch.where(_chosen(count, settings.mirror_share, generator), -1.0, 1.0)
    cosine, sine = scale * torch.cos(angle_rad), scale * torch.sin(angle_rad)
    matrices = torch.stack([flip * cosine, -sine, flip * sine, cosine], dim=1)
    return matrices.reshape(count, 2, 2), offset


def _sampling_grid(side_px: int, to_source: Tensor, offset: Tensor) -> Tensor:
    """Where each of the network's pixels lies in the crop's coordinates (N, side, side, 2)."""
    centres = (torch.arange(side_px) + 0.5) * (2 / side_px) - 1
    x, y = torch.meshgrid(centres, centres, indexing="xy")
    points = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    grid = points @ to_source.transpose(1, 2) + offset[:, None]
    return grid.reshape(-1, side_px, side_px, 2)


def _trimmed_edges(
    photo_edges: Tensor,
    landmarks: Tensor,
    reach: float,
    settings: Augmentation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The rectangle (N, 4: left, top, right, bottom) where the picture ends, and which are new.

    Where photos are cut around their labels, the border tells where the face is; some
    sides are therefore cut off further, at most up to the outermost landmarks.
    """
    count = len(photo_edges)
    low = photo_edges[:, :2].clamp(-reach, reach)
    high = photo_edges[:, 2:].clamp(-reach, reach)
    edges = torch.cat([low, high], dim=1)
    bounds = torch.cat([landmarks.amin(dim=1), landmarks.amax(dim=1)], dim=1)
    share = torch.rand((count, 4), generator=generator)
    cut = torch.rand((count, 4), generator=generator) < settings.border_trim_share
    # A landmark outside the photo must not push the edge outwards.
    limit = torch.cat([bounds[:, :2].maximum(low), bounds[:, 2:].minimum(high)], dim=1)
    return torch.where(cut, edges + share * (limit - edges), edges), cut


def _clamped(grid: Tensor, edges: Tensor) -> Tensor:
    return grid.clamp(edges[:, None, None, :2], edges[:, None, None, 2:])


def _filled_outside(
    images: Tensor, is_outside: Tensor, settings: Augmentation, generator: torch.Generator
) -> Tensor:
    """Some images get another face's picture, in place of repeated pixels, outside the photo."""
    chosen = _chosen(len(images), settings.border_fill_share, generator)
    # Its middle comes to the edges: at its own edges it may have repeated pixels as well.
    half = images.shape[-1] // 2
    other = images.roll((1, half, half), dims=(0, 2, 3))
    return torch.where((chosen[:, None, None] & is_outside)[:, None], other, images)


def _mirrored_order(landmarks: Tensor, to_source: Tensor, markup: Markup) -> Tensor:
    """Mirrored faces get their points renumbered, so that left stays the subject's left."""
    if markup.mirror is None:
        return landmarks
    is_mirrored = torch.linalg.det(to_source) < 0
    return torch.where(is_mirrored[:, None, None], landmarks[:, list(markup.mirror)], landmarks)


def _photometric(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    count = len(images)
    if settings.occlusion_share:
        images = _occluded(images, settings.occlusion_share, generator)
    if settings.blur_share:
        images = _blurred(images, settings.blur_share, generator)
    if settings.gamma:
        power = torch.exp(settings.gamma * _uniform((count,), generator))
        images = images.clamp_min(1e-4) ** power[:, None, None, None]
    if settings.brightness or settings.contrast:
        contrast = torch.exp(settings.contrast * _uniform((count,), generator))
        brightness = settings.brightness * _uniform((count,), generator)
        images = (images - 0.5) * contrast[:, None, None, None] + 0.5
        images = images + brightness[:, None, None, None]
    if settings.noise_std:
        deviation = settings.noise_std * torch.rand((count, 1, 1, 1), generator=generator) ** 2
        images = images + deviation * torch.randn(images.shape, generator=generator)
    if images.min() < 0 or images.max() > 1:
        images = images.clamp(0, 1)
    return images


def _occluded(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A rectangle of a fifth to a half of the side, filled with another image or one gray."""
    count, _, side_px, _ = images.shape
    chosen = _chosen(count, share, generator)
    centre = torch.rand((count, 2), generator=generator)
    half = 0.1 + 0.15 * torch.rand((count, 2), generator=generator)
    position = (torch.arange(side_px) + 0.5) / side_px
    in_columns = (position - centre[:, :1]).abs() < half[:, :1]
    in_rows = (position - centre[:, 1:]).abs() < half[:, 1:]
    covered = (in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None])[:, None]
    gray = torch.rand((count, 1, 1, 1), generator=generator).expand_as(images)
    other = images.roll((1, side_px // 3), dims=(0, 2))
    is_gray = _chosen(count, 0.5, generator)[:, None, None, None]
    return torch.where(covered, torch.where(is_gray, gray, other), images)


def _blurred(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Some images lose their fine detail, as small or compressed pictures have."""
    chosen = torch.nonzero(_chosen(len(images), share, generator)).flatten()
    if not len(chosen):
        return images
    side_px = images.shape[-1]
    factor = 1.3 + 2.2 * float(torch.rand((), generator=generator))
    small = functional.interpolate(
        images[chosen],
        size=(round(side_px / factor),) * 2,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    restored = functional.interpolate(
        small, size=(side_px, side_px), mode="bilinear", align_corners=False
    )
    return images.index_copy(0, chosen, restored)
