"""Frames come out as they are shown; what is no video, or a part of one, is said in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2", reason="videos need OpenCV: pip install '.[opencv]'")

from npshapenet.video import Video, VideoError, opencv

_spec = spec_from_file_location("video_conftest", Path(__file__).with_name("conftest.py"))
assert _spec is not None
assert _spec.loader is not None
odd = module_from_spec(_spec)
_spec.loader.exec_module(odd)

MakeVideo = Callable[..., Path]
NetworkCamera = Callable[..., AbstractContextManager[str]]


def test_frames_and_times(make_video: MakeVideo) -> None:
    with Video(make_video(count=12)) as video:
        frames = list(video)
        assert video.frame_count == 12
        assert video.frames_per_second == pytest.approx(25)
    assert [frame.time_s for frame in frames] == pytest.approx([k / 25 for k in range(12)])
    for index, frame in enumerate(frames):
        # The codec is off by a few levels.
        assert frame.rgb[5, -5] == pytest.approx([40 + 5 * index] * 3, abs=6)
        red, green, blue = frame.rgb[5, 5].astype(int)
        assert red > 25 + 4 * index
        assert max(green, blue) < 20


def test_the_rotation_flag_is_obeyed(make_video: MakeVideo) -> None:
    path = make_video(count=3)
    odd.rotated_by_90(path)
    frame = next(iter(Video(path)))
    height, width = odd.SIZE
    assert frame.rgb.shape == (width, height, 3)
    # What was at the left is on top: a quarter clockwise.
    assert frame.rgb[5, 20, 1] < 20
    assert frame.rgb[-5, 20, 1] > 30


def test_a_rate_that_varies(make_video: MakeVideo) -> None:
    path = make_video("video.webm", 12)
    odd.delayed_from(path, 6, [40 * k for k in range(12)], 200)
    times = [frame.time_s for frame in Video(path)]
    expected = [0.04 * k + (0.2 if k >= 6 else 0) for k in range(12)]
    assert times == pytest.approx(expected, abs=1e-3)


def test_a_file_that_is_only_a_part(make_video: MakeVideo) -> None:
    path = make_video("video.avi", 40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = []
    with pytest.raises(VideoError, match=r"ends after \d+ of 40 frames"):
        frames.extend(Video(path))  # list() would lose what came before
    assert len(frames) >= 10


@pytest.mark.parametrize("content", [b"", b"no video" * 100, b"\x00\x00\x00\x1cftypisom"])
def test_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"video\.mp4: is not a video"):
        Video(path)


def test_no_frames(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "video.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48)).release()
    with pytest.raises(VideoError, match="holds no frame"):
        list(Video(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        Video(tmp_path / "video.mp4")
    with pytest.raises(VideoError, match="not a file"):
        Video(tmp_path)


def test_no_camera() -> None:
    with pytest.raises(VideoError, match="camera 99: there is no such camera"):
        Video(99)


class VanishingCamera:
    """A camera that is unplugged after three frames, in the place of cv2.VideoCapture."""

    def __init__(self, *_: Any) -> None:
        self.left = 3

    def isOpened(self) -> bool:
        return True

    def get(self, _: int) -> float:
        return -1.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.zeros((48, 64, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        pass


def test_a_camera_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoCapture", VanishingCamera)
    frames = []
    with pytest.raises(VideoError, match="camera 0: gives no more frames, after 3"):
        frames.extend(Video(0))
    times = [frame.time_s for frame in frames]
    assert times == sorted(set(times))
    assert len(times) == 3


def test_a_camera_in_the_network_that_ends(network_camera: NetworkCamera) -> None:
    shown = [odd.level_frame(40 + 5 * index) for index in range(20)]
    frames = []
    with network_camera(shown, 0.05) as address, Video(address) as video:
        assert video.is_camera
        assert video.frame_count is None
        with pytest.raises(VideoError, match=f"camera {address}: gives no more frames, after 20"):
            frames.extend(video)
    # The first are read at once, when it is opened; then each when it comes.
    assert [frame.rgb[5, -5, 0] for frame in frames] == pytest.approx(
        [40 + 5 * index for index in range(20)], abs=4
    )
    times = [frame.time_s for frame in frames]
    assert times == sorted(set(times))


def test_no_camera_in_the_network() -> None:
    # Port 9 (discard) of this machine, where nothing listens.
    with pytest.raises(VideoError, match=r"^camera http://127\.0\.0\.1:9/live: there is no such"):
        Video("http://user:password@127.0.0.1:9/live")


def test_without_opencv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.import_cv2.cache_clear()
    try:
        with pytest.raises(ImportError, match="pip install 'opencv-python-headless"):
            Video(tmp_path / "video.mp4")
    finally:
        opencv.import_cv2.cache_clear()
