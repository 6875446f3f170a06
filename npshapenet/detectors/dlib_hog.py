"""dlib's frontal face detector: histograms of oriented gradients (King, "Max-Margin Object
Detection", arXiv 1502.00046)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from npshapenet.detectors.framing import Framing
from npshapenet.detectors.size import smallest_face_px
from npshapenet.image import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fitted by python -m reference.fit_detectors dlib --labels 300w/train/labels.xml
FRAMING: Final = Framing(scale=1.033, shift_x=-0.003, shift_y=0.008)

_INSTALL: Final = "pip install dlib-bin"
#: The detector's window: it finds no smaller faces, so the photo is resized to have none.
_WINDOW_PX: Final = 80


class DlibDetector:
    """Upright frontal and slightly turned faces, by the detector that comes with dlib.

    Faces at least ``face_min_px`` wide are looked for; None: as ``smallest_face_px`` says.
    ``threshold`` is what a face must score: less than 0 finds more faces, and more that are none.
    ``framing`` takes dlib's boxes to those of the models. ImportError without dlib.
    """

    def __init__(
        self, face_min_px: float | None = None, threshold: float = 0.0, framing: Framing = FRAMING
    ) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ImportError(
                f"dlib isn't installed or doesn't work here ({error}): {_INSTALL}"
            ) from error
        self._detector = dlib.get_frontal_face_detector()
        self._face_min_px = face_min_px
        self._threshold = threshold
        self._framing = framing

    def __call__(self, photo: NDArray[np.uint8], /) -> list[Box]:
        """The faces in a photo, ``uint8`` (H, W, 3), red, green, blue; the most certain first."""
        from PIL import Image

        height, width = photo.shape[:2]
        scale = _WINDOW_PX / (self._face_min_px or smallest_face_px(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        gray = Image.fromarray(photo).convert("L").resize(size, Image.Resampling.BILINEAR)
        found, _, _ = self._detector.run(np.asarray(gray), 0, self._threshold)
        return [
            self._framing(_in_photo(Box.from_dlib(each), width / size[0], height / size[1]))
            for each in found
        ]


def _in_photo(box: Box, scale_x: float, scale_y: float) -> Box:
    """A box in the resized photo → the same in the photo: edges are multiplied, centres are not."""
    return Box(box.left * scale_x, box.top * scale_y, box.right * scale_x, box.bottom * scale_y)
