"""The building blocks of the compact extractor.

A convolution has no bias of its own where a batch norm follows: at export both become one
convolution with bias.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Activation = Literal["none", "relu", "hard_swish"]


class ConvolutionBlock(nn.Module):
    """Convolution, batch norm, activation; padded so that stride 1 keeps the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "relu",
        padding: int | None = None,
    ) -> None:
        """``padding`` must be given where the kernel isn't square."""
        super().__init__()
        if padding is None:
            assert isinstance(kernel, int)
            padding = kernel // 2
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = activation_module(activation)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.convolution(images)))
        return out


class SeparableBlock(nn.Module):
    """A depthwise convolution, then a pointwise one (MobileNet, arXiv 1704.04861).

    ``is_linear``: nothing follows the pointwise one, as in the first block of MobileNetV2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        activation: Activation,
        is_linear: bool = False,
    ) -> None:
        super().__init__()
        self.depthwise = ConvolutionBlock(
            in_channels,
            in_channels,
            kernel,
            stride=stride,
            groups=in_channels,
            activation=activation,
        )
        self.pointwise = ConvolutionBlock(
            in_channels, out_channels, 1, activation="none" if is_linear else activation
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(images))
        return out


class InvertedResidual(nn.Module):
    """Widen, depthwise, narrow without activation; added to its input where sizes allow.

    MobileNetV2, arXiv 1801.04381, section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        kernel: int,
        stride: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.widen = ConvolutionBlock(in_channels, hidden_channels, 1, activation=activation)
        self.depthwise = ConvolutionBlock(
            hidden_channels,
            hidden_channels,
            kernel,
            stride=stride,
            groups=hidden_channels,
            activation=activation,
        )
        self.narrow = ConvolutionBlock(hidden_channels, out_channels, 1, activation="none")
        self.has_residual = stride == 1 and in_channels == out_channels

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.narrow(self.depthwise(self.widen(images)))
        return images + out if self.has_residual else out


def activation_module(activation: Activation) -> nn.Module:
    """The module of an activation's name."""
    modules: dict[str, type[nn.Module]] = {
        "none": nn.Identity,
        "relu": nn.ReLU,
        "hard_swish": nn.Hardswish,
    }
    return modules[activation]()
