"""How a detector frames a face, against how the models' boxes do."""

from __future__ import annotations

from dataclasses import dataclass

from npshapenet.image import Box


@dataclass(frozen=True)
class Framing:
    """From a detector's box to the square box of the same face that the models expect.

    ``scale`` is the side over the longer side of the detector's box; ``shift_x`` and ``shift_y``
    move the centre, in the same unit, right and down.
    """

    scale: float
    shift_x: float
    shift_y: float

    def __call__(self, box: Box) -> Box:
        """The box that the models expect."""
        longer = max(box.width, box.height)
        half = self.scale * longer / 2
        centre_x = (box.left + box.right) / 2 + self.shift_x * longer
        centre_y = (box.top + box.bottom) / 2 + self.shift_y * longer
        return Box(centre_x - half, centre_y - half, centre_x + half, centre_y + half)
