"""What a training run leaves behind: settings, log, curves, preview, checkpoints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib.figure
from PIL import Image, ImageDraw
from torch import Tensor

from reference.atomic import write_atomically
from reference.recipe import Recipe, to_values
from reference.shape_model import FittedShapeModel, modes

PREVIEW_COLUMNS = 8
PREVIEW_SCALE = 2
MARKED_ROWS_MAX = 20


def write_settings(folder: Path, recipe: Recipe, data: Sequence[Mapping[str, object]]) -> None:
    """The resolved recipe and the data as ``settings.json``."""
    values = {**to_values(recipe), "data": [dict(entry) for entry in data]}
    text = json.dumps(values, indent=2) + "\n"
    write_atomically(folder / "settings.json", lambda file: _write_text(file, text))


def write_log(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """One row of figures for each validation as ``log.csv``."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_atomically(folder / "log.csv", lambda file: _write_text(file, text.getvalue()))


def write_curves(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Loss and held-out error over the epochs as ``curves.png``."""
    if not rows:
        return
    epochs = [row["epoch"] for row in rows]
    figure = matplotlib.figure.Figure(figsize=(9, 4), layout="constrained")
    loss_axes, error_axes = figure.subplots(1, 2)
    marker = "." if len(rows) < MARKED_ROWS_MAX else ""
    loss_axes.plot(epochs, [row["loss"] for row in rows], marker=marker)
    loss_axes.set(xlabel="epoch", ylabel="training loss (running mean)")
    error_axes.plot(epochs, [row["held_out_nme_percent"] for row in rows], marker=marker)
    error_axes.set(xlabel="epoch", ylabel="NME of the validated faces, %")
    for axes in (loss_axes, error_axes):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    write_atomically(folder / "curves.png", lambda file: figure.savefig(file, dpi=120))


def write_modes(folder: Path, model: FittedShapeModel, count: int = 6) -> None:
    """The first modes at ±3 standard deviations, the mean behind them, as ``modes.png``."""
    count = min(count, len(model.components))
    deviations = (-3.0, 3.0)
    shapes = modes(model, count, deviations)
    figure = matplotlib.figure.Figure(figsize=(2.2 * count, 4.6), layout="constrained")
    grid = figure.subplots(len(deviations), count, squeeze=False, sharex=True, sharey=True)
    for row, deviation in enumerate(deviations):
        for mode in range(count):
            axes = grid[row, mode]
            axes.plot(*model.mean.T, ".", color="0.8", markersize=3)
            axes.plot(*shapes[mode, row].T, ".", color="tab:blue", markersize=4)
            axes.set(title=f"mode {mode + 1}, {deviation:+.0f} σ".replace("-", "−"), aspect="equal")
            axes.set_axis_off()
    grid[0, 0].invert_yaxis()
    write_atomically(folder / "modes.png", lambda file: figure.savefig(file, dpi=100))


def write_preview(folder: Path, images: Tensor, truth: Tensor, prediction: Tensor) -> None:
    """Held-out faces with truth (green) and prediction (red) as ``preview.png``."""
    count, _, side_px, _ = images.shape
    cell_px = side_px * PREVIEW_SCALE
    rows, columns = -(-count // PREVIEW_COLUMNS), min(count, PREVIEW_COLUMNS)
    sheet = Image.new("RGB", (columns * cell_px, rows * cell_px))
    for index in range(count):
        gray = Image.fromarray((images[index, 0] * 255).round().byte().numpy())
        face = gray.resize((cell_px, cell_px), Image.Resampling.BICUBIC).convert("RGB")
        draw = ImageDraw.Draw(face)
        for points, colour in ((truth, "lime"), (prediction, "red")):
            for x, y in ((points[index] + 1) / 2 * cell_px - 0.5).tolist():
                draw.ellipse((x - 1.2, y - 1.2, x + 1.2, y + 1.2), fill=colour)
        row, column = divmod(index, PREVIEW_COLUMNS)
        sheet.paste(face, (column * cell_px, row * cell_px))
    write_atomically(folder / "preview.png", lambda file: sheet.save(file, format="PNG"))


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(text.encode("utf-8"))
