"""Openings of eyes and mouth: figures of faces whose openings are known."""

from __future__ import annotations

import numpy as np
import pytest

from reference.openings import PAIRS, opening_errors, openings_percent


def opened(template: np.ndarray, name: str, by: float) -> np.ndarray:
    """The face with one pair of lids or lips moved apart, by a share of the eyes' distance."""
    face = template.copy()
    for up, low in PAIRS[name]:
        distance = np.hypot(*(template[36] - template[45]))
        across = (face[low] - face[up]) / np.hypot(*(face[low] - face[up]))
        face[low] += across * by * distance
    return face


@pytest.mark.parametrize("name", PAIRS)
def test_an_opening_too_far_is_its_error_and_no_others(template: np.ndarray, name: str) -> None:
    truth = np.stack([template, opened(template, name, 0.1)])
    found = np.stack([opened(template, name, 0.02), opened(template, name, 0.16)])
    errors = opening_errors(found, truth)
    assert errors[name].mean_percent == pytest.approx(4)
    assert errors[name].bias_percent == pytest.approx(4)
    assert errors[name].correlation == pytest.approx(1)
    for other in set(PAIRS) - {name}:
        assert errors[other].mean_percent == pytest.approx(0)


def test_errors_of_both_signs_have_no_bias(template: np.ndarray) -> None:
    truth = np.stack([opened(template, "mouth", 0.1)] * 2)
    found = np.stack([opened(template, "mouth", by) for by in (0.07, 0.13)])
    error = opening_errors(found, truth)["mouth"]
    assert (error.mean_percent, error.bias_percent) == (pytest.approx(3), pytest.approx(0))
    assert error.to_json()["correlation"] is None


def test_openings_neither_depend_on_turn_nor_size(template: np.ndarray) -> None:
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    faces = np.stack([template, 40 * template @ turn.T + 7])
    distances = np.hypot(*(faces[:, 36] - faces[:, 45]).T)
    for first, second in openings_percent(faces, distances).values():
        assert first == pytest.approx(second)
        assert first > 1
