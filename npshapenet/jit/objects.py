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
from _thread import allocate_lock  # threading, whose Lock it is, takes long to import
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from npshapenet.jit import carried, cpu, linking, machine_code
from npshapenet.jit.machine_code import RUN, MachineCode, checksum

_SOURCES = (
    "compile.py",
    "compiled.py",
    "cpu.py",
    "emitter.py",
    "engine.py",
    "gray.py",
    "intrinsics.py",
    "landmarks.py",
    "linking.py",
    "machine_code.py",
    "microkernel.py",
    "objects.py",
    "point_depthwise.py",
    "rare_steps.py",
    "resize_memory.py",
    "resizing.py",
    "shape_fitting.py",
    "steps.py",
    "vector_loops.py",
)
_SECONDS_TO_COMPILE = {True: 3, False: 4}  # with the basic kinds of steps alone, with all

_RUN_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Library(NamedTuple):
    """The loaded engine."""

    run: Any  # the engine's entry as a C function
    is_basic: bool  # it takes the basic kinds of steps alone (see steps.py)
    registers: cpu.Registers  # whose tiles it has
    origin: str  # where its code came from
    keep_alive: Any


_lock = allocate_lock()
_library: Library | None = None


def library(*, is_basic: bool = True) -> Library:
    """The engine of this process, loaded when first asked for.

    It takes the basic kinds of steps and, unless they are enough, all the others: then another
    engine may take its place, so who runs the code holds the Library. ImportError where it has to
    be compiled and numba doesn't work, or where the system refuses memory for code.
    """
    global _library
    found = _library
    if found is None or (found.is_basic and not is_basic):
        with _lock:
            found = _library
            if found is None or (found.is_basic and not is_basic):
                _library = found = _carried() or _load_or_compile(is_basic=is_basic)
    return found


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
        _lock = allocate_lock()

    # Another thread may hold the lock while this one forks: the child must not wait for it.
    os.register_at_fork(after_in_child=_new_lock)


def _kept() -> Library | None:
    """What an earlier process kept, if there is any that may be loaded."""
    for path in _cache_paths():
        with contextlib.suppress(OSError):
            kept = _kept_in(_safe_folder(path), is_basic=True)
            if kept is not None:
                return kept
    return None


def _kept_in(folder: str, *, is_basic: bool) -> Library | None:
    """The engine that a folder holds: that of all kinds of steps or, if it is enough, the basic."""
    for kept_is_basic in (False, True) if is_basic else (False,):
        code = _read(os.path.join(folder, file_name(is_basic=kept_is_basic)))
        if code is not None:
            return _loaded(code, f"kept in {folder}", is_basic=kept_is_basic)
    return None


def _load_or_compile(*, is_basic: bool = True) -> Library:
    name = file_name(is_basic=is_basic)
    folders: list[str] = []
    problems: list[OSError] = []
    for path in _cache_paths():
        try:
            folder = _safe_folder(path)
            kept = _kept_in(folder, is_basic=is_basic)
        except OSError as error:
            problems.append(error)
            continue
        if kept is not None:
            return kept
        folders.append(folder)
    code = _compile(cpu.target(), is_basic=is_basic)
    for folder in folders:
        try:
            _write(os.path.join(folder, name), code)
        except OSError as error:
            problems.append(error)
            continue
        return _loaded(code, "compiled now", is_basic=is_basic)
    origin = _why_not_kept(problems)
    _say(f"the compiled code can't be kept, {origin}")
    return _loaded(code, origin, is_basic=is_basic)


def _why_not_kept(problems: Sequence[OSError]) -> str:
    reason = _reason(problems[0]) if problems else "no home folder, and no temporary one"
    return f"in memory only: {reason}"


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def _compile(target: cpu.Target, *, is_basic: bool) -> MachineCode:
    _say(f"compiling for this CPU, once (about {_SECONDS_TO_COMPILE[is_basic]} s)…")
    return compile_for(target, is_basic=is_basic)


def compile_for(target: cpu.Target, *, is_basic: bool = False) -> MachineCode:
    """Compile, and link where that is possible without llvmlite."""
    from npshapenet.jit.compile import compile_engine

    object_file = compile_engine(target, is_basic=is_basic)
    if cpu.is_linux_x86_64():
        code, entry = linking.link(object_file, RUN)
        return MachineCode(target.registers, code, entry)
    return MachineCode(target.registers, object_file, None)


def _loaded(code: MachineCode, origin: str, *, is_basic: bool = False) -> Library:
    """Bring the code into this process."""
    if code.entry is None:
        address, keep_alive = _loaded_by_llvmlite(code.code)
    else:
        try:
            start, keep_alive = linking.load(code.code)
        except OSError as error:
            raise ImportError(error.strerror) from error
        address = start + code.entry
    return Library(_RUN_TYPE(address), is_basic, code.registers, origin, keep_alive)


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


def file_name(*, is_basic: bool) -> str:
    """With a checksum of everything that the machine code depends on."""
    engine = "engine-basic" if is_basic else "engine"
    numba = *(_version_file(package) for package in ("numba", "llvmlite")), sys.version.encode()
    return f"{engine}-{checksum(sources_checksum().encode(), *numba, _cpu_description())}.code"


def _cpu_description() -> bytes:
    """What tells CPUs apart for the compiler; where Linux says it, llvmlite isn't asked."""
    asked_for = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    if cpu.is_linux_x86_64() and cpu.linux_description():
        return repr([asked_for, cpu.linux_description()]).encode()
    return repr(cpu.target()).encode()


@functools.cache
def sources_checksum() -> str:
    """Of the engine's sources, 16 hexadecimal digits."""
    return checksum(*(_source(name) for name in _SOURCES))


def _source(name: str) -> bytes:
    """A file beside this one, which may lie in a zip file; ImportError where it isn't there."""
    path = os.path.join(os.path.dirname(__file__), name)
    loader: Any = __spec__.loader
    try:
        content: bytes = loader.get_data(path)
    except OSError:
        raise ImportError(f"{path} is missing, which a frozen program must have as well") from None
    return content


def _version_file(package: str) -> bytes:
    """The file that states a package's version: found without importing the package, and read
    ten times faster than importlib.metadata finds the same."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return b"none"
    path = os.path.join(os.path.dirname(spec.origin), "_version.py")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        raise ImportError(f"{path} is missing, which a frozen program must have as well") from None


def _cache_paths() -> Iterator[str]:
    """Where compiled code may be kept: the folder that is given, and no other; or the user's, then
    a temporary one, for users without a home and for homes on a read-only disk."""
    given = os.environ.get("NPSHAPENET_CACHE_DIR")
    if given:
        yield given
        return
    if user_path := _user_path():
        yield user_path
    import tempfile  # slow to import, rarely needed

    with contextlib.suppress(FileNotFoundError):
        user = f"-{os.getuid()}" if os.name == "posix" else ""
        yield os.path.join(tempfile.gettempdir(), f"npshapenet{user}")


def _user_path() -> str | None:
    """The folder that the system has for what a program of the user's can make again.

    None where the system knows of no home.
    """
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        default, variable = os.path.join(home, "AppData", "Local"), "LOCALAPPDATA"
    elif sys.platform == "darwin":
        default, variable = os.path.join(home, "Library", "Caches"), ""
    else:
        default, variable = os.path.join(home, ".cache"), "XDG_CACHE_HOME"
    base = os.environ.get(variable)
    if not base and home == "~":
        return None
    return os.path.join(base or default, "npshapenet")


def _safe_folder(path: str) -> str:
    """The folder, made if need be; OSError if it can't be, or isn't this user's own."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
    if os.name == "posix" and os.lstat(path).st_uid != os.getuid():  # a link, perhaps
        raise PermissionError(0, "owned by somebody else", path)
    _refuse_unsafe(os.stat(path), path)
    return path


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
