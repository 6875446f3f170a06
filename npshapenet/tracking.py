"""Faces followed through a video: each is found again by its last landmarks, and keeps its id."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from npshapenet import image
from npshapenet.detectors import Detector, detect, detector_named
from npshapenet.faces import Face, box_around, faces_in
from npshapenet.image import SIDE_MIN_PX, Box
from npshapenet.markup import IBUG68
from npshapenet.model import Model, default_model
from npshapenet.smoothing import DEFAULT_SMOOTHING, OneEuroFilter, Smoothing
from npshapenet.track import Track, centre, distance, overlap, side_px

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    Photo = NDArray[Any]

#: The time from one frame to the next where ``update`` is told none.
FRAME_S: Final = 1 / 30


@dataclass(frozen=True)
class TrackingLimits:
    """When a face that is followed counts as lost, and when the detector is asked.

    The detector is asked every ``detect_every_frames`` for new faces; when a face is lost at
    once, and then every ``search_every_frames`` until it is found again or, after
    ``remember_frames``, forgotten.

    A face is lost where the error that the model expects is over ``quality_percent``. A model
    that expects none is judged by what hardly can be: from one frame to the next the box's
    centre moved by over ``move`` of its side, or the side grew or shrank by over ``growth`` times,
    or the detector, when asked, didn't find the face for ``unconfirmed_frames``. With any model
    a face is lost when the centre of its box leaves the frame; and when the boxes of two overlap
    by over ``collision`` (intersection over union), the one that is further from where it was
    heading has run onto the other's face.

    A box of the detector's is a followed face's if they overlap by over ``same``. It is a lost
    face's if its centre is not further from where that was heading than ``search`` of its side,
    and ``search_per_frame`` for each frame since. ValueError for what isn't a positive number,
    and for frames that aren't whole ones.
    """

    detect_every_frames: int = 15
    search_every_frames: int = 5
    remember_frames: int = 60
    quality_percent: float = 12.0
    move: float = 0.5
    growth: float = 1.4
    unconfirmed_frames: int = 60
    collision: float = 0.5
    same: float = 0.25
    search: float = 0.5
    search_per_frame: float = 0.05

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            is_whole = each.name.endswith("_frames")
            kinds = (int,) if is_whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
                wanted = "whole number" if is_whole else "number"
                raise ValueError(f"{each.name} must be a positive {wanted}, not {value!r}")


DEFAULT_LIMITS: Final = TrackingLimits()


class _Sighting(NamedTuple):
    """A face of this frame, the track that it is, the box around its landmarks."""

    track: Track
    face: Face
    box: Box


class Tracker:
    """The faces of a video, frame by frame, each with an id that stays.

    ::

        tracker = npshapenet.Tracker()
        for frame in frames:  # uint8 (H, W, 3), red, green, blue; of OpenCV's: frame[..., ::-1]
            for face in tracker.update(frame):
                print(face.id, face.landmarks)

    A face's crop comes from its landmarks in the frame before (``faces.box_around``, before they
    are smoothed), and stays while the face rests; so a frame costs about what ``predict`` does. The
    detector, one as for ``find_faces``, is asked for new and lost faces only, see
    ``TrackingLimits``. ``smoothing`` is the One-Euro filter that the points pass, None for none.
    Not to be shared by threads.

    ImportError where no detector is installed; ValueError for a model whose points aren't iBUG's.
    """

    def __init__(
        self,
        detector: str | Detector = "auto",
        model: Model | None = None,
        *,
        smoothing: Smoothing | None = DEFAULT_SMOOTHING,
        limits: TrackingLimits = DEFAULT_LIMITS,
    ) -> None:
        self._detector = detector_named(detector)
        self._model = default_model() if model is None else model
        if self._model.markup != IBUG68:
            raise ValueError(
                f"a Tracker needs iBUG's 68 points to cut the next crop; the model gives "
                f"{self._model.landmark_count} ({self._model.markup})"
            )
        if not (smoothing is None or isinstance(smoothing, Smoothing)):
            raise TypeError(f"smoothing is a Smoothing or None, not {smoothing!r}")
        if not isinstance(limits, TrackingLimits):
            raise TypeError(f"limits are TrackingLimits, not {limits!r}")
        self._smoothing = smoothing
        self._limits = limits
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all faces: for another video, or after a cut. No id is given twice."""
        self._followed: list[Track] = []
        self._lost: list[Track] = []
        self._size: tuple[int, int] | None = None
        self._time_s: float | None = None
        self._frames_since_asked: float = math.inf

    def update(self, frame: Image.Image | NDArray[Any], time_s: float | None = None) -> list[Face]:
        """The faces in the next frame, by their ids; an empty list where there is none.

        ``frame`` is a photo as ``find_faces`` takes it, ``time_s`` its time in seconds; None: a
        thirtieth of a second after the last. A face's ``landmarks`` are smoothed; its ``box``,
        ``parameters`` and ``quality`` are of this frame alone.

        TypeError or ValueError, and nothing changed, for what is no photo, for one of another
        size than those before (``reset`` starts anew), for a time that doesn't increase, and for
        what the detector gives if it isn't boxes.
        """
        if isinstance(frame, np.ndarray):
            photo = image.check_photo(frame)
        else:
            photo = image.to_rgb_array(frame)
        size = self._checked_size(photo)
        time_s = self._checked_time(time_s)

        seen = self._look(photo)
        boxes = None
        if self._asks_detector(has_lost=len(seen) < len(self._followed)):
            boxes = detect(self._detector, image.to_rgb_array(photo))
            seen = [each for each in seen if not self._is_unconfirmed(each, boxes)]
        found = self._look_at_new(photo, boxes or [], seen)

        # Nothing fails from here on.
        self._size, self._time_s = size, time_s
        self._frames_since_asked = 1 if boxes is not None else self._frames_since_asked + 1
        for each in seen:
            each.track.go_on(each.box, self._are_among(boxes or [], each.box))
        self._lose_all_but(seen)
        seen += [self._sighting_of_new(face, box) for face, box in found]
        self._followed = [each.track for each in seen]
        faces = [each.track.named(each.face, time_s) for each in seen]
        return sorted(faces, key=lambda face: face.id or 0)

    def _checked_size(self, photo: Photo) -> tuple[int, int]:
        height, width = photo.shape[:2]
        if self._size is not None and self._size != (width, height):
            raise ValueError(
                f"the frame is {width}×{height}, those before were {self._size[0]}×"
                f"{self._size[1]}; reset() starts anew"
            )
        return width, height

    def _checked_time(self, time_s: float | None) -> float:
        if time_s is None:
            return 0.0 if self._time_s is None else self._time_s + FRAME_S
        if not math.isfinite(time_s) or (self._time_s is not None and time_s <= self._time_s):
            after = "" if self._time_s is None else f" after {self._time_s:g}"
            raise ValueError(f"time_s is {time_s:g}{after}; accepted: times that increase")
        return float(time_s)

    def _look(self, photo: Photo) -> list[_Sighting]:
        """The followed faces that are still there, by crops around their last landmarks."""
        faces = faces_in(photo, [track.crop_box for track in self._followed], model=self._model)
        seen = []
        for track, face in zip(self._followed, faces, strict=True):
            box = self._next_box(face, photo)
            if box is not None and self._goes_on(track, box, face.quality):
                seen.append(_Sighting(track, face, box))
        return self._without_collisions(seen)

    def _next_box(self, face: Face, photo: Photo) -> Box | None:
        """The box around a face's landmarks, if the next crop can be cut by it."""
        try:
            box = box_around(face.landmarks)
        except ValueError:  # all points in one place
            return None
        height, width = photo.shape[:2]
        x, y = centre(box)
        is_inside = 0 <= x <= width and 0 <= y <= height
        is_cut = side_px(box) * self._model.crop_factor >= SIDE_MIN_PX
        is_small = side_px(box) <= image.BOX_TO_PHOTO_MAX * max(width, height)
        return box if is_inside and is_cut and is_small else None

    def _goes_on(self, track: Track, box: Box, quality: float | None) -> bool:
        if quality is not None:
            return quality <= self._limits.quality_percent
        growth = side_px(box) / side_px(track.box)
        return (
            distance(track.box, centre(box)) <= self._limits.move
            and max(growth, 1 / growth) <= self._limits.growth
        )

    def _without_collisions(self, seen: Sequence[_Sighting]) -> list[_Sighting]:
        """Of those on one face only the one that is nearest to where it was heading."""
        if len(seen) < 2:
            return list(seen)
        by_trust = sorted(seen, key=lambda each: distance(each.box, each.track.heading(1)))
        kept: list[_Sighting] = []
        for each in by_trust:
            if all(overlap(each.box, other.box) <= self._limits.collision for other in kept):
                kept.append(each)
        return kept

    def _asks_detector(self, has_lost: bool) -> bool:
        limits = self._limits
        wait = limits.search_every_frames if self._lost else limits.detect_every_frames
        return has_lost or self._frames_since_asked >= min(wait, limits.detect_every_frames)

    def _is_unconfirmed(self, each: _Sighting, boxes: Iterable[Box]) -> bool:
        """Whether a model that expects no error follows what the detector finds no more."""
        return (
            each.face.quality is None
            and each.track.frames_unconfirmed >= self._limits.unconfirmed_frames
            and not self._are_among(boxes, each.box)
        )

    def _are_among(self, boxes: Iterable[Box], box: Box) -> bool:
        return any(overlap(box, other) > self._limits.same for other in boxes)

    def _look_at_new(
        self, photo: Photo, boxes: Sequence[Box], seen: Sequence[_Sighting]
    ) -> list[tuple[Face, Box]]:
        """The detector's faces that aren't followed yet, and the boxes around their landmarks."""
        taken = [each.box for each in seen]
        new = [box for box in boxes if not self._are_among(taken, box)]
        found = []
        for face in faces_in(photo, new, model=self._model, looks=2):
            box = self._next_box(face, photo)
            is_face = face.quality is None or face.quality <= self._limits.quality_percent
            if box is not None and is_face and not self._are_among(taken, box):
                taken.append(box)
                found.append((face, box))
        return found

    def _lose_all_but(self, seen: Iterable[_Sighting]) -> None:
        kept = {each.track.id for each in seen}
        self._lost += [track for track in self._followed if track.id not in kept]
        for track in self._lost:
            track.lose()
        remembered = self._limits.remember_frames
        self._lost = [track for track in self._lost if track.frames_lost <= remembered]

    def _sighting_of_new(self, face: Face, box: Box) -> _Sighting:
        """The lost face that it is, or a new one."""
        distances = {
            track.id: distance(box, track.heading(track.frames_lost)) for track in self._lost
        }
        near = [
            track
            for track in self._lost
            if distances[track.id]
            <= self._limits.search + self._limits.search_per_frame * track.frames_lost
        ]
        if near:
            track = min(near, key=lambda each: distances[each.id])
            self._lost.remove(track)
            track.find(box)
        else:
            smoother = None if self._smoothing is None else OneEuroFilter(self._smoothing)
            track = Track(self._next_id, box, smoother)
            self._next_id += 1
        return _Sighting(track, face, box)
