"""What the README and the pages of docs say, done: every block of code, in the page's order.

``sh`` and ``python`` are run as they stand, from a copy of the checkout. ``console`` is for
reading: what needs data that can't be passed on, or takes minutes; the programs must still
understand it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npshapenet
from npshapenet import cli

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (CHECKOUT / "docs").glob("*.md"))]

#: A block that has such a line takes more than ten seconds.
SLOW = ("reference.train ", "reference.illustrate ", "npshapenet.jit.build")

#: What a block needs that has such a word in it, beside the package itself.
NEEDS = {
    "python -m reference.": "torch",
    "reference.illustrate ": "dlib",
    "--onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "npshapenet.jit.build": "numba",
    ".warmup()": "numba",
    "npshapenet video": "cv2",
    "npshapenet.video": "cv2",
    '"opencv"': "cv2",
}

#: pip changes the environment that the tests run in, and pytest would run this test: what they
#: install and test is done by .ci/run.
SHELL = "pip() { :; }; pytest() { :; }\n"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: the line that it begins on, its language, its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.language in ("sh", "python")

    @property
    def is_slow(self) -> bool:
        return any(word in self.text for word in SLOW)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(page, text.count("\n", 0, f.start()) + 1, f[1], f[2]) for f in fences]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands(block: Block) -> list[list[str]]:
    """The commands of a block of shell as lists of words, without the settings before them."""
    lines = block.text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.split(" && ")]
    found = [shlex.split(part, comments=True) for part in parts]
    settings = re.compile(r"[A-Z_]+=")
    return [[w for w in words if not settings.match(w)] for words in found if words]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkout, and the present folder."""
    names = ("npshapenet", "reference", "benchmarks", "docs", "pyproject.toml", "README.md")
    ignored = shutil.ignore_patterns("__pycache__", "carried_code")
    for name in (name for name in names if (CHECKOUT / name).exists()):
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(CHECKOUT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block; names are those that the page's Python has bound so far."""
    if block.language == "python":
        # The page's own lines are shown where one fails.
        code = "\n" * block.line + block.text
        exec(compile(code, block.page, "exec"), names)
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SHELL + block.text],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def run_all(blocks: list[Block]) -> dict[str, Any]:
    """Run a page's blocks in turn; returns what its Python has bound."""
    if shutil.which("bash") is None:
        pytest.skip("the pages' commands are for bash")
    for module in sorted({m for b in blocks for word, m in NEEDS.items() if word in b.text}):
        pytest.importorskip(module)
    names: dict[str, Any] = {}
    for block in blocks:
        run(block, names)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, copy: Path) -> None:
    blocks = [block for block in blocks_of(page) if block.is_run and not block.is_slow]
    names = run_all(blocks)
    if page in OUTCOMES:
        OUTCOMES[page](names, copy)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(b.is_slow for b in blocks_of(p))])
@pytest.mark.usefixtures("copy")
def test_blocks_run_with_the_slow_ones(page: str) -> None:
    run_all([block for block in blocks_of(page) if block.is_run])


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_is_run_or_for_reading(block: Block) -> None:
    assert block.language in ("sh", "python", "console"), f"{block}: what is to be done with it?"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language != "python"], ids=str)
def test_the_programs_understand_their_commands(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    class Understood(Exception):
        """Raised in place of the work."""

    def parse(*arguments: object) -> None:
        parse_args(*arguments)  # exits if it doesn't understand
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    for words in commands(block):
        program = program_of(words)
        if program is not None:
            with pytest.raises(Understood):
                program(words[1:] if words[0] == "npshapenet" else words[3:])


def program_of(words: list[str]) -> Callable[[list[str]], int] | None:
    """The function behind a command of ours; None for others."""
    if words[0] == "npshapenet":
        return cli.main
    if words[:3] == ["python", "-m", "benchmarks"]:
        return importlib.import_module("benchmarks.command").main
    if words[:2] == ["python", "-m"] and words[2].startswith("reference."):
        pytest.importorskip("torch")
        return importlib.import_module(words[2]).main
    return None


def test_what_pip_is_told_to_install_exists() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    known = set(extras["project"]["optional-dependencies"])
    asked = [
        word
        for block in BLOCKS
        if block.language != "python"
        for words in commands(block)
        if words[:2] == ["pip", "install"]
        for word in words
    ]
    named = [names for word in asked for names in re.findall(r"\[(.*)\]$", word)]
    assert named
    assert {extra for names in named for extra in names.split(",")} <= known


def test_two_commands_are_complete() -> None:
    """Those that .ci/run takes out of the README."""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    found = [line for line in readme.splitlines() if re.match("pip install .* && ", line)]
    assert found[0].endswith(" && npshapenet demo")
    assert found[1].endswith(" && pytest")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = CHECKOUT / page
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(linked), f"{page}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, hyphens for spaces, no punctuation."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def readme_outcome(names: dict[str, Any], folder: Path) -> None:
    assert {"landmarks", "on_photo", "left_eye", "points"} <= set(names)
    assert (folder / "astronaut.json").exists()


def detectors_outcome(names: dict[str, Any], folder: Path) -> None:
    assert names["aligned"].shape == (112, 112, 3)
    assert abs(names["pose"].yaw_deg) < 10


def video_outcome(names: dict[str, Any], folder: Path) -> None:
    assert {"nose_tip", "calm"} <= set(names)
    points = (folder / "clip.csv").read_text().splitlines()
    assert points[0] == "frame,time_s,face,point,region,x,y"
    assert len(points) > 45 * 68
    # The astronaut does neither; somebody who does both.
    (astronaut,) = names["people"].values()
    assert not astronaut.blinks
    assert not astronaut.is_talking
    other = names["Expression"]()
    for frame in range(120):
        other.see(0.18 if frame % 40 in range(20, 25) else 0.3, 0.1 if frame % 8 < 4 else 0.0)
    assert other.blinks == 3
    assert other.is_talking


def deploy_outcome(names: dict[str, Any], folder: Path) -> None:
    # The page's crop is the one that crop_face cuts of the box in the README.
    landmarks = npshapenet.load("fast", "numpy").predict(names["crop"])
    assert np.abs(landmarks - names["landmarks"]).max() < 0.01
    assert "not for commercial use" in str(names["terms"])
    # What a wheel is to carry, where the slow block made it, leaves nothing to compile and keep.
    built = folder / "npshapenet" / "jit" / "carried_code"
    (*_, code) = (built if built.exists() else folder / "compiled").iterdir()
    assert code.suffix == ".code"


#: What a page's quick blocks must have left behind.
OUTCOMES: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "README.md": readme_outcome,
    "docs/detectors.md": detectors_outcome,
    "docs/video.md": video_outcome,
    "docs/deploy.md": deploy_outcome,
}
