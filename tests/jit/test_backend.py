"""CompiledBackend as its users call it: crops, batches, threads, processes; the resize."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npshapenet import image, jit
from npshapenet.layers import Convolution, Dense
from npshapenet.network import Network
from npshapenet.plain import PlainBackend
from npshapenet.shape import TRANSFORM_NUMBERS, ShapeModel
from npshapenet.weights import Normalisation

Floats = NDArray[np.float32]
NORMALISATION = Normalisation(scale=3.0, offset=-1.5)


@pytest.fixture(scope="module")
def backends(
    network: Network, tensors: Mapping[str, Floats]
) -> tuple[jit.CompiledBackend, PlainBackend]:
    arguments = (network, tensors, NORMALISATION)
    return jit.CompiledBackend(*arguments), PlainBackend(*arguments)


def random_crops(count: int = 12) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(11)
    sizes = rng.integers(16, 90, (count, 2))
    return [rng.integers(0, 256, size).astype(np.uint8) for size in sizes]


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_outputs_of_crops_of_any_size(
    backends: tuple[jit.CompiledBackend, PlainBackend], kind: str
) -> None:
    compiled, plain = backends
    crops = random_crops()
    if kind == "float32":
        crops = [(crop / np.float32(255)).astype(np.float32) for crop in crops]
    truth = plain.outputs(crops)
    assert np.abs(compiled.outputs(crops) - truth).max() < 3e-5 * np.abs(truth).max()


def test_outputs_of_networks_with_an_odd_input() -> None:
    """Narrower than a vector, so that the resize can't write it into the arena."""
    for side in (1, 3, 7, 15, 16, 17):
        network = Network((1, side, side), (Dense("d", "input", 5),))
        tensors = {
            "d.weight": np.random.default_rng(0).normal(0, 1, (5, side**2)).astype(np.float32),
            "d.bias": np.zeros(5, np.float32),
        }
        arguments = (network, tensors, NORMALISATION)
        truth = PlainBackend(*arguments).outputs(random_crops(4))
        got = jit.CompiledBackend(*arguments).outputs(random_crops(4))
        assert np.abs(got - truth).max() < 2e-5 * np.abs(truth).max()


def test_no_crops_and_no_images(backends: tuple[jit.CompiledBackend, PlainBackend]) -> None:
    compiled, _ = backends
    assert compiled.outputs([]).shape == (0, 10)
    assert compiled.run(np.empty((0, 1, 33, 33), np.float32)).shape == (0, 10)


def test_batch_gives_what_single_calls_give(
    backends: tuple[jit.CompiledBackend, PlainBackend],
) -> None:
    compiled, _ = backends
    images = np.random.default_rng(1).normal(0, 1, (5, 1, 33, 33)).astype(np.float32)
    single = np.concatenate([compiled.run(one[None]) for one in images])
    np.testing.assert_array_equal(compiled.run(images), single)
    images.flags.writeable = False
    np.testing.assert_array_equal(compiled.run(images), single)
    np.testing.assert_array_equal(compiled.run(images[::2]), single[::2])


def test_many_crops_give_what_single_ones_give(
    backends: tuple[jit.CompiledBackend, PlainBackend],
) -> None:
    """More than go through one call of the engine, bytes and floats in turn."""
    compiled, _ = backends
    crops = [
        crop if number % 3 else (crop / np.float32(255)).astype(np.float32)
        for number, crop in enumerate(random_crops(70))
    ]
    single = np.concatenate([compiled.outputs([crop]) for crop in crops])
    np.testing.assert_array_equal(compiled.outputs(crops), single)


def test_wrong_shapes_are_refused(backends: tuple[jit.CompiledBackend, PlainBackend]) -> None:
    compiled, _ = backends
    with pytest.raises(ValueError, match=r"\(N, 1, 33, 33\), not \(1, 33, 33\)"):
        compiled.run(np.zeros((1, 33, 33), np.float32))
    colour = Network((3, 8, 8), (Convolution("c", "input", 2, (1, 1)),))
    tensors = {
        "c.weight": np.zeros((2, 3, 1, 1), np.float32),
        "c.bias": np.zeros(2, np.float32),
    }
    with pytest.raises(ValueError, match="3 channels"):
        jit.CompiledBackend(colour, tensors, NORMALISATION).outputs(random_crops(1))


def test_threads_give_the_same_bits(backends: tuple[jit.CompiledBackend, PlainBackend]) -> None:
    compiled, _ = backends
    crops = random_crops(40)
    alone = compiled.outputs(crops)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda crop: compiled.outputs([crop])[0], crops * 5))
    np.testing.assert_array_equal(np.stack(together), np.tile(alone, (5, 1)))


def test_backend_can_be_pickled(backends: tuple[jit.CompiledBackend, PlainBackend]) -> None:
    compiled, _ = backends
    copy = pickle.loads(pickle.dumps(compiled))
    crops = random_crops(2)
    np.testing.assert_array_equal(copy.outputs(crops), compiled.outputs(crops))


def test_child_processes_after_fork(
    backends: tuple[jit.CompiledBackend, PlainBackend],
) -> None:
    """A worker pool in a program that has already predicted, also from threads."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system can't fork")
    compiled, _ = backends
    here = compiled.outputs(random_crops(2))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(compiled.outputs(random_crops(2))))
    with ThreadPoolExecutor(2) as pool:  # whose threads are there while it forks
        for there in pool.map(lambda _: compiled.outputs(random_crops(2)), range(8)):
            np.testing.assert_array_equal(there, here)
        child.start()
        np.testing.assert_array_equal(queue.get(timeout=60), here)
        child.join(60)
    assert child.exitcode == 0


@pytest.mark.parametrize("case", ["plain", "limits", "quality", "far from its limits"])
def test_landmarks_are_those_of_the_shape_model(
    network: Network,
    tensors: Mapping[str, Floats],
    make_shape_model: Callable[..., ShapeModel],
    case: str,
) -> None:
    """As shape.py says in NumPy, for crops that are square, wide and tall, with one shared angle
    in each quarter of a turn."""
    quality = case == "quality"
    shape_model = make_shape_model(landmarks=13, components=10 - TRANSFORM_NUMBERS - quality)
    if case in ("limits", "far from its limits"):
        least, largest = (-0.2, 0.3) if case == "limits" else (-1e6, 1e6)
        count = 10 - quality
        limits = np.array([[least] * count, [largest] * count], np.float32)
        shape_model = replace(shape_model, limits=limits)
    crops = [*random_crops(), random_crops(1)[0][:16, :16].copy()]
    for angle_rad in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, -2.0, -3.0, -40.0, 1e5):
        turned = dict(tensors)
        bias = turned["head.bias"].copy()
        bias[9 - quality - 2] += angle_rad
        turned["head.bias"] = bias
        arguments = network, turned, NORMALISATION, shape_model
        compiled, plain = jit.CompiledBackend(*arguments), PlainBackend(*arguments)
        got, truth = compiled.landmarks(crops), plain.landmarks(crops)
        assert got.shape == truth.shape == (len(crops), 13, 2)
        # An angle of 1e5 has an error of 4e-3 in float32 before any sine is taken.
        tolerance = 1e-2 if abs(angle_rad) < 100 else 1e-1 * np.abs(truth).max()
        assert np.abs(got - truth).max() < tolerance
        single = np.concatenate([compiled.landmarks([crop]) for crop in crops])
        np.testing.assert_array_equal(got, single)


def test_landmarks_where_there_are_no_steps_for_them(
    make_shape_model: Callable[..., ShapeModel],
) -> None:
    """A network whose outputs lie over an image, and one that is too narrow for the resize."""
    shape_model = make_shape_model(landmarks=7, components=5)
    for network in (
        Network((1, 18, 18), (Convolution("c", "input", 1, (16, 16)),)),
        Network((1, 3, 3), (Dense("d", "input", 9),)),
    ):
        rng = np.random.default_rng(0)
        tensors = {
            name: rng.normal(0, 0.1, shape).astype(np.float32)
            for name, shape in network.tensor_shapes().items()
        }
        arguments = network, tensors, NORMALISATION, shape_model
        crops = random_crops(5)
        truth = PlainBackend(*arguments).landmarks(crops)
        assert np.abs(jit.CompiledBackend(*arguments).landmarks(crops) - truth).max() < 1e-2
    without = jit.CompiledBackend(network, tensors, NORMALISATION)
    with pytest.raises(ValueError, match="was given none"):
        without.landmarks(crops)


def test_sizes_in_turn_give_what_each_gives_alone(
    network: Network,
    tensors: Mapping[str, Floats],
    make_shape_model: Callable[..., ShapeModel],
) -> None:
    """The weights of the resize are kept for the last size and type only."""
    arguments = network, tensors, NORMALISATION, make_shape_model()
    compiled = jit.CompiledBackend(*arguments)
    gray = np.random.default_rng(0).integers(0, 256, (80, 90)).astype(np.uint8)
    crops: list[NDArray[np.uint8] | Floats] = [
        np.ascontiguousarray(gray[:height, :width])
        for height, width in ((80, 90), (80, 90), (40, 90), (90, 40), (17, 16), (80, 90))
    ]
    crops += [(crop / np.float32(255)).astype(np.float32) for crop in crops]
    for crop in crops + crops[::-1]:
        fresh = jit.CompiledBackend(*arguments)
        np.testing.assert_array_equal(compiled.landmarks([crop]), fresh.landmarks([crop]))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    is_float=st.booleans(),
)
def test_resize(shape: tuple[int, int], size: tuple[int, int], is_float: bool) -> None:
    gray = np.random.default_rng(shape[0]).integers(0, 256, shape).astype(np.uint8)
    if is_float:
        gray = (gray / np.float32(255)).astype(np.float32)
    got, truth = jit.resize(gray, *size), image.resize(gray, *size)
    assert got.dtype == np.float32
    assert got.shape == size
    assert np.abs(got - truth).max() <= 1e-6 * truth.max() + 1e-7


def test_resize_of_large_crops() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (1500, 900)).astype(np.uint8)
    for size in ((112, 112), (3, 1000), (2000, 5)):
        assert np.abs(jit.resize(gray, *size) - image.resize(gray, *size)).max() < 5e-4
    assert (jit.resize(np.full((40, 50), 77, np.uint8), 31, 61) - 77 < 1e-4).all()


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 70)),
    corner=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    layout=st.sampled_from(["rgb", "bgr", "rgba", "upside down", "mirrored"]),
)
def test_gray_is_that_of_pillow(
    size: tuple[int, int], corner: tuple[int, int], layout: str
) -> None:
    """Of parts of photos, however their bytes lie."""
    rng = np.random.default_rng(size[0])
    photo = rng.integers(0, 256, (60, 80, 4 if layout == "rgba" else 3)).astype(np.uint8)
    views = {
        "rgb": photo,
        "bgr": photo[..., ::-1],
        "rgba": photo[..., :3],
        "upside down": photo[::-1],
        "mirrored": photo[:, ::-1],
    }
    part = views[layout][corner[0] :, corner[1] :][: size[0], : size[1]]
    np.testing.assert_array_equal(jit.rgb_to_gray(part), image.rgb_to_gray(part))


def test_gray_of_every_few_colours() -> None:
    levels = np.arange(0, 256, 3, np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 86, 3)
    np.testing.assert_array_equal(jit.rgb_to_gray(colours), image.rgb_to_gray(colours))


@pytest.mark.parametrize("side", [7, 48])
def test_outputs_and_landmarks_at_once(
    side: int, make_shape_model: Callable[..., ShapeModel]
) -> None:
    """The same as each by itself; inputs of 7×7 are too narrow for a resize into the arena."""
    network = Network((1, side, side), (Dense("d", "input", 10),))
    weight = np.random.default_rng(0).normal(0, 1 / side, (10, side**2)).astype(np.float32)
    tensors = {"d.weight": weight, "d.bias": np.ones(10, np.float32)}
    arguments = network, tensors, NORMALISATION, make_shape_model(landmarks=13, components=6)
    for backend in (jit.CompiledBackend(*arguments), PlainBackend(*arguments)):
        crops = random_crops()
        both = backend.outputs_and_landmarks(crops)
        np.testing.assert_array_equal(both[:, :10], backend.outputs(crops))
        landmarks = backend.landmarks(crops)
        np.testing.assert_array_equal(both[:, 10:].reshape(landmarks.shape), landmarks)
