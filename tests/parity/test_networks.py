"""Whole networks against PyTorch: every layer, the landmarks, and every tensor perturbed.

The small network has every layer type; the compact one is the bundled recipe's, with random
weights and with the bundled ones; the original one has random weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the stored fixtures stand in: test_fixtures.py")

import torch

import npshapenet
from npshapenet.layers import PointDepthwise
from npshapenet.model import bundled_models
from npshapenet.network import INPUT, Network, from_json, to_json
from npshapenet.shape import split_outputs
from npshapenet.weights import Weights
from reference.fixtures import small_weights, torch_landmarks, torch_outputs
from reference.networks.build import build_extractor
from reference.networks.graph import describe
from reference.networks.original import STAGES
from reference.networks.run_graph import run_graph
from reference.networks.shapenet import ShapeNet
from reference.parity import (
    ParityError,
    check,
    difference,
    landmark_difference,
    layer_differences,
    torch_layers,
)
from reference.recipe import NetworkSettings, read_recipe
from reference.training import _settle_norms

RECIPE = Path(__file__).resolve().parents[2] / "reference" / "recipes" / "fast.toml"


@dataclass(frozen=True)
class Case:
    """Weights, and how the table and the tolerances call them."""

    name: str
    weights: Weights
    extractor: str = "compact"

    @property
    def network(self):
        return self.weights.network

    def image(self, seed=0):
        """Random numbers between 0 and 1 (1, H, W), as the network reads them."""
        rng = np.random.default_rng(seed)
        return rng.random(self.network.input_shape, dtype=np.float32)


def random_weights(settings, components, seed=0):
    """A network's weights, random but keeping the size of what passes; landmarks about the crop."""
    torch.manual_seed(seed)
    outputs = components + 4
    extractor = build_extractor(settings, outputs)
    for module in extractor.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, std=0.05)
    # Components of a tenth of the crop and less; scale about 0.6, small angles and shifts.
    scales = torch.cat([torch.full((components,), 0.1), torch.tensor([0.02, 0.03, 0.02, 0.02])])
    offsets = torch.cat([torch.zeros(components), torch.tensor([0.6, 0.0, 0.0, 0.1])])
    deviations = 0.1 / torch.arange(1, components + 1)[:, None, None]
    modes = torch.randn(components, 68, 2) * deviations
    shape_net = ShapeNet(extractor, torch.rand(68, 2) * 2 - 1, modes, scales, offsets)
    side = settings.side_px
    if settings.extractor == "compact":
        _settle_norms(shape_net, torch.rand(4, 1, side, side))
    graph, tensors = describe(shape_net.eval(), side)
    like = small_weights()
    return replace(
        like,
        network=from_json(graph),
        tensors={name: tensor.astype(np.float32) for name, tensor in tensors.items()},
        shape_model=type(like.shape_model)(
            shape_net.shape_layer.mean.numpy(), shape_net.shape_layer.components.numpy()
        ),
        markup="ibug68",
    )


def make_case(name):
    if name == "small":
        return Case("small: every layer type", small_weights())
    if name == "random":
        recipe = read_recipe(RECIPE)
        return Case("compact, random", random_weights(recipe.network, 100))
    if name == "original":
        settings = NetworkSettings(extractor="original", side_px=224)
        return Case("original, random", random_weights(settings, 25), "original")
    return Case(f"bundled: {name}", npshapenet.load(name, backend="numpy").weights)


@pytest.fixture(scope="module", params=["small", "random", *bundled_models(), "original"])
def case(request):
    return make_case(request.param)


def torch_outputs_of_image(weights, image, dtype):
    tensors = {name: torch.from_numpy(t).to(dtype) for name, t in weights.tensors.items()}
    layers = run_graph(to_json(weights.network), tensors, torch.from_numpy(image)[None].to(dtype))
    return layers[weights.network.layers[-1].name].flatten(1)


def landmarks_px(weights, outputs):
    """By the layers of PyTorch, in pixels of the network's crop."""
    side = weights.network.input_shape[1]
    return ((torch_landmarks(weights.shape_model, outputs) + 1) / 2 * side - 0.5).numpy()


def test_every_layer_and_the_landmarks_are_pytorchs(case, backend_name, make_backend, hold):
    weights, image = case.weights, case.image()
    backend = make_backend(weights.network, weights.tensors)
    ours = backend.layer_outputs(image)
    theirs = torch_layers(weights.network, weights.tensors, image, ours)
    hold(case.name, backend_name, layer_differences(weights.network, ours, theirs))

    # The run from image to landmarks, which may fuse layers, against PyTorch's in float32.
    side = weights.network.input_shape[1]
    our_landmarks = split_outputs(backend.run(image[None]), weights.shape_model).landmarks(side)
    their_outputs = torch_outputs_of_image(weights, image, torch.float32)
    found = landmark_difference(our_landmarks, landmarks_px(weights, their_outputs), case.extractor)
    hold(case.name, backend_name, [found])
    assert np.ptp(our_landmarks) > side / 10


@pytest.mark.parametrize("name", ["small", *bundled_models()])
def test_landmarks_of_crops_of_any_size_are_pytorchs(name, backend_name, make_backend, hold):
    """From gray crops on, in float64: widened, resized and normalised on the way."""
    from reference.fixtures import model_crops

    weights, crops = make_case(name).weights, list(model_crops().values())
    backend = make_backend(weights.network, weights.tensors, weights.normalisation)
    side = weights.network.input_shape[1]
    ours = split_outputs(backend.outputs(crops), weights.shape_model).landmarks(side)
    theirs = landmarks_px(weights, torch_outputs(weights, crops))
    hold(
        "from crops to landmarks",
        backend_name,
        [replace(landmark_difference(ours, theirs), name=name)],
    )


def visible_place(tensor_name, network, layers, image):
    """A number of a tensor that matters: where the layer's input and output are largest."""
    layer_name, kind = tensor_name.rsplit(".", 1)
    layer = next(layer for layer in network.layers if layer.name == layer_name)
    tensor_shape = network.tensor_shapes()[tensor_name]
    output = layers[layer_name].max(axis=(1, 2))
    out = int(output[: tensor_shape[0]].argmax())  # a fit has outputs beyond its scores
    if kind == "mean":  # of a shape: all scores depend on every point
        return (0, 0)
    if kind == "offsets":
        return (0, 0)
    if isinstance(layer, PointDepthwise) and kind == "weight":
        return out, 0
    if kind == "bias" or len(tensor_shape) == 1:
        return (out,)
    source = image if layer.input == INPUT else layers[layer.input]
    if len(tensor_shape) == 2:
        return out, int(np.abs(source).ravel().argmax())
    groups = getattr(layer, "groups", 1)
    group = out // (tensor_shape[0] // groups)
    channels = source[group * tensor_shape[1] : (group + 1) * tensor_shape[1]]
    into = int(np.abs(channels).sum(axis=(1, 2)).argmax())
    return (out, into, *(extent // 2 for extent in tensor_shape[2:]))


def perturbed(tensors, name, place):
    """One number off by a fiftieth of its tensor's largest, at least by 0.01."""
    wrong = tensors[name].copy()
    wrong[place] += max(0.02 * np.abs(wrong).max(), 0.01)
    return {**tensors, name: wrong}


TENSORS = {
    name: sorted(make_case(name).network.tensor_shapes()) for name in ("small", *bundled_models())
}


@pytest.fixture(scope="module")
def unperturbed(make_backend):
    """A case by name, and its layers' outputs by the backend: made once."""
    made = {}

    def get(name):
        if name not in made:
            case = make_case(name)
            layers = make_backend(case.network, case.weights.tensors).layer_outputs(case.image())
            made[name] = case, layers
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "tensor"), [(name, tensor) for name in TENSORS for tensor in TENSORS[name]]
)
def test_perturbing_one_number_of_any_tensor_is_found(name, tensor, make_backend, unperturbed):
    case, layers = unperturbed(name)
    image, tensors = case.image(), case.weights.tensors
    check(
        layer_differences(case.network, layers, torch_layers(case.network, tensors, image, layers))
    )
    place = visible_place(tensor, case.network, layers, image)
    backend = make_backend(case.network, perturbed(tensors, tensor, place))
    ours = backend.layer_outputs(image)
    theirs = torch_layers(case.network, tensors, image, ours)
    with pytest.raises(ParityError) as caught:
        check(layer_differences(case.network, ours, theirs))
    # The layer itself is named, and no other: its neighbours do right with what they are given.
    assert str(caught.value).startswith(f"{tensor.rsplit('.', 1)[0]} (")
    assert str(caught.value).count(" of the largest output") == 1


@pytest.fixture(scope="module")
def original():
    return make_case("original")


ORIGINAL_LAYERS = [*(name for name, *_ in STAGES), "final_conv"]


@pytest.mark.parametrize("tensor", ["weight", "bias"])
@pytest.mark.parametrize("layer_name", ORIGINAL_LAYERS)
def test_perturbing_one_number_of_the_original_is_found(layer_name, tensor, original, make_backend):
    """Layer by layer on small images, as the whole network takes a second."""
    shapes = original.network.shapes()
    layer = next(layer for layer in original.network.layers if layer.name == layer_name)
    channels = shapes[layer.input][0]
    size = tuple(extent + 3 for extent in layer.kernel)
    network = Network((channels, *size), (layer._replace(input=INPUT, activation="none"),))
    tensors = {name: original.weights.tensors[name] for name in network.tensor_shapes()}
    image = np.random.default_rng(0).random(network.input_shape, dtype=np.float32)
    ours = make_backend(network, tensors).layer_outputs(image)
    check(layer_differences(network, ours, torch_layers(network, tensors, image, ours)))
    name = f"{layer_name}.{tensor}"
    place = visible_place(name, network, ours, image)
    ours = make_backend(network, perturbed(tensors, name, place)).layer_outputs(image)
    with pytest.raises(ParityError, match=layer_name):
        check(layer_differences(network, ours, torch_layers(network, tensors, image, ours)))


def points_moved(weights, distance):
    """The tensors, with the one changed that moves all points of the network's output by that."""
    last = weights.network.layers[-1]
    if f"{last.name}.bias" in weights.tensors:
        name, moved = f"{last.name}.bias", weights.tensors[f"{last.name}.bias"].copy()
        # The last parameter moves points down; a quality may follow it.
        moved[len(weights.shape_model.components) + 3] += distance
    else:
        # Fitted to a mean shape that lies elsewhere, the translation is another: by the face's
        # scale, which is above a quarter of the picture's.
        name, moved = "fit.mean", weights.tensors["fit.mean"] + np.float32([0, 4 * distance])
    return {**weights.tensors, name: moved}


@pytest.mark.parametrize("name", ["small", *bundled_models()])
def test_landmarks_that_are_off_are_found(name, make_backend):
    """A last bias that moves all points by a fiftieth of a pixel is over the tolerance."""
    case = make_case(name)
    weights, image = case.weights, case.image()
    side = weights.network.input_shape[1]
    moved = points_moved(weights, 0.02 / (side / 2))
    theirs = landmarks_px(weights, torch_outputs_of_image(weights, image, torch.float64))
    for tensors, is_right in ((weights.tensors, True), (moved, False)):
        outputs = make_backend(weights.network, tensors).run(image[None])
        ours = split_outputs(outputs, weights.shape_model).landmarks(side)
        if is_right:
            check([landmark_difference(ours, theirs)])
        else:
            with pytest.raises(ParityError, match="landmarks"):
                check([landmark_difference(ours, theirs)])


def test_what_is_no_number_or_another_shape_is_found():
    right = np.ones((2, 3))
    for wrong in (np.full((2, 3), np.nan), np.ones((3, 2)), np.ones((2, 4))):
        with pytest.raises(ParityError):
            check([difference("a", "b", wrong, right)])
    with pytest.raises(ParityError):
        check([difference("a", "b", right, np.full((2, 3), np.nan))])
