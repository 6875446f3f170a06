"""Machine code that a wheel carries: which file fits this CPU.

build.py makes the files, one for each level of CPU. With one of them neither numba nor llvmlite
is imported. They lie in the installed package, so they are trusted as its Python code is.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from npshapenet.jit import cpu, machine_code
from npshapenet.jit.machine_code import MachineCode

FOLDER = os.path.join(os.path.dirname(__file__), "carried_code")


class Level(NamedTuple):
    """What CPUs have in common that code is compiled for."""

    name: str
    cpu: str  # as LLVM names it
    features: str  # as LLVM names them; those that the CPU's name implies needn't stand here
    flags: frozenset[str]  # what Linux says in /proc/cpuinfo of a CPU that has all of it


_V3_FLAGS = frozenset(
    (
        *("cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"),
        *("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"),
    )
)
_V4_FLAGS = _V3_FLAGS | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# The levels of the x86-64 ABI, the best first.
LEVELS = (
    Level("v4", "x86-64-v4", "+avx,+avx2,+fma,+avx512f", _V4_FLAGS),
    Level("v3", "x86-64-v3", "+avx,+avx2,+fma", _V3_FLAGS),
    Level("baseline", "x86-64", "+sse,+sse2", frozenset()),
)


def file_name(sources: str, level: Level) -> str:
    """Of the code for a level; ``sources`` is the checksum of what it is compiled from."""
    return f"engine-{sources}-x86_64-linux-{level.name}.code"


def find_best(sources: str) -> tuple[MachineCode, Level] | None:
    """The code of the best level that this CPU has; None where no whole one fits.

    None too where NUMBA_CPU_NAME or NUMBA_CPU_FEATURES ask for code for another CPU.
    """
    if not cpu.is_linux_x86_64() or cpu.is_other_asked_for():
        return None
    loader: Any = __spec__.loader  # which reads files in a zip file, too
    for level in LEVELS:
        try:
            content = loader.get_data(os.path.join(FOLDER, file_name(sources, level)))
        except OSError:
            continue
        code = machine_code.from_file(content)
        if code is not None and code.entry is not None and level.flags <= cpu_flags():
            return code, level
    return None


def cpu_flags() -> frozenset[str]:
    """What this CPU can, in Linux's words; nothing where Linux doesn't say."""
    return frozenset(cpu.linux_description().get("flags", "").split())
