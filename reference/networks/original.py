"""The extractor of the paper's own code: 224×224, separated 7×7 kernels, instance norm.

The order within a stage is convolution, ReLU, norm. No convolution is padded.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

Norm = Literal["instance", "batch", "group", "none"]

SIDE_PX = 224

#: name, output channels, kernel (rows, columns), stride; a norm follows where the stride is 2.
STAGES: tuple[tuple[str, int, tuple[int, int], int], ...] = (
    ("conv_1", 64, (7, 1), 1),
    ("conv_2", 64, (1, 7), 1),
    ("down_conv_1", 128, (7, 7), 2),
    ("conv_3", 128, (7, 1), 1),
    ("conv_4", 128, (1, 7), 1),
    ("down_conv_2", 256, (7, 7), 2),
    ("conv_5", 256, (5, 1), 1),
    ("conv_6", 256, (1, 5), 1),
    ("down_conv_3", 256, (5, 5), 2),
    ("conv_7", 256, (5, 1), 1),
    ("conv_8", 256, (1, 5), 1),
    ("down_conv_4", 128, (5, 5), 2),
    ("conv_9", 128, (3, 1), 1),
    ("conv_10", 128, (1, 3), 1),
    ("conv_11", 128, (3, 1), 1),
    ("conv_12", 128, (1, 3), 1),
)
FINAL_KERNEL = (2, 2)


class OriginalExtractor(nn.Module):
    """Images (N, 1, 224, 224) → (N, output_count)."""

    def __init__(self, output_count: int, norm: Norm = "instance") -> None:
        super().__init__()
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        in_channels, norm_count = 1, 0
        for name, channels, kernel, stride in STAGES:
            modules[name] = nn.Conv2d(in_channels, channels, kernel, stride)
            modules[f"{name}_relu"] = nn.ReLU()
            if stride == 2 and norm != "none":
                norm_count += 1
                modules[f"norm_{norm_count}"] = _norm_module(norm, channels)
            in_channels = channels
        modules["final_conv"] = nn.Conv2d(in_channels, output_count, FINAL_KERNEL)
        self.stages = nn.Sequential(modules)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.stages(images)
        return out.flatten(1)


def _norm_module(norm: Norm, channels: int) -> nn.Module:
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(2, channels)
    raise ValueError(f"norm must be instance, batch, group or none, not {norm!r}")
