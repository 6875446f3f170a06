"""The faces file: written, read back, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from reference.data.contact_sheet import draw_sheet, write_sheet
from reference.data.crop import Frame, Geometry, StoredFace
from reference.data.dataset import FacesError, collect, describe, read_faces, write_faces

GEOMETRY = Geometry(32, 8, 1.5)


@pytest.fixture
def faces():
    """Three faces of 48 × 48."""
    random = np.random.default_rng(0)
    stored = [
        StoredFace(
            random.integers(0, 256, (48, 48), dtype=np.uint8),
            random.uniform(8, 40, (68, 2)).astype(np.float32),
            f"bär/{k}.png#0",
            (1.5, 2.0, 30.0, 40.0),
            Frame(-3, 4, 60),
            (0.0, -5.0, 50.0, 60.5),
        )
        for k in range(3)
    ]
    source = {"labels": "labels.xml", "title": "synthetic", "faces": 3}
    return collect(stored, describe(GEOMETRY, 7, [source], {"missing image": 2}))


def test_read_back(faces, tmp_path):
    write_faces(tmp_path / "faces.npz", faces)
    back = read_faces(tmp_path / "faces.npz")
    for name in ("crops", "landmarks", "names", "boxes", "crop_frames", "photo_edges"):
        one, other = getattr(faces, name), getattr(back, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert back.meta == faces.meta
    assert back.geometry == GEOMETRY
    assert len(back) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["faces.npz"]


def altered(faces, tmp_path, **changes):
    """Write the faces' arrays with some replaced, or left out where None."""
    write_faces(tmp_path / "faces.npz", faces)
    with np.load(tmp_path / "faces.npz") as file:
        arrays = {**file, **changes}
    kept = {key: value for key, value in arrays.items() if value is not None}
    np.savez(tmp_path / "faces.npz", **kept)
    return tmp_path / "faces.npz"


def meta_text(faces, **changes):
    return np.array(json.dumps({**faces.meta, **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crops": None}, "no array crops"),
        ({"landmarks": np.zeros((3, 68, 2))}, "landmarks is float64"),
        ({"landmarks": np.full((3, 68, 2), np.nan, np.float32)}, "aren't finite"),
        ({"boxes": np.zeros((2, 4), np.float32)}, r"boxes is float32 \(2, 4\); accepted"),
        ({"names": np.zeros(3)}, "names is float64"),
        ({"crops": np.zeros((3, 40, 40), np.uint8)}, "crops is uint8"),
        ({"names": np.array(["a", 1, None], dtype=object)}, "not a faces file"),
        ({"meta": None}, "not a faces file"),
        ({"meta": np.array("{")}, "not a faces file"),
        ({"meta": np.array("[]")}, "format version None"),
    ],
)
def test_files_that_do_not_hold_together(changes, says, faces, tmp_path):
    with pytest.raises(FacesError, match=says):
        read_faces(altered(faces, tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"format_version": 2}, "version 2; accepted: 1"), ({"side_px": "x"}, "side_px is 'x'")],
)
def test_meta_of_another_kind(changes, says, faces, tmp_path):
    with pytest.raises(FacesError, match=says):
        read_faces(altered(faces, tmp_path, meta=meta_text(faces, **changes)))


def test_other_files(tmp_path):
    with pytest.raises(FacesError, match="no such file"):
        read_faces(tmp_path / "none.npz")
    for content in (b"", b"text", b"PK\x03\x04 cut off"):
        (tmp_path / "faces.npz").write_bytes(content)
        with pytest.raises(FacesError, match=r"faces\.npz: not a faces file"):
            read_faces(tmp_path / "faces.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(FacesError, match="not a faces file"):
        read_faces(tmp_path / "single.npy")


def test_sheet_shows_points_where_they_are(faces, tmp_path):
    """On black crops the sheet is coloured at the points, and dark away from them."""
    faces.crops[:] = 0
    faces.landmarks[:] = 24.0
    sheet = np.asarray(draw_sheet(faces, columns=2, rows=2)).astype(int)
    zoom = 336 // 48
    for tile_x, tile_y in ((0, 0), (340, 0), (0, 354)):
        tile = sheet[tile_y : tile_y + 336, tile_x : tile_x + 336]
        inner = tile[9 * zoom : 39 * zoom, 9 * zoom : 39 * zoom].sum(axis=2)
        y, x = np.nonzero(inner)
        assert abs(x.mean() + 9 * zoom - ((24 + 0.5) * zoom - 0.5)) < 1
        assert abs(y.mean() + 9 * zoom - ((24 + 0.5) * zoom - 0.5)) < 1
        assert (tile[8 * zoom, 8 * zoom : 40 * zoom] == 255).all()
    assert not sheet[354:, 340:].any()


def test_sheet_is_written_as_png(faces, tmp_path):
    write_sheet(tmp_path / "faces.png", faces)
    with Image.open(tmp_path / "faces.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (3 * 340 - 4, 336 + 14)
