"""python -m reference.compare_groups: names, boxes, figures by group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npshapenet.weights import write

groups = pytest.importorskip(
    "reference.compare_groups", reason="needs matplotlib", exc_type=ImportError
)


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("26_1_2_20170116.jpg", groups.Person(26, "female", "Asian")),
        ("1_0_0_20161219190045155.jpg.chip.jpg", groups.Person(1, "male", "White")),
        ("61_1_20170109150557335.jpg", None),
        ("26_2_2_20170116.jpg", None),
        ("26_1_5_20170116.jpg", None),
        ("999_1_1_20170116.jpg", None),
        ("notes.txt", None),
    ],
)
def test_names(name: str, person: Any) -> None:
    assert groups.read_name(name) == person


@pytest.mark.parametrize(
    ("age", "group"), [(0, "0–2"), (3, "3–9"), (39, "20–39"), (40, "40–59"), (116, "80 and older")]
)
def test_ages(age: int, group: str) -> None:
    assert groups.Person(age, "male", "other").groups[0] == ("age", group)


def test_the_fitted_box_lies_as_labels_have_it(template: np.ndarray) -> None:
    landmarks = 50 * template + 100
    extent = np.ptp(landmarks, axis=0).max()
    left, top, right, bottom = groups.fitted_box(landmarks)
    assert right - left == pytest.approx(1.035 * extent)
    assert bottom - top == pytest.approx(1.035 * extent)
    middle = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2 + 0.5
    centre = np.array([left + right, top + bottom]) / 2
    np.testing.assert_allclose((centre - middle) / extent, [-0.002, -0.085])


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    folder = tmp_path / "portraits"
    folder.mkdir()
    for index, name in enumerate(["5_0_1_1.png", "5_1_1_2.png", "70_1_3_3.png", "readme_1.png"]):
        pixels = np.random.default_rng(index).integers(0, 256, (84, 84), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.mark.parametrize("box", ["fixed", "fitted"])
def test_a_known_distance_is_found_in_every_group(
    portraits: Path,
    constant_weights: Any,
    template: np.ndarray,
    box: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    eye_distance = 0.5 * np.hypot(*(template[36] - template[45]))
    for name, x in (("measured", 0.03 * eye_distance), ("standard", 0.0)):
        write(portraits.parent / f"{name}.npz", constant_weights([0, 1, 0, x, 0]))
    systems = [str(portraits.parent / f"{name}.npz") for name in ("measured", "standard")]
    options = ["--photos", str(portraits), "--box", box, "--backend", "numpy"]
    assert groups.main([*systems, *options]) == 0
    printed = capsys.readouterr()
    lines = [line.strip("| ").split(" | ") for line in printed.out.splitlines()]
    assert [(line[0], line[1], line[2]) for line in lines[2:]] == [
        ("all", "3", "3.00"),
        ("age 3–9", "2", "3.00"),
        ("age 60–79", "1", "3.00"),
        ("gender male", "1", "3.00"),
        ("gender female", "2", "3.00"),
        ("ancestry Black", "2", "3.00"),
        ("ancestry Indian", "1", "3.00"),
    ]
    assert "1 of 4 files left out" in printed.err


def test_a_sheet_is_drawn(
    portraits: Path, constant_weights: Any, is_picture: Callable[[Path], bool]
) -> None:
    for name, scale in (("a", 1.0), ("b", 1.1)):
        write(portraits.parent / f"{name}.npz", constant_weights([0, scale, 0, 0, 0]))
    systems = [str(portraits.parent / f"{name}.npz") for name in "ab"]
    sheet = portraits.parent / "sheet.png"
    options = ["--photos", str(portraits), "--backend", "numpy", "--sheet", str(sheet)]
    assert groups.main([*systems, *options]) == 0
    assert is_picture(sheet)


def test_a_mean_and_its_interval() -> None:
    text = groups.markdown({("", "all"): np.array([1.0, 3.0, 11.0])}, "a", "b")
    error = 1.96 * np.std([1, 3, 11], ddof=1) / np.sqrt(3)
    row = f"| all | 3 | 5.00 | {5 - error:.2f}–{5 + error:.2f} | 3.00 | 33.3 |"
    assert text.splitlines()[-1] == row


def test_no_portrait_is_status_1(
    portraits: Path, weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    systems = [f"{weights_file}:numpy", str(weights_file)]
    assert groups.main([*systems, "--backend", "numba", "--photos", str(empty)]) == 1
    with pytest.raises(SystemExit):
        groups.main([*systems, "--photos", str(tmp_path / "gone")])
