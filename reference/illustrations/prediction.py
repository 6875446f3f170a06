"""What a trained network says: its layers, its numbers, its points, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import npshapenet
from npshapenet.image import network_input
from npshapenet.layers import Convolution, MeanPlaces, PointDepthwise, ShapeFit
from npshapenet.plain import PlainBackend
from reference.illustrations.canvas import (
    BLUE,
    GRAY,
    ORANGE,
    PURPLE,
    SKY,
    draw_face,
    panels,
    plain_plot,
    show,
)
from reference.illustrations.demo_face import DemoFace
from reference.metrics import interocular_nme_percent
from reference.shape_model import fit_parameters

Doubles = NDArray[np.float64]

#: The box is moved to the right so far, in shares of its side.
SHIFTS = np.linspace(0, 0.8, 17)
SHOWN_SHIFTS = (0.0, 0.2, 0.4, 0.8)
LOOKED_AT_SHIFT = 0.3
#: Points whose maps are shown: sharp, along an edge, and hidden under hair.
SHOWN_POINTS = {"an eye's corner": 36, "the tip of the nose": 30, "the chin": 8, "the jaw": 3}


def draw_layers(model: npshapenet.Model) -> Figure:
    """The side, the channels and the cost of each layer, from the crop to the parameters."""
    network = model.weights.network
    layers = [
        (layer, shapes)
        for layer, shapes in network.with_input_shapes()
        if layer.multiply_adds(*shapes) > 0
    ]
    names = ["input", *(layer.name for layer, _ in layers)]
    shapes = [network.input_shape, *(layer.output_shape(*inputs) for layer, inputs in layers)]
    costs = [0.0, *(layer.multiply_adds(*inputs) / 1e6 for layer, inputs in layers)]
    is_depthwise = [False] + [
        isinstance(layer, PointDepthwise) or (isinstance(layer, Convolution) and layer.groups > 1)
        for layer, _ in layers
    ]
    figure = Figure((10.5, 4.2), 110, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    places = np.arange(len(names))
    upper.plot(places, [shape[1] for shape in shapes], ".-", color=BLUE, label="side, pixels")
    upper.plot(places, [shape[0] for shape in shapes], ".-", color=ORANGE, label="channels")
    upper.set_yscale("log", base=2)
    ticks = [1, 4, 16, 64, 256]
    upper.set_yticks(ticks, [str(tick) for tick in ticks])
    upper.legend(frameon=False, fontsize=8)
    plain_plot(upper, "the picture shrinks, what is known of each place grows", "", "")
    colours = [PURPLE if flag else BLUE for flag in is_depthwise]
    lower.bar(places, costs, color=colours)
    lower.set_xticks(places, names, rotation=60, ha="right")
    total = network.multiply_adds() / 1e6
    title = f"{total:.1f} million multiply-adds in all; depthwise layers are the light ones"
    plain_plot(lower, title, "", "millions")
    lower.tick_params(axis="x", labelsize=6)
    return figure


def draw_prediction(face: DemoFace, model: npshapenet.Model) -> Figure:
    """The scores as bars, beside those of the labels, and the points on the face."""
    crop = face.crop(model)
    parameters = model.parameters(crop)
    shape_model = model.weights.shape_model
    truth = face.in_network(model)
    fitted = fit_parameters(
        shape_model.mean.astype(np.float64),
        shape_model.components.astype(np.float64),
        truth[None],
        iterations=100,
    )[0]
    figure = Figure((10.5, 3.6), 110, layout="constrained")
    bars, picture = figure.subplots(1, 2, width_ratios=(1.9, 1))
    places = np.arange(1, len(parameters.scores) + 1)
    bars.bar(places, fitted[: len(places)], color="0.82", width=1.0, label="nearest to the labels")
    bars.bar(places, parameters.scores, color=BLUE, width=0.6, label="said by the network")
    bars.legend(frameon=False, fontsize=8)
    plain_plot(bars, "scores of the shape model", "component", "standard deviations")
    error = interocular_nme_percent(parameters.network_landmarks()[None], truth[None])[0]
    show(picture, crop.gray, f"said (blue), labelled (orange):\n{error:.2f} % apart")
    labelled = face.landmarks - [crop.left, crop.top]
    picture.plot(*labelled.T, ".", color=ORANGE, markersize=4)
    draw_face(picture, parameters.landmarks(len(crop.gray)), SKY, markersize=4)
    return figure


def draw_looks(face: DemoFace, model: npshapenet.Model) -> Figure:
    """The points first found in a box that is off, and after each look, with what was read.

    ValueError for a model without looks.
    """
    weights = model.weights
    layers = weights.network.layers
    looks = [layer for layer in layers if isinstance(layer, PointDepthwise)]
    if not looks:
        raise ValueError("this model has no looks; the bundled ones have")
    # Each stage once, though several layers of a look read about the same points.
    stages = list(dict.fromkeys(layer.other for layer in looks))
    stages += [layer.input for layer in layers if isinstance(layer, ShapeFit)]
    face = _shifted(face, LOOKED_AT_SHIFT)
    crop = face.crop(model)
    side = weights.network.input_shape[1]
    backend = PlainBackend(weights.network, weights.tensors, weights.normalisation)
    outputs = backend.layer_outputs(network_input(crop.gray, side, weights.normalisation)[None])
    truth = face.in_network(model)
    offsets = weights.tensors[f"{looks[0].name}.offsets"]
    figure, axes = panels(len(stages), 10.5, 3.9)
    for number, (panel, stage) in enumerate(zip(axes, stages, strict=True)):
        points = outputs[stage].reshape(-1, 2).astype(np.float64)
        error = interocular_nme_percent(points[None], truth[None])[0]
        name = f"after look {number}" if number else "first"
        show(panel, crop.gray, f"{name}: {error:.1f} %")
        if stage != stages[-1]:
            read = _pixels((points[:, None] + offsets).reshape(-1, 2), crop)
            panel.plot(*read.T, ".", color=ORANGE, markersize=1.5)
        panel.plot(*_pixels(points, crop).T, ".", color=SKY, markersize=4)
        edge = len(crop.gray) - 0.5
        panel.set(xlim=(-0.5, edge), ylim=(edge, -0.5))
    return figure


def _pixels(points: Doubles, crop: npshapenet.Crop) -> Doubles:
    """From the network's coordinates to pixels of a square crop."""
    return (points + 1) / 2 * len(crop.gray) - 0.5


def draw_maps(face: DemoFace, model: npshapenet.Model) -> Figure:
    """Where each of some points may be, by the shares of its map's cells, and the mean place.

    ValueError for a model that finds its points without maps.
    """
    weights = model.weights
    maps = [layer.input for layer in weights.network.layers if isinstance(layer, MeanPlaces)]
    if not maps:
        raise ValueError("this model has no maps; accurate has")
    crop = face.crop(model)
    side = weights.network.input_shape[1]
    backend = PlainBackend(weights.network, weights.tensors, weights.normalisation)
    logits = backend.layer_outputs(network_input(crop.gray, side, weights.normalisation)[None])
    shares = np.exp(logits[maps[0]] - logits[maps[0]].max(axis=(1, 2), keepdims=True))
    figure, axes = panels(len(SHOWN_POINTS), 10.5, 2.5)
    edge = len(crop.gray) - 0.5
    for panel, (name, point) in zip(axes, SHOWN_POINTS.items(), strict=True):
        show(panel, crop.gray, name)
        panel.imshow(
            shares[point],
            cmap="magma",
            alpha=0.55 + 0.45 * shares[point] / shares[point].max(),
            extent=(-0.5, edge, edge, -0.5),
        )
        panel.plot(*model.predict(crop)[point], ".", color=SKY, markersize=5)
    return figure


def draw_quality(faces: Sequence[DemoFace], model: npshapenet.Model) -> Figure:
    """A box that leaves the face: the error, and the quality where the weights have one."""
    figure = Figure((10.5, 3.3), 110, layout="constrained")
    grid = figure.add_gridspec(1, 1 + len(SHOWN_SHIFTS), width_ratios=(2.4, 1, 1, 1, 1))
    plot = figure.add_subplot(grid[0])
    for face, colour, name in zip(faces, (BLUE, ORANGE), ("Collins", "Hopper"), strict=True):
        errors: list[float] = []
        qualities: list[float] = []
        for shift in SHIFTS:
            parameters = model.parameters(_shifted(face, float(shift)).crop(model))
            found = parameters.network_landmarks()[None]
            truth = _shifted(face, float(shift)).in_network(model)[None]
            errors.append(float(interocular_nme_percent(found, truth)[0]))
            if parameters.quality is not None:
                qualities.append(float(parameters.quality))
        plot.plot(100 * SHIFTS, errors, color=colour, label=f"{name}: true error")
        if qualities:
            label = f"{name}: error expected"
            plot.plot(100 * SHIFTS, qualities, "--", color=colour, label=label)
    plot.set_yscale("log")
    ticks = [2, 5, 10, 20, 50, 100]
    plot.set_yticks(ticks, [str(tick) for tick in ticks])
    plot.minorticks_off()
    plot.legend(frameon=False, fontsize=8)
    plain_plot(plot, "a box that leaves the face", "box shifted by, % of its side", "NME, %")
    for place, shift in enumerate(SHOWN_SHIFTS):
        axes = figure.add_subplot(grid[place + 1])
        crop = _shifted(faces[0], shift).crop(model)
        show(axes, crop.gray, f"{100 * shift:.0f} %")
        points = model.predict(crop)
        axes.plot(*points.T, ".", color=SKY if shift < 0.5 else GRAY, markersize=2.5)
    return figure


def _shifted(face: DemoFace, shift: float) -> DemoFace:
    """The face with its box moved to the right by so many of its sides."""
    box = face.box
    step = shift * box.width
    moved = npshapenet.Box(box.left + step, box.top, box.right + step, box.bottom)
    return DemoFace(face.photo, moved, face.landmarks)
