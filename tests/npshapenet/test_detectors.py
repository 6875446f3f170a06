"""Detectors: found by name or brought along, their boxes checked, real ones run where installed."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from npshapenet import Box, detectors
from npshapenet.cli.demo_photos import PEOPLE, read_demo_photo
from npshapenet.detectors import Framing, detect, detector_named
from npshapenet.detectors.size import smallest_face_px

PHOTO = np.zeros((60, 80, 3), np.uint8)


def overlap(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(width, 0) * max(height, 0)
    return shared / (one.width * one.height + other.width * other.height - shared)


class TestBoxes:
    @pytest.mark.parametrize(
        "found",
        [
            [Box(1, 2, 30, 40)],
            [(1, 2, 30, 40)],
            [[1.0, 2.0, 30.0, 40.0]],
            np.array([[1, 2, 30, 40]]),
            (box for box in [Box(1, 2, 30, 40)]),
        ],
    )
    def test_any_form_of_boxes(self, found):
        assert [box.edges for box in detect(lambda photo: found, PHOTO)] == [(1, 2, 30, 40)]

    @pytest.mark.parametrize("found", [[], (), np.empty(0), np.empty((0, 4))])
    def test_no_face(self, found):
        assert detect(lambda photo: found, PHOTO) == []

    def test_the_order_is_the_detectors(self):
        boxes = [Box(0, 0, 20, 20), Box(0, 0, 50, 50), Box(0, 0, 30, 30)]
        assert detect(lambda photo: boxes, PHOTO) == boxes

    @pytest.mark.parametrize(
        ("found", "error", "complaint"),
        [
            (None, TypeError, "NoneType.*a list of boxes"),
            (7, TypeError, "int.*a list of boxes"),
            ((1, 2, 30, 40), TypeError, "left, top, right, bottom; got 1"),
            ([None], TypeError, "got None"),
            ([(1, 2, 30)], TypeError, "got \\(1, 2, 30\\)"),
            (np.zeros((1, 5)), TypeError, "left, top, right, bottom"),
            (["1234x"], TypeError, "left, top, right, bottom"),
            ([(1, 2, 30, float("nan"))], ValueError, "not finite"),
            ([(30, 2, 1, 40)], ValueError, "no extent"),
            ([(1, 2, 1, 2)], ValueError, "no extent"),
        ],
    )
    def test_nonsense_is_refused_and_the_detector_named(self, found, error, complaint):
        def my_detector(photo):
            return found

        with pytest.raises(error, match=rf"my_detector.* {complaint}"):
            detect(my_detector, PHOTO)


class TestNames:
    def test_a_callable_is_itself(self):
        assert detector_named(len) is len

    def test_an_unknown_name(self):
        with pytest.raises(ValueError, match="'haar'; accepted: auto, opencv, dlib, or a callable"):
            detector_named("haar")

    @pytest.mark.parametrize("detector", [None, 3, Box(0, 0, 1, 1)])
    def test_neither_name_nor_callable(self, detector):
        with pytest.raises(TypeError, match=type(detector).__name__):
            detector_named(detector)

    def test_none_installed_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(detectors, "installed", lambda: [])
        with pytest.raises(ImportError) as raised:
            detector_named("auto")
        for words in ("dlib-bin", "opencv-python-headless>=4.8,<5", "callable", "crop_face"):
            assert words in str(raised.value)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("name", "module", "package"),
        [("dlib", "dlib", "dlib-bin"), ("opencv", "cv2", "opencv-python-headless>=4.8,<5")],
    )
    def test_a_package_that_is_missing(self, name, module, package, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"pip install '?{package}"):
            detectors._made.__wrapped__(name)

    def test_opencv_5_has_no_cascade(self, monkeypatch, tmp_path):
        opencv_5 = types.ModuleType("cv2")
        opencv_5.__version__ = "5.0.0"
        opencv_5.data = types.SimpleNamespace(haarcascades=f"{tmp_path}/")
        monkeypatch.setitem(sys.modules, "cv2", opencv_5)
        with pytest.raises(ImportError, match=r"OpenCV 5\.0\.0 comes without.*<5"):
            detectors._made.__wrapped__("opencv")


class TestFraming:
    def test_scale_and_shift_are_shares_of_the_longer_side(self):
        framed = Framing(scale=0.5, shift_x=0.1, shift_y=-0.2)(Box(10, 20, 50, 120))
        # The longer side is 100, the centre (30, 70).
        assert framed.edges == pytest.approx((15, 25, 65, 75))


def test_smallest_face():
    assert smallest_face_px(320, 240) == 40
    assert smallest_face_px(4000, 3000) == 150


@pytest.fixture(scope="module", params=["dlib", "opencv"])
def detector(request):
    pytest.importorskip({"dlib": "dlib", "opencv": "cv2"}[request.param])
    return detector_named(request.param)


class TestReal:
    """On the demo photos, whose labels' boxes are framed as the models expect."""

    @pytest.mark.parametrize("name", PEOPLE)
    @pytest.mark.parametrize("factor", [1, 0.5, 3])
    def test_the_face_is_found_whatever_its_size(self, detector, name, factor):
        demo = read_demo_photo(name)
        photo = demo.image
        size = round(photo.width * factor), round(photo.height * factor)
        found = detect(detector, np.asarray(photo.resize(size)))
        edges = [edge * factor for edge in demo.box.edges]
        # Two boxes that differ by a tenth in size and place share some two thirds.
        assert max(overlap(box, Box(*edges)) for box in found) > 0.65

    def test_a_face_at_the_edge_of_the_photo(self, detector):
        tight = read_demo_photo("grace_hopper").image.crop((180, 125, 367, 340))
        (box,) = detect(detector, np.asarray(tight))
        assert overlap(box, Box(0, 14, 187, 201)) > 0.65

    def test_a_photo_without_a_face(self, detector):
        assert detect(detector, np.full((200, 300, 3), 128, np.uint8)) == []

    @pytest.mark.parametrize("shape", [(1, 1, 3), (5, 300, 3), (300, 5, 3)])
    def test_tiny_and_narrow_photos_have_none(self, detector, shape):
        assert detect(detector, np.zeros(shape, np.uint8)) == []
