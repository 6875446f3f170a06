"""The pictures of the pages in docs/: which there are, and that what they show is so."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import npshapenet
from npshapenet.shape import Parameters
from npshapenet.smoothing import DEFAULT_SMOOTHING
from reference import illustrate
from reference.illustrations.composed import Placed, crossing, group_photo, still_clip
from reference.illustrations.demo_face import read_demo_faces, to_network
from reference.illustrations.detected import SHOWN_FRAMES, follow_crossing, follow_still
from reference.illustrations.shape import nearest_landmarks
from reference.metrics import interocular_nme_percent
from reference.tracked_clips import smoothed
from reference.training import averaging_decay

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE_MAX_BYTES = 300 * 1024
TOTAL_MAX_BYTES = 1_500_000

#: The NME of any face of the group, in percent. The labels were placed by hand, a face of 50 pixels
#: has a box of some percent off, and good faces have some 3 %: twice that isn't on the face.
GROUP_MAX_PERCENT = 6.0


@pytest.fixture(scope="module")
def model() -> npshapenet.Model:
    return npshapenet.load("fast", backend="numpy")


def test_the_pages_show_the_pictures_that_are_drawn():
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md")))
    shown = re.findall(r"\(pictures/([\w-]+)\.png\)", pages)
    assert sorted(shown) == sorted(illustrate.illustrations("fast"))
    stored = list((DOCS / "pictures").iterdir())
    assert sorted(path.stem for path in stored) == sorted(shown)
    sizes_bytes = [path.stat().st_size for path in stored]
    assert max(sizes_bytes) < PICTURE_MAX_BYTES
    assert sum(sizes_bytes) < TOTAL_MAX_BYTES


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


def test_without_a_detector_it_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    assert illustrate.main(["--out", str(tmp_path), "--only", "group"]) == 1
    error = capsys.readouterr().err
    assert "pip install dlib-bin" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["dlib", "opencv"])
def test_all_faces_of_the_group_are_found_where_they_are(model, name):
    pytest.importorskip({"dlib": "dlib", "opencv": "cv2"}[name])
    photo, placed = group_photo(read_demo_faces())
    faces = npshapenet.find_faces(photo, name, model=model)
    assert len(faces) == len(placed)
    for each in placed:
        found = min(faces, key=lambda face: distance_px(face, each))
        truth = each.landmarks[None]
        assert interocular_nme_percent(found.landmarks[None], truth)[0] < GROUP_MAX_PERCENT


def test_ids_stay_with_those_who_cross(model):
    pytest.importorskip("dlib")
    names: dict[int, set[str]] = {}
    faces = read_demo_faces()
    followed = follow_crossing(faces, model)
    for frame, found in enumerate(followed):
        where = crossing(faces, frame)
        for face in found:
            nearest = min(where, key=lambda name: distance_px(face, where[name]))
            names.setdefault(face.id, set()).add(nearest)
    assert sorted(names) == [1, 2]
    assert sorted(map(sorted, names.values())) == [["leaver"], ["walker"]]
    seen = [len(followed[frame]) for frame in SHOWN_FRAMES]
    # Both, near each other, one hidden, both again, one gone, both again.
    assert seen == [2, 2, 1, 2, 1, 2]


def test_smoothing_steadies_a_still_face(model):
    pytest.importorskip("dlib")
    clip = still_clip(read_demo_faces()[0])
    found = follow_still(clip, model)
    nme_percent = interocular_nme_percent(found, np.repeat(clip.truth(0)[None], len(found), axis=0))
    assert nme_percent.max() < GROUP_MAX_PERCENT
    # The filter comes to rest within a second.
    settled = smoothed(found, DEFAULT_SMOOTHING)[30:]
    assert settled.std(axis=0).mean() < 0.5 * found[30:].std(axis=0).mean()


def distance_px(face: npshapenet.Face, placed: Placed) -> float:
    """The mean distance of a face's points from where those of a placed one are."""
    return float(np.linalg.norm(face.landmarks - placed.landmarks, axis=1).mean())


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
