"""Opening photos of every kind as gray."""

import numpy as np
import pytest
from PIL import Image

from reference.data.photo import PhotoError, read_gray

RAMP = np.arange(0, 256, 2, dtype=np.uint8).reshape(8, 16)


def test_colour_becomes_luma(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    luma = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read_gray(tmp_path / "a.png"), luma, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {
        1: RAMP,
        2: RAMP[:, ::-1],
        3: RAMP[::-1, ::-1],
        4: RAMP[::-1],
        5: RAMP.T,
        6: np.rot90(RAMP, -1),
        7: RAMP[::-1, ::-1].T,
        8: np.rot90(RAMP, 1),
    }[orientation]
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), upright)


def test_16_bits_are_scaled(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), RAMP)


def with_key(mode):
    """A picture whose file names one colour, or one entry of its palette, as transparent."""
    image = Image.fromarray(RAMP).convert(mode)
    image.info["transparency"] = {"L": 10, "RGB": (10, 10, 10), "P": 3}[mode]
    return image


def with_alpha(mode):
    image = Image.fromarray(RAMP).convert(mode)
    image.putalpha(Image.fromarray(255 - RAMP))
    return image


PICTURES = {
    "gray": Image.fromarray(RAMP),
    "colour": Image.fromarray(np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=2)),
    "16 bits": Image.fromarray(RAMP.astype(np.uint16) * 200 + 77),
    "LA": with_alpha("L"),
    "RGBA": with_alpha("RGB"),
    "gray, transparent colour": with_key("L"),
    "transparent colour": with_key("RGB"),
    "palette, transparent entry": with_key("P"),
    "palette": Image.fromarray(RAMP).convert("P"),
    "1": Image.fromarray(RAMP).convert("1"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_gray_is_the_one_that_inference_makes(name, tmp_path):
    image = pytest.importorskip("npshapenet.image")
    PICTURES[name].save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as photo:
        np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), image.to_gray(photo))


def test_transparent_parts_stand_on_white(tmp_path):
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[:, :8, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    gray = read_gray(tmp_path / "a.png")
    assert (gray[:, :8] == 0).all()
    assert (gray[:, 8:] == 255).all()


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "RGB", "CMYK", "1"])
def test_other_modes(mode, tmp_path):
    black_and_white = np.where(RAMP > 100, 255, 0).astype(np.uint8)
    suffix = "tif" if mode == "CMYK" else "png"
    image = Image.fromarray(black_and_white)
    image = image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_gray(tmp_path / f"a.{suffix}"), black_and_white)


def save(tmp_path, image, name="a.tif"):
    image.save(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP.astype(np.float32)),
        Image.fromarray(RAMP.astype(np.int32) * 1000),
        Image.fromarray(-RAMP.astype(np.int32)),
    ],
    ids=["floats", "32 bits", "negative"],
)
def test_kinds_that_are_refused(image, tmp_path):
    with pytest.raises(PhotoError, match=r"unknown kind of image: .*accepted"):
        read_gray(save(tmp_path, image))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "not an image"), (b"no image\n", "not an image"), (b"\xff\xd8\xff\xe0", "not an image")],
)
def test_files_that_are_no_image(content, kind, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PhotoError) as caught:
        read_gray(tmp_path / "a.jpg")
    assert caught.value.kind == kind
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_every_truncation_is_one_clear_error(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    path = save(tmp_path, Image.fromarray(noise), f"a.{suffix}")
    content = path.read_bytes()
    # A JPEG or PNG that lacks only its end mark can still be complete.
    for length in range(0, len(content) - 40, 37):
        path.write_bytes(content[:length])
        with pytest.raises(PhotoError):
            read_gray(path)


def test_missing_and_folder(tmp_path):
    with pytest.raises(PhotoError, match="missing image"):
        read_gray(tmp_path / "none.png")
    with pytest.raises(PhotoError):
        read_gray(tmp_path)


def test_picture_of_too_many_pixels(tmp_path, monkeypatch):
    path = save(tmp_path, Image.fromarray(RAMP), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(PhotoError, match="decompression bomb"):
        read_gray(path)
