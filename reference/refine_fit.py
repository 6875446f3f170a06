"""Teach a shape fit which points to trust: python -m reference.refine_fit.

The nearest shape of the model to all the points takes every point for equally right. But a
point of the jaw is found worse than the corner of an eye, its errors go along with its neighbours',
and the well-found points say something about it. So the scores become the linear function of
the points that came closest to the labels: least squares, in one go, on what the trained network
finds on the faces and, where there is a mirror, their mirror images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from reference.data.augment import Augmentation
from reference.networks.layers import offsets, similarity_onto
from reference.networks.shapenet import ShapeNet
from reference.refining import refining_parser, run_refining

#: How hard the scores are held to the nearest shape's, as a share of the points' mean variance.
RIDGE = 0.01
#: Faces as they will be seen, and their mirror images; what training adds makes errors of its own.
MIRRORED = Augmentation(mirror_share=0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on failure."""
    parser = refining_parser(
        "python -m reference.refine_fit",
        "Refine how a trained network with maps or looks fits the shape model to its points. "
        "Nothing else is changed; the quality comes afterwards.",
        views=2,
    )
    return run_refining("reference.refine_fit", parser.parse_args(arguments), MIRRORED, _refine_fit)


def _refine_fit(network: ShapeNet, views: Iterator[tuple[Tensor, Tensor]]) -> Mapping[str, Tensor]:
    if network.shape_fit is None:
        raise ValueError("only networks with maps or looks fit a shape to points")
    weight = network.shape_fit.weight
    weight.copy_(refined_weight(weight, *offsets_seen(network, network.shape_fit.mean, views)))
    return {"shape_fit.weight": weight}


@torch.inference_mode()
def offsets_seen(
    network: ShapeNet, mean: Tensor, views: Iterator[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What found and labelled points differ from the mean shape (L, 2) by, 2 × (M, 2·L).

    Both are taken back by the similarity of the points that were found.
    """
    found_parts, true_parts = [], []
    for images, landmarks in views:
        points = network.stages_to_train(images)[-1]
        similarity = similarity_onto(points, mean)
        found_parts.append(offsets(points, mean, *similarity))
        true_parts.append(offsets(landmarks, mean, *similarity))
    return torch.cat(found_parts), torch.cat(true_parts)


def refined_weight(weight: Tensor, found: Tensor, true: Tensor, ridge: float = RIDGE) -> Tensor:
    """The weight (K, 2·L) that brings ``found`` (M, 2·L) closest to the scores of ``true``.

    Ridge regression towards ``weight``, with which the scores of both are the nearest shapes'.
    """
    found, true, plain = found.double(), true.double(), weight.double()
    variances = found.T @ found / len(found)
    held = ridge * variances.diagonal().mean() * torch.eye(len(variances), dtype=torch.float64)
    wanted = (found.T @ true / len(found) + held) @ plain.T
    refined: Tensor = torch.linalg.solve(variances + held, wanted)
    return refined.T.float()


if __name__ == "__main__":
    sys.exit(main())
