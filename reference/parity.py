"""How far outputs may be from PyTorch's, and the check that names what is further off.

The tolerances are those of float32 arithmetic, not of the models: a layer is held against the
same layer in float64, fed with the very numbers that the layer itself was fed with, so that
differences don't add up along the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from npshapenet.layers import (
    Convolution,
    Dense,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    Layer,
    MeanPlaces,
    Shape,
)
from npshapenet.network import INPUT, Network

Numbers = NDArray[np.floating[Any]]

#: Shares of a layer's largest output. Rounding grows with the root of the length of the sums.
LAYER_TOLERANCE: Final = 1e-5
LONG_SUM_TOLERANCE: Final = 3e-5
LONG_SUM: Final = 2048

#: Where all outputs are next to nothing: a few roundings of a number about 1.
ABSOLUTE_TOLERANCE: Final = 1e-6

#: Landmarks, in pixels of the network's crop, by extractor: the original's own float32 differs by
#: 0.01 between two of PyTorch's backends, as its instance norms amplify rounding.
LANDMARK_TOLERANCE_PX: Final = {"compact": 0.01, "maps": 0.01, "original": 0.05}


class ParityError(AssertionError):
    """Outputs differ from PyTorch's by more than rounding; the message names them."""


@dataclass(frozen=True)
class Difference:
    """``largest`` difference of a number; ``scale`` is the largest number of PyTorch's.

    ``tolerance`` is a share of the scale.
    """

    name: str
    kind: str
    largest: float
    scale: float
    tolerance: float

    @property
    def share(self) -> float:
        """The largest difference as a share of the largest output."""
        return self.largest / max(self.scale, ABSOLUTE_TOLERANCE)

    @property
    def is_rounding(self) -> bool:
        """Whether float32's rounding explains it; never where there is a NaN."""
        return self.largest <= self.tolerance * self.scale + ABSOLUTE_TOLERANCE

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.kind}): {self.share:.2g} of the largest output, "
            f"accepted: {self.tolerance:.2g}"
        )


def difference(
    name: str, kind: str, ours: Numbers, theirs: Numbers, tolerance: float = LAYER_TOLERANCE
) -> Difference:
    """The difference of two arrays of one shape; ParityError where the shapes differ."""
    if ours.shape != theirs.shape:
        raise ParityError(f"{name} ({kind}): shape {ours.shape}, PyTorch's is {theirs.shape}")
    distances = np.abs(ours.astype(np.float64) - theirs)
    largest, scale = float(distances.max()), float(np.abs(theirs).max())
    return Difference(name, kind, largest, scale, tolerance)


def check(differences: Iterable[Difference]) -> None:
    """ParityError, with all that are more than rounding, if there are any."""
    off = [item for item in differences if not item.is_rounding]
    if off:
        raise ParityError("; ".join(map(str, off)))


def layer_differences(
    network: Network, ours: Mapping[str, Numbers], theirs: Mapping[str, Numbers]
) -> list[Difference]:
    """Layer by layer, outputs (C, H, W) by name against PyTorch's."""
    return [
        difference(
            layer.name,
            type(layer).__name__,
            ours[layer.name],
            theirs[layer.name],
            layer_tolerance(layer, *shapes),
        )
        for layer, shapes in network.with_input_shapes()
    ]


def layer_tolerance(layer: Layer, *input_shapes: Shape) -> float:
    """As a share of the largest output, by the length of the layer's sums."""
    channels, height, width = input_shapes[0]
    length = 1
    if isinstance(layer, Convolution | Dense):
        length = math.prod(layer.tensor_shapes(*input_shapes)["weight"][1:])
    elif isinstance(layer, InstanceNorm | GlobalAveragePool | MeanPlaces):
        length = height * width
    elif isinstance(layer, GroupNorm):
        length = channels // layer.groups * height * width
    return LAYER_TOLERANCE if length <= LONG_SUM else LONG_SUM_TOLERANCE


def landmark_difference(
    ours_px: Numbers, theirs_px: Numbers, extractor: str = "compact"
) -> Difference:
    """Landmarks in pixels of the crop; the scale is one pixel."""
    largest = difference("landmarks", "px", ours_px, theirs_px).largest
    return Difference("landmarks", "px", largest, 1.0, LANDMARK_TOLERANCE_PX[extractor])


def torch_layers(
    network: Network, tensors: Mapping[str, Numbers], image: Numbers, ours: Mapping[str, Numbers]
) -> dict[str, Numbers]:
    """PyTorch's output (C, H, W) of every layer in float64, from *our* outputs before it."""
    import torch

    from npshapenet.network import to_json
    from reference.networks.run_graph import run_layer

    doubles = {name: torch.from_numpy(tensor).double() for name, tensor in tensors.items()}
    values = {
        name: torch.from_numpy(np.array(value)).double()[None]
        for name, value in {INPUT: image, **ours}.items()
    }
    with torch.inference_mode():
        return {
            entry["name"]: run_layer(entry, doubles, values)[0].numpy()
            for entry in to_json(network)["layers"]
        }
