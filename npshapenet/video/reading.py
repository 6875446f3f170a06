"""The frames of a video file or a camera, with their times."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from npshapenet.video.errors import VideoError
from npshapenet.video.opencv import import_cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Taken where a video doesn't say its own, or says nonsense.
_FRAMES_PER_SECOND: Final = 30.0
_FRAMES_PER_SECOND_MAX: Final = 1000.0
#: Some files count a frame or two more than they hold: only more than these is a loss.
_MISSING_FRAMES_MAX: Final = 2
_MISSING_SHARE_MAX: Final = 0.02
#: How the address of a camera in the network begins.
_ADDRESSES: Final = ("http://", "https://", "rtsp://")
#: A camera in the network that is silent for so long is gone.
_SILENCE_MAX_MS: Final = 10_000


@dataclass(frozen=True, eq=False)
class Frame:
    """``rgb``, ``uint8`` (H, W, 3), and when it is shown: seconds, which increase."""

    rgb: NDArray[np.uint8]
    time_s: float


class Video:
    """A video file, by its path, or a camera; iterate over its frames once.

    A camera is given by its number (0 is the first) or, one in the network, by its address:
    ``http://``, ``https://`` or ``rtsp://``.

    Frames are turned as the file's rotation flag says. ``frames_per_second`` is the mean rate;
    each frame has the time that the file gives it, so that the rate may vary; a camera's frames
    have the time at which they came. ``frame_count`` is what the file says, None for a camera and
    where it says nothing.

    ImportError without OpenCV; VideoError where there is no such file or camera, the file is no
    video, or, from the iteration, it holds no frame or ends before its end: after the last frame
    that could be read.
    """

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        cv2 = import_cv2()
        self.is_camera = isinstance(source, int) or _is_address(source)
        self.name = _name(source)
        self._capture = _capture(cv2, source)
        if not self._capture.isOpened():
            raise VideoError(
                f"{self.name}: there is no such camera, or it is in use"
                if self.is_camera
                else f"{self.name}: is not a video in any form that OpenCV reads, or only a part"
            )
        self.frames_per_second = self._read_rate(cv2)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if 0 < count < 1e9 and not self.is_camera else None

    def __iter__(self) -> Iterator[Frame]:
        """The frames in their order."""
        cv2 = import_cv2()
        start_s = time.monotonic()
        time_s = -math.inf
        count = 0
        while True:
            try:
                is_read, bgr = self._capture.read()
            except cv2.error as error:
                raise VideoError(f"{self.name}: frame {count} can't be read: {error}") from error
            if not is_read:
                break
            if self.is_camera:
                said_s = time.monotonic() - start_s
            else:
                said_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Where times are missing or go back, the mean rate takes their place.
            is_later = math.isfinite(said_s) and said_s > time_s
            time_s = said_s if is_later else max(time_s, 0.0) + 1 / self.frames_per_second
            count += 1
            yield Frame(bgr[..., ::-1], time_s)
        self._check_end(count)

    def close(self) -> None:
        """Let go of the file or the camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read_rate(self, cv2: Any) -> float:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate <= _FRAMES_PER_SECOND_MAX else _FRAMES_PER_SECOND

    def _check_end(self, count: int) -> None:
        if self.is_camera:
            raise VideoError(f"{self.name}: gives no more frames, after {count}")
        if count == 0:
            raise VideoError(f"{self.name}: holds no frame that can be read")
        if self.frame_count is not None:
            missing = self.frame_count - count
            if missing > max(_MISSING_FRAMES_MAX, _MISSING_SHARE_MAX * self.frame_count):
                raise VideoError(
                    f"{self.name}: ends after {count} of {self.frame_count} frames; "
                    "is it only a part?"
                )


def _name(source: str | os.PathLike[str] | int) -> str:
    if isinstance(source, int):
        return f"camera {source}"
    if _is_address(source):
        # It may hold a password, which is not for messages.
        return "camera " + re.sub("//[^/]*@", "//", os.fspath(source))
    return os.fspath(source)


def _capture(cv2: Any, source: str | os.PathLike[str] | int) -> Any:
    if isinstance(source, int):
        return cv2.VideoCapture(source)
    path = os.fspath(source)
    if _is_address(source):
        waits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        settings = [number for wait in waits for number in (wait, _SILENCE_MAX_MS)]
        return cv2.VideoCapture(path, cv2.CAP_FFMPEG, settings)
    if not os.path.exists(path):
        raise VideoError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise VideoError(f"{path}: is not a file")
    # Other readers would take a picture for the first of a numbered series.
    return cv2.VideoCapture(path, cv2.CAP_FFMPEG)


def _is_address(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a camera's address in the network, and no path."""
    return os.fspath(source).startswith(_ADDRESSES)
