"""The compiled backend: a plan of the network, run by machine code that Numba made.

Nothing heavy is imported before the first call: then llvmlite loads the kept code, or numba
compiles it.

To read it from the network to the multiply-add: steps (the table that both sides share), plan
(a network becomes such a table), with arena (where images lie), tiles (how a layer is cut up)
and packing (in what order weights stand); engine (walks the table), microkernel (the sums, in
vector registers) with emitter (its vocabulary) and cpu (the sizes); resizing. Then what is
around it: backend (calls it), objects (keeps the code), compile (makes it), intrinsics and
compiled (what Numba needs to know).
"""

from __future__ import annotations

from npshapenet.jit.backend import CompiledBackend, origin, resize

__all__ = ["CompiledBackend", "origin", "resize"]
