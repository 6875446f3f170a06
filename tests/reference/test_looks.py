"""Looks: features between pixels, points that move, and what the file says of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch

from npshapenet.network import from_json
from reference.losses import BETWEEN_WEIGHT, FIRST_WEIGHT, stages_loss, wing_loss
from reference.networks.backbone import Backbone, BlockSettings
from reference.networks.build import build_extractor
from reference.networks.compact import CompactExtractor
from reference.networks.graph import describe
from reference.networks.looks import LookSettings, make_looks, sample_around
from reference.networks.maps import MapExtractor
from reference.networks.quality import QualityHead
from reference.networks.run_graph import run_graph
from reference.networks.shapenet import ShapeNet
from reference.recipe import NetworkSettings, RecipeError
from reference.shape_model import fit

SIDE_PX = 32
LANDMARKS = 68
BLOCKS = (
    BlockSettings("convolution", 8, stride=2),
    BlockSettings("separable", 12, stride=2),
    BlockSettings("inverted", 12, hidden=24),
    BlockSettings("separable", 20, stride=2),
)
LOOKS = LookSettings(count=2, channels=5, rank=7)


def compact():
    backbone = Backbone(SIDE_PX, BLOCKS, "hard_swish")
    return CompactExtractor(backbone, 2 * LANDMARKS, "hard_swish", looks=LOOKS)


def maps():
    return MapExtractor(Backbone(SIDE_PX, BLOCKS, "relu"), 16, LANDMARKS, LOOKS)


@pytest.fixture(params=[compact, maps])
def network(request, make_shapes):
    """Untrained, but for batch norms: their statistics aren't fresh ones."""
    shape_model = fit(make_shapes(60), components=9)
    offsets = np.array([0.0] * 9 + [0.5, 0.1, 0.02, -0.03])
    arrays = shape_model.mean, shape_model.components, np.ones(13), offsets
    torch.manual_seed(0)
    network = ShapeNet(request.param(), *map(torch.from_numpy, arrays))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def images(count=3):
    return torch.rand(count, 1, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(1))


def test_centres_of_pixels_give_their_values():
    features = torch.arange(24.0).reshape(1, 2, 3, 4)
    x, y = torch.meshgrid(
        (torch.arange(4) + 0.5) / 2 - 1, (torch.arange(3) + 0.5) / 1.5 - 1, indexing="ij"
    )
    points = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    found = sample_around(features, points, torch.zeros(1, 2))
    np.testing.assert_allclose(found[0, :, 0].reshape(2, 4, 3).mT, features[0], atol=1e-5)


def test_between_four_pixels_is_their_mean_and_beyond_the_edge_the_edge():
    features = torch.tensor([[[[1.0, 3.0], [5.0, 11.0]]]])
    offsets = torch.tensor([[0.0, 0.0], [-5.0, -5.0], [5.0, 0.0], [0.5, 0.5]])
    found = sample_around(features, torch.zeros(1, 1, 2), offsets)
    np.testing.assert_allclose(found[0, 0, :, 0], [5, 1, 7, 11], atol=1e-5)


def test_a_look_that_gives_nothing_moves_nothing():
    (look,) = make_looks(LookSettings(1, 4, 6), [3], LANDMARKS)
    torch.nn.init.zeros_(look.move.weight)
    points = torch.rand(2, LANDMARKS, 2) - 0.5
    assert torch.equal(look([torch.rand(2, 3, 8, 8)], points)[0], points)


def test_a_look_sees_what_is_about_a_point_and_nothing_else():
    (look,) = make_looks(LookSettings(1, 4, 6), [3], LANDMARKS)
    features = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    far, near = features.clone(), features.clone()
    far[..., :4, :] += 1
    near[..., 9:11, 9:11] += 1
    points = torch.zeros(1, LANDMARKS, 2)
    with torch.inference_mode():
        look.eval()
        here, there, unseen = (look([part], points)[0] for part in (features, near, far))
    assert torch.equal(here, unseen)
    assert not torch.equal(here, there)


def test_every_stage_is_trained(network):
    network.train()
    stages = network.stages_to_train(images())
    assert [stage.shape for stage in stages] == [(3, LANDMARKS, 2)] * 3
    loss, last = stages_loss(stages, stages[0].detach() + 0.01)
    assert loss > last
    loss.backward()
    assert all(
        p.grad is not None and p.grad.any() for p in network.extractor.looks[0].narrow.parameters()
    )
    assert network.extractor.blocks[0].convolution.weight.grad.any()


def test_points_stay_in_float32_under_mixed_precision(network):
    """Half a pixel would be lost in bfloat16."""
    with torch.inference_mode():
        plain = network.stages_to_train(images())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network.stages_to_train(images())
    assert {stage.dtype for stage in mixed} == {torch.float32}
    for one, other in zip(plain, mixed, strict=True):
        # Features are rounded to 8 bits, which moves these points by much less than a pixel.
        torch.testing.assert_close(one, other, rtol=0, atol=0.02)


def test_the_loss_weighs_the_stages():
    rng = torch.Generator().manual_seed(0)
    truth, *stages = (torch.rand(4, LANDMARKS, 2, generator=rng) for _ in range(4))
    first, between, last = (wing_loss(stage, truth) for stage in stages)
    total, reported = stages_loss(stages, truth)
    torch.testing.assert_close(total, last + FIRST_WEIGHT * first + BETWEEN_WEIGHT * between)
    torch.testing.assert_close(reported, last)
    torch.testing.assert_close(stages_loss(stages[:1], truth)[0], first)


def test_an_untrained_compact_network_begins_with_the_mean_face(network):
    if isinstance(network.extractor, MapExtractor):
        pytest.skip("maps begin in the middle of the crop")
    torch.nn.init.zeros_(network.extractor.dense.weight)
    with torch.inference_mode():
        first = network.stages_to_train(images())[0]
    mean = network.landmarks(network.parameter_offsets[None])
    torch.testing.assert_close(first, mean.expand_as(first))


@pytest.mark.parametrize("with_quality", [False, True])
def test_the_file_says_what_the_network_does(network, with_quality):
    if with_quality:
        torch.manual_seed(1)
        network.quality = QualityHead(
            20 + sum(network.extractor.looks[-1].feature_channels), 8
        ).eval()
    graph, tensors = describe(network, SIDE_PX)
    assert from_json(graph).output_count == 9 + 4 + with_quality
    doubles = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    ours = run_graph(graph, doubles, images().double())[graph["layers"][-1]["name"]].flatten(1)
    with torch.inference_mode():
        theirs = network.double().outputs(images().double())
    # Both in float64; places of untrained maps are close together, so little is divided by little.
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_a_recipe_says_how_many_looks_there_are():
    blocks = tuple({"type": "convolution", "channels": 8, "stride": 2} for _ in range(3))
    settings = NetworkSettings(side_px=SIDE_PX, blocks=blocks, looks=3, look_channels=4)
    extractor = build_extractor(settings, 13)
    assert len(extractor.looks) == 3
    assert extractor.looks[0].feature_channels == (8, 8)
    assert extractor(images()).shape == (3, LANDMARKS, 2)


def test_looks_need_features_before_the_last_ones():
    settings = NetworkSettings(
        side_px=SIDE_PX, blocks=({"type": "convolution", "channels": 8},), looks=1
    )
    with pytest.raises(RecipeError, match="looks need blocks of two sizes"):
        build_extractor(settings, 13)
