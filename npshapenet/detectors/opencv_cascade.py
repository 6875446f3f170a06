"""OpenCV's frontal face cascade (Viola and Jones, "Robust Real-Time Face Detection", 2004)."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from npshapenet.detectors.framing import Framing
from npshapenet.detectors.size import smallest_face_px
from npshapenet.image import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fitted by python -m reference.fit_detectors opencv --labels 300w/train/labels.xml
FRAMING: Final = Framing(scale=0.894, shift_x=0.0, shift_y=0.073)

_INSTALL: Final = "pip install 'opencv-python-headless>=4.8,<5'"
_CASCADE: Final = "haarcascade_frontalface_default.xml"
#: The cascade's window: it finds no smaller faces.
_WINDOW_PX: Final = 24
#: The cascade's window must lie in the picture as a whole. So the photo gets a margin, this share
#: of its shorter side, which finds twice as many faces where these fill the photo.
_MARGIN_SHARE: Final = 1 / 6


class OpenCVDetector:
    """Upright frontal faces, by the cascade that comes in OpenCV's wheel.

    Faces at least ``face_min_px`` wide are looked for; None: as ``smallest_face_px`` says.
    ``neighbours`` is how many overlapping windows make a face: fewer find more faces, and more
    that are none. ``framing`` takes OpenCV's boxes to those of the models. Threads may share it,
    one at a time. ImportError without OpenCV 4, or with a build of it that has no cascade.
    """

    def __init__(
        self, face_min_px: float | None = None, neighbours: int = 5, framing: Framing = FRAMING
    ) -> None:
        self._cv2, self._cascade = _load()
        self._face_min_px = face_min_px
        self._neighbours = neighbours
        self._framing = framing
        self._lock = threading.Lock()

    def __call__(self, photo: NDArray[np.uint8], /) -> list[Box]:
        """The faces in a photo, ``uint8`` (H, W, 3), red, green, blue; the largest first."""
        gray = self._cv2.cvtColor(photo, self._cv2.COLOR_RGB2GRAY)
        height, width = gray.shape
        side = max(_WINDOW_PX, round(self._face_min_px or smallest_face_px(width, height)))
        margin = round(_MARGIN_SHARE * min(width, height))
        margins = (margin, margin, margin, margin)
        widened = self._cv2.copyMakeBorder(gray, *margins, self._cv2.BORDER_REPLICATE)
        with self._lock:
            found = self._cascade.detectMultiScale(
                widened, scaleFactor=1.1, minNeighbors=self._neighbours, minSize=(side, side)
            )
        boxes = [
            Box.from_ltwh(left - margin, top - margin, box_width, box_height)
            for left, top, box_width, box_height in np.asarray(found, float).reshape(-1, 4).tolist()
        ]
        framed = [self._framing(box) for box in boxes if _is_in(box, width, height)]
        return sorted(framed, key=lambda box: box.width, reverse=True)


def _is_in(box: Box, width: int, height: int) -> bool:
    """Whether the middle of a box lies in the photo and not in its margin."""
    return 0 < box.left + box.right < 2 * width and 0 < box.top + box.bottom < 2 * height


def _load() -> tuple[Any, Any]:
    """OpenCV's module, and the cascade."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            f"OpenCV isn't installed or doesn't work here ({error}): {_INSTALL}"
        ) from error
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = os.path.join(folder, _CASCADE)
    if not hasattr(cv2, "CascadeClassifier") or not os.path.isfile(path):
        raise ImportError(
            f"OpenCV {cv2.__version__} comes without the face cascade, as versions from 5 on do: "
            f"{_INSTALL}"
        )
    cascade = cv2.CascadeClassifier(path)
    if cascade.empty():
        raise ImportError(f"OpenCV {cv2.__version__} can't read {path}: {_INSTALL}")
    return cv2, cascade
