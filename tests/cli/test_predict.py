"""npshapenet predict: what it finds, in photos of every kind."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import npshapenet
from npshapenet.markup import REGIONS

#: The face of astronaut.jpg.
BOX = ("175", "76", "266", "167")
OTHER_BOX = ("190", "90", "260", "160")

Run = Callable[..., Any]


def landmarks_of(text: str, face: int = 0) -> np.ndarray:
    """The landmarks (L, 2) of a face in JSON results."""
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
        assert face["quality"] is None  # the small weights give none
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

    def test_the_whole_picture_as_the_crop(
        self, predict: Run, face_crop: Path, weights_file: Path
    ) -> None:
        ended = predict(face_crop, "--format", "json", "--whole")
        assert ended.err == ""
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
        ended = predict(face_crop, again, "--format", "json", "--whole")
        assert len(json.loads(ended.out)["faces"]) == 1

    def test_points_of_another_markup_have_no_region(
        self, run: Run, face_crop: Path, tmp_path: Path, weights: Any, make_shape_model: Run
    ) -> None:

        from npshapenet.weights import write

        path = tmp_path / "five.npz"
        changes = {"shape_model": make_shape_model(landmarks=5), "markup": "points5"}
        write(path, dataclasses.replace(weights, **changes))
        model = ["--model", path, "--backend", "numpy"]
        ended = run("predict", face_crop, *model, "--whole", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(ended.out)))
        assert [(row["point"], row["region"]) for row in rows] == [(str(i), "") for i in range(5)]


class TestPictures:
    """Files of every kind give the landmarks of the picture that a person sees in them."""

    @pytest.fixture
    def gray_landmarks(self, predict: Run, face_crop: Path) -> np.ndarray:
        return landmarks_of(predict(face_crop, "--format", "json", "--whole").out)

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
        ended = predict(photo, "--format", "json", "--whole")
        np.testing.assert_array_equal(landmarks_of(ended.out), gray_landmarks)

    def test_palette(
        self, predict: Run, face_crop: Path, tmp_path: Path, gray_landmarks: np.ndarray
    ) -> None:
        photo = tmp_path / "palette.png"
        Image.open(face_crop).convert("P").save(photo)
        assert Image.open(photo).mode == "P"
        ended = predict(photo, "--format", "json", "--whole")
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
        ended = predict(photo, "--format", "json", "--draw", tmp_path / "drawn", "--whole")
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
        ended = predict(transparent, white, "--format", "json", "--whole")
        np.testing.assert_array_equal(landmarks_of(ended.out, 0), landmarks_of(ended.out, 1))
