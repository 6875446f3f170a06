"""Other points than iBUG's 68, from labels to landmarks: a drawn cat of nine."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("torch", reason="training is PyTorch's")

import torch

import npshapenet
from npshapenet.weights import read, write
from reference import distil, evaluate, export, prepare, refit_labels, run_folder, train
from reference.checkpoint import load
from reference.data.augment import Augmentation, augment, mirrored, network_landmarks
from reference.data.dataset import read_faces, write_faces
from reference.data.labels import LabelError, read_labels
from reference.data.markup import IBUG68, MarkupError, from_values, read_markup
from reference.data.steps import gather
from reference.metrics import normalised_mean_errors_percent
from reference.recipe import ShapeModelSettings
from reference.shape_model import align, components_max, fit, tilts_rad
from reference.training import collect, fit_shape_model

CAT = """
name = "cat"
point_count = 9
mirror = [1, 0, 3, 2, 4, 6, 5, 7, 8]
scale_points = [2, 3]
level_points = [[0, 2], [1, 3]]
"""
WITHOUT_MIRROR = CAT.replace("mirror = [1, 0, 3, 2, 4, 6, 5, 7, 8]\n", "").replace("cat", "my cat")
#: Tips of the ears, eyes, nose, corners of the mouth, middle of the mouth, chin.
POINTS = np.array(
    [(-7, -9), (7, -9), (-3, -2), (3, -2), (0, 2), (-3, 5), (3, 5), (0, 6), (0, 10)], float
)
BOX = (60, 62, 140, 142)
COUNT = 12


@dataclass(frozen=True)
class Cats:
    """Labelled pictures of cats: twelve, of 200×200, in ``folder``."""

    folder: Path
    truth: np.ndarray

    @property
    def labels(self) -> Path:
        return self.folder / "labels.xml"

    @property
    def markup(self) -> Path:
        return self.folder / "cat.toml"

    @property
    def faces(self) -> Path:
        return self.folder / "cats.npz"

    @property
    def recipe(self) -> Path:
        return self.folder / "small.toml"


def draw_cat(points: np.ndarray) -> Image.Image:
    picture = Image.new("L", (200, 200), 90)
    draw = ImageDraw.Draw(picture)
    places = [tuple(point) for point in points.tolist()]
    draw.polygon([places[0], places[4], places[1], places[8]], fill=200)
    for x, y in places[2:4]:
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=20)
    draw.line([places[5], places[7], places[6]], fill=40, width=3)
    return picture


@pytest.fixture(scope="module")
def cats(tmp_path_factory: pytest.TempPathFactory, small_recipe_text: str) -> Cats:
    folder = tmp_path_factory.mktemp("cats")
    rng = np.random.default_rng(0)
    truth = (100 + 3.5 * (POINTS + rng.normal(0, 0.5, (COUNT, 9, 2)))).round(2)
    images = []
    for number, points in enumerate(truth):
        draw_cat(points).save(folder / f"{number}.png")
        parts = "".join(
            f"<part name='{k:02d}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(points)
        )
        box = f"<box left='60' top='62' width='80' height='80'>{parts}</box>"
        images.append(f"<image file='{number}.png'>{box}</image>")
    made = Cats(folder, truth)
    made.labels.write_text(f"<dataset><images>{''.join(images)}</images></dataset>")
    made.markup.write_text(CAT)
    made.recipe.write_text(small_recipe_text)
    run_prepare(made.labels, made.markup, made.faces)
    return made


def run_prepare(labels: Path, markup: Path, out: Path) -> None:
    arguments = [labels, "--markup", markup, "--out", out, "--side", 32, "--margin", 8]
    assert prepare.main([str(argument) for argument in arguments]) == 0


def run_train(recipe: Path, faces: Path | list[Path], out: Path, *options: object) -> int:
    files = faces if isinstance(faces, list) else [faces]
    arguments = ["--recipe", recipe, "--data", *files, "--out", out, "--workers", 0, *options]
    return train.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def fitted(cats: Cats) -> Path:
    """The run folder of a network that has learnt one cat by heart."""
    folder = cats.folder / "one"
    assert run_train(cats.recipe, cats.faces, folder, "--overfit", 1) == 0
    return folder


@pytest.fixture(scope="module")
def weights(cats: Cats, fitted: Path) -> Path:
    out = cats.folder / "cats-weights.npz"
    assert export.main([str(fitted / "best.pt"), "--out", str(out)]) == 0
    return out


class TestFaces:
    def test_they_know_their_markup(self, cats: Cats) -> None:
        faces = read_faces(cats.faces)
        assert faces.markup == read_markup(cats.markup)
        assert faces.landmarks.shape == (COUNT, 9, 2)

    def test_those_that_say_nothing_are_ibugs(self, make_faces, tmp_path: Path) -> None:
        write_faces(tmp_path / "faces.npz", make_faces(3))
        faces = read_faces(tmp_path / "faces.npz")
        assert "markup" not in faces.meta
        assert faces.markup == IBUG68

    def test_other_points_than_the_markup_says_are_refused(
        self, cats: Cats, tmp_path: Path, capsys
    ) -> None:
        assert prepare.main([str(cats.labels), "--out", str(tmp_path / "faces.npz")]) == 1
        assert "9 parts, without 09" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_pts_files_have_boxes_for_ibugs_points_alone(self, cats: Cats) -> None:
        with pytest.raises(LabelError, match=r"no box.*not for cat; accepted: dlib's .xml"):
            list(read_labels(cats.folder, read_markup(cats.markup)))

    def test_the_sheet_shows_a_number_at_each_point(self, cats: Cats, is_picture) -> None:
        assert is_picture(cats.faces.with_suffix(".png"))


class TestMirror:
    def test_pairs_are_swapped(self, cats: Cats) -> None:
        batch = gather([read_faces(cats.faces)])
        everything = Augmentation(mirror_share=1.0)
        images, landmarks = augment(batch, 32, everything, torch.Generator())
        plain, places = augment(batch, 32, Augmentation(), torch.Generator())
        torch.testing.assert_close(images, plain.flip(-1), atol=1e-5, rtol=0)
        expected = places[:, [1, 0, 3, 2, 4, 6, 5, 7, 8]] * torch.tensor([-1.0, 1.0])
        torch.testing.assert_close(landmarks, expected)
        # The first ear is still the one at the left.
        assert (landmarks[:, 0, 0] < landmarks[:, 1, 0]).all()

    def test_the_mean_shape_favours_no_side(self, cats: Cats) -> None:
        data = collect([("cats", read_faces(cats.faces), 1.0)], 0)
        model = fit_shape_model(data, ShapeModelSettings(components=4), 32)
        mean = torch.from_numpy(model.mean).float()
        assert data.markup.mirror is not None
        torch.testing.assert_close(mirrored(mean[None], data.markup.mirror)[0], mean)

    def test_without_one_nothing_is_mirrored(self, cats: Cats, tmp_path: Path, capsys) -> None:
        markup = tmp_path / "markup.toml"
        markup.write_text(WITHOUT_MIRROR)
        run_prepare(cats.labels, markup, tmp_path / "faces.npz")
        faces, run = tmp_path / "faces.npz", tmp_path / "run"
        assert run_train(cats.recipe, faces, run) == 1
        err = capsys.readouterr().err
        assert "mirror_share is 0.5, but the markup my cat has no mirror" in err
        assert "write mirror_share = 0 into the recipe" in err
        recipe = tmp_path / "recipe.toml"
        text = cats.recipe.read_text()
        recipe.write_text(text.replace("mirror_share = 0.5", "mirror_share = 0"))
        assert run_train(recipe, faces, run) == 0
        assert load(run / "best.pt").markup == read_markup(markup)
        data = collect([("cats", read_faces(faces), 1.0)], 0)
        with pytest.raises(ValueError, match="mirror_share: the points of my cat have no mirror"):
            augment(data.faces, 32, Augmentation(mirror_share=0.5), torch.Generator())
        model = fit_shape_model(data, ShapeModelSettings(components=4, alignment="none"), 32)
        own = network_landmarks(data.faces, 32).double().numpy()
        np.testing.assert_allclose(model.mean, own.mean(axis=0) - own.mean(axis=(0, 1)), atol=1e-9)


class TestShapeModel:
    def test_the_level_points_are_levelled(self, cats: Cats) -> None:
        markup = read_markup(cats.markup)
        for alignment in ("rotation", "similarity"):
            aligned = align(cats.truth, alignment, markup)
            upright = aligned if alignment == "rotation" else aligned.mean(axis=0)[None]
            np.testing.assert_allclose(tilts_rad(upright, markup), 0, atol=1e-6)

    def test_it_has_no_more_components_than_shapes_can_vary_in(self) -> None:
        markup = from_values({**read_values(CAT), "point_count": 4, "mirror": [1, 0, 3, 2]})
        shapes = POINTS[:4] + np.random.default_rng(0).normal(0, 0.5, (50, 4, 2))
        limit = components_max(4, "rotation")
        model = fit(shapes, components=limit, alignment="rotation", markup=markup)
        assert (np.linalg.norm(model.components, axis=(1, 2)) > 1e-3).all()
        with pytest.raises(ValueError, match="components must be 1 to 5 for these shapes, not 6"):
            fit(shapes, components=limit + 1, alignment="rotation", markup=markup)


class TestTraining:
    def test_one_picture_is_learnt_by_heart(self, cats: Cats, fitted: Path) -> None:
        checkpoint = load(fitted / "best.pt")
        assert checkpoint.best_percent < 0.5
        assert checkpoint.markup == read_markup(cats.markup)
        assert (fitted / "preview.png").exists()

    def test_files_of_different_markups_are_not_joined(
        self, cats: Cats, make_faces, tmp_path: Path, capsys
    ) -> None:
        write_faces(tmp_path / "people.npz", make_faces(6))
        files = [cats.faces, tmp_path / "people.npz"]
        assert run_train(cats.recipe, files, tmp_path / "run") == 1
        err = capsys.readouterr().err
        assert "people has the points of ibug68, cats those of cat" in err
        assert not (tmp_path / "run").exists()

    def test_a_start_of_another_markup_is_refused(
        self, cats: Cats, fitted: Path, make_faces, tmp_path: Path, capsys
    ) -> None:
        write_faces(tmp_path / "people.npz", make_faces(6))
        options = ["--start", fitted / "best.pt", "--epochs", 1]
        assert run_train(cats.recipe, tmp_path / "people.npz", tmp_path / "run", *options) == 1
        assert "finds other points than those of" in capsys.readouterr().err

    def test_a_checkpoint_of_ibugs_points_is_as_it_always_was(
        self, cats: Cats, make_faces, tmp_path: Path, monkeypatch
    ) -> None:
        for name in ("write_curves", "write_modes", "write_preview"):
            monkeypatch.setattr(run_folder, name, lambda *arguments: None)
        write_faces(tmp_path / "people.npz", make_faces(6))
        assert run_train(cats.recipe, tmp_path / "people.npz", tmp_path / "run") == 0
        assert "markup" not in torch.load(tmp_path / "run" / "last.pt", weights_only=True)
        assert load(tmp_path / "run" / "last.pt").markup == IBUG68

    def test_teachers_teach_their_own_points(
        self, cats: Cats, fitted: Path, make_faces, tmp_path: Path, capsys
    ) -> None:
        teacher = ["--teachers", str(fitted / "best.pt")]
        views, refitted = tmp_path / "views.npz", tmp_path / "refitted.npz"
        arguments = ["--recipe", cats.recipe, "--data", cats.faces, "--epochs", 1, "--out", views]
        assert distil.main([*map(str, arguments), *teacher]) == 0
        assert refit_labels.main([str(cats.faces), *teacher, "--out", str(refitted)]) == 0
        assert (
            read_faces(views).markup
            == read_faces(refitted).markup
            == load(fitted / "best.pt").markup
        )
        write_faces(tmp_path / "people.npz", make_faces(6))
        people = [str(tmp_path / "people.npz"), *teacher, "--out", str(tmp_path / "no.npz")]
        assert refit_labels.main(people) == 1
        assert "finds the points of cat; the faces' are those of ibug68" in capsys.readouterr().err


class TestWeights:
    def test_npshapenet_finds_the_points_on_the_picture(self, cats: Cats, weights: Path) -> None:
        model = npshapenet.load(weights, "numpy")
        assert model.markup == "points9"
        number = int(read_faces(cats.faces).names[0].split(".")[0])
        crop = npshapenet.crop_face(
            Image.open(cats.folder / f"{number}.png"), npshapenet.Box(*BOX), model
        )
        found = crop.to_photo(model.predict(crop))
        markup = read_markup(cats.markup)
        error = normalised_mean_errors_percent(found[None], cats.truth[[number]], markup)
        # Training saw the picture in whole steps of gray: a little is lost.
        assert error[0] < 1

    def test_the_markup_is_told_in_the_provenance(self, cats: Cats, weights: Path) -> None:
        assert from_values(read(weights).provenance["markup"]) == read_markup(cats.markup)


class TestEvaluate:
    def run(self, systems: list[Path | str], cats: Cats, *options: object) -> int:
        arguments = [*systems, "--labels", cats.labels, *options]
        return evaluate.main([str(argument) for argument in arguments])

    def refused(self, systems: list[Path | str], cats: Cats, capsys, *options: object) -> str:
        with pytest.raises(SystemExit) as exit_:
            self.run(systems, cats, *options)
        assert exit_.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    def test_errors_are_over_the_distance_of_the_scale_points(
        self, cats: Cats, fitted: Path, weights: Path, tmp_path: Path, capsys, is_picture
    ) -> None:
        assert self.run([weights, fitted / "best.pt"], cats, "--out", tmp_path) == 0
        out = capsys.readouterr().out
        assert "NME in % of the distance of the points (2, 3)" in out
        assert "mouth" not in out
        values = json.loads((tmp_path / "metrics.json").read_text())
        assert values["normaliser"] == "distance of the points (2, 3)"
        model = npshapenet.load(weights, "numpy")
        errors = []
        for number, truth in enumerate(cats.truth):
            photo = Image.open(cats.folder / f"{number}.png")
            crop = npshapenet.crop_face(photo, npshapenet.Box(*BOX), model)
            distances = np.linalg.norm(crop.to_photo(model.predict(crop)) - truth, axis=1)
            errors.append(100 * distances.mean() / np.linalg.norm(truth[2] - truth[3]))
        for system in values["sets"][0]["systems"].values():
            assert system["figures"]["nme_percent_mean"] == pytest.approx(np.mean(errors), rel=1e-3)
        pictures = sorted(path.name.split("-")[0] for path in tmp_path.glob("*.png"))
        assert pictures == ["curves", "worst", "worst"]
        assert all(is_picture(path) for path in tmp_path.glob("*.png"))

    def test_weights_that_do_not_say_need_the_option(
        self, cats: Cats, weights: Path, tmp_path: Path, capsys
    ) -> None:
        silent = tmp_path / "silent.npz"
        write(silent, dataclasses.replace(read(weights), provenance={}))
        said = self.refused([silent], cats, capsys)
        assert "silent.npz: finds 9 landmarks, and doesn't say which: --markup does" in said
        assert self.run([silent, weights], cats, "--markup", cats.markup) == 0
        silent_line, weights_line = capsys.readouterr().out.splitlines()[2:4]
        assert silent_line.split()[1:] == weights_line.split()[1:]

    def test_other_points_are_not_measured_together(
        self, cats: Cats, weights: Path, tmp_path: Path, capsys
    ) -> None:
        said = self.refused([weights, "fast"], cats, capsys)
        assert "fast: finds the points of ibug68" in said
        assert "those of cat" in said
        other = tmp_path / "other.toml"
        other.write_text(WITHOUT_MIRROR)
        said = self.refused([weights], cats, capsys, "--markup", other)
        assert "finds the points of cat; evaluated are those of my cat" in said

    @pytest.mark.parametrize("option", ["--framing", "--steadiness", "--soundness"])
    def test_what_only_faces_have_is_refused(
        self, cats: Cats, weights: Path, capsys, option: str
    ) -> None:
        assert "are for the points of ibug68" in self.refused([weights], cats, capsys, option)


def read_values(text: str) -> dict[str, object]:
    import tomllib

    return tomllib.loads(text)


class TestMarkupFiles:
    def test_all_of_them_survive(self, tmp_path: Path) -> None:
        (tmp_path / "cat.toml").write_text(CAT)
        cat = read_markup(tmp_path / "cat.toml")
        for markup in (cat, IBUG68, dataclasses.replace(cat, mirror=None)):
            assert from_values(json.loads(json.dumps(markup.to_values()))) == markup

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            ("name =", "title =", "unknown key title; accepted: name, point_count, mirror"),
            ("point_count = 9\n", "", "point_count is missing"),
            ('"cat"', '"\\n"', "name is '\\n'; accepted: a line of text"),
            ('"cat"', "9", "name is 9"),
            ('"cat"', '"ibug68"', "name 'ibug68' is that of iBUG's points"),
            ("= 9", "= 1", "point_count is 1; accepted: 2 to 4096"),
            ("= 9", "= 9.0", "point_count is 9.0"),
            ("= 9", "= true", "point_count is True"),
            ("= 9", "= 10", "mirror is [1, 0, 3, 2, 4, 6, 5, 7, 8]; accepted: each of 0 to 9"),
            ("7, 8]", "7, 7]", "mirror is [1, 0, 3, 2, 4, 6, 5, 7, 7]; accepted: each of 0 to 8"),
            ("7, 8]", "7, 9]", "accepted: each of 0 to 8 once"),
            ("7, 8]", "7, '8']", "mirror is"),
            ("4, 6, 5, 7", "6, 5, 7, 4", "mirror makes 4 of 6, but not 6 of 4"),
            ("[2, 3]\n", "[2, 2]\n", "scale_points is [2, 2]; accepted: two different points of 0"),
            ("[2, 3]\n", "[2, 9]\n", "scale_points is [2, 9]"),
            ("[2, 3]\n", "2\n", "scale_points is 2"),
            ("[[0, 2], [1, 3]]", "[0, 1]", "level_points is [0, 1]; accepted: two lists of points"),
            ("[[0, 2], [1, 3]]", "[[0], [0]]", "level_points is [[0], [0]]"),
            ("[[0, 2], [1, 3]]", "[[0], []]", "level_points is [[0], []]"),
            ("[[0, 2], [1, 3]]", "[[0], [3]]", "two lists that mirror turns into each other"),
            ("name", "[", "not a markup in TOML"),
        ],
    )
    def test_wrong_ones_are_refused(
        self, tmp_path: Path, before: str, after: str, message: str
    ) -> None:
        path = tmp_path / "wrong.toml"
        assert before in CAT
        path.write_text(CAT.replace(before, after, 1))
        with pytest.raises(MarkupError) as refused:
            read_markup(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert message in str(refused.value)

    def test_the_command_says_so_in_a_line(self, cats: Cats, tmp_path: Path, capsys) -> None:
        arguments = [cats.labels, "--markup", tmp_path / "none.toml", "--out", tmp_path / "f.npz"]
        assert prepare.main([str(argument) for argument in arguments]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "none.toml: not a markup in TOML: " in err

    def test_a_faces_file_with_a_wrong_one_is_refused(self, cats: Cats, tmp_path: Path) -> None:
        faces = read_faces(cats.faces)
        meta = {**faces.meta, "markup": {**faces.meta["markup"], "scale_points": [0]}}
        write_faces(tmp_path / "wrong.npz", dataclasses.replace(faces, meta=meta))
        with pytest.raises(ValueError, match=r"wrong.npz: its markup: scale_points is \[0\]"):
            read_faces(tmp_path / "wrong.npz")
