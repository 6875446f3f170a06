"""What a gray crop is: checks, boxes, crops out of photos, resizing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from npshapenet import image
from npshapenet.image import (
    BOX_TO_PHOTO_MAX,
    Box,
    Crop,
    check_gray,
    crop_face,
    resize,
    to_gray,
    to_rgb,
)
from npshapenet.weights import Normalisation

ORIENTATION = 0x0112


def photo_pixels(rng, height=60, width=80):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


# What is accepted


def read_only(array):
    array.flags.writeable = False
    return array


ACCEPTED = {
    "uint8": lambda gray: gray,
    "read-only": lambda gray: read_only(gray.copy()),
    "transposed twice": lambda gray: np.asfortranarray(gray),
    "every other pixel": lambda gray: np.repeat(np.repeat(gray, 2, 0), 2, 1)[::2, ::2],
    "turned round twice": lambda gray: gray[::-1, ::-1].copy()[::-1, ::-1],
    "int64": lambda gray: gray.astype(np.int64),
    "uint16 big-endian": lambda gray: gray.astype(">u2"),
    "int16": lambda gray: gray.astype(np.int16),
    "float64": lambda gray: gray / 255,
    "float32": lambda gray: (gray / 255).astype(np.float32),
    "float32 big-endian": lambda gray: (gray / 255).astype(">f4"),
    "float16": lambda gray: (gray / 255).astype(np.float16),
    "long double": lambda gray: gray.astype(np.longdouble) / 255,
    "memory map": lambda gray: gray.view(np.memmap),
    "matrix": lambda gray: gray.view(np.matrix),
}


@pytest.mark.parametrize("form", ACCEPTED)
def test_accepts(form, rng):
    gray = rng.integers(0, 256, (17, 40), dtype=np.uint8)
    checked = check_gray(ACCEPTED[form](gray))
    assert type(checked) is np.ndarray
    assert checked.dtype in (np.uint8, np.float32)
    assert checked.dtype.isnative
    assert checked.flags.c_contiguous
    white = 255 if checked.dtype == np.uint8 else 1
    # float16 has 11 bits, so that numbers up to 1 are off by up to 2^-12.
    np.testing.assert_allclose(checked / white, gray / 255, rtol=0, atol=2**-12)


def test_uint8_and_float32_are_not_copied():
    for gray in (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.float32)):
        assert np.shares_memory(check_gray(gray), gray) == (gray.dtype == np.uint8)


def test_rounding_beyond_the_range_is_accepted():
    gray = np.full((16, 16), np.float32(1) + np.float32(1.2e-7))
    gray[0, 0] = -1e-9
    check_gray(gray)


GRAY = np.zeros((20, 20))
REFUSED = {
    "list of lists": (GRAY.tolist(), TypeError, "got list; accepted"),
    "None": (None, TypeError, "got NoneType"),
    "text": ("face.jpg", TypeError, "got str"),
    "number": (3.0, TypeError, "got float"),
    "picture": (Image.new("L", (20, 20)), TypeError, r'convert\("L"\)'),
    "masked": (np.ma.masked_array(GRAY), TypeError, "MaskedArray"),
    "objects": (GRAY.astype(object), TypeError, "dtype object"),
    "bool": (GRAY.astype(bool), TypeError, r"mask \* np.uint8\(255\)"),
    "complex": (GRAY.astype(complex), TypeError, "complex128"),
    "strings": (GRAY.astype(str), TypeError, "dtype <U"),
    "dates": (GRAY.astype("datetime64[s]"), TypeError, "datetime64"),
    "records": (np.zeros((20, 20), "u1,u1"), TypeError, "dtype"),
    "no axis": (np.array(0.5), ValueError, r"shape \(\)"),
    "NumPy's number": (np.float32(0.5), TypeError, "numpy.float32"),
    "one axis": (np.zeros(400), ValueError, r"shape \(400,\)"),
    "colour": (np.zeros((20, 20, 3), np.uint8), ValueError, r'colour: .*convert\("L"\)'),
    "colour with alpha": (np.zeros((20, 20, 4), np.uint8), ValueError, "colour"),
    "last axis of one": (np.zeros((20, 20, 1), np.uint8), ValueError, r"\[..., 0\]"),
    "four axes": (np.zeros((2, 1, 20, 20)), ValueError, r"shape \(2, 1, 20, 20\)"),
    "empty": (np.zeros((0, 20)), ValueError, "empty"),
    "nothing at all": (np.zeros((0,)), ValueError, "empty"),
    "too low": (np.zeros((15, 20)), ValueError, r"shape \(15, 20\).*at least 16×16"),
    "too narrow": (np.zeros((20, 15)), ValueError, r"shape \(20, 15\)"),
    "NaN": (GRAY + np.nan, ValueError, "NaN"),
    "one NaN": (np.where(np.eye(20), np.nan, 0), ValueError, "NaN"),
    "infinite": (GRAY + np.inf, ValueError, "infinite"),
    "infinite float16": (np.full((20, 20), np.inf, np.float16), ValueError, "infinite"),
    "floats to 255": (GRAY + 255.0, ValueError, "divide by 255"),
    "floats over 255": (GRAY + 1000.0, ValueError, "from 1000 to 1000;"),
    "slightly over": (GRAY + 1.001, ValueError, "from 1.001 to 1.001"),
    "negative floats": (GRAY - 0.5, ValueError, "from -0.5 to -0.5;"),
    "negative integers": (GRAY.astype(int) - 1, ValueError, "from -1 to -1"),
    "16 bits": (np.full((20, 20), 65535, np.uint16), ValueError, "from 65535 to 65535"),
    "huge integers": (np.full((20, 20), 2**63, np.uint64), ValueError, "uint64"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("error")
def test_refuses(what):
    value, error, message = REFUSED[what]
    with pytest.raises(error, match=message) as caught:
        check_gray(value)
    assert "accepted: a 2-D array" in str(caught.value)


def test_refuses_sparse():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"scipy\.sparse"):
        check_gray(sparse.eye(20).tocsr())


def test_refuses_tensors():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"torch.Tensor \(np.asarray"):
        check_gray(torch.zeros(20, 20))


# Boxes


def test_box_forms():
    assert Box.from_ltwh(10, 20, 30, 40) == Box(10, 20, 40, 60)
    assert (Box(1, 2, 4, 8).width, Box(1, 2, 4, 8).height) == (3, 6)


def test_box_of_dlib():
    dlib = pytest.importorskip("dlib")
    whole = dlib.rectangle(10, 20, 39, 59)
    box = Box.from_dlib(whole)
    assert box == Box(10, 20, 40, 60)
    assert (box.width, box.height) == (whole.width(), whole.height())
    fraction = dlib.drectangle(10.5, 20.5, 39.5, 59.5)
    box = Box.from_dlib(fraction)
    assert box == Box(10.5, 20.5, 40.5, 60.5)
    assert (box.width, box.height) == (fraction.width(), fraction.height())


def test_box_of_dlib_detector_with_confidence():
    class Rectangle:
        left, top, width, height = (staticmethod(lambda v=v: v) for v in (1, 2, 9, 8))

    class Detection:
        rect = Rectangle()

    assert Box.from_dlib(Detection()) == Box(1, 2, 10, 10)


@pytest.mark.parametrize(
    "edges", [(0, 0, 0, 5), (5, 0, 3, 5), (0, 5, 5, 5), (0, 0, math.nan, 5), (0, 0, math.inf, 5)]
)
def test_box_without_extent(edges):
    with pytest.raises(ValueError, match=r"box .*(no extent|not finite)"):
        Box(*edges)


# Crops


@pytest.mark.parametrize(
    ("box", "left", "top", "side"),
    [
        (Box(20, 10, 40, 30), 15, 5, 30),
        (Box(20, 10, 40, 20), 15, 0, 30),
        (Box(20, 10, 30, 30), 10, 5, 30),
        (Box(20.3, 10.4, 40.3, 30.4), 15, 5, 30),
        (Box(20.6, 10.6, 40.6, 30.6), 16, 6, 30),
        (Box(0, 0, 21, 21), -6, -6, 32),  # round(31.5) = 32; round(10.5 - 16) = -6
        (Box(-10, -10, 20, 20), -18, -18, 45),  # 5 - 22.5 = -17.5
    ],
)
def test_crop_is_where_the_convention_puts_it(box, left, top, side, rng):
    pixels = photo_pixels(rng)
    crop = crop_face(Image.fromarray(pixels), box, 1.5)
    assert (crop.left, crop.top) == (left, top)
    assert crop.gray.shape == (side, side)
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    for row in range(side):
        for column in range(side):
            y, x = min(max(top + row, 0), 59), min(max(left + column, 0), 79)
            assert crop.gray[row, column] == gray[y, x]


def test_crop_of_array_and_picture_agree(rng):
    pixels = photo_pixels(rng)
    box = Box(60, 30, 90, 70)
    expected = crop_face(Image.fromarray(pixels), box, 1.5)
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    for photo in (pixels, pixels[:, ::-1].copy()[:, ::-1], read_only(gray.copy())):
        crop = crop_face(photo, box, 1.5)
        np.testing.assert_array_equal(crop.gray, expected.gray)
        assert (crop.left, crop.top) == (expected.left, expected.top)
    floats = crop_face(gray / 255, box, 1.5)
    assert floats.gray.dtype == np.float32
    np.testing.assert_allclose(floats.gray * 255, expected.gray, rtol=0, atol=1e-4)


def cropped_by_tables(photo, crop, gray):
    """The crop's pixels, each looked up in the gray photo."""
    height, width = photo.shape[:2]
    side = len(crop.gray)
    rows = np.clip(np.arange(crop.top, crop.top + side), 0, height - 1)
    columns = np.clip(np.arange(crop.left, crop.left + side), 0, width - 1)
    return gray[np.ix_(rows, columns)]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.tuples(*[st.floats(0.05, 0.95)] * 4),
    st.floats(1, 60),
    st.integers(16, 120),
    st.integers(0, 2**32 - 1),
)
# A small crop of a large box may lie beside the photo, on any side of it.
@example(40, 50, (0.1, 0.95, 0.1, 0.95), 60, 18, 0)
@example(40, 50, (0.95, 0.05, 0.95, 0.05), 60, 18, 0)
@example(5, 5, (0.5, 0.7, 0.5, 0.7), 16, 24, 0)  # around all of it
@example(50, 50, (0.5, 0.5, 0.5, 0.5), 20, 30, 0)  # inside
def test_crop_repeats_the_nearest_pixel(height, width, shares, size, side_px, seed):
    pixels = photo_pixels(np.random.default_rng(seed), height, width)
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    # The box has a point of the photo in common with it, given by its share of either's extent.
    x, x_of_box, y, y_of_box = shares
    corner = (x * width - x_of_box * size, y * height - y_of_box * size)
    box = Box.from_ltwh(*corner, size, size)
    factor = side_px / size
    assume(size <= BOX_TO_PHOTO_MAX * max(height, width))
    crop = crop_face(pixels, box, factor)
    assert crop.gray.shape == (side_px, side_px)
    expected = cropped_by_tables(pixels, crop, gray)
    np.testing.assert_array_equal(crop.gray, expected)
    photos = {
        "mirrored": pixels[:, ::-1].copy()[:, ::-1],
        "read-only": read_only(pixels.copy()),
        "gray": gray,
        "gray by columns": np.asfortranarray(gray),
        "integers": gray.astype(">i4"),
        "picture": Image.fromarray(pixels),
    }
    for name, photo in photos.items():
        again = crop_face(photo, box, factor).gray
        np.testing.assert_array_equal(again, expected, err_msg=name)
        assert (again.dtype, again.flags.writeable, again.flags.c_contiguous) == (
            np.uint8,
            True,
            True,
        )


def test_colours_become_gray_as_pillow_has_it():
    """Every pair of levels of two channels, and grays, where rounding decides."""
    levels = np.arange(256, dtype=np.uint8)
    first, second = np.meshgrid(levels, levels)
    for third in (0, 1, 127, 255):
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            channels = (first, second, np.full_like(first, third))
            pixels = np.stack([channels[place] for place in order], axis=2)
            crop = crop_face(pixels, Box(0, 0, 256, 256), 1.0)
            expected = np.asarray(Image.fromarray(pixels).convert("L"))
            np.testing.assert_array_equal(crop.gray, expected)
            weighted = pixels.astype(np.int64) @ [19595, 38470, 7471]
            np.testing.assert_array_equal(crop.gray, (weighted + 0x8000) >> 16)


def test_box_may_be_its_edges(rng):
    pixels = photo_pixels(rng)
    expected = crop_face(pixels, Box(20, 10, 40, 30), 1.5)
    for edges in ((20, 10, 40, 30), [20, 10, 40, 30], np.array([20, 10, 40, 30])):
        np.testing.assert_array_equal(crop_face(pixels, edges, 1.5).gray, expected.gray)
    for other in ((1, 2, 3), "abcd", 5, None):
        with pytest.raises(TypeError, match="left, top, right, bottom"):
            crop_face(pixels, other, 1.5)


def test_crop_leaves_the_photo_alone(rng):
    pixels = photo_pixels(rng)[:, :, 0].copy()
    for box in (Box(20, 10, 40, 30), Box(0, 0, 80, 60)):
        crop = crop_face(pixels, box, 1.5)
        assert not np.shares_memory(crop.gray, pixels)


def test_small_crop_names_the_box(rng):
    with pytest.raises(ValueError, match=r"box 20 10 30 20 in a photo of 80×60.*15×15"):
        crop_face(photo_pixels(rng), Box(20, 10, 30, 20), 1.5)


@pytest.mark.parametrize(
    "box", [Box(80, 0, 120, 40), Box(-40, 0, 0, 40), Box(0, 60, 40, 99), Box(0, -40, 40, 0)]
)
def test_box_outside(box, rng):
    with pytest.raises(ValueError, match=f"{box} in a photo of 80×60.*outside"):
        crop_face(photo_pixels(rng), box, 1.5)


def test_box_of_absurd_size(rng):
    with pytest.raises(ValueError, match="over 4 times as large"):
        crop_face(photo_pixels(rng), Box(-1e9, -1e9, 1e9, 1e9), 1.5)


@pytest.mark.parametrize(
    ("photo", "error", "message"),
    [
        ("photo.jpg", TypeError, "got str"),
        ([[1, 2]], TypeError, "got list"),
        (np.zeros((60, 80, 4), np.uint8), ValueError, "red, green, blue"),
        (np.zeros((60, 80, 3)), ValueError, "red, green, blue"),
        (np.zeros((0, 80), np.uint8), ValueError, "empty"),
        (np.full((60, 80), np.nan), ValueError, "NaN"),
        (np.zeros((60, 80), bool), TypeError, "bool"),
    ],
)
def test_no_photo(photo, error, message):
    with pytest.raises(error, match=message):
        crop_face(photo, Box(20, 10, 40, 30), 1.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_photo_before_the_box(orientation, rng, tmp_path):
    stored = Image.fromarray(photo_pixels(rng))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as photo:
        seen = ImageOps.exif_transpose(photo)
        box = Box(5, 10, 35, 40)
        expected = np.asarray(seen.crop((0, 2, 43, 47)).convert("L"))
        crop = crop_face(photo, box, 1.5)
        assert to_gray(photo).shape == seen.size[::-1]
    assert (crop.left, crop.top) == (-2, 2)
    np.testing.assert_array_equal(crop.gray[:, 2:], expected)


def test_to_photo():
    crop = Crop(np.zeros((16, 16), np.uint8), -3, 7)
    points = crop.to_photo([[0, 0], [1.5, 2.25]])
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, [[-3, 7], [-1.5, 9.25]])
    np.testing.assert_array_equal(crop.to_photo(np.zeros((2, 5, 2)))[1, 4], [-3, 7])
    with pytest.raises(ValueError, match=r"\(68, 3\)"):
        crop.to_photo(np.zeros((68, 3)))


# Gray


def test_luma_is_that_of_the_standard(rng):
    pixels = photo_pixels(rng)
    exact = pixels @ [0.299, 0.587, 0.114]
    # Pillow's fixed-point weights are off by up to 2^-17 each, so that halves may go either way.
    assert np.abs(to_gray(Image.fromarray(pixels)) - exact).max() <= 0.5 + 3 * 255 * 2**-17


def test_modes(rng):
    gray = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    picture = Image.fromarray(gray)
    sixteen = gray.astype(np.uint16) * 257
    pictures = {
        "L": picture,
        "RGB": picture.convert("RGB"),
        "P": picture.convert("P"),
        "CMYK": picture.convert("CMYK"),
        "HSV": picture.convert("RGB").convert("HSV"),
        "YCbCr": picture.convert("RGB").convert("YCbCr"),
        "RGBX": picture.convert("RGBX"),
        "PA": picture.convert("PA"),
        "RGBA": picture.convert("RGBA"),
        "LA": picture.convert("LA"),
        "I;16": Image.fromarray(sixteen),
        "I": Image.fromarray(sixteen.astype(np.int32)),
        "F": Image.fromarray((gray / 255).astype(np.float32)),
    }
    for mode, other in pictures.items():
        assert other.mode == mode
        # YCbCr doesn't go to RGB and back without rounding.
        atol = 1 if mode == "YCbCr" else 0
        np.testing.assert_allclose(to_gray(other), gray, rtol=0, atol=atol, err_msg=mode)
        colour = to_rgb(other)
        assert colour.mode == "RGB"
        np.testing.assert_allclose(np.asarray(colour)[..., 1], gray, rtol=0, atol=atol)
    bilevel = picture.convert("1")
    np.testing.assert_array_equal(to_gray(bilevel), np.asarray(bilevel) * np.uint8(255))


def test_transparency_stands_on_white():
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert (to_gray(clear) == 255).all()
    half = Image.new("LA", (20, 20), (0, 128))
    assert (to_gray(half) == 127).all()
    palette = Image.new("P", (20, 20), 3)
    palette.info["transparency"] = 3
    assert (to_gray(palette) == 255).all()
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(np.full((20, 20), 70000, np.int32)), "70000"),
        (Image.fromarray(np.full((20, 20), -1, np.int32)), "-1"),
        (Image.fromarray(np.full((20, 20), 200, np.float32)), "divide by 255"),
        (Image.new("LAB", (20, 20)), "LAB"),
    ],
)
def test_pictures_without_gray(picture, message):
    with pytest.raises(ValueError, match=message):
        to_gray(picture)


# Resizing


def filtered_by_definition(values, target):
    """One axis, in float64, one output at a time: the triangle filter as Pillow documents it."""
    step = len(values) / target
    reach = max(step, 1)
    result = np.zeros((target, *values.shape[1:]))
    for index in range(target):
        centre = (index + 0.5) * step
        total = 0.0
        for source, value in enumerate(values):
            weight = max(0.0, 1 - abs(source + 0.5 - centre) / reach)
            result[index] += weight * value
            total += weight
        result[index] /= total
    return result


sizes = st.integers(1, 40)


@given(sizes, sizes, sizes, sizes, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_resize_follows_the_definition(height, width, new_height, new_width, seed):
    gray = np.random.default_rng(seed).random((height, width), np.float32)
    expected = filtered_by_definition(filtered_by_definition(gray, new_height).T, new_width).T
    resized = resize(gray, new_height, new_width)
    assert resized.dtype == np.float32
    # Sums of up to 80 float32 products of numbers up to 1, in each of two passes.
    np.testing.assert_allclose(resized, expected, rtol=0, atol=2e-6)


@given(sizes, sizes, sizes, sizes, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_resize_is_pillows(height, width, new_height, new_width, seed):
    gray = np.random.default_rng(seed).random((height, width), np.float32)
    picture = Image.fromarray(gray).resize((new_width, new_height), Image.Resampling.BILINEAR)
    # Pillow sums in double and keeps float32 between the passes.
    np.testing.assert_allclose(
        resize(gray, new_height, new_width), np.asarray(picture), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize(("source", "target"), [(300, 112), (112, 112), (50, 112), (168, 112)])
def test_resize_is_pytorchs(source, target, rng):
    torch = pytest.importorskip("torch")
    gray = rng.random((source, source + 7), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(gray)[None, None], (target, target), mode="bilinear", antialias=True
    )
    # PyTorch computes the filter's places in float32, which moves them by up to 1e-5 pixels.
    np.testing.assert_allclose(
        resize(gray, target, target), expected[0, 0].numpy(), rtol=0, atol=1e-5
    )


def test_resize_keeps_what_it_should(rng):
    gray = rng.integers(0, 256, (30, 50), dtype=np.uint8)
    np.testing.assert_array_equal(resize(gray, 30, 50), gray)
    np.testing.assert_allclose(resize(np.full((30, 50), 200, np.uint8), 77, 13), 200, rtol=1e-6)


def test_widen(rng):
    gray = rng.integers(0, 256, (4, 7), dtype=np.uint8)
    square, left, top = image.widen_to_square(gray)
    assert (square.shape, left, top) == ((7, 7), 0, 1)
    np.testing.assert_array_equal(square, gray[[0, 0, 1, 2, 3, 3, 3]])
    square, left, top = image.widen_to_square(gray.T)
    assert (square.shape, left, top) == ((7, 7), 1, 0)
    np.testing.assert_array_equal(square, gray.T[:, [0, 0, 1, 2, 3, 3, 3]])
    square, left, top = image.widen_to_square(square)
    assert (square.shape, left, top) == ((7, 7), 0, 0)


def test_network_input(rng):
    gray = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    normalisation = Normalisation(scale=4.0, offset=-1.5)
    square = np.concatenate([gray[:1].repeat(5, 0), gray, gray[-1:].repeat(5, 0)])
    resized = filtered_by_definition(filtered_by_definition(square / 255, 24).T, 24).T
    for crop in (gray, (gray / 255).astype(np.float32)):
        prepared = image.network_input(crop, 24, normalisation)
        assert prepared.dtype == np.float32
        # float32 sums of numbers up to 1, four times as large afterwards.
        np.testing.assert_allclose(prepared, resized * 4 - 1.5, rtol=0, atol=4e-6)
