"""The compiled backend: a plan of the network, run by machine code that Numba made.

Nothing heavy is imported before the first call: then llvmlite loads the kept code, or numba
compiles it (see objects.py).
"""

from __future__ import annotations

from npshapenet.jit.backend import CompiledBackend, origin, resize

__all__ = ["CompiledBackend", "origin", "resize"]
