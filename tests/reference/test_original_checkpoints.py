"""Weights of the original ShapeNet and its fork: recognised, exported, and the same landmarks.

The golden files of ../shared are outputs of the two projects themselves. Where they aren't there,
seeded weights stand for them, and their formula, written out here from its definition.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the checkpoints are PyTorch's")

import torch
from torch import Tensor

from npshapenet import load, weights
from npshapenet.cli import main as npshapenet_command
from npshapenet.model import BackendName
from reference.checkpoint import CheckpointError
from reference.export import main, open_checkpoint, to_weights
from reference.networks.original import STAGES, Norm, OriginalExtractor
from reference.original_checkpoints import FORK, ORIGINAL, OriginalCheckpoint, Project, convert
from reference.torchscript import read_tensors

State = dict[str, Tensor]

#: The original's own float32 differs from float64 by 0.01 px, between two backends as well.
TOLERANCE_PX = 0.05
#: Of the largest parameter of a group.
TOLERANCE_PARAMETERS = 5e-4

SIDE_PX = 224

PATH = Path("weights.pt")
BACKENDS: tuple[BackendName, ...] = ("numpy", "numba")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """No threads that wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parameters_of(outputs: np.ndarray, order: str) -> dict[str, np.ndarray]:
    """The original's outputs (N, P), by name, translation as x, y."""
    translation = outputs[:, -2:] if order == "xy" else outputs[:, :-3:-1]
    return {
        "scores": outputs[:, :-4],
        "scale": outputs[:, -4],
        "angle": outputs[:, -3],
        "translation": translation,
    }


def landmarks_of(outputs: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The original's formula: outputs (N, P) → landmarks (N, L, 2) in pixels, in its own order.

    Homogeneous points times the transposed matrix, as ORIGINAL.md has it.
    """
    found = []
    for *scores, scale, angle, first, second in outputs:
        shape = mean + np.tensordot(scores, components, axes=1)
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        matrix = np.array([[cosine, sine, first], [-sine, cosine, second], [0, 0, 1]])
        homogeneous = np.concatenate([shape, np.ones((len(shape), 1))], axis=1)
        found.append((homogeneous @ matrix.T)[:, :2])
    return np.array(found)


def in_x_y(landmarks: np.ndarray, order: str) -> np.ndarray:
    return landmarks if order == "xy" else landmarks[..., ::-1]


def largest_parameter_difference(
    found: Any, expected: dict[str, np.ndarray], order: str
) -> dict[str, float]:
    """How far parameters are from the original's, in its units, over the largest of a group."""
    in_its_units = {
        "scores": found.scores,
        "scale": found.scale,
        "angle": found.angle_rad if order == "yx" else -found.angle_rad,
        "translation": (found.translation + 1) / 2 * SIDE_PX - 0.5,
    }
    return {
        name: float(np.abs(in_its_units[name] - truth).max() / np.abs(truth).max())
        for name, truth in expected.items()
    }


def export(path: Path, out: Path, norm: Norm | None = None) -> Path:
    """A weights file of a checkpoint, without the command's own check, which takes longer."""
    checkpoint = open_checkpoint(path, norm=norm)
    weights.write(out, to_weights(checkpoint, "float32", {}))
    return out


# --- against the two projects' own outputs ---


@pytest.fixture(scope="module")
def golden(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The golden weights in all their containers (225 MB, removed afterwards)."""
    folder = tmp_path_factory.mktemp("golden")
    script = shared_data / "original" / "golden_weights.py"
    subprocess.run([sys.executable, script, folder], check=True, stdout=subprocess.DEVNULL)
    yield folder
    shutil.rmtree(folder)


GOLDEN: dict[str, tuple[str, Norm | None]] = {
    "a": ("golden_a.pt", None),
    "b": ("golden_b.pth", None),
    "c": ("golden_c.pt", None),
    "c_batch": ("golden_c_batch.pt", None),
    "c_group": ("golden_c_group.pt", None),
    "c_none": ("golden_c_none.pt", "none"),
}
ORDERS = {name: "xy" if name == "b" else "yx" for name in GOLDEN}


@pytest.fixture(scope="module")
def exported(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``exported("a")`` → the weights file of golden weights, by the command for a and b."""
    folder = tmp_path_factory.mktemp("exported")

    def make(name: str) -> Path:
        out = folder / f"{name}.npz"
        if not out.exists():
            file_name, norm = GOLDEN[name]
            arguments = [str(golden / file_name), "--out", str(out)]
            if name in ("a", "b"):
                assert main(arguments) == 0
            else:
                export(golden / file_name, out, norm)
        return out

    return make


def hold_against_golden(path: Path, truth: Any, order: str, backend: BackendName) -> None:
    model = load(path, backend)
    crops = truth["images"][:, 0]
    differences_px = np.abs(model.predict(crops) - in_x_y(truth["landmarks_f64"], order))
    assert differences_px.max() < TOLERANCE_PX
    expected = parameters_of(truth["features_f64"], order)
    differences = largest_parameter_difference(model.parameters(crops), expected, order)
    assert max(differences.values()) < TOLERANCE_PARAMETERS, differences


def truth_of(shared_data: Path, name: str, images: slice) -> dict[str, np.ndarray]:
    with np.load(shared_data / "original" / f"golden_{name}_expected.npz") as arrays:
        keys = ("images", "features_f64", "landmarks_f64")
        return {key: arrays[key][images] for key in keys}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["a", "b", "c_group"])
def test_golden_landmarks(
    exported: Callable[[str], Path], shared_data: Path, name: str, backend: BackendName
) -> None:
    truth = truth_of(shared_data, name, slice(1))
    hold_against_golden(exported(name), truth, ORDERS[name], backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_golden_landmarks(
    exported: Callable[[str], Path], shared_data: Path, backend: BackendName
) -> None:
    for name in GOLDEN:
        truth = truth_of(shared_data, name, slice(None))
        hold_against_golden(exported(name), truth, ORDERS[name], backend)


@pytest.mark.parametrize("changed", ["weight", "norm", "order"])
def test_what_is_wrong_shows_in_golden_landmarks(
    golden: Path, shared_data: Path, tmp_path: Path, changed: str
) -> None:
    """One weight of six million, and each of the choices: the comparison notices them."""
    state = open_state(golden / "golden_c.pt")
    if changed == "weight":
        state["_model.model.conv_9._conv.weight"][3, 5, 1, 0] += 0.05
    checkpoint = convert(
        PATH,
        state,
        order="xy" if changed == "order" else None,
        norm="none" if changed == "norm" else None,
    )
    path = tmp_path / "weights.npz"
    weights.write(path, to_weights(checkpoint, "float32", {}))
    with pytest.raises(AssertionError):
        hold_against_golden(path, truth_of(shared_data, "c", slice(1)), "yx", "numpy")


def open_state(path: Path) -> State:
    """The tensors of a golden checkpoint."""
    state: State = torch.load(path, weights_only=True)["model"]
    return state


def assert_same_network(first: OriginalCheckpoint, second: OriginalCheckpoint) -> None:
    tensors = second.network().state_dict()
    for name, tensor in first.network().state_dict().items():
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=0)
    assert (first.project, first.order, first.norm) == (second.project, second.order, second.norm)


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("golden_a.pt", "golden_a_bare.pt"),
        ("golden_a.pt", "golden_a_old.pt"),
        ("golden_b.pth", "golden_b_module.pth"),
    ],
)
def test_golden_containers(golden: Path, plain: str, other: str) -> None:
    first, second = (open_checkpoint(golden / name) for name in (plain, other))
    assert isinstance(first, OriginalCheckpoint)
    assert isinstance(second, OriginalCheckpoint)
    assert first.project is (FORK if plain.endswith(".pth") else ORIGINAL)
    assert_same_network(first, second)


@pytest.mark.parametrize(
    ("name", "state_file"), [("b", "golden_b.pth"), ("c_group", "golden_c_group.pt")]
)
def test_golden_torchscript(
    golden: Path, shared_data: Path, tmp_path: Path, name: str, state_file: str
) -> None:
    """Its tensors are those of the state dict, whatever the code beside them does."""
    script = tmp_path / "net.ptj"
    tool = shared_data / "original" / "golden_ptj.py"
    subprocess.run([sys.executable, tool, name, script], check=True, capture_output=True)
    first, second = open_checkpoint(script), open_checkpoint(golden / state_file)
    assert isinstance(first, OriginalCheckpoint)
    assert isinstance(second, OriginalCheckpoint)
    assert_same_network(first, second)


@pytest.mark.parametrize("order", ["yx", "xy"])
def test_golden_layer(shared_data: Path, order: Any) -> None:
    """The transform alone: parameters as the bias of an extractor that sees nothing."""
    with np.load(shared_data / "original" / "golden_layer.npz") as arrays:
        shapes, params = arrays["shapes_2d"], arrays["params_2d"]
        expected = in_x_y(arrays["landmarks_2d_f64"], order)
    for outputs, landmarks in zip(params, expected, strict=True):
        state = seeded_state(ORIGINAL, shapes[0], shapes[1:])
        state["_model.model.final_conv.bias"] = torch.from_numpy(outputs.astype(np.float32))
        found = landmarks_of_bias(convert(PATH, state, order=order))
        np.testing.assert_allclose(found, landmarks, rtol=0, atol=2e-4)


# --- against seeded weights: everywhere ---


def random_shapes(landmarks: int, components: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A mean (L, 2) around 0 and components (K, L, 2) in pixels of a photo, in float32."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(-70, 70, (landmarks, 2)).astype(np.float32)
    return mean, rng.normal(0, 10, (components, landmarks, 2)).astype(np.float32)


def random_extractor(
    output_count: int, norm: Norm = "instance", seed: int = 0
) -> OriginalExtractor:
    """Outputs about 0, 1, 0.2 and the crop's centre, which follow the image."""
    torch.manual_seed(seed)
    extractor = OriginalExtractor(output_count, norm).eval()
    spread = torch.tensor([0.1] * (output_count - 4) + [0.1, 0.2, 10, 10])
    centre = torch.tensor([0.0] * (output_count - 4) + [1, 0.2, 120, 100])
    with torch.no_grad():
        for name, tensor in extractor.state_dict().items():
            if "norm_" in name and tensor.is_floating_point():
                tensor.copy_(1 + 0.3 * torch.rand(tensor.shape))
            elif name.endswith(".weight"):
                tensor.normal_(std=float(np.sqrt(2 / tensor[0].numel())))
        final = extractor.stages.final_conv
        final.weight.mul_(spread[:, None, None, None])
        final.bias.copy_(centre)
    return extractor


def their_state(
    project: Project, extractor: OriginalExtractor, mean: np.ndarray, components: np.ndarray
) -> State:
    """The state dict that a project would have of an extractor and a shape model."""
    shape, count = project.shape_prefix, len(components)
    state: State = OrderedDict()
    state[f"{shape}_indices_shape_params"] = torch.arange(count)
    state[f"{shape}_indices_homogen_params"] = torch.arange(count, count + 4)
    state[f"{shape}_shape_layer._layer._shape_mean"] = torch.tensor(mean)[None]
    state[f"{shape}_shape_layer._layer._shape_components"] = torch.tensor(components)[None]
    state[f"{shape}_homogen_trafo._indices_scale_params"] = torch.tensor([0])
    state[f"{shape}_homogen_trafo._indices_rotation_params"] = torch.tensor([1])
    state[f"{shape}_homogen_trafo._indices_translation_params"] = torch.tensor([2, 3])
    state[f"{shape}_homogen_trafo._layer._trafo_matrix"] = torch.zeros(1, 3, 3)
    convolutions = [name for name, *_ in STAGES]
    for name, tensor in extractor.state_dict().items():
        layer, kind = name.removeprefix("stages.").rsplit(".", 1)
        if layer in convolutions:
            layer += "._conv"
        if isinstance(extractor.stages.get_submodule(layer.split(".")[0]), torch.nn.GroupNorm):
            layer += ".norm"
        state[f"{project.extractor_prefix}{layer}.{kind}"] = tensor.clone()
    return state


def seeded_state(project: Project, mean: np.ndarray, components: np.ndarray) -> State:
    return their_state(project, random_extractor(len(components) + 4), mean, components)


def landmarks_of_bias(checkpoint: OriginalCheckpoint) -> np.ndarray:
    """The landmarks (L, 2) in pixels, x before y, of an image that adds nothing to the bias."""
    network = checkpoint.network().double()
    bias = network.extractor.get_parameter("stages.final_conv.bias")
    outputs = (bias * network.parameter_scales + network.parameter_offsets)[None]
    with torch.inference_mode():
        found: np.ndarray = network.landmarks(outputs)[0].numpy()
    return (found + 1) / 2 * SIDE_PX - 0.5


@pytest.fixture(scope="module")
def nine_points() -> State:
    """A state dict under the original's names: 9 points, 5 components. Copied before a change."""
    return seeded_state(ORIGINAL, *random_shapes(9, 5))


@pytest.fixture
def state(nine_points: State) -> State:
    """A copy of ``nine_points``, to change."""
    return {key: tensor.clone() for key, tensor in nine_points.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("project", "norm", "landmarks"),
    [
        (ORIGINAL, "instance", 9),
        (FORK, "group", 68),
        (ORIGINAL, "batch", 68),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_seeded_landmarks(
    tmp_path: Path, project: Project, norm: Norm, landmarks: int, backend: BackendName
) -> None:
    mean, components = random_shapes(landmarks, 6)
    extractor = random_extractor(10, norm)
    checkpoint_path, path = tmp_path / "net.pt", tmp_path / "weights.npz"
    torch.save({"model": their_state(project, extractor, mean, components)}, checkpoint_path)
    model = load(export(checkpoint_path, path), backend)
    crops = np.random.default_rng(1).integers(0, 256, (2, SIDE_PX, SIDE_PX), np.uint8)
    crops[1, :, 60:] //= 4
    with torch.inference_mode():
        outputs = extractor(torch.from_numpy(crops / 255)[:, None].float()).double().numpy()
    expected = in_x_y(landmarks_of(outputs, mean, components), project.order)
    assert np.abs(expected[0] - expected[1]).max() > 1  # it looks at the image
    assert np.abs(model.predict(crops) - expected).max() < TOLERANCE_PX
    differences = largest_parameter_difference(
        model.parameters(crops[:1]), parameters_of(outputs[:1], project.order), project.order
    )
    assert max(differences.values()) < TOLERANCE_PARAMETERS, differences


class TestTheTransform:
    """Order and sign, without running the extractor."""

    @pytest.mark.parametrize("order", ["yx", "xy", None])
    @pytest.mark.parametrize("project", [ORIGINAL, FORK], ids=lambda project: project.name)
    def test_is_the_formula_in_each_order(self, project: Project, order: Any) -> None:
        mean, components = random_shapes(7, 3)
        state = seeded_state(project, mean, components)
        outputs = np.array([[0.7, -1.2, 0.4, 0.8, -0.6, 130.0, 90.0]])
        state[f"{project.extractor_prefix}final_conv.bias"] = torch.tensor(outputs[0]).float()
        checkpoint = convert(PATH, state, order=order)
        assert checkpoint.order == (order or project.order)
        expected = in_x_y(landmarks_of(outputs, mean, components), checkpoint.order)
        np.testing.assert_allclose(landmarks_of_bias(checkpoint), expected[0], atol=1e-4)

    def test_index_buffers_are_honoured(self, state: State) -> None:
        before = convert(PATH, state)
        places = torch.randperm(9, generator=torch.Generator().manual_seed(1))
        for kind in ("weight", "bias"):
            rows = state[f"_model.model.final_conv.{kind}"].clone()
            state[f"_model.model.final_conv.{kind}"][places] = rows
        state["_out_layer._indices_shape_params"] = places[:5]
        # The transform's four in another order too.
        state["_out_layer._indices_homogen_params"] = places[[8, 5, 7, 6]]
        state["_out_layer._homogen_trafo._indices_scale_params"] = torch.tensor([1])
        state["_out_layer._homogen_trafo._indices_rotation_params"] = torch.tensor([3])
        state["_out_layer._homogen_trafo._indices_translation_params"] = torch.tensor([2, 0])
        assert_same_network(convert(PATH, state), before)


class TestWhatIsRecognised:
    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize(
        "container",
        [
            lambda state: state,
            lambda state: {"optimizer": {}, "model": state, "epoch": 3},
            lambda state: {"state_dict": {"optimizer": {}, "model": state, "epoch": 3}},
            lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
        ],
    )
    def test_containers(
        self, nine_points: State, tmp_path: Path, prefix: str, container: Callable[[State], Any]
    ) -> None:
        path = tmp_path / "net.pt"
        torch.save(container({prefix + key: value for key, value in nine_points.items()}), path)
        found = open_checkpoint(path)
        assert isinstance(found, OriginalCheckpoint)
        assert_same_network(found, convert(PATH, nine_points))

    def test_the_files_of_2019(self, nine_points: State, tmp_path: Path) -> None:
        """PyTorch wrote no zip then."""
        path = tmp_path / "net.pt"
        torch.save({"model": nine_points}, path, _use_new_zipfile_serialization=False)
        found = open_checkpoint(path)
        assert isinstance(found, OriginalCheckpoint)
        assert_same_network(found, convert(PATH, nine_points))

    @pytest.mark.parametrize("norm", ["batch", "group"])
    def test_norms_that_show_in_the_tensors(self, norm: Norm) -> None:
        state = their_state(ORIGINAL, random_extractor(9, norm), *random_shapes(9, 5))
        assert convert(PATH, state).norm == norm
        assert convert(PATH, state, norm=norm).norm == norm
        for other in {"instance", "batch", "group", "none"} - {norm}:
            message = f"norm {other} is asked for, but its tensors are those of {norm}"
            with pytest.raises(CheckpointError, match=message):
                convert(PATH, state, norm=other)  # type: ignore[arg-type]

    def test_norms_that_do_not(self, nine_points: State) -> None:
        assert convert(PATH, nine_points).norm == "instance"
        assert convert(PATH, nine_points, norm="none").norm == "none"
        layers = {
            norm: {
                layer["type"]
                for layer in weights.layer_graph.to_json(
                    to_weights(convert(PATH, nine_points, norm=norm), "float32", {}).network
                )["layers"]
            }
            for norm in ("instance", "none")
        }
        assert layers == {"instance": {"Convolution", "InstanceNorm"}, "none": {"Convolution"}}
        for other in ("batch", "group"):
            with pytest.raises(CheckpointError, match="those of instance or none"):
                convert(PATH, nine_points, norm=other)  # type: ignore[arg-type]

    def test_a_batch_norm_without_counter(self) -> None:
        state = their_state(ORIGINAL, random_extractor(9, "batch"), *random_shapes(9, 5))
        counters = [key for key in state if key.endswith("num_batches_tracked")]
        assert len(counters) == 4
        before = convert(PATH, state)
        for key in counters:
            del state[key]
        assert_same_network(convert(PATH, state), before)

    @pytest.mark.parametrize(
        ("project", "landmarks", "factor"),
        [(ORIGINAL, 68, 1.063), (ORIGINAL, 9, 1.1), (FORK, 68, 1.1)],
    )
    def test_what_the_file_says(self, project: Project, landmarks: int, factor: float) -> None:
        checkpoint = convert(PATH, seeded_state(project, *random_shapes(landmarks, 4)))
        exported = to_weights(checkpoint, "float16", checkpoint.origin())
        assert exported.crop_factor == factor
        assert exported.markup == ("ibug68" if landmarks == 68 else "points9")
        assert exported.network.input_shape == (1, SIDE_PX, SIDE_PX)
        assert exported.normalisation == weights.Normalisation(1.0, 0.0)
        text = json.dumps(exported.provenance, ensure_ascii=False)
        assert project.name in text
        assert "224×224, one gray channel in 0–1, nothing subtracted" in text
        assert f"here {factor} times the face's box" in text


def change(key: str, value: Callable[[Tensor], Any]) -> Callable[[State], None]:
    def apply(state: State) -> None:
        state[key] = value(state[key])

    return apply


def remove(key: str) -> Callable[[State], None]:
    def apply(state: State) -> None:
        del state[key]

    return apply


def add(key: str) -> Callable[[State], None]:
    def apply(state: State) -> None:
        state[key] = torch.zeros(3)

    return apply


def with_nan(tensor: Tensor) -> Tensor:
    tensor.view(-1)[-1] = torch.nan
    return tensor


def another_extractor(state: State) -> None:
    for key in [key for key in state if key.startswith("_model.")]:
        del state[key]
    state["_model.conv1.weight"] = torch.zeros(64, 1, 7, 7)


COMPONENTS = "_out_layer._shape_layer._layer._shape_components"
MEAN = "_out_layer._shape_layer._layer._shape_mean"
FINAL = "_model.model.final_conv.weight"
SCORES = "_out_layer._indices_shape_params"

BROKEN: list[tuple[Callable[[State], None], str]] = [
    (remove(MEAN), f"it lacks the tensor {MEAN}"),
    (remove(COMPONENTS), f"it lacks the tensor {COMPONENTS}"),
    (remove(SCORES), f"it lacks the tensor {SCORES}"),
    (
        remove("_model.model.conv_5._conv.bias"),
        "it lacks the tensor _model.model.conv_5._conv.bias",
    ),
    (add("_model.model.conv_13._conv.weight"), "no tensor '_model.model.conv_13._conv.weight'"),
    (add("a\nb"), r"no tensor 'a\\nb'"),
    (change(MEAN, lambda t: t[:, :8]), r"_shape_mean is \(1, 8, 2\) in place of \(1, 9, 2\)"),
    (change(COMPONENTS, lambda t: t[0]), r"_components is \(5, 9, 2\); accepted: \(1, comp"),
    (change(COMPONENTS, lambda t: t.repeat(1, 1, 1, 2)), r"_components is \(1, 5, 9, 4\); acc"),
    (change(COMPONENTS, lambda t: t.repeat(1, 4, 1, 1)), "has 20 components of 9 landmarks"),
    (
        change(COMPONENTS, lambda t: t[:, :, :1].expand(1, 5, 10**9, 2)),
        "has 5 components of 1000000000 landmarks",
    ),
    (change(FINAL, lambda t: t[:8]), r"final_conv.weight is \(8, 128, 2, 2\) in place of \(9,"),
    (
        change("_model.model.conv_1._conv.weight", lambda t: t.repeat(1, 3, 1, 1)),
        r"conv_1._conv.weight is \(64, 3, 7, 1\) in place of \(64, 1, 7, 1\)",
    ),
    (change(FINAL, with_nan), f"{FINAL} holds NaN or infinite numbers"),
    (change(MEAN, lambda t: t / 0), f"{MEAN} holds NaN or infinite numbers"),
    (change(MEAN, lambda t: t.long()), "_shape_mean holds torch.int64, not floating-point"),
    (change(MEAN, lambda t: t.tolist()), "_shape_mean is no plain tensor"),
    (change(MEAN, lambda t: t.to_sparse()), "_shape_mean is no plain tensor"),
    (change(SCORES, lambda t: t.float()), "_indices_shape_params holds torch.float32, not whole"),
    (change(SCORES, lambda t: t + 5), "_indices_shape_params must be from 0 to 8"),
    (change(SCORES, lambda t: t - 1), "_indices_shape_params must be from 0 to 8"),
    (
        change("_out_layer._homogen_trafo._indices_scale_params", lambda t: t + 4),
        "_indices_scale_params must be from 0 to 3",
    ),
    (another_extractor, "its feature extractor is not the original's own"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_broken_tensors(state: State, broken: Callable[[State], None], message: str) -> None:
    broken(state)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(PATH, state)
    assert str(caught.value).startswith(f"{PATH}: ")
    assert "\n" not in str(caught.value)


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trap),)


def zip_of(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def torch_bytes(values: Any) -> bytes:
    content = io.BytesIO()
    torch.save(values, content)
    return content.getvalue()


def scripted_bytes(module: torch.nn.Module) -> bytes:
    content = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.rand(1, 4)), content)  # type: ignore[no-untyped-call]
    return content.getvalue()


NO_CHECKPOINT: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "text": (lambda trap: b"no weights", "not a checkpoint"),
    "empty": (lambda trap: b"", "not a checkpoint"),
    "an empty zip": (lambda trap: zip_of({}), "not a checkpoint"),
    "another zip": (lambda trap: zip_of({"a/b": b"c"}), "not a checkpoint"),
    "a list": (lambda trap: torch_bytes([torch.rand(3)]), "neither a checkpoint of"),
    "another state": (lambda trap: torch_bytes({"fc.weight": torch.rand(3)}), "neither a check"),
    "another model": (lambda trap: torch_bytes({"model": 3, "state_dict": []}), "neither a check"),
    "numbered": (lambda trap: torch_bytes({"model": {3: torch.rand(3)}}), "neither a checkpoint"),
    "code": (lambda trap: torch_bytes({"model": Malicious(trap)}), "more in it than tensors"),
    "old code": (lambda trap: pickle.dumps(Malicious(trap), 2), "not a checkpoint"),
    "another script": (lambda trap: scripted_bytes(torch.nn.Linear(4, 2)), "neither a checkpoint"),
    "a script with code": (
        lambda trap: zip_of(
            {"net/data.pkl": pickle.dumps(Malicious(trap), 2), "net/constants.pkl": b""}
        ),
        r"can't be read: it holds a (posix|nt)\.mkdir",
    ),
    "a script of a number": (
        lambda trap: zip_of({"net/data.pkl": pickle.dumps(3), "net/constants.pkl": b""}),
        "its data.pkl is not a module",
    ),
    "an empty script": (
        lambda trap: zip_of({"net/constants.pkl": b""}),
        "it has no member 'data.pkl'",
    ),
    "a script in no JSON": (lambda trap: zip_of({"net/model.json": b"{"}), "can't be read: Expect"),
    "a script of nothing": (lambda trap: zip_of({"net/model.json": b"[]"}), "can't be read: list"),
    "big-endian": (
        lambda trap: zip_of({"net/constants.pkl": b"", "net/byteorder": b"big"}),
        "its numbers are big-endian",
    ),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", NO_CHECKPOINT)
def test_files_that_are_none(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = NO_CHECKPOINT[kind]
    path, out, trap = tmp_path / "net.pt", tmp_path / "weights.npz", tmp_path / "trap"
    path.write_bytes(make(trap))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)
    assert main([str(path), "--out", str(out)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"reference.export: {path}: ")
    assert err.count("\n") == 1
    assert not out.exists()
    assert not trap.exists()


class TestTorchScript:
    """The tensors of a file that holds more than tensors."""

    class Net(torch.nn.Module):
        """Tensors of several types, one of them a part of its storage, and settings."""

        def __init__(self) -> None:
            super().__init__()
            self.names = torch.jit.Attribute(["a"], list[str])  # type: ignore[no-untyped-call]
            self.size = 3
            self.inner = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 2))
            whole = torch.arange(24.0).reshape(4, 6)
            self.register_buffer("part", whole[1:3, ::2])
            self.register_buffer("transposed", whole.T)
            self.register_buffer("halves", torch.rand(3).half())
            self.register_buffer("numbers", torch.arange(5))
            self.register_buffer("small", torch.arange(5, dtype=torch.int32))

        def forward(self, values: Tensor) -> Tensor:
            out: Tensor = self.inner(values)
            return out

    @pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
    def test_are_those_of_its_state_dict(self, tmp_path: Path) -> None:
        path = tmp_path / "net.ptj"
        torch.jit.save(torch.jit.script(self.Net()), path)  # type: ignore[no-untyped-call]
        expected = torch.jit.load(path).state_dict()  # type: ignore[no-untyped-call]
        found = read_tensors(path)
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)

    def test_of_pytorch_1_0(self, nine_points: State, tmp_path: Path) -> None:
        path = tmp_path / "net.ptj"
        path.write_bytes(json_script(nine_points))
        found = open_checkpoint(path)
        assert isinstance(found, OriginalCheckpoint)
        assert_same_network(found, convert(PATH, nine_points))

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"dims": ["1000000000"], "strides": ["0"]}, "in a storage of 18 numbers"),
            ({"offset": "1"}, "out of bounds"),
            ({"dataType": "STRING"}, "STRING"),
            ({"data": {"key": "../secret"}}, "no member"),
        ],
    )
    def test_tensors_that_can_not_be(
        self, tmp_path: Path, entry: dict[str, Any], message: str
    ) -> None:
        path = tmp_path / "net.ptj"
        path.write_bytes(json_script({"mean": torch.rand(9, 2)}, **entry))
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(path)


def json_script(state: State, **changes: Any) -> bytes:
    """A file as PyTorch 1.0 to 1.3 wrote it: protobuf's JSON, whose long numbers are strings."""
    root: dict[str, Any] = {"name": "net", "torchscriptArena": {"key": "code/net.py"}}
    members, tensors = {"net/version": b"1\n", "net/code/net.py": b"raise SystemExit"}, []
    for number, (key, tensor) in enumerate(state.items()):
        *modules, leaf = key.split(".")
        here = root
        for name in modules:
            children = here.setdefault("submodules", [])
            if name not in [child["name"] for child in children]:
                children.append({"name": name})
            here = next(child for child in children if child["name"] == name)
        here.setdefault("parameters", []).append(
            {"isBuffer": leaf.startswith("_"), "tensorId": str(number), "name": leaf}
        )
        members[f"net/tensors/{number}"] = tensor.contiguous().numpy().tobytes()
        entry = {
            "dims": [str(extent) for extent in tensor.shape],
            "strides": [str(step) for step in tensor.contiguous().stride()],
            "offset": "0",
            "requiresGrad": False,
            "dataType": "FLOAT" if tensor.is_floating_point() else "INT64",
            "data": {"key": f"tensors/{number}"},
            "device": "cpu",
        }
        tensors.append(entry | changes)
    model = {"protoVersion": "1", "mainModule": root, "tensors": tensors}
    return zip_of({**members, "net/model.json": json.dumps(model).encode()})


@pytest.fixture(scope="module")
def nine_point_weights(nine_points: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of ``nine_points``; read only."""
    folder = tmp_path_factory.mktemp("cats")
    torch.save({"model": nine_points}, folder / "cats.pt")
    arguments = ["cats.pt", "--out", "cats.npz", "--norm", "none", "--order", "xy"]
    paths = [str(folder / text) if text.startswith("cats") else text for text in arguments]
    assert main(paths) == 0
    return folder / "cats.npz"


class TestTheCommands:
    """A model of 9 points all the way, as its user goes."""

    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        path = tmp_path / "cat.png"
        pixels = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    def test_export_says_what_it_did(self, nine_point_weights: Path) -> None:
        stored = weights.read(nine_point_weights)
        assert stored.storage == "float32"  # float16 moves an original's landmarks
        assert (stored.markup, stored.landmark_count) == ("points9", 9)
        provenance = stored.provenance
        assert (provenance["norm"], provenance["order"]) == (
            "none",
            "xy in the checkpoint, xy here",
        )
        assert provenance["terms"] == "not stated"

    def test_predict_and_draw(self, nine_point_weights: Path, photo: Path, tmp_path: Path) -> None:
        drawn, table = tmp_path / "drawn.png", tmp_path / "points.json"
        options = ["--model", nine_point_weights, "--backend", "numpy", "--box", 20, 10, 100, 90]
        command = ["predict", photo, *options, "--out", table, "--draw", drawn]
        assert npshapenet_command([str(word) for word in command]) == 0
        result = json.loads(table.read_text(encoding="utf-8"))
        assert result["markup"] == "points9"
        assert np.array(result["faces"][0]["landmarks"]).shape == (9, 2)
        before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (photo, drawn))
        assert before.shape == after.shape
        assert (before != after).any()

    def test_regions_are_refused(self, nine_point_weights: Path) -> None:
        model = load(nine_point_weights, "numpy")
        with pytest.raises(ValueError, match=r"the 9 points of this model .* no named regions"):
            _ = model.regions

    def test_errors_by_region_are_refused(
        self, nine_point_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from reference.evaluate import main as evaluate

        with pytest.raises(SystemExit):
            evaluate([str(nine_point_weights), "--labels", str(tmp_path / "labels.xml")])
        message = capsys.readouterr().err.splitlines()[-1]
        assert "cats.npz: finds 9 landmarks, and doesn't say which: --markup does" in message

    def test_info(self, nine_point_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert npshapenet_command(["info", str(nine_point_weights)]) == 0
        out = capsys.readouterr().out
        assert "224×224 gray, a square 1.1 times the face's box" in out
        assert "9 points (points9) of 5 components" in out
        assert "weights of the original ShapeNet, trained elsewhere" in out
        assert "preprocessing:" in out

    @pytest.mark.parametrize("choice", [("--order", "yx"), ("--norm", "batch")])
    def test_our_own_checkpoints_have_no_choice(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], choice: tuple[str, str]
    ) -> None:
        path = tmp_path / "best.pt"
        torch.save({"format": "npshapenet checkpoint 1", "model": {}}, path)
        assert main([str(path), "--out", str(tmp_path / "weights.npz"), *choice]) == 1
        assert "--order and --norm are for those of the original" in capsys.readouterr().err

    def test_a_norm_that_is_not_theirs(
        self, nine_points: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "net.pt"
        torch.save(nine_points, path)
        assert main([str(path), "--out", str(tmp_path / "w.npz"), "--norm", "group"]) == 1
        err = capsys.readouterr().err
        assert err.endswith("its tensors are those of instance or none\n")
        assert err.count("\n") == 1
