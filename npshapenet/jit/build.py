"""python -m npshapenet.jit.build: compile the engine's code for a wheel to carry.

    python -m npshapenet.jit.build && pip wheel --no-deps .

in a checkout, on Linux x86-64, with numba. One file for each level of CPU (see carried.py) is
written to npshapenet/jit/carried_code, which git ignores; setup.py then gives the wheel the tag
of its platform instead of "any". Where it is installed nothing is compiled, and numba isn't
imported even if it is there. Code of other sources than those beside it isn't used: build again
after a change.

The code refers to nothing outside of it, so no C compiler, linker or version of a C library is
asked for, here or where it is installed: see linking.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from npshapenet.jit import carried, cpu, objects
from npshapenet.jit.carried import LEVELS, Level

# Compiling is for the one CPU of a process, so each level has one of its own.
_COMPILE = """
import sys
from npshapenet.jit import cpu
from npshapenet.jit.objects import compile_for
sys.stdout.buffer.write(compile_for(cpu.target()).to_file())
"""


class BuildError(Exception):
    """The code can't be made; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build it for all levels; the exit status."""
    parser = argparse.ArgumentParser(
        "python -m npshapenet.jit.build",
        description="Compile the engine's code for a wheel to carry.",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(carried.FOLDER),
        help="where to; default: the package's own",
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
    """Write the code for ``levels``; that of other sources is taken away."""
    if not cpu.is_linux_x86_64():
        raise BuildError("code to carry is made on Linux x86-64; elsewhere the first use compiles")
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = list(pool.map(_compile, levels))
    for old in folder.glob("engine-*.code"):
        old.unlink()
    sources = objects.sources_checksum()
    paths = [folder / carried.file_name(sources, level) for level in levels]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def _compile(level: Level) -> bytes:
    """The content of the file for a level."""
    package_parent = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "NUMBA_CPU_NAME": level.cpu,
        "NUMBA_CPU_FEATURES": level.features,
    }
    command = [sys.executable, "-P", "-c", _COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True)
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip()
        raise BuildError(f"compiling for {level.name} failed: {complaint}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
