"""Reliability, rank correlation and separation, on qualities that are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reference.quality import rank_correlation, reliability, separation


def test_a_true_quality_lies_on_the_line(rng: np.random.Generator) -> None:
    expected = rng.uniform(2, 10, 5000)
    groups = reliability(expected, expected * rng.uniform(0.5, 1.5, 5000))
    np.testing.assert_allclose(groups.true, groups.expected, rtol=0.05)
    assert (np.diff(groups.expected) > 0).all()
    assert (groups.true_low < 0.7 * groups.expected).all()
    assert (groups.true_high > 1.3 * groups.expected).all()


def test_a_quality_that_is_off_shows(rng: np.random.Generator) -> None:
    true = rng.uniform(2, 10, 1000)
    assert reliability(true + 2, true).mean_gap_percent == pytest.approx(2)
    assert reliability(true / 2, true).mean_gap_percent == pytest.approx(true.mean() / 2, rel=1e-3)


def test_groups_by_hand() -> None:
    groups = reliability([3, 1, 4, 2], [30, 10, 50, 20], groups=2)
    np.testing.assert_allclose(groups.expected, [1.5, 3.5])
    np.testing.assert_allclose(groups.true, [15, 40])


def test_too_few_faces_and_odd_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="10 groups"):
        reliability([1.0] * 9, [1.0] * 9)
    with pytest.raises(ValueError, match="accepted"):
        reliability([1.0] * 9, [1.0] * 10)
    with pytest.raises(ValueError, match="finite"):
        rank_correlation([1.0, np.nan], [1.0, 2.0])


@pytest.mark.parametrize(
    ("quality", "nme", "correlation"),
    [([1, 2, 3], [1, 10, 100], 1), ([1, 2, 3], [3, 2, 1], -1), ([1, 2, 3, 4], [2, 1, 4, 3], 0.6)],
)
def test_rank_correlation(quality: list[float], nme: list[float], correlation: float) -> None:
    assert rank_correlation(quality, nme) == pytest.approx(correlation)


def test_a_constant_quality_has_no_correlation() -> None:
    assert np.isnan(rank_correlation([3, 3, 3], [1, 2, 3]))


@pytest.mark.parametrize(
    ("faces", "others", "area"),
    [([1, 2], [3, 4], 1), ([3, 4], [1, 2], 0), ([1, 3], [2, 4], 0.75), ([2, 2], [2], 0.5)],
)
def test_separation(faces: list[float], others: list[float], area: float) -> None:
    assert separation(faces, others) == pytest.approx(area)


def test_separation_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to tell"):
        separation([], [1.0])


def test_reliability_of_several_sets_is_drawn(
    tmp_path: Path, rng: np.random.Generator, is_picture: Callable[[Path], bool]
) -> None:
    plots = pytest.importorskip("reference.plots", reason="needs matplotlib", exc_type=ImportError)
    sets = {name: reliability(*rng.uniform(1, 9, (2, 50))) for name in ("a", "b")}
    plots.draw_reliability(tmp_path / "r.png", "system", sets)
    assert is_picture(tmp_path / "r.png")
