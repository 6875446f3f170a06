"""The compiled backend: a plan of the network, run by machine code that Numba made.

Numba turns Python functions on numbers into machine code, through the compiler LLVM. Functions
marked ``@compiled`` are ordinary Python for Numba; those of microkernel and vector_loops write
LLVM's instructions themselves, because Numba can't say what is to stay in registers.

Nothing heavy is imported before the first call: then the code that the package carries is
loaded, or what an earlier process kept, or numba compiles it.

To read it from the network to the multiply-add: steps (the table that both sides share, and the
words for how a convolution is cut up), cpu (the sizes of vector registers and tiles), plan (a
network becomes such a table), with operations (which layers run as one), layer_steps (an operation
becomes rows of the table), step_writer (writes them down), arena (where images lie), tiles (how a
layer is cut up) and packing (in what order weights stand); engine (walks the table, with the loop
nest of a convolution), emitter (the vocabulary of what follows: its first lines are enough),
intrinsics (what Numba can call), microkernel (the sums, in vector registers) and vector_loops;
resizing, with resize_memory;
point_depthwise; shape_fitting; rare_steps; landmarks; gray. Then what is around it: backend (calls
it), objects (keeps the code), machine_code (as files hold it), linking (makes it run), carried and
build (the code in a wheel), compile and compiled (how Numba makes it).
"""

from __future__ import annotations

from npshapenet.jit.backend import CompiledBackend, is_carried, origin, resize, rgb_to_gray

__all__ = ["CompiledBackend", "is_carried", "origin", "resize", "rgb_to_gray"]
