"""Clips whose truth moves along, and the jitter and lag measured on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lxml")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")

from reference import tracked_steadiness as steadiness
from reference.clips import MOTIONS, Clip
from reference.tracked_clips import figures

FRAMES = 75


@pytest.fixture
def clip(rng: np.random.Generator) -> Clip:
    """68 soft dots on black, well apart."""
    places = np.stack(np.meshgrid(np.arange(9), np.arange(8)), axis=-1).reshape(-1, 2)[:68]
    landmarks = 50.0 + 12 * places
    rows, columns = np.mgrid[:200, :200]
    dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4) for x, y in landmarks]
    photo = np.rint(255 * np.clip(np.sum(dots, axis=0), 0, 1)).astype(np.uint8)
    return Clip(photo, (50, 50, 150, 150), landmarks, MOTIONS["still"], FRAMES, 0.0, 0)


def moved(clip: Clip, name: str) -> Clip:
    return Clip(clip.photo, clip.box, clip.landmarks, MOTIONS[name], FRAMES, 0.0, 0)


@pytest.mark.parametrize("name", MOTIONS)
def test_the_truth_moves_with_the_picture(clip: Clip, name: str) -> None:
    moving = moved(clip, name)
    for index, frame in enumerate(moving.frames()):
        if index % 10:
            continue
        for x, y in moving.truth(index)[::5]:
            left, top = round(x) - 3, round(y) - 3
            patch = frame[top : top + 7, left : left + 7].astype(float)
            rows, columns = np.mgrid[top : top + 7, left : left + 7]
            found = (patch * columns).sum() / patch.sum(), (patch * rows).sum() / patch.sum()
            # Rounding to gray levels and what bicubic cuts off below black.
            assert found == pytest.approx((x, y), abs=0.25)


def test_noise_is_seeded(clip: Clip) -> None:
    noisy = [Clip(clip.photo, clip.box, clip.landmarks, clip.motion, 3, 4.0, 7) for _ in range(2)]
    first, second = (list(each.frames()) for each in noisy)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("name", ["slow drift", "quick shake", "zoom", "turn"])
@pytest.mark.parametrize("lag", [0.0, 0.5, 2.0])
def test_a_lag_is_found(clip: Clip, name: str, lag: float) -> None:
    moving = moved(clip, name)
    late = np.array([moving.truth(frame - lag) for frame in range(FRAMES)])
    got = figures(moving, late)
    assert got.lag_frames == pytest.approx(lag, abs=0.026)
    assert got.jitter < 0.05


def test_jitter_is_relative_to_the_eyes(clip: Clip, rng: np.random.Generator) -> None:
    unit_px = np.linalg.norm(clip.landmarks[36] - clip.landmarks[45]) / 100
    noise = rng.normal(0, 0.5 * unit_px, (FRAMES, 68, 2))
    got = figures(clip, clip.landmarks + np.array([3.0, 0.0]) + noise)
    assert got.jitter == pytest.approx(0.5 * np.sqrt(2), rel=0.05)
    assert got.step == pytest.approx(1.0, rel=0.05)
    assert np.isnan(got.lag_frames)


def test_the_command(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = str(shared_data / "300w" / "common" / "labels.xml")
    plot = tmp_path / "steadiness.png"
    words = ["--labels", labels, "--faces", "1", "--frames", "60", "--plot", str(plot)]
    assert steadiness.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * len(MOTIONS)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steadiness.main(["--labels", str(tmp_path / "labels.xml")]) == 1
    assert "no such file" in capsys.readouterr().err
