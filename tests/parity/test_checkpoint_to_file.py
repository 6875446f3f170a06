"""From the network that was trained to the file that predicts: modules, folded graph, backends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="checkpoints are PyTorch's")

import torch

import npshapenet
from npshapenet.shape import split_outputs
from npshapenet.weights import read
from reference.checkpoint import Checkpoint, build_network, load, save
from reference.export import main as export
from reference.metrics import interocular_nme_percent
from reference.networks.graph import describe
from reference.networks.run_graph import run_graph
from reference.parity import ParityError, check, difference, landmark_difference
from reference.recipe import from_values
from reference.training import _settle_norms

SIDE = 48
BLOCKS = (
    {"type": "convolution", "channels": 16, "stride": 2},
    {"type": "separable", "channels": 24, "stride": 2, "kernel": 5},
    {"type": "inverted", "channels": 24, "hidden": 32},
    {"type": "inverted", "channels": 32, "hidden": 24, "stride": 2},
)


@pytest.fixture(scope="module", params=["relu", "hard_swish"])
def checkpoint(request):
    """As after training: batch norms whose statistics, weights and biases are not fresh ones."""
    network = {"side_px": SIDE, "activation": request.param, "end_channels": 20, "blocks": BLOCKS}
    recipe = from_values({"name": "made", "network": network})
    generator = torch.Generator().manual_seed(0)
    angles = torch.linspace(0, 6.2, 68)
    shape_model = {
        "mean": 0.6 * torch.stack([angles.cos(), angles.sin()], dim=1),
        "components": 0.03 * torch.randn(12, 68, 2, generator=generator),
        "parameter_scales": torch.tensor([1.0] * 12 + [0.1, 0.2, 0.1, 0.1]),
        "parameter_offsets": torch.tensor([0.0] * 12 + [1.0, 0.0, 0.0, 0.1]),
        "limits": torch.tensor([[-9.0], [9.0]]).repeat(1, 16),
    }
    torch.manual_seed(1)
    net = build_network(recipe, shape_model)
    _settle_norms(net, torch.rand(8, 1, SIDE, SIDE))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            count = module.num_features
            module.weight.data = torch.rand(count, generator=generator) + 0.5
            module.bias.data = 0.3 * torch.randn(count, generator=generator)
    torch.nn.init.normal_(net.extractor.dense.weight, std=0.2)
    return Checkpoint(
        recipe=recipe,
        shape_model=shape_model,
        averaged=net.state_dict(),
        model=net.state_dict(),
        optimizer={},
        step=1,
        average_count=1,
        best_percent=5.0,
        crop_factor=1.5,
        data=(),
        log=(),
    )


@pytest.fixture(scope="module", params=["float32", "float16"])
def files(request, checkpoint, tmp_path_factory):
    """The checkpoint and the weights file that it is exported to."""
    folder = tmp_path_factory.mktemp("files")
    save(folder / "best.pt", checkpoint)
    arguments = [folder / "best.pt", "--out", folder / "weights.npz", "--storage", request.param]
    assert export([str(argument) for argument in arguments]) == 0
    return folder / "best.pt", folder / "weights.npz", request.param


@pytest.fixture
def images(rng):
    return rng.random((4, 1, SIDE, SIDE), dtype=np.float32)


def module_outputs(path, images):
    """``ShapeNet.outputs`` of a checkpoint's file, in float64."""
    with torch.inference_mode():
        return load(path).network().double().outputs(torch.from_numpy(images).double())


def graph_outputs(graph, tensors, images):
    doubles = {name: torch.from_numpy(np.array(t)).double() for name, t in tensors.items()}
    layers = run_graph(graph, doubles, torch.from_numpy(images).double())
    return layers[graph["layers"][-1]["name"]].flatten(1)


def test_the_folded_graph_is_the_network(files, images):
    theirs = module_outputs(files[0], images)
    ours = graph_outputs(*describe(load(files[0]).network(), SIDE), images)
    # Both in float64: folding multiplies before it adds.
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert theirs.std(dim=0).min() > 1e-3


def test_the_file_is_the_folded_graph_as_stored(files, images, make_backend, hold, backend_name):
    """The backends against PyTorch on the weights in the file."""
    from npshapenet.network import to_json

    weights = read(files[1])
    theirs = graph_outputs(to_json(weights.network), weights.tensors, images).numpy()
    ours = make_backend(weights.network, weights.tensors).run(images)
    hold("checkpoint to file", backend_name, [difference("outputs", files[2], ours, theirs)])
    px = [split_outputs(outputs, weights.shape_model).landmarks(SIDE) for outputs in (ours, theirs)]
    hold("checkpoint to file", backend_name, [landmark_difference(*px)])


def test_the_file_gives_the_checkpoints_landmarks(files, images, make_backend):
    path, file, storage = files
    weights = read(file)
    ours = split_outputs(
        make_backend(weights.network, weights.tensors).run(images), weights.shape_model
    ).landmarks(SIDE)
    with torch.inference_mode():
        landmarks = load(path).network().double()(torch.from_numpy(images).double()).numpy()
    found = landmark_difference(ours, (landmarks + 1) / 2 * SIDE - 0.5)
    if storage == "float16":
        # What rounding the weights to 11 bits may cost: the export's own affair, not parity's.
        found = replace(found, tolerance=0.1)
    check([found])


def test_file_and_checkpoint_have_the_same_error(files, rng, backend_name):
    """Their NME in percent differs by at most 0.01."""
    path, file, _ = files
    crops = rng.integers(0, 256, (40, SIDE, SIDE), dtype=np.uint8)
    model = npshapenet.load(file, backend=backend_name)
    with torch.inference_mode():
        images = torch.from_numpy(crops[:, None].astype(np.float32) / 255)
        theirs = ((load(path).network()(images) + 1) / 2 * SIDE - 0.5).numpy()
    # As if the network were off by two pixels a point: an NME of some percent.
    truth = theirs + rng.normal(scale=2, size=theirs.shape)
    nme = [
        interocular_nme_percent(landmarks, truth).mean()
        for landmarks in (model.predict(crops), theirs)
    ]
    assert nme[0] == pytest.approx(nme[1], abs=0.01)
    assert nme[1] > 3


def test_a_statistic_that_was_not_folded_is_found(files, images):
    """One channel's variance off by a hundredth."""
    network = load(files[0]).network()
    network.extractor.blocks[2].depthwise.norm.running_var[3] *= 1.01
    theirs = module_outputs(files[0], images).numpy()
    ours = graph_outputs(*describe(network, SIDE), images).numpy()
    with pytest.raises(ParityError):
        check([difference("outputs", "folded", ours, theirs)])
