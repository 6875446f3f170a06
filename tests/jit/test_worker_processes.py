"""Worker processes of a program that has predicted give its landmarks, and none of them hangs."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

#: Its worker processes predict by the program's own model, with and without threads, and by copies
#: that are sent to them; then once more, when the program itself has threads, which stay.
PROGRAM = """
import multiprocessing, sys, threading
import numpy as np
import npshapenet

model = npshapenet.load("fast", backend="numba")
crops = list(np.random.default_rng(6).integers(0, 256, (64, 60, 50), np.uint8))

def predict_one(place):
    return model.predict(crops[place])

def predict_all(threads):
    return model.predict(crops, threads=threads)

def check(context, expected):
    with context.Pool(2) as pool:
        single = pool.map_async(predict_one, range(6)).get(timeout=120)
        np.testing.assert_array_equal(single, expected[:6])
        for batch in pool.map_async(predict_all, [1, 2, 2]).get(timeout=120):
            np.testing.assert_array_equal(batch, expected)
        sent = pool.map_async(model.predict, crops[:4]).get(timeout=120)
        np.testing.assert_array_equal(sent, expected[:4])

def threads_of_batches():
    return [thread for thread in threading.enumerate() if thread.name.startswith("npshapenet")]

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    expected = np.stack([model.predict(crop) for crop in crops])
    assert not threads_of_batches()
    check(context, expected)
    np.testing.assert_array_equal(predict_all(threads=2), expected)
    assert threads_of_batches()
    check(context, expected)
    np.testing.assert_array_equal(predict_all(threads=2), expected)
    print("the same")
"""


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_pool_predicts(start_method: str, tmp_path: Path) -> None:
    if start_method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {start_method}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), start_method], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "the same\n"
