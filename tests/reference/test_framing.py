"""The error against the framing, on systems whose error by framing is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reference.data.labels import LabelError
from reference.framing import AXES, MIX, MIX_DRAWS, Mix, measure_framing


@dataclass(frozen=True)
class OfBox:
    """A system that puts a fixed face into its box, whatever the photo shows."""

    face: np.ndarray  # of a box from 0 to 1
    name: str = "of box"

    def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
        left, top, right, bottom = box
        return np.array([left, top]) + self.face * [right - left, bottom - top] - 0.5


@pytest.fixture
def of_box(labelled_photos: Any) -> OfBox:
    """Right where the box is as labelled."""
    return OfBox((labelled_photos.truth + 0.5 - 50) / 60)


def test_what_follows_the_box_errs_by_its_shift(labelled_photos: Any, of_box: OfBox) -> None:
    framing = measure_framing([of_box], labelled_photos.labels)["of box"]
    for sweep in framing.sweeps[:2]:
        shift_px = 60 * np.abs(sweep.axis.steps) / 100
        expected = 100 * shift_px / labelled_photos.eye_distance_px
        np.testing.assert_allclose(sweep.means(), expected, atol=1e-6)


def test_what_follows_the_box_errs_by_its_growth(labelled_photos: Any, of_box: OfBox) -> None:
    sweep = measure_framing([of_box], labelled_photos.labels)["of box"].sweeps[2]
    from_centre_px = np.hypot(*(labelled_photos.truth + 0.5 - 80).T).mean()
    growth = np.abs(np.array(sweep.axis.steps) - 1)
    expected = 100 * growth * from_centre_px / labelled_photos.eye_distance_px
    np.testing.assert_allclose(sweep.means(), expected, atol=1e-6)


def test_what_never_turns_errs_by_the_turn(labelled_photos: Any, of_box: OfBox) -> None:
    sweep = measure_framing([of_box], labelled_photos.labels)["of box"].sweeps[3]
    from_centre_px = np.hypot(*(labelled_photos.truth + 0.5 - 80).T).mean()
    chord = 2 * np.abs(np.sin(np.deg2rad(sweep.axis.steps) / 2))
    expected = 100 * chord * from_centre_px / labelled_photos.eye_distance_px
    np.testing.assert_allclose(sweep.means(), expected, atol=1e-6)


def test_axes_reach_as_far_as_they_say() -> None:
    ends = {axis.name: (axis.steps[0], axis.steps[-1]) for axis in AXES}
    assert ends["shift x"] == ends["shift y"] == (-20, 20)
    assert ends["scale"] == (0.7, 1.3)
    assert ends["turn"] == (-45, 45)
    assert all(axis.unchanged in axis.steps for axis in AXES)
    assert (MIX.shift, MIX.scale, MIX.turn_deg) == (0.1, 0.15, 30)


def test_inside_are_the_faces_that_stay_inside(labelled_photos: Any, of_box: OfBox) -> None:
    sweeps = measure_framing([of_box], labelled_photos.labels)["of box"].sweeps
    # The crop reaches 45 pixels from 80; turned by 45 degrees 63.6, all within 160.
    assert all(sweep.stays_inside.all() for sweep in sweeps)
    text = labelled_photos.labels.read_text()
    labelled_photos.labels.write_text(text.replace("left='50'", "left='22'", 5))
    sweeps = measure_framing([of_box], labelled_photos.labels)["of box"].sweeps
    # From 7 to 97: not shifted by a fifth of 60 to the left, but up and down.
    assert [int(sweep.stays_inside.sum()) for sweep in sweeps] == [7, 12, 7, 7]
    assert sweeps[1].means()[3] > sweeps[1].means(only_inside=False)[3] - 1e-9
    np.testing.assert_allclose(sweeps[0].means(only_inside=True)[3], 0, atol=1e-6)


def test_the_rise_is_that_of_the_mean() -> None:
    plain = np.array([2.0, 4.0])
    mixed = np.array([[3.0, 4.0], [3.0, 5.0]])
    inside = np.array([[True, False], [True, True]])
    mix = Mix(plain, mixed, inside)
    assert mix.rise_percent() == pytest.approx(25)  # 15 of 12
    assert mix.rise_percent(only_inside=True) == pytest.approx(37.5)  # 11 of 8
    assert np.isnan(Mix(plain, mixed, inside & False).rise_percent(only_inside=True))


def test_the_mix_is_drawn_by_the_seed(labelled_photos: Any, of_box: OfBox) -> None:
    runs = [
        measure_framing([of_box], labelled_photos.labels, seed)["of box"].mix.mixed_nme_percent
        for seed in (0, 0, 1)
    ]
    assert runs[0].shape == (MIX_DRAWS, 12)
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0][1], runs[2][0])
    assert (runs[0][0] != runs[2][0]).all()


def test_a_face_that_is_refused_is_left_out(labelled_photos: Any, of_box: OfBox) -> None:
    class Picky(OfBox):
        def __call__(self, photo: Image.Image, box: tuple[float, ...]) -> np.ndarray:
            if box[0] < 40:
                raise ValueError("too far to the left")
            return super().__call__(photo, box)

    system = Picky(of_box.face)
    sweep = measure_framing([system], labelled_photos.labels)["of box"].sweeps[0]
    assert np.isnan(sweep.means()[0])
    assert np.isfinite(sweep.means()[1:]).all()


def test_labels_that_are_none_raise(tmp_path: Any, of_box: OfBox) -> None:
    with pytest.raises(LabelError):
        measure_framing([of_box], tmp_path / "gone.xml")


def test_what_there_is_not_is_null_in_json(labelled_photos: Any, of_box: OfBox) -> None:
    text = labelled_photos.labels.read_text()
    labelled_photos.labels.write_text(text.replace("left='50'", "left='0'"))
    values = measure_framing([of_box], labelled_photos.labels)["of box"].to_json()
    assert values["axes"]["scale"]["faces_inside_at_every_step"] == 0
    assert values["axes"]["scale"]["nme_percent_mean_inside"] == [None] * 7
    assert values["mix"]["rise_percent_of_itself_inside"] is None
    assert values["mix"]["rise_percent_of_itself"] is not None


def test_many_systems_are_drawn(
    labelled_photos: Any, of_box: OfBox, tmp_path: Any, is_picture: Callable[[Any], bool]
) -> None:
    plots = pytest.importorskip("reference.plots", reason="needs matplotlib", exc_type=ImportError)
    other = OfBox(of_box.face + 0.02, "other")
    framing = measure_framing([of_box, other], labelled_photos.labels)
    plots.draw_framing(tmp_path / "f.png", "a set", framing)
    assert is_picture(tmp_path / "f.png")
    with pytest.raises(ValueError, match="no system"):
        plots.draw_framing(tmp_path / "f.png", "a set", {})
