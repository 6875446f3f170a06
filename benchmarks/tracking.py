"""python -m benchmarks.tracking: what a frame of a video costs, beside the model alone.

On the astronaut of the demo, in a frame of 1280×720; on one core, in rounds as timing.py has
them. The detector is a box that is known: what a real one costs at every 15th frame is its own.
"""

from __future__ import annotations

import sys
from typing import Final

from benchmarks import one_core

_ROUNDS: Final = 30
_SIZE: Final = (1280, 720)
_PLACE: Final = (300, 150)


def main() -> int:
    """Print a table: median times, and ratios to ``predict``."""
    import numpy as np
    from PIL import Image

    import npshapenet
    from benchmarks.timing import ratio, summarise, time_in_rounds
    from npshapenet.cli.demo_photos import read_demo_photo

    photo = read_demo_photo("astronaut")
    picture = Image.new("RGB", _SIZE, "gray")
    picture.paste(photo.image, _PLACE)
    frame = np.asarray(picture)
    left, top, right, bottom = photo.box.edges
    x, y = _PLACE
    box = npshapenet.Box(left + x, top + y, right + x, bottom + y)
    model = npshapenet.load()
    crop = npshapenet.crop_face(frame, box, model)
    tracker = npshapenet.Tracker(lambda frame: [box], model)
    unsmoothed = npshapenet.Tracker(lambda frame: [box], model, smoothing=None)

    calls = {
        "predict of the crop": lambda: model.predict(crop),
        "crop_face and predict": lambda: model.predict(npshapenet.crop_face(frame, box, model)),
        "Tracker.update without smoothing": lambda: unsmoothed.update(frame),
        "Tracker.update": lambda: tracker.update(frame),
    }
    seconds = time_in_rounds(calls, _ROUNDS)
    predict = seconds["predict of the crop"]
    print("| call | ms, median | 10th–90th percentile | times predict |\n|---|---|---|---|")
    for name, each in seconds.items():
        summary = summarise(each)
        print(
            f"| {name} | {summary.median * 1e3:.3f} | {summary.low * 1e3:.3f}–"
            f"{summary.high * 1e3:.3f} | {ratio(each, predict).median:.2f} |"
        )
    return 0


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working folder, which -m puts first: the installed package is what is measured.
        del sys.path[0]
    one_core.limit_threads()
    one_core.pin()
    sys.exit(main())
