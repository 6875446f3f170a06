"""What a run leaves behind: readable, whole or not there, points where they belong."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="runs are PyTorch's")

import torch

from reference import atomic, run_folder
from reference.recipe import from_values
from reference.shape_model import fit

ROWS = (
    {"epoch": 1.0, "loss": 0.123456789, "held_out_nme_percent": 5.0, "learning_rate": 1e-3},
    {"epoch": 2.5, "loss": 0.1, "held_out_nme_percent": 4.5, "learning_rate": 1.23456789e-7},
)


def picture(folder, name):
    with Image.open(folder / name) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_settings_hold_the_recipe_and_the_data(tmp_path, small_recipe_text):
    recipe = from_values({"name": "ä", "training": {"epochs": 7}, "shape_model": {"components": 3}})
    data = [{"name": "made", "faces": 30, "weight": 0.5}]
    run_folder.write_settings(tmp_path, recipe, data)
    settings = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert settings.pop("data") == data
    assert from_values(settings) == recipe


def test_log_has_a_row_for_each_validation(tmp_path):
    run_folder.write_log(tmp_path, ROWS)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(ROWS[0])] * 2
    for row, expected in zip(rows, ROWS, strict=True):
        assert {key: float(value) for key, value in row.items()} == pytest.approx(
            expected, rel=1e-5
        )


def test_without_rows_nothing_is_written(tmp_path):
    run_folder.write_log(tmp_path, [])
    run_folder.write_curves(tmp_path, [])
    assert os.listdir(tmp_path) == []


def test_curves_are_drawn(tmp_path):
    run_folder.write_curves(tmp_path, ROWS)
    pixels = picture(tmp_path, "curves.png")
    assert pixels.shape[1] > 600
    # The lines are blue, all else is gray.
    assert (np.ptp(pixels, axis=2) > 60).any(axis=0).sum() > 200


def test_modes_are_drawn_for_as_many_as_there_are(tmp_path, make_shapes):
    run_folder.write_modes(tmp_path, fit(make_shapes(20), components=2))
    pixels = picture(tmp_path, "modes.png")
    is_blue = np.ptp(pixels, axis=2) > 60
    height, width = is_blue.shape
    # Two deviations of two modes, each with points in its field.
    for field in np.split(is_blue[: height // 2 * 2], 2):
        for half in (field[:, : width // 2], field[:, width // 2 :]):
            assert half.sum() > 50
    # Faces stand upright: the brows are wider than the chin.
    face = is_blue[: height // 2, : width // 2]
    rows = np.flatnonzero(face.any(axis=1))
    tenth = (rows[-1] - rows[0]) // 10
    brows, chin = face[rows[0] : rows[0] + tenth], face[rows[-1] - tenth : rows[-1] + 1]
    assert np.ptp(np.nonzero(brows)[1]) > 1.5 * np.ptp(np.nonzero(chin)[1])


class TestPreview:
    def test_points_are_where_they_belong(self, tmp_path):
        """One true point (green) and one predicted (red) for each face, in the second row too."""
        count, side = 9, 32
        images = torch.full((count, 1, side, side), 0.5)
        places = np.random.default_rng(0).uniform(4, side - 5, (2, count, 2))
        truth, prediction = (
            torch.from_numpy((pixels[:, None] + 0.5) / side * 2 - 1) for pixels in places
        )
        run_folder.write_preview(tmp_path, images, truth, prediction)
        sheet = picture(tmp_path, "preview.png")
        scale = run_folder.PREVIEW_SCALE
        assert sheet.shape == (2 * side * scale, run_folder.PREVIEW_COLUMNS * side * scale, 3)
        for index in range(count):
            row, column = divmod(index, run_folder.PREVIEW_COLUMNS)
            cell = sheet[row * side * scale :, column * side * scale :]
            cell = cell[: side * scale, : side * scale]
            red, green, blue = np.moveaxis(cell, 2, 0)
            for is_point, pixel in (
                ((red > 200) & (green < 80), places[1, index]),
                ((green > 200) & (red < 80) & (blue < 80), places[0, index]),
            ):
                y, x = np.nonzero(is_point)
                if len(x) < 4:  # hidden by the other point
                    continue
                found = (np.array([x.mean(), y.mean()]) + 0.5) / scale - 0.5
                np.testing.assert_allclose(found, pixel, atol=0.5)
            assert ((red > 200) & (green < 80)).any()

    def test_faces_are_the_images(self, tmp_path):
        levels = torch.linspace(0, 1, 3)[:, None, None, None].expand(3, 1, 16, 16)
        nothing = torch.full((3, 1, 2), 5.0)
        run_folder.write_preview(tmp_path, levels, nothing, nothing)
        sheet = picture(tmp_path, "preview.png")
        assert sheet.shape[1] == 3 * 32
        assert [int(sheet[5, 5 + 32 * k, 0]) for k in range(3)] == [0, 128, 255]


def test_everything_is_written_whole_or_not_at_all(tmp_path, monkeypatch, make_shapes):
    """A disk that is full, at the last moment: the old files stay, no part of a new one does."""
    recipe = from_values({"name": "a"})
    model = fit(make_shapes(20), components=2)
    images, points = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 2)
    writers = {
        "settings.json": lambda: run_folder.write_settings(tmp_path, recipe, []),
        "log.csv": lambda: run_folder.write_log(tmp_path, ROWS),
        "curves.png": lambda: run_folder.write_curves(tmp_path, ROWS),
        "modes.png": lambda: run_folder.write_modes(tmp_path, model),
        "preview.png": lambda: run_folder.write_preview(tmp_path, images, points, points),
    }
    for name in writers:
        (tmp_path / name).write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    for name, write in writers.items():
        with pytest.raises(OSError, match="No space"):
            write()
        assert (tmp_path / name).read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == sorted(writers)
