"""Writing a file so that it is there whole or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a file that takes the place of `path` once it is complete.

    The bytes go to a temporary name beside `path`, are flushed to the disk, then renamed. When
    anything fails, Ctrl-C included, the temporary file is removed and `path` is as it was.
    Raises OSError where the folder can't be written, and whatever `write` raises.
    """
    path = Path(path)
    # Not tempfile's: its files are the owner's only, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
