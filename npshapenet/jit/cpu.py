"""What the compiled engine must know about the CPU: one table of register tiles.

A *convolution tile* of MR pixels × NR channels lives in vector registers while it is computed:
MR · NR/V accumulators (V floats a register), NR/V registers of weights and one of a pixel,
never more than the CPU has. A *depthwise tile* needs its accumulators and NR/V weights, or, if it
is for kernels of so many columns, those of a row and one of an input.
This module imports neither numba nor llvmlite until it is asked about the CPU.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import NamedTuple

Tile = tuple[int, int]  # pixels (MR), vector registers of channels (NR / V)


class DepthwiseTile(NamedTuple):
    """A tile of a depthwise convolution, for any kernel and stride or for one of them.

    With ``tap_columns``, the columns of the kernel, and ``stride``, each input is loaded once for
    all the taps of a row that need it. ``is_broadcast``: the image has a single channel, each
    number of which is repeated over the vector (broadcast): the network's first convolution.
    """

    pixels: int
    vectors: int
    tap_columns: int = 0
    stride: int = 0
    is_broadcast: bool = False


class Registers(NamedTuple):
    """The tiles for one kind of vector register; the table below says how they were chosen."""

    name: str
    floats: int  # V: how many float32 a vector register holds
    tiles: tuple[Tile, ...]  # of convolutions and dense layers
    depthwise_tiles: tuple[DepthwiseTile, ...]


def _depthwise_tiles(
    registers: int, general: tuple[Tile, ...], sliding: tuple[Tile, ...]
) -> tuple[DepthwiseTile, ...]:
    """For kernels of 3 and 5 columns, as far as there are registers; then those for all others."""
    return (
        *(
            DepthwiseTile(pixels, vectors, columns, stride, is_broadcast)
            for columns, stride, is_broadcast in _SLIDING
            for pixels, vectors in sliding
            if pixels * vectors + columns * vectors + 1 <= registers
        ),
        *(DepthwiseTile(*tile) for tile in general),
    )


# Columns of the kernel, stride, and whether the image has a single channel.
_SLIDING = ((3, 1, False), (3, 2, False), (5, 1, False), (5, 2, False), (3, 2, True))

# A CPU starts two multiply-adds a cycle, and each sum is ready only 4 cycles later, its latency:
# with 8 accumulators in turn none is waited for. More mean fewer loads for each. The plan takes,
# layer by layer, the tiles that waste least of a row of pixels and of the channels; those of 1
# pixel serve dense layers, and what is smaller than any other tile.
# The first tile, which must be of one vector, and the last, (1, 1), serve the resize as well.
AVX512 = Registers(  # 32 registers of 16; (28, 1) is no faster than (14, 1)
    "AVX-512",
    16,
    (
        *((14, 1), (14, 2), (12, 2), (10, 2), (8, 3), (7, 1), (7, 2), (7, 3)),
        *((6, 2), (4, 3), (1, 8), (1, 4), (1, 2), (1, 1)),
    ),
    _depthwise_tiles(32, ((14, 1), (7, 2), (4, 2), (1, 2), (1, 1)), ((14, 1), (7, 1), (7, 2))),
)
AVX = Registers(  # 16 registers of 8
    "AVX",
    8,
    ((12, 1), (6, 2), (5, 2), (4, 3), (7, 1), (1, 4), (1, 1)),
    _depthwise_tiles(16, ((14, 1), (7, 1), (4, 2), (1, 4), (1, 1)), ((7, 1), (4, 2))),
)
SSE2 = Registers(  # 16 registers of 4
    "SSE2",
    4,
    ((12, 1), (6, 2), (5, 2), (7, 1), (1, 4), (1, 1)),
    _depthwise_tiles(16, ((14, 1), (7, 1), (4, 2), (1, 4), (1, 1)), ((7, 1), (4, 2))),
)
NEON = Registers(  # 32 registers of 4
    "NEON",
    4,
    ((14, 1), (8, 2), (7, 2), (5, 4), (1, 4), (1, 1)),
    _depthwise_tiles(32, ((14, 1), (7, 2), (4, 4), (1, 4), (1, 1)), ((7, 1), (4, 2))),
)


REGISTERS = {registers.name: registers for registers in (AVX512, AVX, SSE2, NEON)}


class Target(NamedTuple):
    """For which machine to compile, as LLVM names it."""

    triple: str
    cpu: str
    features: str

    @property
    def is_x86_64(self) -> bool:
        return self.triple.startswith(("x86_64", "amd64"))

    @property
    def registers(self) -> Registers:
        """The row of the table for this machine."""
        features = self.features.split(",")
        if "+avx512f" in features:
            return AVX512
        if "+avx" in features:
            return AVX
        is_arm = self.triple.startswith(("aarch64", "arm64"))
        return NEON if is_arm else SSE2


def is_linux_x86_64() -> bool:
    """Whether this is the platform that code is linked for without llvmlite."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32


def is_other_asked_for() -> bool:
    """Whether the environment asks for code as if for another CPU."""
    return bool(os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"))


@functools.cache
def linux_description() -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor and never changes; nothing where it isn't."""
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if not value:  # the next processor's begin: the rest, of hundreds, isn't read
                    break
                if name.strip() in ("vendor_id", "cpu family", "model", "stepping", "flags"):
                    found[name.strip()] = value.strip()
    except OSError:
        pass
    return found


@functools.cache
def target() -> Target:
    """This machine, or the part of it that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES allow."""
    import llvmlite.binding as llvm

    cpu = os.environ.get("NUMBA_CPU_NAME") or None
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if cpu == "generic" else llvm.get_host_cpu_features().flatten()
    return Target(llvm.get_default_triple(), cpu or llvm.get_host_cpu_name(), features)
