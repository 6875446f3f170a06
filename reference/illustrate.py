"""Draw the pictures of the pages in docs/: python -m reference.illustrate --out docs/pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

import npshapenet
from reference.illustrations import data, detected, learning, prediction, shape
from reference.illustrations.canvas import write_figure
from reference.illustrations.demo_face import read_demo_faces

MODELS = Path(npshapenet.__file__).parent / "models"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    options = _parser().parse_args(arguments)
    # So that a network trained for a picture is the same each time.
    torch.set_num_threads(1)
    try:
        figures = illustrations(options.model)
        names = options.only or list(figures)
        if unknown := set(names) - set(figures):
            raise ValueError(f"no picture {', '.join(sorted(unknown))}; has {', '.join(figures)}")
        for name in names:
            write_figure(options.out / f"{name}.png", figures[name]())
            print(options.out / f"{name}.png")
    except (ValueError, OSError, ImportError) as error:
        print(f"reference.illustrate: {error}", file=sys.stderr)
        return 1
    return 0


def illustrations(weights: str) -> Mapping[str, Callable[[], Figure]]:
    """The pictures by their names, for a bundled model's name or a weights file of 68 points."""
    model = npshapenet.load(weights)
    path = Path(weights) if Path(weights).is_file() else MODELS / f"{weights}.npz"
    faces = read_demo_faces()
    astronaut, admiral = faces
    return {
        "annotated-face": lambda: data.draw_annotated_face(astronaut),
        "crop": lambda: data.draw_crop(astronaut, model),
        "modes": lambda: shape.draw_modes(model),
        "reconstructions": lambda: shape.draw_reconstructions(astronaut, model),
        "transform": lambda: shape.draw_transform(admiral, model),
        "layers": lambda: prediction.draw_layers(model),
        "prediction": lambda: prediction.draw_prediction(astronaut, model),
        "looks": lambda: prediction.draw_looks(astronaut, model),
        "maps": lambda: prediction.draw_maps(astronaut, npshapenet.load("accurate")),
        "views": learning.draw_views,
        "refitted-labels": lambda: learning.draw_refitted_labels(astronaut, model),
        "quality": lambda: prediction.draw_quality(faces, model),
        "one-face": lambda: learning.draw_one_face(path),
        "averaging": learning.draw_averaging,
        # These need dlib, so they come last: without it the others are drawn.
        "group": lambda: detected.draw_group((admiral, astronaut), model),
        "crossing": lambda: detected.draw_crossing(faces, model),
        "still": lambda: detected.draw_still(astronaut, model),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.illustrate",
        description="Draw the pictures of the pages in docs/ on the photos of the demo. The last "
        "three, group, crossing and still, need dlib, whose detector finds the faces.",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder, which must exist")
    parser.add_argument("--model", default="fast", help="a bundled model or a weights file (fast)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these pictures alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
