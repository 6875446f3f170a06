"""The training loop: what is held out, rates and averages, and going on as if never stopped."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is PyTorch's")

import torch

from reference import training
from reference.data.augment import Augmentation, network_landmarks
from reference.data.markup import IBUG68
from reference.data.mirror import MIRROR
from reference.losses import stages_loss, steady_loss
from reference.recipe import RecipeError, ShapeModelSettings, read_recipe
from reference.shape_model import tilts_rad
from reference.training import (
    Trainer,
    collect,
    fit_shape_model,
    held_out_images,
    overfit_settings,
    shape_model_tensors,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recipe(small_recipe_text, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(small_recipe_text)
    return read_recipe(path)


@pytest.fixture(scope="module")
def data(make_faces):
    return collect([("one", make_faces(30, seed=1), 1.0), ("two", make_faces(10, seed=2), 0.5)], 4)


@pytest.fixture(scope="module")
def shape_model(data, recipe):
    return shape_model_tensors(fit_shape_model(data, recipe.shape_model, 32))


@pytest.fixture
def make_trainer(data, recipe, shape_model):
    def make(resume=None, *, recipe=recipe, data=data, **options):
        return Trainer(
            recipe, data, CPU, shape_model=shape_model, resume=resume, workers=0, **options
        )

    return make


def run(trainer, until=math.inf):
    """Train until a step is done; the reports."""
    reports = []

    def report(progress):
        reports.append(progress)
        return progress.step >= until

    trainer.run(report)
    return reports


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


class TestCollect:
    def test_the_last_faces_of_the_first_file_are_held_out(self, data, make_faces):
        one = make_faces(30, seed=1)
        np.testing.assert_array_equal(data.held_out.crops, one.crops[26:])
        np.testing.assert_array_equal(data.held_out.landmarks, one.landmarks[26:])
        assert len(data.faces.crops) == 40

    def test_held_out_faces_are_never_trained_on(self, data):
        expected = np.concatenate([np.ones(26), np.zeros(4), np.full(10, 0.5)])
        np.testing.assert_array_equal(data.weights, expected)

    def test_no_more_than_a_fifth_is_held_out(self, make_faces):
        assert len(collect([("a", make_faces(10), 1.0)], 100).held_out.crops) == 2
        assert len(collect([("a", make_faces(3), 1.0)], 100).held_out.crops) == 0
        assert len(collect([("a", make_faces(10), 1.0)], 0).held_out.crops) == 0

    def test_the_files_are_described(self, data):
        assert data.description == (
            {"name": "one", "faces": 30, "weight": 1.0},
            {"name": "two", "faces": 10, "weight": 0.5},
        )
        assert data.crop_factor == 1.5


class TestShapeModel:
    def test_is_that_of_faces_and_mirror_images(self, data):
        model = fit_shape_model(data, ShapeModelSettings(components=5), 32)
        np.testing.assert_allclose(model.mean[list(MIRROR)] * [-1, 1], model.mean, atol=1e-5)
        assert tilts_rad(model.mean[None])[0] == pytest.approx(0, abs=1e-5)
        assert model.parameter_means[5 + 2] == pytest.approx(0, abs=1e-5)

    def test_held_out_faces_are_not_looked_at(self, data, recipe):
        moved = data.faces.landmarks.clone()
        moved[26:30] += torch.randn(4, 68, 2)
        changed = dataclasses.replace(data, faces=dataclasses.replace(data.faces, landmarks=moved))
        ours, theirs = (fit_shape_model(d, recipe.shape_model, 32) for d in (data, changed))
        np.testing.assert_array_equal(ours.components, theirs.components)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (ShapeModelSettings(), "either components or variance_kept"),
            (ShapeModelSettings(components=500), "1 to"),
            (ShapeModelSettings(components=3, alignment="affine"), "none, rotation or similarity"),
        ],
    )
    def test_settings_that_do_not_fit_are_named(self, data, settings, message):
        with pytest.raises(RecipeError, match=rf"\[shape_model\] .*{message}"):
            fit_shape_model(data, settings, 32)


class TestRate:
    def test_warms_up_then_falls_to_nothing(self, make_trainer):
        trainer = make_trainer()
        rates = []
        for step in range(trainer.step_count):
            trainer.step = step
            rates.append(trainer.learning_rate())
        # 31 faces of weight in batches of 8 are three steps, of which warm-up takes one epoch.
        assert trainer.steps.steps_per_epoch == 3
        assert len(rates) == 9
        np.testing.assert_allclose(rates[:3], 4e-3 * np.array([1, 2, 3]) / 3)
        cosine = 0.5 * (1 + np.cos(np.pi * np.arange(6) / 6))
        np.testing.assert_allclose(rates[3:], 4e-3 * cosine)

    def test_is_that_of_the_optimiser(self, make_trainer):
        trainer = make_trainer()
        reports = run(trainer, until=2)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(4e-3 * 2 / 3)
        assert reports[-1].learning_rate == trainer.learning_rate() == pytest.approx(4e-3)

    def test_biases_and_norms_do_not_decay(self, make_trainer):
        trainer = make_trainer()
        decayed, undecayed = trainer.optimizer.param_groups
        assert undecayed["weight_decay"] == 0
        assert {parameter.ndim for parameter in undecayed["params"]} == {1}
        assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
        count = len(list(trainer.network.parameters()))
        assert len(decayed["params"]) + len(undecayed["params"]) == count


def test_averaged_weights_are_the_moving_average(make_trainer):
    trainer = make_trainer()
    name = "extractor.dense.bias"
    history = []

    def report(progress):
        history.append(trainer.network.state_dict()[name].clone())
        return progress.step == 6

    trainer.run(report)
    expected = history[0]
    for steps, weights in enumerate(history[1:], start=1):
        decay = min(0.9, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * weights
    averaged = trainer.averaged.module.state_dict()
    torch.testing.assert_close(averaged[name], expected)
    # Batch norm's statistics are averaged too, and counted.
    assert not torch.equal(
        averaged["extractor.collapse.norm.running_mean"],
        trainer.network.state_dict()["extractor.collapse.norm.running_mean"],
    )


def test_training_lowers_the_error(make_trainer, recipe):
    longer = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=40))
    trainer = make_trainer(recipe=longer)
    before = trainer.held_out_percent()
    reports = run(trainer)
    assert reports[-1].held_out_percent == trainer.log[-1]["held_out_nme_percent"]
    assert trainer.held_out_percent() < 0.8 * before
    assert [row["epoch"] for row in trainer.log] == list(range(1, 41))


def test_the_seed_makes_a_run_repeatable(make_trainer, recipe):
    trainers = [make_trainer(), make_trainer()]
    for trainer in trainers:
        run(trainer)
        torch.rand(7)
    assert trainers[0].log == trainers[1].log
    assert_same_state(trainers[0].network.state_dict(), trainers[1].network.state_dict())
    other_seed = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=8))
    other = make_trainer(recipe=other_seed)
    run(other)
    assert other.log[0]["loss"] != trainers[0].log[0]["loss"]


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_resumed_run_is_the_run_that_never_stopped(make_trainer, stop_at):
    """In the first steps, at a validation, between two."""
    whole = make_trainer()
    run(whole)
    stopped = make_trainer()
    run(stopped, until=stop_at)
    resumed = make_trainer(stopped.checkpoint())
    assert resumed.step == stop_at
    reports = run(resumed)
    assert [report.step for report in reports] == list(range(stop_at + 1, 10))
    assert_same_state(resumed.network.state_dict(), whole.network.state_dict())
    assert_same_state(resumed.averaged.module.state_dict(), whole.averaged.module.state_dict())
    assert resumed.log == whole.log
    assert resumed.running_loss == whole.running_loss


def test_a_finished_run_resumed_does_nothing(make_trainer):
    trainer = make_trainer()
    run(trainer)
    resumed = make_trainer(trainer.checkpoint())
    assert run(resumed) == []
    assert_same_state(resumed.network.state_dict(), trainer.network.state_dict())


def test_a_checkpoint_is_a_copy(make_trainer):
    trainer = make_trainer()
    run(trainer, until=1)
    checkpoint = trainer.checkpoint()
    before = {key: value.clone() for key, value in checkpoint.model.items()}
    run(trainer, until=3)
    assert_same_state(checkpoint.model, before)


@pytest.mark.parametrize("weight", [0.0, 0.25, 4.0])
def test_what_moved_faces_differ_by_counts_by_its_weight(make_trainer, recipe, weight):
    """The gradient of a step is that of both losses, the second so many times."""
    settings = dataclasses.replace(recipe.training, steady_weight=weight, gradient_norm_max=1e9)
    trainer = make_trainer(recipe=dataclasses.replace(recipe, training=settings))
    images, landmarks = trainer.steps[0]
    assert len(images) == (16 if weight else 8)
    trainer.network.train()
    stages = trainer.network.stages_to_train(images.to(memory_format=torch.channels_last))
    shape = settings.loss_width, settings.loss_curvature
    expected, _ = stages_loss(stages, landmarks, *shape)
    if weight:
        expected = expected + weight * steady_loss(stages[-1], landmarks, *shape)
    parameter = next(trainer.network.parameters())
    (gradient,) = torch.autograd.grad(expected, parameter)

    run(trainer, until=1)
    torch.testing.assert_close(parameter.grad, gradient)


def test_a_loss_that_is_no_number_ends_the_run(make_trainer, monkeypatch):
    trainer = make_trainer()

    def no_loss(stages, *_):
        nothing = stages[-1].sum() * torch.tensor(math.nan)
        return nothing, nothing

    monkeypatch.setattr(training, "stages_loss", no_loss)
    with pytest.raises(FloatingPointError, match="loss is nan at step 0"):
        run(trainer)


def test_mixed_precision_trains_and_reconstructs_in_float32(make_trainer, monkeypatch):
    """As on CUDA, here on the CPU: half a pixel would be lost in bfloat16."""
    plain, mixed = make_trainer(), make_trainer()
    monkeypatch.setattr(mixed, "_mixed_precision", lambda: torch.autocast("cpu", torch.bfloat16))
    seen = []
    landmarks = mixed.network.landmarks
    monkeypatch.setattr(
        mixed.network, "landmarks", lambda outputs: seen.append(outputs) or landmarks(outputs)
    )
    run(plain)
    run(mixed)
    assert {outputs.dtype for outputs in seen} == {torch.float32}
    assert {parameter.dtype for parameter in mixed.network.parameters()} == {torch.float32}
    assert mixed.running_loss == pytest.approx(plain.running_loss, rel=0.02)
    assert mixed.running_loss != plain.running_loss


class TestHeldOut:
    def test_are_unchanged_crops(self, data):
        images, landmarks = held_out_images(data, 32)
        assert images.shape == (4, 1, 32, 32)
        middle = data.held_out.crops[:, 8:-8, 8:-8].float() / 255
        torch.testing.assert_close(images[:, 0], middle, rtol=0, atol=2e-4)
        torch.testing.assert_close(landmarks, network_landmarks(data.held_out, 32))

    def test_are_those_trained_on_where_none_are_held_out(self, make_faces):
        nobody = collect([("a", make_faces(3), 1.0)], 4)
        assert held_out_images(nobody, 32)[0].shape == (3, 1, 32, 32)

    def test_their_error_is_the_mean_distance_over_that_of_the_eyes(self, make_trainer):
        trainer = make_trainer()
        images, truth = held_out_images(trainer.data, 32)
        distances = (trainer.predict(images) - truth).norm(dim=-1).mean(dim=1)
        eyes = (truth[:, 45] - truth[:, 36]).norm(dim=-1)
        expected = float(100 * (distances / eyes).mean())
        assert trainer.held_out_percent() == pytest.approx(expected, rel=1e-5)

    def test_predictions_are_the_averaged_networks(self, make_trainer):
        trainer = make_trainer()
        run(trainer, until=4)
        images, _ = held_out_images(trainer.data, 32)
        network = trainer.averaged.module.eval()
        with torch.no_grad():
            expected = network(images)
        torch.testing.assert_close(trainer.predict(images), expected)


class TestOverfit:
    def test_nothing_is_changed_held_out_or_decayed(self, recipe):
        settings = overfit_settings(recipe, 2, 100, IBUG68)
        assert settings.augmentation == Augmentation()
        assert settings.training.held_out == 0
        assert settings.training.weight_decay == 0
        assert settings.training.epochs == 100
        # Two faces and their mirror images span three components.
        assert settings.shape_model.components == 3
        assert overfit_settings(recipe, 20, 100, IBUG68).shape_model == recipe.shape_model

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_few_faces_fit(self, recipe, make_faces, count):
        settings = overfit_settings(recipe, count, 400, IBUG68)
        faces = collect([("few", make_faces(count), 1.0)], 0)
        model = shape_model_tensors(fit_shape_model(faces, settings.shape_model, 32))
        trainer = Trainer(settings, faces, CPU, shape_model=model, workers=0, settled_norms=True)
        percent = []

        def report(progress):
            if progress.held_out_percent is not None:
                percent.append(progress.held_out_percent)
            return bool(percent) and percent[-1] < 0.5

        trainer.run(report)
        assert percent[-1] < 0.5

    def test_settled_norms_are_those_of_the_faces_and_stay(self, recipe, make_faces):
        settings = overfit_settings(recipe, 3, 400, IBUG68)
        faces = collect([("few", make_faces(3), 1.0)], 0)
        model = shape_model_tensors(fit_shape_model(faces, settings.shape_model, 32))
        trainer = Trainer(settings, faces, CPU, shape_model=model, workers=0, settled_norms=True)
        first = trainer.network.extractor.blocks[0]
        images, _ = held_out_images(trainer.data, 32)
        outputs = first.convolution(images)
        torch.testing.assert_close(
            first.norm.running_mean, outputs.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5
        )
        before = first.norm.running_mean.clone()
        run(trainer, until=3)
        assert torch.equal(first.norm.running_mean, before)
        assert first.norm.momentum == 0.1
