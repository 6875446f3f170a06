"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO


def replace_file(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file that takes the place of ``path`` once it is complete.

    The bytes go to a temporary name beside it, are flushed to the disk, then renamed. If
    anything fails, Ctrl-C included, ``path`` is as it was and the temporary file is gone. OSError
    where the folder can't be written, and whatever ``write`` raises.
    """
    folder, name = os.path.split(path)
    # A long name with more appended could be too long for the file system.
    temporary = os.path.join(folder, f".{name[:200]}.{os.urandom(4).hex()}.part")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
