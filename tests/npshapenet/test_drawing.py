"""Landmarks onto photos: where they are, in which colour, and on which photos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from npshapenet.drawing import REGION_COLOURS, draw_landmarks
from npshapenet.markup import REGIONS


def drawn_weight(photo):
    """How much of each pixel of a black photo is drawn on, 0–1, from a drawing in white."""
    return np.asarray(photo)[..., 0] / 255


@pytest.mark.parametrize("point", [(20, 30), (20.5, 30), (20.25, 29.75), (33.6, 20.1)])
@pytest.mark.parametrize("extent", [0, 40, 900])
def test_dots_are_where_the_points_are(point, extent):
    """To a tenth of a pixel: the centre of the drawn mass. Centres of pixels are whole."""
    far = (point[0] + extent, point[1])
    photo = draw_landmarks(Image.new("RGB", (60, 60)), [point, far], "white")
    # Only the first dot, not the second.
    weight = drawn_weight(photo)[:, :54]
    rows, columns = np.indices(weight.shape)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(point[0], abs=0.1)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(point[1], abs=0.1)


def test_edges_are_smooth():
    photo = draw_landmarks(Image.new("RGB", (60, 60)), [(20.3, 30.4), (50, 30)], "white")
    assert len(np.unique(drawn_weight(photo))) > 4


@pytest.fixture
def face():
    """68 points all apart: each region on a row of its own."""
    points = np.zeros((68, 2))
    for row, indices in enumerate(REGIONS.values()):
        points[indices, 0] = 20 + 20 * np.arange(len(indices))
        points[indices, 1] = 20 + 30 * row
    return points


def test_regions_have_colours_and_lines(face):
    photo = draw_landmarks(Image.new("RGB", (400, 300)), face)
    for region, indices in REGIONS.items():
        first, second = face[indices[:2]].astype(int)
        colour = Image.new("RGB", (1, 1), REGION_COLOURS[region]).getpixel((0, 0))
        assert photo.getpixel(tuple(int(v) for v in first)) == colour
        middle = (first + second) // 2
        # The line is thinner than a pixel's dot; its middle is drawn in the region's colour.
        assert np.abs(np.subtract(photo.getpixel(tuple(int(v) for v in middle)), colour)).max() < 90
    assert photo.getpixel((20, 35)) == (0, 0, 0)


def test_one_colour(face):
    photo = np.asarray(draw_landmarks(Image.new("RGB", (400, 300)), face, (255, 0, 0)))
    assert photo[..., 0].max() == 255
    assert photo[..., 1:].max() == 0


def test_other_numbers_of_points_have_no_lines(face):
    photo = draw_landmarks(Image.new("RGB", (400, 300)), face[:67], "white")
    assert drawn_weight(photo)[20, 30] == 0
    assert drawn_weight(photo)[20, 20] == 1


def test_several_faces(face):
    single = draw_landmarks(Image.new("RGB", (400, 300)), face, "white")
    both = draw_landmarks(Image.new("RGB", (400, 300)), [face, np.add(face, (3, 12))], "white")
    assert (drawn_weight(both) >= drawn_weight(single)).all()
    assert drawn_weight(both).sum() > 1.5 * drawn_weight(single).sum()
    assert drawn_weight(draw_landmarks(Image.new("RGB", (9, 9)), np.zeros((0, 68, 2)))).sum() == 0
    assert drawn_weight(draw_landmarks(Image.new("RGB", (9, 9)), np.zeros((0, 2)))).sum() == 0


def test_the_photo_stays_as_it_was(face):
    photo = Image.new("RGB", (400, 300))
    drawn = draw_landmarks(photo, face)
    assert drawn is not photo
    assert np.asarray(photo).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16", "CMYK", "F"])
def test_modes(mode, face):
    assert draw_landmarks(Image.new(mode, (400, 300)), face).mode == "RGB"


def test_points_outside(face):
    photo = Image.new("RGB", (400, 300))
    assert drawn_weight(draw_landmarks(photo, face + 1e5, "white")).max() == 0
    assert drawn_weight(draw_landmarks(photo, face - 30, "white"))[20, 10] == 1
    # A face far larger than the photo costs no more than the photo.
    assert draw_landmarks(photo, face * 1e4).size == (400, 300)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((68, 3)), r"\(68, 3\)"),
        (np.zeros(136), r"\(136,\)"),
        (np.full((68, 2), np.nan), "finite"),
        ([[0, np.inf]], "finite"),
    ],
)
def test_bad_landmarks(landmarks, message):
    with pytest.raises(ValueError, match=message):
        draw_landmarks(Image.new("RGB", (9, 9)), landmarks)
