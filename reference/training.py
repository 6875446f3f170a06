"""The training loop: from faces and a recipe to checkpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from reference.checkpoint import SHAPE_MODEL_KEYS, Checkpoint, build_network
from reference.data.augment import Augmentation, Batch, augment, mirrored, network_landmarks
from reference.data.dataset import Faces, FacesError
from reference.data.markup import Markup
from reference.data.steps import Steps, gather, loader, select
from reference.losses import stages_loss, steady_loss
from reference.metrics import normalised_mean_errors_percent
from reference.networks.build import start_from_imagenet
from reference.networks.shapenet import ShapeNet
from reference.recipe import Recipe, RecipeError, ShapeModelSettings
from reference.shape_model import FittedShapeModel, components_max, fit

#: At a recipe's rate, a batch of two or three faces is thrown back to the mean shape.
OVERFIT_LEARNING_RATE = 2e-3


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Faces to train on with their weights, and those held out of the first file."""

    faces: Batch
    weights: Tensor
    held_out: Batch
    crop_factor: float
    description: tuple[Mapping[str, object], ...]

    @property
    def markup(self) -> Markup:
        """What the landmarks of the faces are."""
        return self.faces.markup


@dataclass(frozen=True)
class Progress:
    """What a step reports: ``loss`` is a running mean, the NME None until validated."""

    step: int
    step_count: int
    epoch: float
    loss: float
    learning_rate: float
    held_out_percent: float | None


def collect(files: Sequence[tuple[str, Faces, float]], held_out: int) -> TrainingData:
    """Join faces files (name, faces, weight); the first gives the held-out faces.

    The files are shuffled already, so the held-out faces are its last ones. FacesError for faces
    of different markups.
    """
    first_name, first_faces, _ = files[0]
    for name, faces, _ in files:
        if faces.markup != first_faces.markup:
            raise FacesError(
                f"{name} has the points of {faces.markup.name}, {first_name} those of "
                f"{first_faces.markup.name}, or of another markup of that name: prepare them alike"
            )
    parts = [(name, faces, weight, gather([faces])) for name, faces, weight in files]
    first = parts[0][3]
    held_out = min(held_out, len(first.crops) // 5)
    kept_count = len(first.crops) - held_out
    everything = gather([faces for _, faces, _, _ in parts])
    weights = torch.cat([torch.full((len(faces),), weight) for _, faces, weight, _ in parts])
    weights[kept_count : kept_count + held_out] = 0
    description = tuple(
        {"name": name, "faces": len(faces), "weight": weight} for name, faces, weight, _ in parts
    )
    return TrainingData(
        everything,
        weights,
        select(first, torch.arange(kept_count, kept_count + held_out)),
        parts[0][1].geometry.crop_factor,
        description,
    )


def check_points(checkpoint: Checkpoint, data: TrainingData) -> None:
    """ValueError where a network finds other points than those that the faces are labelled with."""
    if checkpoint.markup != data.markup:
        raise ValueError(
            f"the network finds the points of {checkpoint.markup.name}; the faces' are those of "
            f"{data.markup.name}, or of another markup of that name"
        )


def held_out_images(data: TrainingData, side_px: int) -> tuple[Tensor, Tensor]:
    """Images and landmarks of the held-out faces; of those trained on where none are."""
    faces = data.held_out if len(data.held_out.crops) else data.faces
    return augment(faces, side_px, Augmentation(), torch.Generator())


def fit_shape_model(
    data: TrainingData, settings: ShapeModelSettings, side_px: int
) -> FittedShapeModel:
    """A shape model of the faces trained on and, where there is a mirror, their mirror images.

    With their mirror images, so that no side of the face is favoured. RecipeError for settings
    that don't fit these faces.
    """
    landmarks = network_landmarks(data.faces, side_px)[data.weights > 0]
    if data.markup.mirror is not None:
        landmarks = torch.cat([landmarks, mirrored(landmarks, data.markup.mirror)])
    try:
        return fit(
            landmarks.numpy(),
            components=settings.components,
            variance_kept=settings.variance_kept,
            alignment=settings.alignment,  # type: ignore[arg-type]
            markup=data.markup,
        )
    except ValueError as error:
        raise RecipeError(f"[shape_model] {error}") from None


def shape_model_tensors(model: FittedShapeModel) -> dict[str, Tensor]:
    """The tensors that a network is built around, in the order of SHAPE_MODEL_KEYS."""
    arrays = (
        model.mean,
        model.components,
        model.parameter_deviations,
        model.parameter_means,
        model.parameter_limits(),
    )
    return {
        key: torch.from_numpy(array).float()
        for key, array in zip(SHAPE_MODEL_KEYS, arrays, strict=True)
    }


class Trainer:
    """A run in memory: network, averaged network, optimiser and how far they are."""

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        device: torch.device,
        *,
        shape_model: Mapping[str, Tensor],
        start: Checkpoint | None = None,
        resume: Checkpoint | None = None,
        workers: int = 1,
        settled_norms: bool = False,
    ) -> None:
        """Begin a run, from the averaged weights of another, ``start``, or go on with one.

        ``settled_norms``: batch norms keep the statistics of the first batch. A few faces' own
        change too much from the network that trains to the one that predicts.
        """
        settings = recipe.training
        torch.manual_seed(settings.seed)
        self.recipe, self.data, self.device, self.workers = recipe, data, device, workers
        self.shape_model = shape_model
        self.steps = Steps(
            data.faces,
            data.weights,
            side_px=recipe.network.side_px,
            batch_size=settings.batch_size,
            augmentation=recipe.augmentation,
            seed=settings.seed,
            moved_again_px=settings.steady_shift_px if settings.steady_weight else 0.0,
        )
        network = build_network(recipe, shape_model)
        if start is not None:
            network.load_state_dict(dict(start.averaged))
        elif resume is None:
            start_from_imagenet(network.extractor)
        network = network.to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.settled_norms = network, settled_norms
        if settled_norms and resume is None:
            _settle_norms(network, self.steps[0][0].to(device))
        self.averaged = AveragedModel(
            network,
            avg_fn=_moving_average(settings.average_decay),
            use_buffers=True,
        )
        self.optimizer = _optimizer(network, settings.learning_rate, settings.weight_decay)
        self.step = 0
        self.running_loss = math.nan
        self.best_percent = math.inf
        self.log: list[Mapping[str, float]] = []
        if resume is not None:
            self._restore(resume)

    @property
    def step_count(self) -> int:
        """How many steps the whole run has."""
        return self.recipe.training.epochs * self.steps.steps_per_epoch

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.network.load_state_dict(dict(checkpoint.model))
        self.averaged.module.load_state_dict(dict(checkpoint.averaged))
        self.averaged.n_averaged.fill_(checkpoint.average_count)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.step, self.best_percent = checkpoint.step, checkpoint.best_percent
        self.running_loss = checkpoint.running_loss
        self.log = list(checkpoint.log)

    def checkpoint(self) -> Checkpoint:
        """The state after the present step."""
        return Checkpoint(
            recipe=self.recipe,
            shape_model=dict(self.shape_model),
            averaged=_copied(self.averaged.module.state_dict()),
            model=_copied(self.network.state_dict()),
            optimizer=self.optimizer.state_dict(),
            step=self.step,
            average_count=int(self.averaged.n_averaged),
            best_percent=self.best_percent,
            crop_factor=self.data.crop_factor,
            data=self.data.description,
            log=tuple(self.log),
            running_loss=self.running_loss,
            markup=self.data.markup,
        )

    def run(self, report: Callable[[Progress], bool]) -> None:
        """Train to the end; ``report`` is called after each step and ends the run with True."""
        settings = self.recipe.training
        validate_every = settings.validate_every_epochs * self.steps.steps_per_epoch
        batches = loader(self.steps, self.step, self.step_count, self.workers)
        for images, landmarks in batches:
            loss = self._train_step(images, landmarks)
            before = loss if math.isnan(self.running_loss) else self.running_loss
            self.running_loss = 0.98 * before + 0.02 * loss
            self.step += 1
            held_out_percent = None
            if self.step % validate_every == 0 or self.step == self.step_count:
                held_out_percent = self.held_out_percent()
                self.log.append(
                    {
                        "epoch": self.step / self.steps.steps_per_epoch,
                        "loss": self.running_loss,
                        "held_out_nme_percent": held_out_percent,
                        "learning_rate": self.learning_rate(),
                    }
                )
            progress = Progress(
                self.step,
                self.step_count,
                self.step / self.steps.steps_per_epoch,
                self.running_loss,
                self.learning_rate(),
                held_out_percent,
            )
            if report(progress):
                return

    def learning_rate(self) -> float:
        """The rate of the present step: linear warm-up, then a cosine down to nothing."""
        settings = self.recipe.training
        warm_up = max(1, round(settings.warm_up_epochs * self.steps.steps_per_epoch))
        if self.step < warm_up:
            return settings.learning_rate * (self.step + 1) / warm_up
        share = (self.step - warm_up) / max(1, self.step_count - warm_up)
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def _train_step(self, images: Tensor, landmarks: Tensor) -> float:
        settings = self.recipe.training
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        landmarks = landmarks.to(self.device, non_blocking=True)
        self.network.train(not self.settled_norms)
        with self._mixed_precision():
            stages = self.network.stages_to_train(images)
        shape = settings.loss_width, settings.loss_curvature
        loss, last = stages_loss(stages, landmarks, *shape)
        if settings.steady_weight:
            loss = loss + settings.steady_weight * steady_loss(stages[-1], landmarks, *shape)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm_max)
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        value = last.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {self.step}")
        return value

    def _mixed_precision(self) -> torch.autocast | nullcontext[None]:
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def held_out_percent(self) -> float:
        """The mean NME of the held-out faces, unchanged crops, in percent."""
        images, truth = held_out_images(self.data, self.steps.side_px)
        found = self.predict(images).numpy()
        errors = normalised_mean_errors_percent(found, truth.numpy(), self.data.markup)
        return float(errors.mean())

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Landmarks (N, L, 2) by the averaged network, on the CPU."""
        network = self.averaged.module.eval()
        parts = [network(part.to(self.device)).cpu() for part in torch.split(images, 128)]
        return torch.cat(parts)


def overfit_settings(recipe: Recipe, face_count: int, epochs: int, markup: Markup) -> Recipe:
    """The recipe for training on a few faces until they fit: nothing changed, nothing held out."""
    training = dataclasses.replace(
        recipe.training,
        epochs=epochs,
        held_out=0,
        learning_rate=min(recipe.training.learning_rate, OVERFIT_LEARNING_RATE),
        weight_decay=0.0,
        average_decay=0.9,
        validate_every_epochs=max(1, epochs // 20),
    )
    shape_model = recipe.shape_model
    if shape_model.components is not None:
        # A shape model of these faces and their mirror images has one less than there are.
        shape_count = face_count * (1 if markup.mirror is None else 2)
        limit = components_max(markup.point_count, shape_model.alignment)  # type: ignore[arg-type]
        count = min(shape_model.components, max(1, shape_count - 1), limit)
        shape_model = dataclasses.replace(shape_model, components=count)
    return dataclasses.replace(
        recipe, shape_model=shape_model, training=training, augmentation=Augmentation()
    )


def _optimizer(
    network: torch.nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW that leaves biases and batch norm undecayed."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    undecayed = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


@torch.no_grad()
def _settle_norms(network: ShapeNet, images: Tensor) -> None:
    """Give the batch norms the statistics of these images, layer by layer."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum, momentum = 1.0, norm.momentum
    # Twice the same, as one value of a channel alone has no variance.
    network.train().outputs(torch.cat([images, images]))
    for norm in norms:
        norm.momentum = momentum
        assert norm.running_var is not None
        # What is the same in all the images is only centred.
        norm.running_var[norm.running_var < 1e-6] = 1.0


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average that doesn't hold on to the first, untrained weights.

    See ``averaging_decay``.
    """

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        present_decay = averaging_decay(decay, int(count))
        return (averaged + (current - averaged) * (1 - present_decay)).to(averaged.dtype)

    return average


def averaging_decay(decay: float, steps: int) -> float:
    """How much of the average of so many steps stays at the next: at most ``decay``.

    While few steps are averaged it is (1 + steps) / (10 + steps).
    """
    return min(decay, (1 + steps) / (10 + steps))


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in state.items()}
