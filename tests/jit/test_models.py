"""The bundled models: the compiled backend gives the landmarks of the NumPy backend."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import npshapenet
from npshapenet.model import bundled_models


@pytest.mark.parametrize("name", bundled_models())
def test_landmarks_of_random_crops(name: str) -> None:
    """Of several sizes, bytes and floats in turn: to 1e-3 pixels, as for a face."""
    rng = np.random.default_rng(12)
    crops: list[NDArray[np.uint8] | NDArray[np.float32]] = []
    for height, width in ((112, 112), (40, 57), (260, 200)):
        gray = rng.integers(0, 256, (height, width)).astype(np.uint8)
        crops += [gray, (gray / np.float32(255)).astype(np.float32)]
    compiled, plain = (npshapenet.load(name, backend=each) for each in ("numba", "numpy"))
    found, expected = compiled.predict(crops), plain.predict(crops)
    assert found.shape == expected.shape == (len(crops), 68, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
