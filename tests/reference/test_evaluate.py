"""python -m reference.evaluate, from labels and systems to figures and pictures.

The systems here are small networks with random weights, so that nothing but the arithmetic of
crops, coordinates and figures is tested: what they find is known from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npshapenet.layers import Convolution, Dense
from npshapenet.network import Network
from npshapenet.shape import ShapeModel
from npshapenet.weights import Normalisation, Weights, write
from reference import evaluate as command
from reference import metrics, report, sheets
from reference.data.labels import LabelError, LabelledFace
from reference.evaluation import Evaluation, evaluate
from reference.systems import CheckpointSystem, DlibSystem, UnusableSystem, open_system
from reference.views import View, open_view

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIDE_PX = 32
CROP_FACTOR = 1.5
COMPONENTS = 3
BOX = (30, 24, 90, 84)

# A face of a kind: 68 points on an ellipse, in the network's coordinates; its corners of the
# eyes (36 and 45) lie apart.
ANGLES_RAD = np.arange(68) * (2 * np.pi / 68)
MEAN = np.stack([0.5 * np.cos(ANGLES_RAD), 0.6 * np.sin(ANGLES_RAD)], axis=1).astype(np.float32)


def in_photo(points: np.ndarray, box: Sequence[float] = BOX) -> np.ndarray:
    """Network coordinates → photo, by the conventions: a square of 1.5 × the box around it."""
    left, top, right, bottom = box
    side = CROP_FACTOR * (right - left)
    corner = np.array([(left + right - side) / 2, (top + bottom - side) / 2])
    return corner + (points + 1) / 2 * side - 0.5


TRUTH = in_photo(MEAN).round(3)


def random_weights(seed: int = 0, spread: float = 1.0) -> Weights:
    """A convolution and a dense layer; without spread, each face is the mean, in the middle."""
    rng = np.random.default_rng(seed)
    layers = (
        Convolution("c", "input", 4, (3, 3), (4, 4), (1, 1), activation="relu"),
        Dense("d", "c", COMPONENTS + 4),
    )
    network = Network((1, SIDE_PX, SIDE_PX), layers)
    tensors = {
        name: spread * rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in network.tensor_shapes().items()
    }
    tensors["d.bias"] = np.array([0] * COMPONENTS + [1, 0, 0, 0], np.float32)
    components = rng.normal(0, 0.02, (COMPONENTS, 68, 2)).astype(np.float32)
    return Weights(
        network=network,
        tensors={name: tensor.astype(np.float32) for name, tensor in tensors.items()},
        shape_model=ShapeModel(MEAN, components),
        normalisation=Normalisation(1.0, 0.0),
        crop_factor=CROP_FACTOR,
        markup="ibug68",
        storage="float32",
    )


def random_photo(seed: int, width: int = 120, height: int = 110) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def image_element(file: str, points: np.ndarray = TRUTH, box: Sequence[float] = BOX) -> str:
    left, top, right, bottom = box
    parts = "".join(f"<part name='{k:02d}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(points))
    size = f"left='{left}' top='{top}' width='{right - left}' height='{bottom - top}'"
    return f"<image file='{file}'><box {size}>{parts}</box></image>"


def write_labels(folder: Path, elements: Sequence[str]) -> Path:
    path = folder / "labels.xml"
    path.write_text(f"<dataset><images>{''.join(elements)}</images></dataset>")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Five photos of one face each."""
    folder = tmp_path / "data" / "set"
    folder.mkdir(parents=True)
    for k in range(5):
        random_photo(k).save(folder / f"{k}.png")
    return write_labels(folder, [image_element(f"{k}.png") for k in range(5)])


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.npz"
    write(path, random_weights())
    return path


def run(*arguments: object) -> int:
    return command.main([str(argument) for argument in arguments])


def refused(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@dataclass(frozen=True)
class Shifted:
    """A system that finds the truth, moved: what it is asked for comes in by the side door."""

    name: str
    by_px: Callable[[int], float]
    calls: list[int]

    def __call__(self, photo: Image.Image, box: Sequence[float]) -> np.ndarray:
        self.calls.append(len(self.calls))
        return TRUTH + np.array([0, self.by_px(self.calls[-1])])


EYE_DISTANCE_PX = float(np.hypot(*(TRUTH[36] - TRUTH[45])))


def shifted(name: str, *percents: float) -> Shifted:
    return Shifted(name, lambda call: percents[call] / 100 * EYE_DISTANCE_PX, [])


class TestEvaluate:
    def test_figures_are_those_of_the_errors(self, labels: Path) -> None:
        system = shifted("s", 1, 2, 3, 9, 20)
        evaluation = evaluate([system], labels, "set")
        assert [face.name for face in evaluation.faces] == [f"{k}.png#0" for k in range(5)]
        figures = evaluation.results["s"].figures()
        assert figures is not None
        assert figures.nme_mean == pytest.approx(7)
        assert figures.nme_median == pytest.approx(3)
        assert (figures.failure_rate_8, figures.failure_rate_10) == (40, 20)
        assert figures.auc_8 == pytest.approx((7 + 6 + 5) / 8 / 5)

    def test_each_photo_is_opened_once(self, labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = []
        real_open = Image.open
        monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or real_open(path))
        evaluate([shifted("a", *[0] * 5), shifted("b", *[0] * 5)], labels, "set")
        assert len(opened) == 5

    def test_labels_that_cannot_be_evaluated_are_named_not_fatal(self, labels: Path) -> None:
        folder = labels.parent
        one_place = TRUTH.copy()
        one_place[36] = one_place[45]
        (folder / "text.png").write_text("no image")
        (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:2000])
        elements = [
            image_element("text.png"),
            image_element("1.png"),
            image_element("cut.png"),
            image_element("2.png", one_place),
            image_element("2.png", TRUTH[:67]),
            image_element("gone.png"),
            image_element("2.png", box=(300, 300, 360, 360)),
            image_element("2.png", box=(-5000, -5000, 5000, 5000)),
        ]
        evaluation = evaluate([shifted("s", 4)], write_labels(folder, elements), "set")
        figures = evaluation.results["s"].figures()
        assert figures is not None
        assert (figures.faces, figures.nme_mean) == (1, pytest.approx(4))
        assert [(item.face.split("#")[0], item.kind) for item in evaluation.skipped] == [
            ("text.png", "unreadable image"),
            ("cut.png", "unreadable image"),
            ("2.png", "no eye distance"),
            ("2.png", "missing parts"),
            ("gone.png", "missing image"),
            ("2.png", "box outside the photo"),
            ("2.png", "box too large"),
        ]

    def test_faces_that_one_system_refuses_are_named_and_left_out_of_its_figures(
        self, labels: Path
    ) -> None:
        class Picky:
            name = "picky"
            answers = iter([None, TRUTH, TRUTH * np.nan, TRUTH[:5], TRUTH])

            def __call__(self, photo: Image.Image, box: Sequence[float]) -> np.ndarray:
                answer = next(self.answers)
                if answer is None:
                    raise ValueError("I don't like it")
                return answer

        evaluation = evaluate([Picky(), shifted("s", *[5] * 5)], labels, "set")
        picky = evaluation.results["picky"]
        assert list(picky.places) == [1, 4]
        assert picky.nme_percent() == pytest.approx([0, 0])
        assert [item.face for item in picky.failures] == ["0.png#0", "2.png#0", "3.png#0"]
        assert picky.failures[0].detail == "I don't like it"
        figures = evaluation.results["s"].figures()
        assert figures is not None
        assert figures.faces == 5

    def test_a_system_that_finds_nothing_has_no_figures(self, labels: Path) -> None:
        class Blind:
            name = "blind"

            def __call__(self, photo: Image.Image, box: Sequence[float]) -> np.ndarray:
                raise ValueError("dark")

        evaluation = evaluate([Blind()], labels, "set")
        assert evaluation.results["blind"].figures() is None
        assert evaluation.results["blind"].nme_percent().shape == (0,)
        assert "–" in report.table(evaluation)

    def test_labels_that_are_none_raise(self, tmp_path: Path) -> None:
        (tmp_path / "labels.xml").write_text("not XML")
        with pytest.raises(LabelError, match="not XML"):
            evaluate([shifted("s")], tmp_path / "labels.xml", "set")

    def test_a_changed_view_changes_what_is_shown_and_what_is_true(self, labels: Path) -> None:
        def moved(view: View, place: int) -> View:
            offset = 10 * place
            left, top, right, bottom = view.box
            box = (left, top + offset, right, bottom + offset)
            return View(view.photo, box, view.landmarks + np.array([0, offset]), place > 2)

        boxes = []

        class Watching:
            name = "watching"

            def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
                boxes.append(box)
                return in_photo(MEAN, box)

        evaluation = evaluate([Watching()], labels, "set", change=moved)
        assert [box[1] for box in boxes] == [24, 34, 44, 54, 64]
        assert evaluation.results["watching"].nme_percent() == pytest.approx([0] * 5, abs=1e-2)
        assert list(evaluation.results["watching"].is_inside) == [False] * 3 + [True] * 2
        assert evaluation.view(3).box == boxes[3]


class TestViews:
    def face(self, path: Path) -> LabelledFace:
        return LabelledFace(path, path.name, BOX, TRUTH)

    def test_exif_rotation_is_honoured_once(self, tmp_path: Path) -> None:
        upright = random_photo(3)
        stored = upright.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # turn clockwise to see it upright
        stored.save(tmp_path / "turned.png", exif=exif)
        view = open_view(self.face(tmp_path / "turned.png"))
        np.testing.assert_array_equal(np.asarray(view.photo), np.asarray(upright))
        assert view.photo.getexif().get(0x0112, 1) == 1

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("RGB", "RGB"),
            ("L", "L"),
            ("P", "RGB"),
            ("RGBA", "RGB"),
            ("LA", "L"),
            ("1", "L"),
            ("I;16", "L"),
            ("CMYK", "RGB"),
        ],
    )
    def test_kinds_of_photos(self, tmp_path: Path, mode: str, expected: str) -> None:
        gray = random_photo(1).convert("L")
        if mode == "I;16":
            photo = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
        else:
            photo = (gray if mode in ("1", "LA") else random_photo(1)).convert(mode)
        path = tmp_path / f"photo.{'tif' if mode == 'CMYK' else 'png'}"
        photo.save(path)
        view = open_view(self.face(path))
        assert view.photo.mode == expected
        difference = np.asarray(view.photo.convert("L"), int) - np.asarray(gray, int)
        tolerance = {"P": 40, "1": 255, "CMYK": 2}.get(mode, 1)
        assert np.abs(difference).max() <= tolerance


class TestModels:
    def test_a_network_that_says_nothing_finds_the_mean_in_the_box(
        self, tmp_path: Path, labels: Path
    ) -> None:
        path = tmp_path / "mean.npz"
        write(path, random_weights(spread=0))
        found = open_system(str(path), "numpy")(random_photo(0), BOX)
        np.testing.assert_allclose(found, in_photo(MEAN), atol=1e-4)
        np.testing.assert_allclose(
            open_system(str(path), "numpy")(random_photo(0), (-20, 10, 40, 70)),
            in_photo(MEAN, (-20, 10, 40, 70)),
            atol=1e-4,
        )

    def test_backends_are_named_and_agree(self, weights_file: Path) -> None:
        pytest.importorskip("numba", reason="the compiled backend needs numba")
        photo = random_photo(5)
        systems = [
            open_system(f"{weights_file}:numpy"),
            open_system(f"{weights_file}:numba"),
            open_system(str(weights_file), "numba"),
        ]
        assert [s.name for s in systems] == [
            "small.npz:numpy",
            "small.npz:numba",
            "small.npz:numba",
        ]
        plain, *compiled = (system(photo, BOX) for system in systems)
        for found in compiled:
            np.testing.assert_allclose(found, plain, atol=0.01)

    def test_a_name_on_the_system_wins_over_the_option(self, weights_file: Path) -> None:
        assert open_system(f"{weights_file}:numpy", "numba").name == "small.npz:numpy"

    def test_a_box_too_small_is_refused(self, weights_file: Path) -> None:
        with pytest.raises(ValueError, match="box"):
            open_system(str(weights_file), "numpy")(random_photo(0), (10, 10, 14, 14))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gone.npz", "no such file"),
            ("gone.pt", "no such file"),
            ("gone.dat", "no such file"),
            ("nobody", "no bundled model"),
            ("photo.jpg", "not known what"),
            ("folder/model", "not known what"),
            ("text.npz", "text.npz"),
            ("text.dat:numba", "choice of backends"),
        ],
    )
    def test_what_is_no_system_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text.npz").write_text("text")
        (tmp_path / "text.dat").write_text("text")
        with pytest.raises(UnusableSystem, match=message) as caught:
            open_system(name)
        assert name.partition(":")[0] in str(caught.value)

    def test_another_number_of_landmarks_is_refused(self, tmp_path: Path) -> None:
        network = Network((1, 16, 16), (Dense("d", "input", 5),))
        weights = Weights(
            network=network,
            tensors={n: np.ones(s, np.float32) for n, s in network.tensor_shapes().items()},
            shape_model=ShapeModel(MEAN[:5], np.ones((1, 5, 2), np.float32)),
            normalisation=Normalisation(1.0, 0.0),
            crop_factor=1.5,
            markup="points5",
        )
        write(tmp_path / "five.npz", weights)
        with pytest.raises(UnusableSystem, match="finds 5 landmarks"):
            open_system(str(tmp_path / "five.npz"), "numpy")


class TestCheckpoints:
    @pytest.fixture
    def checkpoint_file(self, tmp_path: Path) -> Path:
        torch = pytest.importorskip("torch", reason="checkpoints are PyTorch's")
        from reference import checkpoint
        from reference.recipe import NetworkSettings, Recipe

        torch.manual_seed(0)
        blocks = (
            {"type": "convolution", "channels": 16, "stride": 4},
            {"type": "separable", "channels": 16, "stride": 2},
        )
        recipe = Recipe("tiny", network=NetworkSettings(side_px=SIDE_PX, blocks=blocks))
        shape_model = {
            "mean": torch.from_numpy(MEAN),
            "components": 0.05 * torch.randn(COMPONENTS, 68, 2),
            "parameter_scales": torch.full((COMPONENTS + 4,), 2.0),
            "parameter_offsets": torch.tensor([0.0] * COMPONENTS + [1.0, 0.1, 0.05, -0.05]),
            "limits": torch.tensor([[-10.0], [10.0]]).repeat(1, COMPONENTS + 4),
        }
        network = checkpoint.build_network(recipe, shape_model)
        for name, tensor in network.named_buffers():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
        torch.nn.init.normal_(network.extractor.dense.weight, std=0.3)
        state = network.state_dict()
        path = tmp_path / "best.pt"
        checkpoint.save(
            path,
            checkpoint.Checkpoint(
                recipe=recipe,
                shape_model=shape_model,
                averaged=state,
                model=state,
                optimizer={},
                step=1,
                average_count=1,
                best_percent=50.0,
                crop_factor=CROP_FACTOR,
                data=(),
                log=(),
            ),
        )
        return path

    def test_finds_what_its_exported_weights_find(
        self, checkpoint_file: Path, tmp_path: Path
    ) -> None:
        from reference import checkpoint
        from reference.export import to_weights

        exported = tmp_path / "exported.npz"
        write(exported, to_weights(checkpoint.load(checkpoint_file), "float32", {}))
        trained = open_system(str(checkpoint_file))
        assert isinstance(trained, CheckpointSystem)
        ours = open_system(str(exported), "numpy")
        photos = [random_photo(seed) for seed in range(3)]
        boxes = [BOX, (-10.5, 3, 41.25, 60), (0, 0, 110, 110)]
        found = [trained(p, b) for p, b in zip(photos, boxes, strict=True)]
        assert np.abs(trained(photos[1], BOX) - found[0]).max() > 1  # it looks at the photo
        for points, photo, box in zip(found, photos, boxes, strict=True):
            np.testing.assert_allclose(points, ours(photo, box), atol=0.01)

    def test_is_evaluated(
        self, checkpoint_file: Path, labels: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(checkpoint_file, "--labels", labels) == 0
        assert "best.pt" in capsys.readouterr().out

    def test_of_two_runs_are_told_apart(self, checkpoint_file: Path, tmp_path: Path) -> None:
        names = []
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "best.pt").write_bytes(checkpoint_file.read_bytes())
            names.append(str(tmp_path / folder / "best.pt"))
        assert [s.name for s in command.open_systems(names, None)] == names
        with pytest.raises(UnusableSystem, match="twice"):
            command.open_systems([names[0], names[0]], None)

    def test_another_pt_file_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("torch", reason="checkpoints are PyTorch's")
        (tmp_path / "text.pt").write_bytes(b"\0 no checkpoint")
        with pytest.raises(UnusableSystem, match=r"text\.pt: not a checkpoint"):
            open_system(str(tmp_path / "text.pt"))


class TestDlib:
    def trained(self, path: Path, points: np.ndarray) -> Path:
        """A predictor that has learnt one face, which it therefore finds in the same box."""
        dlib = pytest.importorskip("dlib", reason="its predictors are run by dlib")
        left, top, right, bottom = BOX
        face = dlib.full_object_detection(
            dlib.rectangle(left, top, right - 1, bottom - 1),
            [dlib.point(int(x), int(y)) for x, y in points],
        )
        options = dlib.shape_predictor_training_options()
        options.oversampling_amount = 1
        options.cascade_depth = 1
        options.num_trees_per_cascade_level = 1
        options.tree_depth = 2
        options.feature_pool_size = 10
        options.num_test_splits = 2
        options.num_threads = 1
        photos = [np.asarray(random_photo(0))] * 2
        dlib.train_shape_predictor(photos, [[face], [face]], options).save(str(path))
        return path

    def test_box_and_landmarks_are_in_our_conventions(self, tmp_path: Path) -> None:
        path = self.trained(tmp_path / "one.dat", TRUTH.round())
        system = open_system(str(path))
        assert isinstance(system, DlibSystem)
        np.testing.assert_array_equal(system(random_photo(0), BOX), TRUTH.round())
        moved = system(random_photo(0), tuple(edge + 7 for edge in BOX))
        np.testing.assert_array_equal(moved, TRUTH.round() + 7)
        # Twice the box, twice the face: dlib's corners are the first and the last pixel.
        double = system(random_photo(0), (30, 24, 149, 143))
        np.testing.assert_allclose(double, 2 * TRUTH.round() - BOX[:2], atol=1)

    def test_gray_photos_are_accepted(self, tmp_path: Path) -> None:
        system = open_system(str(self.trained(tmp_path / "one.dat", TRUTH.round())))
        np.testing.assert_array_equal(system(random_photo(0).convert("L"), BOX), TRUTH.round())

    def test_another_number_of_landmarks_is_refused(self, tmp_path: Path) -> None:
        path = self.trained(tmp_path / "five.dat", TRUTH[:5])
        with pytest.raises(UnusableSystem, match="finds 5 landmarks"):
            open_system(str(path))

    def test_another_dat_file_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("dlib", reason="its predictors are run by dlib")
        (tmp_path / "text.dat").write_text("text")
        with pytest.raises(UnusableSystem, match=r"text\.dat: not a shape predictor"):
            open_system(str(tmp_path / "text.dat"))

    def test_without_dlib_the_message_says_how_to_get_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "some.dat").write_text("text")
        monkeypatch.setitem(__import__("sys").modules, "dlib", None)
        with pytest.raises(UnusableSystem, match="pip install dlib-bin"):
            open_system(str(tmp_path / "some.dat"))

    @pytest.mark.parametrize(
        ("folder", "nme_percent", "failures_percent"),
        [("300w/common", 2.83, 1.6), ("aflw/val", 5.56, 8.3), ("ytf/val", 7.26, 24.8)],
    )
    def test_published_predictor_has_the_known_figures(
        self, folder: str, nme_percent: float, failures_percent: float
    ) -> None:
        pytest.importorskip("dlib", reason="its predictors are run by dlib")
        labels = SHARED / folder / "labels.xml"
        if not labels.is_file():
            pytest.skip(f"{labels} isn't here: research data, not in the repository")
        system = open_system(str(published_predictor()))
        figures = evaluate([system], labels, folder).results[system.name].figures()
        assert figures is not None
        assert figures.nme_mean == pytest.approx(nme_percent, abs=0.005)
        assert figures.failure_rate_8 == pytest.approx(failures_percent, abs=0.05)


def published_predictor() -> Path:
    """dlib's published file, from the package that carries it (which can't always be imported)."""
    from importlib.util import find_spec

    found = find_spec("face_recognition_models")
    if found is None or found.origin is None:
        pytest.skip("face_recognition_models isn't installed: it has dlib's predictor file")
    return Path(found.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"


class TestCommand:
    def test_tables_json_and_pictures(
        self,
        weights_file: Path,
        labels: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pytest.importorskip("matplotlib", reason="draws the plots")
        other = tmp_path / "other.npz"
        write(other, random_weights(seed=1))
        out = tmp_path / "deep" / "out"
        options = ("--backend", "numpy", "--out", out, "--faces", 3, "--sheets", "worst", "best")
        assert run(weights_file, other, "--labels", labels, *options) == 0
        printed = capsys.readouterr().out
        assert "data/set: 5 faces" in printed
        values = json.loads((out / "metrics.json").read_text())
        (of_set,) = values["sets"]
        assert of_set["faces"] == 5
        assert list(of_set["systems"]) == ["small.npz:numpy", "other.npz:numpy"]
        for name, entry in of_set["systems"].items():
            figures = entry["figures"]
            line = next(line for line in printed.splitlines() if line.startswith(name))
            assert line.split()[1:4] == [
                "5",
                f"{figures['nme_interocular_percent_mean']:.2f}",
                f"{figures['nme_interocular_percent_median']:.2f}",
            ]
            assert (
                line.split()[-1] == f"{figures['nme_interocular_percent_by_region']['mouth']:.2f}"
            )
        assert str(tmp_path) not in (out / "metrics.json").read_text()
        assert sorted(path.name for path in out.iterdir()) == [
            "best-data-set-other-npz-numpy.png",
            "best-data-set-small-npz-numpy.png",
            "curves-data-set.png",
            "metrics.json",
            "regions-data-set.png",
            "worst-data-set-other-npz-numpy.png",
            "worst-data-set-small-npz-numpy.png",
        ]
        for path in out.glob("*.png"):
            with Image.open(path) as picture:
                picture.load()

    def test_figures_are_those_of_the_model_run_by_hand(
        self, weights_file: Path, labels: Path, tmp_path: Path
    ) -> None:
        import npshapenet

        out = tmp_path / "out"
        assert run(f"{weights_file}:numpy", "--labels", labels, "--out", out) == 0
        model = npshapenet.load(weights_file, backend="numpy")
        errors = []
        for k in range(5):
            photo = Image.open(labels.parent / f"{k}.png")
            crop = npshapenet.crop_face(photo, npshapenet.Box(*BOX), model)
            found = crop.to_photo(model.predict(crop))
            distances = np.linalg.norm(found - TRUTH, axis=1)
            errors.append(100 * distances.mean() / EYE_DISTANCE_PX)
        values = json.loads((out / "metrics.json").read_text())
        figures = values["sets"][0]["systems"]["small.npz:numpy"]["figures"]
        assert figures["nme_interocular_percent_mean"] == pytest.approx(np.mean(errors), rel=1e-5)
        assert figures["nme_interocular_percent_median"] == pytest.approx(
            np.median(errors), rel=1e-5
        )

    def test_perturbed_faces_have_figures_of_those_inside_too(
        self,
        weights_file: Path,
        labels: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "out"
        options = ("--shift", 0.2, "--scale", 0.15, "--turn", 10, "--out", out)
        assert run(f"{weights_file}:numpy", "--labels", labels, *options) == 0
        printed = capsys.readouterr().out
        # All faces, those inside, and the openings.
        assert printed.count("shift ±0.2, scale ±0.15, turn ±10°") == 3
        values = json.loads((out / "metrics.json").read_text())
        assert values["perturbation"] == {"shift": 0.2, "scale": 0.15, "turn_deg": 10, "seed": 0}
        result = values["sets"][0]["systems"]["small.npz:numpy"]
        assert result["figures"]["faces"] == 5
        assert 0 < result["figures_inside"]["faces"] < 5
        perturbed = printed
        assert run(f"{weights_file}:numpy", "--labels", labels, *options) == 0
        assert capsys.readouterr().out == perturbed
        assert run(f"{weights_file}:numpy", "--labels", labels) == 0
        assert capsys.readouterr().out.splitlines()[2] not in perturbed

    def test_a_folder_of_pts_files(
        self, weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "pts"
        folder.mkdir()
        random_photo(0).save(folder / "a.png")
        (folder / "a.pts").write_text("\n".join(f"{x + 1} {y + 1}" for x, y in TRUTH))
        assert run(weights_file, "--backend", "numpy", "--labels", folder) == 0
        assert "pts: 1 face;" in capsys.readouterr().out

    def test_skipped_labels_are_counted_and_named(
        self, weights_file: Path, labels: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (labels.parent / "1.png").write_text("no image any more")
        (labels.parent / "2.png").unlink()
        assert run(weights_file, "--backend", "numpy", "--labels", labels) == 0
        printed = capsys.readouterr()
        assert "3 faces, 2 labels left out" in printed.out
        assert "2 labels that can't be evaluated" in printed.err
        assert "1.png" in printed.err
        assert "2.png" in printed.err

    def test_nothing_evaluated_is_status_1(
        self, weights_file: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for k in range(5):
            (labels.parent / f"{k}.png").write_text("no image any more")
        out = tmp_path / "out"
        assert run(weights_file, "--backend", "numpy", "--labels", labels, "--out", out) == 1
        assert "5 labels that can't be evaluated" in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["metrics.json"]

    def test_a_set_that_cannot_be_read_is_status_1_and_the_others_are_done(
        self, weights_file: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gone = tmp_path / "gone.xml"
        assert run(weights_file, "--backend", "numpy", "--labels", gone, labels) == 1
        printed = capsys.readouterr()
        assert "data/set: 5 faces" in printed.out
        assert "gone.xml" in printed.err
        assert len(printed.err.splitlines()) == 1

    def test_wrong_command_lines_are_status_2(
        self, weights_file: Path, labels: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert refused() == 2
        assert refused(weights_file) == 2
        assert refused(weights_file, "--labels", labels, "--backend", "torch") == 2
        assert refused(weights_file, "--labels", labels, "--faces", 0) == 2
        assert refused(weights_file, "--labels", labels, "--sheets", "nice") == 2
        assert refused("nobody", "--labels", labels) == 2
        assert refused(weights_file, "--labels", labels, "--shift", 0.7) == 2
        assert refused(weights_file, "--labels", labels, "--turn", -3) == 2
        assert refused(weights_file, weights_file, "--labels", labels, "--backend", "numpy") == 2
        assert "is named twice" in capsys.readouterr().err

    def test_help_explains_the_figures(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert refused("--help") == 0
        text = capsys.readouterr().out
        for word in ("NME", "AUC@8", "FR@8", "exit status", ".pt", ".npz", ".dat"):
            assert word in text

    @pytest.mark.parametrize(
        ("paths", "names"),
        [
            (["300w/common/labels.xml"], ["300w/common"]),
            (["a/x/labels.xml", "b/x/labels.xml"], ["a/x", "b/x"]),
            (["d/a/train.xml", "d/a/val.xml"], ["a/train", "a/val"]),
            (["e/a/x/labels.xml", "f/a/x/labels.xml"], ["e/a/x/labels.xml", "f/a/x/labels.xml"]),
        ],
    )
    def test_names_of_sets(self, paths: list[str], names: list[str]) -> None:
        assert command.set_names([Path(path) for path in paths]) == names


class TestSheets:
    @pytest.mark.parametrize(
        ("choice", "count", "places"),
        [
            ("worst", 2, [3, 1]),
            ("best", 2, [0, 2]),
            ("typical", 1, [4]),
            ("typical", 3, [2, 4, 1]),
            ("worst", 9, [3, 1, 4, 2, 0]),
        ],
    )
    def test_choice(self, choice: sheets.Choice, count: int, places: list[int]) -> None:
        errors = [1.0, 4.0, 2.0, 9.0, 3.0]
        assert list(sheets.choose(errors, choice, count)) == places

    def tile(self, prediction: np.ndarray) -> sheets.Tile:
        white = Image.new("L", (120, 110), 255)
        return sheets.Tile(View(white, BOX, TRUTH, True), prediction, "a caption " * 20)

    def test_landmarks_are_drawn_where_they_are(self) -> None:
        pixels = np.asarray(sheets.draw_sheet("title", [self.tile(TRUTH - 12)]))
        for points, colour in (
            (TRUTH, sheets.TRUTH_COLOUR),
            (TRUTH - 12, sheets.PREDICTION_COLOUR),
        ):
            rows, columns = np.nonzero((pixels[40:-20] == colour).all(axis=2))
            side = CROP_FACTOR * (BOX[2] - BOX[0])
            corner = np.array([60, 54]) - side / 2
            tile_px = pixels.shape[1]
            expected = (points + 0.5 - corner) * tile_px / side - 0.5
            top = 38  # the title's two lines
            drawn = np.stack([columns.min(), rows.min() + 40 - top])
            np.testing.assert_allclose(drawn, expected.min(axis=0), atol=2.5)
            drawn = np.stack([columns.max(), rows.max() + 40 - top])
            np.testing.assert_allclose(drawn, expected.max(axis=0), atol=2.5)

    def test_predictions_from_far_away_do_no_harm(self) -> None:
        for far in (1e6, 1e30, -1e30):
            sheets.draw_sheet("title", [self.tile(TRUTH + far)])

    def test_several_rows(self) -> None:
        tiles = [self.tile(TRUTH)] * 5
        two_rows = sheets.draw_sheet("title", tiles, columns=3)
        one_row = sheets.draw_sheet("title", tiles[:3], columns=3)
        assert two_rows.width == one_row.width
        assert two_rows.height > one_row.height + 200

    def test_no_face_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no face"):
            sheets.write_sheet(tmp_path / "sheet.png", "title", [])
        assert not list(tmp_path.iterdir())


def test_table_has_a_line_for_each_system(labels: Path) -> None:
    systems = [shifted("a", *[1] * 5), shifted("a longer name", *[12.5] * 5)]
    evaluation: Evaluation = evaluate(systems, labels, "a set")
    title, head, first, second = report.table(evaluation).splitlines()
    assert title.startswith("a set: 5 faces")
    assert len({len(head), len(first), len(second)}) == 1
    assert head.split()[-5:] == list(metrics.REGIONS)
    assert first.split() == ["a", "5", "1.00", "1.00", "0.8750", "0.00", "0.00", *["1.00"] * 5]
    assert second.split()[3:] == ["5", *["12.50"] * 2, "0.0000", *["100.00"] * 2, *["12.50"] * 5]
