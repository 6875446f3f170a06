"""A colour crop as a gray one, compiled: what Pillow's ``convert("L")`` gives, bit by bit."""

from __future__ import annotations

from typing import Any

from npshapenet.jit import steps as s
from npshapenet.jit.compiled import compiled
from npshapenet.jit.intrinsics import as_bytes, at, gray_row


@compiled
def make_gray(step: Any, crop: Any, height: Any, width: Any, out: Any) -> None:
    """crop (height, width, 3) → out (height, width), both of bytes; at least V pixels wide."""
    crop, out = as_bytes(crop), as_bytes(out)
    for y in range(height):
        gray_row(
            at(crop, y * step[s.INPUT_ROW]),
            width,
            step[s.FIRST_SHARE],
            step[s.SECOND_SHARE],
            step[s.THIRD_SHARE],
            at(out, y * width),
        )
