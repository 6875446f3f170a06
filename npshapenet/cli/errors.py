"""What ends a command without a stack trace."""

from __future__ import annotations

USAGE = 2
FAILED = 1
#: What a shell reports of a command that Ctrl-C has ended.
INTERRUPTED = 128 + 2


class CommandError(Exception):
    """One line for the user, and the exit status: FAILED, or USAGE for a wrong command line."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def reason(error: Exception) -> str:
    """An exception in one line: of an OSError what happened, without number and file name."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
