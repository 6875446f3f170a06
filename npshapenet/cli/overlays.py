"""Photos with their landmarks drawn on them, as picture files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npshapenet.cli.errors import FAILED, USAGE, CommandError, reason
from npshapenet.drawing import draw_landmarks

#: How Pillow writes a file, by its ending.
_SETTINGS_OF_ENDING: Final[dict[str, dict[str, Any]]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 92},
    ".jpeg": {"format": "JPEG", "quality": 92},
    ".webp": {"format": "WEBP", "quality": 92},
    ".tif": {"format": "TIFF"},
    ".tiff": {"format": "TIFF"},
    ".bmp": {"format": "BMP"},
}


def check_picture_name(path: Path) -> None:
    """CommandError if the file's ending is no picture's that can be written."""
    if path.suffix.lower() not in _SETTINGS_OF_ENDING:
        endings = ", ".join(_SETTINGS_OF_ENDING)
        raise CommandError(f"{path} ends in none of {endings}, nor is it a folder", USAGE)


def overlay(image: Image.Image, faces: Sequence[NDArray[np.float32]], path: Path) -> bytes:
    """What the picture file of that name holds: the photo with each face's landmarks (L, 2)."""
    drawn = draw_landmarks(image, np.stack(faces))
    content = io.BytesIO()
    try:
        drawn.save(content, **_SETTINGS_OF_ENDING[path.suffix.lower()])
    except (OSError, ValueError, KeyError) as error:  # too large for the form, or it isn't built in
        raise CommandError(f"{path} can't be made: {reason(error)}", FAILED) from error
    return content.getvalue()
