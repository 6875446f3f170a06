"""How far a video is, on a line of the terminal that is written over and over."""

from __future__ import annotations

import sys
import time
from typing import Final

_EVERY_S: Final = 0.2
_BAR_CELLS: Final = 20


class Progress:
    """Counts frames; shows them on stderr where that is a terminal. ``total``: None if unknown."""

    def __init__(self, total: int | None) -> None:
        self.frames = 0
        self._total = total
        self._is_shown = sys.stderr.isatty()
        self._start_s = time.perf_counter()
        self._shown_s = 0.0

    @property
    def frames_per_second(self) -> float:
        """Since the beginning."""
        return self.frames / max(time.perf_counter() - self._start_s, 1e-9)

    def step(self, faces: int) -> None:
        """One frame more is done, with so many faces in it."""
        self.frames += 1
        now_s = time.perf_counter()
        if self._is_shown and now_s - self._shown_s >= _EVERY_S:
            self._shown_s = now_s
            # \x1b[K empties the rest of the line.
            print(f"\r{self._line(faces)}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self, faces: int) -> str:
        bar, of = "", ""
        if self._total:
            cells = min(_BAR_CELLS, _BAR_CELLS * self.frames // self._total)
            bar = f"{'█' * cells}{'░' * (_BAR_CELLS - cells)} "
            of = f" of {self._total}"
        return (
            f"{bar}frame {self.frames}{of}, faces: {faces}, {self.frames_per_second:.0f} frames/s"
        )
