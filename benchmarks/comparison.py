"""All systems timed in the same rounds, and for each the variant that turned out faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peak import Peak
from benchmarks.systems import System
from benchmarks.timing import Ratio, Seconds, Summary, ratio, summarise, time_in_rounds

_PEAK = "peak"


@dataclass(frozen=True)
class Comparison:
    """Seconds of one face in each round: by system, its faster variant; and the slower ones."""

    chosen: dict[str, System]
    seconds: dict[str, Seconds]
    slower: dict[str, Summary]  # by title
    peak_flops: Seconds | None  # operations in a second, in each round

    def summary(self, name: str) -> Summary:
        return summarise(self.seconds[name])

    def ratio(self, name: str, other: str) -> Ratio:
        return ratio(self.seconds[name], self.seconds[other])

    def share_of_peak(self, name: str, multiply_adds: int) -> Ratio | None:
        """The arithmetic rate over the peak: the median of the rounds', and that of the bests."""
        if self.peak_flops is None:
            return None
        # At the peak the arithmetic alone would take so long.
        return ratio(2 * multiply_adds / self.peak_flops, self.seconds[name])


def compare(systems: Sequence[System], peak: Peak | None, rounds: int) -> Comparison:
    """Time the systems, and the peak where there is a way, in as many rounds."""
    calls = {system.title: system.call for system in systems}
    if peak is not None:
        calls[_PEAK] = peak
    times = time_in_rounds(calls, rounds)
    peak_flops = None if peak is None else peak.flops_per_call / times[_PEAK]
    chosen: dict[str, System] = {}
    for system in systems:
        rival = chosen.get(system.name)
        if rival is None or np.median(times[system.title]) < np.median(times[rival.title]):
            chosen[system.name] = system
    seconds = {name: times[system.title] for name, system in chosen.items()}
    slower = {
        system.title: summarise(times[system.title])
        for system in systems
        if system is not chosen[system.name]
    }
    return Comparison(chosen, seconds, slower, peak_flops)
