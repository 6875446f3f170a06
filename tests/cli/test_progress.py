"""How far a video is: a terminal sees a bar with frames a second, anything else nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from npshapenet.cli import progress
from npshapenet.cli.progress import Progress

Terminal = Callable[[], AbstractContextManager[Callable[[], str]]]


class Clock:
    """Stands, but for what a test adds: in the place of the module time."""

    now_s = 1000.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def go(bar: Progress, clock: Clock, frames: int, seconds_each: float) -> None:
    for _ in range(frames):
        clock.now_s += seconds_each
        bar.step(faces=2)


def lines(shown: str) -> list[str]:
    """What was in the line, one after the other."""
    return [line.removesuffix("\x1b[K") for line in shown.split("\r") if line]


def test_a_terminal_sees_a_bar(terminal: Terminal, clock: Clock) -> None:
    with terminal() as sent:
        go(Progress(20), clock, 10, 0.25)
        *_, before, now = lines(sent())
    assert before == "█████████░░░░░░░░░░░ frame 9 of 20, faces: 2, 4 frames/s"
    assert now == "██████████░░░░░░░░░░ frame 10 of 20, faces: 2, 4 frames/s"


def test_a_terminal_sees_no_bar_of_a_camera(terminal: Terminal, clock: Clock) -> None:
    with terminal() as sent:
        go(Progress(None), clock, 3, 0.25)
        assert lines(sent())[-1] == "frame 3, faces: 2, 4 frames/s"


def test_more_frames_than_the_file_says(terminal: Terminal, clock: Clock) -> None:
    with terminal() as sent:
        go(Progress(4), clock, 5, 0.25)
        assert lines(sent())[-1].startswith(f"{'█' * 20} frame 5 of 4, ")


def test_five_lines_a_second_at_most(terminal: Terminal, clock: Clock) -> None:
    with terminal() as sent:
        go(Progress(None), clock, 100, 0.01)
        assert 4 <= len(lines(sent())) <= 6


def test_the_line_is_taken_away(terminal: Terminal, clock: Clock) -> None:
    with terminal() as sent:
        bar = Progress(20)
        go(bar, clock, 1, 0.25)
        assert sent() != ""
        bar.end()
        assert sent() == "\r\x1b[K"


def test_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    bar = Progress(20)
    go(bar, clock, 20, 0.25)
    bar.end()
    assert (bar.frames, bar.frames_per_second) == (20, 4)
    assert capsys.readouterr() == ("", "")
