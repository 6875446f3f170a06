"""npshapenet predict: what it finds, where it writes it, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import npshapenet
from npshapenet.markup import REGIONS

BOX = ("175", "76", "266", "167")
OTHER_BOX = ("190", "90", "260", "160")

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def expected(weights_file: Path, astronaut: Path) -> Callable[..., np.ndarray]:
    """The landmarks in the photo by the package's own functions."""
    model = npshapenet.load(weights_file, backend="numpy")

    def landmarks(box: tuple[str, ...] = BOX, photo: Path = astronaut) -> np.ndarray:
        crop = npshapenet.crop_face(Image.open(photo), [float(edge) for edge in box], model)
        return crop.to_photo(model.predict(crop))

    return landmarks


def landmarks_of(text: str, face: int = 0) -> np.ndarray:
    return np.array(json.loads(text)["faces"][face]["landmarks"])


def points_of(text: str) -> np.ndarray:
    """The numbers between the braces of a .pts file."""
    lines = text[text.index("{") + 1 : text.index("}")].split()
    return np.array(lines, np.float64).reshape(-1, 2)


class TestResults:
    def test_table_has_a_line_for_each_point(
        self, predict: Run, astronaut: Path, expected: Run
    ) -> None:
        ended = predict(astronaut, "--box", *BOX)
        assert (ended.status, ended.err) == (0, "")
        head, columns, *rows = ended.out.splitlines()
        assert head == f"{astronaut}, 512×512, box 175 76 266 167"
        assert columns.split() == ["point", "region", "x", "y"]
        found = np.array([[float(text) for text in row.split()[2:]] for row in rows])
        np.testing.assert_allclose(found, expected(), atol=0.0051)
        assert [row.split()[0] for row in rows] == [str(index) for index in range(68)]
        assert all(rows[index].split()[1] == "left_eye" for index in REGIONS["left_eye"])

    def test_json(self, predict: Run, astronaut: Path, expected: Run, weights_file: Path) -> None:
        ended = predict(astronaut, "--box", *BOX, "--format", "json")
        report = json.loads(ended.out)
        (face,) = report["faces"]
        assert face["photo"] == str(astronaut)
        assert (face["width"], face["height"]) == (512, 512)
        assert face["box"] == [175, 76, 266, 167]
        np.testing.assert_allclose(face["landmarks"], expected(), atol=0.00051)
        assert report["failed"] == []
        assert report["model"] == str(weights_file)
        assert report["backend"] == "numpy"
        assert report["markup"] == "ibug68"
        assert report["npshapenet"] == npshapenet.__version__

    def test_csv(self, predict: Run, astronaut: Path, expected: Run) -> None:
        ended = predict(astronaut, "--box", *BOX, "--box", *OTHER_BOX, "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(ended.out)))
        assert [row["face"] for row in rows] == ["1"] * 68 + ["2"] * 68
        assert [int(row["point"]) for row in rows] == [*range(68), *range(68)]
        assert rows[30]["region"] == "nose_bridge"
        found = np.array([[float(row["x"]), float(row["y"])] for row in rows])
        np.testing.assert_allclose(found[:68], expected(), atol=0.00051)
        np.testing.assert_allclose(found[68:], expected(OTHER_BOX), atol=0.00051)

    def test_pts_counts_pixels_from_one(self, predict: Run, astronaut: Path, expected: Run) -> None:
        ended = predict(astronaut, "--box", *BOX, "--format", "pts")
        assert ended.out.splitlines()[:3] == ["version: 1", "n_points: 68", "{"]
        assert ended.out.endswith("}\n")
        np.testing.assert_allclose(points_of(ended.out), expected() + 1, atol=0.00051)

    def test_pts_are_read_back_by_reference(
        self, predict: Run, astronaut: Path, expected: Run, tmp_path: Path
    ) -> None:
        pytest.importorskip("lxml")
        from reference.data.labels import read_labels

        photo = tmp_path / "faces" / "astronaut.jpg"
        photo.parent.mkdir()
        photo.write_bytes(astronaut.read_bytes())
        predict(photo, "--box", *BOX, "--out", photo.with_suffix(".pts"))
        (face,) = read_labels(photo.parent)
        np.testing.assert_allclose(face.landmarks, expected(), atol=0.001)

    def test_without_a_box_the_picture_is_the_crop(
        self, predict: Run, face_crop: Path, weights_file: Path
    ) -> None:
        ended = predict(face_crop, "--format", "json")
        assert "no --box" in ended.err
        assert "1.5 times its box" in ended.err
        assert json.loads(ended.out)["faces"][0]["box"] is None
        model = npshapenet.load(weights_file, backend="numpy")
        crop = np.asarray(Image.open(face_crop))
        np.testing.assert_allclose(landmarks_of(ended.out), model.predict(crop), atol=0.00051)

    def test_several_photos_share_one_box(
        self, predict: Run, astronaut: Path, face_crop: Path
    ) -> None:
        ended = predict(astronaut, face_crop, "--box", 20, 20, 120, 120, "--format", "json")
        assert [face["photo"] for face in json.loads(ended.out)["faces"]] == [
            str(astronaut),
            str(face_crop),
        ]

    def test_a_box_may_begin_outside_the_photo(
        self, predict: Run, astronaut: Path, expected: Run
    ) -> None:
        box = ("-40", "-12.5", "160", "187.5")
        ended = predict(astronaut, "--box", *box, "--format", "json")
        assert json.loads(ended.out)["faces"][0]["box"] == [-40, -12.5, 160, 187.5]
        np.testing.assert_allclose(landmarks_of(ended.out), expected(box), atol=0.00051)

    def test_a_photo_given_twice_is_done_once(self, predict: Run, face_crop: Path) -> None:
        again = face_crop.parent / "." / ".." / face_crop.parent.name / face_crop.name
        ended = predict(face_crop, again, "--format", "json")
        assert len(json.loads(ended.out)["faces"]) == 1

    def test_points_of_another_markup_have_no_region(
        self, run: Run, face_crop: Path, tmp_path: Path, weights: Any, make_shape_model: Run
    ) -> None:
        import dataclasses

        from npshapenet.weights import write

        path = tmp_path / "five.npz"
        changes = {"shape_model": make_shape_model(landmarks=5), "markup": "points5"}
        write(path, dataclasses.replace(weights, **changes))
        ended = run("predict", face_crop, "--model", path, "--backend", "numpy", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(ended.out)))
        assert [(row["point"], row["region"]) for row in rows] == [(str(i), "") for i in range(5)]


class TestPictures:
    """Files of every kind give the landmarks of the picture that a person sees in them."""

    @pytest.fixture
    def gray_landmarks(self, predict: Run, face_crop: Path) -> np.ndarray:
        return landmarks_of(predict(face_crop, "--format", "json").out)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_rotation(
        self, predict: Run, astronaut: Path, tmp_path: Path, expected: Run, orientation: int
    ) -> None:
        turned_back = {
            2: [Image.Transpose.FLIP_LEFT_RIGHT],
            3: [Image.Transpose.ROTATE_180],
            4: [Image.Transpose.FLIP_TOP_BOTTOM],
            5: [Image.Transpose.TRANSPOSE],
            6: [Image.Transpose.ROTATE_90],
            7: [Image.Transpose.TRANSVERSE],
            8: [Image.Transpose.ROTATE_270],
        }
        # Not square, so that width and height can't be mixed up.
        stored = Image.open(astronaut).crop((0, 0, 512, 300))
        upright = tmp_path / "upright.png"
        stored.save(upright)
        for step in turned_back.get(orientation, []):
            stored = stored.transpose(step)
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo = tmp_path / "turned.png"
        stored.save(photo, exif=exif)
        face = json.loads(predict(photo, "--box", *BOX, "--format", "json").out)["faces"][0]
        assert (face["width"], face["height"]) == (512, 300)
        np.testing.assert_allclose(face["landmarks"], expected(photo=upright), atol=0.00051)

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_16_bits(
        self,
        predict: Run,
        face_crop: Path,
        tmp_path: Path,
        gray_landmarks: np.ndarray,
        ending: str,
    ) -> None:
        gray = np.asarray(Image.open(face_crop)).astype(np.uint16)
        photo = tmp_path / f"deep.{ending}"
        Image.fromarray(gray * 257).save(photo)
        ended = predict(photo, "--format", "json")
        np.testing.assert_array_equal(landmarks_of(ended.out), gray_landmarks)

    def test_palette(
        self, predict: Run, face_crop: Path, tmp_path: Path, gray_landmarks: np.ndarray
    ) -> None:
        photo = tmp_path / "palette.png"
        Image.open(face_crop).convert("P").save(photo)
        assert Image.open(photo).mode == "P"
        ended = predict(photo, "--format", "json")
        np.testing.assert_array_equal(landmarks_of(ended.out), gray_landmarks)

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_alpha(
        self,
        predict: Run,
        face_crop: Path,
        tmp_path: Path,
        gray_landmarks: np.ndarray,
        mode: str,
    ) -> None:
        photo = tmp_path / "alpha.png"
        Image.open(face_crop).convert(mode).save(photo)
        ended = predict(photo, "--format", "json", "--draw", tmp_path / "drawn")
        np.testing.assert_array_equal(landmarks_of(ended.out), gray_landmarks)
        with Image.open(tmp_path / "drawn" / "alpha-landmarks.png") as drawn:
            assert drawn.mode == "RGB"

    def test_transparent_parts_are_white(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        gray = np.asarray(Image.open(face_crop)).copy()
        hidden = np.zeros(gray.shape, bool)
        hidden[:40] = True
        transparent, white = tmp_path / "transparent.png", tmp_path / "white.png"
        alpha = np.where(hidden, 0, 255).astype(np.uint8)
        Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]).save(transparent)
        Image.fromarray(np.where(hidden, 255, gray).astype(np.uint8)).save(white)
        ended = predict(transparent, white, "--format", "json")
        np.testing.assert_array_equal(landmarks_of(ended.out, 0), landmarks_of(ended.out, 1))


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
        predict(photo, "--draw", tmp_path / "drawn.png")
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
        ended = predict(*photos, "--format", "pts", "--out", out, "--draw", out)
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
        predict(face_crop, other, "--format", "pts", "--out", out)
        assert sorted(path.name for path in out.iterdir()) == ["crop.bmp.pts", "crop.png.pts"]

    def test_older_results_are_replaced_and_nothing_is_left_beside(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out" / "faces.json"
        out.parent.mkdir()
        out.write_text("old")
        predict(face_crop, "--out", out)
        assert len(json.loads(out.read_text())["faces"]) == 1
        assert [path.name for path in out.parent.iterdir()] == ["faces.json"]

    def test_a_link_stays_a_link(self, predict: Run, face_crop: Path, tmp_path: Path) -> None:
        (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
        predict(face_crop, "--out", tmp_path / "link.json")
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
        ended = predict(face_crop, "--out", out)
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
        ended = predict("photo.png", *arguments)
        assert ended.status == 2
        assert complaint in ended.err
        assert ended.err.count("\n") == 1
        assert ended.out == ""
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class TestFailures:
    @pytest.fixture
    def bad_files(self, astronaut: Path, tmp_path: Path) -> dict[str, Path]:
        photo = astronaut.read_bytes()
        contents = {"text.jpg": b"no picture", "empty.png": b"", "cut.jpg": photo[:20000]}
        paths = {name: tmp_path / name for name in contents}
        for name, content in contents.items():
            paths[name].write_bytes(content)
        paths["missing.png"] = tmp_path / "missing.png"
        paths["folder"] = tmp_path / "folder"
        paths["folder"].mkdir()
        Image.new("L", (40, 12)).save(tmp_path / "small.png")
        paths["small.png"] = tmp_path / "small.png"
        floats = np.full((40, 40), 3000, np.float32)
        Image.fromarray(floats).save(tmp_path / "floats.tif")
        paths["floats.tif"] = tmp_path / "floats.tif"
        return paths

    def test_each_bad_file_gets_a_line_and_the_others_are_done(
        self, predict: Run, face_crop: Path, bad_files: dict[str, Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "faces.json"
        ended = predict(*bad_files.values(), face_crop, "--out", out)
        assert ended.status == 1
        _, *lines = ended.err.splitlines()
        reasons = {
            "text.jpg": "is not a picture",
            "empty.png": "is not a picture",
            "cut.jpg": "truncated",
            "missing.png": "No such file",
            "folder": "is a folder",
            "small.png": "16×16",
            "floats.tif": "3000",
        }
        assert len(lines) == len(reasons)
        for line, (name, reason) in zip(lines, reasons.items(), strict=True):
            assert line.startswith(f"npshapenet: {bad_files[name]}: ")
            assert reason in line
        report = json.loads(out.read_text())
        assert [face["photo"] for face in report["faces"]] == [str(face_crop)]
        assert [failed["photo"] for failed in report["failed"]] == [
            str(path) for path in bad_files.values()
        ]

    def test_a_box_outside_one_photo_fails_that_photo(
        self, predict: Run, astronaut: Path, face_crop: Path
    ) -> None:
        ended = predict(astronaut, face_crop, "--box", *BOX, "--format", "json")
        assert ended.status == 1
        assert f"{face_crop}: box 175 76 266 167" in ended.err
        assert [face["photo"] for face in json.loads(ended.out)["faces"]] == [str(astronaut)]

    def test_a_box_of_a_pixel_names_the_box(self, predict: Run, astronaut: Path) -> None:
        ended = predict(astronaut, "--box", 100, 100, 101, 101)
        assert ended.status == 1
        assert "box 100 100 101 101" in ended.err
        assert ended.out == ""

    def test_an_overlay_that_fails_keeps_the_landmarks(
        self, predict: Run, face_crop: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "drawn"
        (folder / "crop-landmarks.png").mkdir(parents=True)
        ended = predict(face_crop, "--draw", folder, "--format", "json")
        assert ended.status == 1
        assert "can't be written" in ended.err
        report = json.loads(ended.out)
        assert len(report["faces"]) == len(report["failed"]) == 1

    def test_a_folder_that_is_a_file(self, predict: Run, face_crop: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        ended = predict(face_crop, "--draw", tmp_path / "file" / "drawn.png")
        assert ended.status == 1
        assert "can't be made" in ended.err

    def test_huge_pictures_are_refused(
        self, predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        Image.new("L", (60, 60)).save(tmp_path / "huge.png")
        Image.new("L", (40, 40)).save(tmp_path / "large.png")
        ended = predict(tmp_path / "huge.png", tmp_path / "large.png", "--format", "json")
        assert ended.status == 1
        assert "huge.png: Image size" in ended.err
        assert ended.err.count("\n") == 2
        assert len(json.loads(ended.out)["faces"]) == 1

    def test_models_that_can_not_be_opened(self, run: Run, face_crop: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken.npz"
        broken.write_bytes(b"PK")
        for model, status in [("nosuch", 2), (tmp_path / "nosuch.npz", 2), (broken, 1)]:
            ended = run("predict", face_crop, "--model", model)
            assert ended.status == status
            assert ended.err.count("\n") == 1
            assert str(model) in ended.err

    @pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
    def test_a_name_that_is_no_unicode(self, predict: Run, face_crop: Path, tmp_path: Path) -> None:
        photo = tmp_path / os.fsdecode(b"f\xfcnf.png")
        photo.write_bytes(face_crop.read_bytes())
        for form in ("table", "json", "csv"):
            assert predict(photo, "--format", form).status == 0
            out = tmp_path / f"out.{form}"
            assert predict(photo, "--format", form, "--out", out).status == 0
            assert (b"\\udcfc" if form == "json" else b"\xfc") in out.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")
class TestEnding:
    """How the process ends, from outside."""

    def command(self, weights_file: Path, *arguments: object) -> list[str]:
        fixed = ["--model", weights_file, "--backend", "numpy"]
        return [
            sys.executable,
            "-P",
            "-m",
            "npshapenet",
            "predict",
            *map(str, [*fixed, *arguments]),
        ]

    def test_a_closed_pipe_ends_quietly(self, weights_file: Path, face_crop: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run(
            self.command(weights_file, face_crop),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writer)
        assert ended.returncode == 141
        assert ended.stderr.count("\n") == 1  # that there is no box

    def test_results_can_go_to_the_screen_by_its_path(
        self, weights_file: Path, face_crop: Path
    ) -> None:
        ended = subprocess.run(
            self.command(weights_file, face_crop, "--out", "/dev/stdout", "--format", "json"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(json.loads(ended.stdout)["faces"]) == 1

    def test_an_interrupt_ends_with_130(
        self, predict: Run, face_crop: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(npshapenet.Model, "predict", interrupt)
        ended = predict(face_crop)
        assert ended.status == 130
        assert ended.err.splitlines()[-1] == "npshapenet: interrupted"
