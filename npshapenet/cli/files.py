"""Writing a result so that its file is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from npshapenet.atomic import replace_file
from npshapenet.cli.errors import FAILED, CommandError, reason


def write_file(path: Path, content: bytes) -> None:
    """Put content into a file, by way of a temporary one beside it; CommandError if that fails.

    A link is followed. What isn't a plain file (/dev/stdout, a pipe) is written to directly.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            replace_file(os.path.realpath(path), lambda file: file.write(content))
    except OSError as error:
        raise CommandError(f"{path} can't be written: {reason(error)}", FAILED) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they aren't there yet; CommandError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"folder {path} can't be made: {reason(error)}", FAILED) from error
