"""A batch shared by threads that stay: order, errors, busy threads, forked processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest

from npshapenet.threads import run_in_parts


@pytest.mark.parametrize("thread_count", [1, 2, 3, 50])
@pytest.mark.parametrize("item_count", [1, 7, 8, 9, 64, 101])
def test_every_item_once_and_in_order(item_count, thread_count):
    items = list(range(item_count))
    parts = run_in_parts(list, items, thread_count)
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) <= 8


def test_threads_work_at_the_same_time():
    both = threading.Barrier(2, timeout=60)
    parts = run_in_parts(lambda part: (both.wait(), threading.get_ident())[1], [1, 2], 2)
    assert len(set(parts)) == 2


def test_threads_are_kept():
    processors, seen = os.cpu_count() or 1, set()

    def run(part):
        both.wait()
        seen.add(threading.current_thread())

    for _ in range(2 * processors + 2):
        both = threading.Barrier(2, timeout=60)
        run_in_parts(run, [1, 2], 2)
    assert 1 <= len(seen - {threading.current_thread()}) <= processors


@pytest.mark.parametrize("in_caller", [True, False])
def test_an_error_ends_the_call(in_caller):
    """Whichever thread it happens in, and parts that nobody has begun are left."""
    caller, begun = threading.get_ident(), []
    both = threading.Barrier(2, timeout=60)

    def run(part):
        begun.append(part)
        if len(begun) <= 2:
            both.wait()
        if (threading.get_ident() == caller) == in_caller:
            raise ValueError("no such crop")
        time.sleep(0.01)  # so that the other thread's error comes before the last part
        return part

    with pytest.raises(ValueError, match="no such crop"):
        run_in_parts(run, list(range(400)), 2)
    assert len(begun) < 40


def test_no_part_is_running_when_the_call_has_ended():
    """Also where two threads fail, and the first of them first."""
    running, all_there = set(), threading.Barrier(3, timeout=60)

    def run(part):
        running.add(part[0])
        all_there.wait()
        time.sleep(0.2 * part[0])
        running.remove(part[0])
        raise ValueError(f"part {part[0]}")

    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two threads beside this one")
    with pytest.raises(ValueError, match="part"):
        run_in_parts(run, [0, 1, 2], 3)
    assert not running


def test_busy_threads_are_not_waited_for():
    """Their batch may take minutes: the caller does what they would have done."""
    go_on, count = threading.Event(), os.cpu_count() or 1
    all_there = threading.Barrier(count + 2, timeout=60)

    def hold(part):
        all_there.wait()
        go_on.wait(60)

    busy = threading.Thread(target=run_in_parts, args=(hold, [1] * (count + 1), count + 1))
    busy.start()
    all_there.wait()
    try:
        assert run_in_parts(sum, [1] * 64, 2) == [8] * 8
        assert busy.is_alive()
    finally:
        go_on.set()
        busy.join(60)


def test_a_forked_process_has_threads_of_its_own():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system can't fork")
    run_in_parts(len, [1] * 64, 2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    both = threading.Barrier(2, timeout=60)

    def work():
        queue.put(run_in_parts(lambda part: (both.wait(), sum(part))[1], [1] * 16, 2))

    child = context.Process(target=work)
    child.start()
    assert queue.get(timeout=60) == [8, 8]
    child.join(60)
    assert child.exitcode == 0
