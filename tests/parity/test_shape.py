"""The shape model and the similarity transform against the layers that are trained through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the stored fixtures stand in: test_fixtures.py")

import torch

from npshapenet.shape import ShapeModel, split_outputs
from reference.fixtures import torch_landmarks
from reference.networks.layers import ShapeLayer
from reference.parity import ParityError, check, difference, landmark_difference

EXAMPLES = settings(max_examples=80, derandomize=True, deadline=None, database=None)
SIDE_PX = 112


def make(faces, components, landmarks, seed):
    """A shape model whose points lie in and about the crop, and outputs (N, K + 4)."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(-1, 1, (landmarks, 2))
    modes = rng.normal(scale=0.3 / np.sqrt(components), size=(components, landmarks, 2))
    transforms = np.column_stack(
        [
            rng.uniform(-0.5, 2, faces),
            # The network is free to give any angle.
            rng.uniform(-7, 7, faces),
            rng.normal(scale=0.3, size=(faces, 2)),
        ]
    )
    outputs = np.concatenate([rng.normal(size=(faces, components)), transforms], axis=1)
    model = ShapeModel(mean.astype(np.float32), modes.astype(np.float32))
    return model, outputs.astype(np.float32)


SIZES = {
    "faces": st.integers(1, 5),
    "components": st.integers(1, 136),
    "landmarks": st.sampled_from([1, 2, 9, 68, 86]),
    "seed": st.integers(0, 2**32 - 1),
}


@EXAMPLES
@given(**SIZES)
def test_shapes_are_pytorchs(hold_once, faces, components, landmarks, seed):
    model, outputs = make(faces, components, landmarks, seed)
    layer = ShapeLayer(torch.from_numpy(model.mean), torch.from_numpy(model.components)).double()
    scores = outputs[:, :components]
    theirs = layer(torch.from_numpy(scores).double()).numpy()
    hold_once(difference("shape model", "mean + Σ", model.shape(scores), theirs))


@EXAMPLES
@given(**SIZES)
def test_landmarks_are_pytorchs(hold_once, faces, components, landmarks, seed):
    model, outputs = make(faces, components, landmarks, seed)
    theirs = torch_landmarks(model, torch.from_numpy(outputs).double()).numpy()
    ours = split_outputs(outputs, model)
    hold_once(difference("transform", "similarity", ours.network_landmarks(), theirs))
    theirs_px = (theirs + 1) / 2 * SIDE_PX - 0.5
    check([landmark_difference(ours.landmarks(SIDE_PX), theirs_px)])


@pytest.fixture(scope="module")
def hold_once(hold):
    """Both backends use the same arithmetic here: the table has it as NumPy's."""
    return lambda found: hold("resize and shape model", "numpy", [found])


@pytest.mark.parametrize("array", ["mean", "components"])
def test_perturbing_any_number_of_the_shape_model_is_found(array):
    model, outputs = make(1, 3, 5, seed=0)
    theirs = torch_landmarks(model, torch.from_numpy(outputs).double()).numpy()
    numbers = {"mean": model.mean, "components": model.components}
    for place in np.ndindex(numbers[array].shape):
        wrong = numbers[array].copy()
        wrong[place] += 0.01
        perturbed = split_outputs(outputs, ShapeModel(**{**numbers, array: wrong}))
        with pytest.raises(ParityError, match="transform"):
            check([difference("transform", "", perturbed.network_landmarks(), theirs)])


@pytest.mark.parametrize("index", range(7))
def test_perturbing_any_parameter_is_found(index):
    model, outputs = make(1, 3, 5, seed=0)
    theirs = torch_landmarks(model, torch.from_numpy(outputs).double()).numpy()
    wrong = outputs.copy()
    wrong[0, index] += 0.01
    with pytest.raises(ParityError, match="transform"):
        check(
            [difference("transform", "", split_outputs(wrong, model).network_landmarks(), theirs)]
        )
