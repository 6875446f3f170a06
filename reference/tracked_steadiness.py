"""python -m reference.tracked_steadiness: jitter and lag of tracked faces, filtered and not."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import npshapenet
from npshapenet.smoothing import DEFAULT_SMOOTHING, Smoothing
from reference.clips import FRAMES_PER_SECOND, MOTIONS, Clip, clip_of
from reference.data.face import LabelError, LabelledFace
from reference.data.labels import read_labels
from reference.steadiness_plot import draw_steadiness
from reference.tracked_clips import FaceLost, Figures, figures, mean, smoothed, track
from reference.views import open_view

Floats = NDArray[np.float64]
Tracked = Mapping[str, list[tuple[Clip, Floats]]]  # of each motion, clips and their landmarks

JITTER_AIM_PERCENT: Final = 0.15
LAG_AIM_FRAMES: Final = 1.0

#: The settings that --tune tries, and the jitter that it leaves room for under the aim.
_CUTOFFS_HZ: Final = (0.5, 1.0, 2.0)
_CUTOFFS_HZ_PER_SPEED: Final = (20.0, 40.0, 60.0, 80.0)
_SPEED_CUTOFFS_HZ: Final = (3.0, 4.0, 6.0)
_TUNED_JITTER_PERCENT: Final = 0.07

_NOSE_TIP: Final = 30

_DESCRIPTION = """\
Move labelled photos in a known way (still, slow drift, quick shake, zoom, turn), add noise, follow
the face with npshapenet's Tracker, and say how much the landmarks jitter and lag behind, with and
without its One-Euro filter. The filter's settings are tuned on other faces than those reported.
"""
_EPILOG = """\
example: python -m reference.tracked_steadiness --labels 300w/common/labels.xml --plot plot.png
         python -m reference.tracked_steadiness --labels 300w/train/labels.xml --faces 60 --tune
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2, usage, is argparse's)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.faces < 1 or options.frames < 2 * FRAMES_PER_SECOND or not 0 <= options.noise < 128:
        parser.error("accepted: 1 face and more, 60 frames and more, noise from 0 to 127")
    try:
        model = npshapenet.load(options.model)
        faces = _chosen(options.labels, options.faces)
        tracked = _track_all(faces, model, options.frames, options.noise)
        if options.tune:
            print(_tuning_table(tracked), end="")
            return 0
        if not all(tracked.values()):
            print("reference.tracked_steadiness: all faces lost, in one motion", file=sys.stderr)
            return 1
        by_motion = {name: _compared(clips) for name, clips in tracked.items()}
        print(_table(by_motion, {name: len(clips) for name, clips in tracked.items()}), end="")
        if options.plot:
            title = f"{options.model}, {len(faces)} faces, noise of {options.noise:g} gray levels"
            traces = _traces(*tracked["quick shake"][0])
            aims = JITTER_AIM_PERCENT, LAG_AIM_FRAMES
            draw_steadiness(options.plot, title, by_motion, traces, *aims)
    except (OSError, LabelError, ValueError) as error:
        print(f"reference.tracked_steadiness: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reference.tracked_steadiness: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.tracked_steadiness",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--labels", type=Path, required=True, help="dlib's XML, or .pts files")
    parser.add_argument("--model", default="fast", help="a bundled model or a weights file (fast)")
    parser.add_argument("--faces", type=int, default=100, help="evenly from the labels (100)")
    parser.add_argument("--frames", type=int, default=90, help="of a clip, 30 a second (90)")
    parser.add_argument(
        "--noise", type=float, default=4.0, help="standard deviation, gray levels of 256 (4)"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the figures there")
    parser.add_argument("--tune", action="store_true", help="compare settings of the filter")
    return parser


def _chosen(labels: Path, count: int) -> list[LabelledFace]:
    faces = [face for face in read_labels(labels) if isinstance(face, LabelledFace)]
    places = np.unique(np.linspace(0, len(faces) - 1, min(count, len(faces))).round().astype(int))
    return [faces[place] for place in places]


def _track_all(
    faces: Sequence[LabelledFace], model: npshapenet.Model, frame_count: int, noise: float
) -> Tracked:
    """Each face in each motion; those that are lost on the way are named and left out."""
    tracked: dict[str, list[tuple[Clip, Floats]]] = {name: [] for name in MOTIONS}
    for seed, face in enumerate(tqdm(faces, unit="face", disable=not sys.stderr.isatty())):
        view = open_view(face)
        for name, motion in MOTIONS.items():
            clip = clip_of(view, motion, frame_count, noise, seed)
            try:
                tracked[name].append((clip, track(clip, model)))
            except FaceLost as lost:
                print(f"{face.name}, {name}: lost, {lost}", file=sys.stderr)
    return tracked


def _compared(
    clips: Sequence[tuple[Clip, Floats]], smoothing: Smoothing = DEFAULT_SMOOTHING
) -> dict[str, Figures]:
    return {
        "without filter": mean([figures(clip, landmarks) for clip, landmarks in clips]),
        "with filter": _mean_smoothed(clips, smoothing),
    }


def _mean_smoothed(clips: Sequence[tuple[Clip, Floats]], smoothing: Smoothing) -> Figures:
    return mean([figures(clip, smoothed(landmarks, smoothing)) for clip, landmarks in clips])


def _table(by_motion: Mapping[str, Mapping[str, Figures]], counts: Mapping[str, int]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        "| motion | faces | filter | jitter % | step % | lag, frames | NME % |",
        "|---|---|---|---|---|---|---|",
    ]
    for motion, compared in by_motion.items():
        for name, each in compared.items():
            lag = "–" if np.isnan(each.lag_frames) else f"{each.lag_frames:.2f}"
            lines.append(
                f"| {motion} | {counts[motion]} | {name.split()[0]} | {each.jitter:.3f} | "
                f"{each.step:.3f} | {lag} | {each.nme:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _tuning_table(tracked: Tracked) -> str:
    """The settings that leave so little jitter, the least mean error first."""
    grid = itertools.product(_CUTOFFS_HZ, _CUTOFFS_HZ_PER_SPEED, _SPEED_CUTOFFS_HZ)
    rows = []
    for numbers in tqdm(list(grid), unit="setting", disable=not sys.stderr.isatty()):
        smoothing = Smoothing(*numbers)
        still = _mean_smoothed(tracked["still"], smoothing)
        if still.jitter > _TUNED_JITTER_PERCENT:
            continue
        means = {name: _mean_smoothed(clips, smoothing) for name, clips in tracked.items()}
        nme = float(np.mean([each.nme for each in means.values()]))
        rows.append((nme, still.jitter, means["quick shake"].lag_frames, numbers))
    lines = [
        "| cutoff_hz | cutoff_hz_per_speed | speed_cutoff_hz | jitter % | lag, frames | NME % |",
        "|---|---|---|---|---|---|",
    ]
    for nme, jitter, lag, numbers in sorted(rows):
        settings = " | ".join(f"{number:g}" for number in numbers)
        lines.append(f"| {settings} | {jitter:.3f} | {lag:.2f} | {nme:.3f} |")
    return "\n".join(lines) + "\n"


def _traces(clip: Clip, landmarks: Floats) -> dict[str, Floats]:
    """The nose tip's x over the frames: true, and found with and without the filter."""
    truth = np.array([clip.truth(frame) for frame in range(len(landmarks))])
    every = {
        "true": truth,
        "without filter": landmarks,
        "with filter": smoothed(landmarks, DEFAULT_SMOOTHING),
    }
    return {name: points[:, _NOSE_TIP, 0] for name, points in every.items()}


if __name__ == "__main__":
    sys.exit(main())
