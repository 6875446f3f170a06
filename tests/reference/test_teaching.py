"""Teachers: what they say together, labels refitted by it, and views to learn from."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are PyTorch's")

import torch
from PIL import Image

from reference import distil, label_shift, prepare_unlabelled, refit_labels
from reference import train as train_command
from reference.checkpoint import load, save
from reference.data.augment import Augmentation, augment
from reference.data.crop import Geometry
from reference.data.dataset import read_faces, write_faces
from reference.data.steps import gather
from reference.recipe import read_recipe
from reference.teacher import teach
from reference.training import Trainer, collect, fit_shape_model, shape_model_tensors

SIDE_PX = 32


@pytest.fixture(scope="module")
def folder(make_faces, small_recipe_text, tmp_path_factory):
    """With small.toml, faces.npz, and teacher.pt, which has a map head and saw a few batches."""
    folder = tmp_path_factory.mktemp("teaching")
    with_maps = small_recipe_text.replace(
        "end_channels = 16", 'extractor = "maps"\nmap_channels = 8'
    )
    (folder / "small.toml").write_text(small_recipe_text)
    (folder / "maps.toml").write_text(with_maps)
    recipe = read_recipe(folder / "maps.toml")
    faces = make_faces(30)
    write_faces(folder / "faces.npz", faces)
    data = collect([("made", faces, 1.0)], 4)
    shape_model = shape_model_tensors(fit_shape_model(data, recipe.shape_model, SIDE_PX))
    trainer = Trainer(recipe, data, torch.device("cpu"), shape_model=shape_model, workers=0)
    trainer.run(lambda progress: progress.step >= 8)
    save(folder / "teacher.pt", trainer.checkpoint())
    return folder


def test_teachers_are_averaged(folder, make_faces):
    network = load(folder / "teacher.pt").network()
    images, _ = augment(gather([make_faces(3)]), SIDE_PX, Augmentation(), torch.Generator())
    np.testing.assert_allclose(
        teach([network, network], images), teach([network], images), atol=1e-6
    )


def test_label_shift_is_found_whatever_the_network_has_learnt(make_shapes):
    """A network that has learnt half of the shift finds it on mirror images too."""
    truth = torch.from_numpy(make_shapes(20)).float()
    shift, learnt = torch.tensor([0.02, 0.0]), torch.tensor([0.01, 0.0])
    measured = label_shift.label_shifts(truth + shift, truth + learnt, truth - learnt)
    np.testing.assert_allclose(measured, 0.02, atol=1e-6)


def test_label_shift_command(folder, make_faces, tmp_path, capsys):
    faces, path = make_faces(40), tmp_path / "faces.npz"
    teachers = ["--teachers", str(folder / "teacher.pt")]
    measured = []
    for moved_px in (0, 3):  # of the photo, of which 75 pixels make SIDE_PX
        moved = faces.landmarks + np.float32([moved_px * SIDE_PX / 75, 0])
        write_faces(path, dataclasses.replace(faces, landmarks=moved))
        assert label_shift.main([str(path), *teachers]) == 0
        measured.append(float(re.search(r"lie (-?[\d.]+) pixels", capsys.readouterr().out)[1]))
    assert measured[1] - measured[0] == pytest.approx(3, abs=0.011)  # two roundings to 0.01
    assert label_shift.main([str(tmp_path / "none.npz"), *teachers]) == 1
    assert "no such file" in capsys.readouterr().err


def test_refitting_takes_back_scale_and_shift(make_shapes):
    truth = make_shapes(20)
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.98, 1.02, (20, 1, 1))
    labels = truth * scales + rng.uniform(-0.02, 0.02, (20, 1, 2))
    before = np.linalg.norm(labels - truth, axis=-1).mean()
    after = np.linalg.norm(refit_labels.refit(labels, truth) - truth, axis=-1).mean()
    assert after == pytest.approx((1 - refit_labels.TRUST) * before, rel=0.02)


def normalised(points):
    centred = points - points.mean(axis=1, keepdims=True)
    return centred / centred.std(axis=(1, 2), keepdims=True)


def test_refitting_neither_bends_nor_follows_nonsense(make_shapes):
    labels = make_shapes(5)
    found = labels + 0.5
    found[:, 20] += 3
    moved = refit_labels.refit(labels, found)
    sizes = refit_labels._sizes(labels)
    shifts = np.linalg.norm(moved.mean(axis=1) - labels.mean(axis=1), axis=1) / sizes
    # A change of scale moves the mean of the points a little, too.
    assert (shifts < refit_labels.SHIFT_MAX + 0.005).all()
    # Up to its own size and place, each face is what it was.
    np.testing.assert_allclose(normalised(moved), normalised(labels), atol=1e-9)


def test_refit_labels_writes_faces(folder, tmp_path, capsys):
    out = tmp_path / "refitted.npz"
    arguments = [str(folder / "faces.npz"), "--teachers", str(folder / "teacher.pt")]
    assert refit_labels.main([*arguments, "--out", str(out)]) == 0
    before, after = read_faces(folder / "faces.npz"), read_faces(out)
    np.testing.assert_array_equal(before.crops, after.crops)
    assert (before.landmarks != after.landmarks).any()
    # At most 4 % of the face, which is some 25 pixels large, and the trust of three quarters.
    assert np.abs(before.landmarks - after.landmarks).max() < 2
    assert "moved by" in capsys.readouterr().out


def test_teachers_of_another_side_are_refused(folder, make_faces, tmp_path, capsys):
    write_faces(tmp_path / "large.npz", make_faces(4, Geometry(side_px=48, margin_px=8)))
    arguments = [str(tmp_path / "large.npz"), "--teachers", str(folder / "teacher.pt")]
    assert refit_labels.main([*arguments, "--out", str(tmp_path / "out.npz")]) == 1
    assert "reads 32 px; the faces are 48" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


@pytest.fixture(scope="module")
def views_file(folder):
    out = folder / "views.npz"
    arguments = ["--recipe", str(folder / "small.toml"), "--teachers", str(folder / "teacher.pt")]
    arguments += ["--data", str(folder / "faces.npz"), "--epochs", "2", "--trust", "1"]
    assert distil.main([*arguments, "--out", str(out)]) == 0
    return out


def test_views_carry_what_the_teacher_sees(folder, views_file):
    views = read_faces(views_file)
    assert views.geometry == Geometry(SIDE_PX, 0, 1.5)
    held_out = 4
    shown = gather([views])
    images, landmarks = augment(shown, SIDE_PX, Augmentation(), torch.Generator())
    found = teach([load(folder / "teacher.pt").network()], images[:-held_out])
    # Landmarks are stored in float32 pixels.
    np.testing.assert_allclose(landmarks[:-held_out], found, atol=1e-4)


def test_held_out_faces_come_last_with_their_labels(folder, views_file):
    faces, views = read_faces(folder / "faces.npz"), read_faces(views_file)
    margin = faces.geometry.margin_px
    np.testing.assert_array_equal(
        views.crops[-4:], faces.crops[-4:, margin:-margin, margin:-margin]
    )
    np.testing.assert_allclose(views.landmarks[-4:], faces.landmarks[-4:] - margin, atol=1e-4)


def test_a_second_stage_starts_where_the_first_ended(folder, views_file, tmp_path, monkeypatch):
    monkeypatch.setattr(train_command, "_use_cores", lambda device, workers: None)
    recipe, first, second = str(folder / "small.toml"), tmp_path / "first", tmp_path / "second"
    shared = ["--recipe", recipe, "--epochs", "1", "--workers", "0", "--device", "cpu"]
    data = ["--data", str(folder / "faces.npz")]
    assert train_command.main([*shared, *data, "--out", str(first)]) == 0
    data = ["--data", str(views_file), "--start", str(first / "last.pt")]
    assert train_command.main([*shared, *data, "--out", str(second)]) == 0
    one, other = load(first / "last.pt"), load(second / "last.pt")
    for key in one.shape_model:
        assert torch.equal(one.shape_model[key], other.shape_model[key])
    key = "extractor.blocks.0.convolution.weight"
    change = (one.averaged[key] - other.averaged[key]).abs().mean()
    assert 0 < change < 0.2 * one.averaged[key].abs().mean()


def test_another_networks_start_is_refused(folder, tmp_path, capsys):
    arguments = ["--recipe", str(folder / "small.toml"), "--data", str(folder / "faces.npz")]
    arguments += ["--start", str(folder / "teacher.pt"), "--out", str(tmp_path / "run")]
    assert train_command.main(arguments) == 1
    assert "is another network than that of" in capsys.readouterr().err


def test_faces_without_labels_are_cut_by_what_is_found(tmp_path, monkeypatch, make_shapes):
    """With a teacher that knows the truth, whatever the first box was."""
    truth = make_shapes(1)[0] * 40 + [100, 110]
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    picture = rng.integers(0, 255, (220, 200)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "photos" / "one.png")
    Image.fromarray(picture[::2]).save(tmp_path / "photos" / "two.png")

    def look(gray, frame, geometry, networks):
        # Of the second photo every look finds something else.
        return truth if len(gray) == 220 else truth / 2 + rng.uniform(0, 20)

    monkeypatch.setattr(prepare_unlabelled, "_look", look)
    monkeypatch.setattr(prepare_unlabelled, "read_teachers", lambda paths, side_px: [])
    arguments = [
        str(tmp_path / "photos"),
        "--teachers",
        "none",
        "--box",
        "0.2",
        "0.2",
        "0.9",
        "0.9",
    ]
    assert prepare_unlabelled.main([*arguments, "--out", str(tmp_path / "found.npz")]) == 0
    faces = read_faces(tmp_path / "found.npz")
    assert list(faces.names) == ["one.png#0"]
    assert faces.meta["skipped"] == {"points not sure": 1}
    left, top, side = faces.crop_frames[0]
    geometry = faces.geometry
    in_photo = (faces.landmarks[0] + 0.5 - geometry.margin_px) * side / geometry.side_px
    corner = np.array([left, top])
    np.testing.assert_allclose(in_photo + corner - 0.5, truth, atol=1e-3)
