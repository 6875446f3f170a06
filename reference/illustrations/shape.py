"""The shape model: its mean and modes, what few of them can say, and the transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import npshapenet
from reference.illustrations.canvas import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    draw_face,
    face_plane,
    panels,
    show,
)
from reference.illustrations.demo_face import DemoFace, Floats
from reference.metrics import interocular_nme_percent
from reference.shape_model import fit_parameters, reconstruct

DEVIATIONS = 2.5
MODES_SHOWN = 4
TURN_DEG = 20.0
COMPONENT_COUNTS = (0, 1, 5, 25, 100)


def draw_modes(model: npshapenet.Model) -> Figure:
    """The mean face, and the first modes to both sides of it."""
    mean, components = _arrays(model)
    figure, axes = panels(1 + MODES_SHOWN, 10.5, 2.7)
    draw_face(axes[0], mean, "black")
    face_plane(axes[0], "mean")
    for index, plane in enumerate(axes[1:]):
        draw_face(plane, mean, "0.8", linewidth=0.8, marker="")
        draw_face(plane, mean - DEVIATIONS * components[index], ORANGE, marker="")
        draw_face(plane, mean + DEVIATIONS * components[index], BLUE, marker="")
        face_plane(plane, f"mode {index + 1}")
    _share_limits(axes)
    return figure


def draw_reconstructions(face: DemoFace, model: npshapenet.Model) -> Figure:
    """The face's own points, and the nearest that so many components can say."""
    mean, components = _arrays(model)
    truth = face.in_network(model)
    counts = sorted({min(count, len(components)) for count in COMPONENT_COUNTS})
    figure, axes = panels(len(counts), 10.5, 2.8)
    for plane, count in zip(axes, counts, strict=True):
        nearest = nearest_landmarks(mean, components[:count], truth)
        error = interocular_nme_percent(nearest[None], truth[None])[0]
        draw_face(plane, truth, GRAY, linewidth=0.8, markersize=2)
        draw_face(plane, nearest, BLUE, marker="")
        what = "component" if count == 1 else "components"
        label = "the mean alone" if count == 0 else f"{count} {what}"
        face_plane(plane, f"{label}:\n{error:.2f} % away")
    return figure


def nearest_landmarks(mean: Floats, components: Floats, landmarks: Floats) -> Floats:
    """The landmarks (L, 2) nearest to those given that components (K, L, 2) allow, K from 0."""
    # Without a component the transform alone is fitted: one that changes nothing stands in.
    usable = components if len(components) else np.zeros((1, *mean.shape))
    parameters = fit_parameters(mean, usable, landmarks[None], iterations=100)
    nearest: Floats = reconstruct(mean, usable, parameters)[0]
    return nearest


def draw_transform(face: DemoFace, model: npshapenet.Model) -> Figure:
    """From the mean face to points in the crop, one step of the formula at a time.

    The photo is turned by TURN_DEG, so that there is a turn to see.
    """
    left, top, right, bottom = face.box.edges
    centre = (left + right) / 2, (top + bottom) / 2
    # Pillow turns to the other side.
    photo = face.photo.rotate(-TURN_DEG, Image.Resampling.BICUBIC, center=centre)
    crop = npshapenet.crop_face(photo, face.box, model)
    parameters = model.parameters(crop)
    side = len(crop.gray)
    mean, _ = _arrays(model)
    shape = parameters.shape_model.shape(parameters.scores)
    scaled = parameters.scale * shape
    cosine, sine = np.cos(parameters.angle_rad), np.sin(parameters.angle_rad)
    turned = scaled @ np.array([[cosine, sine], [-sine, cosine]])
    angle_deg = np.degrees(parameters.angle_rad)
    figure, axes = panels(5, 10.5, 2.6)
    steps = (
        (mean, None, "mean face"),
        (shape, mean, "+ scores · components"),
        (scaled, shape, f"× scale {parameters.scale:.2f}"),
        (turned, scaled, f"turned by {angle_deg:.1f}°".replace("-", "−")),
    )
    for plane, (points, before, title) in zip(axes, steps, strict=False):
        if before is not None:
            draw_face(plane, before, "0.8", linewidth=0.8, marker="")
        draw_face(plane, points, BLUE, linewidth=1.0, marker="")
        plane.plot(0, 0, "+", color=GREEN)
        face_plane(plane, title)
    _share_limits(axes[:4])
    x, y = parameters.translation
    title = f"moved by ({x:.2f}, {y:.2f})".replace("-", "−")
    show(axes[4], crop.gray, title)
    draw_face(axes[4], parameters.landmarks(side), markersize=2)
    return figure


def _arrays(model: npshapenet.Model) -> tuple[Floats, Floats]:
    shape_model = model.weights.shape_model
    return shape_model.mean.astype(np.float64), shape_model.components.astype(np.float64)


def _share_limits(axes: Sequence[Axes]) -> None:
    """The same units in all panels, as large as the largest."""
    x = [limit for plane in axes for limit in plane.get_xlim()]
    y = [limit for plane in axes for limit in plane.get_ylim()]
    for plane in axes:
        plane.set(xlim=(min(x), max(x)), ylim=(max(y), min(y)))
