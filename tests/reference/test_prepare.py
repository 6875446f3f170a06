"""python -m reference.prepare, from labels to the faces file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reference import prepare as command
from reference.data.dataset import read_faces

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
ANGLES = np.arange(68) * (2 * np.pi / 68)
POINTS = 50 + 30 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def image_element(name, boxes=1, parts=68):
    body = "".join(f"<part name='{k}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(POINTS[:parts]))
    box = f"<box left='18' top='15' width='62' height='62'>{body}</box>"
    return f"<image file='{name}'>{box * boxes}</image>"


def write_labels(folder, elements, name="labels.xml"):
    path = folder / name
    path.write_text(f"<dataset><name>Rings</name><images>{''.join(elements)}</images></dataset>")
    return path


@pytest.fixture
def labels(tmp_path):
    """Ten photos, one of them with two boxes."""
    folder = tmp_path / "set"
    folder.mkdir()
    for k in range(10):
        shades = np.random.default_rng(k).integers(0, 256, (100, 110, 3), dtype=np.uint8)
        Image.fromarray(shades).save(folder / f"{k}.png")
    return write_labels(folder, [image_element(f"{k}.png", 2 if k == 3 else 1) for k in range(10)])


def run(*arguments):
    return command.main([str(argument) for argument in arguments])


def test_faces_file_and_sheet(labels, tmp_path, capsys):
    out = tmp_path / "faces.npz"
    assert run(labels, "--out", out) == 0
    faces = read_faces(out)
    assert faces.crops.shape == (11, 168, 168)
    assert sorted(faces.names) == sorted([*(f"{k}.png#0" for k in range(10)), "3.png#1"])
    source = {"labels": "labels.xml", "title": "Rings", "faces": 11}
    assert faces.meta["sources"] == [source]
    assert faces.meta["faces"] == 11
    assert str(tmp_path) not in str(faces.meta)
    assert (tmp_path / "faces.png").is_file()
    assert sorted(os.listdir(tmp_path)) == ["faces.npz", "faces.png", "set"]
    assert "11 faces of 168×168" in capsys.readouterr().out


def test_sizes_and_names_given(labels, tmp_path):
    out, sheet = tmp_path / "f.npz", tmp_path / "other.png"
    options = ("--side", 64, "--margin", 4, "--crop-factor", 1.25, "--sheet", sheet)
    assert run(labels, "--out", out, *options) == 0
    faces = read_faces(out)
    assert faces.crops.shape == (11, 72, 72)
    assert set(faces.crop_frames[:, 2]) == {round(1.25 * 62)}
    assert sheet.is_file()
    assert not (tmp_path / "f.png").exists()


def test_seed_gives_the_order(labels, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(labels, "--out", tmp_path / f"{name}.npz", "--seed", seed) == 0
    one, same, other = (read_faces(tmp_path / f"{name}.npz") for name in "abc")
    np.testing.assert_array_equal(one.names, same.names)
    np.testing.assert_array_equal(one.crops, same.crops)
    assert list(one.names) != list(other.names)
    # The order moves whole faces: each name keeps its crop.
    np.testing.assert_array_equal(
        one.crops[np.argsort(one.names)], other.crops[np.argsort(other.names)]
    )


def test_label_shift_is_kept_in_pixels_of_the_stored_crops(labels, tmp_path):
    out = tmp_path / "faces.npz"
    assert run(labels, "--out", out, "--label-shift-px", 0.5) == 0
    faces = read_faces(out)
    expected = 0.5 * 112 / faces.crop_frames[:, 2]
    np.testing.assert_allclose(faces.label_shifts, expected, rtol=1e-6)
    assert run(labels, "--out", out) == 0
    assert not read_faces(out).label_shifts.any()


def test_several_labels_files(labels, tmp_path):
    pts = tmp_path / "pts"
    pts.mkdir()
    Image.new("L", (100, 100)).save(pts / "a.JPG", format="JPEG")
    (pts / "a.pts").write_text("".join(f"{x} {y}\n" for x, y in POINTS))
    assert run(labels, pts, "--out", tmp_path / "faces.npz") == 0
    faces = read_faces(tmp_path / "faces.npz")
    assert len(faces) == 12
    assert [source["faces"] for source in faces.meta["sources"]] == [11, 1]
    assert faces.meta["sources"][1]["labels"] == "pts"


def break_image(folder, way):
    """Make one label unusable, and return the element that names it and the reason expected."""
    path = folder / "bad.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)).save(
        path
    )
    if way == "truncated image":
        path.write_bytes(path.read_bytes()[:5000])
    elif way == "not an image":
        path.write_text("no image")
    elif way == "missing image":
        path.unlink()
    return image_element("bad.png", parts=60 if way == "missing parts" else 68)


BAD = ["truncated image", "not an image", "missing image", "missing parts"]


@pytest.mark.parametrize("way", BAD)
def test_bad_label_is_one_line_and_status_1(way, labels, tmp_path, capsys):
    bad = break_image(labels.parent, way)
    path = write_labels(labels.parent, [image_element("0.png"), bad, image_element("1.png")])
    out = tmp_path / "faces.npz"
    out.write_bytes(b"old")
    assert run(path, "--out", out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: bad.png#0: {way}: " in line
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["faces.npz", "set"]


def test_skip_bad_names_and_counts(labels, tmp_path, capsys):
    ways = ["missing parts", "not an image", "missing parts"]
    bad = [break_image(labels.parent, way) for way in ways]
    path = write_labels(labels.parent, [*bad, image_element("0.png"), image_element("1.png")])
    (labels.parent / "bad.png").write_text("no image")
    assert run(path, "--out", tmp_path / "faces.npz", "--skip-bad") == 0
    faces = read_faces(tmp_path / "faces.npz")
    assert sorted(faces.names) == ["0.png#0", "1.png#0"]
    assert faces.meta["skipped"] == {"missing parts": 2, "not an image": 1}
    error = capsys.readouterr().err
    assert error.count("skipped: ") == 3
    assert f"skipped: {path}: bad.png#0: not an image" in error
    assert "skipped 3: missing parts 2, not an image 1" in error


def test_nothing_left(labels, tmp_path, capsys):
    path = write_labels(labels.parent, [image_element("none.png")])
    assert run(path, "--out", tmp_path / "faces.npz", "--skip-bad") == 1
    assert "no face left: all 1 labels were skipped" in capsys.readouterr().err
    assert not (tmp_path / "faces.npz").exists()


@pytest.mark.parametrize("skip", [(), ("--skip-bad",)])
def test_labels_file_that_cannot_be_read(skip, labels, tmp_path, capsys):
    labels.write_text("no XML")
    assert run(labels, "--out", tmp_path / "faces.npz", *skip) == 1
    assert f"{labels}: not XML" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("labels.xml",),
        ("labels.xml", "--out", "faces.npy"),
        ("labels.xml", "--out", "none/faces.npz"),
        ("labels.xml", "--out", "faces.npz", "--sheet", "sheet.jpg"),
        ("labels.xml", "--out", "faces.npz", "--side", "8"),
        ("labels.xml", "--out", "faces.npz", "--margin", "-1"),
        ("labels.xml", "--out", "faces.npz", "--crop-factor", "nan"),
        ("labels.xml", "--out", "faces.npz", "--seed", "-1"),
        ("labels.xml", "--out", "faces.npz", "--seed", "x"),
        ("labels.xml", "--out", "faces.npz", "--label-shift-px", "21"),
        ("labels.xml", "--out", "faces.npz", "--label-shift-px", "nan"),
    ],
)
def test_usage(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_failure_while_writing_leaves_the_old_file(labels, tmp_path, monkeypatch, capsys):
    out = tmp_path / "faces.npz"
    out.write_bytes(b"old")

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    assert run(labels, "--out", out) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_interrupted_run_leaves_no_half_file(labels, tmp_path):
    """Ctrl-C in a real process, while it cuts."""
    many = write_labels(labels.parent, [image_element(f"{k % 10}.png") for k in range(2000)])
    arguments = [str(many), "--out", str(tmp_path / "faces.npz")]
    program = (
        "import sys; from reference.prepare import main\n"
        f"print('ready', file=sys.stderr, flush=True); sys.exit(main({arguments!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    time.sleep(0.5)  # until it is at work; reading and cutting take seconds
    process.send_signal(signal.SIGINT)
    message = process.stderr.read()
    assert process.wait(timeout=20) == 130
    assert "Traceback" not in message
    assert "interrupted" in message
    assert os.listdir(tmp_path) == ["set"]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the research sets aren't at {SHARED}")
def test_ibug_s_own_form(tmp_path):
    assert run(SHARED / "data" / "pts_form", "--out", tmp_path / "faces.npz") == 0
    faces = read_faces(tmp_path / "faces.npz")
    assert len(faces) == 8
    inside = (faces.landmarks > 28) & (faces.landmarks < 139)
    assert inside.all()
