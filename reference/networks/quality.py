"""The quality head: how wrong a trained network expects itself to be."""

from __future__ import annotations

import math

from torch import Tensor, nn

#: Before it is trained, a head expects so much of every picture, in percent.
FIRST_GUESS_PERCENT = 5.0


class QualityHead(nn.Module):
    """What the network has collapsed (N, C, 1, 1) → the logarithm (N) of the expected NME.

    The NME is in percent. A small network beside the last two layers of the extractor, with
    which export joins it.
    """

    def __init__(self, channels: int, hidden_channels: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden_channels)
        self.activation = nn.Hardswish()
        self.dense = nn.Linear(hidden_channels, 1)
        nn.init.constant_(self.dense.bias, math.log(FIRST_GUESS_PERCENT))

    def forward(self, collapsed: Tensor) -> Tensor:
        out: Tensor = self.dense(self.activation(self.hidden(collapsed.flatten(1))))[:, 0]
        return out


def expected_error_loss(log_expected: Tensor, errors: Tensor) -> Tensor:
    """The mean of log μ + e / μ for expected errors μ, given by their logarithm, and true ones e.

    The likelihood of an exponential distribution: least where μ is the mean error of pictures
    that look alike, so that what is learnt is an expected value.
    """
    return (log_expected + errors * (-log_expected).exp()).mean()
