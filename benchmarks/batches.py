"""A batch of faces on one processor and on two: how many a second, and how well it scales."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks import one_core
from benchmarks.timing import Seconds, time_in_rounds
from benchmarks.workload import Workload
from npshapenet.model import Model

FACES: Final = 64
PROCESSORS: Final = (1, 2)


def measure_batches(work: Workload, rounds: int) -> dict[int, Seconds]:
    """Seconds of ``predict`` for a batch in each round, by the number of processors.

    Empty where this process can't choose its processors, or has one only.
    """
    if one_core.available() < max(PROCESSORS):
        return {}
    model = Model(work.weights, "numba")
    crops = [work.crop.gray] * FACES

    def predict(count: int) -> None:
        with one_core.processors(count):
            model.predict(crops, threads=count)

    calls = {str(count): partial(predict, count) for count in PROCESSORS}
    times = time_in_rounds(calls, rounds)
    return {count: times[str(count)] for count in PROCESSORS}
