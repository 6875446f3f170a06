"""The compiled engine's machine code: found, checked and loaded, or made and kept.

Code that the package carries comes first: see carried.py. Where there is none, compiling takes
seconds and needs numba, so the code is kept in a folder of the user's and found there by later
processes, which then don't import numba, and on x86-64 Linux not llvmlite either: see linking.py.
A folder or file that is not the user's own, or that others may write to, is never loaded from.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import stat
import sys
import threading
from dataclasses import dataclass
from typing import Any

from npshapenet.jit import carried, cpu, linking, machine_code
from npshapenet.jit.machine_code import RUN, MachineCode, checksum

_SOURCES = (
    "compile.py",
    "compiled.py",
    "cpu.py",
    "emitter.py",
    "engine.py",
    "intrinsics.py",
    "landmarks.py",
    "linking.py",
    "machine_code.py",
    "microkernel.py",
    "objects.py",
    "resize_memory.py",
    "resizing.py",
    "steps.py",
)
_SECONDS_TO_COMPILE = 4

_RUN_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


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
    """The engine of this process, loaded when first asked for.

    ImportError where it has to be compiled and numba doesn't work, or where the system refuses
    memory for code.
    """
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                _library = _carried() or _load_or_compile()
    return _library


def registers() -> cpu.Registers:
    """The tiles of the engine that ``library`` gives; nothing is compiled for the answer."""
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                _library = _carried() or _kept()
    return cpu.target().registers if _library is None else _library.registers


def is_carried() -> bool:
    """Whether the package carries the engine for this CPU: then numba isn't needed."""
    return _carried() is not None


@functools.cache
def _carried() -> Library | None:
    found = carried.find_best(sources_checksum())
    if found is None:
        return None
    code, level = found
    return _loaded(code, f"carried with the package ({level.name})")


if hasattr(os, "register_at_fork"):

    def _new_lock() -> None:
        global _lock
        _lock = threading.Lock()

    # Another thread may hold the lock while this one forks: the child must not wait for it.
    os.register_at_fork(after_in_child=_new_lock)


def _kept() -> Library | None:
    """What an earlier process kept, if there is any that may be loaded."""
    try:
        folder = cache_folder()
        code = _read(os.path.join(folder, file_name()))
    except OSError:
        return None
    return None if code is None else _loaded(code, f"kept in {folder}")


def _load_or_compile() -> Library:
    try:
        path = os.path.join(cache_folder(), file_name())
        kept = _read(path)
    except OSError as error:
        return _loaded_unkept(_compile(cpu.target()), error)
    if kept is not None:
        return _loaded(kept, f"kept in {os.path.dirname(path)}")
    code = _compile(cpu.target())
    try:
        _write(path, code)
    except OSError as error:
        return _loaded_unkept(code, error)
    return _loaded(code, "compiled now")


def _loaded_unkept(code: MachineCode, error: OSError) -> Library:
    origin = f"in memory only: {_reason(error)}"
    _say(f"the compiled code can't be kept, {origin}")
    return _loaded(code, origin)


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def _compile(target: cpu.Target) -> MachineCode:
    _say(f"compiling for this CPU, once (about {_SECONDS_TO_COMPILE} s)…")
    return compile_for(target)


def compile_for(target: cpu.Target) -> MachineCode:
    """Compile, and link where that is possible without llvmlite."""
    from npshapenet.jit.compile import compile_engine

    object_file = compile_engine(target)
    if cpu.is_linux_x86_64():
        code, entry = linking.link(object_file, RUN)
        return MachineCode(target.registers, code, entry)
    return MachineCode(target.registers, object_file, None)


def _loaded(code: MachineCode, origin: str) -> Library:
    """Bring the code into this process."""
    if code.entry is None:
        address, keep_alive = _loaded_by_llvmlite(code.code)
    else:
        try:
            start, keep_alive = linking.load(code.code)
        except OSError as error:
            raise ImportError(error.strerror) from error
        address = start + code.entry
    return Library(_RUN_TYPE(address), code.registers, origin, keep_alive)


def _loaded_by_llvmlite(object_file: bytes) -> tuple[int, Any]:
    """The engine's address, and what keeps it there."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = cpu.target()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(object_file))
    engine.finalize_object()
    address = engine.get_function_address(RUN)
    if address == 0:
        raise RuntimeError(f"the object file has no function {RUN}")
    return address, engine


def _say(line: str) -> None:
    print(f"npshapenet: {line}", file=sys.stderr, flush=True)


def file_name() -> str:
    """With a checksum of everything that the machine code depends on."""
    numba = *(_version_file(package) for package in ("numba", "llvmlite")), sys.version.encode()
    return f"engine-{checksum(sources_checksum().encode(), *numba, _cpu_description())}.code"


def _cpu_description() -> bytes:
    """What tells CPUs apart for the compiler; where Linux says it, llvmlite isn't asked."""
    asked_for = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    if cpu.is_linux_x86_64() and cpu.linux_description():
        return repr([asked_for, cpu.linux_description()]).encode()
    return repr(cpu.target()).encode()


@functools.cache
def sources_checksum() -> str:
    """Of the engine's sources, 16 hexadecimal digits."""
    contents = []
    for name in _SOURCES:
        with open(os.path.join(os.path.dirname(__file__), name), "rb") as file:
            contents.append(file.read())
    return checksum(*contents)


def _version_file(package: str) -> bytes:
    """The file that states a package's version: found without importing the package, and read
    ten times faster than importlib.metadata finds the same."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return b"none"
    with open(os.path.join(os.path.dirname(spec.origin), "_version.py"), "rb") as file:
        return file.read()


def cache_folder() -> str:
    """The folder for compiled code, made if need be; OSError if there can't be a safe one."""
    home = os.path.expanduser("~")
    folder = os.environ.get("NPSHAPENET_CACHE_DIR")
    if not folder:
        if sys.platform == "win32":
            default, variable = os.path.join(home, "AppData", "Local"), "LOCALAPPDATA"
        elif sys.platform == "darwin":
            default, variable = os.path.join(home, "Library", "Caches"), ""
        else:
            default, variable = os.path.join(home, ".cache"), "XDG_CACHE_HOME"
        folder = os.path.join(os.environ.get(variable) or default, "npshapenet")
    os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    _refuse_unsafe(os.stat(folder), folder)
    return folder


def _refuse_unsafe(status: os.stat_result, path: str) -> None:
    """PermissionError unless it is this user's own and nobody else may write to it."""
    if os.name != "posix":
        return
    if status.st_uid != os.getuid():
        raise PermissionError(0, "owned by somebody else", path)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, "others may write to it", path)


def _read(path: str) -> MachineCode | None:
    """What is kept, or None where there is nothing or it isn't whole."""
    try:
        with open(path, "rb") as file:
            _refuse_unsafe(os.fstat(file.fileno()), path)
            return machine_code.from_file(file.read())
    except FileNotFoundError:
        return None


def _write(path: str, code: MachineCode) -> None:
    """Keep the code, whole or not at all."""
    import tempfile  # slow to import, rarely needed

    folder = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".engine-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(code.to_file())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
