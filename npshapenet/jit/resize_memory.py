"""How much memory a resize needs: Python counts it, the compiled code cuts it up by the same
functions.

scratch, in floats, each part from a multiple of 16 on:

KEY_SIZE      the size and type of the crop that the tables are for
spans         int64 pairs: which inputs each output row and each block of NR columns needs
row weights   for each output row, ``most_taps`` of them
panels        for each block, NR · (1 + ``most_inputs``)
rows          the crop with its rows resized, out_height × width
"""

from __future__ import annotations

KEY_SIZE = 16


def most_taps(side: int, out_side: int) -> int:
    """What the inputs under the filter of one output are at most."""
    return 2 * (side // out_side + 1) + 1


def most_inputs(side: int, out_side: int, outputs: int) -> int:
    """What the inputs that so many neighbouring outputs need are at most."""
    return (outputs + 1) * (side // out_side + 1) + 1


def block_count(out_width: int, columns: int) -> int:
    """Blocks of NR = ``columns`` output columns."""
    return (out_width + columns - 1) // columns


def filled(size: int) -> int:
    """A part's floats, and those up to where the next one begins."""
    return (size + 15) // 16 * 16


def scratch_size(crop_shape: tuple[int, ...], out_shape: tuple[int, ...], columns: int) -> int:
    """All of it, for a crop (H, W), whether it is widened or not, that becomes ``out_shape``."""
    width, side = crop_shape[1], max(crop_shape)
    out_height, out_width = out_shape
    blocks = block_count(out_width, columns)
    return (
        KEY_SIZE
        + filled(4 * (out_height + blocks))
        + filled(out_height * most_taps(side, out_height))
        + filled(blocks * columns * (1 + most_inputs(side, out_width, columns)))
        + filled(out_height * width)
    )
