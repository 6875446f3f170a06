"""A group photo and two clips composed from the demo's faces, moved in a known way.

So the true landmarks move along. Each face is cut out as a square around its box, resized, and
pasted onto a gray canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reference.clips import FRAMES_PER_SECOND, MOTIONS, Clip
from reference.illustrations.demo_face import DemoFace, Floats

#: The side of what is cut out, in sides of the face's box: with hair and chin.
CUT_OUT: Final = 1.9
BACKGROUND: Final = (128, 128, 128)

#: The sides of the boxes in the group photo, in pixels; the demo's faces take turns.
GROUP_SIDES_PX: Final = (140, 90, 60, 120, 90, 50)

CLIP_SIZE: Final = (560, 240)
CROSSING_FRAMES: Final = 180
#: The boxes of the two that cross, in pixels; the second passes in front of the first.
CROSSING_SIDES_PX: Final = (90, 110)
#: Where the centres of their boxes are at some frames; between these they move evenly. The second
#: leaves slowly: of a lost face the Tracker looks for where it was heading.
WALKER_X: Final = ((0, 90.0), (70, 430.0))
LEAVER_X: Final = ((0, 460.0), (120, -35.0), (130, -35.0), (165, 130.0))

STILL_SIZE: Final = (240, 200)
STILL_FRAMES: Final = 90
STILL_SIDE_PX: Final = 90
#: The standard deviation of the noise, in gray levels of 256: that of the report on steadiness.
STILL_NOISE_LEVELS: Final = 4.0


@dataclass(frozen=True, eq=False)
class Placed:
    """A demo face on a canvas: where the centre of its box is, and how large the box, in pixels."""

    face: DemoFace
    x: float
    y: float
    side_px: float

    @property
    def landmarks(self) -> Floats:
        """The labels (68, 2) where they are on the canvas."""
        left, top = self._source_corner()
        # Edges are multiplied, centres are not: half a pixel lies between them.
        scaled = (self.face.landmarks + 0.5 - [left, top]) * self._scale() - 0.5
        moved: Floats = scaled + self._corner()
        return moved

    def paste_onto(self, canvas: Image.Image) -> None:
        """Paste the face, at whole pixels."""
        left, top = self._source_corner()
        cut_px = self._cut_out_px()
        source_px = cut_px / self._scale()
        cut_out = self.face.photo.resize(
            (cut_px, cut_px),
            Image.Resampling.BICUBIC,
            box=(left, top, left + source_px, top + source_px),
        )
        canvas.paste(cut_out, self._corner())

    def _cut_out_px(self) -> int:
        return round(CUT_OUT * self.side_px)

    def _scale(self) -> float:
        return self._cut_out_px() / (CUT_OUT * self.face.box.width)

    def _source_corner(self) -> tuple[float, float]:
        """The edges of the cut-out in the photo, left and top."""
        box = self.face.box
        half_px = CUT_OUT * box.width / 2
        return (box.left + box.right) / 2 - half_px, (box.top + box.bottom) / 2 - half_px

    def _corner(self) -> tuple[int, int]:
        """The same on the canvas."""
        half_px = self._cut_out_px() / 2
        return round(self.x - half_px), round(self.y - half_px)


def picture_of(faces: Sequence[Placed], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The canvas (H, W, 3) of that width and height with the faces, the last one in front."""
    canvas = Image.new("RGB", size, BACKGROUND)
    for face in faces:
        face.paste_onto(canvas)
    return np.asarray(canvas)


def group_photo(faces: Sequence[DemoFace]) -> tuple[NDArray[np.uint8], list[Placed]]:
    """All faces side by side, several times, at several sizes; and where they are."""
    height = round(CUT_OUT * max(GROUP_SIDES_PX))
    placed = []
    left = 0.0
    for place, side_px in enumerate(GROUP_SIDES_PX):
        half_px = CUT_OUT * side_px / 2
        face = faces[place % len(faces)]
        placed.append(Placed(face, left + half_px, height - half_px, side_px))
        left += 2 * half_px
    return picture_of(placed, (round(left), height)), placed


def crossing(faces: Sequence[DemoFace], frame: int) -> Mapping[str, Placed]:
    """Who is where in a frame of the clip of two that cross, by name; the last one in front.

    One walks to the right, and the other to the left at the same height, in front of the first,
    out of the frame, and back in.
    """
    first, second = faces
    first_px, second_px = CROSSING_SIDES_PX
    y = CLIP_SIZE[1] / 2
    return {
        "walker": Placed(first, _x_at(frame, WALKER_X), y, first_px),
        "leaver": Placed(second, _x_at(frame, LEAVER_X), y, second_px),
    }


def _x_at(frame: int, places: Sequence[tuple[int, float]]) -> float:
    """Where a face is in a frame, by (frame, x) of some."""
    frames, xs = np.array(places).T
    return float(np.interp(frame, frames, xs))


def still_clip(face: DemoFace) -> Clip:
    """A face that doesn't move, with fresh noise in each frame."""
    width, height = STILL_SIZE
    placed = Placed(face, width / 2, height / 2, STILL_SIDE_PX)
    gray = np.asarray(Image.fromarray(picture_of([placed], STILL_SIZE)).convert("L"))
    half_px = STILL_SIDE_PX / 2
    box = placed.x - half_px, placed.y - half_px, placed.x + half_px, placed.y + half_px
    return Clip(
        gray, box, placed.landmarks, MOTIONS["still"], STILL_FRAMES, STILL_NOISE_LEVELS, seed=0
    )


def time_s(frame: int) -> float:
    """When a frame of a clip is seen."""
    return frame / FRAMES_PER_SECOND
