"""What goes wrong with videos."""

from __future__ import annotations


class VideoError(ValueError):
    """A video that can't be read or written, or not to its end; one line says why."""
