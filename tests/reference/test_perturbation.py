"""Faces shown harder: where box, face and landmarks come to lie."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from reference import metrics
from reference.perturbation import Perturbation, changed_box, turned
from reference.views import View, crop_corners, lie_inside

BOX = (50.0, 40.0, 90.0, 80.0)
SPOTS = np.array([[60.0, 50.0], [84.0, 52.0], [70.0, 74.0]])


def spotted_view(spots: np.ndarray = SPOTS) -> View:
    """A dark photo with a bright spot at each of three landmarks (the 68 repeat them)."""
    photo = Image.new("RGB", (150, 120), (20, 20, 20))
    draw = ImageDraw.Draw(photo)
    for x, y in spots:
        draw.rectangle((x - 1, y - 1, x + 1, y + 1), fill=(250, 250, 250))
    return View(photo, BOX, spots[np.arange(68) % len(spots)], True)


def centre_of_light(photo: Image.Image, near: np.ndarray) -> np.ndarray:
    """Where the bright spot around a point is, to a part of a pixel."""
    x, y = (round(number) for number in near)
    light = np.asarray(photo.convert("L"), float)[y - 4 : y + 5, x - 4 : x + 5] - 20
    rows, columns = np.mgrid[y - 4 : y + 5, x - 4 : x + 5]
    return np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()


@pytest.mark.parametrize(
    ("change", "box"),
    [
        ((0, 0, 0), (50, 40, 90, 80)),
        ((0.1, -0.2, 0), (54, 32, 94, 72)),
        ((0, 0, 0.5), (40, 30, 100, 90)),
        ((0, 0, -0.5), (60, 50, 80, 70)),
        ((0.25, 0, 0.1), (58, 38, 102, 82)),
    ],
)
def test_boxes_by_hand(change: tuple[float, ...], box: tuple[float, ...]) -> None:
    assert changed_box(BOX, *change) == pytest.approx(box)


@pytest.mark.parametrize("degrees", [90, -90, 180, 30, -17.3])
def test_landmarks_turn_with_the_photo(degrees: float) -> None:
    view = turned(spotted_view(), BOX, np.deg2rad(degrees))
    for landmark in view.landmarks[:3]:
        np.testing.assert_allclose(centre_of_light(view.photo, landmark), landmark, atol=0.05)


def test_a_quarter_turn_is_clockwise_on_the_screen() -> None:
    view = turned(spotted_view(), BOX, np.pi / 2)
    before = SPOTS + 0.5 - (70, 60)
    left, top, right, bottom = view.box
    after = view.landmarks[:3] + 0.5 - ((left + right) / 2, (top + bottom) / 2)
    np.testing.assert_allclose(after, np.stack([-before[:, 1], before[:, 0]], axis=1), atol=1e-9)
    assert (right - left, bottom - top) == (40, 40)


def test_the_new_box_is_seen_from_the_old_centre() -> None:
    shifted = (54.0, 32.0, 94.0, 72.0)
    still, moved = (turned(spotted_view(), box, 0.3) for box in (BOX, shifted))
    np.testing.assert_allclose(np.subtract(moved.box, still.box), np.subtract(shifted, BOX))
    np.testing.assert_array_equal(moved.photo, still.photo)
    np.testing.assert_array_equal(moved.landmarks, still.landmarks)


def test_outside_the_photo_the_nearest_pixel_is_repeated() -> None:
    photo = Image.new("L", (40, 40), 90)
    view = turned(View(photo, (10.0, 10.0, 30.0, 30.0), np.zeros((68, 2)), True), BOX, 0.5)
    assert view.photo.mode == "L"
    assert view.photo.getextrema() == (90, 90)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3.1, 3.1))
def test_the_truth_stays_the_truth(angle_rad: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(40, 90, (68, 2))
    found = truth + rng.normal(0, 2, (68, 2))
    true, off = (
        turned(View(spotted_view().photo, BOX, points, True), BOX, angle_rad).landmarks[None]
        for points in (truth, found)
    )
    np.testing.assert_allclose(
        metrics.interocular_nme_percent(off, true),
        metrics.interocular_nme_percent(found[None], truth[None]),
    )


class TestInside:
    def test_corners_of_the_crop(self) -> None:
        corners = [[40, 30], [100, 30], [100, 90], [40, 90]]
        np.testing.assert_array_equal(crop_corners(BOX), corners)
        np.testing.assert_array_equal(crop_corners((50, 50, 90, 70)), corners)

    @pytest.mark.parametrize(
        ("points", "is_inside"),
        [([[0, 0], [150, 120]], True), ([[-0.1, 5]], False), ([[5, 120.1]], False)],
    )
    def test_edges_belong_to_the_photo(self, points: list[list[float]], is_inside: bool) -> None:
        assert lie_inside(np.array(points), Image.new("L", (150, 120))) is is_inside

    @pytest.mark.parametrize(
        ("box", "degrees", "is_inside"),
        [
            (BOX, 0, True),
            (BOX, 45, True),  # reaches to 70 ± 42.4, 60 ± 42.4 of 150 × 120
            ((50, 66, 90, 106), 0, True),  # 40 to 100, 56 to 116
            ((50, 66, 90, 106), 45, False),  # a corner comes from 60 + (30 + 56) · sin 45° = 120.8
            ((70, 60, 110, 100), 45, True),  # 20 to the right and below comes from the right,
            ((70, 60, 110, 100), -45, False),  # or from below: to 60 + 28.3 + 42.4
            ((50, 72, 90, 112), 0, False),
            ((30, 20, 110, 100), 0, True),  # 10 to 130, 0 to 120
            ((30, 20, 110, 100), 1, False),
        ],
    )
    def test_is_judged_in_the_photo_as_it_was(
        self, box: tuple[float, float, float, float], degrees: float, is_inside: bool
    ) -> None:
        assert turned(spotted_view(), box, np.deg2rad(degrees)).is_inside is is_inside


class TestPerturbation:
    def test_the_same_seed_and_place_draw_the_same(self) -> None:
        bounds = (0.1, 0.15, 30.0)
        views = [
            Perturbation(*bounds, seed)(spotted_view(), place)
            for seed, place in ((1, 5), (1, 5), (1, 6), (2, 5))
        ]
        assert views[0].box == views[1].box
        np.testing.assert_array_equal(views[0].photo, views[1].photo)
        assert len({view.box for view in views}) == 3

    def test_changes_fill_their_bounds_and_keep_to_them(self) -> None:
        drawn = [Perturbation(0.1, 0.15)(spotted_view(), place).box for place in range(400)]
        left, top, right, bottom = np.array(drawn).T
        for centre, start in (((left + right) / 2, 70), ((top + bottom) / 2, 60)):
            shifts = (centre - start) / 40
            assert np.abs(shifts).max() <= 0.1 + 1e-9
            assert shifts.min() < -0.09
            assert shifts.max() > 0.09
        growth = (right - left) / 40
        assert growth.min() == pytest.approx(0.85, abs=0.01)
        assert growth.max() == pytest.approx(1.15, abs=0.01)
        assert np.all(growth >= 0.85 - 1e-9)

    def test_turns_fill_their_bounds(self) -> None:
        across = SPOTS[1] - SPOTS[0]
        angles = []
        for place in range(60):
            found = Perturbation(turn_deg=30)(spotted_view(), place).landmarks
            x, y = found[1] - found[0]
            angles.append(np.rad2deg(np.arctan2(y, x) - np.arctan2(across[1], across[0])))
        assert np.abs(angles).max() <= 30 + 1e-6
        assert min(angles) < -25
        assert max(angles) > 25

    def test_without_a_turn_the_photo_is_the_same(self) -> None:
        view = spotted_view()
        assert Perturbation(shift=0.1)(view, 0).photo is view.photo

    @pytest.mark.parametrize(
        "bounds", [{"shift": -0.1}, {"shift": 0.6}, {"scale": 1}, {"turn_deg": 181}, {"seed": -1}]
    )
    def test_bounds_without_sense_are_refused(self, bounds: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="accepted"):
            Perturbation(**bounds)

    def test_says_what_it_does(self) -> None:
        assert str(Perturbation(0.1, 0.15, 30)) == "shift ±0.1, scale ±0.15, turn ±30°"


def test_a_png_of_a_view_can_be_written(tmp_path: Path) -> None:
    Perturbation(0.1, 0.1, 20)(spotted_view(), 3).photo.save(tmp_path / "view.png")
