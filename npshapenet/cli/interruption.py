"""Ctrl-C, taken note of, so that work in frames ends between two of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interruption:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def noted_interruption() -> Iterator[Interruption]:
    """Note the first Ctrl-C; the second ends the command at once, as ever."""
    interruption = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        interruption.came = True
        signal.signal(signal.SIGINT, before)

    before: Any = signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
