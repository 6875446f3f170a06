"""npshapenet video: the landmarks of the faces in a video, or before a camera."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from npshapenet.atomic import replacement
from npshapenet.cli.arguments import add_model_arguments, examples, open_model
from npshapenet.cli.errors import FAILED, INTERRUPTED, USAGE, CommandError, reason
from npshapenet.cli.files import make_folder
from npshapenet.cli.interruption import noted_interruption
from npshapenet.cli.progress import Progress
from npshapenet.cli.results import region_names
from npshapenet.faces import Face
from npshapenet.smoothing import DEFAULT_SMOOTHING
from npshapenet.tracking import Tracker
from npshapenet.video.errors import VideoError
from npshapenet.video.opencv import INSTALL_WINDOWS, has_windows, import_cv2, silence
from npshapenet.video.overlay import draw_faces
from npshapenet.video.reading import Frame, Video
from npshapenet.video.writing import CODECS, VideoFile

_DESCRIPTION: Final = """\
Follow the faces in a video, or before a camera (0 is the first; one in the network by its
address), from frame to frame: each keeps its number, and its points are steadied by a One-Euro
filter. Needs OpenCV (the extra opencv).
"""

_EPILOG: Final = f"""\
--out draws the landmarks into a copy of the video, without its sound; its ending says its form:
{", ".join(CODECS)}. --csv has a line a point: frame (from 0), time in seconds, face, point,
region, x, y; coordinates as of npshapenet predict. --show needs OpenCV's wheel with windows; q,
Esc or closing the window ends it.

Ctrl-C ends it after the current frame, with complete files. What can't be read to its end (a
truncated file, a frame of another size, a camera that vanishes) gets a line on the error output
and the exit status 1; the files then hold all that came before. Exit status: 0 done; 1 failed; 2 a
wrong command line; 130 a file was interrupted by Ctrl-C, which for a camera is the usual end (0).
"""

_EXAMPLES: Final = (
    "npshapenet video talk.mp4 --out talk-landmarks.mp4",
    "npshapenet video talk.mp4 --csv talk.csv --detector opencv",
    "npshapenet video 0 --show",
    "npshapenet video rtsp://192.168.1.20/stream --csv door.csv",
)

_CSV_HEAD: Final = "frame,time_s,face,point,region,x,y\n"
_WINDOW: Final = "npshapenet"
_KEYS_TO_END: Final = (ord("q"), 27)

#: What is done with each frame and the faces in it; False: enough.
Output = Callable[[Frame, list[Face]], bool]

#: Why files couldn't be written: a line each.
Failures = dict[Path, str]


def add_to(subcommands: Any) -> None:
    """Add the subcommand to npshapenet's parser."""
    parser = subcommands.add_parser(
        "video",
        help="follow the faces in a video or before a camera",
        description=_DESCRIPTION,
        epilog=f"{_EPILOG}\n{examples(_EXAMPLES)}",
    )
    parser.add_argument(
        "source", metavar="FILE|CAMERA", help="a video file, a camera's number or address"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="the video with the landmarks")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="the landmarks of every frame")
    parser.add_argument("--show", action="store_true", help="show it in a window")
    parser.add_argument(
        "--detector",
        choices=("auto", "dlib", "opencv"),
        default="auto",
        help="what finds new faces; default: the first of dlib and opencv that is installed",
    )
    parser.add_argument(
        "--no-smoothing", action="store_true", help="leave the points as each frame gives them"
    )
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do it, and return the exit status."""
    _check(arguments)
    model = open_model(arguments.model, arguments.backend)
    smoothing = None if arguments.no_smoothing else DEFAULT_SMOOTHING
    try:
        tracker = Tracker(arguments.detector, model, smoothing=smoothing)
        source = arguments.source
        video = Video(int(source) if _is_camera(source) else source)
    except (ImportError, VideoError) as error:
        status = FAILED if isinstance(error, VideoError) else USAGE
        raise CommandError(reason(error), status) from error
    except ValueError as error:
        raise CommandError(reason(error), USAGE) from error
    with video:
        return _follow(video, tracker, arguments)


def _check(arguments: argparse.Namespace) -> None:
    """CommandError for what can't be done, before any work is."""
    targets = [path for path in (arguments.out, arguments.csv) if path is not None]
    if not targets and not arguments.show:
        raise CommandError("nothing to do: give --out, --csv or --show", USAGE)
    if arguments.out is not None and arguments.out.suffix.lower() not in CODECS:
        raise CommandError(f"--out {arguments.out} ends in none of {', '.join(CODECS)}", USAGE)
    places = [os.path.realpath(path) for path in targets]
    if os.path.realpath(arguments.source) in places:
        raise CommandError(f"{arguments.source} is read: it would be replaced", USAGE)
    if len(set(places)) < len(places):
        raise CommandError("--out and --csv are the same file", USAGE)
    for path in targets:
        if path.exists() and not path.is_file():
            raise CommandError(f"{path} is no plain file, and can't be replaced by one", USAGE)
    try:
        silence()
    except ImportError as error:
        raise CommandError(reason(error), USAGE) from error
    if arguments.show:
        _check_windows()
    for path in targets:
        make_folder(path.parent)


def _check_windows() -> None:
    if not has_windows():
        raise CommandError(
            f"--show: this OpenCV is a wheel without windows: {INSTALL_WINDOWS}", USAGE
        )
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        # OpenCV would end the process.
        raise CommandError("--show: there is no display here (DISPLAY isn't set)", USAGE)


def _is_camera(source: str) -> bool:
    return source.isascii() and source.isdigit()


def _follow(video: Video, tracker: Tracker, arguments: argparse.Namespace) -> int:
    problems: list[str] = []
    failures: Failures = {}
    ids: set[int | None] = set()
    progress = Progress(video.frame_count)
    with noted_interruption() as interruption, ExitStack() as stack:
        outputs = [stack.enter_context(output) for output in _outputs(video, arguments, failures)]
        # Before the outputs end, which may have something to say.
        stack.callback(progress.end)
        for frame, faces in _followed(video, tracker, problems):
            ids.update(face.id for face in faces)
            progress.step(len(faces))
            wants_more = [output(frame, faces) for output in outputs]
            if interruption.came or not all(wants_more):
                break
        if progress.frames == 0:
            raise CommandError(problems[0])
        if progress.frames == 1 and failures:
            # Nothing is lost yet: better what was there before than a file of one frame.
            raise CommandError("; ".join(failures.values()))
    print(
        f"{video.name}: {progress.frames} frames, faces: {len(ids)}, "
        f"{progress.frames_per_second:.0f} frames/s"
    )
    kept = _kept(arguments, failures)
    if problems or failures:
        raise CommandError("; ".join([*problems, *failures.values()]) + kept)
    if interruption.came and not video.is_camera:
        raise CommandError(f"interrupted at frame {progress.frames}{kept}", INTERRUPTED)
    return 0


def _followed(
    video: Video, tracker: Tracker, problems: list[str]
) -> Iterator[tuple[Frame, list[Face]]]:
    """Each frame and its faces; what ends them before the video's end is added to ``problems``."""
    frames = iter(video)
    while True:
        try:
            frame = next(frames)
            faces = tracker.update(frame.rgb, frame.time_s)
        except StopIteration:
            return
        except VideoError as error:
            problems.append(reason(error))
            return
        except ValueError as error:
            problems.append(f"{video.name}: {reason(error)}")
            return
        yield frame, faces


def _outputs(
    video: Video, arguments: argparse.Namespace, failures: Failures
) -> Iterator[AbstractContextManager[Output]]:
    if arguments.csv is not None:
        yield _by_itself(_csv_output(arguments.csv), arguments.csv, failures)
    if arguments.out is not None:
        overlay = _video_output(arguments.out, video.frames_per_second)
        yield _by_itself(overlay, arguments.out, failures)
    if arguments.show:
        yield _window_output()


@contextmanager
def _by_itself(
    output: AbstractContextManager[Output], path: Path, failures: Failures
) -> Iterator[Output]:
    """The output to ``path``: should it fail, ``failures`` has why, and the others end whole."""

    def write(frame: Frame, faces: list[Face]) -> bool:
        try:
            return write_or_fail(frame, faces)
        except (VideoError, OSError) as error:
            failures[path] = _told(path, error)
            return False

    with ExitStack() as stack:
        try:
            write_or_fail = stack.enter_context(output)
        except OSError as error:
            raise CommandError(_told(path, error)) from error
        yield write
        try:
            with stack.pop_all():
                if path in failures:
                    raise VideoError(failures[path])
        except (VideoError, OSError) as error:
            failures[path] = _told(path, error)


def _told(path: Path, error: VideoError | OSError) -> str:
    """Why the file couldn't be written, with its name, which a VideoError has already."""
    if isinstance(error, VideoError):
        return reason(error)
    return f"{path} can't be written: {reason(error)}"


def _kept(arguments: argparse.Namespace, failures: Failures) -> str:
    """The end of a message: what is written all the same."""
    whole = [path for path in (arguments.csv, arguments.out) if path and path not in failures]
    if failures:
        return "".join(f"; {path} is written" for path in whole)
    return "; all before it is written" if whole else ""


@contextmanager
def _csv_output(path: Path) -> Iterator[Output]:
    with (
        replacement(os.path.realpath(path)) as temporary,
        open(temporary, "x", encoding="ascii", newline="") as file,
    ):
        file.write(_CSV_HEAD)
        numbers = itertools.count()

        def write(frame: Frame, faces: list[Face]) -> bool:
            number = next(numbers)
            file.write("".join(_csv_lines(number, frame.time_s, face) for face in faces))
            return True

        yield write


def _csv_lines(number: int, time_s: float, face: Face) -> str:
    start = f"{number},{time_s:.6f},{face.id}"
    regions = region_names(len(face.landmarks))
    points = zip(regions, face.landmarks.tolist(), strict=True)
    return "".join(
        f"{start},{point},{region},{x:.3f},{y:.3f}\n"
        for point, (region, (x, y)) in enumerate(points)
    )


@contextmanager
def _video_output(path: Path, frames_per_second: float) -> Iterator[Output]:
    with VideoFile(path, frames_per_second) as file:

        def write(frame: Frame, faces: list[Face]) -> bool:
            file.write(draw_faces(frame.rgb, faces), frame.time_s)
            return True

        yield write
    if file.repeated or file.left_out:
        print(
            f"the frame rate varies: {path} has {frames_per_second:g} frames a second, of which "
            f"{file.repeated} are repetitions, and {file.left_out} were left out",
            file=sys.stderr,
        )


@contextmanager
def _window_output() -> Iterator[Output]:
    cv2 = import_cv2()
    was_open = False

    def show(frame: Frame, faces: list[Face]) -> bool:
        cv2.imshow(_WINDOW, np.ascontiguousarray(draw_faces(frame.rgb, faces)[..., ::-1]))
        is_ended = cv2.waitKey(1) & 0xFF in _KEYS_TO_END
        return not is_ended and not is_closed()

    def is_closed() -> bool:
        """Whether the user closed the window, which the next frame would open again.

        GTK never says that a window is open; then none counts as closed.
        """
        nonlocal was_open
        try:
            is_open = cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # what Qt says where the last window was closed
            is_open = False
        was_open = was_open or is_open
        return was_open and not is_open

    try:
        yield show
    finally:
        cv2.destroyAllWindows()
