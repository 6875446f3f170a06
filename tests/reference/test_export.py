"""Export: the weights file gives the checkpoint's landmarks, or is not written."""

from __future__ import annotations

import dataclasses
import json
import math
import os

import numpy as np
import pytest

pytest.importorskip("torch", reason="checkpoints are PyTorch's")

import torch
from torch import nn

import npshapenet
from npshapenet.weights import read
from reference import export as command
from reference.checkpoint import Checkpoint, build_network, load, save
from reference.metrics import interocular_nme_percent
from reference.recipe import read_recipe
from reference.shape_model import fit
from reference.training import _settle_norms, shape_model_tensors

SIDE = 32


@pytest.fixture(scope="module")
def checkpoint(small_recipe_text, make_shapes, tmp_path_factory):
    """As after training: batch norms' statistics are not fresh, the outputs are faces."""
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(small_recipe_text)
    recipe = read_recipe(path)
    shape_model = shape_model_tensors(fit(make_shapes(50) * 0.5, components=4))
    torch.manual_seed(5)
    network = build_network(recipe, shape_model)
    _settle_norms(network, torch.rand(16, 1, SIDE, SIDE))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.2)
    nn.init.normal_(network.extractor.dense.weight, std=0.3)
    figures = {"epoch": 3.0, "loss": 0.1, "held_out_nme_percent": 5.5, "learning_rate": 0.0}
    return Checkpoint(
        recipe=recipe,
        shape_model=shape_model,
        averaged=network.state_dict(),
        model=network.state_dict(),
        optimizer={},
        step=9,
        average_count=9,
        best_percent=5.25,
        crop_factor=1.25,
        data=({"name": "made", "faces": 30, "weight": 1.0},),
        log=(figures,),
    )


@pytest.fixture
def export(checkpoint, tmp_path):
    """``export("--terms", "none", checkpoint=…)`` → exit status; the file is weights.npz."""
    folder = tmp_path / "run"
    folder.mkdir()

    def run(*options, checkpoint=checkpoint, out=tmp_path / "weights.npz"):
        save(folder / "best.pt", checkpoint)
        return command.main([str(folder / "best.pt"), "--out", str(out), *options])

    return run


@pytest.fixture
def exported(export, tmp_path):
    assert export() == 0
    return tmp_path / "weights.npz"


def their_landmarks_px(checkpoint, images):
    """Landmarks (N, 68, 2) by the PyTorch modules, in float64, in pixels of the network's crop."""
    with torch.inference_mode():
        landmarks = checkpoint.network().double()(torch.from_numpy(images).double()).numpy()
    return (landmarks + 1) / 2 * SIDE - 0.5


@pytest.fixture
def crops(rng):
    """Forty crops of the size that the network reads, so that nothing is resized."""
    return rng.integers(0, 256, (40, SIDE, SIDE), dtype=np.uint8)


@pytest.mark.parametrize(
    # Weights rounded to 11 bits move points by hundredths of a pixel of this small crop.
    ("storage", "tolerance_px"),
    [("float32", 1e-3), ("float16", 0.1)],
)
def test_the_file_gives_the_checkpoints_landmarks(
    export, checkpoint, crops, tmp_path, storage, tolerance_px
):
    assert export("--storage", storage) == 0
    model = npshapenet.load(tmp_path / "weights.npz", backend="numpy")
    theirs = their_landmarks_px(checkpoint, crops[:, None] / 255)
    ours = model.predict(crops)
    assert np.ptp(theirs, axis=0).max() > 1
    np.testing.assert_allclose(ours, theirs, atol=tolerance_px)


def test_file_and_checkpoint_have_the_same_error(exported, checkpoint, crops, make_shapes):
    """The NME of file and checkpoint differ by at most 0.01."""
    truth = (make_shapes(40, seed=3) * 0.5 + 1) / 2 * SIDE - 0.5
    ours = npshapenet.load(exported, backend="numpy").predict(crops)
    theirs = their_landmarks_px(checkpoint, crops[:, None] / 255)
    nme = [interocular_nme_percent(points, truth).mean() for points in (ours, theirs)]
    assert nme[0] == pytest.approx(nme[1], abs=0.01)


def test_folding_changes_nothing(checkpoint):
    assert command.folding_difference(checkpoint) < 1e-12


def test_only_weights_are_rounded(exported, checkpoint):
    """Biases and shape model are small and move every point: they stay float32."""
    weights = read(exported)
    stored = np.load(exported)
    for name in weights.tensors:
        assert stored[name].dtype == ("float16" if name.endswith(".weight") else "float32")
    mean, components = checkpoint.shape_model["mean"], checkpoint.shape_model["components"]
    np.testing.assert_array_equal(weights.shape_model.mean, mean)
    np.testing.assert_array_equal(weights.shape_model.components, components)
    offsets = command.describe(checkpoint.network(), SIDE)[1]["dense.bias"].astype(np.float32)
    np.testing.assert_array_equal(weights.tensors["dense.bias"], offsets)


def test_a_borrowed_shape_model_keeps_its_terms():
    data = [
        {"name": "made", "faces": 30, "weight": 1.0},
        {"name": "shape model of fast.npz", "faces": 0, "weight": 0.0, "terms": "research only"},
    ]
    assert command._terms("mine", data) == "mine; shape model of fast.npz: research only"
    assert command._terms("mine", data[:1]) == "mine"


def test_the_metadata_tell_where_the_weights_are_from(export, tmp_path, checkpoint):
    figures = tmp_path / "metrics.json"
    figures.write_text(json.dumps({"common": {"nme": 4.5}}))
    assert export("--terms", "research only", "--figures", str(figures)) == 0
    weights = read(tmp_path / "weights.npz")
    assert weights.crop_factor == 1.25
    assert weights.markup == "ibug68"
    provenance = weights.provenance
    assert provenance["terms"] == "research only"
    assert provenance["figures"] == {"common": {"nme": 4.5}}
    assert provenance["recipe"]["training"]["epochs"] == 3
    assert provenance["data"] == [{"name": "made", "faces": 30, "weight": 1.0}]
    assert provenance["steps"] == 9
    # Its own, not that of another, better checkpoint of the run.
    assert provenance["held_out_nme_percent"] == 5.5
    assert {"commit", "date"} <= set(provenance)
    assert str(tmp_path) not in json.dumps(dict(provenance))


def test_a_checkpoint_that_was_never_validated_can_be_exported(export, checkpoint, tmp_path):
    early = dataclasses.replace(checkpoint, log=(), best_percent=math.inf)
    assert export(checkpoint=early) == 0
    assert read(tmp_path / "weights.npz").provenance["held_out_nme_percent"] is None


def test_success_is_reported_with_size_cost_and_difference(export, capsys, tmp_path):
    assert export() == 0
    out = capsys.readouterr().out
    assert "million multiply-adds" in out
    assert "read back; largest difference from PyTorch" in out
    assert sorted(os.listdir(tmp_path)) == ["run", "weights.npz"]


class TestOnnx:
    """From a checkpoint to an ONNX model: its landmarks are those of the weights file."""

    @pytest.fixture(autouse=True)
    def _onnx(self):
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")

    def run(self, path, crops):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(["landmarks"], {"crop": crops})[0]

    def test_beside_the_weights_file(self, export, crops, tmp_path):
        path = tmp_path / "model.onnx"
        assert export("--onnx", str(path)) == 0
        ours = npshapenet.load(tmp_path / "weights.npz", backend="numpy").predict(crops)
        np.testing.assert_allclose(self.run(path, crops), ours, rtol=0, atol=0.01)

    def test_alone(self, checkpoint, crops, tmp_path):
        save(tmp_path / "best.pt", checkpoint)
        path = tmp_path / "model.onnx"
        arguments = [str(tmp_path / "best.pt"), "--onnx", str(path), "--storage", "float32"]
        assert command.main(arguments) == 0
        assert sorted(os.listdir(tmp_path)) == ["best.pt", "model.onnx"]
        theirs = their_landmarks_px(checkpoint, crops[:, None] / 255)
        np.testing.assert_allclose(self.run(path, crops), theirs, rtol=0, atol=0.01)

    def test_a_checkpoint_that_differs_from_pytorch_gives_none(
        self, checkpoint, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(command, "largest_difference_px", lambda *_: 0.02)
        save(tmp_path / "best.pt", checkpoint)
        assert command.main([str(tmp_path / "best.pt"), "--onnx", str(tmp_path / "m.onnx")]) == 1
        assert os.listdir(tmp_path) == ["best.pt"]


class TestRefused:
    """One line on stderr, exit status 1, and the old file as it was."""

    @pytest.fixture
    def refused(self, export, tmp_path, capsys):
        def check(message, *options, **arguments):
            (tmp_path / "weights.npz").write_bytes(b"old")
            assert export(*options, **arguments) == 1
            err = capsys.readouterr().err
            assert err.startswith("reference.export: ")
            assert err.count("\n") == 1
            assert message in err
            assert (tmp_path / "weights.npz").read_bytes() == b"old"
            assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]

        return check

    def test_landmarks_that_differ(self, refused, monkeypatch):
        """A backend that is off by a fiftieth of a pixel is found before the file is there."""
        run = command.PlainBackend.run

        def moved(self, images):
            outputs = run(self, images)
            outputs[:, -1] += 0.02 / (SIDE / 2)
            return outputs

        monkeypatch.setattr(command.PlainBackend, "run", moved)
        refused("landmarks differ from PyTorch's by 0.02 px")

    def test_folding_that_is_not_exact(self, refused, monkeypatch):
        describe = command.describe

        def wrong(network, side_px):
            graph, tensors = describe(network, side_px)
            tensors["block_1.bias"] = tensors["block_1.bias"] * (1 + 1e-6)
            return graph, tensors

        monkeypatch.setattr(command, "describe", wrong)
        refused("folding changes the parameters")

    def test_weights_that_float16_cannot_hold(self, refused, checkpoint):
        large = {key: value.clone() for key, value in checkpoint.averaged.items()}
        large["extractor.dense.weight"][0, 0] = 1e7
        refused("try --storage float32", checkpoint=dataclasses.replace(checkpoint, averaged=large))

    def test_figures_that_are_no_json(self, refused, tmp_path):
        (tmp_path / "metrics.json").write_text("nme 4.5")
        refused("not JSON", "--figures", str(tmp_path / "metrics.json"))
        refused("No such file", "--figures", str(tmp_path / "none.json"))

    def test_folders_that_are_not_there(self, export, tmp_path, capsys):
        assert export(out=tmp_path / "none" / "weights.npz") == 1
        assert capsys.readouterr().err.startswith("reference.export: ")

    def test_what_is_no_checkpoint(self, tmp_path, capsys):
        (tmp_path / "a.pt").write_text("hello")
        for name in ("a.pt", "none.pt"):
            assert command.main([str(tmp_path / name), "--out", str(tmp_path / "w.npz")]) == 1
            assert name in capsys.readouterr().err
        assert not (tmp_path / "w.npz").exists()


def test_what_was_exported_is_what_load_gives(export, checkpoint, tmp_path):
    """Through the checkpoint's file: nothing is lost on the way."""
    assert export("--storage", "float32") == 0
    again = load(tmp_path / "run" / "best.pt")
    graph, tensors = command.describe(again.network(), SIDE)
    weights = read(tmp_path / "weights.npz")
    assert [layer.name for layer in weights.network.layers] == [e["name"] for e in graph["layers"]]
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(weights.tensors[name], tensor.astype(np.float32))
