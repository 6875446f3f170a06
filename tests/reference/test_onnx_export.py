"""An ONNX model gives npshapenet's landmarks, or is not written."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime

from npshapenet import Model, load
from npshapenet.layers import Dense, GlobalAveragePool, GroupNorm
from npshapenet.model import BackendName, bundled_models
from npshapenet.network import Network
from npshapenet.shape import ShapeModel
from npshapenet.weights import Weights
from reference import fixtures, onnx_export
from reference.onnx_export import CropForm, OnnxError, export_onnx, make_landmark_model

Floats = NDArray[np.float32]

HAS_NUMBA = all(importlib.util.find_spec(package) for package in ("numba", "llvmlite"))
no_numba = pytest.mark.skipif(not HAS_NUMBA, reason="Numba isn't installed")

#: Between npshapenet and ONNX Runtime, in pixels of the crop: what is promised.
TOLERANCE_PX = 0.01


def group_norm_network() -> Network:
    """The fixtures' network with a group norm in place of its instance norm."""
    layers = list(fixtures.NETWORK.layers)
    layers[4] = GroupNorm("instance_norm", "residual", groups=4)
    return Network(fixtures.NETWORK.input_shape, tuple(layers))


def with_quality_and_limits(weights: Weights) -> Weights:
    """One output more, and limits that random crops reach on both sides."""
    *layers, head = weights.network.layers
    assert isinstance(head, Dense)
    outputs = head.out_features + 1
    tensors = dict(weights.tensors)
    rng = np.random.default_rng(4)
    for name in (f"{head.name}.weight", f"{head.name}.bias"):
        last = rng.normal(scale=0.2, size=(1, *tensors[name].shape[1:])).astype(np.float32)
        tensors[name] = np.concatenate([tensors[name], last])
    limits = np.array([[-0.4], [0.6]], np.float32).repeat(outputs - 1, axis=1)
    return dataclasses.replace(
        weights,
        network=Network(
            weights.network.input_shape, (*layers, head._replace(out_features=outputs))
        ),
        tensors=tensors,
        shape_model=dataclasses.replace(weights.shape_model, limits=limits),
    )


def make_weights(
    name: str, small: Weights, make_tensors: Callable[[Network], dict[str, Floats]]
) -> Weights:
    if name == "every layer":
        return fixtures.small_weights()
    if name == "group norm":
        network = group_norm_network()
        return dataclasses.replace(
            fixtures.small_weights(), network=network, tensors=make_tensors(network)
        )
    if name == "68 points":
        return small
    if name == "quality and limits":
        return with_quality_and_limits(small)
    return load(name, backend="numpy").weights


@pytest.fixture(
    params=["every layer", "group norm", "68 points", "quality and limits", *bundled_models()]
)
def any_weights(
    request: pytest.FixtureRequest,
    weights: Weights,
    make_tensors: Callable[[Network], dict[str, Floats]],
) -> Weights:
    return make_weights(request.param, weights, make_tensors)


def run(model: bytes, crops: NDArray[Any]) -> Mapping[str, Floats]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"crop": crops}), strict=True))


def make_crops(form: CropForm, count: int, seed: int = 1) -> NDArray[Any]:
    """Random ones, and one that is all black, which has no variance to be divided by."""
    shape = (count, form.side_px, form.side_px)
    crops = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    crops[1:2] = 0
    return crops if form.dtype == "uint8" else crops.astype(np.float32) / np.float32(255)


def forms(side_px: int) -> Iterator[CropForm]:
    """The network's own side, a larger and a smaller one; both types."""
    yield CropForm(side_px)
    yield CropForm(2 * side_px + 5)
    yield CropForm(16, "float32")


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=no_numba)])
def test_landmarks_are_those_of_npshapenet(any_weights: Weights, backend: BackendName) -> None:
    """In every batch size, and from crops that the model must resize first."""
    ours = Model(any_weights, backend)
    for form in forms(any_weights.network.input_shape[1]):
        model = make_landmark_model(any_weights, form).SerializeToString()
        for count in (1, 2, 7):
            crops = make_crops(form, count)
            found = run(model, crops)
            expected = ours.predict(crops)
            assert found["landmarks"].shape == (count, any_weights.landmark_count, 2)
            assert found["landmarks"].dtype == np.float32
            np.testing.assert_allclose(found["landmarks"], expected, rtol=0, atol=TOLERANCE_PX)
            quality = ours.parameters(crops).quality
            assert ("quality" in found) == (quality is not None)
            if quality is not None:
                assert found["quality"].shape == (count,)
                np.testing.assert_allclose(found["quality"], quality, rtol=1e-4)


def test_limits_are_reached(weights: Weights) -> None:
    """So that the test above would see it if they were left out of the model."""
    limited = with_quality_and_limits(weights)
    free = dataclasses.replace(
        limited, shape_model=ShapeModel(limited.shape_model.mean, limited.shape_model.components)
    )
    form = CropForm(33)
    crops = make_crops(form, 7)
    model = make_landmark_model(free, form).SerializeToString()
    moved = run(model, crops)["landmarks"] - Model(limited, "numpy").predict(crops)
    assert np.abs(moved).max() > 1


@pytest.mark.parametrize("log_quality", [-50, 50])
def test_quality_stays_within_its_limits(weights: Weights, log_quality: float) -> None:
    network = Network((1, 33, 33), (GlobalAveragePool("pool", "input"), Dense("out", "pool", 11)))
    bias = np.array([0] * 6 + [0.5, 0, 0, 0, log_quality], np.float32)
    tensors = {"out.weight": np.zeros((11, 1), np.float32), "out.bias": bias}
    constant = dataclasses.replace(weights, network=network, tensors=tensors)
    form = CropForm(33)
    model = make_landmark_model(constant, form).SerializeToString()
    crops = make_crops(form, 2)
    expected = Model(constant, "numpy").parameters(crops).quality
    np.testing.assert_allclose(run(model, crops)["quality"], expected, rtol=1e-6)


def test_layers_may_have_any_name(weights: Weights) -> None:
    """Those of the model's own inputs and outputs too."""
    network = Network(
        (1, 33, 33), (GlobalAveragePool("crop", "input"), Dense("quality", "crop", 10))
    )
    tensors = {
        "quality.weight": np.full((10, 1), 0.1, np.float32),
        "quality.bias": np.full(10, 0.2, np.float32),
    }
    named = dataclasses.replace(weights, network=network, tensors=tensors)
    form = CropForm(20)
    crops = make_crops(form, 3)
    found = run(make_landmark_model(named, form).SerializeToString(), crops)
    np.testing.assert_allclose(
        found["landmarks"], Model(named, "numpy").predict(crops), atol=TOLERANCE_PX
    )


def test_what_the_model_takes_and_gives(weights: Weights) -> None:
    graph = make_landmark_model(with_quality_and_limits(weights), CropForm(40)).graph
    described = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert described == {
        "crop": ("UINT8", ["N", 40, 40]),
        "landmarks": ("FLOAT", ["N", 68, 2]),
        "quality": ("FLOAT", ["N"]),
    }


def test_terms_and_provenance_come_along(weights: Weights) -> None:
    provenance = {"data": "made", "terms": "research only"}
    model = make_landmark_model(dataclasses.replace(weights, provenance=provenance), CropForm(33))
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["terms"] == "research only"
    assert json.loads(found["provenance"]) == provenance
    assert found["markup"] == "ibug68"
    assert found["crop_factor"].startswith("1.5 ")
    assert found["crop"].startswith("uint8 (N, 33, 33)")
    assert "quality" not in found


def test_the_bundled_terms_come_along() -> None:
    model = make_landmark_model(load(backend="numpy").weights, CropForm(112))
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert "not for commercial use" in found["terms"]


class TestWritten:
    def test_once_checked(self, weights: Weights, tmp_path: Path) -> None:
        path = tmp_path / "small.onnx"
        form = CropForm(33)
        assert export_onnx(weights, form, path) <= TOLERANCE_PX
        crops = make_crops(form, 2)
        expected = Model(weights, "numpy").predict(crops)
        np.testing.assert_allclose(
            run(path.read_bytes(), crops)["landmarks"], expected, atol=TOLERANCE_PX
        )
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tensors": "head.bias"}, "landmarks differ from npshapenet's by"),
            ({"shape_model": "mean"}, "landmarks differ from npshapenet's by"),
            ({"tensors": "quality"}, "quality differs from npshapenet's by"),
        ],
    )
    def test_never_where_it_differs(
        self,
        weights: Weights,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        change: Mapping[str, str],
        message: str,
    ) -> None:
        """A model of other weights, moved by 1.5 times the tolerance; the old file stays."""
        weights = dataclasses.replace(
            with_quality_and_limits(weights),
            shape_model=weights.shape_model,  # no limits, so that all of a change is seen
        )
        moved = np.float32(1.5 * TOLERANCE_PX / (33 / 2))
        if "shape_model" in change:
            shape_model = weights.shape_model
            mean = shape_model.mean.copy()
            mean[30] += 40 * moved  # the scale is small for some crops
            others = dataclasses.replace(
                weights, shape_model=ShapeModel(mean, shape_model.components)
            )
        else:
            bias = weights.tensors["head.bias"].copy()
            is_quality = change["tensors"] == "quality"
            bias[-1 if is_quality else -2] += 10 * moved if is_quality else moved
            others = dataclasses.replace(weights, tensors={**weights.tensors, "head.bias": bias})
        monkeypatch.setattr(
            onnx_export, "make_landmark_model", lambda _, form: make_landmark_model(others, form)
        )
        path = tmp_path / "small.onnx"
        path.write_bytes(b"old")
        with pytest.raises(OnnxError, match=message):
            export_onnx(weights, CropForm(33), path)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("side_px", [0, 15, 1025])
def test_sides_that_no_crop_has(side_px: int) -> None:
    with pytest.raises(OnnxError, match=f"{side_px}×{side_px}; accepted: 16 to 1024"):
        CropForm(side_px)


class TestCommand:
    """python -m reference.export … --onnx."""

    @pytest.fixture
    def export(self) -> Callable[..., int]:
        pytest.importorskip("torch", reason="the command also opens PyTorch's checkpoints")
        from reference import export

        return lambda *arguments: export.main([str(argument) for argument in arguments])

    @pytest.mark.parametrize("source", bundled_models())
    def test_bundled_model(
        self,
        export: Callable[..., int],
        source: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / "model.onnx"
        assert export(source, "--onnx", path, "--crop-side", 150, "--crop-type", "float32") == 0
        assert (
            "crop float32 (N, 150, 150) → landmarks float32 (N, 68, 2)" in capsys.readouterr().out
        )
        crops = make_crops(CropForm(150, "float32"), 2)
        np.testing.assert_allclose(
            run(path.read_bytes(), crops)["landmarks"],
            load(source, "numpy").predict(crops),
            atol=TOLERANCE_PX,
        )

    def test_weights_file(
        self, export: Callable[..., int], weights_file: Path, tmp_path: Path
    ) -> None:
        assert export(weights_file, "--onnx", tmp_path / "model.onnx") == 0
        crops = make_crops(CropForm(33), 1)
        np.testing.assert_allclose(
            run((tmp_path / "model.onnx").read_bytes(), crops)["landmarks"],
            load(weights_file, "numpy").predict(crops),
            atol=TOLERANCE_PX,
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "--out, --onnx or both"),
            (["--out", "a.npz"], "only checkpoints take --out"),
            (["--onnx", "a.onnx", "--terms", "none"], "only checkpoints take --terms"),
            (["--crop-side", "20"], "--out, --onnx or both"),
        ],
    )
    def test_usage(
        self,
        export: Callable[..., int],
        arguments: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(SystemExit):
            export("fast", *arguments)
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["fast", "--crop-side", "8"], "model.onnx: crops of 8×8; accepted: 16 to 1024"),
            (["none.npz"], "none.npz"),
            (["unknown"], "unknown"),
        ],
    )
    def test_failures_are_one_line(
        self,
        export: Callable[..., int],
        arguments: list[str],
        message: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert export(*arguments, "--onnx", tmp_path / "model.onnx") == 1
        complaint = capsys.readouterr().err
        assert complaint.count("\n") == 1
        assert message in complaint
        assert list(tmp_path.iterdir()) == []
