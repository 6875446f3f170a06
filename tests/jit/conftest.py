"""The compiled backend is tested where Numba is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HAS_NUMBA = all(importlib.util.find_spec(package) for package in ("numba", "llvmlite"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder where it isn't."""
    for item in items:
        if not HAS_NUMBA and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="Numba isn't installed"))
