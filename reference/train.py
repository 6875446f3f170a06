"""Train a network: python -m reference.train --recipe RECIPE --data FACES... --out FOLDER."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from reference import run_folder
from reference.borrowed_shape_model import (
    BorrowedShapeModel,
    ShapeModelError,
    read_shape_model,
)
from reference.checkpoint import Checkpoint, CheckpointError, load, save
from reference.checkpoint_names import BEST, LAST
from reference.data.augment import network_landmarks
from reference.data.dataset import Faces, FacesError
from reference.data.sources import read_weighted
from reference.recipe import Recipe, RecipeError, check_mirror, read_recipe
from reference.shape_model import FittedShapeModel
from reference.training import (
    Progress,
    Trainer,
    TrainingData,
    collect,
    fit_shape_model,
    held_out_images,
    overfit_settings,
    shape_model_tensors,
)

OVERFIT_EPOCHS = 1500
OVERFIT_GOAL_PERCENT = 0.5
SAVE_EVERY_SECONDS = 60.0
PREVIEW_FACES = 24


class UsageError(ValueError):
    """Arguments that don't fit together, or a run folder that isn't as it must be."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when trained to the end, 1 on failure, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return train(options)
    except (
        UsageError,
        RecipeError,
        FacesError,
        CheckpointError,
        ShapeModelError,
        FloatingPointError,
        OSError,
    ) as error:
        print(f"reference.train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reference.train: broken off", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.train",
        description="Train a network on faces that reference.prepare has cut. The first file "
        "gives the held-out faces. Interrupted by Ctrl-C or killed, the same command with "
        "--resume goes on.",
        epilog="example: python -m reference.train --recipe reference/recipes/fast.toml "
        "--data 300w.npz aflw.npz:0.5 --out runs/fast",
    )
    parser.add_argument("--recipe", type=Path, required=True, help="settings in TOML")
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="FACES[:WEIGHT]",
        help="faces files; a weight says how often each face is seen in an epoch (default 1)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="go on where the run was")
    parser.add_argument(
        "--overfit",
        type=int,
        metavar="N",
        help="train on the first N faces, unchanged, until they fit to under "
        f"{OVERFIT_GOAL_PERCENT} %% NME",
    )
    parser.add_argument(
        "--shape-model",
        type=Path,
        metavar="WEIGHTS",
        help="take the shape model of a weights file instead of fitting one",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with the averaged weights and the shape model of another run",
    )
    parser.add_argument("--epochs", type=_positive, help="instead of the recipe's")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--workers",
        type=_not_negative,
        default=1,
        help="processes that prepare batches ahead (default 1); 0: none",
    )
    return parser


def train(options: argparse.Namespace) -> int:
    """Prepare a run from the command's options, then carry it out."""
    recipe = read_recipe(options.recipe)
    files = [read_weighted(entry) for entry in options.data]
    if options.overfit is not None:
        files = [(name, _first(faces, options.overfit), 1.0) for name, faces, _ in files[:1]]
        epochs = options.epochs or OVERFIT_EPOCHS
        recipe = overfit_settings(recipe, options.overfit, epochs, files[0][1].markup)
    elif options.epochs is not None:
        recipe = _with_epochs(recipe, options.epochs)
    _check_geometry(files, recipe)
    borrowed: BorrowedShapeModel | None = None
    if options.shape_model is not None:
        borrowed = read_shape_model(options.shape_model, files[0][1].landmarks.shape[1])
        recipe = _with_components(recipe, len(borrowed.components))
    data = collect(files, recipe.training.held_out)
    check_mirror(recipe, data.markup)
    if borrowed is not None:
        description = (*data.description, borrowed.described())
        data = dataclasses.replace(data, description=description)
    device = _device(options.device)
    _use_cores(device, options.workers)
    resume = _checkpoint_to_resume(options, recipe, data)
    start = _checkpoint_to_start(options, recipe, data)
    fitted: FittedShapeModel | None = None
    if resume is not None:
        shape_model = resume.shape_model
    elif start is not None:
        shape_model = start.shape_model
    else:
        fitted = _shape_model(borrowed, data, recipe)
        shape_model = shape_model_tensors(fitted)
    trainer = Trainer(
        recipe,
        data,
        device,
        shape_model=shape_model,
        start=start,
        resume=resume,
        workers=options.workers,
        settled_norms=options.overfit is not None,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if fitted is not None:
        run_folder.write_modes(options.out, fitted)
    run_folder.write_settings(options.out, recipe, data.description)
    goal = OVERFIT_GOAL_PERCENT if options.overfit is not None else None
    if trainer.step >= trainer.step_count or (goal and trainer.best_percent < goal):
        print(f"{options.out}: trained to the end already, to {trainer.best_percent:.3f} % NME")
        return 0
    print(
        f"{int((data.weights > 0).sum())} faces to train on, {len(data.held_out.crops)} held out, "
        f"{len(trainer.shape_model['components'])} components"
    )
    return _run(trainer, options.out, goal)


def _run(trainer: Trainer, folder: Path, goal_percent: float | None) -> int:
    images, truth = held_out_images(trainer.data, trainer.steps.side_px)
    images, truth = images[:PREVIEW_FACES], truth[:PREVIEW_FACES]
    # A run killed between checkpoint and log has the one and not the other.
    run_folder.write_log(folder, trainer.log)
    saved_at = time.monotonic()
    with (
        tqdm(total=trainer.step_count, initial=trainer.step, unit="step") as bar,
        _ending_after_the_step() as is_interrupted,
    ):

        def report(progress: Progress) -> bool:
            nonlocal saved_at
            bar.update()
            bar.set_postfix_str(
                f"epoch {progress.epoch:.1f}, loss {progress.loss:.4f}", refresh=False
            )
            if progress.held_out_percent is None:
                if time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
                    save(folder / LAST, trainer.checkpoint())
                    saved_at = time.monotonic()
                return is_interrupted()
            _keep(trainer, folder, progress.held_out_percent)
            run_folder.write_preview(folder, images, truth, trainer.predict(images))
            saved_at = time.monotonic()
            faces = "held-out" if goal_percent is None else "the faces'"
            bar.write(f"epoch {progress.epoch:.0f}: {faces} NME {progress.held_out_percent:.3f} %")
            is_fitted = goal_percent is not None and progress.held_out_percent < goal_percent
            if is_fitted:
                bar.write(f"fitted to under {goal_percent} %: done before the last step")
            return is_fitted or is_interrupted()

        trainer.run(report)
        if is_interrupted():
            save(folder / LAST, trainer.checkpoint())
            bar.write(f"interrupted at step {trainer.step}; --resume goes on from there")
            return 130
    if goal_percent is not None and trainer.best_percent >= goal_percent:
        print(
            f"reference.train: fitted to {trainer.best_percent:.3f} % only, "
            f"not under {goal_percent} %",
            file=sys.stderr,
        )
        return 1
    return 0


def _keep(trainer: Trainer, folder: Path, held_out_percent: float) -> None:
    """Write the last checkpoint, the best one if it is that, and the log."""
    is_best = held_out_percent < trainer.best_percent
    trainer.best_percent = min(trainer.best_percent, held_out_percent)
    checkpoint = trainer.checkpoint()
    # The best one first: killed in between, the last one doesn't know of it, and finds it again.
    if is_best:
        save(folder / BEST, checkpoint)
    save(folder / LAST, checkpoint)
    run_folder.write_log(folder, trainer.log)
    run_folder.write_curves(folder, trainer.log)


@contextlib.contextmanager
def _ending_after_the_step() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the run to end between two steps, where its state is whole; twice, at once."""
    is_asked = False

    def ask(signal_number: int, frame: object) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: is_asked
    finally:
        signal.signal(signal.SIGINT, previous)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _not_negative(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _check_geometry(files: Sequence[tuple[str, Faces, float]], recipe: Recipe) -> None:
    first, side_px = files[0][1].geometry, recipe.network.side_px
    for name, faces, _ in files:
        if not len(faces):
            raise UsageError(f"{name}: there is no face in it")
        if faces.geometry.side_px != side_px:
            raise UsageError(
                f"{name} is cut for a network of {faces.geometry.side_px} px, the recipe's has "
                f"{side_px} px: python -m reference.prepare --side {side_px} cuts for it"
            )
        if faces.geometry != first:
            raise UsageError(f"{name} is cut otherwise than {files[0][0]}: prepare them alike")


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not (name == "cuda" and torch.cuda.is_available()):
        raise UsageError(f"--device {name}: there is no such device here; accepted: cpu, or cuda")
    return torch.device(name)


def _first(faces: Faces, count: int) -> Faces:
    if not 1 <= count <= len(faces):
        raise UsageError(f"--overfit takes 1 to {len(faces)} faces of this file, not {count}")
    return Faces(
        faces.crops[:count],
        faces.landmarks[:count],
        faces.names[:count],
        faces.boxes[:count],
        faces.crop_frames[:count],
        faces.photo_edges[:count],
        faces.meta,
    )


def _with_components(recipe: Recipe, count: int) -> Recipe:
    settings = dataclasses.replace(recipe.shape_model, components=count, variance_kept=None)
    return dataclasses.replace(recipe, shape_model=settings)


def _shape_model(
    borrowed: BorrowedShapeModel | None, data: TrainingData, recipe: Recipe
) -> FittedShapeModel:
    if borrowed is None:
        return fit_shape_model(data, recipe.shape_model, recipe.network.side_px)
    return borrowed.fitted(network_landmarks(data.faces, recipe.network.side_px).numpy())


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=epochs))


def _use_cores(device: torch.device, workers: int) -> None:
    """One core for each worker; the rest computes."""
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - workers))


def _checkpoint_to_resume(
    options: argparse.Namespace, recipe: Recipe, data: TrainingData
) -> Checkpoint | None:
    path = options.out / LAST
    if options.resume:
        if not path.exists():
            raise UsageError(f"{path} isn't there: nothing to go on with, leave --resume out")
        checkpoint = load(path)
        if checkpoint.recipe != recipe:
            raise UsageError(f"{path} was trained with other settings than {options.recipe}")
        if (tuple(checkpoint.data), checkpoint.crop_factor) != (data.description, data.crop_factor):
            raise UsageError(f"{path} was trained on other data: {_listed(checkpoint.data)}")
        if checkpoint.markup != data.markup:
            raise UsageError(f"{path} finds other points than those of {options.data[0]}")
        return checkpoint
    if path.exists():
        raise UsageError(f"{options.out} holds a run; give --resume or another folder")
    return None


def _checkpoint_to_start(
    options: argparse.Namespace, recipe: Recipe, data: TrainingData
) -> Checkpoint | None:
    if options.start is None:
        return None
    if options.shape_model is not None:
        raise UsageError("--start has a shape model already: leave --shape-model out")
    start = load(options.start)
    if start.recipe.network != recipe.network:
        raise UsageError(f"{options.start} is another network than that of {options.recipe}")
    if start.markup != data.markup:
        raise UsageError(f"{options.start} finds other points than those of {options.data[0]}")
    return start


def _listed(data: Sequence[Mapping[str, object]]) -> str:
    return ", ".join(f"{item['name']} ({item['faces']} faces):{item['weight']}" for item in data)


if __name__ == "__main__":
    sys.exit(main())
