"""Crops without a face: what is in them, and that nothing of a face is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reference.data import backgrounds
from reference.data.backgrounds import (
    FAMILIES,
    TESTING_FAMILIES,
    TRAINING_FAMILIES,
    Family,
    background_crops,
    cut_beside_face,
    families_of,
)
from reference.data.face import LabelError, LabelledFace

DRAWN: tuple[Family, ...] = tuple(f for f in FAMILIES if f not in ("photo", "pictures"))


def labelled(box: tuple[float, float, float, float], photo: Path = Path()) -> LabelledFace:
    """A face whose landmarks fill the middle of the box."""
    left, top, right, bottom = box
    rng = np.random.default_rng(0)
    points = rng.uniform((left + 5, top + 5), (right - 5, bottom - 5), (68, 2))
    return LabelledFace(photo, photo.name, box, points)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos whose face is white; everything else is darker."""
    images = []
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 100, (150, 160), np.uint8)
        pixels[50:100, 60:110] = 255
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        parts = "".join(
            f"<part name='{i:02d}' x='{x}' y='{y}'/>"
            for i, (x, y) in enumerate(labelled((60, 50, 110, 100)).landmarks)
        )
        images.append(
            f"<image file='{k}.png'><box left='60' top='50' width='50' height='50'>{parts}</box>"
            "</image>"
        )
    path = tmp_path / "labels.xml"
    path.write_text(f"<dataset><images>{''.join(images)}</images></dataset>")
    return path


def test_training_and_tests_share_photos_alone() -> None:
    assert set(TRAINING_FAMILIES) & set(TESTING_FAMILIES) == {"photo"}
    assert set(TRAINING_FAMILIES) | set(TESTING_FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize("family", DRAWN)
def test_drawn_families_vary(family: Family) -> None:
    crops = background_crops(None, 12, 40, 3, (family,))
    assert crops.dtype == np.uint8
    assert crops.shape == (12, 40, 40)
    assert len({crop.tobytes() for crop in crops}) > 10
    has_detail = crops.reshape(12, -1).std(axis=1) > 1
    assert has_detail.sum() == (0 if family == "flat" else 12) or family == "gradient"


def test_families_come_in_turn() -> None:
    families: tuple[Family, ...] = ("flat", "noise", "flat")
    crops = background_crops(None, 7, 32, 0, families)
    assert families_of(7, families) == ["flat", "noise", "flat"] * 2 + ["flat"]
    assert list(crops.reshape(7, -1).std(axis=1) == 0) == [True, False, True] * 2 + [True]


def test_the_seed_decides(photos: Path) -> None:
    first, again, more, other = (
        background_crops(photos, count, 32, seed)
        for count, seed in ((8, 1), (8, 1), (20, 1), (8, 2))
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, more[:8])
    assert (first != other).any(axis=(1, 2)).all()


def test_cuts_hold_nothing_of_the_face(photos: Path) -> None:
    crops = background_crops(photos, 200, 48, 0, ("photo",))
    assert crops.max() < 110
    assert crops.mean() > 30


@pytest.mark.parametrize(
    ("box", "where"),
    [
        ((40, 0, 120, 100), np.s_[:, :40]),
        ((0, 0, 80, 100), np.s_[:, 80:]),
        ((0, 30, 120, 100), np.s_[:30]),
        ((0, 0, 120, 70), np.s_[70:]),
    ],
)
def test_cuts_come_from_where_there_is_room(
    box: tuple[float, float, float, float], where: tuple[slice, ...]
) -> None:
    photo = np.zeros((100, 120), np.uint8)
    photo[where] = np.arange(1, photo[where].size + 1).reshape(photo[where].shape) % 200 + 1
    for seed in range(100):
        cut = cut_beside_face(photo, labelled(box), np.random.default_rng(seed))
        assert cut is not None
        assert cut.shape[0] == cut.shape[1] >= 24
        assert cut.min() > 0


def test_landmarks_outside_the_box_are_kept_out_too() -> None:
    photo = np.zeros((100, 120), np.uint8)
    face = labelled((40, 0, 120, 100))
    face.landmarks[:, 0] -= face.landmarks[:, 0].min() - 25
    photo[:, :25] = 9
    for seed in range(50):
        cut = cut_beside_face(photo, face, np.random.default_rng(seed))
        assert cut is not None
        assert cut.min() == 9


def test_a_face_that_fills_the_photo_leaves_no_room(photos: Path) -> None:
    photo = np.zeros((100, 120), np.uint8)
    assert cut_beside_face(photo, labelled((10, 10, 110, 90)), np.random.default_rng(0)) is None
    text = photos.read_text().replace("width='50' height='50'", "width='160' height='150'")
    photos.write_text(text.replace("left='60' top='50'", "left='0' top='0'"))
    with pytest.raises(LabelError, match="no photo has room"):
        background_crops(photos, 3, 32, 0, ("photo",))


@pytest.mark.parametrize("families", [(), ("flat", "faces")])
def test_unknown_families_are_refused(families: tuple[Family, ...]) -> None:
    with pytest.raises(ValueError, match=r"accepted: noise, flat, .*pictures"):
        background_crops(None, 3, 32, 0, families)


def test_photos_need_labels() -> None:
    with pytest.raises(ValueError, match="give their labels"):
        background_crops(None, 6, 32, 0, TRAINING_FAMILIES)


def test_pictures_are_scikit_images() -> None:
    pytest.importorskip("skimage", reason="the family pictures cuts scikit-image's")
    crops = background_crops(None, len(backgrounds.PICTURES), 32, 0, ("pictures",))
    assert (crops.reshape(len(crops), -1).std(axis=1) > 0).sum() > 10


def test_pictures_without_scikit_image_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        background_crops(None, 1, 32, 0, ("pictures",))
