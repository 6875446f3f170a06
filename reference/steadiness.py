"""How much landmarks move when the face hasn't: what makes them tremble in a video.

The same face is shown a second time, shifted by one pixel or with a little noise; the shift is
taken back, and what is left of the landmarks' movement is measured. A pixel is once one of the
photo (the box moves by it, and with it the crop, before it is resized to what the network reads),
once one of the network's input, which the photo is resampled for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from npshapenet.image import to_gray
from reference.data.crop import Geometry, crop_frame, cut
from reference.metrics import interocular_nme_percent
from reference.systems import ModelSystem, System
from reference.views import View, usable_views

Floats = NDArray[np.float64]

#: Standard deviation of the noise, white being 255.
NOISE_LEVELS: Final = 2.0
#: Up, down and to both sides.
SHIFTS_PX: Final = ((1, 0), (-1, 0), (0, 1), (0, -1))


@dataclass(frozen=True)
class Steadiness:
    """The mean movement of the landmarks, in percent of the distance of the outer eye corners.

    ``photo_shift`` and ``input_shift``: a shift by one pixel of the photo and of the network's
    input; ``photo_noise`` and ``input_noise``: noise of two levels of 255 on their pixels. Those
    of the input are None for what isn't a weights file. ``input_px_per_photo_px``: what a pixel of
    the photo is in the input's, on average.
    """

    faces: int
    photo_shift: float
    photo_noise: float
    input_shift: float | None
    input_noise: float | None
    input_px_per_photo_px: float | None

    def to_json(self) -> dict[str, Any]:
        """The figures under names that say their units."""
        return {
            "faces": self.faces,
            "moved_interocular_percent": {
                "photo_shifted_1_px": self.photo_shift,
                "photo_noise_2_of_255": self.photo_noise,
                "input_shifted_1_px": self.input_shift,
                "input_noise_2_of_255": self.input_noise,
            },
            "input_px_per_photo_px": self.input_px_per_photo_px,
        }


def measure_steadiness(
    systems: Sequence[System], labels: Path, seed: int = 0, progress: bool = False
) -> Mapping[str, Steadiness]:
    """Show each face of a set again, shifted and with noise, to each system.

    The photos are made gray first, for all systems. A face with which a system can't work is left
    out of its figures; a system that works with none is left out. LabelError where the labels
    can't be read.
    """
    moved: dict[str, list[list[float]]] = {system.name: [] for system in systems}
    for place, view in enumerate(usable_views(labels, "steadiness", progress)):
        gray = to_gray(view.photo)
        for system in systems:
            try:
                moved[system.name].append(_movements(system, gray, view, (seed, place)))
            except ValueError:
                continue
    return {name: _summary(np.array(rows)) for name, rows in moved.items() if rows}


def _movements(
    system: System, gray: NDArray[np.uint8], view: View, seed: tuple[int, int]
) -> list[float]:
    """Photo shift, photo noise, input shift, input noise, input pixels per photo pixel."""
    rng = np.random.default_rng(seed)
    movements = _photo_movements(system, gray, view, rng)
    if isinstance(system, ModelSystem):
        return movements + _input_movements(system, gray, view, rng)
    return movements + [np.nan] * 3


def _photo_movements(
    system: System, gray: NDArray[np.uint8], view: View, rng: Generator
) -> list[float]:
    photo = Image.fromarray(gray)
    still = system(photo, view.box)
    left, top, right, bottom = view.box
    shifted = [system(photo, (left + x, top + y, right + x, bottom + y)) for x, y in SHIFTS_PX]
    noise = np.rint(gray + NOISE_LEVELS * rng.standard_normal(gray.shape)).clip(0, 255)
    noisy = system(Image.fromarray(noise.astype(np.uint8)), view.box)
    return [_mean_movement(shifted, still, view), _mean_movement([noisy], still, view)]


def _input_movements(
    system: ModelSystem, gray: NDArray[np.uint8], view: View, rng: Generator
) -> list[float]:
    side = system.model.weights.network.input_shape[1]
    frame = crop_frame(view.box, system.model.crop_factor)
    # One pixel of the input more on each side: every shift is a window of it.
    around = cut(gray, frame, Geometry(side, 1, system.model.crop_factor)) / np.float32(255)
    shifts = [(0, 0), *SHIFTS_PX]
    windows = [around[1 + y : 1 + y + side, 1 + x : 1 + x + side] for x, y in shifts]
    noise = NOISE_LEVELS / 255 * rng.standard_normal((side, side)).astype(np.float32)
    windows.append((windows[0] + noise).clip(0, 1))
    found = system.model.predict([window.clip(0, 1) for window in windows]).astype(np.float64)
    photo_px = frame.side / side
    still, noisy = photo_px * found[0], photo_px * found[-1]
    shifted = [
        photo_px * (points + shift) for points, shift in zip(found[1:-1], SHIFTS_PX, strict=True)
    ]
    return [
        _mean_movement(shifted, still, view),
        _mean_movement([noisy], still, view),
        1 / photo_px,
    ]


def _mean_movement(moved: Sequence[Floats], still: Floats, view: View) -> float:
    """In percent of the face's true distance of the outer eye corners."""
    place = view.landmarks - still
    again = np.stack([points + place for points in moved])
    truth = np.broadcast_to(view.landmarks, again.shape)
    return float(interocular_nme_percent(again, truth).mean())


def _summary(rows: Floats) -> Steadiness:
    means = rows.mean(axis=0)
    photo_shift, photo_noise = float(means[0]), float(means[1])
    has_input = bool(np.isfinite(means[2:]).all())
    inputs = [float(value) if has_input else None for value in means[2:]]
    return Steadiness(len(rows), photo_shift, photo_noise, *inputs)
