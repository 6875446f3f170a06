"""One core and one thread for this process and its children. Imports nothing that has threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: What OpenMP, the BLAS libraries and Numba read when they are loaded.
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def limit_threads() -> None:
    """Ask for one thread each; to be called before NumPy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"


_processors: list[int] = []  # that this process might use before it was pinned


def pin() -> None:
    """Stay on one processor, the last that this process may use, where the system has a way."""
    if hasattr(os, "sched_setaffinity"):
        _processors[:] = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {_processors[-1]})


def is_pinned() -> bool:
    """Whether this process may use one processor only."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1


def available() -> int:
    """How many processors ``processors`` can give; 0 where this process isn't pinned."""
    return len(_processors)


@contextmanager
def processors(count: int) -> Iterator[None]:
    """Let this thread, and those that it starts, use so many processors meanwhile."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _processors[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)
