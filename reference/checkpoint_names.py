"""The checkpoints that a run of reference.train leaves in its folder."""

from __future__ import annotations

from typing import Final

#: By which the run goes on, and the one with the least error on held-out faces.
LAST: Final = "last.pt"
BEST: Final = "best.pt"
