"""What the network is given: an annotated face, and the crop that it really sees."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import npshapenet
from npshapenet.image import resize
from reference.illustrations.canvas import BLUE, ORANGE, draw_face, panels, show
from reference.illustrations.demo_face import DemoFace

#: The points whose numbers are written beside them: enough to find the others.
NUMBERED = (0, 8, 16, 17, 21, 22, 26, 27, 30, 31, 35, 36, 39, 42, 45, 48, 51, 54, 57)
ZOOMED_PX = 4


def draw_annotated_face(face: DemoFace) -> Figure:
    """The photo with the box, and the face enlarged with its points."""
    figure, (whole, near) = panels(2, 9.0, 4.7)
    show(whole, np.asarray(face.photo), "the photo and the box of the face")
    _outline(whole, *face.box.edges, ORANGE)
    show(near, np.asarray(face.photo), "68 points, numbered from 0")
    draw_face(near, face.landmarks, markersize=4)
    box = face.box
    for index in NUMBERED:
        x, y = face.landmarks[index]
        near.annotate(
            str(index), (x, y), (3, 3), textcoords="offset points", color="white", fontsize=7
        )
    near.set_xlim(box.left - 0.15 * box.width, box.right + 0.2 * box.width)
    near.set_ylim(box.bottom + 0.2 * box.height, box.top - 0.15 * box.height)
    return figure


def draw_crop(face: DemoFace, model: npshapenet.Model) -> Figure:
    """From the box to the pixels that the network reads, and where a pixel is."""
    figure, (photo, cut, seen, pixels) = panels(4, 10.5, 3.2)
    crop = face.crop(model)
    side, network_side = len(crop.gray), model.weights.network.input_shape[-1]
    show(
        photo,
        np.asarray(face.photo),
        f"the box, and {model.crop_factor:g} times its side",
    )
    _outline(photo, *face.box.edges, ORANGE)
    left, top = crop.left, crop.top
    _outline(photo, left, top, left + side, top + side, BLUE)
    photo.set_xlim(left - 0.3 * side, left + 1.3 * side)
    photo.set_ylim(top + 1.3 * side, top - 0.3 * side)
    show(cut, crop.gray, f"the crop: gray, {side}×{side} pixels")
    small = resize(crop.gray, network_side, network_side)
    show(seen, small, f"the network's input: {network_side}×{network_side}", smooth=False)
    _draw_pixel_grid(pixels)
    return figure


def _outline(axes: Axes, left: float, top: float, right: float, bottom: float, colour: str) -> None:
    # Edges are counted from the photo's edge; the axes count from the centre of its first pixel.
    corner = left - 0.5, top - 0.5
    axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, ec=colour, lw=1.6))


def _draw_pixel_grid(axes: Axes) -> None:
    """A crop of 4×4 pixels: centres at whole numbers, edges between them."""
    shades = 235 - 20 * ((np.add.outer(range(ZOOMED_PX), range(ZOOMED_PX))) % 2)
    show(axes, shades, "a crop of 4×4 pixels, enlarged", smooth=False)
    centres = np.arange(ZOOMED_PX)
    axes.plot(*np.meshgrid(centres, centres), ".", color=BLUE, markersize=4)
    for x in range(ZOOMED_PX):
        axes.text(x, -0.62, f"{x}", ha="center", fontsize=8, color=BLUE)
        axes.text(-0.62, x, f"{x}", ha="right", va="center", fontsize=8, color=BLUE)
    for place, text in ((-0.5, "−1"), (1.5, "0"), (3.5, "1")):
        axes.text(place, 3.62, text, ha="center", va="top", fontsize=8, color=ORANGE)
    axes.text(1.5, -1.05, "pixels: centres", ha="center", fontsize=8, color=BLUE)
    axes.text(1.5, 4.05, "network: edges", ha="center", va="top", fontsize=8, color=ORANGE)
    axes.set_xlim(-1.0, 3.8)
    axes.set_ylim(4.6, -1.4)
