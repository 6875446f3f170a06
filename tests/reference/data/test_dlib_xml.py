"""dlib's XML: what is read, and what is refused."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from reference.data.dlib_xml import read_title
from reference.data.labels import LabelError, LabelledFace, read_labels

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
SHARED = Path(__file__).resolve().parents[4] / "shared"


def only(path):
    """Return the one thing that the labels file yields."""
    (entry,) = read_labels(path)
    return entry


def test_reads_box_and_decimals(make_photo, make_xml, part_lines, points, box):
    make_photo()
    face = only(make_xml((box, part_lines(points))))
    assert isinstance(face, LabelledFace)
    assert face.box == (20, 15, 80, 77)
    assert face.landmarks.dtype == np.float64
    np.testing.assert_array_equal(face.landmarks, points)
    assert face.name == "a.png#0"
    assert face.image.is_file()


def test_parts_may_stand_in_any_order(make_photo, make_xml, part_lines, points, box):
    make_photo()
    lines = part_lines(points)
    np.random.default_rng(0).shuffle(lines)
    np.testing.assert_array_equal(only(make_xml((box, lines))).landmarks, points)


def test_names_without_leading_zero_and_integers(make_photo, make_xml, box):
    make_photo()
    lines = [f"<part name='{k}' x='{k}' y='{2 * k}'/>" for k in range(68)]
    landmarks = only(make_xml((box, lines))).landmarks
    np.testing.assert_array_equal(landmarks, [(k, 2 * k) for k in range(68)])


def test_several_boxes_in_an_image_in_a_subfolder(make_photo, make_xml, part_lines, points, box):
    make_photo("sub/folder/b.png")
    other = "left='-3.5' top='0.25' width='20.5' height='30'"
    lines = part_lines(points)
    faces = list(read_labels(make_xml((box, lines), (other, lines), file="sub/folder/b.png")))
    assert [face.name for face in faces] == ["sub/folder/b.png#0", "sub/folder/b.png#1"]
    assert faces[1].box == (-3.5, 0.25, 17.0, 30.25)


def test_ignored_boxes_are_passed_over(make_photo, make_xml, part_lines, points, box):
    make_photo()
    path = make_xml((box + " ignore='1'", []), (box + " ignore='0'", part_lines(points)))
    assert [face.name for face in read_labels(path)] == ["a.png#1"]


def test_title(make_xml, box):
    assert read_title(make_xml((box, []))) == "synthetic"


def drop(lines):
    return lines[:10] + lines[11:]


def repeat(lines):
    return [*lines[:67], lines[0]]


def too_many(lines):
    return [*lines, lines[5]]


def unknown(lines):
    return [*lines, "<part name='68' x='1' y='1'/>"]


def word(lines):
    return [*lines[:67], "<part name='chin' x='1' y='1'/>"]


def nameless(lines):
    return [*lines[:67], "<part x='1' y='1'/>"]


def number(text):
    return lambda lines: [*lines[:67], f"<part name='67' x='{text}' y='1'/>"]


def no_y(lines):
    return [*lines[:67], "<part name='67' x='1'/>"]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (drop, "missing parts", "67 parts, without 10"),
        (lambda lines: [], "missing parts", "0 parts"),
        (repeat, "repeated part", "'00' among 68"),
        (too_many, "repeated part", "'05' among 69"),
        (unknown, "unknown part", "'68' among 69"),
        (word, "unknown part", "'chin'"),
        (nameless, "unknown part", "None"),
        (number("nan"), "bad number", "x='nan'"),
        (number("-inf"), "bad number", "x='-inf'"),
        (number("1e999"), "bad number", "x='1e999'"),
        (number("1e30"), "bad number", "x='1e30'"),
        (number("1_0"), "bad number", "x='1_0'"),
        (number(""), "bad number", "x=''"),
        (no_y, "bad number", "no y"),
    ],
)
def test_bad_parts(change, kind, says, make_photo, make_xml, part_lines, points, box):
    make_photo()
    path = make_xml((box, change(part_lines(points))))
    error = only(path)
    assert isinstance(error, LabelError)
    assert error.kind == kind
    for piece in (str(path), "a.png#0", says, "accepted: "):
        assert piece in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("width", "height", "kind"),
    [
        ("0", "0", "box of no size"),
        ("-20", "60", "box of no size"),
        ("60", "0", "box of no size"),
        ("15", "60", "box too small"),
        ("60", "15.9", "box too small"),
        ("nan", "60", "bad number"),
        ("wide", "60", "bad number"),
    ],
)
def test_bad_boxes(width, height, kind, make_photo, make_xml, part_lines, points):
    make_photo()
    box = f"left='1' top='1' width='{width}' height='{height}'"
    error = only(make_xml((box, part_lines(points))))
    assert isinstance(error, LabelError)
    assert error.kind == kind


def test_box_without_an_edge(make_photo, make_xml, part_lines, points):
    make_photo()
    error = only(make_xml(("left='1' top='1' width='60'", part_lines(points))))
    assert "<box> on line 2 has no height" in str(error)


def test_a_box_of_16_is_large_enough(make_photo, make_xml, part_lines, points):
    make_photo()
    box = "left='1' top='1' width='16' height='16'"
    assert isinstance(only(make_xml((box, part_lines(points)))), LabelledFace)


def test_points_in_one_place(make_photo, make_xml, part_lines, box):
    make_photo()
    error = only(make_xml((box, part_lines([(5.0, 5.0)] * 68))))
    assert error.kind == "points all in one place"


def test_one_bad_label_does_not_hide_the_next(make_photo, make_xml, part_lines, points, box):
    make_photo()
    lines = part_lines(points)
    entries = list(read_labels(make_xml((box, drop(lines)), (box, lines))))
    assert isinstance(entries[0], LabelError)
    assert entries[1].name == "a.png#1"


def test_missing_image(make_xml, part_lines, points, box):
    error = only(make_xml((box, part_lines(points))))
    assert error.kind == "missing image"


def test_a_folder_is_no_image(make_xml, part_lines, points, box, tmp_path):
    (tmp_path / "a.png").mkdir()
    assert only(make_xml((box, part_lines(points)))).kind == "missing image"


@pytest.mark.parametrize("way", ["dots", "absolute", "link", "linked folder"])
def test_image_path_must_stay_in_the_folder(
    way, tmp_path, make_photo, part_lines, points, box, symlink
):
    outside = make_photo("outside/a.png")
    folder = tmp_path / "set"
    folder.mkdir()
    file = {"dots": "../outside/a.png", "absolute": str(outside), "link": "link.png"}.get(way)
    if way == "link":
        symlink(folder / "link.png", outside)
    if way == "linked folder":
        symlink(folder / "sub", outside.parent)
        file = "sub/a.png"
    path = folder / "labels.xml"
    parts = "".join(part_lines(points))
    path.write_text(
        f"<dataset><images><image file='{file}'><box {box}>{parts}</box></image></images></dataset>"
    )
    error = only(path)
    assert isinstance(error, LabelError)
    assert error.kind == "image path leaves the folder"


def test_image_without_file(make_xml, part_lines, points, box):
    assert only(make_xml((box, part_lines(points)), file="")).kind == "missing image"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "not XML"),
        (b"68 points\n", "not XML"),
        (b"<dataset><images><image file='a.png'>", "not XML"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not XML"),
        (b"<?xml version='1.0' encoding='nonsense'?><dataset/>", "not XML"),
        (b"<a>" * 5000 + b"</a>" * 5000, "not XML"),
        (b"<html><body/></html>", "not dlib's labels"),
        (b"<dataset><images/></dataset>", "no face"),
        (b"<dataset><images><image file='a.png'/></images></dataset>", "no face"),
    ],
)
def test_files_that_are_no_labels(content, kind, tmp_path):
    path = tmp_path / "labels.xml"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=re.escape(str(path))) as caught:
        list(read_labels(path))
    assert caught.value.kind == kind
    assert "accepted: " in str(caught.value)


def test_no_such_file_and_unknown_suffix(tmp_path):
    with pytest.raises(LabelError, match="no such file"):
        list(read_labels(tmp_path / "none.xml"))
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(LabelError, match=r"not a labels file: \.json"):
        list(read_labels(tmp_path / "labels.json"))


def bomb(inside_attribute):
    """Ten levels of ten entities: 10**10 letters where they are expanded."""
    entities = "<!ENTITY e0 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY e{k} '{f'&e{k - 1};' * 10}'>" for k in range(1, 10)
    )
    use = "<image file='&e9;'/>" if inside_attribute else "<name>&e9;</name>"
    return f"<?xml version='1.0'?><!DOCTYPE dataset [{entities}]><dataset>{use}</dataset>"


@pytest.mark.parametrize("inside_attribute", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entity_bomb_is_refused_at_once(inside_attribute, encoding, tmp_path):
    path = tmp_path / "labels.xml"
    path.write_bytes(bomb(inside_attribute).encode(encoding))
    start = time.perf_counter()
    with pytest.raises(LabelError, match="declares a document type"):
        list(read_labels(path))
    assert time.perf_counter() - start < 0.5


@needs_pipes
@pytest.mark.parametrize("reference", ["SYSTEM '{uri}'", "PUBLIC 'x' '{uri}'"])
def test_external_entity_is_never_read(reference, tmp_path, make_photo, part_lines, points, box):
    # A pipe in place of the secret: opening it would block, and the test would not end.
    secret = tmp_path / "secret.txt"
    os.mkfifo(secret)
    make_photo()
    parts = "".join(part_lines(points))
    path = tmp_path / "labels.xml"
    path.write_text(
        f"<!DOCTYPE dataset [<!ENTITY s {reference.format(uri=secret.as_uri())}>]>"
        f"<dataset><name>&s;</name><images><image file='a.png'><box {box}>{parts}</box></image>"
        "</images></dataset>"
    )
    with pytest.raises(LabelError, match="declares a document type"):
        list(read_labels(path))


@needs_pipes
def test_external_document_type_is_never_read(tmp_path):
    secret = tmp_path / "labels.dtd"
    os.mkfifo(secret)
    path = tmp_path / "labels.xml"
    path.write_text(f"<!DOCTYPE dataset SYSTEM '{secret.as_uri()}'><dataset/>")
    with pytest.raises(LabelError, match="declares a document type"):
        list(read_labels(path))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the research sets aren't at {SHARED}")
@pytest.mark.parametrize(("folder", "count"), [("300w/common", 554), ("ytf/val", 310)])
def test_research_sets_are_read_whole(folder, count):
    entries = list(read_labels(SHARED / "data" / folder / "labels.xml"))
    assert len(entries) == count
    assert all(isinstance(entry, LabelledFace) for entry in entries)
