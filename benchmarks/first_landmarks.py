"""One new process, from its start to its first landmarks. Started by start_up.py, not by people.

    python first_landmarks.py SYSTEM FILES…

Imports what the system needs and nothing else; says "found" once it has what a face gives, then a
line of JSON: the numbers found, the memory that it holds, and how the engine came to its code.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def numpy_backend(model: str, crop: str) -> Any:
    return _npshapenet(model, crop, "numpy")


def numba_backend(model: str, crop: str) -> Any:
    return _npshapenet(model, crop, "numba")


def _npshapenet(model: str, crop: str, backend: Any) -> Any:
    """The landmarks (L, 2) of a gray crop, everything included."""
    import numpy as np

    import npshapenet

    return npshapenet.load(model, backend=backend).predict(np.load(crop))


def onnx_runtime(model: str, image: str) -> Any:
    """The network's outputs (1, P) for an image that is prepared already."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.load(image)})[0]


def pytorch(network: str, image: str) -> Any:
    """As onnx_runtime; ``network`` is a file of torch.save with the graph and the tensors."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    # For the layers whose functions are those of reference, which is not installed.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    saved = torch.load(network, weights_only=True)
    module = runpy.run_path(str(Path(__file__).with_name("pytorch_network.py")))
    with torch.inference_mode():
        run = module["PyTorchNetwork"](saved["graph"], saved["tensors"])
        return run(torch.from_numpy(np.load(image))).numpy()


SYSTEMS: dict[str, Callable[..., Any]] = {
    "numpy": numpy_backend,
    "numba": numba_backend,
    "onnxruntime": onnx_runtime,
    "pytorch": pytorch,
}


def memory_kib() -> dict[str, int]:
    """Resident memory now and at its peak, in KiB, as far as the system tells."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return {key: int(fields[key].split()[0]) for key in ("VmRSS", "VmHWM") if key in fields}
    try:
        import resource
    except ImportError:
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"VmHWM": peak // 1024 if sys.platform == "darwin" else peak}


def main() -> None:
    system, *files = sys.argv[1:]
    found = SYSTEMS[system](*files)
    print("found", flush=True)
    memory = memory_kib()
    jit = sys.modules.get("npshapenet.jit")
    origin = jit.origin() if jit else ""
    print(json.dumps({"found": found.ravel().tolist(), "memory_kib": memory, "origin": origin}))


if __name__ == "__main__":
    main()
