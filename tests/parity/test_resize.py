"""The resize against PyTorch's antialiased interpolation and Pillow's BILINEAR in mode F."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npshapenet.layers import Convolution
from npshapenet.network import Network
from npshapenet.weights import Normalisation
from reference.parity import ParityError, check, difference

EXAMPLES = settings(max_examples=80, derandomize=True, deadline=None, database=None)
SIDES = st.integers(16, 150)


@pytest.fixture
def resize(backend_name):
    if backend_name == "numpy":
        from npshapenet.image import resize

        return resize
    from npshapenet import jit

    return jit.resize


@st.composite
def grays(draw, sides=SIDES):
    """Gray crops of both types, noise or one level."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(sides, sides))
    kind = draw(st.sampled_from(["uint8", "float32", "uint8", "float32", "constant"]))
    if kind == "constant":
        return np.full(shape, rng.integers(0, 256), np.uint8)
    if kind == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.random(shape, dtype=np.float32)


TARGETS = st.tuples(st.integers(8, 130), st.integers(8, 130))
#: No change, whole factors, a hair larger and smaller, much smaller than the network's side.
CORNERS = [(16, 16), (112, 112), (56, 224), (111, 113), (113, 111), (900, 700), (16, 300)]


def test_is_pytorchs(resize, backend_name, hold):
    pytest.importorskip("torch", reason="the stored fixtures stand in: test_fixtures.py")
    from reference.fixtures import torch_resize

    @EXAMPLES
    @given(gray=grays(), target=TARGETS)
    def test(gray, target):
        theirs = torch_resize(gray, *target)[0, 0].numpy()
        found = difference("resize", "to PyTorch's", resize(gray, *target), theirs)
        hold("resize and shape model", backend_name, [found])

    test()
    for shape in CORNERS:
        gray = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        theirs = torch_resize(gray, 112, 112)[0, 0].numpy()
        check([difference("resize", "to PyTorch's", resize(gray, 112, 112), theirs)])


def test_is_pillows(resize, backend_name, hold):
    @EXAMPLES
    @given(gray=grays(), target=TARGETS)
    def test(gray, target):
        height, width = target
        picture = Image.fromarray(gray.astype(np.float32))
        theirs = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        found = difference("resize (Pillow)", "to Pillow's", resize(gray, *target), theirs)
        hold("resize and shape model", backend_name, [found])

    test()


def test_crops_reach_the_network_as_pytorch_prepares_them(make_backend, backend_name, hold):
    """Widened to a square, to 0–1, resized, normalised: read off by a network that copies them."""
    pytest.importorskip("torch", reason="the stored fixtures stand in: test_fixtures.py")
    from reference.fixtures import torch_resize, torch_widen

    side = 24
    # Each output is one of the pixels.
    network = Network((1, side, side), (Convolution("copy", "input", side * side, (side, side)),))
    tensors = {
        "copy.weight": np.eye(side * side, dtype=np.float32).reshape(-1, 1, side, side),
        "copy.bias": np.zeros(side * side, np.float32),
    }
    backend = make_backend(network, tensors, Normalisation(scale=3.0, offset=-0.75))

    @EXAMPLES
    @given(crops=st.lists(grays(st.integers(16, 60)), min_size=1, max_size=4))
    def test(crops):
        ours = backend.outputs(crops).reshape(-1, side, side)
        for crop, image in zip(crops, ours, strict=True):
            white = 255 if crop.dtype == np.uint8 else 1
            theirs = torch_resize(torch_widen(crop), side, side)[0, 0].numpy() / white * 3 - 0.75
            found = difference("network's input", "of crops", image, theirs)
            hold("resize and shape model", backend_name, [found])

    test()


@pytest.mark.parametrize("shape", [(30, 40), (112, 112), (300, 200)])
def test_one_gray_level_of_one_pixel_is_found(resize, shape):
    """What the check would say to a wrong pixel, and that it says nothing to the right ones."""
    gray = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    theirs = np.asarray(
        Image.fromarray(gray.astype(np.float32)).resize((56, 48), Image.Resampling.BILINEAR)
    )
    check([difference("resize", "", resize(gray, 48, 56), theirs)])
    wrong = gray.copy()
    wrong[shape[0] // 2, shape[1] // 3] += 1
    with pytest.raises(ParityError, match="resize"):
        check([difference("resize", "", resize(wrong, 48, 56), theirs)])
