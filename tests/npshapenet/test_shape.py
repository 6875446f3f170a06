"""Parameters → landmarks."""

from __future__ import annotations

import numpy as np
import pytest

from npshapenet.shape import Parameters, ShapeModel, split_outputs


def landmarks_by_complex_numbers(outputs, shape_model):
    """In float64, one face at a time: x + iy, turned and scaled by one multiplication."""
    count = len(shape_model.components)
    result = []
    for row in np.asarray(outputs, np.float64):
        shape = shape_model.mean.astype(np.float64)
        for score, component in zip(row[:count], shape_model.components, strict=True):
            shape = shape + score * component
        scale, angle, x, y = row[count:]
        turned = scale * np.exp(1j * angle) * (shape @ [1, 1j]) + x + 1j * y
        result.append(np.stack([turned.real, turned.imag], axis=-1))
    return np.array(result)


@pytest.mark.parametrize(("landmarks", "components"), [(68, 25), (68, 1), (9, 5), (1, 3)])
def test_landmarks(landmarks, components, make_shape_model, rng):
    shape_model = make_shape_model(landmarks, components)
    outputs = rng.normal(size=(7, components + 4)).astype(np.float32)
    parameters = split_outputs(outputs, shape_model)
    expected = landmarks_by_complex_numbers(outputs, shape_model)
    # Sums of up to 26 float32 products of numbers about 1.
    np.testing.assert_allclose(parameters.network_landmarks(), expected, rtol=0, atol=1e-5)
    sides = rng.integers(16, 300, 7)
    np.testing.assert_allclose(
        parameters.landmarks(sides),
        (expected + 1) / 2 * sides[:, None, None] - 0.5,
        rtol=0,
        atol=2e-3,
    )


def test_one_face(make_shape_model, rng):
    shape_model = make_shape_model()
    outputs = rng.normal(size=(2, 10)).astype(np.float32)
    one, both = split_outputs(outputs[1], shape_model), split_outputs(outputs, shape_model)
    assert isinstance(one.scale, np.float32)
    assert one.scores.shape == (6,)
    assert one.translation.shape == (2,)
    assert one.quality is None
    assert one.landmarks(112).dtype == np.float32
    np.testing.assert_allclose(one.landmarks(112), both.landmarks(112)[1], rtol=0, atol=1e-4)


def test_angles_are_clockwise_on_the_screen():
    right = ShapeModel(np.array([[1, 0]], np.float32), np.zeros((1, 1, 2), np.float32))
    quarter = split_outputs(np.array([0, 1, np.pi / 2, 0, 0], np.float32), right)
    # y is down: what pointed right points down.
    np.testing.assert_allclose(quarter.network_landmarks(), [[0, 1]], rtol=0, atol=1e-7)


def test_edges_of_the_crop():
    corners = ShapeModel(
        np.array([[-1, -1], [1, 1], [0, 0]], np.float32), np.zeros((1, 3, 2), np.float32)
    )
    identity = split_outputs(np.array([0, 1, 0, 0, 0], np.float32), corners)
    np.testing.assert_array_equal(
        identity.landmarks(100), [[-0.5, -0.5], [99.5, 99.5], [49.5, 49.5]]
    )


def test_limits_bind_every_parameter(make_shape_model, rng):
    model = make_shape_model()
    low, high = np.full(10, -0.5, np.float32), np.linspace(0, 2, 10).astype(np.float32)
    bound = ShapeModel(model.mean, model.components, np.stack([low, high]))
    outputs = rng.normal(scale=3, size=(50, 10)).astype(np.float32)
    moved = split_outputs(np.minimum(np.maximum(outputs, low), high), model)
    assert (outputs < low).any()
    assert (outputs > high).any()
    np.testing.assert_array_equal(
        split_outputs(outputs, bound).network_landmarks(), moved.network_landmarks()
    )


def test_quality_is_the_exponential_of_one_more_output(make_shape_model, rng):
    outputs = rng.normal(size=(4, 11)).astype(np.float32)
    outputs[:, -1] = np.log([2.5, 40, 1e-9, 1e9])
    parameters = split_outputs(outputs, make_shape_model())
    np.testing.assert_allclose(parameters.quality, [2.5, 40, 0.1, 100], rtol=1e-6)
    without = split_outputs(outputs[:, :-1], make_shape_model())
    np.testing.assert_array_equal(
        parameters.network_landmarks(), without.network_landmarks(), strict=True
    )
    one = split_outputs(outputs[0], make_shape_model())
    assert isinstance(one.quality, np.float32)


def test_parameters_are_frozen(make_shape_model):
    parameters = split_outputs(np.zeros(10, np.float32), make_shape_model())
    with pytest.raises(AttributeError):
        parameters.scale = np.float32(2)
    assert "shape_model" not in repr(parameters)
    assert isinstance(parameters, Parameters)


def test_the_original_networks_layer(shared_data):
    """The transform layer of the paper's code, whose angles count the other way."""
    golden = np.load(shared_data / "original" / "golden_layer.npz")
    mean, *components = golden["shapes_2d"].astype(np.float32)
    shape_model = ShapeModel(mean, np.array(components))
    outputs = golden["params_2d"].astype(np.float32)
    outputs[:, len(components) + 1] *= -1
    points = split_outputs(outputs, shape_model).network_landmarks()
    expected = golden["landmarks_2d_f64"]
    # The original in float32 differs from itself in float64 by 9e-6, at values of a few tens.
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
