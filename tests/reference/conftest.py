"""Synthetic faces: a template of 68 points, shapes that vary, files of faces, photos, recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npshapenet.layers import Dense
from npshapenet.network import Network
from npshapenet.shape import ShapeModel
from npshapenet.weights import Normalisation, Weights
from reference.data.crop import Geometry
from reference.data.dataset import Faces, describe, write_faces

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


@dataclass(frozen=True)
class LabelledPhotos:
    """Labels of photos with one face each, and what is true of all of them."""

    labels: Path
    truth: Doubles
    box: tuple[float, float, float, float]
    eye_distance_px: float


@pytest.fixture
def labelled_photos(tmp_path: Path) -> LabelledPhotos:
    """Twelve photos of 160×160 with the same schematic face in the middle, in a box of 60."""
    truth = (80 + 26 * template_face()).round(3)
    parts = "".join(f"<part name='{k:02d}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(truth))
    box = f"<box left='50' top='50' width='60' height='60'>{parts}</box>"
    images = []
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 256, (160, 160, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        images.append(f"<image file='{k}.png'>{box}</image>")
    labels = tmp_path / "labels.xml"
    labels.write_text(f"<dataset><images>{''.join(images)}</images></dataset>")
    distance = float(np.hypot(*(truth[36] - truth[45])))
    return LabelledPhotos(labels, truth, (50.0, 50.0, 110.0, 110.0), distance)


@pytest.fixture(scope="session")
def constant_weights() -> Callable[..., Weights]:
    """``constant_weights(outputs, limits=None)`` → weights that give these outputs for any crop.

    One component for 68 points, so five outputs, or six with the logarithm of a quality; 32×32.
    """

    def make(outputs: Sequence[float], limits: Any = None) -> Weights:
        network = Network((1, 32, 32), (Dense("dense", "input", len(outputs)),))
        mean = (0.5 * template_face()).astype(np.float32)
        component = np.zeros((1, 68, 2), np.float32)
        component[0, :, 0] = 0.1
        bounds = None if limits is None else np.array(limits, np.float32)
        return Weights(
            network=network,
            tensors={
                "dense.weight": np.zeros((len(outputs), 32 * 32), np.float32),
                "dense.bias": np.array(outputs, np.float32),
            },
            shape_model=ShapeModel(mean, component, bounds),
            normalisation=Normalisation(1.0, 0.0),
            crop_factor=1.5,
            markup="ibug68",
            storage="float32",
        )

    return make


@pytest.fixture(scope="session")
def is_picture() -> Callable[[Path], bool]:
    """``is_picture(path)``: whether a file is a PNG that isn't all of one gray."""

    def check(path: Path) -> bool:
        with Image.open(path) as picture:
            return picture.format == "PNG" and len(set(picture.convert("L").tobytes())) > 2

    return check


@pytest.fixture(scope="session")
def two_networks(
    make_faces: Callable[..., Faces],
    small_recipe_text: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with faces.npz, and maps.pt and compact.pt, networks that saw a few batches."""
    # Not above: most of these tests run without PyTorch.
    torch = pytest.importorskip("torch", reason="networks are PyTorch's")
    from reference.checkpoint import save
    from reference.recipe import read_recipe
    from reference.training import Trainer, collect, fit_shape_model, shape_model_tensors

    folder = tmp_path_factory.mktemp("networks")
    faces = make_faces(30)
    write_faces(folder / "faces.npz", faces)
    maps = small_recipe_text.replace("end_channels = 16", 'extractor = "maps"\nmap_channels = 8')
    for name, text in (("maps", maps), ("compact", small_recipe_text)):
        (folder / f"{name}.toml").write_text(text)
        recipe = read_recipe(folder / f"{name}.toml")
        data = collect([("made", faces, 1.0)], 4)
        side_px = recipe.network.side_px
        shape_model = shape_model_tensors(fit_shape_model(data, recipe.shape_model, side_px))
        trainer = Trainer(recipe, data, torch.device("cpu"), shape_model=shape_model, workers=0)
        trainer.run(lambda progress: progress.step >= 8)
        save(folder / f"{name}.pt", trainer.checkpoint())
    return folder
