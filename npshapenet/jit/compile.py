"""Machine code of the engine: compiled by Numba, given C names, emitted as one object file."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import config
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from npshapenet.jit import cpu, engine, microkernel
from npshapenet.jit.machine_code import RUN


def compile_engine(target: cpu.Target, *, is_basic: bool) -> bytes:
    """The object file for ``target``, which refers to nothing outside of it.

    With ``is_basic`` it takes the basic kinds of steps alone (see steps.py).

    On x86-64 its code runs wherever in memory it lies, as linking.py wants it.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=3,
        reloc="pic" if target.is_x86_64 else "default",
        codemodel="small" if target.is_x86_64 else "jitdefault",
    )
    with _not_collecting_garbage():
        module = _numba_module(engine.run_basic if is_basic else engine.run_any)
        _optimise(module, machine, level=2)
        module.link_in(tiles_module(machine))
        module.verify()
        return bytes(machine.emit_object(module))


def _numba_module(run: Any) -> llvm.ModuleRef:
    """The LLVM module that Numba makes of an engine's entry, with a C function that calls it."""
    # Numba wants to know the address of each function that it doesn't see the code of. Nothing
    # calls them in this process before the object file is loaded, which has them.
    nowhere = ctypes.cast(ctypes.CFUNCTYPE(None)(lambda: None), ctypes.c_void_p).value
    for symbol in microkernel.symbols():
        llvm.add_symbol(symbol, nowhere)
    with global_compiler_lock, _not_optimising(), _making_no_machine_code():
        run.compile(engine.RUN_ARGUMENTS)
    compiled = run.overloads[engine.RUN_ARGUMENTS]
    module = llvm.parse_assembly(compiled.library.get_llvm_str())
    wrapper = _c_wrapper(RUN, compiled.fndesc.llvm_func_name, engine.RUN_ARGUMENTS)
    module.link_in(llvm.parse_assembly(str(wrapper)))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != RUN:
            value.linkage = "internal"  # nobody else uses it
    return module


@contextmanager
def _not_collecting_garbage() -> Iterator[None]:
    """Numba and llvmlite make hundreds of thousands of objects that they keep: looking through them
    for some to throw away takes a tenth of the time."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:
            gc.enable()


@contextmanager
def _not_optimising() -> Iterator[None]:
    """Numba optimises each function by itself, and again in all that call it: a third of the
    time that compiling takes. Instead, the whole is optimised once in the end.

    Under Numba's lock: other threads' functions wait, rather than being slow for ever.
    """
    level = config.OPT
    config.OPT = type(level)(0)
    try:
        yield
    finally:
        config.OPT = level


class _LibraryToLink(JITCodeLibrary):  # type: ignore[misc]
    """A function and all that it calls, as LLVM's intermediate code and no further."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Null, as for a function that isn't there."""
        self._ensure_finalized()
        return 0


@contextmanager
def _making_no_machine_code() -> Iterator[None]:
    """Numba makes machine code of each function and all that it calls, once more for each caller:
    a third of its time. Here only the intermediate code of the outermost is wanted.

    Under Numba's lock, as what is compiled meanwhile can't be called from Python.
    """
    numba_codegen = cpu_target.target_context.codegen()
    numba_codegen._library_class = _LibraryToLink
    # It would write where machine code isn't; what it writes serves exceptions and printing.
    numba_codegen.set_env = lambda name, environment: None
    try:
        yield
    finally:
        # The class's own come to the fore again.
        del numba_codegen._library_class, numba_codegen.set_env


def tiles_module(machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """The microkernels' LLVM module, optimised a little: there is not much left to find."""
    module = llvm.parse_assembly(str(microkernel.tile_functions()))
    _optimise(module, machine, level=1)
    return module


def _optimise(module: llvm.ModuleRef, machine: llvm.TargetMachine, level: int) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = level > 1
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)


def _c_wrapper(name: str, numba_name: str, arguments: Sequence[Any]) -> ir.Module:
    """``void name(arguments…)``, which calls a Numba function by Numba's convention.

    That is: a pointer for the result, a pointer for an exception, the arguments; it returns a
    status. The engine has no result and raises nothing.
    """
    pointer = ir.IntType(8).as_pointer()
    kinds = [_c_type(argument) for argument in arguments]
    module = ir.Module(f"{name}.wrapper")
    numba_type = ir.FunctionType(
        ir.IntType(32), [pointer.as_pointer(), pointer.as_pointer(), *kinds]
    )
    callee = ir.Function(module, numba_type, numba_name)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    builder = ir.IRBuilder(function.append_basic_block())
    result, exception = builder.alloca(pointer), builder.alloca(pointer)
    builder.call(callee, [result, exception, *function.args])
    builder.ret_void()
    return module


def _c_type(argument: Any) -> ir.Type:
    """The LLVM type of a Numba argument: a pointer, a float32 or an int64."""
    name = str(argument)
    if name.endswith("*"):
        return ir.IntType(8).as_pointer()
    return ir.FloatType() if name == "float32" else ir.IntType(64)
