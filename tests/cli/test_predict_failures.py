"""npshapenet predict: what becomes of bad files, and how it ends."""

from __future__ import annotations

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

#: The face of astronaut.jpg.
BOX = ("175", "76", "266", "167")

Run = Callable[..., Any]


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
        ended = predict(*bad_files.values(), face_crop, "--out", out, "--whole")
        assert ended.status == 1
        lines = ended.err.splitlines()
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
        ended = predict(face_crop, "--draw", folder, "--format", "json", "--whole")
        assert ended.status == 1
        assert "can't be written" in ended.err
        report = json.loads(ended.out)
        assert len(report["faces"]) == len(report["failed"]) == 1

    def test_a_folder_that_is_a_file(self, predict: Run, face_crop: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        ended = predict(face_crop, "--draw", tmp_path / "file" / "drawn.png", "--whole")
        assert ended.status == 1
        assert "can't be made" in ended.err

    def test_huge_pictures_are_refused(
        self, predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        Image.new("L", (60, 60)).save(tmp_path / "huge.png")
        Image.new("L", (40, 40)).save(tmp_path / "large.png")
        ended = predict(
            tmp_path / "huge.png", tmp_path / "large.png", "--format", "json", "--whole"
        )
        assert ended.status == 1
        assert "huge.png: Image size" in ended.err
        assert ended.err.count("\n") == 1
        assert len(json.loads(ended.out)["faces"]) == 1

    def test_models_that_can_not_be_opened(self, run: Run, face_crop: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken.npz"
        broken.write_bytes(b"PK")
        for model, status in [("nosuch", 2), (tmp_path / "nosuch.npz", 2), (broken, 1)]:
            ended = run("predict", face_crop, "--model", model, "--whole")
            assert ended.status == status
            assert ended.err.count("\n") == 1
            assert str(model) in ended.err

    @pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
    def test_a_name_that_is_no_unicode(self, predict: Run, face_crop: Path, tmp_path: Path) -> None:
        photo = tmp_path / os.fsdecode(b"f\xfcnf.png")
        photo.write_bytes(face_crop.read_bytes())
        for form in ("table", "json", "csv"):
            assert predict(photo, "--format", form, "--whole").status == 0
            out = tmp_path / f"out.{form}"
            assert predict(photo, "--format", form, "--out", out, "--whole").status == 0
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
            self.command(weights_file, face_crop, "--whole"),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writer)
        assert ended.returncode == 141
        assert ended.stderr == ""

    def test_results_can_go_to_the_screen_by_its_path(
        self, weights_file: Path, face_crop: Path
    ) -> None:
        ended = subprocess.run(
            self.command(
                weights_file, face_crop, "--out", "/dev/stdout", "--format", "json", "--whole"
            ),
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
        ended = predict(face_crop, "--whole")
        assert ended.status == 130
        assert ended.err.splitlines()[-1] == "npshapenet: interrupted"
