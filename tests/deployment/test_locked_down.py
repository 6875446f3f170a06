"""Another user than the one who installed the package, on a disk that nobody may write to.

In a mount namespace of its own, so that nothing outside it changes: Python and its packages are
shown to a user without name and home, and the whole disk is made read-only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Without an entry among the system's users.
USER = 54321

Answer = Any  # conftest's
Run = Callable[..., Answer]


def can_isolate() -> bool:
    """Whether this process may make a mount namespace, and processes of other users."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        return False
    if not all(shutil.which(program) for program in ("unshare", "setpriv", "mount")):
        return False
    trial = "mount --make-rprivate / && mount -o remount,bind,ro /"
    return subprocess.run(["unshare", "-m", "sh", "-c", trial], capture_output=True).returncode == 0


@pytest.fixture(scope="module", autouse=True)
def _isolation() -> None:
    if not can_isolate():
        pytest.skip("needs Linux and root, who may mount")


@pytest.fixture
def world() -> Iterator[Path]:
    """A folder that everybody may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="npshapenet-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def run(world: Path, package: Path, crop_file: Path, predict_program: str, read_answer) -> Run:
    """``run(read_only=True, **environment)``: what that user's process says of the crop."""
    packages = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    shown = {f"packages{number}": entry for number, entry in enumerate(packages)}
    shown["python"] = sys.base_prefix
    for name in (*shown, "temporary"):
        (world / name).mkdir()
    shutil.copytree(package, world / "own")
    shutil.copy(crop_file, world)
    subprocess.run(["chmod", "-R", "a+rX", str(world)], check=True)
    (world / "temporary").chmod(0o1777)
    path = [world / "own", *(world / name for name in shown if name != "python")]
    python = world / "python" / "bin" / f"python{sysconfig.get_python_version()}"

    def run(*, read_only: bool = True, **environment: str) -> Answer:
        mounts = [f"mount --bind {shlex.quote(shown[name])} {world / name}" for name in shown]
        if read_only:
            places = [*(str(world / name) for name in shown), "/"]
            mounts += [f"mount -o remount,bind,ro {place}" for place in places]
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "LD_LIBRARY_PATH": str(world / "python" / "lib"),
            "TMPDIR": str(world / "temporary"),
            **environment,
        }
        command = [
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
            *("env", "-i", *(f"{name}={value}" for name, value in variables.items())),
            *(str(python), "-S", "-P", "-c", predict_program, str(world / crop_file.name)),
        ]
        script = ["mount --make-rprivate /", *mounts, "cd /", f"exec {shlex.join(command)}"]
        return read_answer(
            subprocess.run(
                ["unshare", "-m", "sh", "-c", " && ".join(script)], capture_output=True, text=True
            )
        )

    return run


def test_numpy_backend(run: Run, expected, same) -> None:
    found = run(NPSHAPENET_BACKEND="numpy")
    same(found.landmarks, expected)
    assert found.backend == "numpy"
    (line,) = found.complaints.splitlines()
    assert "NPSHAPENET_BACKEND is numpy" in line


def test_compiled_backend(run: Run, expected, same) -> None:
    """Compiles, and says in one line why it will do so again the next time."""
    pytest.importorskip("numba")
    found = run()
    same(found.landmarks, expected)
    assert found.backend == "numba"
    assert found.origin == "in memory only: no home folder, and no temporary one"
    first, second = found.complaints.splitlines()
    assert first.startswith("npshapenet: compiling for this CPU")
    assert second.startswith("npshapenet: the compiled code can't be kept, in memory only: ")


def test_temporary_folder(run: Run, expected, same, world: Path) -> None:
    """As a serverless function has one: kept there. What it holds can become part of an image,
    and is then found on the read-only disk."""
    pytest.importorskip("numba")
    kept_in = world / "temporary" / f"npshapenet-{USER}"
    assert run(read_only=False).origin == "compiled now"
    again = run(read_only=False)
    assert (again.origin, again.complaints) == (f"kept in {kept_in}", "")
    from_image = run(NPSHAPENET_CACHE_DIR=str(kept_in))
    assert (from_image.origin, from_image.complaints) == (f"kept in {kept_in}", "")
    same(from_image.landmarks, expected)


def test_code_that_the_package_carries(
    run: Run, expected, same, world: Path, carried_code: Path
) -> None:
    """Nothing is compiled, and nothing need be kept."""
    shutil.copytree(carried_code, world / "own" / "npshapenet" / "jit" / "carried_code")
    subprocess.run(["chmod", "-R", "a+rX", str(world / "own")], check=True)
    found = run()
    same(found.landmarks, expected)
    assert found.origin.startswith("carried with the package (")
    assert (found.compilers, found.complaints) == ([], "")
