"""The labelled faces of npshapenet/demo, and what a weights file says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import npshapenet
from reference.data.labels import LabelError, read_labels

LABELS = Path(npshapenet.__file__).parent / "demo" / "labels.xml"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DemoFace:
    """One face: its photo (mode RGB), its box, and the landmarks (68, 2) in the photo."""

    photo: Image.Image
    box: npshapenet.Box
    landmarks: Floats

    def crop(self, model: npshapenet.Model) -> npshapenet.Crop:
        """What is cut for a model: the gray square around the box."""
        return npshapenet.crop_face(self.photo, self.box, model)

    def in_network(self, model: npshapenet.Model) -> Floats:
        """The landmarks (68, 2) in the network's coordinates."""
        crop = self.crop(model)
        return to_network(self.landmarks - [crop.left, crop.top], len(crop.gray))


def read_demo_faces() -> tuple[DemoFace, ...]:
    """The astronaut, then the admiral."""
    faces = []
    for entry in read_labels(LABELS):
        if isinstance(entry, LabelError):
            raise entry
        photo = Image.open(entry.image).convert("RGB")
        faces.append(DemoFace(photo, npshapenet.Box(*entry.box), entry.landmarks))
    return tuple(faces)


def to_network(landmarks: Floats, side_px: int) -> Floats:
    """Points in pixels of a square crop → the network's coordinates, edges at −1 and 1."""
    scaled: Floats = (landmarks + 0.5) * (2 / side_px) - 1
    return scaled
