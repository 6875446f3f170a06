"""A picture of many faces with their true and their predicted landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from npshapenet.markup import CLOSED_REGIONS, LANDMARK_COUNT, REGIONS
from reference.atomic import write_atomically
from reference.views import View

Floats = NDArray[np.float64]
Choice = Literal["worst", "typical", "best"]

TRUTH_COLOUR: Final = (60, 230, 90)
PREDICTION_COLOUR: Final = (255, 70, 200)

_TILE_PX = 240
_GAP_PX = 4
_LINE_PX = 15
_ROOM = 1.5  # side of the tile over that of the box: what ShapeNet sees
_PAPER = (24, 24, 24)
_INK = (240, 240, 240)


@dataclass(frozen=True, eq=False)
class Tile:
    """One face of a sheet: what was shown, what was found (L, 2), and a line of text."""

    view: View
    prediction: Floats
    caption: str


def choose(nme_percent: ArrayLike, choice: Choice, count: int) -> NDArray[np.intp]:
    """The indices of at most `count` faces: (N,) → (min(count, N),).

    ``worst``: the largest errors first; ``best``: the smallest first; ``typical``: those around
    the median, smallest first. Equal errors keep their order.
    """
    errors = np.asarray(nme_percent, np.float64)
    count = min(count, len(errors))
    if choice == "worst":
        return np.argsort(-errors, kind="stable")[:count]
    ascending = np.argsort(errors, kind="stable")
    first = 0 if choice == "best" else (len(errors) - count) // 2
    return ascending[first : first + count]


def draw_sheet(title: str, tiles: Sequence[Tile], columns: int = 6) -> Image.Image:
    """The tiles in RGB, row by row, under a title that says which colour is what.

    Each shows 1.5 × the box around its centre. ValueError for no tile.
    """
    if not tiles:
        raise ValueError(f"{title}: there is no face to draw")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    step_x, step_y = _TILE_PX + _GAP_PX, _TILE_PX + _LINE_PX + _GAP_PX
    top = 2 * (_LINE_PX + _GAP_PX)
    sheet = Image.new("RGB", (columns * step_x - _GAP_PX, top + rows * step_y), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    draw.text((2, 2), title, _INK, font)
    draw.text((2, 3 + _LINE_PX), "truth", TRUTH_COLOUR, font)
    draw.text((40, 3 + _LINE_PX), "prediction", PREDICTION_COLOUR, font)
    for index, tile in enumerate(tiles):
        x, y = index % columns * step_x, top + index // columns * step_y
        sheet.paste(_draw_tile(tile), (x, y))
        draw.text((x + 2, y + _TILE_PX), _shortened(tile.caption, font), _INK, font)
    return sheet


def write_sheet(path: Path, title: str, tiles: Sequence[Tile]) -> None:
    """Write a sheet as PNG; ValueError for no tile, OSError where it can't be written."""
    sheet = draw_sheet(title, tiles)

    def write(file: BinaryIO) -> None:
        sheet.save(file, format="PNG")

    write_atomically(path, write)


def _draw_tile(tile: Tile) -> Image.Image:
    left, top, right, bottom = tile.view.box
    side = _ROOM * max(right - left, bottom - top)
    corner = np.array([left + right - side, top + bottom - side]) / 2
    # Whole pixels around the tile are cut first: resizing a part may not leave the photo.
    low = np.floor(corner).astype(int)
    cut_px = int(np.ceil(side)) + 1
    cut = tile.view.photo.convert("RGB").crop((*low, *(low + cut_px)))
    edges = (*(corner - low), *(corner - low + side))
    picture = cut.resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC, box=edges)
    draw = ImageDraw.Draw(picture)
    for points, colour in (
        (tile.view.landmarks, TRUTH_COLOUR),
        (tile.prediction, PREDICTION_COLOUR),
    ):
        # From pixel centres at integers to edges, and back after the enlargement.
        _draw_landmarks(draw, (points + 0.5 - corner) * (_TILE_PX / side) - 0.5, colour)
    return picture


def _draw_landmarks(
    draw: ImageDraw.ImageDraw, points: Floats, colour: tuple[int, int, int]
) -> None:
    """points: (L, 2) in pixels of the tile; 68 with the lines of their regions."""
    # Pillow's lines can't have ends beyond 32 bits.
    points = np.clip(points, -10 * _TILE_PX, 11 * _TILE_PX)
    regions = REGIONS if len(points) == LANDMARK_COUNT else {}
    for region, indices in regions.items():
        line = [(float(x), float(y)) for x, y in points[indices]]
        draw.line(line + line[:1] if region in CLOSED_REGIONS else line, fill=colour)
    for x, y in points.tolist():
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)


def _shortened(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The caption, its middle left out where it is wider than a tile."""
    kept = len(caption)
    text = caption
    while font.getlength(text) > _TILE_PX - 4 and kept > 2:
        kept -= 1
        text = f"{caption[: kept // 2]}…{caption[len(caption) - (kept - kept // 2) :]}"
    return text
