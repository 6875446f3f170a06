"""The One-Euro filter: steady at rest, close behind in motion, whatever the time steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npshapenet.smoothing import DEFAULT_SMOOTHING, OneEuroFilter, Smoothing, face_size

FRAME_S = 1 / 30


@pytest.fixture
def face(rng: np.random.Generator) -> np.ndarray:
    """68 points of a face 200 pixels large."""
    return rng.uniform(0, 200, (68, 2))


def by_the_paper(values: list[float], size: float, settings: Smoothing) -> list[float]:
    """Algorithm 1 of Casiez et al. for one coordinate, as it stands there."""

    def alpha(cutoff_hz: float) -> float:
        tau = 1 / (2 * math.pi * cutoff_hz)
        return 1 / (1 + tau / FRAME_S)

    smooth, speed, result = values[0], 0.0, [values[0]]
    for value in values[1:]:
        a = alpha(settings.speed_cutoff_hz)
        speed = a * (value - smooth) / FRAME_S + (1 - a) * speed
        a = alpha(settings.cutoff_hz + settings.cutoff_hz_per_speed * abs(speed) / size)
        smooth = a * value + (1 - a) * smooth
        result.append(smooth)
    return result


def test_as_the_paper_has_it(rng: np.random.Generator) -> None:
    one_euro = OneEuroFilter()
    xs = np.cumsum(rng.normal(0, 3, 50)).tolist()
    # A second point that keeps the face's size at 100 pixels and doesn't move.
    frames = [np.array([[x, 0.0], [x - 100, 0.0]]) for x in xs]
    got = [one_euro(points, k * FRAME_S)[0, 0] for k, points in enumerate(frames)]
    assert got == pytest.approx(by_the_paper(xs, 100, DEFAULT_SMOOTHING), abs=1e-9)


@pytest.mark.parametrize(
    ("smoothing", "noise_px"),
    # Of a still face the models' points move by 0.1 to 0.2 % of the eyes' distance.
    [(DEFAULT_SMOOTHING, 0.1), (Smoothing(0.3, 12, 3), 0.5)],
    ids=["default", "calm"],
)
def test_noise_at_rest_is_smoothed(
    face: np.ndarray, rng: np.random.Generator, smoothing: Smoothing, noise_px: float
) -> None:
    noisy = face + rng.normal(0, noise_px, (120, *face.shape))
    one_euro = OneEuroFilter(smoothing)
    smooth = np.array([one_euro(points, k * FRAME_S) for k, points in enumerate(noisy)])
    # More than a half would be a filter that does little.
    assert smooth[30:].std(axis=0).mean() < 0.5 * noisy[30:].std(axis=0).mean()


def test_no_noise_is_left_as_it_is(face: np.ndarray) -> None:
    one_euro = OneEuroFilter()
    for k in range(5):
        np.testing.assert_allclose(one_euro(face, k * FRAME_S), face, atol=1e-12)


def test_steps_of_any_size_lead_to_the_new_place(face: np.ndarray) -> None:
    one_euro = OneEuroFilter()
    one_euro(face, 0.0)
    np.testing.assert_allclose(one_euro(face + 50, 1000.0), face + 50, atol=0.5)
    later = one_euro(face, math.nextafter(1000.0, math.inf))
    assert np.isfinite(later).all()
    np.testing.assert_allclose(later, face + 50, atol=0.5)


def test_more_frames_a_second_do_not_lag_more(face: np.ndarray) -> None:
    lags = []
    for rate in (15, 30, 60, 240):
        one_euro = OneEuroFilter()
        for k in range(rate + 1):
            smooth = one_euro(face + 100 * k / rate, k / rate)
        lags.append(np.abs(smooth - (face + 100)).max())
    assert lags == sorted(lags, reverse=True)
    assert lags[0] < 5


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_size_of_the_face_makes_no_difference(
    face: np.ndarray, rng: np.random.Generator, scale: float
) -> None:
    moving = face + np.cumsum(rng.normal(0, 4, (30, 1, 2)), axis=0)
    small, large = OneEuroFilter(), OneEuroFilter()
    for k, points in enumerate(moving):
        expected = small(points, k * FRAME_S) * scale
        np.testing.assert_allclose(large(points * scale, k * FRAME_S), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(68, 2), (5, 2), (1, 2)])
def test_the_size_of_a_face_is_the_longer_side_of_its_points(
    shape: tuple[int, int], rng: np.random.Generator
) -> None:
    for spread in ([200, 30], [30, 200], [0.1, 0.2]):
        points = rng.uniform(-100, 100) + rng.uniform(size=shape) * spread
        assert face_size(points) == max(1, np.ptp(points, axis=0).max())


def test_reset_forgets(face: np.ndarray) -> None:
    one_euro = OneEuroFilter()
    one_euro(face, 5.0)
    one_euro.reset()
    np.testing.assert_array_equal(one_euro(face[:5] + 9, 1.0), face[:5] + 9)


def test_what_it_gives_is_the_callers(face: np.ndarray) -> None:
    one_euro = OneEuroFilter()
    one_euro(face, 0.0)[:] = np.nan
    assert np.isfinite(one_euro(face, 1.0)).all()


@pytest.mark.parametrize(
    ("landmarks", "time_s", "message"),
    [
        (np.zeros((68, 3)), 1.0, r"\(L, 2\)"),
        (np.zeros((0, 2)), 1.0, r"\(L, 2\)"),
        (np.full((68, 2), np.nan), 1.0, "finite"),
        (np.full((68, 2), np.inf), 1.0, "finite"),
        (np.zeros((67, 2)), 1.0, "67 points came after 68"),
        (np.zeros((68, 2)), 0.0, "increase"),
        (np.zeros((68, 2)), -1.0, "increase"),
        (np.zeros((68, 2)), math.nan, "increase"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    face: np.ndarray, landmarks: np.ndarray, time_s: float, message: str
) -> None:
    one_euro, untouched = OneEuroFilter(), OneEuroFilter()
    one_euro(face, 0.0)
    untouched(face, 0.0)
    with pytest.raises(ValueError, match=message):
        one_euro(landmarks, time_s)
    np.testing.assert_array_equal(one_euro(face + 1, 1.0), untouched(face + 1, 1.0))


@pytest.mark.parametrize(
    "settings",
    [
        {"cutoff_hz": 0},
        {"cutoff_hz": math.nan},
        {"speed_cutoff_hz": -1},
        {"speed_cutoff_hz": math.inf},
        {"cutoff_hz_per_speed": -1},
    ],
)
def test_settings_that_make_no_filter(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Smoothing(**settings)
