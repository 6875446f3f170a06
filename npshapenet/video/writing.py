"""A video file, written frame by frame, that is there whole or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from npshapenet.atomic import replacement
from npshapenet.video.errors import VideoError
from npshapenet.video.opencv import import_cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The codec for each ending: what OpenCV's wheels can write and most players play.
CODECS: Final = {
    ".mp4": "mp4v",
    ".m4v": "mp4v",
    ".mov": "mp4v",
    ".mkv": "mp4v",
    ".avi": "MJPG",
    ".webm": "VP80",
}

#: Longer pauses between two frames are cut to this.
_PAUSE_MAX_S: Final = 10.0


class VideoFile:
    """A video that frames are written to; ``path`` is replaced when it is closed.

    ::

        with VideoFile("out.mp4", frames_per_second=30) as file:
            for rgb in frames:
                file.write(rgb)

    All frames have the size of the first; an odd width or height loses its last column or row.
    ``write`` takes the time of a frame as well: the file's rate is constant, so where frames come
    at another, some are repeated (``repeated`` counts them) or left out (``left_out``). Leaving
    ``with`` by an exception leaves ``path`` as it was; so does closing without a frame.

    VideoError for an ending that isn't in CODECS, and for what can't be written or, checked at
    the end, wasn't written whole; ImportError without OpenCV.
    """

    def __init__(self, path: str | os.PathLike[str], frames_per_second: float) -> None:
        import_cv2()
        self.path = os.fspath(path)
        self._ending = os.path.splitext(self.path)[1].lower()
        if self._ending not in CODECS:
            raise VideoError(f"{self.path} ends in none of {', '.join(CODECS)}")
        if not 0 < frames_per_second < np.inf:
            raise VideoError(f"frames_per_second must be positive, not {frames_per_second}")
        self.frames_per_second = frames_per_second
        self.frame_count = self.repeated = self.left_out = 0
        self._start_s = 0.0
        self._writer: Any = None
        self._size: tuple[int, int] | None = None
        self._last: NDArray[np.uint8] | None = None
        self._temporary = ""
        self._stack = ExitStack()

    def write(self, rgb: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Append a frame, ``uint8`` (H, W, 3); ``time_s``: when it is shown, None: next.

        ValueError for another form or size.
        """
        rgb = np.asarray(rgb)
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or min(rgb.shape[:2]) < 2:
            raise ValueError(
                f"a frame is uint8 (H, W, 3), at least 2×2; got {rgb.dtype} {rgb.shape}"
            )
        size = rgb.shape[1], rgb.shape[0]
        if self._writer is None:
            self._open(size)
            self._start_s = time_s or 0.0
        elif size != self._size:
            raise ValueError(f"{self.path}: a frame of {size} after those of {self._size}")
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        if time_s is not None:
            due = self._due(time_s)
            if due < self.frame_count:
                self.left_out += 1
                return
            for _ in range(due - self.frame_count):
                self.repeated += 1
                self._append(self._last)
        self._append(bgr)
        self._last = bgr

    def close(self) -> None:
        """Complete the file, look whether it is whole, and put it in its place."""
        if self._writer is None:
            return
        with self._stack:
            self._release()
            self._check_whole()

    def discard(self) -> None:
        """Leave ``path`` as it was."""
        if self._writer is not None:
            self._release()
            unwanted = VideoError(f"{self.path} is discarded")
            self._stack.__exit__(type(unwanted), unwanted, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, size: tuple[int, int]) -> None:
        cv2 = import_cv2()
        folder = os.path.dirname(os.path.realpath(self.path))
        if not os.access(folder, os.W_OK):
            raise VideoError(f"{self.path} can't be written: folder {folder} can't")
        context = replacement(os.path.realpath(self.path), self._ending)
        self._temporary = self._stack.enter_context(context)
        codec = cv2.VideoWriter_fourcc(*CODECS[self._ending])
        self._writer = cv2.VideoWriter(
            self._temporary, cv2.CAP_FFMPEG, codec, self.frames_per_second, size
        )
        self._size = size
        if not self._writer.isOpened():
            self.discard()
            raise VideoError(
                f"{self.path} can't be written: this OpenCV makes no {self._ending} of "
                f"{size[0]}×{size[1]} at {self.frames_per_second:g} frames a second"
            )

    def _due(self, time_s: float) -> int:
        """The place in the file of a frame that is shown then."""
        due = round((time_s - self._start_s) * self.frames_per_second)
        pause = due - self.frame_count
        pause_max = round(_PAUSE_MAX_S * self.frames_per_second)
        if pause > pause_max:
            self._start_s += (pause - pause_max) / self.frames_per_second
            due = self.frame_count + pause_max
        return due

    def _append(self, bgr: NDArray[np.uint8] | None) -> None:
        self._writer.write(bgr)
        self.frame_count += 1

    def _release(self) -> None:
        self._writer.release()

    def _check_whole(self) -> None:
        """Read back how many frames there are: OpenCV doesn't tell of a write that failed."""
        cv2 = import_cv2()
        capture = cv2.VideoCapture(self._temporary, cv2.CAP_FFMPEG)
        try:
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
            is_read = count > 0 and capture.read()[0]
        finally:
            capture.release()
        # The count of .mkv and .webm is reckoned from their duration in milliseconds.
        if not is_read or abs(count - self.frame_count) > 1:
            raise VideoError(
                f"{self.path} couldn't be written whole: {max(count, 0)} of {self.frame_count} "
                "frames arrived; is the disk full?"
            )
