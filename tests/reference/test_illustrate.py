"""The pictures of docs/how-it-works.md: which there are, and that what they show is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import npshapenet
from npshapenet.shape import Parameters
from reference import illustrate
from reference.illustrations.demo_face import read_demo_faces, to_network
from reference.illustrations.shape import nearest_landmarks
from reference.training import averaging_decay

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOTAL_MAX_BYTES = 1_500_000


@pytest.fixture(scope="module")
def model() -> npshapenet.Model:
    return npshapenet.load("fast", backend="numpy")


def test_the_page_shows_the_pictures_that_are_drawn():
    page = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
    shown = re.findall(r"\(pictures/([\w-]+)\.png\)", page)
    assert sorted(shown) == sorted(illustrate.illustrations("fast"))
    stored = list((DOCS / "pictures").iterdir())
    assert sorted(path.stem for path in stored) == sorted(shown)
    assert sum(path.stat().st_size for path in stored) < TOTAL_MAX_BYTES


def test_a_picture_is_the_same_each_time(tmp_path):
    pictures = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        assert illustrate.main(["--out", str(folder), "--only", "crop", "averaging"]) == 0
        pictures.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert pictures[0] == pictures[1]
    assert sorted(pictures[0]) == ["averaging.png", "crop.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "nose"], "no picture nose"), (["--model", "nobody"], "nobody")],
)
def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys, arguments, message):
    assert illustrate.main(["--out", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_labels_and_predictions_are_drawn_in_the_same_coordinates(model):
    face, _ = read_demo_faces()
    parameters: Parameters = model.parameters(face.crop(model))
    side = len(face.crop(model).gray)
    there = to_network(parameters.landmarks(side).astype(np.float64), side)
    # Float32 landmarks of a crop of 136 pixels.
    np.testing.assert_allclose(there, parameters.network_landmarks(), atol=1e-6)


def test_more_components_leave_less(model):
    shape_model = model.weights.shape_model
    mean, components = shape_model.mean.astype(float), shape_model.components.astype(float)
    truth = read_demo_faces()[0].in_network(model)
    left = [
        np.linalg.norm(nearest_landmarks(mean, components[:count], truth) - truth)
        for count in (0, 5, 25, 100)
    ]
    assert left[0] > left[1] > left[2] > left[3] > 0


def test_the_average_lets_go_of_its_beginning():
    assert averaging_decay(0.999, 1) == pytest.approx(2 / 11)
    assert averaging_decay(0.999, 1_000_000) == 0.999
