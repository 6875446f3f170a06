"""Checkpoints: what is saved is loaded, what is no checkpoint is refused and never run."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle

import pytest

pytest.importorskip("torch", reason="checkpoints are PyTorch's")

import torch

from reference import checkpoint as checkpoint_module
from reference.checkpoint import (
    SHAPE_MODEL_KEYS,
    Checkpoint,
    CheckpointError,
    build_network,
    load,
    save,
)
from reference.recipe import from_values

RECIPE = from_values(
    {
        "name": "small",
        "network": {
            "side_px": 16,
            "blocks": [{"type": "convolution", "channels": 4, "stride": 2}],
        },
    }
)


@pytest.fixture(scope="module")
def whole():
    """A checkpoint with random weights and statistics, and a state of its optimiser."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((68, 2), (3, 68, 2), (7,), (7,), (2, 7))
    shape_model = {
        key: torch.randn(shape, generator=generator)
        for key, shape in zip(SHAPE_MODEL_KEYS, shapes, strict=True)
    }
    torch.manual_seed(1)
    networks = [build_network(RECIPE, shape_model) for _ in range(2)]
    for network in networks:
        network.extractor.blocks[0].norm.running_mean.normal_(generator=generator)
    optimizer = torch.optim.AdamW(networks[1].parameters())
    networks[1](torch.rand(2, 1, 16, 16)).sum().backward()
    optimizer.step()
    return Checkpoint(
        recipe=RECIPE,
        shape_model=shape_model,
        averaged=networks[0].state_dict(),
        model=networks[1].state_dict(),
        optimizer=optimizer.state_dict(),
        step=17,
        average_count=17,
        best_percent=4.25,
        crop_factor=1.5,
        data=({"name": "made", "faces": 3, "weight": 0.5},),
        log=({"epoch": 1.0, "loss": 0.5, "held_out_nme_percent": 4.25, "learning_rate": 1e-3},),
        running_loss=0.375,
    )


@pytest.fixture
def file(whole, tmp_path):
    path = tmp_path / "last.pt"
    save(path, whole)
    return path


def assert_equal(ours, theirs):
    """Nested values, tensors to the last bit."""
    assert type(ours) is type(theirs) or isinstance(ours, type(theirs))
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    else:
        assert ours == theirs


def test_what_is_saved_is_loaded(whole, file):
    loaded = load(file)
    for field in dataclasses.fields(Checkpoint):
        assert_equal(getattr(loaded, field.name), getattr(whole, field.name))
    assert os.listdir(file.parent) == ["last.pt"]


def test_the_network_has_the_averaged_weights_and_evaluates(whole, file):
    network = load(file).network()
    assert not network.training
    assert_equal(dict(network.state_dict()), dict(whole.averaged))
    reference = build_network(RECIPE, whole.shape_model)
    reference.load_state_dict(whole.averaged)
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(image), reference.eval()(image))


def test_a_file_of_before_the_running_loss_is_still_read(file):
    values = torch.load(file, weights_only=True)
    del values["running_loss"]
    torch.save(values, file)
    assert math.isnan(load(file).running_loss)


def test_a_save_that_fails_leaves_the_old_file(whole, file, monkeypatch):
    before = file.read_bytes()

    def stop(values, target):
        target.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_module.torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        save(file, whole)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["last.pt"]


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    return message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_truncated_files_are_refused(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"hello", b"PK\x03\x04" + bytes(100), bytes(range(256)) * 9, b"\x80\x02."],
    ids=["empty", "a line", "text", "a zip's beginning", "bytes", "an empty pickle"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    refused(path)


@pytest.mark.filterwarnings("ignore:TypedStorage", "ignore:Detected pickle")
def test_damage_anywhere_never_ends_in_another_error(file, rng):
    """Bytes overwritten at random: refused, or loaded where they only changed numbers."""
    content = file.read_bytes()
    pickle_at = content.index(b"data.pkl")
    outcomes = set()
    for trial in range(60):
        damaged = bytearray(content)
        start = pickle_at if trial % 2 else 0
        for place in rng.integers(start, min(len(content), start + 4000), size=3):
            damaged[place] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            load(file)
            outcomes.add("loaded")
        except CheckpointError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.filterwarnings("ignore:Detected pickle")
def test_code_in_a_file_is_not_run(tmp_path):
    trace = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    for name, write in (("zip.pt", torch.save), ("plain.pt", None)):
        path = tmp_path / name
        if write is None:
            path.write_bytes(pickle.dumps(Hostile()))
        else:
            write({"format": "npshapenet checkpoint 1", "recipe": Hostile()}, path)
        assert "weights_only" not in refused(path)
        assert not trace.exists()


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pt")
    refused(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="other"), "not a checkpoint of reference.train"),
        (lambda v: v.pop("step"), "not a whole checkpoint"),
        (lambda v: v.update(more=1), "not a whole checkpoint"),
        (lambda v: v.update(recipe=5), "not a whole checkpoint"),
        (lambda v: v["recipe"]["training"].update(epochs=0), "epochs must be"),
        (lambda v: v["recipe"]["network"].update(extractor="resnet"), "compact, maps or original"),
        (lambda v: v.update(averaged=3), "not a whole checkpoint"),
        (lambda v: v["averaged"].popitem(), "averaged: tensors that are not"),
        (lambda v: v["model"].popitem(), "model: tensors that are not"),
        (
            lambda v: v["averaged"].update({"extractor.dense.weight": torch.zeros(7, 5)}),
            "averaged: tensors that are not",
        ),
        (lambda v: v["averaged"]["extractor.dense.bias"].fill_(math.nan), "not finite"),
        (lambda v: v["shape_model"].pop("mean"), "shape model"),
        (lambda v: v["shape_model"].update(mean=torch.zeros(5, 2)), "mean is"),
        (lambda v: v["shape_model"].update(parameter_scales=torch.zeros(2)), "parameter_scales is"),
        # 16 million weights, of which the file holds none.
        (lambda v: v["recipe"]["network"].update(end_channels=1 << 22), "averaged: tensors"),
    ],
)
def test_checkpoints_that_do_not_hold_together_are_refused(file, change, message):
    values = torch.load(file, weights_only=True)
    change(values)
    torch.save(values, file)
    assert message in refused(file)


def test_a_single_tensor_is_no_checkpoint(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    assert "not a checkpoint of reference.train" in refused(tmp_path / "a.pt")
