"""iBUG's .pts files: what is read, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from reference.data.labels import LabelError, LabelledFace, read_labels
from reference.data.pts import box_of_points

SHARED = Path(__file__).resolve().parents[4] / "shared"
HEADER = "version: 1\nn_points:  68\n{\n"


def numbers(points):
    return "".join(f"{x!r} {y!r}\n" for x, y in points)


@pytest.fixture
def write_pts(tmp_path, make_photo):
    """A function that writes a .pts file with a photo beside it, and returns the folder."""

    def write(text, image="a.png", name="a.pts"):
        make_photo(image)
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "form",
    ["{header}{points}}}\n", "{points}", "\ufeff{header}{points}}}", "{header}\n{points}\n}}\n\n"],
    ids=["header", "bare", "byte order mark", "blank lines"],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_points_are_counted_from_one(form, newline, write_pts, points):
    text = form.format(header=HEADER, points=numbers(points)).replace("\n", newline)
    (face,) = read_labels(write_pts(text))
    assert isinstance(face, LabelledFace)
    np.testing.assert_array_equal(face.landmarks, np.array(points) - 1)
    assert face.name == "a.png#0"


@pytest.mark.parametrize("image", ["a.jpg", "a.JPG", "a.jpeg", "a.PNG"])
def test_image_beside_it(image, write_pts, points, tmp_path):
    write_pts(numbers(points), image)
    (face,) = read_labels(tmp_path / "a.pts")
    assert face.image == tmp_path / image


def test_subfolders_in_order(write_pts, points, tmp_path):
    (tmp_path / "sub").mkdir()
    write_pts(numbers(points), "sub/b.png", "sub/b.pts")
    write_pts(numbers(points))
    assert [face.name for face in read_labels(tmp_path)] == ["a.png#0", "sub/b.png#0"]


def test_box_is_fitted_as_the_research_sets_are():
    # Bounds 100 wide, 50 high, centre (60.5, 45.5) in edge coordinates.
    box = box_of_points(np.array([[10.0, 20.0], [110.0, 70.0]]))
    centre_x, centre_y, side = 60.5 - 0.2, 45.5 - 8.5, 103.5
    half = side / 2
    expected = (centre_x - half, centre_y - half, centre_x + half, centre_y + half)
    np.testing.assert_allclose(box, expected)


def lines(count):
    return "".join(f"{k}.5 {k * 2}\n" for k in range(count))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (lines(67), "missing parts"),
        (lines(69), "too many parts"),
        ("", "missing parts"),
        (HEADER + lines(67) + "}", "missing parts"),
        (HEADER + lines(69) + "}", "too many parts"),
        (HEADER + lines(68), "not a .pts file"),
        (HEADER.replace("{", "") + lines(68) + "}", "not a .pts file"),
        (HEADER.replace("68", "49") + lines(49) + "}", "bad header"),
        (HEADER.replace(": 1", ": 2") + lines(68) + "}", "bad header"),
        ("title: face\n" + lines(68), "bad header"),
        (lines(67) + "nan 1\n", "bad number"),
        (lines(67) + "1 inf\n", "bad number"),
        (lines(67) + "1\n", "bad number"),
        (lines(67) + "1 2 3\n", "bad number"),
        (lines(67) + "one two\n", "bad number"),
        (b"\xff\xfe\x00\x01" * 20, "not a .pts file"),
        (lines(68) + " " * 70000, "not a .pts file"),
        ("5 5\n" * 68, "box of no size"),
        ("".join(f"{k / 10} {k / 10}\n" for k in range(68)), "box too small"),
    ],
)
def test_bad_files(text, kind, write_pts):
    (error,) = read_labels(write_pts(text))
    assert isinstance(error, LabelError)
    assert error.kind == kind
    for piece in ("a.pts", "a.png", "accepted: "):
        assert piece in str(error)


def test_missing_image(write_pts, points, tmp_path):
    (write_pts(numbers(points)) / "a.png").unlink()
    (error,) = read_labels(tmp_path)
    assert error.kind == "missing image"


def test_two_images(write_pts, make_photo, points, tmp_path):
    write_pts(numbers(points))
    make_photo("a.jpg")
    (error,) = read_labels(tmp_path)
    assert error.kind == "several images"


def test_image_that_is_a_link_out_of_the_folder(make_photo, points, tmp_path, symlink):
    folder = tmp_path / "set"
    folder.mkdir()
    symlink(folder / "a.png", make_photo("outside.png"))
    (folder / "a.pts").write_text(numbers(points))
    (error,) = read_labels(folder)
    assert error.kind == "image path leaves the folder"


def test_empty_folder(tmp_path):
    with pytest.raises(LabelError, match=r"holds no \.pts file"):
        list(read_labels(tmp_path))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the research sets aren't at {SHARED}")
def test_pts_and_xml_agree_on_the_same_photos():
    """The eight faces are in 300w/common too, so both readers must give the same points."""
    by_xml = {
        Path(face.name.partition("#")[0]).name: face
        for face in read_labels(SHARED / "data" / "300w" / "common" / "labels.xml")
        if face.name.startswith("lfpw/")
    }
    faces = list(read_labels(SHARED / "data" / "pts_form"))
    assert len(faces) == 8
    for face in faces:
        same = by_xml[face.image.name]
        # The XML's points are rounded to a tenth of a pixel.
        np.testing.assert_allclose(face.landmarks, same.landmarks, atol=0.0501)
