"""npshapenet demo, and the photos that come with the package."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npshapenet.cli import demo
from npshapenet.cli.demo_photos import PEOPLE, read_demo_photo
from npshapenet.cli.errors import CommandError
from npshapenet.image import Crop
from npshapenet.model import Model

Run = Callable[..., Any]


@pytest.fixture
def only_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Numba can't be had: nothing is compiled."""
    open_model = demo.open_model

    def open_numpy_model(path: str, backend: Any = None) -> Model:
        if backend == "numba":
            raise CommandError("Numba isn't installed")
        return open_model(path, backend)

    monkeypatch.setattr(demo, "open_model", open_numpy_model)


def sections(out: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in out.splitlines())


class TestDemo:
    def test_both_backends_are_timed(
        self, run: Run, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("numba")
        monkeypatch.chdir(tmp_path)
        ended = run("demo", "--model", weights_file)
        assert ended.status == 0
        said = sections(ended.out)
        for backend in ("numpy", "numba"):
            assert re.match(r"first call [\d.]+ m?s\b.*, then [\d.]+ ms a face", said[backend])
        assert re.fullmatch(r"the two differ by at most \S+ px", said["agreement"])
        picture = tmp_path / "npshapenet-demo.png"
        assert said["picture"].startswith(f"{picture}, ")
        Image.open(picture).verify()

    @pytest.mark.usefixtures("only_numpy")
    @pytest.mark.parametrize("name", PEOPLE)
    def test_picture(self, run: Run, weights_file: Path, tmp_path: Path, name: str) -> None:
        picture = tmp_path / "picture.jpg"
        ended = run("demo", "--photo", name, "--model", weights_file, "--out", picture)
        assert ended.status == 0
        assert sections(ended.out)["photo"].startswith(f"{name}.jpg, ")
        with Image.open(picture) as drawn:
            assert (drawn.format, drawn.size) == ("JPEG", (640, 640))

    @pytest.mark.usefixtures("only_numpy")
    def test_without_numba_it_says_so_and_goes_on(
        self, run: Run, weights_file: Path, tmp_path: Path
    ) -> None:
        ended = run("demo", "--model", weights_file, "--out", tmp_path / "picture.png")
        said = sections(ended.out)
        assert ended.status == 0
        assert said["numba"] == "not available: Numba isn't installed"
        assert "agreement" not in said
        assert said["error"].split()[1] == "%"

    def test_a_picture_that_can_not_be_written(
        self, run: Run, weights_file: Path, tmp_path: Path
    ) -> None:
        assert run("demo", "--model", weights_file, "--out", tmp_path / "picture.gif").status == 2

    def test_timing_tells_the_first_call_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = 0.0
        durations = iter([7.0] + [0.25] * 1000)

        def predict() -> np.ndarray:
            nonlocal clock
            clock += next(durations)
            return np.zeros((68, 2), np.float32)

        monkeypatch.setattr(demo.time, "perf_counter", lambda: clock)
        timing = demo._time(predict)
        assert (timing.first_ms, timing.median_ms) == (7000, 250)
        assert timing.calls == 10


@pytest.mark.parametrize("name", PEOPLE)
class TestPhotos:
    def test_points_are_on_the_face(self, name: str) -> None:
        photo = read_demo_photo(name)
        assert photo.image.mode == "RGB"
        assert photo.landmarks.shape == (68, 2)
        margin = 0.25 * photo.box.width
        low = np.array([photo.box.left, photo.box.top]) - margin
        high = np.array([photo.box.right, photo.box.bottom]) + margin
        assert ((photo.landmarks > low) & (photo.landmarks < high)).all()
        right_eye, left_eye = (
            photo.landmarks[eye].mean(axis=0) for eye in (slice(36, 42), slice(42, 48))
        )
        assert right_eye[0] < left_eye[0]

    def test_reference_reads_the_same(self, name: str) -> None:
        pytest.importorskip("lxml")
        from reference.data.labels import read_labels

        photo = read_demo_photo(name)
        faces = {
            Path(face.image).stem: face
            for face in read_labels(Path(str(files("npshapenet"))) / "demo" / "labels.xml")
        }
        np.testing.assert_allclose(faces[name].landmarks, photo.landmarks, atol=1e-4)
        assert faces[name].box == photo.box.edges


@pytest.mark.parametrize("corner", [(20, 30), (-20, -30), (400, 380)])
def test_close_up_moves_the_landmarks_with_the_photo(corner: tuple[int, int]) -> None:
    pixels = np.zeros((512, 512, 3), np.uint8)
    landmarks = np.array([[430.0, 410.0], [35.0, 40.0]], np.float32)
    columns, rows = landmarks.astype(int).T
    pixels[rows, columns] = 255
    crop = Crop(np.zeros((100, 100), np.uint8), *corner)
    image, moved = demo._close_up(Image.fromarray(pixels), crop, landmarks)
    assert image.size == (640, 640)
    inside = ((moved >= 0) & (moved < 640)).all(axis=1)
    assert inside.sum() == 1
    ((x, y),) = moved[inside]
    bright_rows, bright_columns = np.nonzero(np.asarray(image)[..., 0] > 200)
    assert abs(bright_columns.mean() - x) < 0.5
    assert abs(bright_rows.mean() - y) < 0.5
