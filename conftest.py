"""Where the tests find the packages: npshapenet as it is installed, the others in this checkout.

The checkout itself must not be on sys.path, where its npshapenet would hide the installed one, so
`reference` and `benchmarks`, which no wheel carries, are found one by one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parent
NOT_INSTALLED = frozenset({"reference", "benchmarks"})


class CheckoutFinder(MetaPathFinder):
    """Finds the packages of the checkout that are not installed, and nothing else in it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in NOT_INSTALLED:
            return None
        return PathFinder.find_spec(fullname, [str(CHECKOUT)], target)


# `python -m pytest` puts the working directory there.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != CHECKOUT]
sys.meta_path.insert(0, CheckoutFinder())

if importlib.util.find_spec("npshapenet") is None:
    pytest.exit('npshapenet is not installed: pip install ".[test]"', returncode=2)
