"""Augmentation: landmarks follow the picture, the border is hidden, nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="augmentation is PyTorch's")

import torch

from npshapenet.image import crop_face, resize
from npshapenet.markup import MIRROR as THEIR_MIRROR
from reference.data.augment import Augmentation, Batch, augment, mirrored, network_landmarks
from reference.data.crop import Geometry, store_face
from reference.data.face import LabelledFace
from reference.data.mirror import MIRROR

SIDE, STORED = 112, 168
MARGIN = (STORED - SIDE) // 2

STRONG = Augmentation(
    mirror_share=0.5,
    turn_std_deg=20,
    wide_share=0.5,
    wide_turn_deg=90,
    scale_std=0.15,
    shift_std=0.1,
    brightness=0.5,
    contrast=0.8,
    gamma=0.8,
    blur_share=0.5,
    noise_std=0.3,
    occlusion_share=0.5,
    border_trim_share=0.5,
    border_fill_share=0.5,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def faces_batch(template, crops, photo_edges=(-500.0, -500.0, 700.0, 700.0)):
    """The template's points on every crop; the photo reaches far beyond it unless said."""
    count = len(crops)
    points = torch.from_numpy(template * 28 + (STORED - 1) / 2).float()
    return Batch(
        torch.as_tensor(crops),
        points.repeat(count, 1, 1),
        torch.tensor([photo_edges]).repeat(count, 1),
    )


@pytest.fixture
def noise_batch(template, rng):
    """Twelve crops of noise."""
    return faces_batch(template, rng.integers(0, 256, (12, STORED, STORED), dtype=np.uint8))


@pytest.fixture(scope="module")
def dots_batch(template):
    """For every landmark a crop with one bright dot, where that landmark is."""
    empty = torch.zeros(68, STORED, STORED, dtype=torch.uint8)
    batch = faces_batch(template, empty)
    places = torch.arange(STORED)
    centres = batch.landmarks[torch.arange(68), torch.arange(68)]
    across = torch.exp(-((places - centres[:, :1]) ** 2) / 8)
    down = torch.exp(-((places - centres[:, 1:]) ** 2) / 8)
    dots = (255 * down[:, :, None] * across[:, None, :]).round().to(torch.uint8)
    return dataclasses.replace(batch, crops=dots)


def dot_positions(images):
    """The centre of light (N, 2) of images (N, 1, side, side), in the network's coordinates."""
    light = images[:, 0].clamp_min(0.03) - 0.03
    centres = (torch.arange(SIDE) + 0.5) * (2 / SIDE) - 1
    total = light.sum(dim=(1, 2))
    x = (light.sum(dim=1) * centres).sum(dim=1) / total
    y = (light.sum(dim=2) * centres).sum(dim=1) / total
    return torch.stack([x, y], dim=1)


def test_identity_gives_the_middle_of_the_stored_crop(noise_batch):
    images, landmarks = augment(noise_batch, SIDE, Augmentation(), generator())
    middle = noise_batch.crops[:, MARGIN:-MARGIN, MARGIN:-MARGIN].float() / 255
    # Sampled at pixel centres, but for float32's rounding of their places.
    torch.testing.assert_close(images[:, 0], middle, rtol=0, atol=2e-4)
    pixels = (landmarks + 1) / 2 * SIDE - 0.5 + MARGIN
    torch.testing.assert_close(pixels, noise_batch.landmarks, rtol=0, atol=1e-4)
    torch.testing.assert_close(landmarks, network_landmarks(noise_batch, SIDE))


@pytest.mark.parametrize("box_side", [40, 75, 200], ids=["enlarged", "as it is", "shrunk"])
def test_identity_gives_what_inference_gives(template, rng, box_side):
    """Training sees what ``crop_face`` and ``resize`` show the network on the photo."""
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40), dtype=np.uint8))
    photo = np.asarray(coarse.resize((400, 300), Image.Resampling.BICUBIC))
    box = (150.0, 40.0, 150.0 + box_side, 40.0 + box_side)
    points = template * (box_side / 2.2) + [box[0] + box_side / 2, box[1] + box_side / 2]
    stored = store_face(LabelledFace(None, "a", box, points), photo, Geometry())
    batch = Batch(
        torch.from_numpy(stored.crop)[None],
        torch.from_numpy(stored.landmarks)[None],
        torch.tensor([stored.photo_edges]),
    )
    images, landmarks = augment(batch, SIDE, Augmentation(), generator())

    crop = crop_face(photo, box, 1.5)
    side = crop.gray.shape[0]
    expected = resize(crop.gray, SIDE, SIDE) / 255
    # At the edge inference's filter ends with the crop, and the stored crop goes on.
    rim = int(np.ceil(max(1, SIDE / side)))
    inner = slice(rim, -rim)
    # Stored crops are rounded to whole gray levels.
    np.testing.assert_allclose(
        images[0, 0].numpy()[inner, inner], expected[inner, inner], atol=0.51 / 255
    )
    in_crop = (landmarks[0].numpy() + 1) / 2 * side - 0.5
    np.testing.assert_allclose(crop.to_photo(in_crop), points, atol=1e-3)


def test_moved_faces_are_the_same_faces_elsewhere(noise_batch):
    """Whatever else is done to them, moved by whole pixels they are cut from the same picture."""
    settings = Augmentation(mirror_share=0.5, turn_std_deg=20, scale_std=0.1, shift_std=0.05)
    moved_px = torch.tensor([[3.0, -2.0]]).expand(12, 2)
    images, landmarks = augment(noise_batch, SIDE, settings, generator())
    again, moved = augment(noise_batch, SIDE, settings, generator(), moved_px)
    torch.testing.assert_close(moved - landmarks, (moved_px * 2 / SIDE)[:, None].expand(12, 68, 2))
    torch.testing.assert_close(again[:, :, :-2, 3:], images[:, :, 2:, :-3], rtol=0, atol=1e-3)


@pytest.mark.parametrize("mirror_share", [0.0, 1.0], ids=["as it is", "mirrored"])
@pytest.mark.parametrize("blur_share", [0.0, 1.0], ids=["sharp", "blurred"])
def test_landmarks_follow_the_picture(dots_batch, mirror_share, blur_share):
    """A dot drawn at a landmark is where the landmark is afterwards, to 0.3 px."""
    settings = Augmentation(
        mirror_share=mirror_share,
        turn_std_deg=15,
        wide_share=0.5,
        wide_turn_deg=90,
        scale_std=0.15,
        shift_std=0.05,
        blur_share=blur_share,
    )
    every = torch.arange(68)
    # In a mirrored picture the same place is another of the subject's points.
    named = torch.tensor(MIRROR) if mirror_share else every
    for seed in range(3):
        images, landmarks = augment(dots_batch, SIDE, settings, generator(seed))
        expected = landmarks[every, named]
        is_inside = (expected.abs() < 0.85).all(dim=1)
        assert is_inside.float().mean() > 0.6
        distances_px = (dot_positions(images) - expected)[is_inside].norm(dim=1) * SIDE / 2
        assert distances_px.max() < 0.3
        # And they did move.
        before = network_landmarks(dots_batch, SIDE)[every, every]
        assert (expected - before).norm(dim=1).median() * SIDE / 2 > 5


def test_shifted_labels_are_as_far_right_in_a_mirrored_picture(dots_batch):
    """Labels that lie 1.5 pixels right of the dots do so whether mirrored or not."""
    shift_px = 1.5
    labels = dots_batch.landmarks + torch.tensor([shift_px, 0.0])
    shifted = dataclasses.replace(
        dots_batch, landmarks=labels, label_shifts=torch.full((68,), shift_px)
    )
    every = torch.arange(68)
    for mirror_share, named in ((0.0, every), (1.0, torch.tensor(MIRROR))):
        settings = Augmentation(mirror_share=mirror_share)
        images, landmarks = augment(shifted, SIDE, settings, generator())
        beside_px = (landmarks[every, named] - dot_positions(images)) * (SIDE / 2)
        is_inside = (landmarks[every, named].abs() < 0.85).all(dim=1)
        expected = torch.tensor([shift_px, 0.0]).expand_as(beside_px)
        torch.testing.assert_close(beside_px[is_inside], expected[is_inside], rtol=0, atol=0.1)


def test_each_change_is_as_large_as_it_says(template):
    """Turn, scale, shift and mirroring are read off the landmarks of 4000 faces."""
    batch = faces_batch(template, torch.zeros(4000, 1, 1, dtype=torch.uint8))
    # One pixel stands for the stored crop: only the landmarks matter here.
    batch = dataclasses.replace(batch, landmarks=batch.landmarks / STORED - 0.5)
    settings = Augmentation(mirror_share=0.3, turn_std_deg=10, scale_std=0.1, shift_std=0.05)
    _, landmarks = augment(batch, 1, settings, generator())
    right_eye, left_eye = landmarks[:, 36:42].mean(dim=1), landmarks[:, 42:48].mean(dim=1)
    assert (right_eye[:, 0] < left_eye[:, 0]).float().mean() > 0.99
    x, y = (left_eye - right_eye).T
    turns_deg = torch.rad2deg(torch.atan2(y, x))
    assert turns_deg.std().item() == pytest.approx(10, rel=0.06)
    unturned = network_landmarks(batch, 1)[0]
    eyes = (unturned[42:48].mean(dim=0) - unturned[36:42].mean(dim=0)).norm()
    assert torch.log(torch.hypot(x, y) / eyes).std().item() == pytest.approx(0.1, rel=0.06)


def test_mirror_renumbers_the_points(noise_batch):
    """Left stays the subject's left; twice mirrored is unchanged."""
    images, landmarks = augment(noise_batch, SIDE, Augmentation(mirror_share=1.0), generator())
    plain_images, plain = augment(noise_batch, SIDE, Augmentation(), generator())
    torch.testing.assert_close(images, plain_images.flip(3), rtol=0, atol=5e-4)
    torch.testing.assert_close(landmarks, mirrored(plain, MIRROR))
    torch.testing.assert_close(mirrored(landmarks, MIRROR), plain)
    assert (landmarks[:, 36, 0] < landmarks[:, 45, 0]).all()


def test_both_packages_mirror_alike():
    assert MIRROR == THEIR_MIRROR


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mirror_share_is_the_share_of_mirrored_faces(template, share):
    crops = torch.zeros(600, 1, STORED, dtype=torch.uint8)
    crops[:, :, : STORED // 2] = 255
    batch = faces_batch(template, crops.expand(600, STORED, STORED))
    settings = Augmentation(mirror_share=share)
    images = torch.cat(
        [
            augment(Batch(b.crops, b.landmarks, b.photo_edges), SIDE, settings, generator(i))[0]
            for i, b in enumerate(split(batch, 100))
        ]
    )
    is_mirrored = images[:, 0, 0, -1] > 0.5
    # Three standard deviations of the binomial distribution, and none where the share is 0 or 1.
    assert is_mirrored.float().mean().item() == pytest.approx(
        share, abs=3 * np.sqrt(share * (1 - share) / 600)
    )


def split(batch, size):
    for start in range(0, len(batch.crops), size):
        end = start + size
        yield Batch(
            batch.crops[start:end], batch.landmarks[start:end], batch.photo_edges[start:end]
        )


def test_outputs_are_gray_and_finite_whatever_happens(noise_batch):
    for seed in range(10):
        images, landmarks = augment(noise_batch, SIDE, STRONG, generator(seed))
        assert images.shape == (12, 1, SIDE, SIDE)
        assert images.dtype == landmarks.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert torch.isfinite(images).all()
        assert torch.isfinite(landmarks).all()


def test_the_generator_decides_and_the_batch_stays(noise_batch):
    before = noise_batch.crops.clone(), noise_batch.landmarks.clone()
    first = augment(noise_batch, SIDE, STRONG, generator(3))
    torch.rand(5)
    same = augment(noise_batch, SIDE, STRONG, generator(3))
    other = augment(noise_batch, SIDE, STRONG, generator(4))
    for one, again, another in zip(first, same, other, strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, another)
    assert torch.equal(noise_batch.crops, before[0])
    assert torch.equal(noise_batch.landmarks, before[1])


@pytest.mark.parametrize(
    "settings",
    [
        {"brightness": 0.3},
        {"contrast": 0.5},
        {"gamma": 0.5},
        {"blur_share": 1.0},
        {"noise_std": 0.2},
        {"occlusion_share": 1.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_changes_of_gray_leave_the_landmarks(noise_batch, settings):
    images, landmarks = augment(noise_batch, SIDE, Augmentation(**settings), generator())
    plain_images, plain = augment(noise_batch, SIDE, Augmentation(), generator())
    assert torch.equal(landmarks, plain)
    changed = (images - plain_images).abs().amax(dim=(1, 2, 3))
    # The amount is drawn anew for each, and may be next to nothing.
    assert (changed > 0.02).sum() >= 8


class TestBorder:
    """Photos are cut around their labels, so the place of their border must tell nothing."""

    EDGE = 40.0  # of the photo, in stored-crop pixels: 12 network pixels into the picture

    @pytest.fixture
    def ramps(self, template):
        """Photos that end 40 px into the stored crop, and brighten from there to the right."""
        columns = torch.arange(STORED).clamp_min(int(self.EDGE))
        crops = columns.to(torch.uint8).expand(64, STORED, STORED)
        return faces_batch(template, crops, (self.EDGE, -500.0, 700.0, 700.0))

    @staticmethod
    def first_rising_column(images):
        """The column (N) from which on the middle row brightens."""
        rising = images[:, 0, SIDE // 2].diff(dim=1) > 0.5 / 255
        return rising.float().argmax(dim=1)

    def test_untouched_without_a_share(self, ramps):
        images, _ = augment(ramps, SIDE, Augmentation(), generator())
        assert (self.first_rising_column(images) == self.EDGE - MARGIN).all()

    def test_trimming_moves_it_inwards_up_to_the_landmarks(self, ramps):
        settings = Augmentation(border_trim_share=1.0)
        images, landmarks = augment(ramps, SIDE, settings, generator())
        columns = self.first_rising_column(images).float()
        outermost = ((landmarks[..., 0].amin(dim=1) + 1) / 2 * SIDE).floor()
        assert (columns >= self.EDGE - MARGIN - 1).all()
        assert (columns <= outermost + 1).all()
        # Spread over all places between.
        assert columns.unique().numel() > 0.6 * (outermost[0] - (self.EDGE - MARGIN))
        assert torch.equal(landmarks, augment(ramps, SIDE, Augmentation(), generator())[1])

    def test_trimming_goes_by_its_share(self, ramps):
        images, _ = augment(ramps, SIDE, Augmentation(border_trim_share=0.25), generator())
        is_moved = self.first_rising_column(images) > self.EDGE - MARGIN
        assert 0.1 < is_moved.float().mean() < 0.42

    def test_a_landmark_outside_the_photo_does_not_push_it_outwards(self, ramps):
        outside = dataclasses.replace(ramps, landmarks=ramps.landmarks - torch.tensor([40.0, 0.0]))
        settings = Augmentation(border_trim_share=1.0, border_fill_share=1.0)
        images, _ = augment(outside, SIDE, settings, generator())
        plain, _ = augment(ramps, SIDE, Augmentation(), generator())
        edge = int(self.EDGE) - MARGIN
        # All that lies outside the photo is filled, up to its edge.
        assert (images[..., :edge] != plain[..., :edge]).float().mean() > 0.95

    def test_filling_puts_another_picture_outside_and_leaves_the_inside(self, ramps, rng):
        grain = torch.from_numpy(rng.integers(0, 256, ramps.crops.shape, dtype=np.uint8))
        inside = torch.arange(STORED) >= self.EDGE
        noisy = dataclasses.replace(ramps, crops=torch.where(inside, grain, ramps.crops))
        images, _ = augment(noisy, SIDE, Augmentation(border_fill_share=1.0), generator())
        plain, _ = augment(noisy, SIDE, Augmentation(), generator())
        edge = int(self.EDGE) - MARGIN
        assert torch.equal(images[..., edge:], plain[..., edge:])
        # The repeated pixel was the same all over; now every row is another picture's.
        assert (images[..., :edge] != plain[..., :edge]).float().mean() > 0.9
        middle = plain[0, 0].roll((SIDE // 2, SIDE // 2), dims=(0, 1))
        torch.testing.assert_close(images[1, 0, :, :edge], middle[:, :edge])


def test_occlusion_covers_a_fifth_to_a_half_of_each_side(template):
    batch = faces_batch(template, torch.full((64, STORED, STORED), 128, dtype=torch.uint8))
    images, _ = augment(batch, SIDE, Augmentation(occlusion_share=1.0), generator())
    covered = (images[:, 0] - 128 / 255).abs() > 1e-3
    rows, columns = covered.any(dim=2).sum(dim=1), covered.any(dim=1).sum(dim=1)
    assert rows.max() <= 0.5 * SIDE + 1
    assert columns.max() <= 0.5 * SIDE + 1
    # Half of them are covered with gray, which is seen on gray pictures; some only in part.
    assert 0.3 < (rows > 0).float().mean() < 0.7
