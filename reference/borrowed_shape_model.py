"""The shape model of a weights file, for training on faces too few to fit one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from reference.shape_model import FittedShapeModel, fit_parameters


class ShapeModelError(ValueError):
    """A file without a shape model of the right size; the message names the file."""


@dataclass(frozen=True, eq=False)
class BorrowedShapeModel:
    """``mean`` (L, 2) and ``components`` (K, L, 2), and the terms of the file they are from."""

    source: str
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    terms: str

    def described(self) -> dict[str, object]:
        """An entry for a checkpoint's ``data``: what else than faces went into a network."""
        return {
            "name": f"shape model of {self.source}",
            "faces": 0,
            "weight": 0.0,
            "terms": self.terms,
        }

    def fitted(self, landmarks: NDArray[np.floating]) -> FittedShapeModel:
        """The model with the mean parameters of landmarks (N, L, 2) in network coordinates."""
        parameters = fit_parameters(self.mean, self.components, landmarks)
        count = len(self.components)
        # Few faces tell nothing of the spread: scores have unit variance by their making, and a
        # transform varies by about a tenth.
        spread = np.full(parameters.shape[1], 0.1)
        spread[:count] = 1.0
        offsets = parameters.mean(axis=0)
        offsets[:count] = 0.0
        return FittedShapeModel(self.mean, self.components, 1.0, offsets, spread)


def read_shape_model(path: Path, landmark_count: int) -> BorrowedShapeModel:
    """The shape model of a weights file, of so many points; ShapeModelError if there is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean = file["shape.mean"].astype(np.float64)
            components = file["shape.components"].astype(np.float64)
            meta = bytes(file["meta"]) if "meta" in file else b"{}"
        terms = json.loads(meta).get("provenance", {}).get("terms", "not stated")
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ShapeModelError(f"{path}: no weights file with a shape model: {error}") from None
    shape = (landmark_count, 2)
    if mean.shape != shape or components.shape[1:] != shape or not len(components):
        raise ShapeModelError(f"{path}: its shape model is not one of {landmark_count} points")
    return BorrowedShapeModel(path.name, mean, components, str(terms))
