"""Fit the last layer of a direct network to faces as they will be seen: reference.refine_dense.

In training faces are turned, moved and covered further than anybody's detector leaves them, and
the last layer finds a middle course for all of it. Fitted once more, by itself, to faces as
detectors frame them, on what the layers before it have learnt, it is closer on those.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from reference.data.augment import Augmentation
from reference.losses import FACE_SIZE_MIN, face_sizes
from reference.networks.compact import CompactExtractor
from reference.networks.shapenet import ShapeNet
from reference.refining import refining_parser, run_refining

#: Much less than in training: about what two detectors differ by.
AS_DETECTED = Augmentation(mirror_share=0.5, turn_std_deg=3, scale_std=0.02, shift_std=0.015)
#: How hard the layer is held to what it was, in percent of the face's size for a change of 1 in
#: what each of its inputs makes of each of its outputs, over its own spread.
RIDGE = 0.03
#: The least part of the inputs' largest variance that counts as information.
VARIANCE_MIN = 1e-6
ITERATIONS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    parser = refining_parser(
        "python -m reference.refine_dense",
        "Fit the last layer of a trained compact network to faces as detectors frame them. "
        "Nothing else is changed; the quality comes afterwards.",
        views=4,
    )
    return run_refining(
        "reference.refine_dense", parser.parse_args(arguments), AS_DETECTED, _refine_dense
    )


def _refine_dense(
    network: ShapeNet, views: Iterator[tuple[Tensor, Tensor]]
) -> Mapping[str, Tensor]:
    extractor = network.extractor
    if not isinstance(extractor, CompactExtractor) or extractor.looks is not None:
        raise ValueError("only a compact network without looks ends in a dense layer")
    inputs, landmarks = inputs_seen(extractor, views)
    refine(network, extractor.dense, inputs, landmarks)
    dense = extractor.dense
    return {"extractor.dense.weight": dense.weight, "extractor.dense.bias": dense.bias}


@torch.no_grad()
def inputs_seen(
    extractor: CompactExtractor, views: Iterator[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What the last layer reads (M, C) on all views, and their landmarks (M, L, 2)."""
    inputs_parts, landmarks_parts = [], []
    for images, landmarks in views:
        collapsed = extractor.collapsed(extractor.blocks(images))
        inputs_parts.append(extractor.dense_inputs(collapsed))
        landmarks_parts.append(landmarks)
    return torch.cat(inputs_parts), torch.cat(landmarks_parts)


def refine(network: ShapeNet, dense: nn.Linear, inputs: Tensor, truth: Tensor) -> None:
    """Bring a network's last layer closest to ``truth`` (M, L, 2), given its inputs (M, C).

    The mean distance in face sizes is minimised by L-BFGS (Nocedal and Wright, Numerical
    Optimization, section 7.2), held to the layer as it was; over inputs turned and scaled to be
    independent and of variance 1, without which it takes some thousand steps.
    """
    to_whitened, from_whitened = whitening(inputs)
    mean = inputs.mean(dim=0)
    whitened = (inputs - mean) @ to_whitened
    weight = dense.weight.detach() @ from_whitened.T
    bias = dense.bias.detach() + dense.weight.detach() @ mean
    change = torch.zeros_like(weight, requires_grad=True)
    move = torch.zeros_like(bias, requires_grad=True)
    sizes = face_sizes(truth).clamp_min(FACE_SIZE_MIN)[:, None]
    optimizer = torch.optim.LBFGS(
        [change, move], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss_percent() -> Tensor:
        optimizer.zero_grad()
        found = network.landmarks_of(whitened @ (weight + change).T + bias + move)
        distances = torch.linalg.vector_norm(found - truth, dim=-1) / sizes
        loss = 100 * distances.mean() + RIDGE * change.square().sum()
        loss.backward()
        value: Tensor = loss.detach()
        return value

    optimizer.step(loss_percent)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        refined = (weight + change) @ to_whitened.T
        dense.weight.copy_(refined)
        dense.bias.copy_(bias + move - refined @ mean)


def whitening(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What makes inputs (M, C) of mean 0 independent and of variance 1 (C, C), and its inverse."""
    variances, directions = torch.linalg.eigh(torch.cov(inputs.double().T))
    deviations = variances.clamp_min(VARIANCE_MIN * variances[-1].item()).sqrt()
    return (directions / deviations).float(), (directions * deviations).T.float()


if __name__ == "__main__":
    sys.exit(main())
