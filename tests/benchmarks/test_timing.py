"""What is said of times; no time is asserted."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest

from benchmarks.timing import ratio, summarise, time_in_rounds


def test_summary_of_known_times() -> None:
    summary = summarise(np.arange(1.0, 12.0))  # 1 … 11
    assert summary.best == 1
    assert summary.low == 2
    assert summary.median == 6
    assert summary.high == 10


def test_one_round_has_no_spread() -> None:
    summary = summarise(np.array([3.0]))
    assert summary.best == summary.low == summary.median == summary.high == 3


def test_ratio_is_taken_round_by_round() -> None:
    ours, theirs = np.array([1.0, 4.0, 2.0]), np.array([2.0, 5.0, 10.0])
    assert ratio(ours, theirs).median == 0.5  # of 0.5, 0.8, 0.2; the medians' would be 0.4
    assert ratio(ours, theirs).of_bests == 0.5
    assert ratio(theirs, ours).median == 2


def test_what_slows_a_round_down_cancels_out() -> None:
    slowness = np.array([1.0, 3.0, 1.5, 8.0])
    assert ratio(2 * slowness, 5 * slowness).median == pytest.approx(0.4)


def test_each_round_times_each_call() -> None:
    calls: list[str] = []
    times = time_in_rounds(
        {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}, 5, block_s=1e-9
    )
    assert set(times) == {"one", "two"}
    assert all(seconds.shape == (5,) and (seconds > 0).all() for seconds in times.values())
    counts = Counter(calls)
    assert counts["one"] >= 5
    assert counts["two"] >= 5


def test_rounds_are_interleaved_in_changing_order() -> None:
    calls: list[str] = []
    names = ["one", "two", "three"]
    time_in_rounds({name: partial(calls.append, name) for name in names}, 6, block_s=0)
    rounds = [calls[start : start + 3] for start in range(3, len(calls), 3)]  # after calibration
    assert len(rounds) == 6
    assert all(sorted(order) == sorted(names) for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds must be positive, not 0"):
        time_in_rounds({"one": lambda: None}, 0)
