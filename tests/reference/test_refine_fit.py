"""Refining the shape fit: what it makes of points that are found badly, and the command."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch

from reference import refine_fit
from reference.checkpoint import load

LANDMARKS = 68


@pytest.fixture
def plain():
    """Of five orthogonal components."""
    rng = np.random.default_rng(0)
    components = np.linalg.qr(rng.normal(size=(2 * LANDMARKS, 5)))[0].T
    return torch.from_numpy(components)


def test_points_that_are_found_exactly_leave_it_as_it_is(plain):
    true = torch.from_numpy(np.random.default_rng(1).normal(size=(500, 2 * LANDMARKS)))
    refined = refine_fit.refined_weight(plain, true, true)
    np.testing.assert_allclose(refined, plain, atol=1e-5)


def test_points_that_are_found_badly_count_less(plain):
    """Shapes of the model; half of the numbers come with noise: the scores get closer."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(4000, 5))
    true = torch.from_numpy(scores) @ plain
    noise = np.zeros((4000, 2 * LANDMARKS))
    noise[:, :LANDMARKS] = rng.normal(scale=0.5, size=(4000, LANDMARKS))
    found = true + torch.from_numpy(noise)
    learnt, kept = slice(0, 2000), slice(2000, None)
    refined = refine_fit.refined_weight(plain, found[learnt], true[learnt]).double()
    before = (found[kept] @ plain.T - torch.from_numpy(scores[kept])).square().mean()
    after = (found[kept] @ refined.T - torch.from_numpy(scores[kept])).square().mean()
    assert after < 0.3 * before


def test_the_command_changes_the_fit_alone(two_networks, capsys):
    out = two_networks / "refined.pt"
    arguments = [two_networks / "maps.pt", "--data", two_networks / "faces.npz", "--out", out]
    assert refine_fit.main([str(argument) for argument in arguments]) == 0
    assert "held-out NME" in capsys.readouterr().out
    before, after = load(two_networks / "maps.pt").averaged, load(out).averaged
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["shape_fit.weight"]
    np.testing.assert_array_equal(load(out).network().shape_fit.weight, after["shape_fit.weight"])


def test_other_networks_are_refused(two_networks, capsys):
    arguments = [
        two_networks / "compact.pt",
        "--data",
        two_networks / "faces.npz",
        "--out",
        two_networks / "no.pt",
    ]
    assert refine_fit.main([str(argument) for argument in arguments]) == 1
    assert "only networks with maps" in capsys.readouterr().err
    assert not (two_networks / "no.pt").exists()
