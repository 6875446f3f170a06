"""The backends that are held against PyTorch, and the table of the largest differences."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npshapenet.model import Backend
from npshapenet.network import Network
from npshapenet.plain import PlainBackend
from npshapenet.weights import Normalisation
from reference.parity import Difference, check

Floats = NDArray[np.float32]
MakeBackend = Callable[..., Backend]

BACKENDS = ("numpy", "numba")
HAS_NUMBA = all(importlib.util.find_spec(package) for package in ("numba", "llvmlite"))

#: network → (layer, its type) → backend → the largest share of the largest output.
Shares = dict[str, dict[tuple[str, str], dict[str, float]]]
SHARES = pytest.StashKey[Shares]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with an argument ``backend_name`` run for each backend."""
    if "backend_name" in metafunc.fixturenames:
        no_numba = pytest.mark.skipif(not HAS_NUMBA, reason="Numba isn't installed")
        names = ["numpy", pytest.param("numba", marks=no_numba)]
        metafunc.parametrize("backend_name", names, scope="session")


@pytest.fixture(scope="session")
def make_backend(backend_name: str) -> MakeBackend:
    """``make_backend(network, tensors)`` → a backend of the kind under test."""

    def make(
        network: Network,
        tensors: Mapping[str, Floats],
        normalisation: Normalisation | None = None,
    ) -> Backend:
        arguments = (network, tensors, normalisation or Normalisation(1.0, 0.0))
        if backend_name == "numpy":
            return PlainBackend(*arguments)
        from npshapenet.jit import CompiledBackend

        return CompiledBackend(*arguments)

    return make


@pytest.fixture(scope="session")
def shares(pytestconfig: pytest.Config) -> Shares:
    return pytestconfig.stash.setdefault(SHARES, defaultdict(lambda: defaultdict(dict)))


@pytest.fixture(scope="session")
def hold(shares: Shares) -> Callable[[str, str, Iterable[Difference]], None]:
    """``hold(network, backend, differences)``: note them for the table, then check them."""

    def hold_against_pytorch(network: str, backend: str, differences: Iterable[Difference]) -> None:
        differences = list(differences)
        for item in differences:
            noted = shares[network][item.name, item.kind]
            noted[backend] = max(noted.get(backend, 0.0), item.share)
        check(differences)

    return hold_against_pytorch


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table: as seen in every run, without -s."""
    shares: Shares = config.stash.get(SHARES, {})
    if not shares:
        return
    terminalreporter.section("parity with PyTorch")
    terminalreporter.write_line(
        "The largest difference of each layer from PyTorch in float64, as a share of its largest\n"
        "output (accepted: 1e-5; sums longer than 2048: 3e-5); landmarks in pixels of the crop "
        "(0.01;\nthe original network: 0.05)."
    )
    for network, layers in shares.items():
        rows = [
            f"{name:22} "
            + " ".join(f"{found[b]:8.1e}" if b in found else " " * 8 for b in BACKENDS)
            for (name, _), found in layers.items()
        ]
        head = f"{'':22} " + " ".join(f"{backend:>8}" for backend in BACKENDS)
        half = -(-len(rows) // 2)
        terminalreporter.write_line(f"{network}:")
        terminalreporter.write_line(f"  {head}    {head if len(rows) > 1 else ''}".rstrip())
        for left, right in zip(rows[:half], [*rows[half:], ""], strict=False):
            terminalreporter.write_line(f"  {left}    {right}".rstrip())
