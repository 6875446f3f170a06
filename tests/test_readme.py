"""What the README says, done."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from npshapenet.cli import main

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(start: str) -> list[list[str]]:
    """The lines of shell that begin so, as lists of words."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(start)]


@pytest.fixture
def in_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the checkout, to leave files in."""
    (tmp_path / "npshapenet").symlink_to(CHECKOUT / "npshapenet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("in_checkout")
def test_python() -> None:
    names: dict[str, object] = {}
    code = "".join(blocks("python"))
    exec(compile(code, "README.md", "exec"), names)
    assert {"landmarks", "on_photo", "left_eye", "points"} <= set(names)


@pytest.mark.usefixtures("in_checkout")
def test_commands_on_the_demo_photo() -> None:
    lines = [words for words in commands("npshapenet ") if "demo-weights.npz" not in words]
    assert len(lines) >= 3
    for words in lines:
        assert main(words[1:]) == 0, words


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "export"])
def test_reference_commands_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    module = importlib.import_module(f"reference.{name}")
    parse_args = argparse.ArgumentParser.parse_args

    class Understood(Exception):
        """Raised in place of the work."""

    def parse(*arguments: object) -> None:
        parse_args(*arguments)  # exits if it doesn't understand
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    lines = commands(f"python -m reference.{name} ")
    assert lines
    for words in lines:
        with pytest.raises(Understood):
            module.main(words[3:])


def test_two_commands_are_complete() -> None:
    """Those that .ci/run takes out of the README."""
    found = [line for line in README.splitlines() if re.match("pip install .* && ", line)]
    assert found[0].endswith(" && npshapenet demo")
    assert found[1].endswith(" && pytest")
