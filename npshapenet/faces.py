"""From a photo to its faces: detector, crop, network, landmarks in the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from npshapenet import image
from npshapenet.alignment import TEMPLATE_SIDE_PX, align_face
from npshapenet.detectors import Detector, Framing, detect, detector_named
from npshapenet.head_pose import HeadPose, head_pose
from npshapenet.image import Box
from npshapenet.markup import IBUG68, REGIONS, check_landmarks
from npshapenet.model import Model, default_model
from npshapenet.openings import EyeOpenings, eye_openings, mouth_opening
from npshapenet.shape import Parameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

    Floats = NDArray[np.float32]

#: From the extent of the 68 points to the box of their face.
#: Fitted by python -m reference.fit_detectors landmarks --labels 300w/train/labels.xml
LANDMARK_FRAMING: Final = Framing(scale=1.038, shift_x=-0.005, shift_y=-0.088)


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo.

    ``box`` is what its crop was cut by, framed as the models expect. ``landmarks``, ``float32``
    (68, 2), are x and y in pixels of the photo (upright, as its EXIF data says), the centre of
    its top-left pixel at (0, 0). ``parameters`` is what the network said of the crop. ``quality``
    is the error that the model itself expects, the NME in percent: a good face has some 3, a
    picture without a face 30 and more; None where the model gives no estimate. ``id`` is the
    number by which a ``Tracker`` knows the face again; None in a single photo.
    """

    box: Box
    landmarks: Floats
    parameters: Parameters
    quality: float | None
    id: int | None = None

    @property
    def tilt_rad(self) -> float:
        """The tilt of the head, clockwise on the screen: the angle of the network's transform."""
        return float(self.parameters.angle_rad)

    def region(self, name: str) -> Floats:
        """The points of a region, such as "left_eye": see ``npshapenet.REGIONS``."""
        if name not in REGIONS:
            raise ValueError(f"no region is named {name!r}; there are: {', '.join(REGIONS)}")
        check_landmarks(self.landmarks)
        points: Floats = self.landmarks[REGIONS[name]]
        return points

    def eye_openings(self) -> EyeOpenings:
        """How far the right eye and the left are open: see ``npshapenet.openings``."""
        return eye_openings(self.landmarks)

    def mouth_opening(self) -> float:
        """How far the mouth is open: see ``npshapenet.openings``."""
        return mouth_opening(self.landmarks)

    def head_pose(self) -> HeadPose:
        """Where the head is turned to: see ``npshapenet.head_pose``."""
        return head_pose(self.landmarks)

    def align(
        self, photo: Image.Image | NDArray[Any], size_px: int = TEMPLATE_SIDE_PX
    ) -> NDArray[np.uint8]:
        """The face with its eyes level, ``uint8`` (size_px, size_px, 3): see ``align_face``.

        ``photo`` is the one that the face was found in.
        """
        return align_face(photo, self.landmarks, size_px)


def find_faces(
    photo: Image.Image | NDArray[Any],
    detector: str | Detector = "auto",
    *,
    model: Model | None = None,
    looks: int = 1,
) -> list[Face]:
    """The faces in a photo, in the detector's order; an empty list where there is none.

    ``photo`` is a picture of Pillow's in any mode, turned as its EXIF data says; or an array: gray
    (H, W), ``uint8``, integers in 0–255 or floats in 0–1, or ``uint8`` (H, W, 3) in the order red,
    green, blue. ``detector`` is "dlib", "opencv", "auto" (the first of these that is installed) or
    any callable that takes the photo as ``uint8`` (H, W, 3) and returns boxes: see
    ``npshapenet.detectors``. dlib's order begins with the most certain face, OpenCV's with the
    largest. ``model``: None is the bundled one. ``looks=2`` cuts a second crop
    by the first one's landmarks, see ``box_around``, which makes up for a box that sits badly.

    ImportError, saying what to install, where no detector is; TypeError or ValueError for what is
    no photo, and for boxes of a detector's that are none or lie outside of the photo.
    """
    found = detector_named(detector)
    rgb = image.to_rgb_array(photo)
    boxes = detect(found, rgb)
    source = photo if isinstance(photo, np.ndarray) else rgb
    return faces_in(source, boxes, model=model, looks=looks)


def faces_in(
    photo: Image.Image | NDArray[Any],
    boxes: Sequence[Box],
    *,
    model: Model | None = None,
    looks: int = 1,
) -> list[Face]:
    """The face in each box, in the same order: ``find_faces`` without a detector.

    ValueError for a box outside of the photo, over four times as large, or too small for a crop.
    """
    if isinstance(looks, bool) or not isinstance(looks, int) or not 1 <= looks <= 2:
        raise ValueError(f"looks is 1 or 2, not {looks!r}")
    model = default_model() if model is None else model
    if not boxes:
        return []
    faces = _look(photo, boxes, model)
    if looks == 2:
        if model.markup != IBUG68:
            raise ValueError(
                f"looks=2 needs iBUG's 68 points to place the second crop; the model gives "
                f"{model.landmark_count} ({model.markup})"
            )
        faces = _look_again(photo, faces, model)
    return faces


def box_around(landmarks: ArrayLike) -> Box:
    """The box of a face by its landmarks (68, 2), in pixels of the photo, as the models expect it.

    The square around the points' extent that boxes of the training set are in the median:
    side 1.038 × the extent's longer side, the centre 8.8 % of it higher. ValueError for points
    that are not (68, 2), not finite, or all in one place.
    """
    return LANDMARK_FRAMING(landmark_extent(landmarks))


def landmark_extent(landmarks: ArrayLike) -> Box:
    """The smallest box that holds the points (68, 2); ValueError as for ``box_around``."""
    # Along rows that are whole in memory NumPy is faster.
    rows = np.ascontiguousarray(check_landmarks(landmarks).T)
    left, top = rows.min(axis=1).tolist()
    right, bottom = rows.max(axis=1).tolist()
    # Boxes count from the photo's outer edge, half a pixel before the first centre.
    return Box(left + 0.5, top + 0.5, right + 0.5, bottom + 0.5)


def _look(photo: Image.Image | NDArray[Any], boxes: Sequence[Box], model: Model) -> list[Face]:
    crops = [model.crop_face(photo, box) for box in boxes]
    parameters, landmarks = model.parameters_and_landmarks(crops)
    faces = []
    for index, (box, crop) in enumerate(zip(boxes, crops, strict=True)):
        own = parameters.of_face(index)
        quality = None if own.quality is None else float(own.quality)
        faces.append(Face(box, crop.to_photo(landmarks[index]), own, quality))
    return faces


def _look_again(
    photo: Image.Image | NDArray[Any], faces: Sequence[Face], model: Model
) -> list[Face]:
    """Each face by a crop around its own landmarks; where these give no crop, as it was."""
    again = []
    for face in faces:
        try:
            again += _look(photo, [box_around(face.landmarks)], model)
        except ValueError:
            again.append(face)
    return again
