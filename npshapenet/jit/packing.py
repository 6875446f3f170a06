"""Packed panels: the weights in the order in which the microkernel reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npshapenet.jit import steps as s
from npshapenet.jit.arena import rounded_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def pack_convolution(
    weight: Floats, bias: Floats, input_pixel: int, columns: Mapping[int, int]
) -> Floats:
    """weight (C', C, kh, kw), bias (C') → the panels of one width, then those of the other.

    A panel holds NR output channels: for each depth block first its NR biases (zeros but in
    the first block: the later ones start from the sums so far), then for each input of the
    block, in the order in which the image has them (row, column, channel), its NR weights.
    ``input_pixel`` ≥ C inputs are read of each pixel: channels that only fill it up get zeros.
    """
    outputs, channels, kernel_rows, kernel_columns = weight.shape
    matrix = np.zeros((kernel_rows, kernel_columns, input_pixel, columns[s.CHANNELS]), np.float32)
    matrix[:, :, :channels, :outputs] = weight.transpose(2, 3, 1, 0)
    biases = np.zeros(columns[s.CHANNELS], np.float32)
    biases[:outputs] = bias
    blocks = columns[s.BLOCK_ROWS] * columns[s.BLOCK_COLUMNS]
    by_block = matrix.reshape(blocks, -1, columns[s.CHANNELS])
    parts = []
    first = 0
    for channel_column, count_column in (
        (s.TILE_CHANNELS, s.PANELS),
        (s.SECOND_TILE_CHANNELS, s.SECOND_PANELS),
    ):
        width, count = columns[channel_column], columns[count_column]
        if count == 0:
            continue
        part = slice(first, first + width * count)
        panels = np.zeros((count, blocks, 1 + by_block.shape[1], width), np.float32)
        panels[:, 0, 0] = biases[part].reshape(count, width)
        panels[:, :, 1:] = (
            by_block[:, :, part].reshape(blocks, -1, count, width).transpose(2, 0, 1, 3)
        )
        parts.append(panels.ravel())
        first += width * count
    return np.concatenate(parts)


def pack_depthwise(weight: Floats, bias: Floats, columns: Mapping[int, int]) -> Floats:
    """weight (C, 1, kh, kw), bias (C) → panels of NR channels: biases, then each tap's weights."""
    channels, _, kernel_rows, kernel_columns = weight.shape
    rows = np.zeros((1 + kernel_rows * kernel_columns, columns[s.CHANNELS]), np.float32)
    rows[0, :channels] = bias
    rows[1:, :channels] = weight.reshape(channels, -1).T
    panels = rows.reshape(rows.shape[0], columns[s.PANELS], columns[s.TILE_CHANNELS])
    return np.ascontiguousarray(panels.transpose(1, 0, 2)).ravel()


def pack_point_depthwise(offsets: Floats, weight: Floats, bias: Floats) -> tuple[Floats, int]:
    """offsets (S, 2), weight (C, S), bias (C) → what POINT_DEPTHWISE reads, and where in it the
    biases begin.

    The offsets, filled up to whole vectors; the biases and each place's weights, filled up too.
    """
    places = np.zeros(rounded_up(offsets.size, s.CHANNEL_MULTIPLE), np.float32)
    places[: offsets.size] = offsets.ravel()
    rows = np.zeros((1 + len(offsets), rounded_up(len(bias), s.CHANNEL_MULTIPLE)), np.float32)
    rows[0, : len(bias)] = bias
    rows[1:, : len(bias)] = weight.T
    return np.concatenate([places, rows.ravel()]), places.size


def pack_similarity(mean: Floats) -> Floats:
    """mean (L, 2) → what FIT_SIMILARITY reads, one after the other.

    The mean's centre (2); the mean about its centre, over the sum of its squares (2·L); the mean
    (2·L).
    """
    centre = mean.mean(axis=0)
    centred = mean - centre
    factors = centred / np.maximum(np.sum(centred**2), np.float32(1e-12))
    return np.concatenate([centre, factors.ravel(), mean.ravel()])
