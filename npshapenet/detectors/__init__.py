"""Face detectors: whatever finds boxes in a photo, and the two that can be asked for by name.

A detector is a callable: the upright photo as ``uint8`` (H, W, 3), red, green, blue → the boxes
of the faces in it, each a ``Box`` or its left, top, right and bottom edge. The boxes are framed as
those that the bundled models were trained on, which are dlib's: about from the eyebrows to the
chin. How another detector's are taken to that: ``Framing``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from npshapenet.detectors.framing import Framing
from npshapenet.image import Box, box_of_edges

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Detector", "DetectorName", "Framing", "detect", "detector_named", "installed"]

DetectorName = Literal["opencv", "dlib"]


class Detector(Protocol):
    """Finds the faces in a photo, ``uint8`` (H, W, 3); see the module."""

    def __call__(self, photo: NDArray[np.uint8], /) -> Iterable[Box | Sequence[float]]: ...


#: The package that each detector needs, in the order in which "auto" looks for them.
_PACKAGES: Final[dict[DetectorName, str]] = {"dlib": "dlib", "opencv": "cv2"}
_INSTALL: Final = (
    "pip install dlib-bin, or pip install 'opencv-python-headless>=4.8,<5'; or pass a detector of "
    "your own (a callable: photo → boxes), or a box to npshapenet.crop_face"
)


def installed() -> list[DetectorName]:
    """The detectors whose packages are here, in the order in which "auto" takes them."""
    return [name for name, package in _PACKAGES.items() if importlib.util.find_spec(package)]


def detector_named(detector: str | Detector = "auto") -> Detector:
    """The detector of a name: "dlib", "opencv", or "auto", the first of these that is installed.

    A callable is returned itself. ImportError, saying what to install, where there is none;
    ValueError for another name.
    """
    if not isinstance(detector, str):
        if not callable(detector):
            raise TypeError(
                f"a detector is a name or a callable, photo → boxes; got {type(detector).__name__}"
            )
        return detector
    if detector == "auto":
        names = installed()
        if not names:
            raise ImportError(f"no face detector is installed: {_INSTALL}")
        return _made(names[0])
    for name in get_args(DetectorName):
        if detector == name:
            return _made(name)
    accepted = ", ".join(["auto", *get_args(DetectorName)])
    raise ValueError(f"no detector is named {detector!r}; accepted: {accepted}, or a callable")


@functools.cache
def _made(name: DetectorName) -> Detector:
    # Each reads its model once, and only where it is asked for.
    if name == "dlib":
        from npshapenet.detectors.dlib_hog import DlibDetector

        return DlibDetector()
    from npshapenet.detectors.opencv_cascade import OpenCVDetector

    return OpenCVDetector()


def detect(detector: Detector, photo: NDArray[np.uint8]) -> list[Box]:
    """The boxes that a detector finds in a photo (H, W, 3), checked, in its order.

    TypeError or ValueError, naming the detector, if what it gives are no boxes.
    """
    name = _name(detector)
    found: Any = detector(photo)
    try:
        found = list(found)
    except TypeError:
        raise TypeError(
            f"the detector {name} gave {type(found).__name__}; accepted: a list of boxes, which "
            "is empty where there is no face"
        ) from None
    boxes = []
    for item in found:
        try:
            boxes.append(item if isinstance(item, Box) else box_of_edges(item))
        except (TypeError, ValueError) as error:
            raise type(error)(f"the detector {name}: {error}") from None
    return boxes


def _name(detector: Callable[..., Any]) -> str:
    return getattr(detector, "__qualname__", type(detector).__qualname__)
