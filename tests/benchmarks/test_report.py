"""How the report is written."""

from __future__ import annotations

import pytest

from benchmarks.report import report_start_ups, table, without_folder
from benchmarks.start_up import StartUp


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
