"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO


def replace_file(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file that takes the place of ``path`` once it is complete.

    As ``replacement``, and raises whatever ``write`` raises.
    """
    with replacement(path) as temporary, open(temporary, "xb") as file:
        write(file)


@contextmanager
def replacement(path: str, ending: str = "") -> Iterator[str]:
    """A temporary name beside ``path``, whose file takes the place of ``path`` at the end.

    ``ending`` is what the name ends in, where that says the form. The file is flushed to the
    disk, then renamed. If anything fails, Ctrl-C included, ``path`` is as it was and the temporary
    file is gone. OSError where the folder can't be written, or nothing was written to it.
    """
    folder, name = os.path.split(path)
    # A long name with more appended could be too long for the file system.
    temporary = os.path.join(folder, f".{name[:200]}.{os.urandom(4).hex()}.part{ending}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _flush(path: str) -> None:
    """Have the system write a file's content to the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
