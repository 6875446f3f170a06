"""Parity where PyTorch isn't: the backends against the outputs that PyTorch gave, as stored.

``python -m reference.fixtures`` makes the stored files anew; with PyTorch, the tests at the end
say whether they are still what it gives.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

import npshapenet
from npshapenet.model import bundled_models
from npshapenet.network import INPUT
from npshapenet.shape import split_outputs
from reference import fixtures
from reference.parity import (
    ParityError,
    check,
    difference,
    landmark_difference,
    layer_differences,
)

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="compares with PyTorch as it is here")

IMAGES = ["random", "all zero", "constant", "one bright pixel"]


@pytest.fixture(scope="module")
def layers():
    return fixtures.read(fixtures.FOLDER / fixtures.LAYERS_FILE)[1]


@pytest.fixture(scope="module")
def models():
    return fixtures.read(fixtures.FOLDER / fixtures.MODELS_FILE)[1]


@pytest.fixture(scope="module")
def weights():
    return fixtures.small_weights()


def stored_outputs(layers, image):
    return {layer.name: layers[f"layer.{layer.name}"][image] for layer in fixtures.NETWORK.layers}


@pytest.mark.parametrize("image", range(4), ids=IMAGES)
def test_every_layer_of_the_small_network(image, layers, weights, backend_name, make_backend, hold):
    backend = make_backend(weights.network, weights.tensors)
    ours = backend.layer_outputs(fixtures.layer_images()[image])
    found = layer_differences(weights.network, ours, stored_outputs(layers, image))
    hold("stored fixture, along the network", backend_name, found)


def test_landmarks_of_the_small_network(layers, weights, make_backend):
    outputs = make_backend(weights.network, weights.tensors).run(fixtures.layer_images())
    ours = split_outputs(outputs, weights.shape_model)
    side = fixtures.SIDE_PX
    theirs_px = (layers["landmarks"] + 1) / 2 * side - 0.5
    check([landmark_difference(ours.landmarks(side), theirs_px)])
    check([difference("landmarks", "−1 to 1", ours.network_landmarks(), layers["landmarks"])])


@pytest.mark.parametrize("side", fixtures.RESIZED_SIDES)
@pytest.mark.parametrize("name", fixtures.model_crops())
def test_the_resize(name, side, layers, backend_name):
    if backend_name == "numpy":
        from npshapenet.image import resize
    else:
        from npshapenet.jit import resize
    ours = resize(fixtures.model_crops()[name], side, side)
    check([difference("resize", name, ours, layers[f"resized.{side}.{name}"])])


@pytest.mark.parametrize("model", bundled_models())
def test_landmarks_of_the_bundled_models(model, models, backend_name):
    """From crops of several sizes and types on, all zero and constant ones among them."""
    ours = npshapenet.load(model, backend=backend_name)
    crops = fixtures.model_crops()
    found = ours.parameters(list(crops.values())).network_landmarks()
    side = ours.weights.network.input_shape[1]
    for name, landmarks, theirs in zip(crops, found, models[f"{model}.landmarks"], strict=True):
        item = landmark_difference(landmarks * (side / 2), theirs * (side / 2))
        check([replace(item, name=name)])


@pytest.mark.parametrize("tensor", sorted(fixtures.NETWORK.tensor_shapes()))
def test_perturbing_one_number_of_any_tensor_is_found(tensor, layers, weights, make_backend):
    image = fixtures.layer_images()[0]
    stored = stored_outputs(layers, 0)
    name, kind = tensor.rsplit(".", 1)
    wrong = weights.tensors[tensor].copy()
    # The weights of the output that is largest, so that no ReLU hides them.
    out = int(stored[name].max(axis=(1, 2))[: len(wrong)].argmax())
    wrong[out] += 0.05 * np.abs(wrong).max() * (1 if kind == "bias" else np.sign(wrong[out]))
    ours = make_backend(weights.network, {**weights.tensors, tensor: wrong}).layer_outputs(image)
    with pytest.raises(ParityError, match=name):
        check(layer_differences(weights.network, ours, stored))


class TestFiles:
    def test_are_small(self):
        files = list(fixtures.FOLDER.iterdir())
        assert sum(file.stat().st_size for file in files) < 300 * 1024

    def test_hold_every_layer_type(self):
        from npshapenet.layers import LAYER_TYPES

        assert {type(layer) for layer in fixtures.NETWORK.layers} == set(LAYER_TYPES.values())

    def test_that_are_missing_are_named_with_the_command(self, tmp_path):
        with pytest.raises(ValueError, match=r"a\.npz is missing: python -m reference\.fixtures"):
            fixtures.read(tmp_path / "a.npz")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"version": 0}, "has version 0, not"),
            ({"fingerprints": {"small network": "0"}}, "is stale, as small network has changed"),
            ({"fingerprints": {"gone": "0"}}, "is stale, as gone has changed"),
        ],
    )
    def test_that_are_stale_are_named_with_the_command(self, change, message, tmp_path):
        meta, arrays = fixtures.read(fixtures.FOLDER / fixtures.LAYERS_FILE)
        arrays["meta"] = np.array(json.dumps({**meta, **change}))
        fixtures.write(tmp_path / "a.npz", arrays)
        with pytest.raises(ValueError, match=f"{message}.*python -m reference.fixtures"):
            fixtures.read(tmp_path / "a.npz")

    def test_that_lack_a_bundled_model_are_stale(self, tmp_path):
        meta, arrays = fixtures.read(fixtures.FOLDER / fixtures.MODELS_FILE)
        arrays["meta"] = np.array(json.dumps({**meta, "fingerprints": {}}))
        fixtures.write(tmp_path / "a.npz", arrays)
        with pytest.raises(ValueError, match=f"is stale, as {bundled_models()[0]} has changed"):
            fixtures.read(tmp_path / "a.npz")

    def test_a_model_with_one_weight_changed_is_another(self, weights):
        before = fixtures.fingerprint(weights)
        tensors = {name: tensor.copy() for name, tensor in weights.tensors.items()}
        tensors["head.bias"][3] += 1e-6
        assert fixtures.fingerprint(replace(weights, tensors=tensors)) != before
        assert fixtures.fingerprint(fixtures.small_weights()) == before

    @needs_torch
    @pytest.mark.parametrize(
        ("file", "make"),
        [
            (fixtures.LAYERS_FILE, fixtures.make_layers),
            (fixtures.MODELS_FILE, fixtures.make_models),
        ],
    )
    def test_are_still_what_pytorch_gives(self, file, make):
        _, stored = fixtures.read(fixtures.FOLDER / file)
        made = make()
        del made["meta"]
        assert stored.keys() == made.keys()
        for name, array in made.items():
            # Float64 to rounding: other versions of PyTorch may add in another order.
            np.testing.assert_allclose(stored[name], array, rtol=1e-6, atol=1e-6, err_msg=name)

    @needs_torch
    def test_are_made_by_the_command(self, tmp_path, capsys):
        assert fixtures.main(["--out", str(tmp_path / "new")]) == 0
        assert "layers.npz" in capsys.readouterr().out
        fixtures.read(tmp_path / "new" / fixtures.LAYERS_FILE)
        fixtures.read(tmp_path / "new" / fixtures.MODELS_FILE)


def test_the_small_network_tells_its_layers_apart(layers, weights):
    """No output is nothing, or what another layer gives: a layer left out would be seen."""
    stored = stored_outputs(layers, 0)
    for layer in weights.network.layers:
        output = stored[layer.name]
        assert np.abs(output).max() > 0.1
        for source in layer.inputs:
            if source != INPUT and stored[source].shape == output.shape:
                assert np.abs(output - stored[source]).max() > 0.1
