"""Reading an .npz file that may be hostile: nothing is allocated that wasn't bounded before.

An .npz is a zip of .npy files. Read here is what NumPy's ``savez`` and ``savez_compressed``
write, and no more: members stored or deflated, arrays in C order, no comment, no encryption. The
standard library's zipfile reads far more, and takes longer to import than a file takes to read.

Formats: PKWARE's APPNOTE.TXT (4.3.7, 4.3.12, 4.3.16) and numpy.lib.format.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_BYTES_MAX: Final = 160 << 20
DIRECTORY_BYTES_MAX: Final = 1 << 20
HEADER_BYTES_MAX: Final = 1024

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
# Compiled at the first use, not at import.
_NPY_HEADER = (
    rb"\{'descr': '([<>|=]?\w{1,8})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,9}, ?)*(?:\d{1,9})?)\), \} *\n"
)


class NpzError(ValueError):
    """What is wrong with the file; the message names the member, not the file."""


class Member(NamedTuple):
    """One .npy file within an .npz file: ``size`` bytes, once ``packed`` is inflated."""

    name: str
    size: int
    method: int
    checksum: int
    packed: memoryview

    def array(self, dtypes: tuple[str, ...], elements_max: int) -> NDArray[Any]:
        """The array, read-only, of one of the dtypes (``"<f4"``) and at most so many elements.

        NpzError if it is anything else. Its shape is for the caller to check.
        """
        bytes_max = HEADER_BYTES_MAX + elements_max * max(np.dtype(d).itemsize for d in dtypes)
        if self.size > bytes_max:
            raise NpzError(f"{self.name}: declares {self.size} bytes, more than {bytes_max}")
        content = self._content()
        start = len(_NPY_MAGIC) + 2
        if bytes(content[: len(_NPY_MAGIC)]) != _NPY_MAGIC or len(content) < start:
            raise NpzError(f"{self.name}: not a .npy file of version 1.0")
        data_start = start + int.from_bytes(content[start - 2 : start], "little")
        header = bytes(content[start : min(data_start, HEADER_BYTES_MAX)])
        match = re.fullmatch(_NPY_HEADER, header)
        if match is None:
            raise NpzError(f"{self.name}: its header is not that of a plain array: {header[:80]!r}")
        descr = match[1].decode()
        if descr not in dtypes:
            raise NpzError(f"{self.name}: its dtype is {descr}; accepted: {', '.join(dtypes)}")
        dtype = np.dtype(descr)
        shape = tuple(int(extent) for extent in match[2].split(b",") if extent.strip())
        if len(content) - data_start != math.prod(shape) * dtype.itemsize:
            raise NpzError(
                f"{self.name}: {len(content) - data_start} bytes of data "
                f"for an array of shape {shape} and dtype {descr}"
            )
        return np.frombuffer(content, dtype, offset=data_start).reshape(shape)

    def _content(self) -> bytes | memoryview:
        if self.method == _STORED:
            content: bytes | memoryview = self.packed
        else:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                # One byte more than declared shows a member that would go on.
                content = inflater.decompress(self.packed, self.size + 1)
            except zlib.error as error:
                raise NpzError(f"{self.name}: can't be inflated: {error}") from None
        if len(content) != self.size:
            raise NpzError(f"{self.name}: does not hold the {self.size} bytes that it declares")
        if zlib.crc32(content) != self.checksum:
            raise NpzError(f"{self.name}: damaged (wrong checksum)")
        return content


def read_directory(path: str | os.PathLike[str]) -> dict[str, Member]:
    """The members of an .npz file by name, without ``.npy``; the file's bytes stay in memory.

    NpzError if it isn't a whole zip file, or is larger than ``FILE_BYTES_MAX``; OSError if it
    can't be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > FILE_BYTES_MAX:
            raise NpzError(f"larger than {FILE_BYTES_MAX >> 20} MiB")
        return directory(file.read(size))


def directory(data: bytes) -> dict[str, Member]:
    """As ``read_directory``, of the bytes of a file."""
    members: dict[str, Member] = {}
    for member in _members(memoryview(data)):
        if member.name in members:
            raise NpzError(f"{member.name}: the name occurs twice")
        members[member.name] = member
    return members


def _members(data: memoryview) -> Iterator[Member]:
    directory_end = len(data) - _END.size
    if directory_end < 0 or bytes(data[:2]) != b"PK":
        raise NpzError("not an .npz file")
    signature, *disks, count, size, start, comment = _END.unpack_from(data, directory_end)
    if signature != b"PK\5\6" or disks != [0, 0, count] or comment or start + size != directory_end:
        raise NpzError("cut short, or not a zip file as NumPy writes it")
    if size > DIRECTORY_BYTES_MAX:
        raise NpzError(f"its table of contents takes {size} bytes, over {DIRECTORY_BYTES_MAX}")
    position = start
    for _ in range(count):
        if position + _ENTRY.size > directory_end:
            raise NpzError("its table of contents is damaged")
        signature, _, _, flags, method, _, _, checksum, packed_size, size, *rest = (
            _ENTRY.unpack_from(data, position)
        )
        name_size, extra_size, comment_size, _, _, _, offset = rest
        name_start = position + _ENTRY.size
        position = name_start + name_size + extra_size + comment_size
        if signature != b"PK\1\2" or position > directory_end:
            raise NpzError("its table of contents is damaged")
        encoded_name = bytes(data[name_start : name_start + name_size])
        name = encoded_name.decode("ascii", "backslashreplace")
        if not name.endswith(".npy"):
            raise NpzError(f"{name[:100]!r}: only arrays (.npy) are accepted")
        if method not in (_STORED, _DEFLATED) or flags & _ENCRYPTED:
            raise NpzError(f"{name[:100]!r}: encrypted, or compressed by method {method}")
        packed_start = _packed_start(data[:start], offset, encoded_name)
        packed = data[packed_start : min(packed_start + packed_size, start)]
        if packed_start < 0 or len(packed) != packed_size:
            raise NpzError(f"{name[:100]!r}: lies outside the file")
        yield Member(name.removesuffix(".npy"), size, method, checksum, packed)
    if position != directory_end:
        raise NpzError("its table of contents is damaged")


def _packed_start(data: memoryview, offset: int, name: bytes) -> int:
    """Where the bytes of the member begin whose local header is at ``offset``; −1 if none is."""
    if offset + _LOCAL.size > len(data):
        return -1
    signature, *_, name_size, extra_size = _LOCAL.unpack_from(data, offset)
    name_start = offset + _LOCAL.size
    if signature != b"PK\3\4" or bytes(data[name_start : name_start + name_size]) != name:
        return -1
    return name_start + int(name_size) + int(extra_size)
