"""The tensors of a TorchScript file, read without compiling or running anything in it.

``torch.jit.load`` would compile the file's code before it gave the tensors. They lie beside the
code in plain sight, so they are read here directly. The file is a zip; in the form that PyTorch
writes since 1.4 the tree of modules is a pickle, ``data.pkl``, of which an unpickler makes
nothing but tensors and bare modules; in the form before, which today's PyTorch doesn't open, it
is JSON, ``model.json``.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from reference.checkpoint import DAMAGED_FILE_ERRORS, CheckpointError, first_line

#: Far beyond the original ShapeNet's 25 MB.
BYTES_MAX: Final = 1 << 29

_STORAGES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
#: As caffe2's TensorProto names them.
_JSON_TYPES: Final = {
    "DOUBLE": torch.float64,
    "FLOAT": torch.float32,
    "FLOAT16": torch.float16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "BOOL": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a zip with the members that only TorchScript writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return any(name.endswith(("/constants.pkl", "/model.json")) for name in names)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The parameters, buffers and other tensors of a TorchScript file by their dotted names.

    CheckpointError if it can't be read, or holds what isn't plain tensors and modules.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = _Records(archive)
            if "model.json" in records:
                return dict(_tensors_of_json(records))
            return dict(_tensors_of(_unpickle(records), "", set()))
    except (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, *DAMAGED_FILE_ERRORS) as error:
        raise CheckpointError(
            f"{path}: a TorchScript file that can't be read: {first_line(error)}"
        ) from None


class _Records:
    """The members of the zip, by their names within its one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if sum(info.file_size for info in self._members.values()) > BYTES_MAX:
            raise ValueError(f"it holds more than {BYTES_MAX >> 20} MiB")
        if "byteorder" in self and self["byteorder"] != b"little":
            raise ValueError("its numbers are big-endian")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> bytes:
        if name not in self:
            raise ValueError(f"it has no member {name[:80]!r}")
        return self._archive.read(self._members[name])


class _Module:
    """A module of the file: a bag of tensors, modules and settings."""


class _TensorUnpickler(pickle.Unpickler):
    """Makes tensors and bags; refuses all other names, so nothing in the pickle can act."""

    def __init__(self, records: _Records) -> None:
        super().__init__(io.BytesIO(records["data.pkl"]))
        self._records = records
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch.jit._pickle":
            return _ignored  # typed lists: settings
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it holds a {module[:80]}.{name[:80]}")

    def persistent_load(self, pid: Any) -> Tensor:
        """("storage", dtype, member, device, count) → all numbers of that member."""
        _, dtype, member, *_ = pid
        if member not in self._storages:
            self._storages[member] = _numbers(self._records[f"data/{member}"], dtype)
        return self._storages[member]


def _unpickle(records: _Records) -> _Module:
    root = _TensorUnpickler(records).load()
    if not isinstance(root, _Module):
        raise ValueError("its data.pkl is not a module")
    return root


def _tensors_of(module: _Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree of modules; none is entered twice, so that no loop can be."""
    seen.add(id(module))
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module) and id(value) not in seen:
            yield from _tensors_of(value, f"{prefix}{name}.", seen)


def _tensors_of_json(records: _Records) -> Iterator[tuple[str, Tensor]]:
    model = json.loads(records["model.json"])
    storages: dict[str, bytes] = {}
    tensors = []
    for entry in model["tensors"]:
        member = entry["data"]["key"]
        if member not in storages:
            storages[member] = records[member]
        numbers = _numbers(storages[member], _JSON_TYPES[entry["dataType"]])
        # 64-bit numbers are strings in protobuf's JSON.
        dims, strides = (list(map(int, entry.get(key, []))) for key in ("dims", "strides"))
        tensors.append(_view(numbers, int(entry.get("offset", 0)), dims, strides))
    yield from _parameters_of_json(model["mainModule"], "", tensors)


def _parameters_of_json(
    module: Mapping[str, Any], prefix: str, tensors: Sequence[Tensor]
) -> Iterator[tuple[str, Tensor]]:
    for entry in module.get("parameters", []):
        yield f"{prefix}{entry['name']}", tensors[int(entry.get("tensorId", 0))]
    for child in module.get("submodules", []):
        yield from _parameters_of_json(child, f"{prefix}{child['name']}.", tensors)


def _numbers(content: bytes, dtype: torch.dtype) -> Tensor:
    # A copy: PyTorch wants memory that it may write to.
    return torch.frombuffer(bytearray(content), dtype=dtype)


def _view(
    numbers: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
) -> Tensor:
    """A tensor within a storage, no larger than that: steps of 0 could make it of any size."""
    if math.prod(size) > numbers.numel():
        raise ValueError(f"a tensor of {tuple(size)} in a storage of {numbers.numel()} numbers")
    return torch.as_strided(numbers, tuple(size), tuple(stride), offset)


def _ignored(*_: object) -> None:
    return None
