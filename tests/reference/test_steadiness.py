"""How much landmarks move, on systems whose movement is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npshapenet.layers import Dense
from npshapenet.model import Model
from npshapenet.network import Network
from reference.steadiness import NOISE_LEVELS, measure_steadiness
from reference.systems import ModelSystem


@dataclass(frozen=True)
class Moving:
    """Finds the truth, moved by a share of the box's shift, and by the photo's mean change."""

    truth: np.ndarray
    by_shift: float = 0.0
    by_gray_px: float = 0.0
    name: str = "moving"

    def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
        shift = np.array(box[:2]) - 50
        rough = np.asarray(photo, float).std()
        return self.truth + self.by_shift * shift + self.by_gray_px * np.array([rough, 0])


def test_what_stays_on_the_photo_is_steady(labelled_photos: Any) -> None:
    found = measure_steadiness([Moving(labelled_photos.truth)], labelled_photos.labels)["moving"]
    assert (found.faces, found.photo_shift, found.photo_noise) == (12, pytest.approx(0), 0)
    assert found.input_shift is found.input_noise is found.input_px_per_photo_px is None


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_what_goes_with_the_box_moves_by_its_pixel(labelled_photos: Any, share: float) -> None:
    system = Moving(labelled_photos.truth, by_shift=share)
    found = measure_steadiness([system], labelled_photos.labels)["moving"]
    assert found.photo_shift == pytest.approx(100 * share / labelled_photos.eye_distance_px)
    assert found.photo_noise == pytest.approx(0)


def test_noise_is_of_the_strength_that_is_said(labelled_photos: Any) -> None:
    for k in range(12):
        Image.new("L", (160, 160), 128).save(labelled_photos.labels.parent / f"{k}.png")
    system = Moving(labelled_photos.truth, by_gray_px=1.0)
    found = measure_steadiness([system], labelled_photos.labels)["moving"]
    # Rounding to whole levels adds a variance of 1/12.
    expected = 100 * np.sqrt(NOISE_LEVELS**2 + 1 / 12) / labelled_photos.eye_distance_px
    assert found.photo_noise == pytest.approx(expected, rel=0.02)
    again = measure_steadiness([system], labelled_photos.labels)["moving"]
    assert again == found
    assert measure_steadiness([system], labelled_photos.labels, seed=1)["moving"] != found


def test_a_model_blind_to_the_picture_moves_with_the_crop(
    labelled_photos: Any, constant_weights: Any
) -> None:
    model = Model(constant_weights([0, 1, 0, 0, 0]), "numpy")
    found = measure_steadiness([ModelSystem("blind", model)], labelled_photos.labels)["blind"]
    eye_px = labelled_photos.eye_distance_px
    assert found.photo_shift == pytest.approx(100 / eye_px, rel=1e-4)
    # The crop has 90 pixels, the input 32.
    assert found.input_shift == pytest.approx(100 * 90 / 32 / eye_px, rel=1e-4)
    assert found.input_px_per_photo_px == pytest.approx(32 / 90)
    assert (found.photo_noise, found.input_noise) == (0, 0)


def test_a_model_that_follows_the_light_is_steady(
    labelled_photos: Any, constant_weights: Any
) -> None:
    """A network whose place is the centre of the light, on photos of one soft spot."""
    rows, columns = np.mgrid[:160, :160]
    spot = 200 * np.exp(-((columns - 83) ** 2 + (rows - 78) ** 2) / (2 * 8**2))
    for k in range(12):
        photo = Image.fromarray(np.rint(spot).astype(np.uint8))
        photo.save(labelled_photos.labels.parent / f"{k}.png")
    blind = constant_weights([0, 1, 0, 0, 0])
    # Σ gray · place / Σ gray, Σ gray being that of the spot in the input's pixels.
    light = spot.sum() / 255 / (90 / 32) ** 2
    centres = (np.arange(32) + 0.5) / 16 - 1
    x, y = np.meshgrid(centres, centres)
    weight = np.zeros((5, 32 * 32), np.float32)
    weight[3], weight[4] = x.ravel() / light, y.ravel() / light
    following = dataclasses.replace(
        blind,
        network=Network((1, 32, 32), (Dense("dense", "input", 5),)),
        tensors={**blind.tensors, "dense.weight": weight},
    )
    system = ModelSystem("following", Model(following, "numpy"))
    found = measure_steadiness([system], labelled_photos.labels)["following"]
    pixel_percent = 100 / labelled_photos.eye_distance_px
    assert found.photo_shift < 0.02 * pixel_percent
    assert found.input_shift is not None
    assert found.input_shift < 0.02 * pixel_percent * 90 / 32


def test_a_system_that_refuses_all_has_no_figures(labelled_photos: Any) -> None:
    class Blind:
        name = "blind"

        def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
            raise ValueError("dark")

    assert measure_steadiness([Blind()], labelled_photos.labels) == {}
