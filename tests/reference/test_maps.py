"""The map head: places out of maps, features of several sizes, and nothing of it in the export."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch

from reference.networks.compact import BlockSettings, CompactExtractor
from reference.networks.graph import describe
from reference.networks.maps import mean_places
from reference.networks.shapenet import ShapeNet

SIDE_PX = 32
BLOCKS = (
    BlockSettings("convolution", 8, stride=2),
    BlockSettings("linear_separable", 12),
    BlockSettings("inverted", 16, stride=2, hidden=24),
    BlockSettings("inverted", 16, hidden=24),
    BlockSettings("separable", 20, stride=2),
)


def make_extractor(map_channels):
    torch.manual_seed(0)
    return CompactExtractor(
        SIDE_PX, 9, BLOCKS, end_channels=12, map_channels=map_channels, wide_channels=24
    ).eval()


def test_a_sharp_map_gives_the_centre_of_its_cell():
    maps = torch.zeros(1, 2, 4, 8)
    maps[0, 0, 1, 6], maps[0, 1, 3, 0] = 100, 100
    places = mean_places(maps)
    np.testing.assert_allclose(places[0], [[5 / 8, -1 / 4], [-7 / 8, 3 / 4]], atol=1e-6)


def test_a_flat_map_gives_the_middle():
    np.testing.assert_allclose(mean_places(torch.zeros(2, 3, 5, 4)), 0, atol=1e-6)


def test_reads_the_last_features_of_three_sizes():
    assert make_extractor(map_channels=16).map_sources == [1, 3, 4]
    with torch.inference_mode():
        outputs, landmarks = make_extractor(16).with_maps(torch.rand(2, 1, SIDE_PX, SIDE_PX))
    assert outputs.shape == (2, 9)
    assert landmarks.shape == (2, 68, 2)
    assert landmarks.abs().max() < 1


def test_leaves_the_outputs_as_they_are():
    extractor = make_extractor(16)
    images = torch.rand(2, 1, SIDE_PX, SIDE_PX)
    with torch.inference_mode():
        np.testing.assert_array_equal(extractor.with_maps(images)[0], extractor(images))


def test_is_not_exported():
    shape_model = torch.zeros(68, 2), torch.zeros(5, 68, 2), torch.ones(9), torch.zeros(9)
    names = [
        {
            layer["name"]
            for layer in describe(ShapeNet(extractor, *shape_model), SIDE_PX)[0]["layers"]
        }
        for extractor in (make_extractor(0), make_extractor(16))
    ]
    assert names[0] == names[1]


def test_its_loss_teaches_the_blocks():
    extractor = make_extractor(16).train()
    _, landmarks = extractor.with_maps(torch.rand(4, 1, SIDE_PX, SIDE_PX))
    landmarks.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in extractor.blocks[0].parameters())
    assert extractor.dense.weight.grad is None
