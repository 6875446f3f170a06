"""Threads for a batch, kept between calls: one that waits is woken in the time of half a face; to
start one and to end it takes four."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Small enough that threads end at about the same time, large enough that Python takes none of it.
_ITEMS_PER_PART: Final = 8

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def run_in_parts(
    run: Callable[[Sequence[Item]], Result], items: Sequence[Item], thread_count: int
) -> list[Result]:
    """``run`` of all items, part by part, by at most so many threads; the parts' results, in order.

    The calling thread is one of them; of the others there is one for each processor, for all calls.
    Whoever is free takes the next part, so it doesn't wait for threads that are busy otherwise.
    What ``run`` raises ends the call, after the parts that are begun.
    """
    from concurrent.futures import wait  # takes long to import

    size = min(_ITEMS_PER_PART, -(-len(items) // thread_count))
    parts = [items[first : first + size] for first in range(0, len(items), size)]
    remaining = deque(enumerate(parts))
    results: dict[int, Result] = {}

    def take_parts() -> None:
        while True:
            try:
                place, part = remaining.popleft()
            except IndexError:
                return
            try:
                results[place] = run(part)
            except BaseException:
                remaining.clear()
                raise

    others: list[Future[None]] = []
    try:
        pool = _shared_pool()
        for _ in range(min(thread_count, len(parts)) - 1):
            others.append(pool.submit(take_parts))
        take_parts()
    finally:
        remaining.clear()
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()
    return [results[place] for place in range(len(parts))]


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            from concurrent.futures import ThreadPoolExecutor

            _pool = ThreadPoolExecutor(os.cpu_count(), "npshapenet")
        return _pool


def _forget_pool() -> None:
    """A forked process has none of its parent's threads, and would wait for them."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
