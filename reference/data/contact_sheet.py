"""A picture of many faces with their points: a person sees at a glance whether they fit."""

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from reference.atomic import write_atomically
from reference.data.dataset import Faces
from reference.data.markup import IBUG68, Markup

COLUMNS, ROWS = 8, 6
_TILE_PX = 336  # twice the side of a crop stored with the usual sizes
_CAPTION_PX = 14
_GAP_PX = 4
_CROP_COLOUR = (255, 255, 255)

# Lines through iBUG's points, from 0: first, one past the last, closed.
_LINES = (
    (0, 17, False, (80, 170, 255)),  # jaw
    (17, 22, False, (255, 200, 40)),  # the subject's right brow
    (22, 27, False, (255, 140, 40)),  # left brow
    (27, 31, False, (90, 230, 90)),  # nose, bridge
    (31, 36, False, (90, 230, 90)),  # nose, base
    (36, 42, True, (60, 240, 240)),  # right eye
    (42, 48, True, (200, 120, 255)),  # left eye
    (48, 60, True, (255, 80, 80)),  # mouth, outer
    (60, 68, True, (255, 150, 190)),  # mouth, inner
)


def draw_sheet(faces: Faces, columns: int = COLUMNS, rows: int = ROWS) -> Image.Image:
    """Return the first columns × rows faces in RGB.

    iBUG's points are coloured by region (one colour for each eye and brow, so that left and right
    can be told apart) and joined by lines; others have their numbers, and a colour each. The white
    square is what the network sees.
    """
    count = max(1, min(len(faces), columns * rows))
    columns = min(columns, count)
    rows = -(-count // columns)
    step_x, step_y = _TILE_PX + _GAP_PX, _TILE_PX + _CAPTION_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * step_x - _GAP_PX, rows * step_y - _GAP_PX))
    margin = faces.geometry.margin_px
    for index in range(min(len(faces), count)):
        x, y = index % columns * step_x, index // columns * step_y
        tile = _draw_face(faces.crops[index], faces.landmarks[index], margin, faces.markup)
        sheet.paste(tile, (x, y))
        caption = str(faces.names[index]).encode("ascii", "replace").decode()
        ImageDraw.Draw(sheet).text((x + 2, y + _TILE_PX), caption[-48:], fill=_CROP_COLOUR)
    return sheet


def write_sheet(path: Path, faces: Faces) -> None:
    """Write a contact sheet as PNG, atomically."""
    sheet = draw_sheet(faces)
    write_atomically(path, lambda file: sheet.save(file, format="PNG"))


def _draw_face(
    crop: NDArray[np.uint8], landmarks: NDArray[np.float32], margin_px: int, markup: Markup
) -> Image.Image:
    """One tile; crop: (S, S); landmarks: (L, 2) and margin in pixels of the crop."""
    zoom = _TILE_PX / crop.shape[0]
    size = (_TILE_PX, _TILE_PX)
    tile = Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(tile)
    near = round(margin_px * zoom)
    far = _TILE_PX - 1 - near
    draw.rectangle((near, near, far, far), outline=_CROP_COLOUR)
    # Pixel centres are at integers before and after the zoom, so half a pixel is added between.
    points = (landmarks.astype(np.float64) + 0.5) * zoom - 0.5
    if markup == IBUG68:
        _draw_lines(draw, points)
    else:
        _draw_numbered(draw, points)
    return tile


def _draw_lines(draw: ImageDraw.ImageDraw, points: NDArray[np.float64]) -> None:
    for first, end, closed, colour in _LINES:
        line = [(float(x), float(y)) for x, y in points[first:end]]
        draw.line(line + line[:1] if closed else line, fill=colour, width=1)
        for x, y in line:
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)


def _draw_numbered(draw: ImageDraw.ImageDraw, points: NDArray[np.float64]) -> None:
    for number, (x, y) in enumerate(points.tolist()):
        red, green, blue = colorsys.hsv_to_rgb(number / len(points), 0.7, 1.0)
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        draw.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=colour)
        draw.text((x + 4, y - 5), str(number), fill=colour)
