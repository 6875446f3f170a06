"""The shape model: exact on shapes whose model is known, aligned as it says."""

from __future__ import annotations

import numpy as np
import pytest

from reference.data.mirror import MIRROR
from reference.shape_model import (
    align,
    fit,
    fit_parameters,
    modes,
    reconstruct,
    tilts_rad,
    truncation_floor_percent,
)

DEVIATIONS = np.array([3.0, 2.0, 1.0])
# Rounding of float64 over some hundred additions.
EXACT = 1e-9


def turned(shapes, angle_deg):
    angle = np.radians(angle_deg)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return shapes @ matrix.T


def random_similarities(shapes, rng):
    """Every shape turned by any angle, scaled by 0.2 to 5 and moved."""
    scales = np.exp(rng.uniform(np.log(0.2), np.log(5), (len(shapes), 1, 1)))
    turns = [
        turned(shape, angle)
        for shape, angle in zip(shapes, rng.uniform(-180, 180, len(shapes)), strict=True)
    ]
    return scales * np.stack(turns) + rng.normal(scale=10, size=(len(shapes), 1, 2))


@pytest.fixture
def known(rng):
    """300 shapes of 5 points, whose PCA is known: mean, unit modes, shapes."""
    mean = rng.normal(size=(5, 2))
    mean -= mean.mean(axis=0)
    unit_modes = np.linalg.qr(rng.normal(size=(10, 3)))[0].T.reshape(3, 5, 2)
    scores = rng.normal(size=(300, 3))
    scores -= scores.mean(axis=0)
    # Uncorrelated, with unit variance, in this very sample.
    scores = np.linalg.qr(scores)[0] * np.sqrt(299)
    return mean, unit_modes, mean + np.tensordot(scores * DEVIATIONS, unit_modes, axes=1)


def test_the_modes_that_made_the_shapes_are_found(known):
    mean, unit_modes, shapes = known
    model = fit(shapes, components=3, alignment="none")
    np.testing.assert_allclose(model.mean, mean - shapes.mean(axis=(0, 1)), atol=EXACT)
    for found, unit_mode, deviation in zip(model.components, unit_modes, DEVIATIONS, strict=True):
        sign = np.sign(np.sum(found * unit_mode))
        np.testing.assert_allclose(found, sign * deviation * unit_mode, atol=EXACT)
    assert model.variance_kept == pytest.approx(1)


@pytest.mark.parametrize(("count", "share"), [(1, 9 / 14), (2, 13 / 14), (3, 1)])
def test_variance_kept_is_the_share_of_the_components(known, count, share):
    assert fit(known[2], components=count, alignment="none").variance_kept == pytest.approx(share)


@pytest.mark.parametrize(
    ("share", "count"),
    [(0.1, 1), (9 / 14 - 1e-6, 1), (0.65, 2), (13 / 14 - 1e-6, 2), (0.93, 3), (1.0, 3)],
)
def test_a_share_of_variance_asks_for_the_fewest_components_that_keep_it(known, share, count):
    model = fit(known[2], variance_kept=share, alignment="none")
    # Rounding leaves the shapes a trace of further modes.
    assert min(len(model.components), 3) == count
    assert model.variance_kept >= share - 1e-12


def test_scores_have_unit_variance(make_shapes):
    shapes = make_shapes(200)
    model = fit(shapes, components=5, alignment="similarity")
    aligned = align(shapes, "similarity") - model.mean
    basis = model.components.reshape(5, -1)
    scores = aligned.reshape(200, -1) @ np.linalg.pinv(basis)
    np.testing.assert_allclose(scores.std(axis=0, ddof=1), 1, rtol=1e-6)


def test_the_parameters_of_the_training_shapes_are_summed_up(make_shapes, rng):
    shapes = 0.7 * turned(make_shapes(400), 12) + [0.1, -0.2]
    shapes = shapes + rng.normal(scale=0.05, size=(400, 1, 2))
    model = fit(shapes, components=4, alignment="similarity")
    parameters = fit_parameters(model.mean, model.components, shapes)
    np.testing.assert_allclose(model.parameter_means, parameters.mean(axis=0))
    np.testing.assert_allclose(model.parameter_deviations, parameters.std(axis=0))
    np.testing.assert_allclose(model.parameter_deviations[:4], 1, rtol=0.1)
    assert np.degrees(model.parameter_means[5]) == pytest.approx(12, abs=1)


def test_similarity_alignment_undoes_any_similarity(make_shapes, rng):
    shapes = make_shapes(50)
    changed = random_similarities(shapes, rng)
    np.testing.assert_allclose(align(changed, "similarity"), align(shapes, "similarity"), atol=1e-7)


def test_similarity_alignment_copes_with_faces_that_cancel_out(make_shapes):
    shapes = make_shapes(1)
    one_upside_down = np.concatenate([shapes, -shapes])
    both_upright = align(np.concatenate([shapes, shapes]), "similarity")
    np.testing.assert_allclose(align(one_upside_down, "similarity"), both_upright, atol=EXACT)


def test_similarity_alignment_gives_an_upright_mean_of_unit_size(make_shapes, rng):
    mean = align(random_similarities(make_shapes(50), rng), "similarity").mean(axis=0)
    assert tilts_rad(mean[None])[0] == pytest.approx(0, abs=1e-7)
    # Least squares makes shapes a little smaller where they differ from the mean.
    assert 0.95 < np.sqrt(np.mean(np.sum(mean**2, axis=-1))) <= 1


@pytest.mark.parametrize("tilt_deg", [-175, -80, -20, 0, 20, 80, 175])
def test_rotation_alignment_makes_eyes_level_and_faces_upright(template, tilt_deg):
    """Not turned by 180° or 90°, nor by twice the tilt."""
    tilted = np.stack([turned(template, tilt_deg) + 3, turned(template, 5)])
    aligned = align(tilted, "rotation")
    np.testing.assert_allclose(tilts_rad(aligned), 0, atol=EXACT)
    np.testing.assert_allclose(aligned[0], template - template.mean(axis=0), atol=EXACT)
    chin, brows = aligned[:, 8, 1], aligned[:, 17:27, 1].mean(axis=1)
    assert (chin > brows).all()
    right_eye, left_eye = aligned[:, 36:42, 0].mean(axis=1), aligned[:, 42:48, 0].mean(axis=1)
    assert (right_eye < left_eye).all()


@pytest.mark.parametrize("tilt_deg", [-80, -20, 20, 80])
def test_eye_angle_is_the_tilt_clockwise_on_the_screen(template, tilt_deg):
    angle = tilts_rad(turned(template, tilt_deg)[None])
    np.testing.assert_allclose(np.degrees(angle), tilt_deg, atol=EXACT)


def test_rotation_alignment_keeps_sizes(make_shapes):
    shapes = make_shapes(5) * np.arange(1, 6)[:, None, None]
    aligned = align(shapes, "rotation")
    sizes = np.linalg.norm(shapes - shapes.mean(axis=1, keepdims=True), axis=(1, 2))
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=(1, 2)), sizes)


def test_without_alignment_faces_keep_place_size_and_tilt(make_shapes, rng):
    shapes = random_similarities(make_shapes(20), rng)
    moved = align(shapes, "none") - shapes
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0, 0], moved.shape), atol=EXACT)
    np.testing.assert_allclose(align(shapes, "none").mean(axis=(0, 1)), 0, atol=EXACT)


def test_parameters_of_landmarks_give_the_landmarks_back(make_shapes, rng):
    shapes = make_shapes(100, modes=6)
    model = fit(shapes, components=6, alignment="similarity")
    scores = rng.normal(size=(20, 6))
    transforms = np.column_stack(
        [rng.uniform(0.3, 2, 20), rng.uniform(-3, 3, 20), rng.normal(size=(20, 2))]
    )
    parameters = np.column_stack([scores, transforms])
    landmarks = reconstruct(model.mean, model.components, parameters)
    found = fit_parameters(model.mean, model.components, landmarks)
    # What ten turns of least squares leave: a hundredth of a pixel where a face has a hundred.
    np.testing.assert_allclose(
        reconstruct(model.mean, model.components, found), landmarks, atol=2e-4
    )
    np.testing.assert_allclose(found[:, :6], scores, atol=0.02)
    np.testing.assert_allclose(found[:, 6:], transforms, atol=2e-3)


def test_reconstruction_is_the_formula_of_the_conventions():
    """scale · R · (mean + Σ scores · components) + translation, R clockwise on the screen."""
    mean = np.array([[1.0, 0.0], [0.0, 2.0]])
    components = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    parameters = np.array([[1.0, -1.0, 3.0, np.pi / 2, 10.0, 20.0]])
    # The shape is (2, 0), (0, 1); a quarter turn clockwise takes x to y, y to −x.
    expected = [[[10.0, 26.0], [7.0, 20.0]]]
    np.testing.assert_allclose(reconstruct(mean, components, parameters), expected, atol=EXACT)


@pytest.mark.parametrize("alignment", ["none", "rotation", "similarity"])
def test_what_the_components_leave_falls_with_their_number(make_shapes, alignment):
    shapes = make_shapes(120, modes=10)
    floors = [
        truncation_floor_percent(fit(shapes, components=count, alignment=alignment), shapes)
        for count in (1, 3, 6, 119)
    ]
    assert floors == sorted(floors, reverse=True)
    assert floors[0] > 1
    assert floors[-1] < 0.1


def test_sixty_components_leave_real_faces_less_than_one_percent(shared_data):
    from reference.data.labels import LabelledFace, read_labels

    labels = read_labels(shared_data / "300w" / "common" / "labels.xml")
    faces = np.stack([face.landmarks for face in labels if isinstance(face, LabelledFace)])
    mirrored = faces[:, list(MIRROR)] * [-1, 1]
    model = fit(np.concatenate([faces, mirrored])[: 2 * 500], components=60)
    # 0.63 on 300w/train with its own components; a wrong alignment leaves several percent.
    assert truncation_floor_percent(model, faces[500:]) < 1


def test_modes_go_through_the_mean(make_shapes):
    model = fit(make_shapes(50), components=4)
    shapes = modes(model, 2, (-3.0, 0.0, 3.0))
    assert shapes.shape == (2, 3, 68, 2)
    np.testing.assert_allclose(shapes[:, 1], np.stack([model.mean] * 2))
    np.testing.assert_allclose(shapes[:, 2] - model.mean, 3 * model.components[:2])
    np.testing.assert_allclose(shapes[:, 0] + shapes[:, 2], 2 * np.stack([model.mean] * 2))


SHAPES = np.random.default_rng(0).normal(size=(10, 68, 2))


@pytest.mark.parametrize(
    ("landmarks", "arguments", "message"),
    [
        (SHAPES, {}, "either components or variance_kept"),
        (SHAPES, {"components": 2, "variance_kept": 0.9}, "either components or variance_kept"),
        (SHAPES, {"components": 0}, "1 to 9"),
        (SHAPES, {"components": 10}, "1 to 9"),
        (SHAPES, {"variance_kept": 0.0}, "variance_kept"),
        (SHAPES, {"variance_kept": 1.1}, "variance_kept"),
        (SHAPES, {"components": 2, "alignment": "affine"}, "none, rotation or similarity"),
        (SHAPES[:, :9], {"components": 2}, "68 landmarks, not 9"),
        (SHAPES[:1], {"components": 1}, "two shapes"),
        (SHAPES[[0, 0, 0]], {"components": 1}, "one and the same"),
        (SHAPES[0], {"components": 1}, r"\(N, L, 2\)"),
        (SHAPES * np.nan, {"components": 1}, "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(landmarks, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(landmarks, **arguments)
