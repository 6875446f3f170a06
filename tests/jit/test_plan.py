"""The plan: images that are alive together don't overlap, steps stay inside their memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from npshapenet.jit import cpu
from npshapenet.jit import steps as s
from npshapenet.jit.arena import Image, Lifetime, place
from npshapenet.jit.plan import make_plan
from npshapenet.layers import Convolution
from npshapenet.network import Network

Floats = NDArray[np.float32]
ALL_REGISTERS = {
    "AVX512": (cpu.AVX512, 32),
    "AVX": (cpu.AVX, 16),
    "SSE2": (cpu.SSE2, 16),
    "NEON": (cpu.NEON, 32),
}


def test_images_that_are_alive_together_do_not_overlap() -> None:
    rng = np.random.default_rng(5)
    lifetimes = []
    for first in range(40):
        channels, height, width = (int(size) for size in rng.integers(1, 9, 3))
        border = (int(rng.integers(3)), int(rng.integers(3)))
        last = first + int(rng.integers(0, 6))
        lifetimes.append(Lifetime(Image((channels, height, width), 16, border), first, last))
    size = place(lifetimes)
    for one in lifetimes:
        assert one.image.offset % 16 == 0
        assert one.image.offset + one.image.size <= size
        for other in lifetimes:
            if one is not other and one.first <= other.last and other.first <= one.last:
                ends = one.image.offset + one.image.size, other.image.offset + other.image.size
                assert ends[0] <= other.image.offset or ends[1] <= one.image.offset
    assert size < place(lifetimes, share=False)


def test_border_surrounds_the_image() -> None:
    """Every pixel of padding is within the image's memory and outside the image's pixels."""
    image = Image((3, 4, 5), 16, (2, 1), offset=0)
    memory = np.zeros(image.size, np.float32)
    image.view(memory)[:] = 1
    starts = [
        image.origin + y * image.row_pitch + x * image.pixel_pitch
        for y in range(-2, 6)
        for x in range(-1, 6)
    ]
    assert min(starts) == 0
    assert max(starts) + image.pixel_pitch == image.size
    values = [memory[start] for start in starts]
    assert sum(values) == 20


@pytest.mark.parametrize("name", ALL_REGISTERS)
def test_tiles_fit_into_the_registers(name: str) -> None:
    table, registers = ALL_REGISTERS[name]
    for pixels, vectors in table.tiles:
        assert pixels * vectors + vectors + 1 <= registers
    for tile in table.depthwise_tiles:
        inputs = 1 if tile.tap_columns else 0  # else an operand of the multiply-add, in memory
        weights = max(tile.tap_columns, 1) * tile.vectors
        assert tile.pixels * tile.vectors + weights + inputs <= registers
    assert table.tiles[0][1] == table.tiles[-1][1] == 1
    assert table.tiles[-1] == table.depthwise_tiles[-1][:2] == (1, 1)


@pytest.mark.parametrize("name", ALL_REGISTERS)
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_kernels_of_common_sizes_load_each_input_once(
    name: str, kernel: int, stride: int
) -> None:
    table, _ = ALL_REGISTERS[name]
    layer = Convolution("d", "input", 32, (kernel,) * 2, (stride,) * 2, (kernel // 2,) * 2, 32)
    plan = make_plan(Network((32, 28, 28), (layer,)), random_tensors(layer), table)
    (step,) = plan.steps[plan.steps[:, s.KIND] == s.DEPTHWISE]
    tile = table.depthwise_tiles[step[s.TILE]]
    assert (tile.tap_columns, tile.stride, tile.is_broadcast) == (kernel, stride, False)


@pytest.mark.parametrize("name", ALL_REGISTERS)
def test_a_first_convolution_of_a_gray_image_is_broadcast(name: str) -> None:
    table, _ = ALL_REGISTERS[name]
    layer = Convolution("stem", "input", 16, (3, 3), (2, 2), (1, 1))
    plan = make_plan(Network((1, 28, 28), (layer,)), random_tensors(layer), table)
    (step,) = plan.steps[plan.steps[:, s.KIND] == s.DEPTHWISE]
    assert table.depthwise_tiles[step[s.TILE]].is_broadcast


def random_tensors(layer: Convolution) -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    shape = layer.out_channels, 1, *layer.kernel
    return {
        f"{layer.name}.weight": rng.normal(size=shape).astype(np.float32),
        f"{layer.name}.bias": rng.normal(size=shape[0]).astype(np.float32),
    }


@pytest.mark.parametrize("name", ALL_REGISTERS)
def test_panels_cover_the_channels(
    name: str, network: Network, tensors: Mapping[str, Floats]
) -> None:
    """Whatever the CPU, each convolution's panels are its channels, and its tiles fit its rows."""
    table, _ = ALL_REGISTERS[name]
    plan = make_plan(network, tensors, table)
    for step in plan.steps[plan.steps[:, s.KIND] == s.CONVOLUTION]:
        columns = (s.TILE, s.SECOND_TILE) if step[s.SECOND_PANELS] else (s.TILE,)
        channels = 0
        for column in columns:
            pixels, vectors = table.tiles[step[column]]
            assert step[column + 1] == pixels <= step[s.ROW_PIXELS]
            assert step[column + 2] == vectors * table.floats
            channels += step[column + 2] * step[column + 3]
        assert channels == step[s.CHANNELS]
    for step in plan.steps[plan.steps[:, s.KIND] == s.DEPTHWISE]:
        assert step[s.PANELS] * step[s.TILE_CHANNELS] == step[s.CHANNELS]
        assert step[s.TILE_PIXELS] <= step[s.ROW_PIXELS]
