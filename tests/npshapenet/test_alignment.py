"""Faces turned onto the template: where their points come to lie, and what is seen there."""

from __future__ import annotations

import numpy as np
import pytest

from npshapenet.alignment import TEMPLATE, align_face, alignment, five_points
from npshapenet.cli.demo_photos import read_demo_photo


def face_on_template(scale: float, angle_deg: float, x: float, y: float) -> np.ndarray:
    """Points (68, 2) whose five lie on the template exactly, then scaled, turned and moved."""
    points = np.zeros((68, 2))
    right_eye, left_eye, nose, right_mouth, left_mouth = TEMPLATE
    points[36:42], points[42:48], points[30] = right_eye, left_eye, nose
    points[48], points[54] = right_mouth, left_mouth
    moved = (points @ [1, 1j]) * scale * np.exp(1j * np.radians(angle_deg)) + x + 1j * y
    return np.stack([moved.real, moved.imag], axis=-1)


@pytest.mark.parametrize("size_px", [16, 112, 224, 97])
def test_the_five_points_come_to_lie_on_the_template(size_px):
    points = face_on_template(scale=2.3, angle_deg=31, x=40, y=-7)
    to_photo = alignment(points, size_px)
    # The template scales with the crop's outer edges, which are half a pixel outside its centres.
    template = (np.array(TEMPLATE) + 0.5) * size_px / 112 - 0.5
    in_photo = template @ to_photo[:, :2].T + to_photo[:, 2]
    np.testing.assert_allclose(in_photo, five_points(points), atol=1e-9)


@pytest.mark.parametrize("scale", [0.4, 1, 1.7, 5.3])
@pytest.mark.parametrize("angle_deg", [0, -25, 90, 180])
def test_what_is_at_a_point_of_the_photo_is_at_its_place_in_the_crop(scale, angle_deg):
    """Discs drawn around the five points: their centres of mass lie on the template."""
    points = face_on_template(scale, angle_deg, x=0, y=0)
    points += 450 - points[[36, 42, 48, 54]].mean(axis=0)
    for place, expected in zip(five_points(points), TEMPLATE, strict=True):
        radius = 5 * scale
        x, y = place
        rows, columns = np.mgrid[:900, :900]
        disc = np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)
        aligned = align_face((disc * 255).astype(np.uint8), points)
        assert (aligned.shape, aligned.dtype) == ((112, 112, 3), np.uint8)
        mass = aligned[..., 0].astype(float)
        rows, columns = np.mgrid[:112, :112]
        centre = (mass * columns).sum() / mass.sum(), (mass * rows).sum() / mass.sum()
        # A twentieth of a pixel of crop or photo, whichever is larger: few pixels of 8 bits.
        np.testing.assert_allclose(centre, expected, atol=0.05 * max(1, 1 / scale))
        assert mass.max() > 230


def test_an_aligned_face_aligned_again_stays():
    demo = read_demo_photo("astronaut")
    to_photo = alignment(demo.landmarks)
    aligned = align_face(demo.image, demo.landmarks)
    back = (demo.landmarks - to_photo[:, 2]) @ np.linalg.inv(to_photo[:, :2]).T
    again = align_face(aligned, back)
    difference = np.abs(again[8:-8, 8:-8].astype(int) - aligned[8:-8, 8:-8])
    assert difference.mean() < 1


def test_a_photo_in_any_form():
    demo = read_demo_photo("grace_hopper")
    aligned = align_face(demo.image, demo.landmarks)
    np.testing.assert_array_equal(align_face(np.asarray(demo.image), demo.landmarks), aligned)
    gray = align_face(demo.image.convert("L"), demo.landmarks)
    assert (gray[..., 0] == gray[..., 2]).all()


def test_outside_of_the_photo_it_is_black():
    photo = np.full((200, 200), 255, np.uint8)
    points = face_on_template(1, 0, x=-60, y=20)
    aligned = align_face(photo, points)
    assert (aligned[:, :58] == 0).all()
    assert (aligned[:, 62:] == 255).all()
    assert (align_face(photo, points + 5000) == 0).all()


@pytest.mark.parametrize("size_px", [15, 0, -112, 112.0, True, "112", None])
def test_sizes_that_are_none_are_refused(size_px):
    with pytest.raises(ValueError, match="size_px is a whole number, 16 and more"):
        align_face(np.zeros((90, 90), np.uint8), face_on_template(1, 0, 0, 0), size_px)


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        (np.zeros((68, 2)), "in one place"),
        (np.full((68, 2), np.nan), "finite"),
        (np.zeros((5, 2)), r"\(5, 2\)"),
    ],
)
def test_what_are_no_points_is_refused(points, complaint):
    with pytest.raises(ValueError, match=complaint):
        align_face(np.zeros((90, 90), np.uint8), points)
