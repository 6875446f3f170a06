"""Fixtures that several tests share: small seeded networks and shape models, the shared data, a
camera in the network."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from npshapenet.layers import Add, Convolution, Dense, GlobalAveragePool, InstanceNorm
from npshapenet.network import Network
from npshapenet.shape import ShapeModel
from npshapenet.weights import Normalisation, Weights, write

# The same cases in each run: a case that fails tomorrow must not have passed today.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

CHECKOUT = Path(__file__).resolve().parent.parent

Floats = NDArray[np.float32]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real faces beside the checkout; tests that need it skip where it isn't."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real faces of ../shared/data, which are not in the repository")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20190203)


@pytest.fixture(scope="session")
def network() -> Network:
    """Every layer type and activation, odd sizes, a residual, 10 outputs for 6 components."""
    return Network(
        (1, 33, 33),
        (
            Convolution("stem", "input", 16, (3, 3), (2, 2), (1, 1), activation="hard_swish"),
            Convolution("expand", "stem", 24, (1, 1), activation="relu"),
            Convolution("depthwise", "expand", 24, (3, 3), (1, 1), (1, 1), 24, "hard_swish"),
            Convolution("project", "depthwise", 16, (1, 1)),
            Add("residual", "stem", "project"),
            InstanceNorm("norm", "residual"),
            Convolution("wide", "norm", 12, (1, 5), (1, 2), (0, 2), groups=4, activation="relu"),
            Convolution("tall", "wide", 20, (5, 1), (2, 1), activation="hard_swish"),
            Convolution("strided", "tall", 20, (3, 3), (2, 2), (1, 1), groups=20),
            Add("sum", "strided", "strided", activation="relu"),
            GlobalAveragePool("pool", "sum"),
            Dense("hidden", "pool", 18, activation="relu"),
            Dense("head", "hidden", 10),
        ),
    )


def random_tensors(network: Network, seed: int = 0) -> dict[str, Floats]:
    """Weights that keep the size of what passes through, representable in float16; biases."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in network.tensor_shapes().items():
        inputs = np.prod(shape[1:]) if name.endswith(".weight") else 100
        values = rng.normal(scale=np.sqrt(2 / inputs), size=shape)
        tensors[name] = values.astype(np.float16).astype(np.float32)
    return tensors


def random_shape_model(landmarks: int = 68, components: int = 6, seed: int = 1) -> ShapeModel:
    """Points within the crop, and components of a tenth of its extent and less."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(-0.6, 0.6, (landmarks, 2))
    deviations = 0.1 / np.arange(1, components + 1)[:, None, None]
    modes = rng.normal(size=(components, landmarks, 2)) * deviations
    return ShapeModel(mean.astype(np.float32), modes.astype(np.float32))


@pytest.fixture(scope="session")
def make_tensors() -> Callable[..., dict[str, Floats]]:
    """``make_tensors(network, seed=0)`` → seeded tensors for any network."""
    return random_tensors


@pytest.fixture(scope="session")
def make_shape_model() -> Callable[..., ShapeModel]:
    """``make_shape_model(landmarks=68, components=6, seed=1)``."""
    return random_shape_model


@pytest.fixture(scope="session")
def tensors(network: Network) -> Mapping[str, Floats]:
    return random_tensors(network)


@pytest.fixture(scope="session")
def weights(network: Network, tensors: Mapping[str, Floats]) -> Weights:
    """The small network as a model of 68 points whose landmarks lie in and about the crop."""
    return Weights(
        network=network,
        # Scale about 1 and small angles: what random outputs say is no face, but no speck either.
        tensors={
            **tensors,
            "head.bias": np.array([0, 0.5, -0.5, 0.25, 0, 1, 1, 0.25, 0.125, -0.125], np.float32),
        },
        shape_model=random_shape_model(),
        normalisation=Normalisation(scale=2.0, offset=-1.0),
        crop_factor=1.5,
        markup="ibug68",
        provenance={"data": "none: random numbers", "terms": "none"},
    )


@pytest.fixture(scope="session")
def weights_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights as a file; read only."""
    path = tmp_path_factory.mktemp("weights") / "small.npz"
    write(path, weights)
    return path


@pytest.fixture(scope="session")
def network_camera() -> Callable[..., AbstractContextManager[str]]:
    """``with network_camera(frames, interval_s=0.05) as address``: sends JPEGs over HTTP."""
    return _network_camera


@contextmanager
def _network_camera(frames: Sequence[np.ndarray], interval_s: float) -> Iterator[str]:
    """It sends a frame each ``interval_s`` to whoever asks, and hangs up after the last."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(ConnectionError):  # who asked has seen enough
                for frame in frames:
                    self.wfile.write(_part(frame))
                    time.sleep(interval_s)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live"
    finally:
        server.shutdown()
        server.server_close()


def _part(frame: np.ndarray) -> bytes:
    jpeg = io.BytesIO()
    Image.fromarray(frame).save(jpeg, "JPEG", quality=95)
    content = jpeg.getvalue()
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"
