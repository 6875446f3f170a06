"""Gray pictures that are drawn, not photographed, and hold no face.

Each function draws one: uint8 (side, side), from nothing but a size and a random generator.
"""

from __future__ import annotations

import math
import string
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]

_LETTERS: Final = tuple(string.ascii_letters + string.digits + ".,:!?&%")


def flat(side_px: int, rng: Generator) -> Gray:
    """One gray all over."""
    return np.full((side_px, side_px), rng.integers(256), np.uint8)


def noise(side_px: int, rng: Generator) -> Gray:
    """Independent grains of one to eight pixels, faint to strong, sharp or smooth."""
    grains = -(-side_px // int(rng.integers(1, 9)))
    values = rng.uniform(40, 215) + rng.uniform(2, 90) * rng.standard_normal((grains, grains))
    filters = (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
    picture = Image.fromarray(_rounded(values)).resize(
        (side_px, side_px), filters[int(rng.integers(2))]
    )
    return np.asarray(picture)


def gradient(side_px: int, rng: Generator) -> Gray:
    """One gray turning into another, along a line or away from a point."""
    x, y = _grid(side_px)
    angle_rad = rng.uniform(0, 2 * math.pi)
    along = x * math.cos(angle_rad) + y * math.sin(angle_rad)
    centre_x, centre_y = rng.uniform(-1, 1, 2)
    away = np.hypot(x - centre_x, y - centre_y)
    ramp = along if rng.random() < 0.5 else away
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    first, last = rng.uniform(0, 255, 2)
    return _rounded(first + (last - first) * ramp ** rng.uniform(0.5, 2))


def clouds(side_px: int, rng: Generator) -> Gray:
    """Noise whose strength falls with its frequency, as in photos of stone, foliage, sky.

    The amplitude of frequency f is f to the power of −0.7 to −2; photos have about −1 (Field,
    "Relations between the statistics of natural images and the response properties of cortical
    cells", JOSA A 1987).
    """
    x, y = np.meshgrid(np.fft.rfftfreq(side_px), np.fft.fftfreq(side_px))
    stretch = rng.uniform(1, 3, 2)
    frequency = np.hypot(x * stretch[0], y * stretch[1])
    frequency[0, 0] = np.inf
    phases = rng.standard_normal((2, *frequency.shape))
    spectrum = (phases[0] + 1j * phases[1]) * frequency ** -rng.uniform(0.7, 2)
    values = np.fft.irfft2(spectrum, s=(side_px, side_px))
    values = values / values.std()
    return _rounded(rng.uniform(60, 200) + rng.uniform(10, 70) * values)


def shapes(side_px: int, rng: Generator) -> Gray:
    """Ellipses, rectangles, triangles and lines of any gray over one gray, sharp to blurred."""
    picture = Image.new("L", (side_px, side_px), int(rng.integers(256)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 25))):
        gray = int(rng.integers(256))
        centre = rng.uniform(0, side_px, 2)
        radii = side_px * rng.uniform(0.02, 0.35, 2)
        bounds = (*(centre - radii), *(centre + radii))
        kind = int(rng.integers(4))
        if kind == 0:
            draw.ellipse(bounds, fill=gray)
        elif kind == 1:
            draw.rectangle(bounds, fill=gray)
        elif kind == 2:
            corners = centre + rng.uniform(-1, 1, (3, 2)) * radii.max()
            draw.polygon([(float(x), float(y)) for x, y in corners], fill=gray)
        else:
            draw.line(bounds, fill=gray, width=int(rng.integers(1, 1 + side_px // 16)))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(side_px / 100 * rng.exponential())))


def stripes(side_px: int, rng: Generator) -> Gray:
    """Stripes, a checkerboard or a plaid of any direction, hard or soft."""
    x, y = _grid(side_px)
    angle_rad = rng.uniform(0, math.pi)
    cycles, phases = rng.uniform(1.5, 14, 2), rng.uniform(0, 2 * math.pi, 2)
    along = x * math.cos(angle_rad) + y * math.sin(angle_rad)
    across = y * math.cos(angle_rad) - x * math.sin(angle_rad)
    first = np.sin(math.pi * cycles[0] * along + phases[0])
    second = np.sin(math.pi * cycles[1] * across + phases[1])
    wave = (first, first * second, (first + second) / 2)[int(rng.integers(3))]
    hardness = rng.uniform(1, 12)
    return _rounded(rng.uniform(70, 185) + rng.uniform(15, 120) * np.tanh(hardness * wave))


def text(side_px: int, rng: Generator) -> Gray:
    """Lines of random letters in Pillow's own font, dark on light or light on dark, tilted."""
    paper, ink = (int(gray) for gray in rng.permutation([*rng.integers(0, 110, 1), 245]))
    # Room around, so that no corner of the tilted page is seen.
    page_px = 2 * side_px
    page = Image.new("L", (page_px, page_px), paper)
    draw = ImageDraw.Draw(page)
    height_px = side_px * float(rng.uniform(0.08, 0.4))
    font = ImageFont.load_default(height_px)
    for top in np.arange(0, page_px, 1.25 * height_px):
        words = ["".join(rng.choice(_LETTERS, int(rng.integers(1, 10)))) for _ in range(30)]
        draw.text((-side_px * float(rng.uniform(0, 0.5)), float(top)), " ".join(words), ink, font)
    tilted = page.rotate(float(rng.normal(0, 12)), Image.Resampling.BICUBIC)
    low = side_px // 2
    return np.asarray(tilted.crop((low, low, low + side_px, low + side_px)))


def _grid(side_px: int) -> tuple[Floats, Floats]:
    """x and y (side, side) of the pixels' centres, the picture's outer edges at −1 and 1."""
    centres = (np.arange(side_px) + 0.5) * (2 / side_px) - 1
    x, y = np.meshgrid(centres, centres)
    return x, y


def _rounded(values: Floats) -> Gray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
