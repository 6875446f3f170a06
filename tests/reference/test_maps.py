"""The map extractor: places out of maps, the shape fitted to them, and what the file says of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch

from npshapenet.network import from_json
from reference.networks.backbone import Backbone, BlockSettings
from reference.networks.graph import describe
from reference.networks.layers import ShapeFitLayer
from reference.networks.maps import MapExtractor, mean_places
from reference.networks.quality import QualityHead
from reference.networks.run_graph import run_graph
from reference.networks.shapenet import ShapeNet
from reference.shape_model import fit, fit_parameters, reconstruct

SIDE_PX = 32
LANDMARKS = 68
BLOCKS = (
    BlockSettings("convolution", 8, stride=2),
    BlockSettings("linear_separable", 12),
    BlockSettings("inverted", 16, stride=2, hidden=24),
    BlockSettings("inverted", 16, hidden=24),
    BlockSettings("separable", 20, stride=2),
)


@pytest.fixture
def extractor():
    torch.manual_seed(0)
    return MapExtractor(Backbone(SIDE_PX, BLOCKS, "relu"), 16, LANDMARKS).eval()


@pytest.fixture
def shape_model(make_shapes):
    return fit(make_shapes(60), components=9)


@pytest.fixture
def network(extractor, shape_model):
    count = len(shape_model.components) + 4
    arrays = shape_model.mean, shape_model.components, np.ones(count), np.zeros(count)
    return ShapeNet(extractor, *map(torch.from_numpy, arrays))


def test_a_sharp_map_gives_the_centre_of_its_cell():
    maps = torch.zeros(1, 2, 4, 8)
    maps[0, 0, 1, 6], maps[0, 1, 3, 0] = 100, 100
    places = mean_places(maps)
    np.testing.assert_allclose(places[0], [[5 / 8, -1 / 4], [-7 / 8, 3 / 4]], atol=1e-6)


def test_a_flat_map_gives_the_middle():
    np.testing.assert_allclose(mean_places(torch.zeros(2, 3, 5, 4)), 0, atol=1e-6)


def test_reads_the_last_features_of_three_sizes(extractor):
    assert extractor.blocks.stages == [1, 3, 4]
    with torch.inference_mode():
        (landmarks,), collapsed = extractor.stages_and_collapsed(torch.rand(2, 1, SIDE_PX, SIDE_PX))
    assert landmarks.shape == (2, LANDMARKS, 2)
    assert landmarks.abs().max() < 1
    assert collapsed.shape == (2, 20, 1, 1)


def test_the_fit_finds_the_parameters_of_shapes_of_the_model(shape_model):
    """Turned, scaled and moved: the same as the least squares that labels are fitted by."""
    rng = np.random.default_rng(3)
    parameters = np.column_stack(
        [
            rng.normal(size=(7, 9)),
            rng.uniform(0.3, 0.8, 7),
            rng.uniform(-1.2, 1.2, 7),
            rng.normal(scale=0.1, size=(7, 2)),
        ]
    )
    points = reconstruct(shape_model.mean, shape_model.components, parameters)
    layer = ShapeFitLayer(
        torch.from_numpy(shape_model.mean), torch.from_numpy(shape_model.components)
    )
    found = layer(torch.from_numpy(points).float()).double().numpy()
    ours = reconstruct(shape_model.mean, shape_model.components, found)
    best = fit_parameters(shape_model.mean, shape_model.components, points)
    # One turn of what least squares repeats: the scores have moved the shape a little themselves.
    size = np.ptp(points, axis=(1, 2)).mean()
    assert np.abs(ours - points).mean() < 2e-3 * size
    np.testing.assert_allclose(found[:, 9:], best[:, 9:], atol=0.02)


def test_points_in_one_place_give_a_finite_shape(shape_model):
    layer = ShapeFitLayer(
        torch.from_numpy(shape_model.mean), torch.from_numpy(shape_model.components)
    )
    found = layer(torch.full((1, LANDMARKS, 2), 0.25))
    assert torch.isfinite(found).all()
    scale, _, x, y = found[0, -4:]
    np.testing.assert_allclose([scale, x, y], [0, 0.25, 0.25], atol=1e-6)


@pytest.mark.parametrize("with_quality", [False, True])
def test_the_file_says_what_the_network_does(network, with_quality):
    if with_quality:
        torch.manual_seed(1)
        network.quality = QualityHead(20, 8).eval()
    graph, tensors = describe(network, SIDE_PX)
    described = from_json(graph)
    assert described.output_count == 9 + 4 + with_quality
    images = torch.rand(3, 1, SIDE_PX, SIDE_PX, dtype=torch.float64)
    doubles = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    ours = run_graph(graph, doubles, images)[graph["layers"][-1]["name"]].flatten(1)
    with torch.inference_mode():
        theirs = network.double().outputs(images)
    # Both in float64; the mean places of untrained maps are close together, so that little is
    # divided by little.
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_is_trained_on_the_places_themselves(network):
    images = torch.rand(4, 1, SIDE_PX, SIDE_PX)
    network.train()
    network.stages_to_train(images)[-1].square().sum().backward()
    blocks = network.extractor.blocks
    assert all(p.grad is not None and p.grad.any() for p in blocks[0].parameters())
