"""npshapenet predict: which files it writes, and that it writes them whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

#: The face of astronaut.jpg.
BOX = ("175", "76", "266", "167")
OTHER_BOX = ("190", "90", "260", "160")

Run = Callable[..., Any]


def points_of(text: str) -> np.ndarray:
    """The numbers between the braces of a .pts file."""
    lines = text[text.index("{") + 1 : text.index("}")].split()
    return np.array(lines, np.float64).reshape(-1, 2)


class TestOverlays:
    def test_a_file_by_its_ending(self, predict: Run, astronaut: Path, tmp_path: Path) -> None:
        for name, form in [("a.png", "PNG"), ("b.JPG", "JPEG"), ("c.webp", "WEBP")]:
            picture = tmp_path / "new folder" / name
            assert predict(astronaut, "--box", *BOX, "--draw", picture).status == 0
            with Image.open(picture) as drawn:
                assert (drawn.format, drawn.size) == (form, (512, 512))

    def test_the_landmarks_are_on_it(
        self, predict: Run, astronaut: Path, expected: Run, tmp_path: Path
    ) -> None:
        predict(astronaut, "--box", *BOX, "--draw", tmp_path / "drawn.png")
        with Image.open(tmp_path / "drawn.png") as drawn, Image.open(astronaut) as photo:
            changed = (np.asarray(drawn) != np.asarray(photo)).any(axis=2)
        rows_columns = np.rint(expected()[:, ::-1]).astype(int)
        inside = ((rows_columns >= 0) & (rows_columns < 512)).all(axis=1)
        assert inside.sum() > 30
        assert changed[tuple(rows_columns[inside].T)].all()
        assert changed.mean() < 0.2

    def test_all_faces_are_on_one_picture(
        self, predict: Run, astronaut: Path, tmp_path: Path
    ) -> None:
        pictures = []
        for boxes in (["--box", *BOX], ["--box", *BOX, "--box", *OTHER_BOX]):
            picture = tmp_path / f"{len(boxes)}.png"
            predict(astronaut, *boxes, "--draw", picture)
            pictures.append(np.asarray(Image.open(picture)))
        assert (pictures[0] != pictures[1]).any()

    def test_16_bit_photos_are_drawn_on_as_they_look(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        gray = np.asarray(Image.open(face_crop)).astype(np.uint16)
        photo = tmp_path / "deep.png"
        Image.fromarray(gray * 257).save(photo)
        predict(photo, "--draw", tmp_path / "drawn.png", "--whole")
        drawn = np.asarray(Image.open(tmp_path / "drawn.png")).astype(int)
        assert np.median(np.abs(drawn - gray[..., None])) <= 1


class TestTargets:
    def test_the_ending_says_the_form(self, predict: Run, astronaut: Path, tmp_path: Path) -> None:
        starts = {"f.json": '{"npshapenet"', "f.CSV": "photo,", "f.pts": "version", "f.txt": "/"}
        for name, start in starts.items():
            ended = predict(astronaut, "--box", *BOX, "--out", tmp_path / name)
            assert (ended.status, ended.out) == (0, "")
            assert (tmp_path / name).read_text().startswith(start)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(starts)

    def test_points_of_several_photos_go_to_a_folder(
        self, predict: Run, astronaut: Path, face_crop: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "points"
        ended = predict(
            astronaut, face_crop, "--box", 20, 20, 120, 120, "--format", "pts", "--out", folder
        )
        assert (ended.status, ended.out) == (0, "")
        assert sorted(path.name for path in folder.iterdir()) == ["astronaut.pts", "crop.pts"]

    def test_points_of_several_faces_are_numbered(
        self, predict: Run, astronaut: Path, expected: Run, tmp_path: Path
    ) -> None:
        boxes = ["--box", *BOX, "--box", *OTHER_BOX]
        predict(astronaut, *boxes, "--format", "pts", "--out", tmp_path)
        for number, box in enumerate((BOX, OTHER_BOX), start=1):
            points = points_of((tmp_path / f"astronaut-{number}.pts").read_text())
            np.testing.assert_allclose(points, expected(box) + 1, atol=0.00051)

    def test_photos_of_one_name_stay_apart(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        photos = [tmp_path / "in" / path for path in ("a/x.png", "b/x.png", "b/y.png")]
        for photo in photos:
            photo.parent.mkdir(parents=True, exist_ok=True)
            photo.write_bytes(face_crop.read_bytes())
        out = tmp_path / "out"
        ended = predict(*photos, "--format", "pts", "--out", out, "--draw", out, "--whole")
        assert ended.status == 0
        written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
        names = ("a/x", "b/x", "b/y")
        assert written == sorted(
            [f"{name}.pts" for name in names] + [f"{name}-landmarks.png" for name in names]
        )

    def test_photos_that_differ_in_their_ending_stay_apart(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        other = face_crop.with_suffix(".bmp")
        Image.open(face_crop).save(other)
        out = tmp_path / "out"
        predict(face_crop, other, "--format", "pts", "--out", out, "--whole")
        assert sorted(path.name for path in out.iterdir()) == ["crop.bmp.pts", "crop.png.pts"]

    def test_older_results_are_replaced_and_nothing_is_left_beside(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out" / "faces.json"
        out.parent.mkdir()
        out.write_text("old")
        predict(face_crop, "--out", out, "--whole")
        assert len(json.loads(out.read_text())["faces"]) == 1
        assert [path.name for path in out.parent.iterdir()] == ["faces.json"]

    def test_a_link_stays_a_link(self, predict: Run, face_crop: Path, tmp_path: Path) -> None:
        (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
        predict(face_crop, "--out", tmp_path / "link.json", "--whole")
        assert (tmp_path / "link.json").is_symlink()
        assert json.loads((tmp_path / "real.json").read_text())["faces"]

    def test_a_write_that_fails_leaves_the_older_result(
        self,
        predict: Run,
        face_crop: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        out = tmp_path / "out" / "faces.json"
        out.parent.mkdir()
        out.write_text("old")

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        ended = predict(face_crop, "--out", out, "--whole")
        assert ended.status == 1
        assert ended.err.splitlines()[-1].endswith("can't be written: No space left on device")
        assert out.read_text() == "old"
        assert [path.name for path in out.parent.iterdir()] == ["faces.json"]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--out", "photo.png", "--format", "json"], "would be replaced"),
            (["--draw", "photo.png"], "would be replaced"),
            (["--draw", "same.png", "--out", "same.png", "--format", "csv"], "two results"),
            (["--draw", "same.gif"], "ends in none of"),
            (["--out", "results.xlsx"], "ends in none of"),
            (["--out", ".", "--format", "json"], "is a folder"),
            (["photo.bmp", "--draw", "one.png"], "several photos need a folder"),
            (["photo.bmp", "--out", "one.pts"], "need a folder"),
            (["photo.bmp", "--format", "pts"], "need a folder"),
            (["photo.bmp", "--box", 9, 9, 90, 90, "--box", 8, 8, 80, 80], "need one photo"),
            (["--box", 90, 9, 9, 90], "no extent"),
            (["--box", 9, 9, 90, "nan"], "not finite"),
            (["--box", 9, 9, 90], "expected 4 arguments"),
            (["--box", 9, 9, 90, 90, "--whole"], "not allowed with"),
            (["--box", 9, 9, 90, 90, "--detector", "dlib"], "not allowed with"),
            (["--detector", "haar"], "invalid choice"),
            (["--looks", 2], "nothing for a second look"),
            (["--looks", 3], "invalid choice"),
            (["--format", "yaml"], "invalid choice"),
            (["--frmat", "csv"], "unrecognized arguments"),
        ],
    )
    def test_a_wrong_command_line_does_nothing(
        self,
        predict: Run,
        face_crop: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[object],
        complaint: str,
    ) -> None:
        folder = tmp_path / "work"
        folder.mkdir()
        monkeypatch.chdir(folder)
        for name in ("photo.png", "photo.bmp"):
            Image.open(face_crop).save(name)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        where = [] if {"--box", "--detector"} & set(arguments) else ["--whole"]
        ended = predict("photo.png", *arguments, *where)
        assert ended.status == 2
        assert complaint in ended.err
        assert ended.err.count("\n") == 1
        assert ended.out == ""
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
