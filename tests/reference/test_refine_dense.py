"""Refining a direct network's last layer: that it gets closest, and the command."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch

from reference import refine_dense
from reference.checkpoint import load, save
from reference.data.dataset import write_faces
from reference.losses import face_sizes
from reference.recipe import read_recipe
from reference.training import Trainer, collect, fit_shape_model, shape_model_tensors

SIDE_PX = 32


@pytest.fixture(scope="module")
def folder(make_faces, small_recipe_text, tmp_path_factory):
    """With faces.npz, and maps.pt and compact.pt, which saw a few batches."""
    folder = tmp_path_factory.mktemp("dense")
    faces = make_faces(30)
    write_faces(folder / "faces.npz", faces)
    maps = small_recipe_text.replace("end_channels = 16", 'extractor = "maps"\nmap_channels = 8')
    for name, text in (("maps", maps), ("compact", small_recipe_text)):
        (folder / f"{name}.toml").write_text(text)
        recipe = read_recipe(folder / f"{name}.toml")
        data = collect([("made", faces, 1.0)], 4)
        shape_model = shape_model_tensors(fit_shape_model(data, recipe.shape_model, SIDE_PX))
        trainer = Trainer(recipe, data, torch.device("cpu"), shape_model=shape_model, workers=0)
        trainer.run(lambda progress: progress.step >= 8)
        save(folder / f"{name}.pt", trainer.checkpoint())
    return folder


def test_whitened_inputs_are_independent_and_of_variance_1():
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6))).float()
    inputs -= inputs.mean(dim=0)
    to_whitened, from_whitened = refine_dense.whitening(inputs)
    np.testing.assert_allclose(torch.cov((inputs @ to_whitened).T), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(inputs @ to_whitened @ from_whitened, inputs, atol=1e-3)


def test_a_layer_that_was_spoilt_comes_back(folder):
    """Landmarks that the layer gave, after its weights and bias were changed at random."""
    network = load(folder / "compact.pt").network()
    dense = network.extractor.dense
    inputs = torch.randn(400, dense.in_features, generator=torch.Generator().manual_seed(0))

    def landmarks():
        with torch.no_grad():
            return network.landmarks_of(dense(inputs))

    def mean_distance_percent(truth):
        distances = torch.linalg.vector_norm(landmarks() - truth, dim=-1)
        return 100 * (distances / face_sizes(truth)[:, None]).mean().item()

    truth = landmarks()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        dense.weight += 0.05 * torch.randn(dense.weight.shape, generator=generator)
        dense.bias += 0.3 * torch.randn(dense.bias.shape, generator=generator)
    before = mean_distance_percent(truth)
    refine_dense.refine(network, dense, inputs, truth)
    assert mean_distance_percent(truth) < 0.1 * before


def test_the_command_changes_the_last_layer_alone(folder, capsys):
    out = folder / "refined.pt"
    arguments = [folder / "compact.pt", "--data", folder / "faces.npz", "--out", out]
    assert refine_dense.main([str(argument) for argument in arguments]) == 0
    assert "held-out NME" in capsys.readouterr().out
    before, after = load(folder / "compact.pt").averaged, load(out).averaged
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["extractor.dense.weight", "extractor.dense.bias"]


def test_other_networks_are_refused(folder, capsys):
    arguments = [folder / "maps.pt", "--data", folder / "faces.npz", "--out", folder / "no.pt"]
    assert refine_dense.main([str(argument) for argument in arguments]) == 1
    assert "only a compact network" in capsys.readouterr().err
    assert not (folder / "no.pt").exists()
