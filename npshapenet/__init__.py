"""Face landmarks from a gray face crop: ShapeNet in NumPy, compiled by Numba.

    import npshapenet
    from PIL import Image

    photo = Image.open("photo.jpg")
    crop = npshapenet.crop_face(photo, npshapenet.Box(left=98, top=42, right=201, bottom=145))
    landmarks = npshapenet.predict(crop)  # float32 (68, 2): x, y in pixels of the crop
    on_photo = crop.to_photo(landmarks)
    left_eye = on_photo[npshapenet.REGIONS["left_eye"]]

``predict`` takes a gray array (H, W) as well, uint8 or floats in 0–1, and several crops at once.
``load`` gives other models than the bundled one, and the choice of a backend. Conventions: the
centre of a crop's top-left pixel is (0, 0), x right, y down; left and right are the subject's.
The bundled weights have terms of their own: ``npshapenet/models/LICENSE``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from npshapenet.image import Box, Crop
from npshapenet.markup import REGIONS
from npshapenet.model import Model, crop_face, load, predict
from npshapenet.shape import Parameters
from npshapenet.weights import WeightsError

if TYPE_CHECKING:
    from npshapenet.faces import Face, find_faces
    from npshapenet.smoothing import Smoothing
    from npshapenet.tracking import Tracker, TrackingLimits

__version__ = "0.1.0"

__all__ = [
    "REGIONS",
    "Box",
    "Crop",
    "Face",
    "Model",
    "Parameters",
    "Smoothing",
    "Tracker",
    "TrackingLimits",
    "WeightsError",
    "__version__",
    "crop_face",
    "find_faces",
    "load",
    "predict",
]


#: What photos and videos need, by the module that has it: imported when it is first asked for, so
#: that a program that only predicts starts sooner.
_LATER = {
    "Face": "faces",
    "find_faces": "faces",
    "Smoothing": "smoothing",
    "Tracker": "tracking",
    "TrackingLimits": "tracking",
}
_MODULES = frozenset(
    {"alignment", "detectors", "faces", "head_pose", "openings", "smoothing", "track", "tracking"}
)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
