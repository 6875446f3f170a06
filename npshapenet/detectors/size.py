"""How small the faces are that a detector looks for, where nobody says."""

from __future__ import annotations

from typing import Final

#: Smaller faces than this are mostly beyond both detectors, and cost most of their time.
_FACE_MIN_PX: Final = 40
#: On large photos: this share of the shorter side.
_FACE_MIN_SHARE: Final = 1 / 20


def smallest_face_px(width: int, height: int) -> float:
    """The side of the smallest face looked for in a photo of that size.

    40 pixels, or a twentieth of the photo's shorter side where that is more, so that the time
    grows no faster than the photo.
    """
    return max(_FACE_MIN_PX, _FACE_MIN_SHARE * min(width, height))
