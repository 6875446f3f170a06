"""Times of several calls, taken in turn, and what is said of them.

A round times every call once, in an order of its own; a call that is short is repeated until a
block of them takes long enough for the clock. What disturbs the machine for longer than a round
then disturbs all, so that ratios are taken round by round.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: What a block of calls takes at least.
BLOCK_S: Final = 0.01

Call = Callable[[], Any]
Seconds = NDArray[np.float64]  # one call, in each round


@dataclass(frozen=True)
class Summary:
    """Of one call's times: in seconds, over the rounds."""

    median: float
    best: float
    low: float  # the 10th percentile
    high: float  # the 90th


@dataclass(frozen=True)
class Ratio:
    """Of two calls' times: the median of the rounds' ratios, and the ratio of the best times."""

    median: float
    of_bests: float


def summarise(seconds: Seconds) -> Summary:
    low, median, high = np.percentile(seconds, [10, 50, 90])
    return Summary(float(median), float(seconds.min()), float(low), float(high))


def ratio(seconds: Seconds, others: Seconds) -> Ratio:
    """How many times as long as the others, of the same rounds."""
    return Ratio(float(np.median(seconds / others)), float(seconds.min() / others.min()))


def time_in_rounds(
    calls: Mapping[str, Call], rounds: int, block_s: float = BLOCK_S
) -> dict[str, Seconds]:
    """Seconds of a call in each round, by name."""
    if rounds < 1:
        raise ValueError(f"rounds must be positive, not {rounds}")
    repeats = {name: _repeats(call, block_s) for name, call in calls.items()}
    seconds = {name: np.empty(rounds) for name in calls}
    # The same order would let each call always find the caches as the same other leaves them.
    order = list(calls)
    shuffle = random.Random(0).shuffle
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            shuffle(order)
            for name in order:
                seconds[name][number] = _time_block(calls[name], repeats[name])
    finally:
        if was_enabled:
            gc.enable()
    return seconds


def _repeats(call: Call, block_s: float) -> int:
    """So many calls take about ``block_s``; measured by as many, which also warms up."""
    repeats = 1
    while True:
        elapsed = _time_block(call, repeats) * repeats
        if elapsed >= block_s / 2:
            return max(1, round(repeats * block_s / elapsed))
        repeats *= 2


def _time_block(call: Call, repeats: int) -> float:
    """Seconds of one call, the mean of so many."""
    if repeats > 1:
        # Brings its memory back into the caches; a call that fills a block does that itself.
        call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
