"""Numbered steps: a batch depends on seed and number alone, weights say how often."""

from __future__ import annotations

import signal

import numpy as np
import pytest

pytest.importorskip("torch", reason="batches are PyTorch's")

import torch

from reference.data.augment import Augmentation
from reference.data.steps import Steps, gather, loader, select

CHANGED = Augmentation(turn_std_deg=10, noise_std=0.1, mirror_share=0.5)


@pytest.fixture(scope="module")
def faces(make_faces):
    """Forty faces; every pixel of a crop is its number, so that a batch tells whom it holds."""
    batch = gather([make_faces(40)])
    numbers = torch.arange(40, dtype=torch.uint8)
    batch.crops.copy_(numbers[:, None, None].expand_as(batch.crops))
    return batch


def make_steps(faces, weights=None, *, seed=0, batch_size=8, augmentation=None, moved_again_px=0):
    return Steps(
        faces,
        torch.ones(len(faces.crops)) if weights is None else torch.as_tensor(weights).float(),
        side_px=32,
        batch_size=batch_size,
        augmentation=augmentation or Augmentation(),
        seed=seed,
        moved_again_px=moved_again_px,
    )


def drawn(steps, first, end):
    """The numbers of the faces in steps first to end − 1."""
    images = torch.cat([steps[step][0] for step in range(first, end)])
    return (images[:, 0, 16, 16] * 255).round().long()


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for first, second in zip(one, other, strict=True):
            assert torch.equal(first, second)


def test_a_step_is_the_same_whenever_it_is_asked_for(faces):
    steps = make_steps(faces, augmentation=CHANGED)
    first = [steps[step] for step in range(8)]
    torch.manual_seed(99)
    again = make_steps(faces, augmentation=CHANGED)
    assert_same([again[step] for step in reversed(range(8))], reversed(first))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_step_is_the_same_whatever_the_workers(faces, workers):
    steps = make_steps(faces, augmentation=CHANGED)
    assert_same(loader(steps, 2, 9, workers), [steps[step] for step in range(2, 9)])


def test_workers_leave_ctrl_c_to_the_run(faces):
    """It reaches them too, but the run ends after its step, and may wait for its batch."""

    class Probe(Steps):
        def __getitem__(self, step):
            return signal.getsignal(signal.SIGINT) == signal.SIG_IGN, step

    probe = Probe(
        faces, torch.ones(40), side_px=32, batch_size=8, augmentation=Augmentation(), seed=0
    )
    assert list(loader(probe, 0, 2, 1)) == [[True, 0], [True, 1]]
    assert list(loader(probe, 0, 1, 0)) == [[False, 0]]


def test_a_loader_goes_on_in_the_middle(faces):
    steps = make_steps(faces, augmentation=CHANGED)
    whole = list(loader(steps, 0, 10, 0))
    assert_same(loader(steps, 7, 10, 0), whole[7:])
    assert list(loader(steps, 10, 10, 0)) == []


def test_steps_epochs_and_seeds_differ(faces):
    one, other = (make_steps(faces, augmentation=CHANGED, seed=seed) for seed in (1, 2))
    assert not torch.equal(one[0][0], one[1][0])
    assert not torch.equal(drawn(one, 0, 5), drawn(one, 5, 10))
    assert not torch.equal(drawn(one, 0, 5), drawn(other, 0, 5))
    # Not only the order: the random changes of one face are others too.
    alone = select(faces, torch.tensor([3]))
    angles = [
        make_steps(alone, batch_size=1, augmentation=CHANGED, seed=seed)[0][1] for seed in (1, 2)
    ]
    assert not torch.equal(*angles)


def test_a_batch_with_its_faces_moved_again(faces):
    once, twice = (make_steps(faces, augmentation=CHANGED, moved_again_px=px) for px in (0, 2))
    (images, landmarks), (both, places) = once[3], twice[3]
    assert_same([(both[:8], places[:8])], [(images, landmarks)])
    assert_same([twice[3]], [(both, places)])
    # Both halves are changed alike, so all points of a face move together.
    moves_px = (places[8:] - places[:8]) * 32 / 2
    torch.testing.assert_close(moves_px, moves_px[:, :1].expand_as(moves_px), rtol=0, atol=1e-3)
    moves_px = moves_px[:, 0]
    assert moves_px.abs().max() <= 2.001
    assert len(moves_px.round(decimals=3).unique()) == 16


def test_large_seeds_are_seeds_too(faces):
    orders = [drawn(make_steps(faces, seed=seed), 0, 5).tolist() for seed in (1, 1 + 2**31, 2**63)]
    assert len({tuple(order) for order in orders}) == 3


def test_an_epoch_shows_every_face_of_weight_one_once(faces):
    steps = make_steps(faces)
    assert steps.steps_per_epoch == 5
    for epoch in range(3):
        numbers = drawn(steps, 5 * epoch, 5 * epoch + 5)
        assert sorted(numbers.tolist()) == list(range(40))


def test_weights_say_how_often_a_face_is_drawn(faces):
    weights = np.repeat([0.0, 0.25, 1.0, 2.0], 10)
    steps = make_steps(faces, weights, batch_size=1)
    assert steps.steps_per_epoch == 32
    epochs = 60
    counts = torch.zeros(40)
    for epoch in range(epochs):
        order = steps._order(epoch)
        counts += torch.bincount(order, minlength=40)
    shares = (counts / epochs).numpy()
    np.testing.assert_array_equal(shares[:10], 0)
    # A quarter each by chance, all ten in 600 draws: three standard deviations.
    assert shares[10:20].mean() == pytest.approx(0.25, abs=3 * np.sqrt(0.25 * 0.75 / 600))
    np.testing.assert_array_equal(shares[20:], np.repeat([1, 2], 10))


def test_faces_that_are_seldom_drawn_still_fill_their_batches(faces):
    steps = make_steps(faces, np.full(40, 0.01), batch_size=16)
    assert steps.steps_per_epoch == 1
    for step in range(30):
        images, landmarks = steps[step]
        assert images.shape == (16, 1, 32, 32)
        assert landmarks.shape == (16, 68, 2)


def test_a_batch_is_no_larger_than_all_faces(faces):
    assert make_steps(faces, batch_size=64).batch_size == 40
    assert sorted(drawn(make_steps(faces, batch_size=64), 0, 1).tolist()) == list(range(40))


def test_gather_and_select_keep_faces_together(make_faces):
    one, other = make_faces(3, seed=1), make_faces(2, seed=2)
    batch = select(gather([one, other]), torch.tensor([4, 0]))
    np.testing.assert_array_equal(batch.crops, [other.crops[1], one.crops[0]])
    np.testing.assert_array_equal(batch.landmarks, [other.landmarks[1], one.landmarks[0]])
    np.testing.assert_array_equal(batch.photo_edges, [other.photo_edges[1], one.photo_edges[0]])
