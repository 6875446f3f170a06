"""How the network learns: one face by heart, views, labels that are moved, averaged weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import npshapenet
from reference.borrowed_shape_model import read_shape_model
from reference.data.augment import augment, network_landmarks
from reference.data.crop import Geometry
from reference.data.dataset import Faces
from reference.data.markup import IBUG68
from reference.data.steps import gather, select
from reference.illustrations.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    draw_face,
    panels,
    plain_plot,
    show,
)
from reference.illustrations.demo_face import LABELS, DemoFace, Floats
from reference.metrics import interocular_nme_percent
from reference.prepare import prepare
from reference.recipe import read_recipe
from reference.refit_labels import refit
from reference.training import (
    Progress,
    Trainer,
    averaging_decay,
    collect,
    held_out_images,
    overfit_settings,
    shape_model_tensors,
)

RECIPE = Path(__file__).parent.parent / "recipes" / "fast.toml"
OVERFIT_STEPS = 150
SHOWN_STEPS = (1, 10, 30, 150)
VIEW_COLUMNS, VIEW_ROWS = 8, 2
#: The labels' fault in the picture: too large by 3 %, and moved by so much of the crop's side.
LABEL_SCALE, LABEL_SHIFT = 1.03, (0.02, -0.015)


@dataclass(frozen=True, eq=False)
class Moment:
    """After a step: the loss, and the landmarks (68, 2) in the network's coordinates."""

    step: int
    loss: float
    landmarks: Floats


def prepared_faces() -> Faces:
    """The demo's faces as reference.prepare cuts them."""
    return prepare([LABELS], Geometry()).faces


def draw_one_face(shape_model_file: Path) -> Figure:
    """A network that learns one face by heart: its loss, its error, its points."""
    image, truth, moments = overfit_one_face(shape_model_file)
    figure = Figure((10.5, 3.0), 110, layout="constrained")
    grid = figure.add_gridspec(1, 1 + len(SHOWN_STEPS), width_ratios=(2.2, 1, 1, 1, 1))
    plot = figure.add_subplot(grid[0])
    errors = [interocular_nme_percent(moment.landmarks[None], truth[None])[0] for moment in moments]
    plot.plot([moment.step for moment in moments], errors, color=BLUE)
    plot.axhline(0.5, color="0.6", linewidth=0.8, linestyle="--")
    plot.set_yscale("log")
    ticks = [0.1, 0.5, 1, 5]
    plot.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    plot.minorticks_off()
    plain_plot(plot, "one face learnt by heart", "step", "NME, %")
    side = image.shape[-1]
    for place, step in enumerate(SHOWN_STEPS):
        axes = figure.add_subplot(grid[place + 1])
        show(axes, image * 255, f"step {step}")
        axes.plot(*_pixels(truth, side).T, ".", color=ORANGE, markersize=2.5)
        draw_face(axes, _pixels(moments[step - 1].landmarks, side), SKY, markersize=1.5)
    return figure


def overfit_one_face(shape_model_file: Path) -> tuple[Floats, Floats, list[Moment]]:
    """Train as ``reference.train --overfit 1`` does; the image, the labels, and each step."""
    faces = prepared_faces()
    recipe = overfit_settings(read_recipe(RECIPE), 1, OVERFIT_STEPS, IBUG68)
    everything = collect([("demo", faces, 1.0)], 0)
    # The first of the file, as --overfit takes it.
    first = torch.tensor([0])
    data = dataclasses.replace(
        everything, faces=select(everything.faces, first), weights=everything.weights[:1]
    )
    side_px = recipe.network.side_px
    borrowed = read_shape_model(shape_model_file, faces.landmarks.shape[1])
    model = borrowed.fitted(network_landmarks(data.faces, side_px).numpy())
    trainer = Trainer(
        recipe,
        data,
        torch.device("cpu"),
        shape_model=shape_model_tensors(model),
        workers=0,
        settled_norms=True,
    )
    images, truth = held_out_images(data, side_px)
    moments: list[Moment] = []

    def look(progress: Progress) -> bool:
        found = trainer.predict(images)[0].double().numpy()
        moments.append(Moment(trainer.step, trainer.running_loss, found))
        return False

    trainer.run(look)
    return images[0, 0].double().numpy(), truth[0].double().numpy(), moments


def draw_views() -> Figure:
    """Both faces as training changes them: turned, moved, mirrored, covered, blurred, noisy."""
    recipe = read_recipe(RECIPE)
    side_px = recipe.network.side_px
    batch = gather([prepared_faces()])
    count = VIEW_COLUMNS * VIEW_ROWS
    # Views of both in turn, so that pictures that cover one come from the other.
    many = select(batch, torch.arange(count) % len(batch.crops))
    generator = torch.Generator().manual_seed(7)
    images, landmarks = augment(many, side_px, recipe.augmentation, generator)
    figure = Figure((10.5, 2.8), 110, layout="constrained")
    grid = figure.subplots(VIEW_ROWS, VIEW_COLUMNS)
    for axes, image, points in zip(grid.flat, images, landmarks, strict=True):
        show(axes, image[0].numpy() * 255, "")
        draw_face(axes, _pixels(points.double().numpy(), side_px), linewidth=0.7, markersize=1.5)
        axes.set(xlim=(-0.5, side_px - 0.5), ylim=(side_px - 0.5, -0.5))
    return figure


def draw_refitted_labels(face: DemoFace, model: npshapenet.Model) -> Figure:
    """Labels moved on purpose, and what refitting them to the network's points makes of them."""
    crop = face.crop(model)
    side = len(crop.gray)
    truth = face.in_network(model)
    centre = truth.mean(axis=0)
    moved = (truth - centre) * LABEL_SCALE + centre + 2 * np.array(LABEL_SHIFT)
    found = model.parameters(crop).network_landmarks().astype(np.float64)
    refitted = refit(moved[None], found[None])[0]
    figure, axes = panels(3, 9.0, 3.2)
    for plane, points, title in (
        (axes[0], moved, "labels, moved on purpose"),
        (axes[1], found, "what the network finds"),
        (axes[2], refitted, "the labels refitted"),
    ):
        error = interocular_nme_percent(points[None], truth[None])[0]
        show(plane, crop.gray, f"{title}: {error:.1f} %")
        plane.plot(*_pixels(truth, side).T, ".", color=GREEN, markersize=3)
        draw_face(plane, _pixels(points, side), ORANGE, markersize=2)
    return figure


def draw_averaging(steps: int = 8000) -> Figure:
    """How much of an average is still the untrained network, by two rules."""
    figure, (plot,) = panels(1, 6.5, 3.0)
    decays = np.array([averaging_decay(0.999, step) for step in range(1, steps)])
    places = np.arange(1, steps)
    plot.plot(places, 100 * 0.999**places, color=ORANGE, label="decay 0.999 from the first step")
    plot.plot(places, 100 * np.cumprod(decays), color=BLUE, label="a decay that grows")
    plot.set_xscale("log")
    ticks = [1, 10, 100, 1000]
    plot.set_xticks(ticks, [str(tick) for tick in ticks])
    plot.legend(frameon=False, fontsize=8)
    plain_plot(plot, "what the untrained network still counts", "step", "% of the average")
    return figure


def _pixels(landmarks: Floats, side_px: int) -> Floats:
    scaled: Floats = (landmarks + 1) * (side_px / 2) - 0.5
    return scaled
