"""From photos to faces: what find_faces makes of a detector's boxes, and what it refuses."""

from __future__ import annotations

import dataclasses
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

import npshapenet
from npshapenet import Box, find_faces
from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.faces import LANDMARK_FRAMING, box_around, faces_in
from npshapenet.weights import Weights

BOX = Box(175, 76, 266, 167)


@pytest.fixture(scope="module")
def model(weights):
    return npshapenet.Model(weights, "numpy")


@pytest.fixture(scope="module")
def photo():
    return Image.open(str(files("npshapenet") / "demo" / "astronaut.jpg")).convert("RGB")


def one(photo):
    return [BOX]


def with_quality(weights: Weights) -> Weights:
    """The same with one more output, the logarithm of the quality: e² or thereabouts."""
    *layers, head = weights.network.layers
    network = dataclasses.replace(
        weights.network,
        layers=(*layers, head._replace(out_features=head.out_features + 1)),
    )
    tensors = dict(weights.tensors)
    row = np.zeros_like(tensors["head.weight"][:1])
    tensors["head.weight"] = np.concatenate([tensors["head.weight"], row])
    tensors["head.bias"] = np.append(tensors["head.bias"], np.float32(2))
    return dataclasses.replace(weights, network=network, tensors=tensors)


class TestLandmarks:
    def test_are_those_of_the_crop_in_the_photo(self, photo, model):
        (face,) = find_faces(photo, one, model=model)
        crop = npshapenet.crop_face(photo, BOX, model)
        np.testing.assert_array_equal(face.landmarks, crop.to_photo(model.predict(crop)))
        assert (face.landmarks.dtype, face.landmarks.shape) == (np.float32, (68, 2))
        assert face.box == BOX

    def test_several_faces_keep_their_order(self, photo, model):
        boxes = [Box(190, 90, 260, 160), BOX, Box(100, 300, 300, 500)]
        faces = find_faces(photo, lambda _: boxes, model=model)
        assert [face.box for face in faces] == boxes
        for face, box in zip(faces, boxes, strict=True):
            (alone,) = find_faces(photo, lambda _, box=box: [box], model=model)
            np.testing.assert_array_equal(face.landmarks, alone.landmarks)
            np.testing.assert_array_equal(face.parameters.scores, alone.parameters.scores)

    def test_parameters_are_those_of_the_crop(self, photo, model):
        (face,) = find_faces(photo, one, model=model)
        crop = npshapenet.crop_face(photo, BOX, model)
        own = face.parameters.landmarks(len(crop.gray))
        np.testing.assert_allclose(crop.to_photo(own), face.landmarks, atol=1e-4)
        assert face.tilt_rad == pytest.approx(float(model.parameters(crop).angle_rad))

    def test_no_face_is_an_empty_list(self, photo, model):
        assert find_faces(photo, lambda _: [], model=model) == []

    def test_quality(self, photo, model, weights):
        assert find_faces(photo, one, model=model)[0].quality is None
        telling = npshapenet.Model(with_quality(weights), "numpy")
        (face,) = find_faces(photo, one, model=telling)
        assert type(face.quality) is float
        assert face.quality == pytest.approx(np.exp(2), rel=1e-5)


class TestPhotos:
    def test_any_form_gives_the_same(self, photo, model):
        gray = np.asarray(photo.convert("L"))
        (expected,) = find_faces(photo, one, model=model)
        for form in (np.asarray(photo), gray, gray.astype(int), photo.convert("L")):
            (face,) = find_faces(form, one, model=model)
            np.testing.assert_array_equal(face.landmarks, expected.landmarks)
        (face,) = find_faces(gray / 255, one, model=model)
        # Floats aren't rounded to 8 bits on the way.
        np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=0.01)

    def test_the_detector_sees_upright_colour(self, photo, model):
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = photo.crop((0, 0, 512, 300)).transpose(Image.Transpose.ROTATE_90)
        turned.info["exif"] = exif.tobytes()
        turned.getexif()[0x0112] = 6
        seen = []
        find_faces(turned, lambda pixels: seen.append(pixels) or [], model=model)
        find_faces(np.full((40, 50), 0.5), lambda pixels: seen.append(pixels) or [], model=model)
        assert [(pixels.shape, pixels.dtype) for pixels in seen] == [
            ((300, 512, 3), np.uint8),
            ((40, 50, 3), np.uint8),
        ]
        np.testing.assert_array_equal(seen[0], np.asarray(photo)[:300])
        assert (seen[1] == 128).all()

    @pytest.mark.parametrize(
        ("photo", "error", "complaint"),
        [
            ("photo.jpg", TypeError, "PIL.Image.Image or a NumPy array; got str"),
            (None, TypeError, "got NoneType"),
            ([[0, 1], [2, 3]], TypeError, "got list"),
            (np.zeros((40, 40), bool), TypeError, "bool"),
            (np.zeros((40, 40), complex), TypeError, "complex"),
            (np.zeros(40), ValueError, r"\(40,\)"),
            (np.zeros((2, 40, 40, 3), np.uint8), ValueError, r"\(2, 40, 40, 3\)"),
            (np.zeros((40, 40, 4), np.uint8), ValueError, r"array\[\.\.\., :3\]"),
            (np.zeros((40, 40, 3)), ValueError, "float64"),
            (np.zeros((0, 40, 3), np.uint8), ValueError, "empty"),
            (np.full((40, 40), np.nan), ValueError, "NaN"),
            (np.full((40, 40), 200.0), ValueError, "divide by 255"),
            (np.full((40, 40), 300), ValueError, "300"),
            (Image.new("LAB", (40, 40)), ValueError, "LAB"),
        ],
    )
    def test_what_is_no_photo_is_refused(self, photo, error, complaint, model):
        with pytest.raises(error, match=complaint):
            find_faces(photo, lambda _: [], model=model)


class TestBoxes:
    @pytest.mark.parametrize(
        ("box", "complaint"),
        [
            ((600, 0, 700, 100), "box 600 0 700 100 in a photo of 512×512: .*outside"),
            ((-90, 0, -1, 100), "outside"),
            ((10, 10, 14, 14), "16×16"),
            ((-9000, -9000, 9000, 9000), "over 4 times"),
            ((100, 10, 20, 90), "no extent"),
            ((10, 10, 10, 90), "no extent"),
            ((10, 10, 90, float("nan")), "not finite"),
            ((10, 10, 90, float("inf")), "not finite"),
        ],
    )
    def test_those_that_are_none_are_named(self, photo, model, box, complaint):
        with pytest.raises(ValueError, match=complaint):
            find_faces(photo, lambda _: [box], model=model)

    def test_a_face_at_the_edge(self, photo, model):
        (face,) = find_faces(photo, lambda _: [(-40, -12.5, 160, 187.5)], model=model)
        assert np.isfinite(face.landmarks).all()


class TestSecondLook:
    def test_the_second_crop_is_around_the_first_landmarks(self, photo, model):
        (first,) = find_faces(photo, one, model=model)
        (second,) = find_faces(photo, one, model=model, looks=2)
        assert second.box == box_around(first.landmarks)
        (expected,) = faces_in(photo, [second.box], model=model)
        np.testing.assert_array_equal(second.landmarks, expected.landmarks)

    def test_a_box_that_sits_badly_matters_less(self, photo):
        truth = read_demo_photo("astronaut").landmarks
        # More than a quarter of its side: less, the bundled model mends in one look.
        shifted = Box(BOX.left + 25, BOX.top - 20, BOX.right + 25, BOX.bottom - 20)
        errors = [
            np.linalg.norm(
                find_faces(photo, lambda _: [shifted], looks=looks)[0].landmarks - truth, axis=1
            ).mean()
            for looks in (1, 2)
        ]
        assert errors[1] < errors[0] / 2

    def test_where_it_would_leave_the_photo_the_first_is_kept(self, photo, weights):
        far = dict(weights.tensors)
        far["head.bias"] = far["head.bias"] + np.eye(10, dtype=np.float32)[8] * 30
        model = npshapenet.Model(dataclasses.replace(weights, tensors=far), "numpy")
        (first,) = find_faces(photo, one, model=model)
        assert first.landmarks[:, 0].min() > 512
        (second,) = find_faces(photo, one, model=model, looks=2)
        np.testing.assert_array_equal(second.landmarks, first.landmarks)
        assert second.box == BOX

    @pytest.mark.parametrize("looks", [0, 3, True, 1.0, "2", None])
    def test_other_numbers_are_refused(self, photo, model, looks):
        with pytest.raises(ValueError, match="looks is 1 or 2"):
            find_faces(photo, one, model=model, looks=looks)

    def test_needs_the_68_points(self, photo, weights, make_shape_model):
        five = dataclasses.replace(
            weights, shape_model=make_shape_model(landmarks=5), markup="points5"
        )
        model = npshapenet.Model(five, "numpy")
        (face,) = find_faces(photo, one, model=model)
        assert face.landmarks.shape == (5, 2)
        with pytest.raises(ValueError, match=r"iBUG's 68.*points5"):
            find_faces(photo, one, model=model, looks=2)
        for measure in (face.head_pose, face.eye_openings, face.mouth_opening):
            with pytest.raises(ValueError, match=r"\(68, 2\).*\(5, 2\)"):
                measure()

    def test_the_box_around_points(self):
        points = np.zeros((68, 2))
        points[1] = 100, 60
        box = box_around(points)
        assert box.width == pytest.approx(100 * LANDMARK_FRAMING.scale)
        assert box.height == pytest.approx(box.width)
        # Pixel centres lie half a pixel after the photo's edge.
        assert (box.left + box.right) / 2 == pytest.approx(50.5 + 100 * LANDMARK_FRAMING.shift_x)
        assert (box.top + box.bottom) / 2 == pytest.approx(30.5 + 100 * LANDMARK_FRAMING.shift_y)

    @pytest.mark.parametrize(
        ("points", "complaint"),
        [
            (np.zeros((68, 2)), "no extent"),
            (np.full((68, 2), np.nan), "finite"),
            (np.zeros((5, 2)), r"\(5, 2\)"),
            (np.zeros((2, 68, 2)), r"\(2, 68, 2\)"),
        ],
    )
    def test_no_box_around_what_are_no_points(self, points, complaint):
        with pytest.raises(ValueError, match=complaint):
            box_around(points)


def test_regions_of_a_face(photo, model):
    (face,) = find_faces(photo, one, model=model)
    np.testing.assert_array_equal(face.region("left_eye"), face.landmarks[42:48])
    with pytest.raises(ValueError, match="'eye'; there are: jaw, "):
        face.region("eye")


@pytest.mark.parametrize("name", ["dlib", "opencv"])
def test_the_demo_photos_end_to_end(name):
    """With the bundled model: within 8 % of the points placed by hand."""
    pytest.importorskip({"dlib": "dlib", "opencv": "cv2"}[name])
    for person in ("astronaut", "grace_hopper"):
        demo = read_demo_photo(person)
        face = find_faces(demo.image, name, looks=2)[0]
        errors = np.linalg.norm(face.landmarks - demo.landmarks, axis=1)
        eyes = np.linalg.norm(demo.landmarks[36] - demo.landmarks[45])
        assert errors.mean() / eyes < 0.08
