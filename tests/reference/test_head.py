"""A mean head from views of one: found again, whatever its poses were."""

from __future__ import annotations

import numpy as np
import pytest

from npshapenet.head_pose import MEAN_HEAD, RIGID_POINTS
from reference.head import fit_head, head_as_source


def views(rng: np.random.Generator, count: int, noise: float) -> np.ndarray:
    """Landmarks (N, 68, 2) of the mean head from all sides, 100 pixels large."""
    yaw, pitch, roll = rng.uniform(-1, 1, (3, count)) * np.radians([[50], [30], [20]])
    zero, one = np.zeros(count), np.ones(count)

    def matrices(*rows):
        return np.moveaxis(np.array(rows), -1, 0)

    nod = matrices(
        (one, zero, zero),
        (zero, np.cos(pitch), np.sin(pitch)),
        (zero, -np.sin(pitch), np.cos(pitch)),
    )
    turn = matrices(
        (np.cos(yaw), zero, -np.sin(yaw)), (zero, one, zero), (np.sin(yaw), zero, np.cos(yaw))
    )
    tilt = matrices(
        (np.cos(roll), -np.sin(roll), zero), (np.sin(roll), np.cos(roll), zero), (zero, zero, one)
    )
    points = np.zeros((count, 68, 2))
    seen = np.array(MEAN_HEAD) @ np.swapaxes(tilt @ turn @ nod, 1, 2)
    points[:, list(RIGID_POINTS)] = seen[..., :2] * 100 + rng.uniform(0, 200, (count, 1, 2))
    return points + rng.normal(scale=noise, size=points.shape)


@pytest.mark.parametrize(("noise_px", "tolerance"), [(0, 0.002), (2, 0.01)])
def test_the_head_is_found_again(rng, noise_px, tolerance):
    head = fit_head(views(rng, 400, noise_px))
    # MEAN_HEAD is rounded to three digits, and centred only to these.
    np.testing.assert_allclose(head, MEAN_HEAD, atol=tolerance)


def test_it_is_printed_as_the_package_holds_it():
    assert eval(f"({head_as_source(np.array(MEAN_HEAD))})") == MEAN_HEAD


@pytest.mark.slow
def test_the_head_in_the_package_is_that_of_the_training_sets(shared_data):
    from reference.data.labels import LabelError, read_labels

    landmarks = [
        face.landmarks
        for name in ("300w", "aflw")
        for face in read_labels(shared_data / name / "train" / "labels.xml")
        if not isinstance(face, LabelError)
    ]
    np.testing.assert_allclose(fit_head(np.array(landmarks)), MEAN_HEAD, atol=0.001)
