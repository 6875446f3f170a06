"""Labelled faces as a real detector finds them: which of its boxes is the face of a label.

Sizes: N labelled faces; a photo may show others, which no label speaks of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from npshapenet.detectors import Detector, DetectorName, Framing, detect
from npshapenet.image import Box
from reference.data.labels import LabelError
from reference.views import Floats, open_views

#: A box is that of a face if they share this much: intersection over union with the label's box.
#: Detectors frame faces differently, so that more would leave out faces that are found.
OVERLAP_MIN: Final = 0.3

_AS_IT_COMES: Final = Framing(scale=1.0, shift_x=0.0, shift_y=0.0)


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """A labelled face, and what a detector made of its photo.

    ``box`` is the detector's box of the face, None where it found none; ``others`` is how many
    more it gave: unlabelled faces, and what is no face. ``label_box`` and ``landmarks`` (68, 2)
    are the label's. All in pixels of the ``photo``, which is upright, of mode L or RGB.
    """

    name: str
    photo: Image.Image
    label_box: Box
    landmarks: Floats
    box: Box | None
    others: int


def detect_faces(labels: Path, detector: Detector) -> list[DetectedFace]:
    """Show the photo of each label that can be used to a detector; LabelError if none can."""
    faces = []
    for opened in open_views(labels, str(labels), progress=True):
        if isinstance(opened, LabelError):
            continue
        entry, view = opened
        found = detect(detector, np.asarray(view.photo.convert("RGB")))
        label_box = Box(*view.box)
        box = max(found, key=lambda each: overlap(each, label_box), default=None)
        if box is not None and overlap(box, label_box) < OVERLAP_MIN:
            box = None
        others = len(found) - (box is not None)
        faces.append(DetectedFace(entry.name, view.photo, label_box, view.landmarks, box, others))
    if not faces:
        raise LabelError(labels, "", "no face", "no label that can be used")
    return faces


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one.width * one.height + other.width * other.height - shared)


def unframed(name: DetectorName) -> Detector:
    """A detector of the package, whose boxes come as they are."""
    return _detector_class(name)(framing=_AS_IT_COMES)


def framing_of(name: DetectorName) -> Framing:
    """What the package makes of a detector's boxes."""
    if name == "dlib":
        from npshapenet.detectors.dlib_hog import FRAMING as DLIB

        return DLIB
    from npshapenet.detectors.opencv_cascade import FRAMING as OPENCV

    return OPENCV


def fit_framing(boxes: Sequence[Box], targets: Sequence[Box]) -> tuple[Framing, Floats]:
    """The framing that takes boxes to their targets in the median, and its spread.

    The spread (2, 3) is the 10th and 90th percentile of scale, shift_x and shift_y.
    """
    longer = np.array([max(box.width, box.height) for box in boxes])
    shifts = (_centres(targets) - _centres(boxes)) / longer[:, None]
    scales = np.array([max(box.width, box.height) for box in targets]) / longer
    each = np.column_stack([scales, shifts])
    scale, shift_x, shift_y = (round(float(value), 3) + 0.0 for value in np.median(each, axis=0))
    return Framing(scale, shift_x, shift_y), np.percentile(each, [10, 90], axis=0)


def _centres(boxes: Sequence[Box]) -> Floats:
    return np.array([((b.left + b.right) / 2, (b.top + b.bottom) / 2) for b in boxes])


def _detector_class(name: DetectorName) -> Callable[..., Detector]:
    if name == "dlib":
        from npshapenet.detectors.dlib_hog import DlibDetector

        return DlibDetector
    from npshapenet.detectors.opencv_cascade import OpenCVDetector

    return OpenCVDetector
