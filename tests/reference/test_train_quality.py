"""The quality: an expected error, learnt, calibrated, and joined to the network at export."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is PyTorch's")

import torch

from npshapenet.layers import Convolution
from npshapenet.plain import PlainBackend
from npshapenet.shape import QUALITY_LIMITS_PERCENT, split_outputs
from npshapenet.weights import read
from reference import export as export_command
from reference import train_quality as command
from reference.checkpoint import load, save
from reference.networks.quality import QualityHead, expected_error_loss
from reference.recipe import read_recipe
from reference.train_quality import Seen, calibrate, fit_head
from reference.training import Trainer, collect, fit_shape_model, shape_model_tensors


@pytest.fixture(scope="module")
def checkpoint_file(make_faces, small_recipe_text, tmp_path_factory):
    """A network that has seen a few batches."""
    folder = tmp_path_factory.mktemp("quality")
    (folder / "small.toml").write_text(small_recipe_text)
    recipe = read_recipe(folder / "small.toml")
    data = collect([("made", make_faces(30), 1.0)], 4)
    shape_model = shape_model_tensors(fit_shape_model(data, recipe.shape_model, 32))
    trainer = Trainer(recipe, data, torch.device("cpu"), shape_model=shape_model, workers=0)
    trainer.run(lambda progress: progress.step >= 6)
    save(folder / "best.pt", trainer.checkpoint())
    return folder / "best.pt"


@pytest.fixture(scope="module")
def with_quality(checkpoint_file, make_faces, tmp_path_factory):
    from reference.data.dataset import write_faces

    folder = tmp_path_factory.mktemp("with quality")
    write_faces(folder / "faces.npz", make_faces(30))
    out = folder / "quality.pt"
    arguments = [str(checkpoint_file), "--data", str(folder / "faces.npz"), "--views", "2"]
    assert command.main([*arguments, "--no-photos", "--out", str(out)]) == 0
    return out


def test_the_loss_is_least_at_the_mean_error():
    errors = torch.tensor([1.0, 2.0, 9.0])
    expected = torch.linspace(0.5, 12, 1000)
    losses = torch.stack([expected_error_loss(each.log(), errors) for each in expected])
    assert expected[losses.argmin()] == pytest.approx(4.0, abs=0.02)


def test_a_head_learns_which_pictures_are_hard():
    rng = torch.Generator().manual_seed(0)
    collapsed = torch.randn(2000, 6, generator=rng)
    errors = torch.where(collapsed[:, 0] > 0, 10.0, 2.0)
    head = fit_head(Seen(collapsed, errors), seed=0)
    with torch.inference_mode():
        hard, easy = head(torch.eye(6)[:1] * 2).exp(), head(-torch.eye(6)[:1] * 2).exp()
    # A small head rounds the step off.
    assert float(hard) == pytest.approx(10, rel=0.25)
    assert float(easy) == pytest.approx(2, rel=0.25)


def test_calibration_gives_the_mean_error():
    torch.manual_seed(0)
    head = QualityHead(6)
    collapsed, errors = torch.randn(50, 6), torch.rand(50) + 3
    calibrate(head, Seen(collapsed, errors))
    with torch.inference_mode():
        assert head(collapsed).exp().mean() == pytest.approx(float(errors.mean()), rel=1e-5)


def test_landmarks_stay_as_they_were(checkpoint_file, with_quality):
    images = torch.rand(3, 1, 32, 32)
    before, after = load(checkpoint_file).network(), load(with_quality).network()
    with torch.inference_mode():
        np.testing.assert_array_equal(before(images), after(images))
        assert before.outputs(images).shape == (3, 8)
        assert after.outputs(images).shape == (3, 9)


def test_the_file_gives_what_pytorch_gives(with_quality, tmp_path):
    assert export_command.main([str(with_quality), "--out", str(tmp_path / "w.npz")]) == 0
    weights = read(tmp_path / "w.npz")
    assert weights.has_quality
    assert weights.shape_model.limits is not None
    images = np.random.default_rng(0).random((3, 1, 32, 32), dtype=np.float32)
    backend = PlainBackend(weights.network, weights.tensors, weights.normalisation)
    ours = split_outputs(backend.run(images), weights.shape_model)
    with torch.inference_mode():
        theirs = load(with_quality).network().outputs(torch.from_numpy(images))
    # float16 weights: about 3 decimal digits.
    expected = theirs[:, -1].clamp(*np.log(QUALITY_LIMITS_PERCENT))
    np.testing.assert_allclose(np.log(ours.quality), expected, rtol=0, atol=0.02)
    layers = {layer.name: layer for layer in weights.network.layers}
    assert isinstance(layers["hidden"], Convolution)
    assert layers["hidden"].out_channels == 16 + 32


def test_a_network_without_a_hidden_layer_is_refused(checkpoint_file, tmp_path):
    import dataclasses

    checkpoint = load(checkpoint_file)
    relu = dataclasses.replace(checkpoint.recipe.network, activation="relu")
    recipe = dataclasses.replace(checkpoint.recipe, network=relu)
    head = dict(QualityHead(16).state_dict())
    save(tmp_path / "bad.pt", dataclasses.replace(checkpoint, recipe=recipe, quality=head))
    assert export_command.main([str(tmp_path / "bad.pt"), "--out", str(tmp_path / "w.npz")]) == 1
    assert not (tmp_path / "w.npz").exists()
