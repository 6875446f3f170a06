"""Faces shown worse than they are labelled: the box shifted and scaled, the face turned.

How much of that a model stands decides how it does behind another face detector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reference.data.face import Box
from reference.views import View, crop_corners, lie_inside

Floats = NDArray[np.float64]

#: A turned photo reaches this many box sides from the centre of the box: what a crop of 1.5 × a
#: box can need that is shifted and scaled by a half.
_REACH: Final = 1.75
#: What a crop of 1.5 × the box needs of it, and a little more.
_REACH_OF_CROP: Final = 0.8


@dataclass(frozen=True)
class Perturbation:
    """How far faces are changed; each change is drawn evenly from between ± its bound.

    ``shift`` is a share of the box's sides, ``scale`` of its size (0.15: from 0.85 to 1.15 times),
    ``turn_deg`` an angle around the box's centre. The same seed and place in a set always draw
    the same. ValueError for a bound that is negative, or beyond 0.5, 0.5 and 180.
    """

    shift: float = 0.0
    scale: float = 0.0
    turn_deg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {"shift": self.shift, "scale": self.scale, "turn": self.turn_deg}
        for (name, bound), limit in zip(bounds.items(), (0.5, 0.5, 180), strict=True):
            if not 0 <= bound <= limit:
                raise ValueError(f"{name} {bound:g}: accepted: 0 to {limit:g}")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: accepted: 0 and above")

    def __str__(self) -> str:
        return f"shift ±{self.shift:g}, scale ±{self.scale:g}, turn ±{self.turn_deg:g}°"

    def __call__(self, view: View, place: int) -> View:
        """Change the view of the face at a place of its set."""
        drawn = np.random.default_rng((self.seed, place)).uniform(-1, 1, 4)
        shift_x, shift_y, growth, turn = (float(number) for number in drawn)
        box = changed_box(view.box, self.shift * shift_x, self.shift * shift_y, self.scale * growth)
        reach = self.shift + _REACH_OF_CROP * (1 + self.scale)
        return turned(view, box, math.radians(self.turn_deg * turn), reach)


def changed_box(box: Box, shift_x: float, shift_y: float, growth: float) -> Box:
    """A box moved by shares of its sides, then grown around its centre by a share of them."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    more_x, more_y = growth * width / 2, growth * height / 2
    x, y = shift_x * width, shift_y * height
    return left + x - more_x, top + y - more_y, right + x + more_x, bottom + y + more_y


def turned(view: View, box: Box, angle_rad: float, reach: float = _REACH) -> View:
    """A view in which the face is turned, clockwise on the screen, around the view's box's centre.

    ``box`` takes the place of the view's: it says what is seen of the turned photo, and isn't
    turned itself. Outside the photo its nearest pixel is repeated. The new photo reaches ``reach``
    box sides from the centre, by default as far as a crop may need; the new view is inside where
    1.5 × the box needs no pixel from outside the old.
    """
    left, top, right, bottom = view.box
    centre = np.array([left + right, top + bottom]) / 2
    rotation = _rotation(angle_rad)
    is_inside = lie_inside((crop_corners(box) - centre) @ rotation + centre, view.photo)
    if angle_rad == 0:
        return View(view.photo, box, view.landmarks, is_inside)
    side_px = 2 * math.ceil(reach * max(right - left, bottom - top))
    photo = _turned_square(view.photo, centre, angle_rad, side_px)
    # Landmarks count from pixel centres, the box and the centre from pixel edges.
    landmarks = (view.landmarks + 0.5 - centre) @ rotation.T + side_px / 2 - 0.5
    x, y = (float(number) for number in side_px / 2 - centre)
    left, top, right, bottom = box
    return View(photo, (left + x, top + y, right + x, bottom + y), landmarks, is_inside)


def _rotation(angle_rad: float) -> Floats:
    """R (2, 2), clockwise on the screen for columns (x, y): rows of points @ R.T are turned."""
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[cosine, -sine], [sine, cosine]])


def _turned_square(
    photo: Image.Image, centre: Floats, angle_rad: float, side_px: int
) -> Image.Image:
    """The square around a point of a photo, after the photo was turned around that point."""
    # First a square of the photo that holds the turned one, its outside filled: Pillow's
    # transform fills with black.
    reach = math.ceil(side_px / math.sqrt(2)) + 2
    corner = np.floor(centre).astype(int) - reach
    columns = np.clip(np.arange(corner[0], corner[0] + 2 * reach + 1), 0, photo.width - 1)
    rows = np.clip(np.arange(corner[1], corner[1] + 2 * reach + 1), 0, photo.height - 1)
    filled = Image.fromarray(np.asarray(photo)[np.ix_(rows, columns)])
    # Where a pixel of the turned square comes from, in edges: back around the centre.
    back = _rotation(-angle_rad)
    offset = centre - corner - back @ np.array([side_px, side_px]) / 2
    matrix = (*back[0], offset[0], *back[1], offset[1])
    return filled.transform(
        (side_px, side_px), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
