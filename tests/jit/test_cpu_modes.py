"""The same tests as if on another CPU, each in a process of its own; and code for 64-bit Arm."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llvmlite")

import llvmlite.binding as llvm

HERE = Path(__file__).parent
MODES = {  # NUMBA_CPU_NAME, NUMBA_CPU_FEATURES, what the real CPU needs for it
    "SSE2": ("x86-64", "+sse,+sse2", ""),
    "AVX without FMA": ("sandybridge", "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx", "avx"),
    "AVX2": ("haswell", "+avx,+avx2,+fma,+bmi,+bmi2,+sse4.2", "avx2"),
    "AVX-512": ("skylake-avx512", "+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512dq", "avx512f"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_parity_on(mode: str, tmp_path: Path) -> None:
    name, features, needed = MODES[mode]
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("modes of x86-64")
    if needed and not llvm.get_host_cpu_features().get(needed):
        pytest.skip(f"this CPU has no {needed}")
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": features,
        "NPSHAPENET_CACHE_DIR": str(tmp_path / "cache"),
    }
    tests = [str(HERE / f"test_{part}.py") for part in ("steps", "backend", "memory", "models")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env=environment, cwd=HERE.parent.parent, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()[-3000:]


def test_tiles_for_arm() -> None:
    """They are made of vector multiply-adds and keep their sums in registers."""
    code = """
from npshapenet.jit import cpu
cpu.target = lambda: cpu.Target("aarch64-unknown-linux-gnu", "cortex-a72", "+neon")
import llvmlite.binding as llvm
from npshapenet.jit import compile as compiling
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
target = cpu.target()
machine = llvm.Target.from_triple(target.triple).create_target_machine(
    cpu=target.cpu, features=target.features, opt=3)
print(machine.emit_assembly(compiling.tiles_module(machine)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "No available targets" in done.stderr or "Unable to find target" in done.stderr:
        pytest.skip("this llvmlite knows no Arm")
    assert done.returncode == 0, done.stderr
    functions = re.split(r"\n(?=npshapenet_\w+:)", done.stdout)[1:]
    assert len(functions) >= 10
    for function in functions:
        loops = re.findall(r"(\.LBB\w+):(.*?)b\.\w+\s+\1\n", function, re.DOTALL)
        innermost = [body for _, body in loops if body.count("fmla")]
        assert innermost, function[:200]
        body = min(innermost, key=len)
        assert not re.search(r"\bq\d+, \[sp|\bq\d+, .*\[sp", body), f"spills: {function[:60]}"
