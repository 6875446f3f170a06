"""The plots: files that are pictures, curves with the right corners, errors that say why."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

plots = pytest.importorskip("reference.plots", reason="needs matplotlib", exc_type=ImportError)

REGIONS = {"jaw": 5.0, "brows": 4.0, "nose": 3.0, "eyes": 2.0, "mouth": 1.0}


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.format == "PNG" and len(set(picture.convert("L").tobytes())) > 2


def test_curves_of_several_systems(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    systems = {f"system {index}": [1.0 + index, 20.0, 3.0] for index in range(9)}
    plots.draw_cumulative_errors(path, "a set", systems)
    assert is_picture(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_curve_of_one_face(tmp_path: Path) -> None:
    plots.draw_cumulative_errors(tmp_path / "c.png", "a set", {"one": np.array([4.0])})
    assert is_picture(tmp_path / "c.png")


def test_regions_of_several_systems(tmp_path: Path) -> None:
    path = tmp_path / "regions.png"
    plots.draw_errors_by_region(path, "a set", {"one": REGIONS, "other": REGIONS})
    assert is_picture(path)


def test_a_higher_error_draws_a_lower_curve(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    plots.draw_cumulative_errors(good, "a set", {"s": [1.0, 1.5]})
    plots.draw_cumulative_errors(bad, "a set", {"s": [7.0, 9.5]})
    assert good.read_bytes() != bad.read_bytes()


def test_a_published_point_is_marked(tmp_path: Path) -> None:
    plain, marked, elsewhere = (tmp_path / f"{name}.png" for name in "abc")
    curves = {"s": [1.0, 4.0, 9.0]}
    mark = plots.Mark("a set", "published", 3.67, 0.2)
    plots.draw_cumulative_errors(plain, "a set", curves)
    plots.draw_cumulative_errors(marked, "a set", curves, marks=[mark])
    moved = dataclasses.replace(mark, nme_percent=5.0)
    plots.draw_cumulative_errors(elsewhere, "a set", curves, marks=[moved])
    assert len({path.read_bytes() for path in (plain, marked, elsewhere)}) == 3


@pytest.mark.filterwarnings("error")
def test_means_beyond_the_plot_leave_its_layout_alone(tmp_path: Path) -> None:
    far = plots.Mark("a set", "published", 60.0)
    plots.draw_cumulative_errors(tmp_path / "c.png", "a set", {"s": [1.0, 90.0]}, marks=[far])
    assert is_picture(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("errors", "places", "shares"),
    [
        ([4.0], [0, 4, 10], [0, 1, 1]),
        ([6.0, 2.0], [0, 2, 6, 10], [0, 0.5, 1, 1]),
        ([3.0, 12.0], [0, 3, 12, 12], [0, 0.5, 1, 1]),
    ],
)
def test_corners_of_the_curve(
    errors: list[float], places: list[float], shares: list[float]
) -> None:
    drawn_places, drawn_shares = plots.cumulative_steps(errors, 10.0)
    np.testing.assert_allclose(drawn_places, places)
    np.testing.assert_allclose(drawn_shares, shares)


def test_no_system_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no system"):
        plots.draw_cumulative_errors(tmp_path / "c.png", "a set", {})
    with pytest.raises(ValueError, match="no system"):
        plots.draw_errors_by_region(tmp_path / "r.png", "a set", {})
    assert not list(tmp_path.iterdir())


def test_no_face_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one face"):
        plots.draw_cumulative_errors(tmp_path / "c.png", "a set", {"s": []})
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        plots.draw_cumulative_errors(tmp_path / "missing" / "c.png", "a set", {"s": [1.0]})
