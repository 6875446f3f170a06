"""The compiled engine's machine code: found, checked and loaded, or made and kept.

A library that the package carries comes first: see carried.py. Where there is none, compiling
takes seconds and needs numba, so the object file is kept in a folder of the user's and found
there by later processes, which then import only llvmlite. It is code: a folder or file that is
not the user's own, or that others may write to, is never loaded from.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import stat
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npshapenet.jit import carried, cpu

_SOURCES = (
    "compile.py",
    "compiled.py",
    "cpu.py",
    "emitter.py",
    "engine.py",
    "intrinsics.py",
    "landmarks.py",
    "microkernel.py",
    "objects.py",
    "resize_memory.py",
    "resizing.py",
    "steps.py",
)
_HEADER = b"npshapenet engine 1\n"  # then 32 bytes of SHA-256 of the object, then the object
_SECONDS_TO_COMPILE = 4

_RUN_NAME = "npshapenet_run"
_RUN_ARGUMENTS = [ctypes.c_void_p]


@dataclass(frozen=True)
class Library:
    """The loaded engine."""

    run: Any  # engine.run as a C function
    registers: cpu.Registers  # whose tiles it has
    origin: str  # where its code came from
    keep_alive: Any


_lock = threading.Lock()
_library: Library | None = None


def library() -> Library:
    """The engine of this process, loaded when first asked for."""
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                _library = _carried() or _load_or_compile()
    return _library


def registers() -> cpu.Registers:
    """The tiles of the engine that ``library`` gives; nothing is compiled for the answer."""
    library = _carried()
    return cpu.target().registers if library is None else library.registers


def is_carried() -> bool:
    """Whether the package carries the engine for this CPU: then numba isn't needed."""
    return _carried() is not None


@functools.cache
def _carried() -> Library | None:
    found = carried.open_best(sources_digest())
    if found is None:
        return None
    opened, level = found
    run = opened[_RUN_NAME]
    run.argtypes, run.restype = _RUN_ARGUMENTS, None
    return Library(run, level.registers, f"carried with the package ({level.name})", opened)


if hasattr(os, "register_at_fork"):

    def _new_lock() -> None:
        global _lock
        _lock = threading.Lock()

    # Another thread may hold the lock while this one forks: the child must not wait for it.
    os.register_at_fork(after_in_child=_new_lock)


def _load_or_compile() -> Library:
    target = cpu.target()
    name = file_name(target)
    try:
        folder = cache_folder()
        kept = _read(folder / name)
    except OSError as error:
        return _loaded(_compile(target), f"in memory only: {_reason(error)}", warn=True)
    if kept is not None:
        return _loaded(kept, f"kept in {folder}")
    code = _compile(target)
    try:
        _write(folder / name, code)
    except OSError as error:
        return _loaded(code, f"in memory only: {_reason(error)}", warn=True)
    return _loaded(code, "compiled now")


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def _compile(target: cpu.Target) -> bytes:
    _say(f"compiling for this CPU, once (about {_SECONDS_TO_COMPILE} s)…")
    from npshapenet.jit.compile import compile_engine

    return compile_engine(target)


def _loaded(code: bytes, origin: str, *, warn: bool = False) -> Library:
    """Link the object into this process."""
    import llvmlite.binding as llvm

    if warn:
        _say(f"the compiled code can't be kept, {origin}")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = cpu.target()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(_RUN_NAME)
    if address == 0:
        raise RuntimeError(f"the object file has no function {_RUN_NAME}")
    run = ctypes.CFUNCTYPE(None, *_RUN_ARGUMENTS)(address)
    return Library(run, target.registers, origin, engine)


def _say(line: str) -> None:
    print(f"npshapenet: {line}", file=sys.stderr, flush=True)


def file_name(target: cpu.Target) -> str:
    """With a digest of everything that the machine code depends on."""
    digest = hashlib.sha256(sources_digest().encode())
    for package in ("numba", "llvmlite"):
        digest.update(_version_file(package))
    for part in (sys.version, target.triple, target.cpu, target.features):
        digest.update(part.encode() + b"\0")
    return f"engine-{digest.hexdigest()[:24]}.o"


def sources_digest() -> str:
    """Of the engine's sources, in hexadecimal digits."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for name in _SOURCES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _version_file(package: str) -> bytes:
    """The file that states a package's version: found without importing the package, and read
    ten times faster than importlib.metadata finds the same."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return b"none"
    return Path(spec.origin).with_name("_version.py").read_bytes()


def cache_folder() -> Path:
    """The folder for compiled code, made if need be; OSError if there can't be a safe one."""
    given = os.environ.get("NPSHAPENET_CACHE_DIR")
    if given:
        folder = Path(given)
    elif sys.platform == "win32":
        folder = (
            Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "npshapenet"
        )
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "npshapenet"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npshapenet"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_unsafe(folder.stat(), folder)
    return folder


def _refuse_unsafe(status: os.stat_result, path: Path) -> None:
    """PermissionError unless it is this user's own and nobody else may write to it."""
    if os.name != "posix":
        return
    if status.st_uid != os.getuid():
        raise PermissionError(0, "owned by somebody else", str(path))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, "others may write to it", str(path))


def _read(path: Path) -> bytes | None:
    """The kept object, or None where there is none or it isn't whole."""
    try:
        with path.open("rb") as file:
            _refuse_unsafe(os.fstat(file.fileno()), path)
            content = file.read()
    except FileNotFoundError:
        return None
    start = len(_HEADER) + 32
    header, checksum, code = content[: len(_HEADER)], content[len(_HEADER) : start], content[start:]
    if header != _HEADER or checksum != hashlib.sha256(code).digest():
        return None
    return code


def _write(path: Path, code: bytes) -> None:
    """Keep the object, whole or not at all."""
    import tempfile  # slow to import, rarely needed

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".engine-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_HEADER + hashlib.sha256(code).digest() + code)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
