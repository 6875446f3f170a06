"""Checkpoints of the original ShapeNet and of its fork, turned into our network.

Both projects run the same layers on other data. L landmarks, K components, P = K + 4 outputs of
the extractor; coordinates are pixels of the 224×224 crop, counted from the centre of the first.
A point (p, q) of the shape becomes, by scale s, angle θ and translation (t, u),

    s · (cos θ · p + sin θ · q) + t,    s · (−sin θ · p + cos θ · q) + u

where (p, q) is (y, x) in the original (justusschock/shapenet, arXiv 1902.03459), and (x, y) in the
fork (vuamitom/shapenet). So in x right, y down, the original turns by θ clockwise on the screen, as
we do, and the fork counter-clockwise. What is turned and scaled here is turned once: nothing at
inference knows of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from npshapenet.markup import LANDMARK_COUNT
from npshapenet.weights import LANDMARKS_MAX
from reference.checkpoint import CheckpointError
from reference.networks.original import SIDE_PX, STAGES, Norm, OriginalExtractor
from reference.networks.shapenet import TRANSFORM_COUNT, ShapeNet

Order = Literal["yx", "xy"]
State = Mapping[str, Tensor]

#: Both projects cut a square of this times the landmarks' extent.
CROP_TO_EXTENT: Final = 1.1
#: The side of dlib's face box over the extent of the 68 landmarks, a median.
BOX_TO_EXTENT: Final = 1.035

#: Pixels of the crop to the network's coordinates: (px + 0.5) / 112 − 1.
_PER_PX: Final = 2 / SIDE_PX
_OFFSET: Final = 1 / SIDE_PX - 1

_MEAN: Final = "_shape_layer._layer._shape_mean"
_COMPONENTS: Final = "_shape_layer._layer._shape_components"
#: Which outputs are scores and which the transform; of these, which are scale, angle, translation.
_INDICES: Final = (
    "_indices_shape_params",
    "_indices_homogen_params",
    "_homogen_trafo._indices_scale_params",
    "_homogen_trafo._indices_rotation_params",
    "_homogen_trafo._indices_translation_params",
)
#: A template that the layer fills: it says nothing.
_TEMPLATE: Final = "_homogen_trafo._layer._trafo_matrix"
#: Counts training's batches; PyTorch before 0.4.1 had none.
_COUNTER: Final = "num_batches_tracked"
_CONVOLUTIONS: Final = frozenset(name for name, *_ in STAGES)


@dataclass(frozen=True)
class Project:
    """One of the two: the names of its modules, the order of its coordinates, how it cuts faces."""

    name: str
    shape_prefix: str
    extractor_prefix: str
    order: Order
    trained_on: str
    its_border: str

    def owns(self, key: str) -> bool:
        """Whether a tensor's name is of this project."""
        return key.startswith((f"{self.shape_prefix}_", self.extractor_prefix))

    def extractor_key(self, ours: str, norm: Norm) -> str:
        """What the project calls a tensor of our extractor, such as stages.conv_1.weight."""
        _, layer, tensor = ours.split(".")
        if layer in _CONVOLUTIONS:
            layer += "._conv"
        elif norm == "group" and layer.startswith("norm_"):
            layer += ".norm"
        return f"{self.extractor_prefix}{layer}.{tensor}"


ORIGINAL: Final = Project(
    name="the original ShapeNet",
    shape_prefix="_out_layer.",
    extractor_prefix="_model.model.",
    order="yx",
    trained_on=f"a square of {CROP_TO_EXTENT} times the landmarks' extent around their centre",
    its_border="is filled with zeros, and then the whole crop is left in 0–255 by mistake",
)
FORK: Final = Project(
    name="the fork of ShapeNet",
    shape_prefix="shape_layer.",
    extractor_prefix="feature_extract_layer.model.",
    order="xy",
    trained_on=f"the landmarks' bounds, {CROP_TO_EXTENT} times as wide, stretched to a square",
    its_border="is cut off, and the rest stretched to a square",
)
PROJECTS: Final = (ORIGINAL, FORK)


@dataclass(frozen=True, eq=False)
class OriginalCheckpoint:
    """A checkpoint of the original or the fork, as our network.

    ``shape_net`` gives landmarks as all our networks do; ``order`` is that of the coordinates
    in the checkpoint, ``norm`` that of its extractor.
    """

    project: Project
    order: Order
    norm: Norm
    shape_net: ShapeNet

    @property
    def extractor(self) -> str:
        """The name of the extractor: "original"."""
        return "original"

    @property
    def side_px(self) -> int:
        """The side of what the network reads."""
        return SIDE_PX

    @property
    def landmark_count(self) -> int:
        """L."""
        return len(self.shape_net.shape_layer.mean)

    @property
    def crop_factor(self) -> float:
        """The side of the crop over that of a face's box.

        The fork's own prediction enlarges the box of dlib's detector by a tenth. The original
        cuts by the landmarks' extent, which for the 68 points is a little less than that box;
        for other points no detector is known, and the box is their bounds.
        """
        if self.project is ORIGINAL and self.landmark_count == LANDMARK_COUNT:
            return round(CROP_TO_EXTENT / BOX_TO_EXTENT, 3)
        return CROP_TO_EXTENT

    def network(self) -> ShapeNet:
        """A copy of the network, in evaluation mode, on the CPU."""
        return copy.deepcopy(self.shape_net)

    def origin(self) -> dict[str, Any]:
        """What a weights file tells of it."""
        return {
            "data": f"weights of {self.project.name}, trained elsewhere",
            "order": f"{self.order} in the checkpoint, xy here",
            "norm": self.norm,
            "scores": "in the checkpoint's own unit, not that of a standard deviation",
            "preprocessing": {
                "input": f"{SIDE_PX}×{SIDE_PX}, one gray channel in 0–1, nothing subtracted",
                "crop": f"trained on {self.project.trained_on}; here {self.crop_factor} times "
                "the face's box",
                "border": "outside the photo its edge is repeated; in the project's own "
                f"prediction a crop that crosses the border {self.project.its_border}",
            },
        }


def recognises(values: object) -> bool:
    """Whether the content of a file has names of the original's or the fork's tensors."""
    return any(project.owns(key) for key in _state(values) for project in PROJECTS)


def convert(
    path: Path, values: object, order: Order | None = None, norm: Norm | None = None
) -> OriginalCheckpoint:
    """Our network from what a checkpoint holds, in any of its containers.

    ``order`` overrides that of the project which the names tell; ``norm`` chooses where the
    tensors leave a choice: instance (the default) or none. CheckpointError, one line, for a tensor
    that is missing, unknown, of another shape or not finite, and for a norm that isn't theirs.
    """
    try:
        return _convert(_state(values), order, norm)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _convert(state: State, order: Order | None, norm: Norm | None) -> OriginalCheckpoint:
    project = max(PROJECTS, key=lambda known: sum(map(known.owns, state)))
    order = order or project.order
    norm = _norm(state, project, norm)
    if not any(key.startswith(project.extractor_prefix) for key in state):
        raise CheckpointError(
            "its feature extractor is not the original's own, the one that can be exported"
        )
    landmark_count, score_count = _counts(state, project)
    # Without memory for its weights: they are the checkpoint's.
    with torch.device("meta"):
        extractor = OriginalExtractor(score_count + TRANSFORM_COUNT, norm)
    keys = {ours: project.extractor_key(ours, norm) for ours in extractor.state_dict()}
    shapes = _shape_layer_shapes(project, landmark_count, score_count)
    shapes |= {keys[ours]: tensor.shape for ours, tensor in extractor.state_dict().items()}
    _check(state, shapes)

    weights = {ours: state.get(key, torch.tensor(0)) for ours, key in keys.items()}
    rows = _output_rows(state, project, order)
    for ours in ("stages.final_conv.weight", "stages.final_conv.bias"):
        weights[ours] = weights[ours][rows]
    extractor.load_state_dict(weights, assign=True)
    # The fork's θ turns counter-clockwise, ours clockwise.
    turn = 1 if order == "yx" else -1
    shape_net = ShapeNet(
        extractor.float(),
        _in_network_units(state[project.shape_prefix + _MEAN][0], order),
        _in_network_units(state[project.shape_prefix + _COMPONENTS][0], order),
        torch.tensor([1.0] * score_count + [1, turn, _PER_PX, _PER_PX]),
        torch.tensor([0.0] * score_count + [0, 0, _OFFSET, _OFFSET]),
    )
    return OriginalCheckpoint(project, order, norm, shape_net.eval())


def _state(values: object) -> State:
    """The tensors by name, out of what holds them; empty if nothing does."""
    for container in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(container), Mapping):
            values = values[container]
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        return {}
    if all(key.startswith("module.") for key in values):  # several GPUs leave that
        return {key.removeprefix("module."): tensor for key, tensor in values.items()}
    return values


def _norm(state: State, project: Project, asked_for: Norm | None) -> Norm:
    """The norm that the tensors tell, or the one asked for where they tell none."""
    prefix = f"{project.extractor_prefix}norm_"
    names = [key for key in state if key.startswith(prefix)]
    possible: tuple[Norm, ...] = ("instance", "none")
    if names:
        possible = ("group",) if any(".norm." in name for name in names) else ("batch",)
    if asked_for is not None and asked_for not in possible:
        raise CheckpointError(
            f"norm {asked_for} is asked for, but its tensors are those of {' or '.join(possible)}"
        )
    return asked_for or possible[0]


def _counts(state: State, project: Project) -> tuple[int, int]:
    """L and K, which the components tell."""
    key = project.shape_prefix + _COMPONENTS
    if key not in state:
        raise CheckpointError(f"it lacks the tensor {key}")
    shape = tuple(getattr(state[key], "shape", ()))
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 2:
        raise CheckpointError(f"{key} is {shape}; accepted: (1, components, landmarks, 2)")
    _, score_count, landmark_count, _ = shape
    if not (1 <= landmark_count <= LANDMARKS_MAX and 1 <= score_count <= 2 * landmark_count):
        raise CheckpointError(f"{key} has {score_count} components of {landmark_count} landmarks")
    return landmark_count, score_count


def _shape_layer_shapes(
    project: Project, landmark_count: int, score_count: int
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_INDICES, (1,))
    shapes["_indices_shape_params"] = (score_count,)
    shapes["_indices_homogen_params"] = (TRANSFORM_COUNT,)
    shapes["_homogen_trafo._indices_translation_params"] = (2,)
    shapes[_MEAN] = (1, landmark_count, 2)
    shapes[_COMPONENTS] = (1, score_count, landmark_count, 2)
    shapes[_TEMPLATE] = (1, 3, 3)
    return {project.shape_prefix + name: shape for name, shape in shapes.items()}


def _check(state: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """CheckpointError for the first tensor that isn't as it must be."""
    for key in shapes:
        if key not in state and not key.endswith(_COUNTER):
            raise CheckpointError(f"it lacks the tensor {key}")
    for key, tensor in state.items():
        if key not in shapes:
            raise CheckpointError(f"the network has no tensor {key[:100]!r}")
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(f"{key} is no plain tensor")
        found, expected = tuple(tensor.shape), tuple(shapes[key])
        if found != expected:
            raise CheckpointError(f"{key} is {found} in place of {expected}")
        if key.endswith(_COUNTER):
            continue
        if "_indices_" in key:
            if tensor.dtype not in (torch.int32, torch.int64):
                raise CheckpointError(f"{key} holds {tensor.dtype}, not whole numbers")
        elif not tensor.is_floating_point():
            raise CheckpointError(f"{key} holds {tensor.dtype}, not floating-point numbers")
        elif not torch.isfinite(tensor).all():
            raise CheckpointError(f"{key} holds NaN or infinite numbers")
        elif key.endswith("running_var") and (tensor < 0).any():
            raise CheckpointError(f"{key} holds negative variances")


def _output_rows(state: State, project: Project, order: Order) -> list[int]:
    """Where the checkpoint's index buffers have the scores, scale, angle, translation x and y."""
    scores, transform, scale, angle, translation = indices = [
        state[project.shape_prefix + name].tolist() for name in _INDICES
    ]
    output_count = len(scores) + TRANSFORM_COUNT
    limits = (output_count, output_count, *[TRANSFORM_COUNT] * 3)
    for name, buffer, limit in zip(_INDICES, indices, limits, strict=True):
        if not all(0 <= index < limit for index in buffer):
            raise CheckpointError(f"{project.shape_prefix}{name} must be from 0 to {limit - 1}")
    if order == "yx":
        translation.reverse()
    return scores + [transform[index] for index in (*scale, *angle, *translation)]


def _in_network_units(points: Tensor, order: Order) -> Tensor:
    """Points (..., L, 2) around 0, from pixels to the network's units, x before y."""
    points = points.double() * _PER_PX
    return points.flip(-1) if order == "yx" else points
