"""Detectors on labelled faces: which box is whose, how a framing is fitted, what is reported."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import npshapenet
from npshapenet import Box
from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.detectors import Framing
from npshapenet.faces import LANDMARK_FRAMING
from reference import evaluate_detectors, evaluate_measures, fit_detectors
from reference.detection import detect_faces, fit_framing, overlap

LABELS = Path(npshapenet.__file__).parent / "demo" / "labels.xml"
ASTRONAUT = Box.from_ltwh(175, 76, 91, 91)


def test_the_box_that_overlaps_the_label_most_is_the_face():
    near, nearer = Box(190, 90, 290, 190), Box(180, 80, 270, 170)
    astronaut, grace_hopper = detect_faces(LABELS, lambda _: [near, Box(0, 300, 90, 390), nearer])
    assert (astronaut.box, astronaut.others) == (nearer, 2)
    assert astronaut.label_box == ASTRONAUT
    assert grace_hopper.others + (grace_hopper.box is not None) == 3
    np.testing.assert_allclose(
        astronaut.landmarks, read_demo_photo("astronaut").landmarks, atol=1e-4
    )


def test_a_photo_without_a_box_has_no_face():
    assert [(face.box, face.others) for face in detect_faces(LABELS, lambda _: [])] == [
        (None, 0),
        (None, 0),
    ]


def test_overlap():
    assert overlap(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == 1
    assert overlap(Box(0, 0, 10, 10), Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 10, 10), Box(20, 20, 30, 30)) == 0


def test_a_framing_is_found_again_though_some_boxes_are_wild(rng):
    framing = Framing(scale=0.9, shift_x=0.02, shift_y=-0.1)
    boxes = [Box.from_ltwh(*rng.uniform(0, 300, 2), *rng.uniform(40, 90, 2)) for _ in range(101)]
    targets = [framing(box) for box in boxes]
    for place in range(0, 101, 10):
        targets[place] = Box(0, 0, *rng.uniform(500, 900, 2))
    assert fit_framing(boxes, targets)[0] == framing


def test_the_landmarks_framing_is_about_that_of_the_demo_photos(capsys):
    assert fit_detectors.main(["landmarks", "--labels", str(LABELS)]) == 0
    scale, _, shift_y = map(float, re.findall(r"=(-?[\d.]+)", capsys.readouterr().out)[:3])
    # Two faces, whose boxes scatter by a tenth.
    assert scale == pytest.approx(LANDMARK_FRAMING.scale, abs=0.15)
    assert shift_y == pytest.approx(LANDMARK_FRAMING.shift_y, abs=0.1)


@pytest.mark.slow
def test_the_framings_in_the_package_are_those_that_the_commands_print(shared_data, capsys):
    labels = shared_data / "300w" / "train" / "labels.xml"
    assert fit_detectors.main(["landmarks", "--labels", str(labels)]) == 0
    assert capsys.readouterr().out.startswith(f"{LANDMARK_FRAMING}  #")


def test_detectors_are_reported_with_every_way_to_look(capsys):
    pytest.importorskip("cv2")
    arguments = ["fast", "--labels", str(LABELS), "--detectors", "opencv"]
    assert evaluate_detectors.main(arguments) == 0
    title, _, _, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert "2 faces" in title
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(row[3], row[4]) for row in cells] == [
        ("the label's", "1"),
        ("the label's", "2"),
        ("as they come", "1"),
        ("framed", "1"),
        ("framed", "2"),
    ]
    assert {row[1] for row in cells} == {"100.0"}
    assert all(0 < float(row[5]) < 10 for row in cells)


def test_measures_are_reported(capsys):
    assert evaluate_measures.main(["fast", "--labels", str(LABELS)]) == 0
    out = capsys.readouterr().out
    for name in ("eye opening", "mouth opening", "yaw", "pitch, photo mirrored", "112×112"):
        assert f"| {name}" in out or name in out
    # Four eyes, none of them closed.
    eyes = [int(count) for count in re.findall(r"^\| 0[\w\d.– ]* \| (\d+) \|", out, flags=re.M)]
    assert eyes[0] == 0
    assert sum(eyes) == 4
    (tilt,) = re.findall(r"tilt, photo turned by 20° \| ([\d.]+)°", out)
    # The head in the photo is turned by 20°, clockwise, and seen to be.
    assert float(tilt) < 3


@pytest.mark.parametrize("command", [evaluate_detectors, evaluate_measures])
def test_what_is_no_model_or_no_labels(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        command.main(["nosuch", "--labels", str(LABELS)])
    assert ended.value.code == 2
    assert command.main(["fast", "--labels", str(tmp_path / "nosuch.xml")]) == 1
    assert "no such file" in capsys.readouterr().err
