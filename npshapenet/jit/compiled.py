"""How Numba compiles the engine's functions."""

from __future__ import annotations

from numba import njit

# Plain functions on numbers and pointers: no reference counts, exceptions or Python objects.
compiled = njit(
    nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)
