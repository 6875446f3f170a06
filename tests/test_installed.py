"""What an installation consists of, and that the tests run against it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import npshapenet

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def distribution() -> importlib.metadata.Distribution:
    return importlib.metadata.distribution("npshapenet")


@pytest.fixture(scope="module")
def installed_files(distribution: importlib.metadata.Distribution) -> set[str]:
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("an editable installation is this checkout")
    return {file.as_posix() for file in distribution.files or []}


@pytest.mark.usefixtures("installed_files")
def test_the_tests_run_against_what_is_installed() -> None:
    assert CHECKOUT not in Path(npshapenet.__file__).resolve().parents
    assert CHECKOUT not in [Path(entry).resolve() for entry in sys.path]


def test_what_is_installed_is_what_stands_here(installed_files: set[str]) -> None:
    here = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "npshapenet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packages = {file for file in installed_files if file.startswith("npshapenet/")}
    assert {file for file in packages if "__pycache__" not in file} == here
    for file in here:
        assert (CHECKOUT / file).read_bytes() == (
            Path(npshapenet.__file__).parent.parent / file
        ).read_bytes(), f"{file} is older where it is installed: pip install . again"


def test_nothing_else_is_installed(installed_files: set[str]) -> None:
    folders = {file.split("/")[0] for file in installed_files if not file.startswith("..")}
    assert {folder.split("-")[0] for folder in folders} == {"npshapenet"}


def test_terms_are_installed(
    distribution: importlib.metadata.Distribution, installed_files: set[str]
) -> None:
    assert "npshapenet/models/LICENSE" in installed_files
    licenses = distribution.metadata.get_all("License-File")
    assert licenses == ["LICENSE", "npshapenet/models/LICENSE"]


def test_version(distribution: importlib.metadata.Distribution) -> None:
    assert distribution.version == npshapenet.__version__


def test_only_three_packages_are_needed(distribution: importlib.metadata.Distribution) -> None:
    needed = [line for line in distribution.requires or [] if "extra ==" not in line]
    assert {line.split(">=")[0] for line in needed} == {"numpy", "pillow", "numba"}


def test_the_package_does_not_need_what_only_training_needs() -> None:
    """Importing everything that a user calls leaves PyTorch, SciPy and lxml alone."""
    program = (
        "import sys, npshapenet, npshapenet.cli\n"
        "heavy = {'torch', 'scipy', 'lxml', 'matplotlib', 'tqdm', 'numba', 'reference'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == ""
