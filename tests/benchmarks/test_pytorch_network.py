"""The network in PyTorch, as it is benchmarked, against the NumPy backend."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from npshapenet.network import Network, to_json
from npshapenet.plain import PlainBackend
from npshapenet.weights import Normalisation

torch = pytest.importorskip("torch")

from benchmarks.pytorch_network import PyTorchNetwork

#: Of the largest output, between two backends in float32.
TOLERANCE = 2e-5


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_all_layer_types(
    network: Network,
    tensors: Mapping[str, NDArray[np.float32]],
    rng: np.random.Generator,
    memory_format: torch.memory_format,
) -> None:
    images = rng.normal(size=(2, *network.input_shape)).astype(np.float32)
    expected = PlainBackend(network, tensors, Normalisation(1, 0)).run(images)
    in_torch = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    run = PyTorchNetwork(to_json(network), in_torch, memory_format)
    given = torch.from_numpy(images).contiguous(memory_format=memory_format)
    with torch.inference_mode():
        found = run(given).numpy()
        again = run(given).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    # Activations work in place: not on the input, and not on what is read again.
    assert np.array_equal(found, again)
    assert np.array_equal(given.numpy(), images)
