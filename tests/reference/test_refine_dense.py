"""Refining a direct network's last layer: that it gets closest, and the command."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch

from reference import refine_dense
from reference.checkpoint import load
from reference.losses import face_sizes


def test_whitened_inputs_are_independent_and_of_variance_1():
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6))).float()
    inputs -= inputs.mean(dim=0)
    to_whitened, from_whitened = refine_dense.whitening(inputs)
    np.testing.assert_allclose(torch.cov((inputs @ to_whitened).T), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(inputs @ to_whitened @ from_whitened, inputs, atol=1e-3)


def test_a_layer_that_was_spoilt_comes_back(two_networks):
    """Landmarks that the layer gave, after its weights and bias were changed at random."""
    network = load(two_networks / "compact.pt").network()
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


def test_the_command_changes_the_last_layer_alone(two_networks, capsys):
    out = two_networks / "refined.pt"
    arguments = [two_networks / "compact.pt", "--data", two_networks / "faces.npz", "--out", out]
    assert refine_dense.main([str(argument) for argument in arguments]) == 0
    assert "held-out NME" in capsys.readouterr().out
    before, after = load(two_networks / "compact.pt").averaged, load(out).averaged
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["extractor.dense.weight", "extractor.dense.bias"]


def test_other_networks_are_refused(two_networks, capsys):
    arguments = [
        two_networks / "maps.pt",
        "--data",
        two_networks / "faces.npz",
        "--out",
        two_networks / "no.pt",
    ]
    assert refine_dense.main([str(argument) for argument in arguments]) == 1
    assert "only a compact network" in capsys.readouterr().err
    assert not (two_networks / "no.pt").exists()
