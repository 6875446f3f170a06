"""The photos that the wheel carries, each with the box of its face and 68 points."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npshapenet.image import Box

_FOLDER: Final = files("npshapenet") / "demo"

#: The bundled photos, by name, and whom they show.
PEOPLE: Final = {
    "astronaut": "Eileen Collins, by NASA, public domain",
    "grace_hopper": "Grace Hopper, by the US Navy, public domain",
}


@dataclass(frozen=True, eq=False)
class DemoPhoto:
    """A photo (mode RGB) of one face, its box, and its landmarks (68, 2), placed by hand."""

    file_name: str
    image: Image.Image
    box: Box
    landmarks: NDArray[np.float32]


def read_demo_photo(name: str) -> DemoPhoto:
    """The bundled photo of that name, one of PEOPLE, with its labels (dlib's form)."""
    file_name = f"{name}.jpg"
    # The file is our own, so the standard library's parser will do.
    labels = ElementTree.fromstring((_FOLDER / "labels.xml").read_bytes())
    (box,) = labels.findall(f".//image[@file='{file_name}']/box")
    parts = sorted(box.iter("part"), key=lambda part: part.attrib["name"])
    return DemoPhoto(
        file_name=file_name,
        image=Image.open(io.BytesIO((_FOLDER / file_name).read_bytes())).convert("RGB"),
        box=Box.from_ltwh(*_numbers(box, "left", "top", "width", "height")),
        landmarks=np.array([_numbers(part, "x", "y") for part in parts], np.float32),
    )


def _numbers(element: ElementTree.Element, *attributes: str) -> list[float]:
    return [float(element.attrib[attribute]) for attribute in attributes]
