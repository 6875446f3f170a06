"""Landmarks drawn onto photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageDraw

from npshapenet.image import to_rgb
from npshapenet.markup import CLOSED_REGIONS, LANDMARK_COUNT, REGIONS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Colour = str | tuple[int, int, int]

#: Colours that stand apart on skin of any tone, also to eyes that don't tell red from green.
REGION_COLOURS: Final[dict[str, Colour]] = {
    "jaw": "#56b4e9",
    "right_eyebrow": "#f0e442",
    "left_eyebrow": "#f0e442",
    "nose_bridge": "#00d09c",
    "nose_base": "#00d09c",
    "right_eye": "#ffffff",
    "left_eye": "#ffffff",
    "outer_lips": "#ff7ab8",
    "inner_lips": "#ff7ab8",
}
POINT_COLOUR: Final[Colour] = "#56b4e9"

#: Drawn this many times as large and then shrunk, so that edges are smooth; less on huge faces.
_SUPERSAMPLING: Final = 8
_CANVAS_MAX_PX: Final = 4000


def draw_landmarks(
    photo: Image.Image, landmarks: ArrayLike, colour: Colour | None = None
) -> Image.Image:
    """A copy of a photo (mode RGB, upright) with the landmarks of one or several faces on it.

    ``landmarks`` (L, 2) or (N, L, 2): x, y in pixels of the photo, the centre of the top-left one
    is (0, 0); what lies outside is not seen. 68 points are drawn as dots and as the lines of their
    regions, any other number as dots. Everything is in ``colour``, or each region in its own.
    Lines are as thick as suits the size of the face. ValueError if there are NaN or infinite
    numbers, or the shape is another.
    """
    points = np.asarray(landmarks, np.float64)
    if points.ndim not in (2, 3) or points.shape[-1] != 2:
        raise ValueError(f"landmarks must be (L, 2) or (N, L, 2); got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite numbers; got NaN or infinity")
    drawn = to_rgb(photo).copy()
    if points.size:
        for face in points.reshape(-1, *points.shape[-2:]):
            _draw_face(drawn, face, colour)
    return drawn


def _draw_face(photo: Image.Image, points: Floats, colour: Colour | None) -> None:
    extent = float(np.ptp(points, axis=0).max())
    line_width, dot_radius = max(1.0, extent / 160), max(1.2, extent / 110)
    if len(points) != LANDMARK_COUNT:
        dot_radius *= 2  # without lines between them, dots are hard to see

    # Only the face's surroundings are drawn large. Edges of pixels, not centres.
    margin = dot_radius + 2
    corners = np.floor(points.min(axis=0) - margin), np.ceil(points.max(axis=0) + margin + 1)
    left, top = (int(edge) for edge in np.clip(corners[0], 0, photo.size))
    right, bottom = (int(edge) for edge in np.clip(corners[1], 0, photo.size))
    if left >= right or top >= bottom:
        return
    enlargement = max(1, min(_SUPERSAMPLING, _CANVAS_MAX_PX // max(right - left, bottom - top)))
    size = ((right - left) * enlargement, (bottom - top) * enlargement)
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    on_canvas = (points + 0.5 - (left, top)) * enlargement - 0.5
    _draw_regions(
        ImageDraw.Draw(canvas),
        on_canvas,
        line_width * enlargement,
        dot_radius * enlargement,
        colour,
    )
    smooth = canvas.reduce(enlargement)
    photo.paste(smooth, (left, top), smooth)


def _draw_regions(
    draw: ImageDraw.ImageDraw,
    points: Floats,
    line_width: float,
    dot_radius: float,
    colour: Colour | None,
) -> None:
    if len(points) != LANDMARK_COUNT:
        _draw_dots(draw, points, dot_radius, colour or POINT_COLOUR)
        return
    for region, indices in REGIONS.items():
        region_colour = colour or REGION_COLOURS[region]
        ends = indices[:1] if region in CLOSED_REGIONS else ()
        line: Any = [tuple(point) for point in points[[*indices, *ends]].tolist()]
        draw.line(line, region_colour, round(line_width), joint="curve")
        _draw_dots(draw, points[indices], dot_radius, region_colour)


def _draw_dots(draw: ImageDraw.ImageDraw, points: Floats, radius: float, colour: Colour) -> None:
    for x, y in points.tolist():
        # Pillow would cut the fractions off, which moves the dot to the left and up.
        edges = x - radius, y - radius, x + radius, y + radius
        draw.ellipse([round(edge) for edge in edges], colour)
