"""What PyTorch gives, stored for where PyTorch isn't: python -m reference.fixtures.

Writes two files to tests/parity/fixtures:

``layers.npz``   a small network with every layer type: its tensors, images (random, all zero,
                 constant, one bright pixel) and the output of every layer; a shape model and the
                 landmarks; crops resized to other sizes
``models.npz``   what the bundled models give for crops of several sizes and types

All of it is computed in float64 and stored in float32. To be made again whenever the layers or
the bundled models change: the tests say so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from npshapenet.layers import (
    Add,
    Convolution,
    Dense,
    Enlarge,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    Join,
    MeanPlaces,
    PointDepthwise,
    ShapeFit,
)
from npshapenet.model import bundled_models, load
from npshapenet.network import Network, to_json
from npshapenet.plain import PlainBackend
from npshapenet.shape import ShapeModel
from npshapenet.weights import Normalisation, Weights
from reference.atomic import write_atomically

Arrays = dict[str, NDArray[Any]]

VERSION: Final = 1
COMMAND: Final = "python -m reference.fixtures"
FOLDER: Final = Path(__file__).resolve().parents[1] / "tests" / "parity" / "fixtures"
LAYERS_FILE: Final = "layers.npz"
MODELS_FILE: Final = "models.npz"

#: What the metadata call the small network, beside the bundled models' names.
SMALL: Final = "small network"

SIDE_PX: Final = 17
RESIZED_SIDES: Final = (17, 33)

#: Every layer type, activation and kind of convolution, odd sizes; 8 outputs: 4 components.
NETWORK: Final = Network(
    (1, SIDE_PX, SIDE_PX),
    (
        Convolution("stem", "input", 16, (3, 3), (2, 2), (1, 1), activation="hard_swish"),
        Convolution("depthwise", "stem", 16, (3, 3), (1, 1), (1, 1), 16, "relu"),
        Convolution("pointwise", "depthwise", 16, (1, 1)),
        Add("residual", "stem", "pointwise", activation="hard_swish"),
        InstanceNorm("instance_norm", "residual"),
        Convolution("tall", "instance_norm", 12, (5, 1), (1, 1), (1, 0), activation="relu"),
        Convolution("wide", "tall", 12, (1, 5), (1, 1), (0, 1), groups=3),
        GroupNorm("group_norm", "wide", groups=2),
        Convolution("large", "group_norm", 20, (5, 5), (2, 1), (2, 2), activation="hard_swish"),
        Convolution("strided", "large", 20, (3, 3), (2, 2), (1, 1), 20, "hard_swish"),
        Add("doubled", "strided", "strided", activation="relu"),
        Convolution("collapse", "doubled", 20, (2, 4), groups=20),
        GlobalAveragePool("pool", "doubled"),
        Add("both", "collapse", "pool"),
        Dense("hidden", "both", 18, activation="hard_swish"),
        Dense("flat", "doubled", 18, activation="relu"),
        Add("added", "hidden", "flat"),
        Enlarge("enlarged", "strided", factor=2),
        MeanPlaces("places", "enlarged"),
        PointDepthwise("seen", "doubled", "places", places=3, activation="hard_swish"),
        Dense("moved", "seen", 40),
        Add("near", "moved", "places"),
        ShapeFit("fit", "near", scores=3),
        Join("joined", "added", "fit"),
        Dense("head", "joined", 8),
    ),
)


_NORMALISATION: Final = Normalisation(scale=2.0, offset=-1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the fixtures; 0 on success."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Store what PyTorch gives.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="default: %(default)s")
    folder = parser.parse_args(arguments).out
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in ((LAYERS_FILE, make_layers), (MODELS_FILE, make_models)):
        write(folder / name, make())
        print(f"{folder / name}: {(folder / name).stat().st_size / 1024:.0f} KiB")
    return 0


def write(path: Path, arrays: Arrays) -> None:
    """Write arrays atomically, compressed."""

    def fill(file: BinaryIO) -> None:
        np.savez_compressed(file, **cast(Any, arrays))

    write_atomically(path, fill)


def read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Meta and arrays of a fixture; ValueError says how to make it if it is missing or stale."""
    advice = f"{COMMAND} makes it (with PyTorch)"
    if not path.is_file():
        raise ValueError(f"{path} is missing: {advice}")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    if meta["version"] != VERSION:
        raise ValueError(f"{path} has version {meta['version']}, not {VERSION}: {advice} anew")
    stored, expected = meta["fingerprints"], _fingerprints()
    models = () if SMALL in stored else bundled_models()
    for name in (*stored, *models):
        if expected.get(name) != stored.get(name):
            raise ValueError(f"{path} is stale, as {name} has changed: {advice} anew")
    return meta, arrays


def small_weights() -> Weights:
    """The small network with random tensors, and a random shape model of 9 points."""
    rng = np.random.default_rng(17)
    tensors = {}
    for name, shape in NETWORK.tensor_shapes().items():
        inputs = np.prod(shape[1:]) if len(shape) > 1 else 10
        values = rng.normal(scale=np.sqrt(2 / inputs), size=shape)
        if name.endswith(".offsets"):
            values *= 0.2  # most places are within the image
        tensors[name] = values.astype(np.float16).astype(np.float32)
    # To a shape like none of the places little would be divided by little.
    places = PlainBackend(NETWORK, tensors, _NORMALISATION).layer_outputs(layer_images()[-1])[
        "places"
    ]
    # Rounded: the same on every CPU, whose sums differ in the last digits.
    tensors["fit.mean"] = places.reshape(-1, 2).round(2)
    count = NETWORK.output_count - 4
    modes = rng.normal(scale=0.05, size=(count, 9, 2)).astype(np.float32)
    mean = rng.uniform(-0.7, 0.7, (9, 2)).astype(np.float32)
    return Weights(
        network=NETWORK,
        tensors=tensors,
        shape_model=ShapeModel(mean, modes),
        normalisation=_NORMALISATION,
        crop_factor=1.5,
        markup="points9",
        storage="float32",
    )


def layer_images() -> NDArray[np.float32]:
    """Images (N, 1, H, W) as the network reads them; the degenerate ones among them."""
    images = np.zeros((4, 1, SIDE_PX, SIDE_PX), np.float32)
    images[0] = np.random.default_rng(3).normal(size=images.shape[1:])
    images[2] = 0.5
    images[3, 0, 5, 11] = 1.0
    return images


def model_crops() -> dict[str, NDArray[np.uint8 | np.float32]]:
    """Gray crops by name: what crops may be, and the degenerate ones."""
    rng = np.random.default_rng(4)
    columns, rows = np.meshgrid(np.linspace(0, 9, 60), np.linspace(0, 7, 60))
    waves = np.sin(columns) + np.cos(rows * columns / 7)
    return {
        "zero": np.zeros((20, 20), np.uint8),
        "constant": np.full((112, 112), 128, np.uint8),
        "white": np.full((16, 16), 255, np.uint8),
        "noise": rng.integers(0, 256, (48, 48), dtype=np.uint8),
        "waves": (127.5 + 60 * waves).astype(np.uint8),
        "wide": rng.integers(0, 256, (30, 41), dtype=np.uint8),
        "tall floats": rng.random((70, 50), dtype=np.float32),
    }


def make_layers() -> Arrays:
    """The content of layers.npz."""
    import torch

    from reference.networks.run_graph import run_graph

    weights, images = small_weights(), layer_images()
    doubles = {name: torch.from_numpy(t).double() for name, t in weights.tensors.items()}
    layers = run_graph(to_json(NETWORK), doubles, torch.from_numpy(images).double())
    arrays: Arrays = {f"layer.{name}": _stored(output) for name, output in layers.items()}
    outputs = layers[NETWORK.layers[-1].name].flatten(1)
    arrays["landmarks"] = _stored(torch_landmarks(weights.shape_model, outputs))
    for name, crop in model_crops().items():
        for side in RESIZED_SIDES:
            arrays[f"resized.{side}.{name}"] = _stored(torch_resize(crop, side, side)[0, 0])
    arrays["meta"] = _meta({SMALL: _fingerprints()[SMALL]})
    return arrays


def make_models() -> Arrays:
    """The content of models.npz."""
    arrays: Arrays = {}
    for name in bundled_models():
        weights = load(name, backend="numpy").weights
        outputs = torch_outputs(weights, list(model_crops().values()))
        arrays[f"{name}.outputs"] = _stored(outputs)
        arrays[f"{name}.landmarks"] = _stored(torch_landmarks(weights.shape_model, outputs))
    fingerprints = _fingerprints()
    del fingerprints[SMALL]
    arrays["meta"] = _meta(fingerprints)
    return arrays


def torch_resize(gray: NDArray[Any], height: int, width: int) -> Any:
    """A gray crop (H, W) → a tensor (1, 1, height, width), float64, in the crop's units."""
    import torch
    import torch.nn.functional as functional

    return functional.interpolate(
        torch.from_numpy(gray.astype(np.float64))[None, None],
        size=(height, width),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )


def torch_widen(gray: NDArray[Any]) -> NDArray[np.float64]:
    """A gray crop (H, W), its edges repeated to a square; one more at the end where it's odd."""
    import torch
    import torch.nn.functional as functional

    height, width = gray.shape
    missing = max(height, width) - np.array([width, height])
    before = missing // 2
    edges = [int(n) for pair in zip(before, missing - before, strict=True) for n in pair]
    square = functional.pad(
        torch.from_numpy(gray.astype(np.float64))[None, None], edges, mode="replicate"
    )
    widened: NDArray[np.float64] = square[0, 0].numpy()
    return widened


def torch_outputs(weights: Weights, crops: Sequence[NDArray[Any]]) -> Any:
    """What PyTorch gives for gray crops, widened, resized and normalised: float64 (N, P)."""
    import torch

    from reference.networks.run_graph import run_graph

    side = weights.network.input_shape[1]
    images = []
    for crop in crops:
        white = 255 if crop.dtype == np.uint8 else 1
        resized = torch_resize(torch_widen(crop), side, side) / white
        images.append(resized * weights.normalisation.scale + weights.normalisation.offset)
    doubles = {name: torch.from_numpy(t).double() for name, t in weights.tensors.items()}
    layers = run_graph(to_json(weights.network), doubles, torch.cat(images))
    return layers[weights.network.layers[-1].name].flatten(1)


def torch_landmarks(shape_model: ShapeModel, outputs: Any) -> Any:
    """Outputs (N, K + 4) → landmarks (N, L, 2) in the network's coordinates, by the layers.

    Within the limits of the shape model, where it has some.
    """
    import torch

    from reference.networks.layers import ShapeLayer, SimilarityLayer

    count = len(shape_model.components)
    shape_layer = ShapeLayer(
        torch.from_numpy(shape_model.mean), torch.from_numpy(shape_model.components)
    )
    if shape_model.limits is not None:
        limits = torch.from_numpy(shape_model.limits).to(outputs.dtype)
        outputs = outputs[:, : limits.shape[1]].clamp(*limits)
    shapes = shape_layer.to(outputs.dtype)(outputs[:, :count])
    return SimilarityLayer()(shapes, outputs[:, count:])


def fingerprint(weights: Weights) -> str:
    """A digest of all that a model's outputs depend on."""
    digest = hashlib.sha256(json.dumps(to_json(weights.network), sort_keys=True).encode())
    digest.update(repr(weights.normalisation).encode())
    for name in sorted(weights.tensors):
        digest.update(np.ascontiguousarray(weights.tensors[name], "<f4").tobytes())
    for array in (weights.shape_model.mean, weights.shape_model.components):
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()[:16]


def _fingerprints() -> dict[str, str]:
    models = {name: load(name, backend="numpy").weights for name in bundled_models()}
    return {
        name: fingerprint(weights) for name, weights in {SMALL: small_weights(), **models}.items()
    }


def _meta(fingerprints: Mapping[str, str]) -> NDArray[np.str_]:
    import torch

    versions = {"torch": str(torch.__version__), "numpy": np.__version__}
    meta = {"version": VERSION, "fingerprints": dict(fingerprints), "made with": versions}
    return np.array(json.dumps(meta))


def _stored(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.numpy().astype(np.float32)
    return array


if __name__ == "__main__":
    sys.exit(main())
