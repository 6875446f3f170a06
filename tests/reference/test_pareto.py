"""python -m reference.pareto: trials read, the front found, a plot written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pareto = pytest.importorskip("reference.pareto", reason="needs matplotlib", exc_type=ImportError)

HEAD = "name,multiply_adds_millions,nme_300w_common,note\n"


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    path = tmp_path / "trials.csv"
    path.write_text(f"{HEAD}a,8,4,bundled\nb,8,5,\nc,20,4,\nd,60,3,\ne,,2,not timed\nf,5,9,\n")
    return path


def test_the_front_is_what_nothing_cheaper_betters(trials: Path) -> None:
    read = pareto.read_trials(trials, "multiply_adds_millions", "nme_300w_common")
    assert [trial.name for trial in read] == ["a", "b", "c", "d", "f"]
    assert (read[0].cost, read[0].error, read[0].note) == (8, 4, "bundled")
    assert [trial.name for trial in pareto.front(read)] == ["f", "a", "d"]


def test_a_plot_is_written(trials: Path, is_picture: Callable[[Path], bool]) -> None:
    out = trials.parent / "pareto.png"
    assert pareto.main([str(trials), "--out", str(out)]) == 0
    assert is_picture(out)


def test_another_column_may_be_the_cost(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name, milliseconds ,nme\na,0.1,4\n")
    assert pareto.read_trials(path, "milliseconds", "nme")[0].cost == 0.1
    assert pareto.main([str(path), "--out", str(tmp_path / "p.png")]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}a,8,four,\n", "line 2: nme_300w_common is 'four'"),
        (f"{HEAD}a,0,4,\n", "line 2: multiply_adds_millions is '0'"),
        (f"{HEAD}a,8,,\n", "no trial has both"),
        ("name,note\na,b\n", "no column multiply_adds_millions"),
        ("", "no column name; there are: none"),
    ],
)
def test_what_is_no_trials_file_is_named(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert pareto.main([str(path), "--out", str(tmp_path / "p.png")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "t.csv" in error
    assert not (tmp_path / "p.png").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main([str(tmp_path / "gone.csv"), "--out", str(tmp_path / "p.png")]) == 1
    assert "gone.csv" in capsys.readouterr().err
