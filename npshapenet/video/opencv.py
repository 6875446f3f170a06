"""OpenCV, imported when it is needed."""

from __future__ import annotations

import functools
import os
from typing import Any, Final

INSTALL: Final = "pip install 'opencv-python-headless>=4.8,<5'"
INSTALL_WINDOWS: Final = (
    "pip uninstall opencv-python-headless, then pip install 'opencv-python>=4.8,<5'"
)

#: FFmpeg's level at which it prints nothing.
_QUIET: Final = "-8"


@functools.cache
def import_cv2() -> Any:
    """The module cv2; ImportError, saying what to install, where there is none."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            f"videos need OpenCV, which isn't installed or doesn't work here "
            f"({' '.join(str(error).split())}): {INSTALL}"
        ) from error
    return cv2


def silence() -> None:
    """Keep OpenCV and FFmpeg, from now on, from printing on stderr: for a command line.

    FFmpeg's part has no effect once a video was opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _QUIET)
    import_cv2().utils.logging.setLogLevel(0)


def has_windows() -> bool:
    """Whether this OpenCV can show windows: the wheels named headless can't."""
    for line in import_cv2().getBuildInformation().splitlines():
        title, _, value = line.strip().partition(":")
        if title == "GUI":
            return str(value).strip() != "NONE"
    return False
