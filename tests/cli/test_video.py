"""npshapenet video, on clips made of a demo photo."""

from __future__ import annotations

import csv
import errno
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="videos need OpenCV: pip install '.[opencv]'")

import cv2

import npshapenet
from npshapenet import atomic
from npshapenet.cli import video as command
from npshapenet.cli.demo_photos import read_demo_photo
from npshapenet.video import Video, VideoError, VideoFile

_spec = spec_from_file_location(
    "video_conftest", Path(__file__).parent.with_name("video") / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
odd = module_from_spec(_spec)
_spec.loader.exec_module(odd)

Run = Callable[..., Any]
Terminal = Callable[[], AbstractContextManager[Callable[[], str]]]
NetworkCamera = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """The astronaut, moving to the right by two pixels a frame; half as large."""
    photo = read_demo_photo("astronaut").image.resize((256, 256))
    frames = []
    for index in range(20):
        moved = Image.new("RGB", (320, 256))
        moved.paste(photo, (2 * index, 0))
        frames.append(np.asarray(moved))
    return frames


@pytest.fixture(scope="module")
def clip(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of them."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", frames)


def write_video(path: Path, frames: Iterable[np.ndarray]) -> Path:
    with VideoFile(path, 25) as file:
        for frame in frames:
            file.write(frame)
    return path


@pytest.fixture
def follow(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``follow(clip, "--csv", path)``: with a detector that finds the face of the first frame."""
    photo = read_demo_photo("astronaut")
    box = npshapenet.Box(*(edge / 2 for edge in photo.box.edges))

    def make_tracker(detector: str, model: Any, **settings: Any) -> npshapenet.Tracker:
        boxes = iter([[box]])
        return npshapenet.Tracker(lambda frame: next(boxes, []), model, **settings)

    monkeypatch.setattr(command, "Tracker", make_tracker)
    return lambda *arguments: run("video", "--backend", "numpy", *arguments)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def distance_to_truth(lines: list[dict[str, str]], index: int) -> float:
    """How far off the points of a frame are on average, in pixels."""
    points = [(float(line["x"]), float(line["y"])) for line in lines if line["frame"] == str(index)]
    truth = np.add(read_demo_photo("astronaut").landmarks / 2, (2 * index, 0))
    return float(np.linalg.norm(points - truth, axis=1).mean())


def test_points_of_every_frame(follow: Run, clip: Path, tmp_path: Path) -> None:
    ended = follow(clip, "--csv", tmp_path / "points.csv", "--no-smoothing")
    assert (ended.status, ended.err) == (0, "")
    assert "20 frames, faces: 1, " in ended.out
    lines = rows(tmp_path / "points.csv")
    assert len(lines) == 20 * 68
    assert {line["face"] for line in lines} == {"1"}
    for index in (0, 10, 19):
        frame = [line for line in lines if line["frame"] == str(index)]
        assert float(frame[0]["time_s"]) == pytest.approx(index / 25, abs=1e-3)
        assert [line["region"] for line in frame][::17] == [
            "jaw",
            "right_eyebrow",
            "nose_base",
            "outer_lips",
        ]
        # The model's own error on this small face is half a pixel.
        assert distance_to_truth(lines, index) < 2


def test_the_overlay_has_every_frame(follow: Run, clip: Path, tmp_path: Path) -> None:
    assert follow(clip, "--out", tmp_path / "overlay.mp4").status == 0
    drawn, before = list(Video(tmp_path / "overlay.mp4")), list(Video(clip))
    assert len(drawn) == len(before)
    difference = np.abs(drawn[5].rgb.astype(int) - before[5].rgb)
    face = difference[35:90, 95:145].mean()
    assert face > 3 * difference[150:].mean()


def test_a_part_of_a_video(follow: Run, clip: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.avi"
    part.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    ended = follow(part, "--out", out, "--csv", points)
    assert ended.status == 1
    assert len(ended.err.splitlines()) == 1
    assert "of 20 frames" in ended.err
    assert "all before it is written" in ended.err
    count = len(list(Video(out)))
    assert count >= 5
    assert {int(line["frame"]) for line in rows(points)} == set(range(count))


def test_a_frame_of_another_size(
    follow: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Growing(Video):
        def __iter__(self) -> Any:
            for index, frame in enumerate(super().__iter__()):
                if index == 7:
                    rgb = np.zeros((300, 300, 3), np.uint8)
                    frame = type(frame)(rgb, frame.time_s)
                yield frame

    monkeypatch.setattr(command, "Video", Growing)
    ended = follow(clip, "--csv", tmp_path / "points.csv", "--out", tmp_path / "out.mp4")
    assert ended.status == 1
    assert "the frame is 300×300, those before were 320×256" in ended.err
    assert len(list(Video(tmp_path / "out.mp4"))) == 7
    assert {int(line["frame"]) for line in rows(tmp_path / "points.csv")} == set(range(7))


@pytest.fixture(scope="module")
def varying(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of the frames, of which the seventh comes 0.2 seconds late."""
    path = write_video(tmp_path_factory.mktemp("varying") / "varying.webm", frames[:12])
    odd.delayed_from(path, 6, [40 * index for index in range(12)], 200)
    return path


def test_a_rate_that_varies(follow: Run, varying: Path, tmp_path: Path) -> None:
    """The true times in the table; the overlay keeps them by repetitions, and a line says so."""
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    ended = follow(varying, "--out", out, "--csv", points)
    assert ended.status == 0
    said = re.fullmatch(
        rf"the frame rate varies: {re.escape(str(out))} has (\S+) frames a second, of which "
        r"(\d+) are repetitions, and (\d+) were left out\n",
        ended.err,
    )
    assert said is not None, ended.err
    rate, repeated, left_out = map(float, said.groups())
    times = {int(line["frame"]): float(line["time_s"]) for line in rows(points)}
    expected = [0.04 * index + (0.2 if index >= 6 else 0) for index in range(12)]
    assert list(times.values()) == pytest.approx(expected, abs=1e-3)
    drawn = list(Video(out))
    assert repeated > 0
    assert len(drawn) == 12 + repeated - left_out
    assert len(drawn) / rate == pytest.approx(expected[-1] + 1 / rate, abs=1 / rate)


def test_a_terminal_sees_how_far_it_is(
    follow: Run, varying: Path, terminal: Terminal, tmp_path: Path
) -> None:
    """The bar is gone before anything else is said."""
    with terminal() as sent:
        assert follow(varying, "--out", tmp_path / "out.mp4").status == 0
        bar, _, said = sent().rpartition("\r\x1b[K")
    assert re.search(r"░ frame \d+ of 12, faces: 1, \d+ frames/s", bar)
    assert said.startswith("the frame rate varies: ")


def test_the_rotation_flag(follow: Run, frames: list[np.ndarray], tmp_path: Path) -> None:
    """Stored lying on its side; points and overlay are upright."""
    path = write_video(tmp_path / "rotated.mp4", [np.rot90(frame) for frame in frames])
    odd.rotated_by_90(path, width=256)
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    assert follow(path, "--out", out, "--csv", points, "--no-smoothing").status == 0
    assert {frame.rgb.shape for frame in Video(out)} == {(256, 320, 3)}
    lines = rows(points)
    assert len(lines) == 20 * 68
    assert distance_to_truth(lines, 19) < 2


@pytest.mark.parametrize("failing", ["out.mp4", "points.csv"])
def test_an_output_that_fails_at_its_end_leaves_the_other(
    follow: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Of the overlay by its own check, of the CSV by the disk; what was there before stays."""
    flush = atomic._flush

    def full_disk(path: str) -> None:
        if ".csv." in path:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        flush(path)

    def not_whole(file: VideoFile) -> None:
        raise VideoError(f"{file.path} couldn't be written whole")

    if failing == "out.mp4":
        monkeypatch.setattr(VideoFile, "_check_whole", not_whole)
        message = f"{tmp_path / failing} couldn't be written whole"
    else:
        monkeypatch.setattr(atomic, "_flush", full_disk)
        message = f"{tmp_path / failing} can't be written: No space left on device"
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    whole = points if failing == "out.mp4" else out
    (tmp_path / failing).write_bytes(b"older")
    ended = follow(clip, "--out", out, "--csv", points)
    assert ended.status == 1
    assert ended.err == f"npshapenet: {message}; {whole} is written\n"
    assert (tmp_path / failing).read_bytes() == b"older"
    if whole == points:
        assert {int(line["frame"]) for line in rows(points)} == set(range(20))
    else:
        assert len(list(Video(out))) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "points.csv"]


def test_a_disk_that_is_full_on_the_way_leaves_the_other(
    follow: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends there, and the overlay has all before."""
    lines = command._csv_lines

    def full_disk(number: int, *arguments: Any) -> str:
        if number == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return lines(number, *arguments)

    monkeypatch.setattr(command, "_csv_lines", full_disk)
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    ended = follow(clip, "--out", out, "--csv", points)
    assert ended.status == 1
    message = f"{points} can't be written: No space left on device; {out} is written"
    assert ended.err == f"npshapenet: {message}\n"
    assert len(list(Video(out))) == 8
    assert list(tmp_path.iterdir()) == [out]


def test_a_table_that_can_not_be_begun(
    follow: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names it, not the temporary file that would have become it."""

    def refuse(path: str, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(command, "open", refuse, raising=False)
    points = tmp_path / "points.csv"
    ended = follow(clip, "--csv", points)
    assert ended.status == 1
    assert ended.err == f"npshapenet: {points} can't be written: Permission denied\n"
    assert not list(tmp_path.iterdir())


def test_an_overlay_that_can_not_be_begun_replaces_nothing(
    follow: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise VideoError("out.mp4 can't be written: this OpenCV makes no .mp4")

    monkeypatch.setattr(VideoFile, "_open", refuse)
    points = tmp_path / "points.csv"
    points.write_bytes(b"older")
    ended = follow(clip, "--out", tmp_path / "out.mp4", "--csv", points)
    assert ended.status == 1
    assert ended.err == "npshapenet: out.mp4 can't be written: this OpenCV makes no .mp4\n"
    assert points.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [points]


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_no_video_writes_nothing(run: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    ended = run("video", path, "--csv", tmp_path / "p.csv", "--out", tmp_path / "o.mp4")
    assert ended.status == 1
    assert len(ended.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_no_frame_writes_nothing(follow: Run, tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48)).release()
    ended = follow(path, "--csv", tmp_path / "p.csv", "--out", tmp_path / "o.mp4")
    assert ended.status == 1
    assert "holds no frame" in ended.err
    assert list(tmp_path.iterdir()) == [path]


def test_a_camera_that_is_not_there(run: Run, tmp_path: Path) -> None:
    ended = run("video", "99", "--csv", tmp_path / "points.csv")
    assert ended.status == 1
    assert ended.err == "npshapenet: camera 99: there is no such camera, or it is in use\n"


def test_a_camera_in_the_network(
    follow: Run, frames: list[np.ndarray], network_camera: NetworkCamera, tmp_path: Path
) -> None:
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    with network_camera(frames, interval_s=0.05) as address:
        ended = follow(address, "--out", out, "--csv", points)
    assert ended.status == 1
    assert ended.err.endswith("gives no more frames, after 20; all before it is written\n")
    lines = rows(points)
    assert len(lines) == 20 * 68
    assert {line["face"] for line in lines} == {"1"}
    assert list(Video(out))


def test_a_camera_that_vanishes(
    follow: Run, frames: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unplugged after seven frames: the files have those."""
    left = iter(frames[:7])

    class Camera:
        isOpened = staticmethod(lambda: True)
        get = staticmethod(lambda _: -1.0)
        release = staticmethod(lambda: None)

        def read(self) -> tuple[bool, np.ndarray | None]:
            frame = next(left, None)
            return (False, None) if frame is None else (True, frame[..., ::-1])

    file = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source, *how: Camera() if source == 0 else file(source, *how)
    )
    out, points = tmp_path / "out.mp4", tmp_path / "points.csv"
    ended = follow("0", "--out", out, "--csv", points)
    assert ended.status == 1
    assert ended.err.endswith(
        "npshapenet: camera 0: gives no more frames, after 7; all before it is written\n"
    )
    lines = rows(points)
    assert [int(line["frame"]) for line in lines[::68]] == list(range(7))
    assert list(Video(out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --out, --csv or --show"),
        (["--out", "overlay.gif"], "ends in none of .mp4"),
        (["--csv", "{clip}"], "it would be replaced"),
        (["--csv", "same.mp4", "--out", "same.mp4"], "are the same file"),
        (["--csv", "."], "no plain file"),
        (["--csv", "p.csv", "--detector", "nobody"], "nobody"),
        (["--csv", "p.csv", "--model", "nobody"], "nobody"),
    ],
)
def test_a_wrong_command_line(
    run: Run,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("video", clip, *(argument.format(clip=clip) for argument in arguments))
    assert ended.status == 2
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_show_needs_windows(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "has_windows", lambda: False)
    ended = run("video", clip, "--show")
    assert ended.status == 2
    assert "pip uninstall opencv-python-headless" in ended.err


def test_show_needs_a_display(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "has_windows", lambda: True)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    ended = run("video", clip, "--show")
    assert ended.status == 2
    assert "there is no display" in ended.err


@pytest.mark.parametrize("ending", ["a key", "a key, by GTK", "closed", "the last window closed"])
def test_the_window_ends_it(
    ending: str, follow: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key q, or its closing, which the next frame would undo; Qt has no property then, and GTK
    never has."""
    frames = itertools.count()

    def visible(name: str, prop: int) -> float:
        if ending == "a key, by GTK":
            return -1.0
        if next(frames) < 2 or ending == "a key":
            return 1.0
        if ending == "closed":
            return 0.0
        raise cv2.error("NULL guiReceiver (please create a window)")

    keys = iter([-1, -1, ord("q") if ending.startswith("a key") else -1])
    monkeypatch.setattr(command, "_check_windows", lambda: None)
    monkeypatch.setattr("cv2.imshow", lambda name, frame: None)
    monkeypatch.setattr("cv2.waitKey", lambda ms: next(keys))
    monkeypatch.setattr("cv2.getWindowProperty", visible)
    monkeypatch.setattr("cv2.destroyAllWindows", lambda: None)
    ended = follow(clip, "--show", "--csv", tmp_path / "points.csv")
    assert ended.status == 0
    assert {line["frame"] for line in rows(tmp_path / "points.csv")} == {"0", "1", "2"}


_SLOWLY = """\
import sys, time
import npshapenet
from npshapenet.cli import main, video

def make(detector, model, **settings):
    tracker = npshapenet.Tracker(lambda frame: [(90, 40, 130, 80)], model, **settings)
    update = tracker.update
    def slowly(*arguments):
        print("frame", flush=True)
        time.sleep(0.1)
        return update(*arguments)
    tracker.update = slowly
    return tracker

video.Tracker = make
sys.exit(main(sys.argv[1:]))
"""


def follow_slowly_to_frame_4(source: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ended by Ctrl-C in its fourth frame, with out.mp4 and points.csv; what it said then."""
    words = ["--out", folder / "out.mp4", "--csv", folder / "points.csv"]
    command = ["video", "--backend", "numpy", source, *words]
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for _ in range(4):
        assert process.stdout.readline() == "frame\n"
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_complete_files(clip: Path, tmp_path: Path) -> None:
    ended = follow_slowly_to_frame_4(clip, tmp_path)
    assert ended.returncode == 130
    assert ended.stderr == "npshapenet: interrupted at frame 4; all before it is written\n"
    assert len(list(Video(tmp_path / "out.mp4"))) == 4
    assert {int(line["frame"]) for line in rows(tmp_path / "points.csv")} == set(range(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "points.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_the_end_of_a_camera(
    frames: list[np.ndarray], network_camera: NetworkCamera, tmp_path: Path
) -> None:
    """With status 0, and complete files: one that would go on for minutes."""
    with network_camera(frames * 100, interval_s=0.05) as address:
        ended = follow_slowly_to_frame_4(address, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"camera {address}: 4 frames, faces: 1, ")
    # That the rate varies may be said, but nothing of an interruption.
    assert "npshapenet:" not in ended.stderr
    assert {int(line["frame"]) for line in rows(tmp_path / "points.csv")} == set(range(4))
    assert list(Video(tmp_path / "out.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "points.csv"]


def test_without_opencv(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ImportError("videos need OpenCV: pip install it")

    monkeypatch.setattr(command, "silence", fail)
    ended = run("video", clip, "--csv", tmp_path / "points.csv")
    assert (ended.status, ended.err) == (2, "npshapenet: videos need OpenCV: pip install it\n")
