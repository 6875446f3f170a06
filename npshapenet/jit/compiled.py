"""How Numba compiles the engine's functions, and the smallest of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_ZERO = np.float32(0)

# Plain functions on numbers and pointers: no reference counts, exceptions or Python objects.
compiled = njit(
    nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@compiled
def clear(values: Any, count: Any) -> None:
    for place in range(count):
        values[place] = _ZERO
