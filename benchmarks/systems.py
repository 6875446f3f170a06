"""What is compared: each system is given the same face, and does it all on one thread.

A system may have variants, such as memory formats; the report names the faster one. One that is
not installed, or was not asked for, is left out, with a reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import Workload
from npshapenet.model import BackendName, Model
from npshapenet.network import to_json

Floats = NDArray[np.float32]

NUMPY: Final = "NumPy backend"
NUMBA: Final = "Numba backend"
PREDICT: Final = "Numba backend, predict(gray_crop)"
PYTORCH: Final = "PyTorch eager"
TORCH_COMPILE: Final = "torch.compile"
ONNX_RUNTIME: Final = "ONNX Runtime"
OPENVINO: Final = "OpenVINO"
DLIB: Final = "dlib's predictor"


class LeftOut(Exception):
    """A system can't be measured here; the message says why."""


@dataclass(frozen=True, eq=False)
class System:
    """One way to find a face's landmarks.

    ``call`` does it once, and is what is timed; ``landmarks`` makes landmarks (L, 2) in pixels of
    the crop of what it returned. ``has_own_model`` where it isn't the workload's network.
    """

    name: str
    variant: str
    call: Callable[[], Any]
    landmarks: Callable[[Any], Floats]
    has_own_model: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} ({self.variant})" if self.variant else self.name


@dataclass(frozen=True)
class Choice:
    """What the command line says of systems that aren't measured by default."""

    predictor: Path | None = None
    torch_compile: bool = False


def open_systems(work: Workload, choice: Choice) -> tuple[list[System], dict[str, str]]:
    """The systems, and why the others are left out, by name."""
    makers: dict[str, Callable[[], Iterator[System]]] = {
        NUMPY: lambda: _numpy_backend(work),
        NUMBA: lambda: _numba_backend(work),
        PYTORCH: lambda: _pytorch(work),
        TORCH_COMPILE: lambda: _torch_compile(work, choice),
        ONNX_RUNTIME: lambda: _onnx_runtime(work),
        OPENVINO: lambda: _openvino(work),
        DLIB: lambda: _dlib(work, choice),
    }
    systems: list[System] = []
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            systems += make()
        except ModuleNotFoundError as error:
            left_out[name] = f"{str(error.name).partition('.')[0]} is not installed"
        except ImportError as error:
            left_out[name] = f"can't be imported: {error.name or type(error).__name__}"
        except LeftOut as error:
            left_out[name] = str(error)
    return systems, left_out


def _outputs_of(backend: BackendName, work: Workload) -> tuple[Model, Callable[[], Floats]]:
    model = Model(work.weights, backend)
    model.warmup()
    run = model.backend.run
    return model, lambda: run(work.image)


def _first(work: Workload) -> Callable[[Any], Floats]:
    """From outputs (1, P), of whatever array type, to landmarks."""
    return lambda outputs: work.landmarks(np.asarray(outputs, np.float32)[0])


def _numpy_backend(work: Workload) -> Iterator[System]:
    _, run = _outputs_of("numpy", work)
    yield System(NUMPY, "", run, _first(work))


def _numba_backend(work: Workload) -> Iterator[System]:
    model, run = _outputs_of("numba", work)
    yield System(NUMBA, "", run, _first(work))
    gray = work.crop.gray
    yield System(PREDICT, "", lambda: model.predict(gray), np.asarray)


def _pytorch(work: Workload) -> Iterator[System]:
    import torch

    for title, memory_format in (
        ("channels last", torch.channels_last),
        ("contiguous", torch.contiguous_format),
    ):
        network = _pytorch_network(work, memory_format)
        image = torch.from_numpy(work.image).contiguous(memory_format=memory_format)
        yield System(PYTORCH, title, _inference(network, image), _first(work))


def _torch_compile(work: Workload, choice: Choice) -> Iterator[System]:
    if not choice.torch_compile:
        raise LeftOut("takes long to compile: --torch-compile")
    import torch

    image = torch.from_numpy(work.image)
    network = _pytorch_network(work, torch.contiguous_format)
    compiled = _inference(torch.compile(lambda images: network(images), dynamic=False), image)
    try:
        compiled()
    except Exception as error:  # of many kinds, by what is missing
        raise LeftOut(f"doesn't work here: {type(error).__name__}") from None
    yield System(TORCH_COMPILE, "", compiled, _first(work))


def _pytorch_network(work: Workload, memory_format: Any) -> Callable[[Any], Any]:
    import torch

    from benchmarks.pytorch_network import PyTorchNetwork

    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # said a second time
        torch.set_num_interop_threads(1)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in work.weights.tensors.items()}
    return PyTorchNetwork(to_json(work.weights.network), tensors, memory_format)


def _inference(network: Callable[[Any], Any], image: Any) -> Callable[[], Any]:
    import torch

    def run() -> Any:
        with torch.inference_mode():
            return network(image)

    return run


def _onnx_runtime(work: Workload) -> Iterator[System]:
    import onnxruntime

    from reference.onnx_graph import IMAGE, PARAMETERS, make_network_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = make_network_model(work.weights.network, work.weights.tensors)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {IMAGE: work.image}
    yield System(ONNX_RUNTIME, "run", lambda: session.run(None, feed)[0], _first(work))

    outputs = np.empty((1, work.weights.network.output_count), np.float32)
    bound = onnxruntime.OrtValue.ortvalue_from_numpy(outputs)
    binding = session.io_binding()
    binding.bind_ortvalue_input(IMAGE, onnxruntime.OrtValue.ortvalue_from_numpy(work.image))
    binding.bind_ortvalue_output(PARAMETERS, bound)

    def run_bound() -> Any:
        session.run_with_iobinding(binding)
        return bound

    yield System(
        ONNX_RUNTIME, "I/O binding", run_bound, lambda value: work.landmarks(value.numpy()[0])
    )


def _openvino(work: Workload) -> Iterator[System]:
    import openvino

    from reference.onnx_graph import make_network_model

    core = openvino.Core()
    model = make_network_model(work.weights.network, work.weights.tensors)
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
        },
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(work.image, shared_memory=True))
    output = request.get_output_tensor()

    def run() -> Any:
        request.infer()
        return output

    yield System(OPENVINO, "", run, lambda tensor: work.landmarks(tensor.data[0]))


def _dlib(work: Workload, choice: Choice) -> Iterator[System]:
    """On the gray photo, which it is fastest on; its rectangle's right and bottom are inclusive."""
    if choice.predictor is None:
        raise LeftOut("no predictor file given: --predictor FILE.dat")
    import dlib

    try:
        predictor = dlib.shape_predictor(str(choice.predictor))
    except RuntimeError as error:
        raise LeftOut(f"{choice.predictor.name}: not a shape predictor: {error}") from None
    left, top, right, bottom = (round(edge) for edge in work.box.edges)
    rectangle = dlib.rectangle(left, top, right - 1, bottom - 1)
    photo = work.photo

    def landmarks(found: Any) -> Floats:
        points = np.array([(point.x, point.y) for point in found.parts()], np.float32)
        origin: Floats = np.array([work.crop.left, work.crop.top], np.float32)
        return points - origin

    yield System(DLIB, "", lambda: predictor(photo, rectangle), landmarks, has_own_model=True)
