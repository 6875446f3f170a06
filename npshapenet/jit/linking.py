"""An object file of x86-64 Linux → its code as it lies in memory, and from there into a process.

What a linker and a loader do for a program, for the little that the engine needs of it: all parts
of the object file are laid one behind the other, and where one refers to another, the distance
between the two is filled in. Only distances occur, no addresses, so that the code runs wherever
it lies, and it refers to nothing outside. So the loader has only to copy it, and a process that
uses it imports neither llvmlite nor numba.

Formats: System V ABI, chapters 4 and 5, and its AMD64 supplement, chapter 4.4.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Final, NamedTuple

_FILE_HEADER = struct.Struct("<16s2HI3QI6H")
_SECTION = struct.Struct("<2I4Q2I2Q")
_SYMBOL = struct.Struct("<I2BH2Q")
_RELOCATION = struct.Struct("<QIIq")

_SYMBOL_TABLE, _RELOCATIONS, _UNWIND = 2, 4, 0x70000001  # types of sections
_WRITABLE, _ALLOCATED = 1, 2  # flags of sections
_SECTIONS_MAX = 0xFF00  # from here on the number of a section means something else
_DISTANCE, _DISTANCE_TO_FUNCTION = 2, 4  # types of relocations: R_X86_64_PC32, R_X86_64_PLT32
_ALIGNMENT_MAX: Final = 4096  # memory for code starts at a page


class LinkError(ValueError):
    """The object file needs more than can be done here; the message says what."""


class _Section(NamedTuple):
    """An entry of the section table: the parts of an object file."""

    kind: int
    flags: int
    content: bytes
    link: int
    target: int  # of relocations: the section that they are for
    alignment: int

    @property
    def is_needed(self) -> bool:
        """Whether the program needs it in memory; tables for exceptions, which nothing here
        throws, it doesn't."""
        return bool(self.flags & _ALLOCATED and self.content and self.kind != _UNWIND)


def link(object_file: bytes, function: str) -> tuple[bytes, int]:
    """The code, and where in it the named function begins. LinkError if there is more to do."""
    sections = _sections(object_file)
    code, starts = _laid_out(sections)
    (symbols,) = (section for section in sections if section.kind == _SYMBOL_TABLE)
    names = sections[symbols.link].content
    places: list[int | None] = []  # of each symbol in the code
    entry = None
    for name_start, _, _, number, value, _ in _SYMBOL.iter_unpack(symbols.content):
        is_placed = 0 < number < _SECTIONS_MAX and number in starts
        places.append(starts[number] + value if is_placed else None)
        if names[name_start : names.index(b"\0", name_start)] == function.encode():
            entry = places[-1]
    for section in sections:
        if section.kind == _RELOCATIONS and section.target in starts:
            _relocate(code, starts[section.target], section.content, places)
    if entry is None:
        raise LinkError(f"the object file has no function {function}")
    return bytes(code), entry


def _sections(object_file: bytes) -> list[_Section]:
    header = _FILE_HEADER.unpack_from(object_file)
    table_start, count = header[6], header[12]
    sections = []
    for number in range(count):
        _, kind, flags, _, start, size, link, target, alignment, _ = _SECTION.unpack_from(
            object_file, table_start + number * _SECTION.size
        )
        content = object_file[start : start + size]
        sections.append(_Section(kind, flags, content, link, target, alignment))
    return sections


def _laid_out(sections: list[_Section]) -> tuple[bytearray, dict[int, int]]:
    """The needed sections one behind the other, and where each, by its number, begins."""
    code, starts = bytearray(), {}
    for number, section in enumerate(sections):
        if section.is_needed:
            if section.flags & _WRITABLE or section.alignment > _ALIGNMENT_MAX:
                raise LinkError(f"section {number} has data that may change")
            code += bytes(-len(code) % max(section.alignment, 1))
            starts[number] = len(code)
            code += section.content
    return code, starts


def _relocate(code: bytearray, start: int, relocations: bytes, places: list[int | None]) -> None:
    """Fill in what the section that begins at ``start`` refers to."""
    for offset, kind, number, addend in _RELOCATION.iter_unpack(relocations):
        place = places[number]
        if kind not in (_DISTANCE, _DISTANCE_TO_FUNCTION) or place is None:
            raise LinkError(f"relocation of type {kind} to symbol {number}")
        struct.pack_into("<i", code, start + offset, place + addend - (start + offset))


def load(code: bytes) -> tuple[int, mmap.mmap]:
    """Where in this process the code lies now, and what keeps it there.

    OSError if the system refuses memory for code.
    """
    memory = mmap.mmap(-1, len(code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # Never writable and executable at the same time: hardened systems refuse that.
    if protect(address, len(code), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        raise OSError(ctypes.get_errno(), "the system refuses memory for code")
    return address, memory
