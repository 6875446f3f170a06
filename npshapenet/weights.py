"""The weights file: one .npz with the tensors of a network, its shape model, and what they are.

Members (each ``<name>.npy``, little-endian, C order):

``meta``              uint8, JSON in UTF-8: ``format``, ``version``, ``network`` (the layer graph
                      as ``network.to_json`` gives it), ``normalisation``, ``crop_factor``,
                      ``markup``, ``storage``, ``provenance``
``shape.mean``        (L, 2); ``shape.components`` (K, L, 2); where the parameters have limits,
                      ``shape.limits`` (2, K + 4): see ``ShapeModel``
``<layer>.<tensor>``  what the layers of the graph ask for, axes in PyTorch's order

Storage may be float16 or float32; in memory everything is float32. A file is checked whole
before it is used: no pickles, and no size is believed that the graph doesn't ask for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, NamedTuple, get_args

import numpy as np

from npshapenet import network as layer_graph
from npshapenet import npz
from npshapenet.atomic import replace_file
from npshapenet.layers import NetworkError
from npshapenet.markup import IBUG68, LANDMARK_COUNT
from npshapenet.network import Network
from npshapenet.shape import TRANSFORM_NUMBERS, ShapeModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FORMAT: Final = "npshapenet weights"
VERSION: Final = 1

#: Limits that no honest file comes near; the largest network of the field's papers has a fifth.
NUMBERS_MAX: Final = 1 << 25
META_BYTES_MAX: Final = 1 << 20
LANDMARKS_MAX: Final = 1 << 12
SIDE_MAX_PX: Final = 1 << 10

Storage = Literal["float16", "float32"]

_MEAN, _COMPONENTS, _LIMITS = "shape.mean", "shape.components", "shape.limits"
_STORED_DTYPES = ("<f2", "<f4")


class WeightsError(ValueError):
    """A weights file, or what should become one, is not as it must be."""


class Normalisation(NamedTuple):
    """From gray to what the network reads: gray in 0–1, times ``scale``, plus ``offset``."""

    scale: float
    offset: float


@dataclass(frozen=True, eq=False)
class Weights:
    """All that a model is: the layer graph, its tensors, the shape model, and their origin.

    ``tensors`` are float32, named ``<layer>.weight`` and ``<layer>.bias``. The network reads one
    gray square and gives K scores, scale, angle and translation, and, as one number more or not,
    the logarithm of its quality: see ``shape.split_outputs``. ``markup`` is "ibug68", or
    "points<L>" for L points in an order of their own. ``crop_factor`` is the side of the crop
    over the longer side of the face's box. ``provenance`` is JSON: data, recipe, commit, figures,
    terms, date. ``storage`` is the dtype in the file.

    Checked when made: WeightsError names what doesn't fit, is missing, superfluous or not finite.
    """

    network: Network
    tensors: Mapping[str, Floats]
    shape_model: ShapeModel
    normalisation: Normalisation
    crop_factor: float
    markup: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    storage: Storage = "float16"

    def __post_init__(self) -> None:
        _check_input(self.network)
        shapes = self.network.tensor_shapes()
        _check_names(shapes, self.tensors)
        for name, tensor in self.tensors.items():
            _check_tensor(name, tensor, shapes[name])
        mean, components = self.shape_model.mean, self.shape_model.components
        _check_tensor(_MEAN, mean, (*np.shape(mean)[:1], 2))
        _check_tensor(_COMPONENTS, components, (*np.shape(components)[:1], *mean.shape))
        landmarks, scores = self.landmark_count, len(components)
        parameters = scores + TRANSFORM_NUMBERS
        if self.network.output_count not in (parameters, parameters + 1):
            raise WeightsError(
                f"the network gives {self.network.output_count} numbers; a shape model of "
                f"{scores} components needs {parameters}, or with a quality {parameters + 1}"
            )
        limits = self.shape_model.limits
        if limits is not None:
            _check_tensor(_LIMITS, limits, (2, parameters))
            if not (limits[0] <= limits[1]).all():
                raise WeightsError(f"{_LIMITS} has a least value above the largest")
        markups = {f"points{landmarks}"} | ({IBUG68} if landmarks == LANDMARK_COUNT else set())
        if self.markup not in markups:
            raise WeightsError(
                f"markup {_short(self.markup)} for a shape model of {landmarks} points"
            )
        normalisation = (self.normalisation.scale, self.normalisation.offset)
        if not all(-1e6 < number < 1e6 for number in normalisation) or not normalisation[0]:
            raise WeightsError(f"{_short(self.normalisation)} is no normalisation")
        if not 0.25 <= self.crop_factor <= 8:
            raise WeightsError(
                f"crop_factor must be from 0.25 to 8, not {_short(self.crop_factor)}"
            )
        if self.storage not in get_args(Storage):
            raise WeightsError(f"storage must be float16 or float32, not {_short(self.storage)}")

    @property
    def has_quality(self) -> bool:
        """Whether the network estimates its own error."""
        return self.network.output_count > len(self.shape_model.components) + TRANSFORM_NUMBERS

    @property
    def landmark_count(self) -> int:
        """L, the number of points."""
        return len(self.shape_model.mean)


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a file, checked.

    WeightsError, one line that names the file and what in it is wrong; OSError if the file can't
    be read. Safe on files from anywhere: memory stays in proportion to the limits above.
    """
    try:
        return _weights(npz.read_directory(path))
    except (npz.NpzError, NetworkError, WeightsError) as error:
        raise WeightsError(f"{os.fspath(path)}: {error}") from None


def read_bytes(content: bytes, name: str) -> Weights:
    """The weights in the bytes of a file, as ``read``; errors call it ``name``."""
    try:
        return _weights(npz.directory(content))
    except (npz.NpzError, NetworkError, WeightsError) as error:
        raise WeightsError(f"{name}: {error}") from None


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Write weights to a file, whole or not at all; the same weights give the same bytes.

    With storage float16 only the networks' ``weight`` tensors are rounded: biases and the shape
    model, which are small and move every point, stay float32. WeightsError if a weight doesn't
    fit into float16; OSError if the file can't be written.
    """
    members: dict[str, NDArray[Any]] = {"meta": np.frombuffer(_meta_json(weights), np.uint8)}
    members[_MEAN] = weights.shape_model.mean
    members[_COMPONENTS] = weights.shape_model.components
    if weights.shape_model.limits is not None:
        members[_LIMITS] = weights.shape_model.limits
    for name, tensor in weights.tensors.items():
        rounded = weights.storage == "float16" and name.endswith(".weight")
        with np.errstate(over="ignore"):
            members[name] = tensor.astype(np.float16) if rounded else tensor
        if not np.isfinite(members[name]).all():
            raise WeightsError(f"{os.fspath(path)}: {name} has numbers too large for float16")
    replace_file(os.fspath(path), lambda file: _write_members(file, members))


def _weights(members: dict[str, npz.Member]) -> Weights:
    """What the members of a weights file say; NpzError, NetworkError or WeightsError."""
    if "meta" not in members:
        raise WeightsError("not a weights file: it has no member meta")
    meta = _read_meta(members.pop("meta"))
    network = layer_graph.from_json(meta["network"])
    shapes = network.tensor_shapes()
    optional = [_LIMITS] if _LIMITS in members else []
    _check_names([_MEAN, _COMPONENTS, *optional, *shapes], members)
    if sum(math.prod(shape) for shape in shapes.values()) > NUMBERS_MAX:
        raise WeightsError(f"its network has more than {NUMBERS_MAX} weights")
    mean = _read_tensor(members[_MEAN], 2 * LANDMARKS_MAX)
    components = _read_tensor(
        members[_COMPONENTS], max(network.output_count - TRANSFORM_NUMBERS, 0) * mean.size
    )
    limits = _read_tensor(members[_LIMITS], 2 * network.output_count) if optional else None
    return Weights(
        network=network,
        tensors={
            name: _read_tensor(members[name], math.prod(shape)) for name, shape in shapes.items()
        },
        shape_model=ShapeModel(mean, components, limits),
        normalisation=Normalisation(**meta["normalisation"]),
        crop_factor=meta["crop_factor"],
        markup=meta["markup"],
        provenance=meta["provenance"],
        storage=meta["storage"],
    )


def _short(value: object) -> str:
    """A value from a file in an error message: one line, of bounded length."""
    return repr(value)[:80]


def _check_input(network: Network) -> None:
    channels, height, width = network.input_shape
    if channels != 1 or height != width or height > SIDE_MAX_PX:
        raise WeightsError(
            f"the network reads {network.input_shape}; accepted: one gray square up to "
            f"{SIDE_MAX_PX}×{SIDE_MAX_PX}"
        )


def _check_names(expected: Any, found: Any) -> None:
    for name in expected:
        if name not in found:
            raise WeightsError(f"{name} is missing")
    for name in found:
        if name not in expected:
            raise WeightsError(f"{_short(name)} belongs to no layer")


def _check_tensor(name: str, tensor: Floats, shape: tuple[int, ...]) -> None:
    if not isinstance(tensor, np.ndarray) or tensor.dtype != np.float32 or tensor.shape != shape:
        came = getattr(tensor, "shape", type(tensor).__name__), getattr(tensor, "dtype", "")
        raise WeightsError(f"{name} must be float32 {shape}, not {came[1]} {came[0]}")
    if not np.isfinite(tensor).all():
        raise WeightsError(f"{name} has NaN or infinite numbers")


def _read_tensor(member: npz.Member, elements_max: int) -> Floats:
    stored = member.array(_STORED_DTYPES, elements_max)
    # A copy in any case: bytes within the file are not aligned, and keep the whole file alive.
    return np.array(stored, np.float32)


def _read_meta(member: npz.Member) -> dict[str, Any]:
    import json

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    try:
        meta = json.loads(
            member.array(("|u1",), META_BYTES_MAX).tobytes().decode(), parse_constant=refuse
        )
    except npz.NpzError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"meta is not JSON: {error}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise WeightsError("not a weights file: meta doesn't say so")
    version = meta.get("version")
    if type(version) is int and version > VERSION:
        raise WeightsError(
            f"its format has version {_short(version)}, this program reads {VERSION}: "
            "install a newer one"
        )
    if type(version) is not int or version != VERSION:
        raise WeightsError(f"its format has the unknown version {_short(version)}")
    _check_meta(meta)
    return meta


def _check_meta(meta: dict[str, Any]) -> None:
    numbers = (int, float)
    normalisation = meta.get("normalisation")
    valid = {
        "network": isinstance(meta.get("network"), dict),
        "normalisation": isinstance(normalisation, dict)
        and set(normalisation) == {"scale", "offset"}
        and all(type(number) in numbers for number in normalisation.values()),
        "crop_factor": type(meta.get("crop_factor")) in numbers,
        "markup": isinstance(meta.get("markup"), str),
        "provenance": isinstance(meta.get("provenance"), dict),
        "storage": isinstance(meta.get("storage"), str),
    }
    for key, is_valid in valid.items():
        if not is_valid:
            raise WeightsError(f"meta: {key} is missing or can't be {_short(meta.get(key))}")


def _meta_json(weights: Weights) -> bytes:
    import json

    meta = {
        "format": FORMAT,
        "version": VERSION,
        "network": layer_graph.to_json(weights.network),
        "normalisation": {
            "scale": weights.normalisation.scale,
            "offset": weights.normalisation.offset,
        },
        "crop_factor": weights.crop_factor,
        "markup": weights.markup,
        "provenance": dict(weights.provenance),
        "storage": weights.storage,
    }
    try:
        text = json.dumps(meta, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"the metadata can't be written as JSON: {error}") from None
    return text.encode()


def _write_members(file: BinaryIO, members: Mapping[str, NDArray[Any]]) -> None:
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            # A fixed date, and nothing of this machine: the same weights, the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system = 3
            little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            with archive.open(entry, "w") as member:
                np.lib.format.write_array(member, little_endian, allow_pickle=False)
