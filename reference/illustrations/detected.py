"""What detector, network and Tracker make of the composed photo and clips.

ImportError, saying what to install, where dlib's detector isn't there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

import npshapenet
from npshapenet.detectors.dlib_hog import DlibDetector
from npshapenet.smoothing import DEFAULT_SMOOTHING
from reference.clips import Clip
from reference.illustrations.canvas import (
    BLUE,
    DOTS_PER_INCH,
    ORANGE,
    SKY,
    draw_face,
    panels,
    plain_plot,
    show,
)
from reference.illustrations.composed import (
    CLIP_SIZE,
    CROSSING_FRAMES,
    crossing,
    group_photo,
    picture_of,
    still_clip,
    time_s,
)
from reference.illustrations.demo_face import DemoFace, Floats
from reference.tracked_clips import smoothed

#: Frames of the crossing: before, near each other, one hidden, after, one gone, back.
SHOWN_FRAMES: Final = (0, 26, 43, 65, 125, 175)
#: Of the faces by their ids, in turn.
ID_COLOURS: Final = ("#FFC828", SKY, "#FF96BE", "#5AE65A")
#: The outer corner of the subject's right eye.
FOLLOWED_POINT: Final = 36


def draw_group(faces: Sequence[DemoFace], model: npshapenet.Model) -> Figure:
    """The composed group photo with the boxes and landmarks that are found."""
    photo, _ = group_photo(faces)
    height, width = photo.shape[:2]
    figure, (panel,) = panels(1, 10.0, 10.0 * height / width)
    show(panel, photo, "")
    for face in npshapenet.find_faces(photo, DlibDetector(), model=model):
        _outline(panel, face.box)
        draw_face(panel, face.landmarks, linewidth=0.8, markersize=2)
    return figure


def draw_crossing(faces: Sequence[DemoFace], model: npshapenet.Model) -> Figure:
    """Some frames of the composed clip, with ids and landmarks as the Tracker gives them."""
    rows, columns = 2, len(SHOWN_FRAMES) // 2
    width, height = CLIP_SIZE
    size = 10.5, 10.5 * rows / columns * height / width + 0.5
    figure = Figure(size, DOTS_PER_INCH, layout="constrained")
    followed = follow_crossing(faces, model)
    for panel, frame in zip(figure.subplots(rows, columns).flat, SHOWN_FRAMES, strict=True):
        _draw_followed(panel, _crossing_picture(faces, frame), followed[frame])
        panel.set_title(f"{time_s(frame):.1f} s", fontsize=9)
    return figure


def follow_crossing(
    faces: Sequence[DemoFace], model: npshapenet.Model
) -> list[list[npshapenet.Face]]:
    """The faces that a Tracker finds in each frame of the clip of two that cross."""
    tracker = npshapenet.Tracker(DlibDetector(), model)
    return [
        tracker.update(_crossing_picture(faces, frame), time_s(frame))
        for frame in range(CROSSING_FRAMES)
    ]


def draw_still(face: DemoFace, model: npshapenet.Model) -> Figure:
    """Where one point of a face that doesn't move is found, with smoothing and without."""
    clip = still_clip(face)
    found = follow_still(clip, model)
    figure = Figure((9.0, 2.8), DOTS_PER_INCH, layout="constrained")
    near, plot = figure.subplots(1, 2, width_ratios=(1, 2))
    show(near, next(clip.frames()), "a frame, and the point")
    near.plot(*clip.truth(0)[FOLLOWED_POINT], "o", color=ORANGE, markersize=5)
    times_s = [time_s(frame) for frame in range(len(found))]
    for landmarks, colour, label in (
        (found, ORANGE, "as found in each frame"),
        (smoothed(found, DEFAULT_SMOOTHING), BLUE, "smoothed, the default"),
    ):
        x = landmarks[:, FOLLOWED_POINT, 0]
        plot.plot(times_s, x - found[:, FOLLOWED_POINT, 0].mean(), color=colour, label=label)
    plain_plot(plot, "one point of a still face in noise", "seconds", "x − its mean, pixels")
    plot.legend(frameon=False, fontsize=8)
    return figure


def follow_still(clip: Clip, model: npshapenet.Model) -> Floats:
    """The landmarks (F, 68, 2) as a Tracker finds them in each frame, before they are smoothed.

    ValueError where it doesn't find the one face.
    """
    tracker = npshapenet.Tracker(DlibDetector(), model, smoothing=None)
    landmarks = []
    for frame, pixels in enumerate(clip.frames()):
        faces = tracker.update(pixels, time_s(frame))
        if len(faces) != 1:
            raise ValueError(f"the Tracker finds {len(faces)} faces in frame {frame} of still")
        landmarks.append(faces[0].landmarks)
    return np.array(landmarks, np.float64)


def _crossing_picture(faces: Sequence[DemoFace], frame: int) -> NDArray[np.uint8]:
    return picture_of(list(crossing(faces, frame).values()), CLIP_SIZE)


def _draw_followed(axes: Axes, pixels: NDArray[np.uint8], faces: Sequence[npshapenet.Face]) -> None:
    """A frame with its faces, each in the colour of its id."""
    show(axes, pixels, "")
    for face in faces:
        number = face.id or 0
        colour = ID_COLOURS[(number - 1) % len(ID_COLOURS)]
        draw_face(axes, face.landmarks, colour, linewidth=0.8, markersize=2)
        middle = (face.box.left + face.box.right) / 2
        axes.text(
            middle,
            face.box.top - 0.3 * face.box.height,
            str(number),
            color="white",
            fontsize=11,
            fontweight="bold",
            ha="center",
            va="bottom",
            bbox={"facecolor": "black", "edgecolor": colour, "pad": 2},
        )


def _outline(axes: Axes, box: npshapenet.Box) -> None:
    # Edges are counted from the photo's edge; the axes count from the centre of its first pixel.
    corner = box.left - 0.5, box.top - 0.5
    axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, ec=ORANGE, lw=1.2))
