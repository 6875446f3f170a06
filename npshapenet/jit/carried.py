"""Libraries of machine code that a wheel carries: which one fits this CPU, checked and opened.

build.py makes them, one for each level of CPU. With one of them neither numba nor llvmlite is
imported. They lie in the installed package, so they are trusted as its Python code is.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npshapenet.jit.cpu import Registers, Target

FOLDER = Path(__file__).with_name("libraries")
PLATFORM = "x86_64-linux"  # any C library: nothing is needed of it but memset

_ABI = 2  # of the functions that a library exports, and of how its file is checked
_SEAL = b"npshapenet library\n"  # after the library itself; then 32 bytes of its SHA-256
_TRIPLE = "x86_64-unknown-linux-gnu"


@dataclass(frozen=True)
class Level:
    """What CPUs have in common that a library is compiled for."""

    name: str
    cpu: str  # as LLVM names it
    features: str  # as LLVM names them; those that the CPU's name implies needn't stand here
    flags: frozenset[str]  # what Linux says in /proc/cpuinfo of a CPU that has all of it

    @property
    def registers(self) -> Registers:
        return Target(_TRIPLE, self.cpu, self.features).registers


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
    """Of the library for a level; ``sources`` is the digest of what it is compiled from."""
    return f"engine-{_ABI}-{sources[:24]}-{PLATFORM}-{level.name}.so"


def is_possible() -> bool:
    """Whether this is a platform that libraries are made for."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32


def open_best(sources: str) -> tuple[ctypes.CDLL, Level] | None:
    """The library of the best level that this CPU has; None where no whole one fits.

    None too where NUMBA_CPU_NAME or NUMBA_CPU_FEATURES ask for code for another CPU.
    """
    if not is_possible() or any(
        os.environ.get(variable) for variable in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    ):
        return None
    for level, path in _found(sources):
        try:
            if is_sealed(path.read_bytes()):
                return ctypes.CDLL(str(path)), level
        except OSError:  # can't be read, or the system's loader refuses it
            continue
    return None


def _found(sources: str) -> Iterator[tuple[Level, Path]]:
    """The libraries that are there for this CPU, the best first."""
    paths = [(level, FOLDER / file_name(sources, level)) for level in LEVELS]
    paths = [(level, path) for level, path in paths if path.exists()]
    if paths:
        flags = cpu_flags()
        yield from ((level, path) for level, path in paths if level.flags <= flags)


def cpu_flags() -> frozenset[str]:
    """What this CPU can, in Linux's words; nothing where Linux doesn't say."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:  # the first processor's: the rest, of hundreds, isn't read
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def seal(library: bytes) -> bytes:
    """The library with a checksum after its end, where the system's loader doesn't look."""
    return library + _SEAL + hashlib.sha256(library).digest()


def is_sealed(content: bytes) -> bool:
    """Whether a file is whole: a process that opens half a library is ended by the system."""
    end = len(content) - len(_SEAL) - 32
    return end > 0 and content[end:] == seal(content[:end])[end:]
