"""npshapenet predict without a box: the faces that a detector finds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npshapenet import Box, detectors
from npshapenet.cli import predict as command

#: The face of astronaut.jpg.
BOX = ("175", "76", "266", "167")
OTHER_BOX = ("190", "90", "260", "160")

Run = Callable[..., Any]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The boxes that the detector finds in any photo of 512 columns; in others there is none."""
    boxes = [BOX, OTHER_BOX]

    def detector(photo: np.ndarray) -> list[Box]:
        return [Box(*map(float, box)) for box in boxes] if photo.shape[1] == 512 else []

    monkeypatch.setattr(command, "detector_named", lambda name: detector)
    return boxes


@pytest.mark.usefixtures("found")
class TestFound:
    def test_each_face_as_with_its_box(self, predict: Run, astronaut: Path, expected: Run) -> None:
        ended = predict(astronaut, "--format", "json")
        assert (ended.status, ended.err) == (0, "")
        faces = json.loads(ended.out)["faces"]
        assert [face["box"] for face in faces] == [[175, 76, 266, 167], [190, 90, 260, 160]]
        for face, box in zip(faces, (BOX, OTHER_BOX), strict=True):
            np.testing.assert_allclose(face["landmarks"], expected(box), atol=0.00051)

    def test_csv_numbers_the_faces(self, predict: Run, astronaut: Path) -> None:
        rows = list(csv.DictReader(io.StringIO(predict(astronaut, "--format", "csv").out)))
        assert [row["face"] for row in rows] == ["1"] * 68 + ["2"] * 68
        assert {row["quality"] for row in rows} == {""}

    def test_points_files_are_numbered(
        self, predict: Run, astronaut: Path, tmp_path: Path, found: list[tuple[str, ...]]
    ) -> None:
        out = tmp_path / "points"
        assert predict(astronaut, "--format", "pts", "--out", out).status == 0
        assert sorted(path.name for path in out.iterdir()) == ["astronaut-1.pts", "astronaut-2.pts"]
        found.pop()
        single = tmp_path / "single.pts"
        assert predict(astronaut, "--out", single).status == 0
        assert single.read_text().count("{") == 1

    def test_one_points_file_holds_one_face(
        self, predict: Run, astronaut: Path, tmp_path: Path
    ) -> None:
        for out in (["--out", tmp_path / "faces.pts"], ["--format", "pts"]):
            ended = predict(astronaut, *out)
            assert (ended.status, ended.out) == (1, "")
            assert "2 faces in the form pts need a folder" in ended.err
        assert list(tmp_path.iterdir()) == []

    def test_a_photo_without_a_face_gets_a_line_and_the_others_are_done(
        self, predict: Run, astronaut: Path, tmp_path: Path
    ) -> None:
        empty = tmp_path / "wall.png"
        Image.new("L", (90, 60), 128).save(empty)
        drawn = tmp_path / "drawn"
        ended = predict(empty, astronaut, "--format", "json", "--draw", drawn)
        assert ended.status == 1
        assert ended.err == f"npshapenet: {empty}: no face found; --box gives the box of one\n"
        report = json.loads(ended.out)
        assert len(report["faces"]) == 2
        assert [failed["photo"] for failed in report["failed"]] == [str(empty)]
        assert [path.name for path in drawn.iterdir()] == ["astronaut-landmarks.png"]

    def test_a_second_look(self, predict: Run, astronaut: Path) -> None:
        first, second = (
            json.loads(predict(astronaut, "--format", "json", "--looks", looks).out)["faces"]
            for looks in (1, 2)
        )
        assert all(a["box"] != b["box"] for a, b in zip(first, second, strict=True))


def test_without_a_detector_one_line_says_what_to_do(
    predict: Run, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "installed", lambda: [])
    ended = predict(astronaut)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    for words in ("no face detector is installed", "dlib-bin", "--box", "--whole"):
        assert words in ended.err


def test_quality_is_in_every_form() -> None:
    from npshapenet.cli.results import Face, as_csv, as_json, as_table

    landmarks = np.zeros((68, 2), np.float32)
    faces = [
        Face("a.png", 1, (20, 10), None, landmarks, 3.14159),
        Face("a.png", 2, (20, 10), None, landmarks),
    ]
    table = as_table(faces)
    assert "a.png, 20×10, the whole picture, quality 3.1 %\n" in table
    assert table.count("quality") == 1
    assert [face["quality"] for face in json.loads(as_json(faces, [], {}))["faces"]] == [
        3.142,
        None,
    ]
    rows = list(csv.DictReader(io.StringIO(as_csv(faces))))
    assert (rows[0]["quality"], rows[68]["quality"]) == ("3.142", "")


@pytest.mark.parametrize(("name", "module"), [("dlib", "dlib"), ("opencv", "cv2")])
def test_a_real_detector(run: Run, astronaut: Path, name: str, module: str) -> None:
    pytest.importorskip(module)
    ended = run("predict", astronaut, "--detector", name, "--format", "json", "--backend", "numpy")
    assert (ended.status, ended.err) == (0, "")
    left, top, right, bottom = json.loads(ended.out)["faces"][0]["box"]
    assert left < 220 < right
    assert top < 120 < bottom
