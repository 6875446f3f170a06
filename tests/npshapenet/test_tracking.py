"""Faces followed through composed frames: who is who, who came and went, what is asked when."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import npshapenet
from npshapenet import Box, Model, Smoothing, Tracker, TrackingLimits
from npshapenet.cli.demo_photos import DemoPhoto, read_demo_photo
from npshapenet.faces import faces_in

#: How far the composed faces' landmarks may be from the labels, in pixels: the model's own error.
NEAR_PX = 4.0
SIZE = (640, 320)


@pytest.fixture(scope="module")
def model() -> Model:
    return npshapenet.load(backend="numpy")


class Actor:
    """A cut-out of a demo photo, 150 pixels high, with its box and labels."""

    def __init__(self, photo: DemoPhoto) -> None:
        edge = 1.45 * photo.box.width / 2
        x = (photo.box.left + photo.box.right) / 2
        y = (photo.box.top + photo.box.bottom) / 2
        scale = 150 / (2 * edge)
        corner = np.array([x - edge, y - edge])
        self.image = photo.image.crop(
            tuple(round(v) for v in (x - edge, y - edge, x + edge, y + edge))
        ).resize((150, 150), Image.Resampling.BICUBIC)
        self.box = [
            (edge - offset) * scale
            for edge, offset in zip(photo.box.edges, (*corner, *corner), strict=True)
        ]
        self.landmarks = (photo.landmarks - corner) * scale


@pytest.fixture(scope="module")
def astronaut() -> Actor:
    return Actor(read_demo_photo("astronaut"))


@pytest.fixture(scope="module")
def hopper() -> Actor:
    return Actor(read_demo_photo("grace_hopper"))


class Stage:
    """Frames with actors at places (left, top); the last one in front. And what is detected."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.asked = 0

    def frame(self, *placed: tuple[Actor, tuple[int, int]], hidden: tuple[Actor, ...] = ()) -> Any:
        picture = Image.new("RGB", SIZE, (120, 130, 140))
        self.boxes = []
        for actor, (left, top) in placed:
            picture.paste(actor.image, (left, top))
            if actor not in hidden and -40 < left < SIZE[0] - 110:
                edges = np.add(actor.box, [left, top, left, top])
                self.boxes.append(Box(*edges.tolist()))
        return np.asarray(picture)

    def detector(self, photo: np.ndarray) -> list[Box]:
        assert photo.shape == (SIZE[1], SIZE[0], 3)
        self.asked += 1
        return self.boxes


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def tracker(stage: Stage, model: Model) -> Tracker:
    return Tracker(stage.detector, model)


def is_on(face: npshapenet.Face, actor: Actor, place: tuple[int, int]) -> bool:
    distances = np.linalg.norm(face.landmarks - (actor.landmarks + place), axis=1)
    return bool(distances.mean() < NEAR_PX)


def test_a_still_face(tracker: Tracker, stage: Stage, astronaut: Actor) -> None:
    for _ in range(5):
        (face,) = tracker.update(stage.frame((astronaut, (100, 50))))
        assert face.id == 1
        assert is_on(face, astronaut, (100, 50))
        assert face.landmarks.dtype == np.float32
    assert stage.asked == 1


def test_the_crop_comes_from_the_last_landmarks_before_smoothing(
    stage: Stage, model: Model, astronaut: Actor
) -> None:
    tracker = Tracker(stage.detector, model, smoothing=Smoothing(0.01, 0.01))
    raw = Tracker(stage.detector, model, smoothing=None)
    for step in range(6):
        frame = stage.frame((astronaut, (100 + 8 * step, 50)))
        (face,), (raw_face,) = tracker.update(frame), raw.update(frame)
        assert face.box == raw_face.box
    assert not np.allclose(face.landmarks, raw_face.landmarks, atol=1)
    (again,) = faces_in(frame, [face.box], model=model)
    np.testing.assert_allclose(raw_face.landmarks, again.landmarks, atol=1e-3)


def test_the_crop_of_a_face_at_rest_stays(tracker: Tracker, stage: Stage, astronaut: Actor) -> None:
    """Noise moves the landmarks a little, and the crop not at all; a step of a tenth moves it."""
    noise = np.random.default_rng(3)
    boxes = []
    for place in (100,) * 8 + (110,) * 2:
        frame = stage.frame((astronaut, (place, 50)))
        noisy = np.clip(frame + noise.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
        (face,) = tracker.update(noisy)
        boxes.append(face.box)
    # The first two are the detector's, and that around the landmarks in it.
    assert len(set(boxes[2:9])) == 1
    assert boxes[9].left == pytest.approx(boxes[8].left + 10, abs=2)


def test_the_detector_is_asked_for_new_faces_every_so_many_frames(
    stage: Stage, model: Model, astronaut: Actor, hopper: Actor
) -> None:
    tracker = Tracker(stage.detector, model, limits=TrackingLimits(detect_every_frames=4))
    counts = []
    for step in range(9):
        others = [(hopper, (400, 60))] if step >= 2 else []
        faces = tracker.update(stage.frame((astronaut, (100, 50)), *others))
        counts.append([face.id for face in faces])
    assert counts == [[1]] * 4 + [[1, 2]] * 5
    assert stage.asked == 3


def test_no_face_and_then_one(tracker: Tracker, stage: Stage, astronaut: Actor) -> None:
    assert tracker.update(stage.frame()) == []
    seen = [tracker.update(stage.frame((astronaut, (100, 50)))) for _ in range(15)]
    assert [len(faces) for faces in seen] == [0] * 14 + [1]


def test_leaving_and_another_entering(
    tracker: Tracker, stage: Stage, astronaut: Actor, hopper: Actor
) -> None:
    ids = set()
    for step in range(30):
        place = (440 + 14 * step, 60)
        ids.update(face.id for face in tracker.update(stage.frame((astronaut, place))))
    assert ids == {1}
    assert tracker.update(stage.frame()) == []
    for step in range(20):
        place = (60 + 4 * step, 60)
        faces = tracker.update(stage.frame((hopper, place)))
    assert [face.id for face in faces] == [2]
    assert is_on(faces[0], hopper, place)


@pytest.mark.parametrize("speed", [6, 12])
def test_crossing(
    tracker: Tracker, stage: Stage, astronaut: Actor, hopper: Actor, speed: int
) -> None:
    """One passes in front of the other, which the detector doesn't find meanwhile."""
    first = last = None
    for step in range(440 // speed):
        places = (30 + speed * step, 60), (460 - speed * step, 80)
        is_covered = abs(places[0][0] - places[1][0]) < 110
        hidden = (hopper,) if is_covered else ()
        frame = stage.frame((hopper, places[1]), (astronaut, places[0]), hidden=hidden)
        last = tracker.update(frame)
        first = first or last
    assert first is not None
    who = {face.id: face for face in last}
    assert set(who) == {1, 2}
    # The smoothed points lag a little behind.
    before = {face.id: face.landmarks[30, 0] < SIZE[0] / 2 for face in first}
    for number, face in who.items():
        was_left = before[number]
        assert (face.landmarks[30, 0] > SIZE[0] / 2) == was_left
        actor, place = (astronaut, places[0]) if was_left else (hopper, places[1])
        assert np.linalg.norm(face.landmarks - (actor.landmarks + place), axis=1).mean() < 12


def test_a_model_without_quality_loses_a_face_that_jumps_and_asks_at_once(
    stage: Stage, model: Model, astronaut: Actor
) -> None:
    limits = TrackingLimits(move=0.1)
    tracker = Tracker(stage.detector, cast(Model, ModelWithoutQuality(model)), limits=limits)
    tracker.update(stage.frame((astronaut, (100, 50))))
    (face,) = tracker.update(stage.frame((astronaut, (125, 50))))
    assert stage.asked == 2
    assert face.id == 1
    assert is_on(face, astronaut, (125, 50))


class ModelWithoutQuality:
    """A model that doesn't say how sure it is."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def parameters_and_landmarks(self, crops: Any) -> Any:
        found, landmarks = self._model.parameters_and_landmarks(crops)
        return dataclasses.replace(found, quality=None), landmarks


class ModelWithQuality:
    """A model that says how sure it is, in place of one that was trained to."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.quality_percent = 3.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def parameters_and_landmarks(self, crops: Any) -> Any:
        found, landmarks = self._model.parameters_and_landmarks(crops)
        quality = np.full(len(crops), self.quality_percent, np.float32)
        return dataclasses.replace(found, quality=quality), landmarks


def test_quality_tells_a_loss_and_the_id_comes_back(
    stage: Stage, model: Model, astronaut: Actor
) -> None:
    unsure: Any = ModelWithQuality(model)
    tracker = Tracker(stage.detector, unsure)
    frame = stage.frame((astronaut, (100, 50)))
    assert [face.id for face in tracker.update(frame)] == [1]
    unsure.quality_percent = 30.0
    assert tracker.update(frame) == []
    assert tracker.update(frame) == []
    assert stage.asked == 2  # at once, and not at every frame after that
    unsure.quality_percent = 3.0
    seen = [tracker.update(frame) for _ in range(5)]
    assert [face.id for face in seen[-1]] == [1]
    assert seen[-1][0].quality == pytest.approx(3.0)


def test_a_model_without_quality_loses_what_the_detector_finds_no_more(
    stage: Stage, model: Model, astronaut: Actor
) -> None:
    limits = TrackingLimits(detect_every_frames=3, unconfirmed_frames=6)
    tracker = Tracker(stage.detector, cast(Model, ModelWithoutQuality(model)), limits=limits)
    tracker.update(stage.frame((astronaut, (100, 50))))
    counts = [
        len(tracker.update(stage.frame((astronaut, (100, 50)), hidden=(astronaut,))))
        for _ in range(10)
    ]
    assert counts[:5] == [1] * 5
    assert counts[-1] == 0


def test_a_forgotten_face_gets_a_new_id(stage: Stage, model: Model, astronaut: Actor) -> None:
    limits = TrackingLimits(search_every_frames=1, detect_every_frames=1, remember_frames=3)
    unsure: Any = ModelWithQuality(model)
    tracker = Tracker(stage.detector, unsure, limits=limits)
    frame = stage.frame((astronaut, (100, 50)))
    tracker.update(frame)
    unsure.quality_percent = 50.0
    for _ in range(5):
        assert tracker.update(frame) == []
    unsure.quality_percent = 3.0
    assert [face.id for face in tracker.update(frame)] == [2]


def test_reset_forgets_but_gives_no_id_twice(
    tracker: Tracker, stage: Stage, astronaut: Actor
) -> None:
    frame = stage.frame((astronaut, (100, 50)))
    tracker.update(frame, 5.0)
    tracker.reset()
    assert [face.id for face in tracker.update(frame, 1.0)] == [2]


@pytest.mark.parametrize("form", ["pillow", "gray", "strided", "floats"])
def test_forms_of_frames(tracker: Tracker, stage: Stage, astronaut: Actor, form: str) -> None:
    rgb = stage.frame((astronaut, (100, 50)))
    gray = np.asarray(Image.fromarray(rgb).convert("L"))
    frame = {
        "pillow": Image.fromarray(rgb),
        "gray": gray,
        "strided": np.ascontiguousarray(rgb[..., ::-1])[..., ::-1],
        "floats": gray / np.float32(255),
    }[form]
    for _ in range(2):
        (face,) = tracker.update(frame)
        assert is_on(face, astronaut, (100, 50))


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (np.zeros((320, 600, 3), np.uint8), ValueError, r"600×320.*640×320.*reset\(\)"),
        (np.zeros((320, 640, 4), np.uint8), ValueError, "red, green, blue"),
        (np.zeros((320, 640, 3), np.float32), ValueError, "uint8"),
        (np.zeros((0, 640), np.uint8), ValueError, "empty"),
        (np.zeros((320, 640), bool), TypeError, "bool"),
        (None, TypeError, "NoneType"),
        ("frame.png", TypeError, "str"),
    ],
)
def test_what_is_no_frame_is_refused_and_changes_nothing(
    tracker: Tracker,
    stage: Stage,
    astronaut: Actor,
    frame: Any,
    error: type[Exception],
    message: str,
) -> None:
    good = stage.frame((astronaut, (100, 50)))
    tracker.update(good)
    with pytest.raises(error, match=message):
        tracker.update(frame)
    assert [face.id for face in tracker.update(good)] == [1]
    assert stage.asked == 1


@pytest.mark.parametrize("time_s", [1.0, 0.5, math.nan, math.inf])
def test_time_increases(tracker: Tracker, stage: Stage, astronaut: Actor, time_s: float) -> None:
    frame = stage.frame((astronaut, (100, 50)))
    tracker.update(frame, 1.0)
    with pytest.raises(ValueError, match="times that increase"):
        tracker.update(frame, time_s)
    assert len(tracker.update(frame)) == 1


def test_a_detector_that_gives_no_boxes_changes_nothing(model: Model) -> None:
    given: list[Any] = [7]
    tracker = Tracker(lambda photo: given[0], model)
    with pytest.raises(TypeError, match="list of boxes"):
        tracker.update(np.zeros((320, 640, 3), np.uint8))
    given[0] = []
    assert tracker.update(np.zeros((100, 100, 3), np.uint8)) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"detect_every_frames": 0},
        {"remember_frames": 2.5},
        {"quality_percent": math.nan},
        {"move": -1},
        {"growth": True},
    ],
)
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        TrackingLimits(**limits)


def test_arguments_of_the_wrong_kind(model: Model) -> None:
    detector: Callable[..., list[Box]] = lambda photo: []  # noqa: E731
    with pytest.raises(TypeError, match="smoothing"):
        Tracker(detector, model, smoothing=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="limits"):
        Tracker(detector, model, limits={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nobody"):
        Tracker("nobody", model)
