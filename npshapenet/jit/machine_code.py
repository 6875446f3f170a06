"""Machine code of the engine as a file holds it, whether the user's or one that a wheel carries."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from npshapenet.jit.cpu import REGISTERS, Registers

RUN = "npshapenet_run"  # the name of the engine's one entry as a C function

_MAGIC = b"npshapenet code 1\n"
_HEADER = struct.Struct("<8sqI")  # name of the registers, entry, CRC-32 of the code
_NO_ENTRY = -1


class MachineCode(NamedTuple):
    """What the compiler made: code that is linked already (see linking.py), or an object file."""

    registers: Registers  # whose tiles it has
    code: bytes
    entry: int | None  # where in the code the engine begins; None for an object file

    def to_file(self) -> bytes:
        """The content of a file."""
        entry = _NO_ENTRY if self.entry is None else self.entry
        name = self.registers.name.encode()
        return _MAGIC + _HEADER.pack(name, entry, zlib.crc32(self.code)) + self.code


def from_file(content: bytes) -> MachineCode | None:
    """What ``to_file`` wrote; None if it isn't that, or not whole."""
    start = len(_MAGIC) + _HEADER.size
    if len(content) < start or not content.startswith(_MAGIC):
        return None
    name, entry, checksum = _HEADER.unpack_from(content, len(_MAGIC))
    code = content[start:]
    registers = REGISTERS.get(name.rstrip(b"\0").decode("ascii", "replace"))
    if registers is None or zlib.crc32(code) != checksum or not _NO_ENTRY <= entry < len(code):
        return None
    return MachineCode(registers, code, None if entry == _NO_ENTRY else entry)


def checksum(*parts: bytes) -> str:
    """16 hexadecimal digits that tell apart what was not made to be mistaken for each other.

    CRC-32 and Adler-32: hashlib takes longer to import than the engine's code to be opened.
    """
    crc, adler = 0, 1
    for part in parts:
        # The length, so that a part can't end where the next one begins.
        for data in (len(part).to_bytes(8, "little"), part):
            crc, adler = zlib.crc32(data, crc), zlib.adler32(data, adler)
    return f"{crc:08x}{adler:08x}"
