"""What the benchmarks' tests share: a workload of the small network."""

from __future__ import annotations

from pathlib import Path

import pytest

import npshapenet
from benchmarks.workload import Workload, make_workload


@pytest.fixture(scope="session")
def work(weights_file: Path) -> Workload:
    return make_workload(str(weights_file), npshapenet.load(weights_file, backend="numpy"))
