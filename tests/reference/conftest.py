"""Synthetic faces: a template of 68 points, shapes that vary, faces files, small recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reference.data.crop import Geometry
from reference.data.dataset import Faces, describe

Doubles = NDArray[np.float64]

#: Small crops for runs that take seconds: 32 network pixels and 8 more on each side.
SMALL = Geometry(side_px=32, margin_px=8)

SMALL_RECIPE = """
[shape_model]
components = 4

[network]
side_px = 32
activation = "hard_swish"
end_channels = 16
blocks = [
    { type = "convolution", channels = 16, stride = 2 },
    { type = "separable", channels = 16, stride = 2 },
    { type = "inverted", channels = 16, hidden = 32 },
]

[training]
epochs = 3
batch_size = 8
learning_rate = 4e-3
warm_up_epochs = 1
average_decay = 0.9
held_out = 4
validate_every_epochs = 1
seed = 7

[augmentation]
mirror_share = 0.5
turn_std_deg = 10
scale_std = 0.1
noise_std = 0.05
occlusion_share = 0.3
"""


def _arc(
    count: int, centre: tuple[float, float], radii: tuple[float, float], turns: Any
) -> Doubles:
    angles = 2 * np.pi * np.linspace(*turns, count)
    return np.stack(
        [centre[0] - radii[0] * np.cos(angles), centre[1] - radii[1] * np.sin(angles)], 1
    )


def template_face() -> Doubles:
    """68 points of a schematic upright face, symmetric, about 2 units wide; x right, y down."""

    def mirror(points: Doubles) -> Doubles:
        return points * [-1, 1]

    jaw = _arc(17, (0, -0.2), (0.9, 1.1), (0, -0.5))
    brow = _arc(5, (-0.45, -0.5), (0.3, 0.12), (0.05, 0.45))
    bridge = np.stack([np.zeros(4), np.linspace(-0.3, 0.1, 4)], 1)
    base = _arc(5, (0, 0.18), (0.2, 0.08), (0, -0.5))
    eye = _arc(7, (-0.45, -0.28), (0.17, 0.07), (0, 1))[:6]
    lips = _arc(13, (0, 0.5), (0.35, 0.16), (0, 1))[:12]
    inner = _arc(9, (0, 0.5), (0.25, 0.06), (0, 1))[:8]
    left_eye = mirror(eye)[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([jaw, brow, mirror(brow)[::-1], bridge, base, eye, left_eye, lips, inner])


@pytest.fixture(scope="session")
def template() -> Doubles:
    """``template_face()``; read only."""
    points = template_face()
    points.flags.writeable = False
    return points


@pytest.fixture(scope="session")
def make_shapes() -> Callable[..., Doubles]:
    """``make_shapes(count, modes=6, seed=0)`` → faces (N, 68, 2) that differ by smooth modes."""

    def make(count: int, modes: int = 6, seed: int = 0) -> Doubles:
        rng = np.random.default_rng(seed)
        base = template_face()
        waves = [
            np.sin(base @ rng.normal(scale=2, size=(2, 2)) + rng.normal(size=2))
            for _ in range(modes)
        ]
        scores = rng.normal(size=(count, modes)) * (0.08 / np.arange(1, modes + 1))
        return base + np.tensordot(scores, np.stack(waves), axes=1)

    return make


@pytest.fixture(scope="session")
def make_faces(make_shapes: Callable[..., Doubles]) -> Callable[..., Faces]:
    """``make_faces(count, geometry=SMALL, seed=0)`` → faces with a dark dot at every point."""

    def make(count: int, geometry: Geometry = SMALL, seed: int = 0) -> Faces:
        rng = np.random.default_rng(seed)
        side, stored = geometry.side_px, geometry.stored_px
        shapes = make_shapes(count, seed=seed) * rng.normal(1, 0.06, (count, 1, 1))
        places = shapes * (side / 3.2) + rng.normal(0, side / 30, (count, 1, 2)) + stored / 2
        columns = np.arange(stored)
        crops = np.empty((count, stored, stored), np.uint8)
        for index, points in enumerate(places):
            across = np.exp(-((columns - points[:, :1]) ** 2) / 2)
            down = np.exp(-((columns - points[:, 1:]) ** 2) / 2)
            dots = np.einsum("ly,lx->yx", down, across)
            grain = rng.normal(0, 4, dots.shape)
            crops[index] = np.clip(180 - 120 * dots + grain, 0, 255)
        return Faces(
            crops=crops,
            landmarks=places.astype(np.float32),
            names=np.array([f"{index}.png#0" for index in range(count)]),
            boxes=np.tile(np.float32([10, 10, 60, 60]), (count, 1)),
            crop_frames=np.tile(np.int32([0, 0, 75]), (count, 1)),
            photo_edges=np.tile(np.float32([-50, -50, 200, 200]), (count, 1)),
            meta=describe(geometry, seed, [{"labels": "made", "title": "", "faces": count}], {}),
        )

    return make


@pytest.fixture(scope="session")
def small_recipe_text() -> str:
    """A recipe in TOML for the crops of ``make_faces``: a network of a few thousand weights."""
    return SMALL_RECIPE
