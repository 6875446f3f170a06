"""Which alignment before the PCA is best: python -m reference.compare_alignments.

For each alignment it states what truncating the PCA leaves and, with --epochs, what a short
training run of the recipe reaches, both on the held-out faces.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from reference.data.dataset import FacesError
from reference.data.sources import read_weighted
from reference.recipe import Recipe, RecipeError, ShapeModelSettings, read_recipe
from reference.shape_model import Alignment, truncation_floor_percent
from reference.training import (
    Progress,
    Trainer,
    TrainingData,
    collect,
    fit_shape_model,
    held_out_images,
    shape_model_tensors,
)

ALIGNMENTS: tuple[Alignment, ...] = typing.get_args(Alignment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    try:
        recipe = read_recipe(options.recipe)
        files = [read_weighted(entry) for entry in options.data]
        data = collect(files, recipe.training.held_out)
        print_floors(data, recipe, options.components)
        if options.epochs:
            print_trained(data, recipe, options.epochs)
    except (RecipeError, FacesError, ValueError) as error:
        print(f"reference.compare_alignments: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.compare_alignments",
        description="Compare the alignments of the training shapes before PCA: the error that "
        "truncation leaves and, with --epochs, what a short training reaches. Both are the mean "
        "NME in percent of the faces held out of the first file.",
    )
    parser.add_argument("--recipe", type=Path, required=True, help="settings in TOML")
    parser.add_argument("--data", nargs="+", required=True, metavar="FACES[:WEIGHT]")
    parser.add_argument("--components", type=int, nargs="+", default=[25, 40, 60, 80, 100])
    parser.add_argument("--epochs", type=int, default=0, help="train this long (default: not)")
    return parser


def print_floors(data: TrainingData, recipe: Recipe, counts: Sequence[int]) -> None:
    """A table: the error that each alignment leaves with each number of components."""
    side_px = recipe.network.side_px
    _, truth = held_out_images(data, side_px)
    print("NME that truncation leaves, %, by number of components")
    print(f"{'alignment':12}" + "".join(f"{count:8d}" for count in counts))
    for alignment in ALIGNMENTS:
        floors = [
            truncation_floor_percent(
                fit_shape_model(
                    data, ShapeModelSettings(components=count, alignment=alignment), side_px
                ),
                truth.double().numpy(),
                data.markup,
            )
            for count in counts
        ]
        print(f"{alignment:12}" + "".join(f"{floor:8.2f}" for floor in floors), flush=True)


def print_trained(data: TrainingData, recipe: Recipe, epochs: int) -> None:
    """A table: what the recipe reaches with each alignment after some epochs."""
    training = dataclasses.replace(
        recipe.training, epochs=epochs, validate_every_epochs=max(epochs, 1)
    )
    print(f"NME after {epochs} epochs, %")
    for alignment in ALIGNMENTS:
        changed = dataclasses.replace(
            recipe,
            training=training,
            shape_model=dataclasses.replace(recipe.shape_model, alignment=alignment),
        )
        fitted = fit_shape_model(data, changed.shape_model, recipe.network.side_px)
        trainer = Trainer(
            changed, data, torch.device("cpu"), shape_model=shape_model_tensors(fitted)
        )
        with tqdm(total=trainer.step_count, unit="step", desc=alignment) as bar:

            def report(progress: Progress, bar: tqdm = bar) -> bool:
                bar.update()
                return False

            trainer.run(report)
        print(f"{alignment:12}{trainer.held_out_percent():8.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
