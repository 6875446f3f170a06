"""python -m reference.fit_head: the mean head of npshapenet/head_pose.py, from labelled faces."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reference.data.labels import LabelError, read_labels
from reference.head import fit_head, head_as_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser = argparse.ArgumentParser(
        prog="python -m reference.fit_head",
        description="Estimate the mean head in three dimensions from the labels of the training "
        "sets, and print it as npshapenet/head_pose.py holds it.",
    )
    parser.add_argument("--labels", nargs="+", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        faces = [face for labels in options.labels for face in read_labels(labels)]
    except LabelError as error:
        print(f"reference.fit_head: {error}", file=sys.stderr)
        return 1
    landmarks = [face.landmarks for face in faces if not isinstance(face, LabelError)]
    print(head_as_source(fit_head(np.array(landmarks))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
