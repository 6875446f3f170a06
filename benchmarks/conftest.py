"""The micro-benchmarks run on one core and one thread, as python -m benchmarks does."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks import one_core

# Now, before a test module imports NumPy.
one_core.limit_threads()


@pytest.fixture(scope="session", autouse=True)
def pinned() -> Iterator[None]:
    """One processor, for as long as the micro-benchmarks run."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    one_core.pin()
    yield
    if before:
        os.sched_setaffinity(0, before)
