"""python -m npshapenet.jit.build: compile the engine into libraries for a wheel to carry.

    python -m npshapenet.jit.build && pip wheel --no-deps .

in a checkout, on Linux x86-64, with numba and a C compiler for the linking. The libraries, one
for each level of CPU (see carried.py), are written to npshapenet/jit/libraries, which git
ignores; setup.py then gives the wheel the tag of its platform instead of "any". Where it is
installed nothing is compiled, and numba isn't imported even if it is there. Libraries of other
sources than those beside them aren't used: build again after a change. Nothing may alter the
files afterwards: a tool that strips libraries takes away their checksum, and they aren't used.

The libraries need no others. The one symbol that they leave open is memset, which LLVM writes
for loops that clear memory: it is found in the C library that each Python process has loaded,
the fastest there is for the CPU, and no version of a C library is asked for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from npshapenet.jit import carried, objects
from npshapenet.jit.carried import LEVELS, Level

# Compiling is for the one CPU of a process, so each level has one of its own.
_COMPILE = """
import sys
from npshapenet.jit import cpu
from npshapenet.jit.compile import compile_engine
sys.stdout.buffer.write(compile_engine(cpu.target(), relocation="pic"))
"""
# Fails where a symbol is open that isn't memset: one of numba's or Python's error paths.
_LINK = (
    *("cc", "-shared", "-nostdlib", "-s", "-Wl,-Bsymbolic", "-Wl,-z,noexecstack"),
    *("-Wl,-z,defs", "-Wl,--ignore-unresolved-symbol=memset"),
)


class BuildError(Exception):
    """A library can't be made; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build them all; the exit status."""
    parser = argparse.ArgumentParser(
        "python -m npshapenet.jit.build",
        description="Compile the engine into libraries for a wheel to carry.",
    )
    parser.add_argument(
        "--folder", type=Path, default=carried.FOLDER, help="where to; default: the package's own"
    )
    folder = parser.parse_args(arguments).folder
    try:
        for path in build(folder):
            print(f"{path} ({path.stat().st_size / 1024:.0f} KiB)")
    except BuildError as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


def build(folder: Path, levels: Sequence[Level] = LEVELS) -> list[Path]:
    """Write the libraries for ``levels``; those of other sources are taken away."""
    if not carried.is_possible():
        raise BuildError("libraries are made on Linux x86-64; elsewhere the first use compiles")
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        libraries = list(pool.map(lambda level: _link(_compile(level)), levels))
    for old in folder.glob("engine-*.so"):
        old.unlink()
    sources = objects.sources_digest()
    paths = [folder / carried.file_name(sources, level) for level in levels]
    for path, library in zip(paths, libraries, strict=True):
        path.write_bytes(carried.seal(library))
    return paths


def _compile(level: Level) -> bytes:
    """The position-independent object file for a level."""
    package_parent = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "NUMBA_CPU_NAME": level.cpu,
        "NUMBA_CPU_FEATURES": level.features,
    }
    return _output([sys.executable, "-P", "-c", _COMPILE], environment)


def _link(code: bytes) -> bytes:
    """An object file → a shared library."""
    with tempfile.TemporaryDirectory() as folder:
        library, object_file = Path(folder, "engine.so"), Path(folder, "engine.o")
        object_file.write_bytes(code)
        _output([*_LINK, "-o", str(library), str(object_file)])
        return library.read_bytes()


def _output(command: Sequence[str], environment: dict[str, str] | None = None) -> bytes:
    try:
        done = subprocess.run(command, env=environment, capture_output=True)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip()
        raise BuildError(f"{command[0]} failed: {complaint}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
