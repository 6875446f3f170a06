"""python -m benchmarks.tracking: what a frame of a video costs, beside the model alone.

On the astronaut of the demo, her face 150 pixels large in the middle of frames of two sizes; on
one core, in rounds as timing.py has them. The detector is a box that is known: what a real one
costs at every 15th frame is its own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from benchmarks import one_core

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    import npshapenet

_ROUNDS: Final = 30
_FRAMES_PX: Final = ((640, 480), (1920, 1080))
_FACE_PX: Final = 150


def main() -> int:
    """Print a table: median times, and ratios to ``predict``."""
    from benchmarks.timing import ratio, summarise, time_in_rounds

    print("| frame | call | ms, median | 10th–90th percentile | times predict |")
    print("|---|---|---|---|---|")
    for size in _FRAMES_PX:
        seconds = time_in_rounds(_calls(*_frame(size)), _ROUNDS)
        predict = seconds["predict of the crop"]
        for name, each in seconds.items():
            summary = summarise(each)
            print(
                f"| {size[0]}×{size[1]} | {name} | {summary.median * 1e3:.3f} | "
                f"{summary.low * 1e3:.3f}–{summary.high * 1e3:.3f} | "
                f"{ratio(each, predict).median:.2f} |"
            )
    return 0


def _frame(size: tuple[int, int]) -> tuple[NDArray[np.uint8], npshapenet.Box]:
    """A frame (H, W, 3) of that width and height, and the box of the face in it."""
    import numpy as np
    from PIL import Image

    import npshapenet
    from npshapenet.cli.demo_photos import read_demo_photo

    photo = read_demo_photo("astronaut")
    scale = _FACE_PX / max(photo.box.width, photo.box.height)
    enlarged = photo.image.resize([round(side * scale) for side in photo.image.size])
    left, top, right, bottom = (edge * scale for edge in photo.box.edges)
    x, y = round((size[0] - left - right) / 2), round((size[1] - top - bottom) / 2)
    picture = Image.new("RGB", size, "gray")
    picture.paste(enlarged, (x, y))
    return np.asarray(picture), npshapenet.Box(left + x, top + y, right + x, bottom + y)


def _calls(frame: NDArray[np.uint8], box: npshapenet.Box) -> dict[str, Any]:
    """What is timed, by name."""
    import npshapenet

    model = npshapenet.load()
    crop = npshapenet.crop_face(frame, box, model)
    tracker = npshapenet.Tracker(lambda frame: [box], model)
    unsmoothed = npshapenet.Tracker(lambda frame: [box], model, smoothing=None)
    return {
        "predict of the crop": lambda: model.predict(crop),
        "crop_face and predict": lambda: model.predict(npshapenet.crop_face(frame, box, model)),
        "Tracker.update without smoothing": lambda: unsmoothed.update(frame),
        "Tracker.update": lambda: tracker.update(frame),
        "find_faces": lambda: npshapenet.find_faces(frame, lambda frame: [box], model=model),
    }


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working folder, which -m puts first: the installed package is what is measured.
        del sys.path[0]
    one_core.limit_threads()
    one_core.pin()
    sys.exit(main())
