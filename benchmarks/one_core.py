"""One core and one thread for this process and its children. Imports nothing that has threads."""

from __future__ import annotations

import os
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


def pin() -> None:
    """Stay on one processor, the last that this process may use, where the system has a way."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def is_pinned() -> bool:
    """Whether this process may use one processor only."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
