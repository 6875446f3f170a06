"""From a checkpoint to a weights file, to an ONNX model, or to both.

python -m reference.export CHECKPOINT --out WEIGHTS
python -m reference.export CHECKPOINT_OR_WEIGHTS --onnx MODEL
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from npshapenet import network as network_module
from npshapenet.model import bundled_models, load
from npshapenet.plain import PlainBackend
from npshapenet.shape import ShapeModel, split_outputs
from npshapenet.weights import Normalisation, Storage, Weights, WeightsError, read, write
from reference import original_checkpoints, torchscript
from reference.checkpoint import Checkpoint, CheckpointError, from_stored, is_ours, read_file
from reference.data.markup import IBUG68
from reference.networks.graph import GraphError, describe
from reference.networks.original import Norm
from reference.networks.run_graph import run_graph
from reference.original_checkpoints import Order, OriginalCheckpoint
from reference.parity import LANDMARK_TOLERANCE_PX
from reference.recipe import to_values

CHECKED_IMAGES = {"compact": 8, "maps": 8, "original": 1}
#: The original's instance norm amplifies rounding: float16 moved random weights' points by 1.8 px.
DEFAULT_STORAGE: dict[str, Storage] = {
    "compact": "float16",
    "maps": "float16",
    "original": "float32",
}
#: Folding is exact but for float64's rounding.
FOLDING_TOLERANCE = 1e-9


class ExportError(ValueError):
    """A checkpoint that can't be exported, or an export that gives other landmarks."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    try:
        if is_weights(options.source):
            weights = load(options.source, backend="numpy").weights
        else:
            weights = _export_checkpoint(options)
        if options.onnx is not None:
            _export_onnx(weights, options)
    except (CheckpointError, GraphError, ExportError, WeightsError, OSError) as error:
        print(f"reference.export: {error}", file=sys.stderr)
        return 1
    return 0


def is_weights(source: str) -> bool:
    """Whether the command's argument is a weights file, or names a bundled model."""
    return source.endswith(".npz") or (source in bundled_models() and not Path(source).exists())


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with the usage where options are missing, or would be without effect."""
    if options.out is None and options.onnx is None:
        parser.error("--out, --onnx or both say what to write")
    if options.onnx is None and (options.crop_side or options.crop_type):
        parser.error("--crop-side and --crop-type are for --onnx")
    unused = ("out", "storage", "terms", "figures", "order", "norm")
    given = [f"--{name}" for name in unused if getattr(options, name) is not None]
    if is_weights(options.source) and given:
        parser.error(
            f"{options.source} is a weights file; only checkpoints take {', '.join(given)}"
        )


def _export_checkpoint(options: argparse.Namespace) -> Weights:
    """Write the weights file that --out asks for, if it does; its content."""
    source = Path(options.source)
    checkpoint = open_checkpoint(source, options.order, options.norm)
    provenance = _provenance(checkpoint, options)
    folding = folding_difference(checkpoint)
    if not folding <= FOLDING_TOLERANCE:
        raise ExportError(f"folding changes the parameters by {folding:.3g} of the largest")
    storage = options.storage or DEFAULT_STORAGE[checkpoint.extractor]
    weights = to_weights(checkpoint, storage, provenance)
    difference_px = export(weights, checkpoint.extractor, options.out)
    cost = f"{weights.network.multiply_adds() / 1e6:.2f} million multiply-adds"
    if options.out is None:
        print(f"{source}: {cost}")
    else:
        print(f"{options.out}: {options.out.stat().st_size / 1024:.0f} KiB, {cost}")
    print(f"read back; largest difference from PyTorch {difference_px:.2g} px of the crop")
    return weights


def _export_onnx(weights: Weights, options: argparse.Namespace) -> None:
    """Write the ONNX model that --onnx asks for."""
    try:
        from reference import onnx_export
    except ModuleNotFoundError as error:
        raise ExportError(f'--onnx needs {error.name}: pip install ".[onnx]"') from None
    _, side_px, _ = weights.network.input_shape
    try:
        form = onnx_export.CropForm(options.crop_side or side_px, options.crop_type or "uint8")
        difference_px = onnx_export.export_onnx(weights, form, options.onnx)
    except onnx_export.OnnxError as error:
        raise ExportError(f"{options.onnx}: {error}") from None
    size = options.onnx.stat().st_size
    outputs = f"landmarks float32 (N, {weights.landmark_count}, 2)"
    if weights.has_quality:
        outputs += ", quality float32 (N)"
    print(f"{options.onnx}: {size / 1024:.0f} KiB, crop {form} → {outputs}")
    print(
        "run in ONNX Runtime; largest difference from npshapenet "
        f"{difference_px:.2g} px of the crop"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.export",
        description="Write the averaged weights of a checkpoint as a weights file, batch norm "
        "folded, once it gives PyTorch's landmarks on random inputs; or weights as an ONNX model, "
        "from gray crops to landmarks, once ONNX Runtime gives npshapenet's.",
    )
    parser.add_argument(
        "source",
        metavar="checkpoint",
        help="best.pt or last.pt of a run folder; or weights of the original ShapeNet or its "
        "fork: a state dict in any of their containers, or a TorchScript file; for --onnx also a "
        "weights file (.npz) or the name of a bundled model",
    )
    parser.add_argument("--out", type=Path, metavar="WEIGHTS", help="the weights file (.npz)")
    parser.add_argument(
        "--storage",
        choices=get_args(Storage),
        help="default: float16, for the original extractor float32",
    )
    parser.add_argument(
        "--terms", help="under which terms the weights may be used; default: not stated"
    )
    parser.add_argument(
        "--figures", type=Path, help="metrics.json of reference.evaluate, kept in the metadata"
    )
    onnx = parser.add_argument_group("ONNX", "needs onnx and onnxruntime")
    onnx.add_argument("--onnx", type=Path, metavar="MODEL", help="the ONNX model (.onnx)")
    onnx.add_argument(
        "--crop-side",
        type=int,
        metavar="PX",
        help="side of the crops that it takes; default: that of the network, for others the model "
        "has a resize",
    )
    onnx.add_argument(
        "--crop-type",
        choices=["uint8", "float32"],
        help="uint8 (the default) in 0–255, float32 in 0–1",
    )
    original = parser.add_argument_group("weights of the original ShapeNet and its fork")
    original.add_argument(
        "--order",
        choices=get_args(Order),
        help="of their coordinates; default: yx for the original's names, xy for the fork's",
    )
    original.add_argument(
        "--norm",
        choices=get_args(Norm),
        help="of their extractor; batch and group show in the tensors, "
        "instance (the default) and none don't",
    )
    return parser


def open_checkpoint(
    path: Path, order: Order | None = None, norm: Norm | None = None
) -> Checkpoint | OriginalCheckpoint:
    """What is in a file: a checkpoint of reference.train, of the original ShapeNet or its fork.

    ``order`` and ``norm`` are those of ``original_checkpoints.convert``. CheckpointError, one
    line, where the file is none of these, or not whole, or ours and has nothing to choose.
    """
    is_script = torchscript.is_torchscript(path)
    values = torchscript.read_tensors(path) if is_script else read_file(path)
    if is_ours(values):
        if order or norm:
            raise CheckpointError(
                f"{path}: a checkpoint of reference.train; --order and --norm are for those of "
                "the original ShapeNet and its fork"
            )
        return from_stored(path, values)
    if original_checkpoints.recognises(values):
        return original_checkpoints.convert(path, values, order, norm)
    raise CheckpointError(
        f"{path}: neither a checkpoint of reference.train, nor of the original ShapeNet or its fork"
    )


def to_weights(
    checkpoint: Checkpoint | OriginalCheckpoint, storage: Storage, provenance: dict[str, Any]
) -> Weights:
    """The weights file's content for a checkpoint: folded and rounded to what is stored."""
    network = checkpoint.network()
    graph, tensors = describe(network, checkpoint.side_px)
    mean, components = network.shape_layer.mean, network.shape_layer.components
    limits = None if network.limits is None else network.limits.numpy()
    return Weights(
        network=network_module.from_json(graph),
        tensors={name: _rounded(name, tensor, storage) for name, tensor in tensors.items()},
        shape_model=ShapeModel(mean.numpy(), components.numpy(), limits),
        normalisation=Normalisation(scale=1.0, offset=0.0),
        crop_factor=checkpoint.crop_factor,
        markup=_markup_name(checkpoint, len(mean)),
        provenance=provenance,
        storage=storage,
    )


def _markup_name(checkpoint: Checkpoint | OriginalCheckpoint, point_count: int) -> str:
    """What the weights file calls the points: iBUG's by their name, others by their count.

    The original's checkpoints say nothing of theirs; of 68 they are iBUG's.
    """
    is_other = isinstance(checkpoint, Checkpoint) and checkpoint.markup != IBUG68
    is_ibug = point_count == IBUG68.point_count and not is_other
    return IBUG68.name if is_ibug else f"points{point_count}"


def export(weights: Weights, extractor: str, path: Path | None) -> float:
    """Check a weights file's content through a file, then write it, if to ``path``; pixels.

    The file is read back and the NumPy backend's landmarks on random images are held against
    PyTorch's for the stored tensors. The largest difference in pixels of the network's crop is
    returned; ExportError where it is above its extractor's tolerance, and nothing is written then.
    """
    place = None if path is None else path.parent
    with tempfile.TemporaryDirectory(dir=place, prefix=".export-") as folder:
        trial = Path(folder, "weights.npz" if path is None else path.name)
        write(trial, weights)
        stored = read(trial)
        difference_px = largest_difference_px(stored, CHECKED_IMAGES[extractor])
        if not difference_px <= LANDMARK_TOLERANCE_PX[extractor]:
            raise ExportError(
                f"{path or 'the weights'}: landmarks differ from PyTorch's by "
                f"{difference_px:.3g} px of the crop; accepted are "
                f"{LANDMARK_TOLERANCE_PX[extractor]} px"
            )
        if path is not None:
            trial.replace(path)
    return difference_px


def largest_difference_px(weights: Weights, image_count: int) -> float:
    """The largest distance of a coordinate from PyTorch's, over random images."""
    _, height, width = weights.network.input_shape
    shape = (image_count, 1, height, width)
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    backend = PlainBackend(weights.network, weights.tensors, weights.normalisation)
    ours = split_outputs(backend.run(images), weights.shape_model).landmarks(width)
    graph = network_module.to_json(weights.network)
    tensors = {name: torch.from_numpy(np.array(t)) for name, t in weights.tensors.items()}
    layers = run_graph(graph, tensors, torch.from_numpy(images))
    outputs = layers[graph["layers"][-1]["name"]].flatten(1).numpy()
    theirs = split_outputs(outputs, weights.shape_model).landmarks(width)
    return float(np.abs(ours - theirs).max())


def folding_difference(checkpoint: Checkpoint | OriginalCheckpoint) -> float:
    """How far the folded graph is from the network that was trained, in float64.

    The largest difference of a parameter over the largest parameter, on random images.
    """
    side_px = checkpoint.side_px
    network = checkpoint.network()
    graph, tensors = describe(network, side_px)
    image_count = min(2, CHECKED_IMAGES[checkpoint.extractor])
    images = torch.rand((image_count, 1, side_px, side_px), dtype=torch.float64)
    doubles = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    folded = run_graph(graph, doubles, images)[graph["layers"][-1]["name"]].flatten(1)
    with torch.inference_mode():
        trained = network.double().outputs(images)
    return float((folded - trained).abs().max() / trained.abs().max())


def _rounded(name: str, values: np.ndarray[Any, Any], storage: str) -> np.ndarray[Any, Any]:
    """A tensor as it is after storing, in float32: biases are stored as that in any case."""
    stored_type = storage if name.endswith(".weight") else "float32"
    with np.errstate(over="ignore"):
        rounded = values.astype(stored_type)
    if not np.isfinite(rounded).all():
        raise ExportError(f"{name} holds values that {stored_type} can't; try --storage float32")
    return rounded.astype(np.float32)


def _provenance(
    checkpoint: Checkpoint | OriginalCheckpoint, options: argparse.Namespace
) -> dict[str, Any]:
    if isinstance(checkpoint, OriginalCheckpoint):
        origin = checkpoint.origin()
    else:
        origin = _training(checkpoint)
    provenance = {
        **origin,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "terms": _terms(options.terms or "not stated", origin.get("data", ())),
    }
    if options.figures is not None:
        try:
            provenance["figures"] = json.loads(options.figures.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ExportError(f"{options.figures}: not JSON: {error}") from None
    return provenance


def _terms(stated: str, data: Sequence[Mapping[str, Any]]) -> str:
    """The terms given, and those of a shape model that was taken from another weights file."""
    borrowed = [f"{entry['name']}: {entry['terms']}" for entry in data if "terms" in entry]
    return "; ".join([stated, *borrowed])


def _training(checkpoint: Checkpoint) -> dict[str, Any]:
    """How a network of ours was trained."""
    markup = checkpoint.markup
    return {
        **({} if markup == IBUG68 else {"markup": markup.to_values()}),
        "recipe": to_values(checkpoint.recipe),
        "data": [dict(entry) for entry in checkpoint.data],
        "steps": checkpoint.step,
        # The last row is that of a best.pt; a last.pt may have gone on a little since.
        "held_out_nme_percent": (
            checkpoint.log[-1]["held_out_nme_percent"] if checkpoint.log else None
        ),
    }


def _commit() -> str:
    """The checkout's commit, or "unknown" outside a git checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
