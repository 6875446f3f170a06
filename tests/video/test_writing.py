"""A video is there whole or not at all."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="videos need OpenCV: pip install '.[opencv]'")

from npshapenet.video import Video, VideoError, VideoFile
from npshapenet.video.writing import CODECS

FRAME = np.full((48, 64, 3), 90, np.uint8)


@pytest.mark.parametrize("ending", CODECS)
def test_every_ending(tmp_path: Path, make_video: Callable[..., Path], ending: str) -> None:
    path = make_video(f"video{ending}", 20)
    assert len(list(Video(path))) == 20
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_frames_at_times_keep_them(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.2, 0.24, 0.245, 0.25, 0.28]
    with VideoFile(tmp_path / "video.mp4", 25) as file:
        for index, time_s in enumerate(times):
            file.write(np.full((48, 64, 3), 20 * index, np.uint8), 3 + time_s)
    assert (file.repeated, file.left_out) == (2, 2)
    frames = list(Video(tmp_path / "video.mp4"))
    assert len(frames) == file.frame_count == 8
    levels = [round(float(frame.rgb.mean()) / 20) for frame in frames]
    assert levels == [0, 1, 2, 2, 2, 3, 4, 7]


def test_a_long_pause_is_cut(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "video.mp4", 10) as file:
        file.write(FRAME, 0.0)
        file.write(FRAME, 1e9)
        file.write(FRAME, 1e9 + 0.1)
    assert file.frame_count == 1 + 100 + 1 + 1


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"older")
    with contextlib.suppress(KeyboardInterrupt), VideoFile(path, 30) as file:
        file.write(FRAME)
        raise KeyboardInterrupt
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_no_frame_leaves_what_was_there(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "video.mp4", 30):
        pass
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 8 KB: no longer than needed, as the tests' own output may be one."""
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm"])
def test_a_full_disk_is_noticed(tmp_path: Path, rng: np.random.Generator, ending: str) -> None:
    with full_disk():
        file = VideoFile(tmp_path / f"video{ending}", 30)
        for _ in range(60):
            file.write(rng.integers(0, 255, (240, 320, 3)).astype(np.uint8))
        with pytest.raises(VideoError, match="couldn't be written whole"):
            file.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros((64, 48, 3), np.uint8),
    ],
)
def test_what_is_no_frame(tmp_path: Path, frame: np.ndarray) -> None:
    with VideoFile(tmp_path / "video.mp4", 30) as file:
        file.write(FRAME)
        with pytest.raises(ValueError, match="frame"):
            file.write(frame)


def test_what_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"video\.gif ends in none of \.mp4"):
        VideoFile(tmp_path / "video.gif", 30)
    with pytest.raises(VideoError, match="frames_per_second"):
        VideoFile(tmp_path / "video.mp4", 0)
    with pytest.raises(VideoError, match="can't be written"):
        VideoFile(tmp_path / "nowhere" / "video.mp4", 30).write(FRAME)
