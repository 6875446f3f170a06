"""Weights as an ONNX model, from gray crops to landmarks: what --onnx of reference.export writes.

Input ``crop`` (N, S, S), the crops of N faces, all of the side S that was chosen: ``uint8``, or
``float32`` in 0–1. Nothing about them is checked, as ``npshapenet.predict`` does. Outputs
``landmarks`` (N, L, 2) float32, x and y in pixels of the crop, whose top-left pixel's centre is
(0, 0); and, of weights that estimate their own error, ``quality`` (N) float32, the NME expected
in percent. N is free. The metadata say what the weights are and under which terms they may be
used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

import npshapenet
from npshapenet.cli.demo_photos import PEOPLE, read_demo_photo
from npshapenet.image import SIDE_MIN_PX, crop_face, resize
from npshapenet.markup import IBUG68
from npshapenet.model import Model
from npshapenet.shape import QUALITY_LIMITS_PERCENT, ShapeModel
from npshapenet.weights import SIDE_MAX_PX, Weights
from reference.atomic import write_atomically
from reference.onnx_graph import Floats, add_network
from reference.onnx_nodes import Graph
from reference.parity import LANDMARK_TOLERANCE_PX

CropType = Literal["uint8", "float32"]

CROP: Final = "crop"
LANDMARKS: Final = "landmarks"
QUALITY: Final = "quality"

#: Two runs in float32 were at most 0.0004 apart: the original network's, of random weights.
TOLERANCE_PX: Final = LANDMARK_TOLERANCE_PX["compact"]
#: How far the quality may be from npshapenet's, as a share of it.
QUALITY_TOLERANCE: Final = 1e-3

_BATCH: Final = "N"
_RANDOM_CROPS: Final = 2


class OnnxError(ValueError):
    """An ONNX model that can't be made, or that gives other landmarks than npshapenet."""


@dataclass(frozen=True)
class CropForm:
    """What the model's crops are: squares of ``side_px``, of one dtype.

    OnnxError where the side is too small, or larger than any network's.
    """

    side_px: int
    dtype: CropType = "uint8"

    def __post_init__(self) -> None:
        if not SIDE_MIN_PX <= self.side_px <= SIDE_MAX_PX:
            raise OnnxError(
                f"crops of {self.side_px}×{self.side_px}; accepted: {SIDE_MIN_PX} to {SIDE_MAX_PX}"
            )

    def __str__(self) -> str:
        return f"{self.dtype} (N, {self.side_px}, {self.side_px})"


def export_onnx(weights: Weights, form: CropForm, path: Path) -> float:
    """Write the ONNX model to a file, once ONNX Runtime gives npshapenet's landmarks; pixels.

    Returned is the largest difference of a coordinate, in pixels of the crop. OnnxError where it
    is above the tolerance, and nothing is written then; OSError where the file can't be written.
    """
    model = make_landmark_model(weights, form).SerializeToString()
    difference_px = checked_difference_px(model, weights, form)

    def fill(file: BinaryIO) -> None:
        file.write(model)

    write_atomically(path, fill)
    return difference_px


def make_landmark_model(weights: Weights, form: CropForm) -> onnx.ModelProto:
    """The model that this module's first lines describe, checked by onnx.checker."""
    graph = Graph()
    _add_network_input(graph, weights, form)
    add_network(graph, weights.network, weights.tensors, "input/image", "parameters/all")
    _add_landmarks(graph, weights, form)
    crop_type = TensorProto.UINT8 if form.dtype == "uint8" else TensorProto.FLOAT
    shape = (_BATCH, form.side_px, form.side_px)
    landmarks = (_BATCH, weights.landmark_count, 2)
    outputs = [helper.make_tensor_value_info(LANDMARKS, TensorProto.FLOAT, landmarks)]
    if weights.has_quality:
        _add_quality(graph)
        outputs.append(helper.make_tensor_value_info(QUALITY, TensorProto.FLOAT, [_BATCH]))
    crop = helper.make_tensor_value_info(CROP, crop_type, shape)
    return graph.model([crop], outputs, _metadata(weights, form))


def checked_difference_px(model: bytes, weights: Weights, form: CropForm) -> float:
    """The largest distance of a coordinate between ONNX Runtime and npshapenet's NumPy backend.

    In pixels of the crop; over the faces that come with npshapenet and random crops, one by one
    and together. OnnxError where it, or the difference of the qualities, is above the tolerance.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    crops = np.stack(list(_checked_crops(weights, form)))
    together = _run(session, crops)
    alone = [_run(session, crop[None]) for crop in crops]
    runs = [together, {name: np.concatenate([one[name] for one in alone]) for name in together}]

    ours = Model(weights, "numpy").parameters(crops)
    ours_px = ours.landmarks(form.side_px)
    difference_px = float(np.max([np.abs(run[LANDMARKS] - ours_px) for run in runs]))
    if not difference_px <= TOLERANCE_PX:
        raise OnnxError(
            f"ONNX Runtime's landmarks differ from npshapenet's by {difference_px:.3g} px of the "
            f"crop; accepted are {TOLERANCE_PX} px"
        )
    if ours.quality is not None:
        share = float(np.max([np.abs(run[QUALITY] / ours.quality - 1) for run in runs]))
        if not share <= QUALITY_TOLERANCE:
            raise OnnxError(
                f"ONNX Runtime's quality differs from npshapenet's by {share:.3g} of it; accepted "
                f"is {QUALITY_TOLERANCE}"
            )
    return difference_px


def _add_network_input(graph: Graph, weights: Weights, form: CropForm) -> None:
    """Nodes from the crops to the value ``input/image``: as ``npshapenet.image.network_input``."""
    _, side, _ = weights.network.input_shape
    gray = CROP
    if form.dtype == "uint8":
        gray = graph.node("Cast", [gray], "input/float", to=TensorProto.FLOAT)
    if form.side_px != side:
        # To resize the unit matrix is to ask how much each pixel counts for each of the new ones.
        triangle = resize(np.eye(form.side_px, dtype=np.float32), side, form.side_px)
        columns = graph.constant("input/columns", triangle.T)
        rows = graph.constant("input/rows", triangle)
        narrow = graph.node("MatMul", [gray, columns], "input/narrow")
        gray = graph.node("MatMul", [rows, narrow], "input/resized")
    white = 255.0 if form.dtype == "uint8" else 1.0
    scale = graph.constant("input/scale", weights.normalisation.scale / white)
    offset = graph.constant("input/offset", weights.normalisation.offset)
    scaled = graph.node("Mul", [gray, scale], "input/scaled")
    normal = graph.node("Add", [scaled, offset], "input/normal")
    axes = graph.constant("input/channel", [1], np.int64)
    graph.node("Unsqueeze", [normal, axes], "input/image")


def _add_landmarks(graph: Graph, weights: Weights, form: CropForm) -> None:
    """Nodes from the network's outputs (N, P) to the landmarks: see ``npshapenet.shape``."""
    shape_model = weights.shape_model
    components, landmarks, _ = shape_model.components.shape
    sizes = [components, 1, 1, 2] + [1] * weights.has_quality
    names = ["scores", "scale", "angle", "translation", "log_quality"][: len(sizes)]
    parameters = _add_limits(graph, shape_model, weights.has_quality)
    graph.node(
        "Split",
        [parameters, graph.constant("parameters/sizes", sizes, np.int64)],
        *(f"parameters/{name}" for name in names),
        axis=1,
    )
    modes = graph.constant("shape/components", shape_model.components.reshape(components, -1))
    mean = graph.constant("shape/mean", shape_model.mean.ravel())
    numbers = graph.node("Gemm", ["parameters/scores", modes, mean], "shape/numbers")
    point_shape = graph.constant("shape/shape", [0, landmarks, 2], np.int64)
    points = graph.node("Reshape", [numbers, point_shape], "shape/points")

    # Rows (x, y) times the transposed matrix of the turn, in units of half the crop.
    half_px = graph.constant("turn/half", form.side_px / 2)
    scale = graph.node("Mul", ["parameters/scale", half_px], "turn/scale")
    cosine, sine = (
        graph.node(
            "Mul",
            [graph.node(operator, ["parameters/angle"], f"turn/unit_{operator}"), scale],
            f"turn/{operator}",
        )
        for operator in ("Cos", "Sin")
    )
    minus_sine = graph.node("Neg", [sine], "turn/minus_sine")
    row = graph.node("Concat", [cosine, sine, minus_sine, cosine], "turn/row", axis=1)
    matrix_shape = graph.constant("turn/shape", [0, 2, 2], np.int64)
    matrix = graph.node("Reshape", [row, matrix_shape], "turn/matrix")
    turned = graph.node("MatMul", [points, matrix], "turn/turned")

    centre_px = graph.constant("move/centre", form.side_px / 2 - 0.5)
    moved = graph.node("Mul", ["parameters/translation", half_px], "move/moved")
    from_corner = graph.node("Add", [moved, centre_px], "move/from_corner")
    axes = graph.constant("move/point", [1], np.int64)
    origin = graph.node("Unsqueeze", [from_corner, axes], "move/origin")
    graph.node("Add", [turned, origin], LANDMARKS)


def _add_limits(graph: Graph, shape_model: ShapeModel, has_quality: bool) -> str:
    """Nodes that keep the parameters within the shape model's limits; the value's name."""
    if shape_model.limits is None:
        return "parameters/all"
    least, largest = shape_model.limits
    if has_quality:  # which has none here
        infinity = np.float32(np.inf)
        least, largest = np.append(least, -infinity), np.append(largest, infinity)
    low = graph.constant("parameters/least", least)
    high = graph.constant("parameters/largest", largest)
    raised = graph.node("Max", ["parameters/all", low], "parameters/raised")
    return graph.node("Min", [raised, high], "parameters/limited")


def _add_quality(graph: Graph) -> None:
    """Nodes from the logarithm of the quality (N, 1) to the quality (N)."""
    low, high = (
        graph.constant(f"quality/{name}", limit)
        for name, limit in zip(("least", "largest"), QUALITY_LIMITS_PERCENT, strict=True)
    )
    percent = graph.node("Exp", ["parameters/log_quality"], "quality/percent")
    limited = graph.node("Clip", [percent, low, high], "quality/limited")
    axes = graph.constant("quality/axes", [1], np.int64)
    graph.node("Squeeze", [limited, axes], QUALITY)


def _metadata(weights: Weights, form: CropForm) -> dict[str, str]:
    """What a reader of the file must know; all values are text."""
    gray = "0–255" if form.dtype == "uint8" else "0–1"
    metadata = {
        "crop": f"{form}: gray crops of one face each, rows are y, {gray}",
        "crop_factor": f"{weights.crop_factor:g} (side of the crop / longer side of a face's box)",
        "landmarks": "x, y in pixels of the crop; the centre of its top-left pixel is (0, 0)",
        "markup": weights.markup,
        "terms": str(weights.provenance.get("terms", "not stated")),
        "provenance": json.dumps(dict(weights.provenance), ensure_ascii=False),
        "npshapenet": npshapenet.__version__,
    }
    if weights.has_quality:
        unit = "inter-ocular distance" if weights.markup == IBUG68 else "distance of two points"
        metadata["quality"] = f"the NME expected, in percent of the {unit}"
    return metadata


def _checked_crops(weights: Weights, form: CropForm) -> Iterator[NDArray[Any]]:
    """Crops (S, S) of the form: faces, and random pixels, which excite a network more."""
    side = form.side_px
    grays = []
    for name in PEOPLE:
        photo = read_demo_photo(name)
        face = crop_face(photo.image, photo.box, weights.crop_factor).gray
        grays.append(np.asarray(Image.fromarray(face).resize((side, side))))
    rng = np.random.default_rng(0)
    grays += list(rng.integers(0, 256, (_RANDOM_CROPS, side, side), dtype=np.uint8))
    for gray in grays:
        yield gray if form.dtype == "uint8" else gray.astype(np.float32) / np.float32(255)


def _run(session: onnxruntime.InferenceSession, crops: NDArray[Any]) -> dict[str, Floats]:
    """The outputs, by name, for crops (N, S, S)."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {CROP: crops}), strict=True))
