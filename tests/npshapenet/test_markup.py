"""The 68 points: tables that must agree with each other, and with real faces."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from npshapenet import markup
from reference.data import markup as reference_markup
from reference.data import mirror


def test_regions_hold_every_point_once():
    points = [index for region in markup.REGIONS.values() for index in region]
    assert points == list(range(markup.LANDMARK_COUNT))
    assert set(markup.REGIONS) > markup.CLOSED_REGIONS


def test_regions_cannot_be_changed():
    with pytest.raises(TypeError):
        markup.REGIONS["jaw"] = ()
    with pytest.raises(ValueError, match="read-only"):
        markup.REGIONS["jaw"][0] = 5


def test_a_region_is_an_index():
    landmarks = np.arange(136).reshape(68, 2)
    assert landmarks[markup.REGIONS["nose_bridge"]].tolist() == landmarks[27:31].tolist()


def test_mirror_is_its_own_inverse():
    assert [markup.MIRROR[index] for index in markup.MIRROR] == list(range(markup.LANDMARK_COUNT))


@pytest.mark.parametrize("region", markup.REGIONS)
def test_mirror_takes_right_to_left(region):
    other = region.replace("right", "LEFT").replace("left", "right").replace("LEFT", "left")
    mirrored = {markup.MIRROR[index] for index in markup.REGIONS[region]}
    assert mirrored == set(markup.REGIONS[other])


def test_corners():
    assert markup.MIRROR[markup.RIGHT_EYE_OUTER_CORNER] == markup.LEFT_EYE_OUTER_CORNER


def test_on_real_faces(shared_data):
    labels = ElementTree.parse(shared_data / "300w" / "train" / "labels.xml")
    faces = []
    for box in labels.iter("box"):
        parts = sorted(box.iter("part"), key=lambda part: part.attrib["name"])
        points = np.array([complex(*(float(part.attrib[axis]) for axis in "xy")) for part in parts])
        right, left = points[[markup.RIGHT_EYE_OUTER_CORNER, markup.LEFT_EYE_OUTER_CORNER]]
        # The subject's right eye is at the left of the picture, if the head isn't upside down.
        assert right.real < left.real
        faces.append((points - (right + left) / 2) / (left - right))
    mean = np.mean(faces, axis=0)
    # The mean face is symmetrical about x = 0; wrong pairs would be off by 0.05 and more.
    mirrored = -mean[list(markup.MIRROR)].conj()
    assert np.abs(mirrored - mean).max() < 0.02


def test_training_mirrors_and_measures_by_the_same_points():
    """Neither package imports the other, so each has its own table."""
    assert mirror.MIRROR == markup.MIRROR
    corners = markup.RIGHT_EYE_OUTER_CORNER, markup.LEFT_EYE_OUTER_CORNER
    assert reference_markup.IBUG68.scale_points == corners
