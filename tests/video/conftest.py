"""Small videos: moving stripes, so that each frame can be told from the next."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="videos need OpenCV: pip install '.[opencv]'")

from npshapenet.video import VideoFile

#: (height, width)
SIZE = (48, 64)


def level_frame(level: int) -> np.ndarray:
    """A frame of one gray level, red in its left half."""
    frame = np.full((*SIZE, 3), level, np.uint8)
    frame[:, : SIZE[1] // 2, 1:] = 0
    return frame


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """``make_video("a.mp4", 30)``: frames of levels 40, 45, …"""

    def make(name: str = "video.mp4", count: int = 30, frames_per_second: float = 25) -> Path:
        path = tmp_path / name
        with VideoFile(path, frames_per_second) as file:
            for index in range(count):
                file.write(level_frame(40 + 5 * index))
        return path

    return make


def rotated_by_90(path: Path, width: int = SIZE[1]) -> None:
    """Set an .mp4's rotation flag: the matrix in the header of its track (ISO 14496-12, 8.3.2).

    ``width`` is that of its frames as they are stored.
    """
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    values = (0, 1 << 16, 0, -1 << 16, 0, 0, width << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", *values)
    path.write_bytes(content)


def delayed_from(path: Path, first: int, times_ms: list[int], delay_ms: int) -> None:
    """Show the frames of a .webm from the first on later: the times of its blocks are changed."""
    content = bytearray(path.read_bytes())
    place = content.index(b"\x1f\x43\xb6\x75")  # the first cluster (Matroska)
    for number, time_ms in enumerate(times_ms):
        # A SimpleBlock: 0xa3, its length, the track's number, the time, flags.
        wanted = b"\x81" + struct.pack(">h", time_ms)
        while True:
            place = content.index(wanted, place)
            if content[place + 3] & 0x7F == 0:
                break
            place += 1
        if number >= first:
            content[place + 1 : place + 3] = struct.pack(">h", time_ms + delay_ms)
        place += 4
    path.write_bytes(content)
