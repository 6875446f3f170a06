"""A bundled model from the labelled photos on: python -m reference.reproduce.

Each step is one of this package's commands, in a process of its own, which is printed before it
runs. What a step has written is not made again, and training goes on where it was: broken off,
the same command goes on.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reference.checkpoint_names import BEST, LAST

MODELS: Final = ("fast", "accurate")
RECIPES: Final = Path(__file__).parent / "recipes"
#: By folder: how far right of the true points its labels lie, in pixels of the photo.
LABEL_SHIFTS_PX: Final = {"300w": 0.5, "aflw": 0.5, "ytf": 1.0}
#: How long the teacher of AFLW's labels is trained.
TEACHER_EPOCHS: Final = 15
TERMS: Final = (
    "Research only, not for commercial use: trained on 300-W, AFLW (with MERL-RAV's labels) and "
    "YouTube Faces, whose terms say so; see npshapenet/models/LICENSE"
)


@dataclass(frozen=True)
class Step:
    """A command of this package, its words without ``python -m``, and the file that it writes.

    ``done_when`` this file exists, the step is over: its own, or where its own may be unfinished,
    as a checkpoint, that of the next step.
    """

    words: tuple[str, ...]
    writes: Path
    done_when: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status of the first step that fails, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m reference.reproduce",
        description="Train a bundled model from the labelled photos on: cut faces, a teacher that "
        "refits AFLW's labels, the network by its two recipes, the shape fit, the quality, the "
        "export. Broken off, the same command goes on.",
        epilog="example: python -m reference.reproduce fast --data photos --out runs/reproduced",
    )
    parser.add_argument("model", choices=MODELS)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="with " + ", ".join(f"{name}/train/labels.xml" for name in LABEL_SHIFTS_PX),
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    options = parser.parse_args(arguments)
    for step in steps(options.model, options.data, options.out):
        status = _run(step, options.dry_run)
        if status:
            return status
    return 0


def steps(model: str, data: Path, out: Path) -> list[Step]:
    """What has to be run, in this order, from the photos in ``data`` to ``out/<model>.npz``."""
    labels = {name: data / name / "train" / "labels.xml" for name in LABEL_SHIFTS_PX}
    faces = {name: out / f"{name}_train.npz" for name in LABEL_SHIFTS_PX}
    refitted, teacher = out / "aflw_refit.npz", out / "teacher"
    seen = [f"{faces['300w']}", f"{refitted}:0.7"]
    seen_too = f"{faces['ytf']}:0.25"
    run, steady_run = out / model, out / f"{model}-steady"
    fitted, whole = out / f"{model}-fitted.pt", out / f"{model}.pt"
    weights = out / f"{model}.npz"
    return [
        *(
            _step(faces[name], "prepare", labels[name], "--label-shift-px", shift, "--out")
            for name, shift in LABEL_SHIFTS_PX.items()
        ),
        _training(
            teacher,
            refitted,
            "accurate",
            *(faces["300w"], f"{faces['aflw']}:0.5", f"{faces['ytf']}:0.3"),
            *("--epochs", TEACHER_EPOCHS),
        ),
        _step(refitted, "refit_labels", faces["aflw"], "--teachers", teacher / BEST, "--out"),
        _training(run, steady_run / LAST, model, *seen, seen_too),
        _training(steady_run, fitted, f"{model}-steady", *seen, seen_too, "--start", run / BEST),
        # The last, as the one with the least error may not be steady yet.
        _step(fitted, "refine_fit", steady_run / LAST, "--data", *seen, "--out"),
        _step(
            whole,
            "train_quality",
            *(fitted, "--data", *seen, seen_too, "--backgrounds", labels["300w"], "--out"),
        ),
        _step(weights, "export", whole, "--terms", TERMS, "--out"),
    ]


def _step(writes: Path, command: str, *words: object) -> Step:
    """A command whose last option is the file that it writes."""
    return Step((f"reference.{command}", *map(str, words), str(writes)), writes, writes)


def _training(folder: Path, done_when: Path, recipe: str, *data_and_options: object) -> Step:
    words = ("--recipe", RECIPES / f"{recipe}.toml", "--data", *data_and_options, "--out", folder)
    return Step(("reference.train", *map(str, words)), folder / LAST, done_when)


def _run(step: Step, is_dry: bool) -> int:
    """The exit status of a step; 0, without running it, where it is over."""
    if step.done_when.exists():
        return 0
    words = [*step.words, *(["--resume"] if step.writes.exists() else [])]
    print(f"python -m {shlex.join(words)}", flush=True)
    if is_dry:
        return 0
    step.writes.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-m", *words]) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                pass  # which reached the step too: it ends by itself, with its checkpoint written


if __name__ == "__main__":
    sys.exit(main())
