"""What the figures were measured on, and with which versions: no names of hosts, no folders."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Final

import npshapenet
from benchmarks import one_core

#: The packages whose versions matter, by the names that pip knows.
_PACKAGES: Final = (
    "numpy",
    "numba",
    "llvmlite",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "dlib",
    "dlib-bin",
)


def describe_machine() -> dict[str, str]:
    """What a reader of the figures wants to know, by title."""
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "CPU": f"{cpu_name()}, {os.cpu_count()} cores, of which one is used"
        + (" (pinned)" if one_core.is_pinned() else " (not pinned: the system can't)"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "threads": "1 in each system",
        "npshapenet": f"{npshapenet.__version__}, {_where_installed()}",
        "versions": ", ".join(f"{name} {version}" for name, version in _versions()),
    }


def load_average() -> str:
    """How many processes wanted to run in the last minute, this one included."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return f"{os.getloadavg()[0]:.1f}"


def cpu_name() -> str:
    """The CPU as the system calls it, and as LLVM does, with the length of its vectors."""
    names = []
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpu_info.read_text(), re.MULTILINE)
        names += [match[1]] if match else []
    names = names or [platform.processor() or "unknown CPU"]
    try:
        from npshapenet.jit import cpu

        target = cpu.target()
        names.append(f"{target.cpu}, {target.registers.floats} floats in a vector")
    except ImportError:
        pass
    return ", ".join(names)


def _where_installed() -> str:
    checkout = Path(__file__).resolve().parent.parent
    is_here = checkout in Path(npshapenet.__file__).resolve().parents
    return "the files of this checkout" if is_here else "as installed"


def _versions() -> list[tuple[str, str]]:
    versions = []
    for name in _PACKAGES:
        try:
            versions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
