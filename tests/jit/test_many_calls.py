"""Memory doesn't grow with the number of calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CALLS = """
import os, sys
import numpy as np
import npshapenet

def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

model = npshapenet.load(sys.argv[1], backend="numba")
rng = np.random.default_rng(0)
crops = [rng.integers(0, 256, shape, np.uint8) for shape in ((20, 20), (40, 30), (16, 90))]
crops.append(rng.random((33, 33), np.float32))

def predict(calls):
    for number in range(calls):
        model.predict(crops[number % len(crops)])
        if number % 100 == 0:
            model.predict(crops, threads=2)

predict(10_000)
before = resident_kib()
predict(100_000)
print(resident_kib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_thousand_calls(weights_file: Path) -> None:
    command = [sys.executable, "-c", CALLS, str(weights_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # A leak of 11 bytes a call would be more.
    assert int(done.stdout) < 1024
