"""The group norm against PyTorch's own module, at sizes as the original ShapeNet's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the stored fixtures stand in: test_fixtures.py")

import torch

from npshapenet.layers import GroupNorm
from npshapenet.network import Network, to_json
from reference.networks.run_graph import run_graph
from reference.parity import ParityError, check, difference

SHAPES = [(128, 60, 60), (256, 20, 20), (128, 6, 6), (30, 5, 7), (2, 3, 1)]


def group_norm(shape: tuple[int, int, int]) -> tuple[Network, dict[str, Any], Any, Any]:
    """A network of one norm in two groups, its tensors, an image as a ReLU leaves it, and what
    PyTorch's module makes of that in float64."""
    rng = np.random.default_rng(0)
    network = Network(shape, (GroupNorm("norm", "input", 2),))
    tensors = {
        "norm.weight": rng.normal(1, 0.5, shape[0]).astype(np.float32),
        "norm.bias": rng.normal(0, 0.5, shape[0]).astype(np.float32),
    }
    levels = rng.normal(size=(shape[0], 1, 1))
    image = np.maximum(rng.normal(levels, 1, shape), 0).astype(np.float32)
    module = torch.nn.GroupNorm(2, shape[0]).double()
    module.load_state_dict(
        {name.removeprefix("norm."): torch.from_numpy(t) for name, t in tensors.items()}
    )
    with torch.inference_mode():
        expected = module(torch.from_numpy(image).double()[None])[0].numpy()
    return network, tensors, image, expected


@pytest.mark.parametrize("shape", SHAPES)
def test_is_pytorchs_module(shape, backend_name, make_backend, hold):
    network, tensors, image, expected = group_norm(shape)
    ours = make_backend(network, tensors).layer_outputs(image)["norm"]
    assert ours.dtype == np.float32
    hold("group norm", backend_name, [difference("norm", "GroupNorm", ours, expected)])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_side_of_the_checks_is_pytorchs_module(shape):
    network, tensors, image, expected = group_norm(shape)
    doubles = {name: torch.from_numpy(t).double() for name, t in tensors.items()}
    found = run_graph(to_json(network), doubles, torch.from_numpy(image).double()[None])
    np.testing.assert_allclose(found["norm"][0].numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tensor", ["norm.weight", "norm.bias"])
def test_one_wrong_number_is_found(tensor, make_backend):
    network, tensors, image, expected = group_norm((30, 5, 7))
    tensors[tensor][17] += 1e-3
    ours = make_backend(network, tensors).layer_outputs(image)["norm"]
    with pytest.raises(ParityError):
        check([difference("norm", "GroupNorm", ours, expected)])


def test_wrong_groups_are_found(make_backend):
    _, tensors, image, expected = group_norm((30, 5, 7))
    network = Network((30, 5, 7), (GroupNorm("norm", "input", 3),))
    ours = make_backend(network, tensors).layer_outputs(image)["norm"]
    with pytest.raises(ParityError):
        check([difference("norm", "GroupNorm", ours, expected)])
