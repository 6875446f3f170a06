"""The network in PyTorch, as it is benchmarked, against the NumPy backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npshapenet.network import Network, to_json
from npshapenet.plain import PlainBackend
from npshapenet.weights import Normalisation

torch = pytest.importorskip("torch")
pytorch_network = pytest.importorskip("benchmarks.pytorch_network")

#: Of the largest output, between two backends in float32.
TOLERANCE = 2e-5


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_layer(
    every_layer: Network,
    every_tensor: dict[str, NDArray[np.float32]],
    rng: np.random.Generator,
    memory_format: Any,
) -> None:
    images = rng.normal(size=(2, *every_layer.input_shape)).astype(np.float32)
    expected = PlainBackend(every_layer, every_tensor, Normalisation(1, 0)).run(images)
    in_torch = {name: torch.from_numpy(tensor) for name, tensor in every_tensor.items()}
    run = pytorch_network.PyTorchNetwork(to_json(every_layer), in_torch, memory_format)
    given = torch.from_numpy(images).contiguous(memory_format=memory_format)
    with torch.inference_mode():
        found = run(given).numpy()
        again = run(given).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    # Activations work in place: not on the input, and not on what is read again.
    assert np.array_equal(found, again)
    assert np.array_equal(given.numpy(), images)
