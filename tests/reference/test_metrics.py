"""The metrics: values worked out by hand, and what must hold for any faces."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npshapenet import markup
from reference import metrics
from reference.data.markup import IBUG68

SIDE_PX = 100.0


def face(eye_distance: float = 50.0) -> np.ndarray:
    """(68, 2): points in a row, the outer eye corners apart by `eye_distance`."""
    points = np.stack([np.arange(68.0), np.zeros(68)], axis=1)
    points[36], points[45] = (0, 10), (eye_distance, 10)
    return points


def moved(points: np.ndarray, indices: range, x: float, y: float) -> np.ndarray:
    result = points.copy()
    result[list(indices)] += (x, y)
    return result


REGION_RANGES = [
    ("jaw", range(0, 17)),
    ("brows", range(17, 27)),
    ("nose", range(27, 36)),
    ("eyes", range(36, 48)),
    ("mouth", range(48, 68)),
]

landmark_sets = hnp.arrays(
    np.float64, (3, 68, 2), elements=st.floats(0, SIDE_PX, allow_subnormal=False)
)
error_lists = hnp.arrays(
    np.float64, st.integers(1, 30), elements=st.floats(0, 100, allow_subnormal=False)
)


def with_eyes_apart(points: np.ndarray) -> np.ndarray:
    """Faces of any shape whose eye corners are far enough apart for exact comparisons."""
    apart = points.copy()
    apart[:, 36] = (30, 40)
    apart[:, 45, 0] += SIDE_PX
    return apart


def similar(points: np.ndarray, scale: float, angle_rad: float, x: float, y: float) -> np.ndarray:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    turned = points @ np.array([[cosine, sine], [-sine, cosine]])
    return scale * turned + (x, y)


class TestNme:
    def test_is_the_mean_distance_over_that_of_the_outer_eye_corners(self) -> None:
        truth = np.stack([face(50), face(20)])
        prediction = truth + np.array([3, 4])  # every point is 5 away
        np.testing.assert_allclose(
            metrics.interocular_nme_percent(prediction, truth), [10, 25], rtol=1e-12
        )

    def test_averages_the_distances_not_their_squares(self) -> None:
        prediction = moved(face(50), range(0, 34), 0, 8)  # half of the points, by 16 %
        nme = metrics.interocular_nme_percent(prediction[None], face(50)[None])
        np.testing.assert_allclose(nme, [8], rtol=1e-12)

    def test_distances_of_eye_corners_are_euclidean(self) -> None:
        slanted = face()
        slanted[36], slanted[45] = (1, 2), (4, 6)
        np.testing.assert_allclose(metrics.interocular_distances_px(slanted[None]), [5])

    def test_no_point_but_the_outer_corners_changes_the_normaliser(self) -> None:
        for index in set(range(68)) - {36, 45}:
            other = moved(face(50), range(index, index + 1), 7, 7)
            assert metrics.interocular_distances_px(other[None]) == [50]

    def test_of_no_faces_is_empty(self) -> None:
        none = np.empty((0, 68, 2))
        assert metrics.interocular_nme_percent(none, none).shape == (0,)

    def test_whole_numbers_and_float32_are_accepted(self) -> None:
        truth = face(50)[None]
        nme = metrics.interocular_nme_percent(truth.astype(int), truth.astype(np.float32))
        assert nme == [0]

    @given(landmark_sets, landmark_sets, st.floats(0.1, 10), st.floats(-4, 4), st.floats(-99, 99))
    def test_does_not_change_under_similarity_transforms(
        self, truth: np.ndarray, prediction: np.ndarray, scale: float, angle: float, shift: float
    ) -> None:
        truth = with_eyes_apart(truth)
        before = metrics.interocular_nme_percent(prediction, truth)
        after = metrics.interocular_nme_percent(
            similar(prediction, scale, angle, shift, -shift),
            similar(truth, scale, angle, shift, -shift),
        )
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)

    @given(landmark_sets)
    def test_is_zero_for_the_truth_and_positive_otherwise(self, truth: np.ndarray) -> None:
        truth = with_eyes_apart(truth)
        assert not metrics.interocular_nme_percent(truth, truth).any()
        off = truth.copy()
        off[:, 5] += (0, 1)
        assert (metrics.interocular_nme_percent(off, truth) > 0).all()

    @given(landmark_sets, landmark_sets)
    def test_faces_do_not_mix(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        truth = with_eyes_apart(truth)
        together = metrics.interocular_nme_percent(prediction, truth)
        alone = [
            metrics.interocular_nme_percent(p[None], t[None])[0]
            for p, t in zip(prediction, truth, strict=True)
        ]
        np.testing.assert_array_equal(together, alone)


class TestRegions:
    def test_hold_each_landmark_once(self) -> None:
        together = [index for indices in metrics.REGIONS.values() for index in indices]
        assert sorted(together) == list(range(68))

    def test_are_those_of_the_markup(self) -> None:
        of_markup = {
            "jaw": ["jaw"],
            "brows": ["right_eyebrow", "left_eyebrow"],
            "nose": ["nose_bridge", "nose_base"],
            "eyes": ["right_eye", "left_eye"],
            "mouth": ["outer_lips", "inner_lips"],
        }
        for region, parts in of_markup.items():
            points = [index for part in parts for index in markup.REGIONS[part]]
            assert list(metrics.REGIONS[region]) == points
        corners = markup.RIGHT_EYE_OUTER_CORNER, markup.LEFT_EYE_OUTER_CORNER
        assert corners == IBUG68.scale_points

    @pytest.mark.parametrize(("region", "indices"), REGION_RANGES)
    def test_error_is_that_of_the_points_over_the_same_normaliser(
        self, region: str, indices: range
    ) -> None:
        truth = face(50)
        prediction = moved(truth, indices, 0, -2.5)
        errors = metrics.interocular_region_nme_percent(prediction[None], truth[None])
        expected = {name: [5.0 if name == region else 0.0] for name in metrics.REGIONS}
        assert {name: list(values) for name, values in errors.items()} == expected

    @given(landmark_sets, landmark_sets)
    def test_errors_weighed_by_their_points_make_the_whole(
        self, truth: np.ndarray, prediction: np.ndarray
    ) -> None:
        truth = with_eyes_apart(truth)
        regions = metrics.interocular_region_nme_percent(prediction, truth)
        whole = sum(len(metrics.REGIONS[name]) * errors for name, errors in regions.items()) / 68
        np.testing.assert_allclose(whole, metrics.interocular_nme_percent(prediction, truth))


class TestAreaUnderCurve:
    @pytest.mark.parametrize(
        ("errors", "area"),
        [
            ([0], 1),
            ([8], 0),
            ([100], 0),
            ([2], 0.75),
            ([0, 8], 0.5),
            # steps at 1, 3, 6 of 1/4 each: (2·1 + 3·2 + 2·3) / (4·8)
            ([6, 1, 3, 20], 14 / 32),
        ],
    )
    def test_by_hand(self, errors: list[float], area: float) -> None:
        assert metrics.area_under_curve(errors) == pytest.approx(area, abs=1e-15)

    def test_other_limits(self) -> None:
        assert metrics.area_under_curve([2], 10) == pytest.approx(0.8)

    @given(error_lists, st.floats(0.5, 50))
    def test_area_under_and_area_above_make_one(self, errors: np.ndarray, limit: float) -> None:
        # The area above the curve: the mean of the errors, cut at the limit, over the limit.
        above = np.minimum(errors, limit).mean() / limit
        assert metrics.area_under_curve(errors, limit) + above == pytest.approx(1, abs=1e-12)

    @given(error_lists)
    def test_equals_the_integral_of_the_steps(self, errors: np.ndarray) -> None:
        corners = np.unique(np.concatenate([[0, 8], errors[errors < 8]]))
        shares = [(errors <= corner).mean() for corner in corners[:-1]]
        integral = np.sum(np.diff(corners) * shares) / 8
        assert metrics.area_under_curve(errors) == pytest.approx(integral, abs=1e-12)

    @given(error_lists, st.floats(0, 20))
    def test_larger_errors_never_enlarge_it(self, errors: np.ndarray, more: float) -> None:
        assert metrics.area_under_curve(errors + more) <= metrics.area_under_curve(errors)


class TestFailureRate:
    @pytest.mark.parametrize(
        ("errors", "rate"),
        [([7.99], 0), ([8], 0), ([8.01], 1), ([1, 9, 30, 2], 0.5), ([8, 8, 8, 9], 0.25)],
    )
    def test_counts_what_is_over_the_limit(self, errors: list[float], rate: float) -> None:
        assert metrics.failure_rate(errors, 8) == rate

    @given(error_lists)
    def test_is_what_the_curve_lacks_at_the_limit(self, errors: np.ndarray) -> None:
        assert metrics.failure_rate(errors, 8) == pytest.approx(1 - (errors <= 8).mean())
        assert metrics.failure_rate(errors, 10) <= metrics.failure_rate(errors, 8)


class TestSummary:
    def test_by_hand(self) -> None:
        truth = np.stack([face(50)] * 4)
        # Errors of 1, 3, 9 and 11 %.
        prediction = truth + np.array([0.5, 1.5, 4.5, 5.5])[:, None, None] * (0, 1)
        figures = metrics.summarise(prediction, truth)
        assert figures.faces == 4
        assert figures.nme_mean == pytest.approx(6)
        assert figures.nme_median == pytest.approx(6)
        assert figures.auc_8 == pytest.approx((7 / 8 + 5 / 8) / 4)
        assert (figures.failure_rate_8, figures.failure_rate_10) == (50, 25)
        assert figures.by_region == pytest.approx(dict.fromkeys(metrics.REGIONS, 6))

    def test_json_names_say_unit_and_normaliser(self) -> None:
        truth = face()[None]
        values = metrics.summarise(truth + np.array([0, 1]), truth).to_json()
        assert json.loads(json.dumps(values)) == values
        assert values["nme_interocular_percent_mean"] == pytest.approx(2)
        assert set(values["nme_interocular_percent_by_region"]) == set(metrics.REGIONS)
        assert values["faces"] == 1


class TestRefused:
    @pytest.mark.parametrize("shape", [(68, 2), (1, 67, 2), (1, 68, 3), (68,), (1, 2, 68)])
    def test_other_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"truth: .*\(N, 68, 2\)"):
            metrics.interocular_nme_percent(face()[None], np.ones(shape))
        with pytest.raises(ValueError, match=r"prediction: .*\(N, 68, 2\)"):
            metrics.interocular_nme_percent(np.ones(shape), face()[None])

    def test_another_number_of_faces(self) -> None:
        with pytest.raises(ValueError, match="2 predictions for 1 faces"):
            metrics.interocular_nme_percent(np.stack([face()] * 2), face()[None])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_numbers_that_are_not_finite(self, value: float) -> None:
        bad = np.stack([face()] * 3)
        bad[1, 7, 0] = value
        good = np.stack([face()] * 3)
        with pytest.raises(ValueError, match=r"prediction: .*face 1 .*finite"):
            metrics.interocular_nme_percent(bad, good)
        with pytest.raises(ValueError, match=r"truth: .*face 1 .*finite"):
            metrics.interocular_nme_percent(good, bad)

    def test_eye_corners_in_one_place(self) -> None:
        truth = np.stack([face(50), face(0)])
        with pytest.raises(ValueError, match="face 1"):
            metrics.interocular_nme_percent(truth, truth)

    @pytest.mark.parametrize("errors", [[], [[1.0]], [-1.0], [np.nan], [1.0, np.nan]])
    def test_what_is_no_list_of_errors(self, errors: list[float]) -> None:
        with pytest.raises(ValueError, match="error"):
            metrics.area_under_curve(errors)
        with pytest.raises(ValueError, match="error"):
            metrics.failure_rate(errors, 8)

    @pytest.mark.parametrize("limit", [0, -1, np.nan, np.inf])
    def test_limits_that_are_none(self, limit: float) -> None:
        with pytest.raises(ValueError, match="limit"):
            metrics.area_under_curve([1], limit)
        with pytest.raises(ValueError, match="limit"):
            metrics.failure_rate([1], limit)

    def test_a_set_without_faces(self) -> None:
        with pytest.raises(ValueError, match="at least one face"):
            metrics.summarise(np.empty((0, 68, 2)), np.empty((0, 68, 2)))
