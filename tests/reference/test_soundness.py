"""Bounds of shapes and limits of parameters, on systems that keep to them and that don't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npshapenet.model import Model
from reference.soundness import (
    Examined,
    examine_crops,
    examine_faces,
    possible_sides,
    soundness,
)
from reference.systems import ModelSystem

LIMITS = [[-1, 0.5, -0.5, -0.2, -0.2], [1, 1.2, 0.5, 0.2, 0.2]]


@dataclass(frozen=True)
class Fixed:
    """A system that gives the same landmarks for every crop."""

    landmarks: np.ndarray
    name: str = "fixed"

    def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
        return self.landmarks


CROPS = np.zeros((3, 60, 60), np.uint8)


@pytest.mark.parametrize(
    ("place", "sides", "beyond"),
    [
        ((29.5, 29.5), 0, 0),
        ((59.5, 29.5), 0.5, 0),
        ((29.5, 89), 59.5 / 60, 0),
        ((29.5, 90), 60.5 / 60, 3),
    ],
)
def test_distance_from_the_centre_of_the_crop(
    place: tuple[float, float], sides: float, beyond: int
) -> None:
    landmarks = np.full((68, 2), 29.5)
    landmarks[7] = place
    figures = soundness(examine_crops([Fixed(landmarks)], CROPS)["fixed"])
    assert figures.farthest_sides == pytest.approx(sides)
    assert (figures.shapes, figures.not_finite, figures.beyond_reach) == (3, 0, beyond)
    assert figures.is_sound is (beyond == 0)
    assert figures.clipped_shapes is figures.possible_sides is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_counted(bad: float) -> None:
    landmarks = np.full((68, 2), 29.5)
    landmarks[67, 1] = bad
    figures = soundness(examine_crops([Fixed(landmarks)], CROPS)["fixed"])
    assert figures.not_finite == 3
    assert not figures.is_sound


def test_what_is_refused_is_not_finite(labelled_photos: Any) -> None:
    class Blind:
        name = "blind"

        def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
            raise ValueError("dark")

    examined = examine_faces([Blind()], labelled_photos.labels)["blind"]
    assert soundness(examined).not_finite == 12
    assert examined.nme_percent is not None
    assert np.isnan(examined.nme_percent).all()


def test_errors_of_faces_are_the_usual_ones(labelled_photos: Any) -> None:
    moved = labelled_photos.truth + np.array([0.03 * labelled_photos.eye_distance_px, 0])
    examined = examine_faces([Fixed(moved)], labelled_photos.labels)["fixed"]
    np.testing.assert_allclose(examined.nme_percent, np.full(12, 3.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "clipped"),
    [
        ([0, 1, 0, 0, 0], {}),
        ([1, 1.2, -0.5, 0.2, -0.2], {}),
        ([1.5, 1, 0, 0, 0], {"scores": 3}),
        ([0, 9, 0.6, -0.3, 0.3], {"scale": 3, "angle": 3, "translation": 6}),
    ],
)
def test_parameters_that_the_limits_moved_are_counted(
    constant_weights: Any, outputs: list[float], clipped: dict[str, int]
) -> None:
    system = ModelSystem("m", Model(constant_weights(outputs, LIMITS), "numpy"))
    figures = soundness(examine_crops([system], CROPS)["m"])
    assert figures.clipped_parameters == {
        "scores": 0, "scale": 0, "angle": 0, "translation": 0, **clipped
    }  # fmt: skip
    assert figures.clipped_shapes == (3 if clipped else 0)
    assert figures.possible_sides is not None
    assert figures.farthest_sides <= figures.possible_sides


def test_without_limits_a_network_may_run_away(constant_weights: Any) -> None:
    for limits, is_sound in ((None, False), (LIMITS, True)):
        weights = constant_weights([0, 50, 0, 3, 0], limits)
        examined = examine_crops([ModelSystem("m", Model(weights, "numpy"))], CROPS)["m"]
        assert soundness(examined).is_sound is is_sound


def test_the_bound_is_reached_where_all_pull_the_same_way(constant_weights: Any) -> None:
    model = constant_weights([0, 1, 0, 0, 0], LIMITS).shape_model
    by_hand = max(np.hypot(*point) + 0.1 for point in model.mean) * 1.2 + np.hypot(0.2, 0.2)
    assert possible_sides(model) == pytest.approx(by_hand / 2)
    with pytest.raises(ValueError, match="no limits"):
        possible_sides(constant_weights([0, 1, 0, 0, 0]).shape_model)


def test_quality_is_what_the_model_says(constant_weights: Any) -> None:
    weights = constant_weights([0, 1, 0, 0, 0, np.log(7)])
    examined = examine_crops([ModelSystem("m", Model(weights, "numpy"))], CROPS)["m"]
    np.testing.assert_allclose(examined.quality, [7, 7, 7], rtol=1e-6)
    without = constant_weights([0, 1, 0, 0, 0])
    assert examine_crops([ModelSystem("m", Model(without, "numpy"))], CROPS)["m"].quality is None


def test_an_answer_has_the_landmarks_of_a_call(constant_weights: Any) -> None:
    system = ModelSystem("m", Model(constant_weights([2, 1.1, 0.1, 0.3, 0], LIMITS), "numpy"))
    photo, box = Image.new("L", (100, 90), 50), (20.0, 10.0, 60.0, 55.0)
    np.testing.assert_allclose(system.answer(photo, box).landmarks, system(photo, box), atol=1e-4)


def test_no_shape_is_farthest_of_none() -> None:
    assert soundness(Examined(np.full((2, 68, 2), np.nan))).farthest_sides == 0
