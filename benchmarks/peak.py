"""The peak arithmetic rate of one core, by multiply-adds that never leave the vector registers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

#: Multiply-adds of each accumulator in one round of the compiled loop.
_UNROLLED: Final = 8

#: Rounds of the loop in a call: about half a millisecond.
LOOPS: Final = 20_000


@dataclass(frozen=True, eq=False)
class Peak:
    """Compiled code that does ``flops_per_call`` operations, a multiply-add counting as two."""

    function: Any
    loops: int
    flops_per_call: int
    keep_alive: Any

    def __call__(self) -> float:
        return float(self.function(self.loops))


def make_peak(loops: int = LOOPS) -> Peak:
    """Compile for this CPU, as the engine would be; ImportError without llvmlite or numba.

    As many independent accumulators as the engine's largest tile has: enough to hide the latency
    of a multiply-add, and no more than there are registers.
    """
    import llvmlite.binding as llvm
    from llvmlite import ir

    from npshapenet.jit import cpu
    from npshapenet.jit.emitter import Emitter

    target = cpu.target()
    registers = target.registers
    chains = max(pixels * vectors for pixels, vectors in registers.tiles)
    module = ir.Module("peak")
    kind = ir.FunctionType(ir.FloatType(), [ir.IntType(64)])
    function = ir.Function(module, kind, "peak")
    emit = Emitter(ir.IRBuilder(function.append_basic_block()), registers.floats)
    # Converges to 1: neither overflow nor numbers too small to be fast.
    factor, addend = emit.repeat(0.5), emit.repeat(0.5)

    def one_round(sums: list[Any]) -> list[Any]:
        for _ in range(_UNROLLED):
            sums = [emit.multiply_add(value, factor, addend) for value in sums]
        return sums

    starts = [emit.repeat(float(number)) for number in range(chains)]
    sums = emit.loop(function.args[0], starts, one_round)
    total = sums[0]
    for value in sums[1:]:
        total = emit.add(total, value)
    emit.builder.ret(emit.builder.extract_element(total, ir.Constant(ir.IntType(32), 0)))

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    address = engine.get_function_address("peak")
    compiled = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(address)
    flops = 2 * loops * _UNROLLED * chains * registers.floats
    return Peak(compiled, loops, flops, engine)
