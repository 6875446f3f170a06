"""The stored crop: its geometry, and that its middle is what inference sees."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reference.data.crop import Frame, Geometry, crop_frame, cut, store_face
from reference.data.face import LabelError, LabelledFace

USUAL = Geometry()
# Of 255 gray levels, on noise: Pillow keeps the edges of its box in float32.
PILLOW = 0.02


def face_at(box, landmarks=None):
    """A face with the given box; points in a ring unless given."""
    if landmarks is None:
        angles = np.arange(68.0)
        landmarks = 50 + 20 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return LabelledFace(Path("a.png"), "a.png#0", box, landmarks, Path("labels.xml"))


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "frame"),
    [
        ((100, 200, 140, 240), Frame(90, 190, 60)),
        ((100, 200, 140, 220), Frame(90, 180, 60)),
        ((-10.0, -4.5, 30.5, 35.5), Frame(-20, -15, 61)),
    ],
)
def test_frame_is_the_convention(box, frame):
    assert crop_frame(box, 1.5) == frame


@pytest.mark.parametrize("side", [30, 112, 150, 301])
@pytest.mark.parametrize("geometry", [USUAL, Geometry(64, 10, 1.2), Geometry(224, 0, 2.0)])
def test_a_blob_lands_on_its_landmark(side, geometry):
    """A blob drawn at a point of the photo has its centre of mass at the stored point."""
    box_side = side / geometry.crop_factor
    left, top = 40.3, 25.7
    box = (left, top, left + box_side, top + box_side)
    centre = np.array([left, top]) + box_side * np.array([0.43, 0.61])
    sigma = max(1.5, side / 25)
    y, x = np.mgrid[0:480, 0:480]
    gray = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    landmarks = np.tile(centre, (68, 1))
    stored = store_face(face_at(box, landmarks), np.rint(gray).astype(np.uint8), geometry)
    weight = stored.crop.astype(np.float64)
    rows, columns = np.mgrid[0 : geometry.stored_px, 0 : geometry.stored_px]
    found = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
    np.testing.assert_allclose(stored.landmarks[0], found, atol=0.05)


def test_identity_scale_copies_pixels():
    gray = noise(300, 300)
    crop = cut(gray, Frame(80, 90, 112), USUAL)
    np.testing.assert_array_equal(crop, gray[62:230, 52:220])


def plain_crop(gray, frame):
    """Inference's crop in the plainest form: the photo with its edge repeated all round."""
    room = 600
    padded = np.pad(gray, room, mode="edge")
    top, left = frame.top + room, frame.left + room
    return padded[top : top + frame.side, left : left + frame.side]


FRAMES = [
    Frame(31, 52, 150),
    Frame(20, 10, 301),
    Frame(70, 60, 45),
    Frame(-40, -31, 133),
    Frame(250, 200, 201),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_middle_is_what_inference_sees(frame):
    gray = noise(400, 330)
    crop = Image.fromarray(plain_crop(gray, frame).astype(np.float32))
    seen = np.asarray(crop.resize((112, 112), Image.Resampling.BILINEAR))
    stored = cut(gray, frame, USUAL)[28:-28, 28:-28]
    # Nearer to the edge than the filter is wide, inference sees nothing of what lies outside.
    rim = math.ceil(max(1.0, 112 / frame.side))
    inside = np.s_[rim:-rim, rim:-rim]
    np.testing.assert_allclose(stored[inside], seen[inside], atol=PILLOW)


@pytest.mark.parametrize("frame", FRAMES)
def test_middle_is_what_npshapenet_sees(frame):
    """The same against inference's own crop and resize."""
    image = pytest.importorskip("npshapenet.image")
    gray = noise(400, 330)
    middle = frame.left + frame.side / 2, frame.top + frame.side / 2
    half = frame.side / 3  # half of a box that the factor of 1.5 makes a crop
    box = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    crop = image.crop_face(gray, box, 1.5)
    assert (crop.left, crop.top, len(crop.gray)) == (frame.left, frame.top, frame.side)
    assert crop_frame(box, 1.5) == frame
    seen = image.resize(crop.gray, 112, 112)
    rim = math.ceil(max(1.0, 112 / frame.side))
    inside = np.s_[rim:-rim, rim:-rim]
    stored = cut(gray, frame, USUAL)[28:-28, 28:-28]
    np.testing.assert_allclose(stored[inside], seen[inside], atol=PILLOW)


@pytest.mark.parametrize("box", np.random.default_rng(3).uniform(-40, 300, (40, 3)).tolist())
def test_frames_are_npshapenet_s(box):
    """Rounding of halves included: boxes on whole, half and any pixels."""
    image = pytest.importorskip("npshapenet.image")
    left, top, size = box[0], box[1], abs(box[2]) + 60
    for unit in (1.0, 0.5, 1e-3):
        left, top, right, bottom = (
            round(edge / unit) * unit for edge in (left, top, left + size, top + size * 0.9)
        )
        crop = image.crop_face(noise(330, 330), (left, top, right, bottom), 1.5)
        frame = crop_frame((left, top, right, bottom), 1.5)
        assert (crop.left, crop.top, len(crop.gray)) == (frame.left, frame.top, frame.side)


@pytest.mark.parametrize("frame", FRAMES)
def test_grid_is_that_of_one_large_resize(frame):
    """Margins and middle are one sampling grid: a wider margin only adds to the outside."""
    gray = noise(400, 330)
    wide = cut(gray, frame, Geometry(112, 40))
    np.testing.assert_allclose(wide[12:-12, 12:-12], cut(gray, frame, USUAL), atol=PILLOW)


def test_edges_are_repeated_outside_the_photo():
    gray = noise(60, 50)
    stored = store_face(face_at((5, 5, 55, 55)), gray, USUAL)
    assert stored.crop.shape == (168, 168)
    left, top, right, bottom = stored.photo_edges
    assert 0 < left < right < 168
    assert 0 < top < bottom < 168
    beyond = stored.crop[:, : int(left) - 1]
    np.testing.assert_array_equal(beyond, np.repeat(beyond[:, :1], beyond.shape[1], axis=1))
    below = stored.crop[int(bottom) + 2 :]
    np.testing.assert_array_equal(below, np.repeat(below[:1], len(below), axis=0))


def test_photo_edges_are_edge_coordinates():
    """A photo that is exactly the network's crop has its edges at the margins."""
    stored = store_face(face_at((20, 20, 100, 100)), noise(120, 120), USUAL)
    assert stored.frame == Frame(0, 0, 120)
    np.testing.assert_allclose(stored.photo_edges, (28, 28, 140, 140))


def test_corner_pixel_of_the_crop_has_the_network_s_coordinates():
    landmarks = np.tile([50.0, 60.0], (68, 1))
    landmarks[0] = [-0.5, -0.5]  # the outer corner of the crop's first pixel
    stored = store_face(face_at((20, 20, 100, 100), landmarks), noise(120, 120), USUAL)
    np.testing.assert_allclose(stored.landmarks[0], (27.5, 27.5))


@pytest.mark.parametrize(
    ("box", "factor", "kind"),
    [
        ((200.0, 10, 260, 70), 1.5, "box outside the photo"),
        ((10, -90, 70, -30), 1.5, "box outside the photo"),
        ((-300, -300, 300, 300), 1.5, "box too large"),
        ((-9e5, -9e5, 9e5, 9e5), 1.5, "box too large"),
        ((10, 10, 27, 27), 0.5, "crop too small"),
    ],
)
def test_boxes_that_do_not_fit_the_photo(box, factor, kind):
    with pytest.raises(LabelError, match=r"labels\.xml: a\.png#0: .*accepted") as caught:
        store_face(face_at(box), noise(100, 90), Geometry(112, 28, factor))
    assert caught.value.kind == kind
