"""Compiled code that is kept: found again, and never trusted when it shouldn't be."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from npshapenet.jit import cpu, linking, objects
from npshapenet.jit.machine_code import MachineCode, checksum

PREDICT = """
import sys
import numpy as np
from npshapenet import jit
gray = np.arange(400, dtype=np.uint8).reshape(20, 20)
print(round(float(jit.resize(gray, 5, 5).sum()), 2))
print(jit.origin())
print([name for name in ("numba", "llvmlite") if name in sys.modules])
"""


def run_process(folder: Path) -> tuple[list[str], str]:
    target = cpu.target()
    environment = {
        **os.environ,
        "NPSHAPENET_CACHE_DIR": str(folder),
        # A library that the package may carry isn't used then.
        "NUMBA_CPU_NAME": target.cpu,
        "NUMBA_CPU_FEATURES": target.features,
    }
    done = subprocess.run(
        [sys.executable, "-c", PREDICT], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines(), done.stderr


@pytest.fixture(scope="module")
def good_code() -> MachineCode:
    """The engine's code, from what this process has loaded or compiled."""
    objects._load_or_compile()
    for folder in objects._cache_paths():
        for is_basic in (True, False):
            name = objects.file_name(is_basic=is_basic)
            code = objects._read(os.path.join(folder, name))
            if code is not None:
                return code
    pytest.skip("this machine can't keep compiled code")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good_code: MachineCode) -> Path:
    """An empty cache folder; compiling gives the good code at once."""
    monkeypatch.setattr(objects, "_compile", lambda target, is_basic: good_code)
    folder = tmp_path / "cache"
    monkeypatch.setenv("NPSHAPENET_CACHE_DIR", str(folder))
    return folder


def kept_file(folder: Path) -> Path:
    return folder / objects.file_name(is_basic=True)


def test_first_process_compiles_and_the_next_ones_load(tmp_path: Path) -> None:
    outputs, errors = run_process(tmp_path / "cache")
    assert outputs[1:] == ["compiled now", "['numba', 'llvmlite']"]
    assert len(errors.splitlines()) == 1
    assert errors.startswith("npshapenet: compiling")
    (file,) = (tmp_path / "cache").iterdir()
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
    again, errors = run_process(tmp_path / "cache")
    imported = "[]" if cpu.is_linux_x86_64() else "['llvmlite']"
    assert again == [outputs[0], f"kept in {tmp_path / 'cache'}", imported]
    assert not errors


def test_kept_code_is_loaded(folder: Path) -> None:
    assert objects._load_or_compile().origin == "compiled now"
    assert objects._load_or_compile().origin == f"kept in {folder}"


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "other file"])
def test_damaged_file_is_compiled_again(folder: Path, damage: str) -> None:
    objects._load_or_compile()
    content = bytearray(kept_file(folder).read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"something else altogether" * 100)
    kept_file(folder).write_bytes(content)
    assert objects._load_or_compile().origin == "compiled now"
    assert objects._load_or_compile().origin == f"kept in {folder}"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("mode", [0o722, 0o720, 0o702])
def test_what_others_may_write_to_is_not_loaded(
    folder: Path, capfd: pytest.CaptureFixture[str], what: str, mode: int
) -> None:
    objects._load_or_compile()
    (kept_file(folder) if what == "file" else folder).chmod(mode)
    assert objects._load_or_compile().origin.startswith("in memory only: others may write to it")
    (line,) = capfd.readouterr().err.splitlines()
    assert str(folder) in line


@pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
def test_what_belongs_to_somebody_else_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects._load_or_compile()
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert "owned by somebody else" in objects._load_or_compile().origin


def test_folder_that_can_not_be_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NPSHAPENET_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert objects._load_or_compile().origin.startswith("in memory only: ")
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.fixture
def home_and_temporary(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A user's folder and a temporary one, where the environment names no other."""
    monkeypatch.delenv("NPSHAPENET_CACHE_DIR")
    home, temporary = tmp_path / "home" / "npshapenet", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(objects, "_user_path", lambda: home)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return home, temporary


def test_a_temporary_folder_serves_where_the_home_can_not_be_written(
    home_and_temporary: tuple[Path, Path],
) -> None:
    home, temporary = home_and_temporary
    home.parent.write_text("in the way")
    assert objects._load_or_compile().origin == "compiled now"
    (kept,) = temporary.iterdir()
    assert kept.name.startswith("npshapenet")
    assert objects._load_or_compile().origin == f"kept in {kept}"
    if os.name == "posix":
        assert kept.stat().st_mode & 0o777 == 0o700


def test_a_temporary_folder_serves_where_there_is_no_home(
    home_and_temporary: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_user_path", lambda: None)
    assert objects._load_or_compile().origin == "compiled now"
    assert objects._load_or_compile().origin.startswith(f"kept in {home_and_temporary[1]}")


def test_code_in_a_home_that_can_not_be_written_is_loaded(
    home_and_temporary: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an image of a container, made while the disk could be written to."""
    home, _ = home_and_temporary
    assert objects._load_or_compile().origin == "compiled now"

    def refuse(path: Path, code: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(objects, "_write", refuse)
    assert objects._load_or_compile().origin == f"kept in {home}"


def test_nowhere_to_keep_it(
    home_and_temporary: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    home, _ = home_and_temporary
    home.parent.write_text("in the way")
    *_, in_temporary = objects._cache_paths()
    Path(in_temporary).write_text("in the way")
    assert objects._load_or_compile().origin.startswith("in memory only: ")
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
def test_a_link_of_somebody_else_is_not_followed(
    home_and_temporary: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary folder anybody may put one that leads into a folder of this user's."""
    home, temporary = home_and_temporary
    home.parent.write_text("in the way")
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    link = temporary / f"npshapenet-{os.getuid()}"
    link.symlink_to(own)
    if os.getuid() != 0:
        pytest.skip("only root can make a link of somebody else's")
    os.lchown(link, 65534, 65534)
    assert objects._load_or_compile().origin.startswith("in memory only: ")
    assert list(own.iterdir()) == []


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert objects._load_or_compile().origin == "in memory only: No space left on device"
    assert list(folder.iterdir()) == []


def test_key_depends_on_the_target_and_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {objects.file_name(is_basic=True)}
    for variable, value in (
        ("NUMBA_CPU_NAME", "other"),
        ("NUMBA_CPU_NAME", "another"),
        ("NUMBA_CPU_FEATURES", "+sse2"),
    ):
        monkeypatch.setenv(variable, value)
        names.add(objects.file_name(is_basic=True))
    monkeypatch.setattr(objects, "_cpu_description", lambda: b"as on another machine")
    names.add(objects.file_name(is_basic=True))
    monkeypatch.setattr(objects, "sources_checksum", lambda: "0" * 16)
    names.add(objects.file_name(is_basic=True))
    assert len(names) == 6


def test_the_engine_of_all_steps_serves_for_the_basic_ones_and_not_the_other_way(
    folder: Path,
) -> None:
    assert objects._load_or_compile(is_basic=True).origin == "compiled now"
    assert objects._load_or_compile(is_basic=False).origin == "compiled now"
    kept_file(folder).unlink()
    found = objects._load_or_compile(is_basic=True)
    assert (found.origin, found.is_basic) == (f"kept in {folder}", False)


BOTH_MODELS = """
import numpy as np, npshapenet
from npshapenet.jit import objects
crop = np.random.default_rng(0).integers(0, 256, (150, 150), np.uint8)
fast, accurate = map(npshapenet.load, ("fast", "accurate"))
before = fast.predict(crop)
is_basic = objects.library().is_basic
accurate.predict(crop)
assert is_basic and not objects.library().is_basic, "that of all kinds took its place"
np.testing.assert_array_equal(fast.predict(crop), before)
np.testing.assert_array_equal(npshapenet.load("fast").predict(crop), before)
"""


def test_a_model_goes_on_when_another_needs_more_kinds_of_steps(tmp_path: Path) -> None:
    """In an empty folder, so that the first model compiles the basic kinds alone."""
    target = cpu.target()
    environment = {
        **os.environ,
        "NPSHAPENET_CACHE_DIR": str(tmp_path / "cache"),
        "NUMBA_CPU_NAME": target.cpu,
        "NUMBA_CPU_FEATURES": target.features,
    }
    subprocess.run([sys.executable, "-c", BOTH_MODELS], env=environment, check=True)


def test_checksum_sees_every_byte_and_where_parts_end() -> None:
    parts = (b"engine", b"steps", b"")
    changed = [(b"Engine", b"steps", b""), (b"engines", b"teps", b""), (b"engine", b"steps"), ()]
    assert len({checksum(*parts) for parts in [parts, *changed]}) == 5


@pytest.mark.skipif(not cpu.is_linux_x86_64(), reason="code is linked on x86-64 Linux only")
def test_memory_for_code_that_the_system_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImportError, after which a model takes the NumPy backend."""

    def refuse(code: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(linking, "load", refuse)
    with pytest.raises(ImportError, match="Permission denied"):
        objects._load_or_compile()


def test_every_source_of_the_engine_is_in_the_key() -> None:
    """What compiling imports of the package, but what only the plan and the loading need."""
    code = "import sys, npshapenet.jit.compile; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    prefix = "npshapenet.jit."
    imported = {name.removeprefix(prefix) for name in done.stdout.split() if prefix in name}
    only_python = {
        *("arena", "backend", "carried", "layer_steps", "operations", "packing", "plan"),
        *("step_writer", "tiles"),
    }
    assert {f"{name}.py" for name in imported - only_python} == set(objects._SOURCES)
