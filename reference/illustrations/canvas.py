"""Figures of one look: panels, faces in lines, and small files that are the same each time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageColor

from npshapenet.markup import CLOSED_REGIONS, REGIONS
from reference.atomic import write_atomically

DOTS_PER_INCH: Final = 110
PALETTE_COLOURS: Final = 256

# Okabe and Ito's palette: told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"
#: For points on photos, where the blue above is too dark.
SKY = "#50AAFF"

#: Colours that are seen on photos, one for each region; left and right differ.
REGION_COLOURS: Final = {
    "jaw": SKY,
    "right_eyebrow": "#FFC828",
    "left_eyebrow": "#FF8C28",
    "nose_bridge": "#5AE65A",
    "nose_base": "#5AE65A",
    "right_eye": "#3CF0F0",
    "left_eye": "#C878FF",
    "outer_lips": "#FF5050",
    "inner_lips": "#FF96BE",
}


def panels(count: int, width_inches: float, height_inches: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels beside each other."""
    figure = Figure((width_inches, height_inches), DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    return figure, list(axes)


def show(axes: Axes, pixels: ArrayLike, title: str, smooth: bool = True) -> None:
    """A gray or colour image, pixel centres at integers, without axes."""
    axes.imshow(
        np.asarray(pixels),
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="antialiased" if smooth else "nearest",
    )
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def draw_face(axes: Axes, landmarks: NDArray[Any], colour: str | None = None, **line: Any) -> None:
    """68 points joined by lines; in the regions' colours, or in one."""
    style = {"linewidth": 1.0, "marker": ".", "markersize": 3.0, **line}
    for name, indices in REGIONS.items():
        closed = indices[:1] if name in CLOSED_REGIONS else ()
        points = landmarks[[*indices, *closed]]
        axes.plot(*points.T, color=colour or REGION_COLOURS[name], **style)


def face_plane(axes: Axes, title: str) -> None:
    """Equal units, y downwards, no axes: for faces that are drawn without a photo."""
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def plain_plot(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Axes of a plot of numbers."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG of few colours, which takes a third of the space."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.06)
    picture = _with_few_colours(Image.open(drawn).convert("RGB"))
    write_atomically(path, lambda file: picture.save(file, format="PNG", optimize=True))


def _with_few_colours(picture: Image.Image) -> Image.Image:
    """The picture (mode RGB) in its commonest colours and ours, which thin lines would lose."""
    ours = [BLUE, ORANGE, GREEN, PURPLE, GRAY, *REGION_COLOURS.values(), "#FFFFFF", "#000000"]
    kept = [ImageColor.getrgb(colour)[:3] for colour in dict.fromkeys(ours)]
    common = picture.quantize(PALETTE_COLOURS - len(kept)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in kept for value in colour] + common)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)
