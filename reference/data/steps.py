"""Training data as numbered steps: the batch of a step depends on seed and number alone.

So a run that goes on after an interruption sees the batches that it would have seen, however
many workers prepare them.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reference.data.augment import Augmentation, Batch, augment
from reference.data.dataset import Faces

_OF_EPOCH, _OF_STEP, _OF_MOVES = 0, 1, 2


def gather(faces: Sequence[Faces]) -> Batch:
    """All faces of several files, of one markup, as one batch on the CPU."""
    return Batch(
        torch.from_numpy(np.concatenate([part.crops for part in faces])),
        torch.from_numpy(np.concatenate([part.landmarks for part in faces])),
        torch.from_numpy(np.concatenate([part.photo_edges for part in faces])),
        faces[0].markup,
        torch.from_numpy(np.concatenate([part.label_shifts for part in faces])),
    )


def select(batch: Batch, indices: Tensor) -> Batch:
    """The faces of a batch at the given indices."""
    return dataclasses.replace(
        batch,
        crops=batch.crops[indices],
        landmarks=batch.landmarks[indices],
        photo_edges=batch.photo_edges[indices],
        label_shifts=None if batch.label_shifts is None else batch.label_shifts[indices],
    )


class Steps(Dataset[tuple[Tensor, Tensor]]):
    """Step number → augmented images (N, 1, side, side) and landmarks (N, L, 2).

    ``weights`` says how often each face is drawn in an epoch; 0.5 is in every second one. With
    ``moved_again_px`` a batch has a second half: the faces of the first, changed alike, then moved
    by up to so many pixels to each side.
    """

    def __init__(
        self,
        faces: Batch,
        weights: Tensor,
        *,
        side_px: int,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        moved_again_px: float = 0.0,
    ) -> None:
        self.faces = faces
        self.weights = weights
        self.side_px = side_px
        self.batch_size = min(batch_size, len(faces.crops))
        self.augmentation = augmentation
        self.seed = seed
        self.moved_again_px = moved_again_px
        self.steps_per_epoch = max(1, int(weights.sum()) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        start = place * self.batch_size
        indices = order[torch.arange(start, start + self.batch_size) % len(order)]
        faces = select(self.faces, indices)
        images, landmarks = self._augmented(faces, step)
        if not self.moved_again_px:
            return images, landmarks
        drawn = torch.rand((len(images), 2), generator=self._generator(_OF_MOVES, step))
        again, moved = self._augmented(faces, step, self.moved_again_px * (2 * drawn - 1))
        return torch.cat([images, again]), torch.cat([landmarks, moved])

    def _augmented(
        self, faces: Batch, step: int, moved_px: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        generator = self._generator(_OF_STEP, step)
        return augment(faces, self.side_px, self.augmentation, generator, moved_px)

    def _order(self, epoch: int) -> Tensor:
        generator = self._generator(_OF_EPOCH, epoch)
        counts = torch.floor(
            self.weights + torch.rand(len(self.weights), generator=generator)
        ).long()
        if not counts.any():
            counts = (self.weights > 0).long()
        drawn = torch.repeat_interleave(torch.arange(len(counts)), counts)
        return drawn[torch.randperm(len(drawn), generator=generator)]

    def _generator(self, purpose: int, number: int) -> torch.Generator:
        # PyTorch's generator reads 32 bits of its seed, which all three have to reach.
        mixed = np.random.SeedSequence([self.seed, purpose, number]).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))


def loader(steps: Steps, first: int, end: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """The batches of steps first to end − 1, prepared ahead by worker processes."""
    return DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, end),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_interrupts_to_the_parent,
    )


def _leave_interrupts_to_the_parent(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the run ends after its step, and needs its batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
