"""What every system is given: one face of a demo photo, once as a crop and once as an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from npshapenet import Box, Crop, crop_face
from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.image import network_input
from npshapenet.model import Model
from npshapenet.shape import split_outputs
from npshapenet.weights import Weights

PHOTO: Final = "astronaut"
CROP_SIDE_PX: Final = 150

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Workload:
    """One face. S is the side of what the network reads, P the number of its outputs."""

    model_name: str  # as npshapenet.load takes it
    weights: Weights
    photo: NDArray[np.uint8]  # (H, W)
    box: Box
    placed: Floats  # (68, 2), by hand, in pixels of the photo
    crop: Crop  # uint8 (150, 150)
    image: Floats  # (1, 1, S, S), as the network reads it
    expected: Floats  # (L, 2), what the NumPy backend finds, in pixels of the crop

    def landmarks(self, outputs: Floats) -> Floats:
        """The network's outputs (P) → landmarks (L, 2) in pixels of the crop."""
        return split_outputs(outputs, self.weights.shape_model).landmarks(CROP_SIDE_PX)

    @property
    def shown_name(self) -> str:
        """The model's name without the folder that it lies in."""
        return Path(self.model_name).name

    @property
    def multiply_adds(self) -> int:
        return self.weights.network.multiply_adds()


def make_workload(model_name: str, model: Model) -> Workload:
    """The demo photo's face, in a crop of 150×150; ``model`` has the NumPy backend."""
    assert model.backend_name == "numpy"
    photo = read_demo_photo(PHOTO)
    gray = np.asarray(photo.image.convert("L"))
    centre_x = (photo.box.left + photo.box.right) / 2
    centre_y = (photo.box.top + photo.box.bottom) / 2
    half = CROP_SIDE_PX / model.crop_factor / 2
    crop_box = Box(centre_x - half, centre_y - half, centre_x + half, centre_y + half)
    crop = crop_face(gray, crop_box, model)
    assert crop.gray.shape == (CROP_SIDE_PX, CROP_SIDE_PX)
    side = model.weights.network.input_shape[1]
    return Workload(
        model_name=model_name,
        weights=model.weights,
        photo=gray,
        box=photo.box,
        placed=photo.landmarks,
        crop=crop,
        image=network_input(crop.gray, side, model.weights.normalisation)[None, None],
        expected=model.predict(crop),
    )
