"""How the report is written."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.comparison import Comparison
from benchmarks.report import (
    report_batches,
    report_comparison,
    report_other_faces,
    report_start_ups,
    table,
    without_folder,
)
from benchmarks.start_up import StartUp
from benchmarks.systems import DLIB, NUMBA, NUMPY, ONNX_RUNTIME, PREDICT, System
from benchmarks.workload import Workload


def test_table_is_aligned() -> None:
    assert table(["what", "ms"], [["a", "1.25"], ["longer", "10"]]).splitlines() == [
        "| what   |   ms |",
        "| ------ | ---: |",
        "| a      | 1.25 |",
        "| longer |   10 |",
    ]


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("compiled now", "compiled now"),
        ("carried with the package (v3)", "carried with the package (v3)"),
        ("kept in /home/somebody/.cache/npshapenet", "kept"),
        ("in memory only: Read-only file system: /home/somebody", "in memory only"),
    ],
)
def test_folders_are_not_shown(origin: str, shown: str) -> None:
    assert without_folder(origin) == shown


def test_start_ups() -> None:
    text = report_start_ups(
        {
            "one": [StartUp(seconds, 2048, 4096, "") for seconds in (0.2, 0.1, 0.9)],
            "two": [StartUp(1, None, None, "kept in /home/somebody")],
        }
    )
    _, _, one, two = text.splitlines()[:4]
    assert [cell.strip() for cell in one.split("|")[1:-1]] == ["one", "200", "100–900", "2", "4"]
    assert [cell.strip() for cell in two.split("|")[1:3]] == ["two (kept)", "1000"]
    assert "unknown" in two
    assert "somebody" not in text


def test_start_ups_beside_onnx_runtime() -> None:
    text = report_start_ups(
        {
            "one": [StartUp(seconds, 2048, 4096, "") for seconds in (0.2, 0.1)],
            "two": [StartUp(0.1, None, None, "")] * 2,
            ONNX_RUNTIME: [StartUp(0.4, 8192, 8192, "")] * 2,
        }
    )
    rows = [[cell.strip() for cell in line.split("|")[-3:-1]] for line in text.splitlines()[2:5]]
    assert rows[0] == ["0.38 (0.25)", "0.25"]
    assert rows[1] == ["0.25 (0.25)", "unknown"]
    assert rows[2] == ["1.0 (1.0)", "1.00"]


def test_other_faces() -> None:
    text = report_other_faces({PREDICT: np.array([1e-4, 2e-4]), DLIB: np.array([1e-3, 1e-3])})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:4]]
    assert [row[0] for row in rows] == [PREDICT, DLIB]
    assert rows[0][-1] == "0.15 (0.10)"
    assert rows[1][-1] == "1.0 (1.0)"


def test_batches() -> None:
    text = report_batches({1: np.array([0.064, 0.032]), 2: np.array([0.032, 0.016])})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[:4]]
    assert rows[2] == ["1 core", "1500", "1100–1900", "2000", "1.0 (1.0)"]
    assert rows[3] == ["2 cores", "3000", "2200–3800", "4000", "2.0 (2.0)"]
    assert report_batches({}) == ""


def test_comparison(work: Workload) -> None:
    seconds = {NUMPY: np.array([0.4, 0.2, 0.2]), NUMBA: np.array([0.0001, 0.0001, 0.0002])}
    # Such a peak that the compiled network is at a half, a half and a quarter of it.
    peak = np.full(3, 2 * work.multiply_adds / 0.00005)
    chosen = {name: System(name, "", lambda: None, np.asarray) for name in seconds}
    differences = {NUMPY: "0", NUMBA: "1e-05"}
    left_out = {"something": "not here"}
    text = report_comparison(Comparison(chosen, seconds, {}, peak), differences, left_out, work, 3)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[:4]]
    assert rows[0][4:5] == ["network / it"]
    assert rows[2][:5] == [NUMPY, "200", "200–360", "200", "0.00050 (0.00050)"]
    assert rows[3][1:5] == ["0.100", "0.100–0.180", "0.100", "1.0 (1.0)"]
    assert rows[3][6:] == ["50 % (50)", "1e-05"]
    assert "- left out, something: not here" in text
