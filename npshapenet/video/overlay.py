"""Landmarks drawn onto frames: less finely than ``npshapenet.drawing``, and far faster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import ImageColor

from npshapenet.drawing import REGION_COLOURS
from npshapenet.faces import Face
from npshapenet.markup import CLOSED_REGIONS, REGIONS
from npshapenet.video.opencv import import_cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: OpenCV takes coordinates in units of 2**-4 pixels.
_FRACTION_BITS: Final = 4
_COLOURS: Final = {
    region: ImageColor.getrgb(str(colour)) for region, colour in REGION_COLOURS.items()
}


def draw_faces(rgb: NDArray[np.uint8], faces: Iterable[Face]) -> NDArray[np.uint8]:
    """A copy of a frame, ``uint8`` (H, W, 3), with the landmarks of faces, and their ids."""
    cv2 = import_cv2()
    drawn = rgb.copy(order="C")
    for face in faces:
        extent = float(np.ptp(face.landmarks, axis=0).max())
        thickness = max(1, round(extent / 160))
        points = np.rint(face.landmarks * 2**_FRACTION_BITS).astype(np.int32)
        for region, indices in REGIONS.items():
            cv2.polylines(
                drawn,
                [points[indices]],
                region in CLOSED_REGIONS,
                _COLOURS[region],
                thickness,
                cv2.LINE_AA,
                _FRACTION_BITS,
            )
        if face.id is not None:
            _write_id(drawn, face, extent, thickness)
    return drawn


def _write_id(drawn: NDArray[np.uint8], face: Face, extent: float, thickness: int) -> None:
    """The number above the face's box, at its left."""
    cv2 = import_cv2()
    height = max(0.4, extent / 200)
    x, y = round(face.box.left), max(round(face.box.top) - 4, round(24 * height))
    for colour, width in (((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness)):
        cv2.putText(
            drawn,
            str(face.id),
            (x, y),
            cv2.FONT_HERSHEY_SIMPLEX,
            height,
            colour,
            width,
            cv2.LINE_AA,
        )
