"""A weights file made ready to predict: the choice of a backend, crops in, landmarks out."""

from __future__ import annotations

import importlib.util
import os
import warnings
from _thread import allocate_lock  # threading, whose Lock it is, takes long to import
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast, get_args

import numpy as np

from npshapenet import image, weights
from npshapenet.image import Box, Crop
from npshapenet.markup import IBUG68, REGIONS
from npshapenet.shape import Parameters, split_outputs
from npshapenet.weights import Weights

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from numpy.typing import NDArray
    from PIL import Image

    from npshapenet.image import Gray

    Floats = NDArray[np.float32]
    Crops = NDArray[Any] | Crop | Sequence[NDArray[Any] | Crop]

BackendName = Literal["numba", "numpy"]

BACKEND_VARIABLE: Final = "NPSHAPENET_BACKEND"
DEFAULT_MODEL: Final = "fast"

_MODELS_FOLDER: Final = os.path.join(os.path.dirname(__file__), "models")
#: For fewer a second thread, which has to be woken, gains little.
_CROPS_PER_THREAD_MIN: Final = 8
#: Where Python keeps which of the warnings were shown, so that none is twice.
_shown_warnings: Final[dict[Any, Any]] = {}


class Backend(Protocol):
    """What runs a network. Made from a layer graph, its tensors, the normalisation and the shape
    model.

    Every method may be called from several threads at once.
    """

    @property
    def name(self) -> str:
        """ "numba" or "numpy"."""

    def warmup(self) -> None:
        """Compile or load what is needed, so that the next call is fast."""

    def outputs(self, crops: Sequence[Gray]) -> Floats:
        """N gray crops, as ``check_gray`` returns them → the network's outputs (N, P).

        Widened, resized and normalised as ``image.network_input`` does.
        """

    def landmarks(self, crops: Sequence[Gray]) -> Floats:
        """The same crops → landmarks (N, L, 2), each in pixels of its crop."""

    def outputs_and_landmarks(self, crops: Sequence[Gray]) -> Floats:
        """Both, one behind the other (N, P + 2·L)."""

    def rgb_to_gray(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Part of a photo, ``uint8`` (H, W, 3), to gray (H, W): see ``image.rgb_to_gray``."""

    def run(self, images: Floats) -> Floats:
        """Images (N, 1, H, W) as the network reads them → its outputs (N, P)."""

    def layer_outputs(self, image: Floats) -> dict[str, Floats]:
        """One image (1, H, W) as the network reads it → the output (C, H, W) of each layer."""


class Model:
    """Landmarks from gray face crops. Threads may share it.

    ``backend`` is "numba" (compiled), "numpy", or None: what the environment variable
    NPSHAPENET_BACKEND says, else numba where it can be imported or the package carries what it
    would compile, else NumPy. Where None comes to the slower NumPy, a warning says why. Nothing is
    compiled before the first crop, or ``warmup``.
    """

    def __init__(self, weights: Weights, backend: BackendName | None = None) -> None:
        self.weights = weights
        self._asked_for = _asked_for(backend)
        if backend is None and self._asked_for == "numpy":
            _warn_of_numpy(f"{BACKEND_VARIABLE} is numpy")
        try:
            self._backend = _make_backend(self._asked_for or _best_backend(), weights)
        except ImportError as error:
            self._backend = self._numpy_instead(error)
        self._is_warm = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled code stays in its process: in another, a copy makes its own.
        return Model, (self.weights, self._asked_for)

    @property
    def backend_name(self) -> str:
        """ "numba" or "numpy"."""
        return self._backend.name

    @property
    def backend(self) -> Backend:
        """What runs the network: for parity tests and benchmarks."""
        return self._backend

    @property
    def landmark_count(self) -> int:
        """How many points it gives."""
        return self.weights.landmark_count

    @property
    def markup(self) -> str:
        """Which points: "ibug68", see ``npshapenet.REGIONS``, or "points<L>"."""
        return self.weights.markup

    @property
    def regions(self) -> Mapping[str, NDArray[np.intp]]:
        """The points of each region by its name, as ``npshapenet.REGIONS``.

        ValueError where the points are others than iBUG's 68, whose regions have names.
        """
        if self.markup != IBUG68:
            raise ValueError(
                f"the {self.landmark_count} points of this model ({self.markup}) have no named "
                "regions; iBUG's 68 have"
            )
        return REGIONS

    @property
    def crop_factor(self) -> float:
        """Side of the crop over the longer side of the face's box."""
        return self.weights.crop_factor

    def __repr__(self) -> str:
        _, height, width = self.weights.network.input_shape
        millions = self.weights.network.multiply_adds() / 1e6
        return (
            f"<Model: {self.landmark_count} points ({self.markup}) from {height}×{width} gray, "
            f"{millions:.1f} million multiply-adds, backend {self.backend_name}>"
        )

    def warmup(self) -> None:
        """Compile, or load what was compiled before, so that the first crop is as fast as any.

        The first call of ``predict`` does the same. ImportError if Numba was asked for and
        doesn't work here; where it wasn't, NumPy takes its place, and a warning says so.
        """
        try:
            self._backend.warmup()
        except ImportError as error:
            self._backend = self._numpy_instead(error)
        self._is_warm = True

    def _numpy_instead(self, error: ImportError) -> Backend:
        """The NumPy backend, and a warning; ImportError if Numba was asked for."""
        reason = f"Numba doesn't work here ({' '.join(str(error).split())})"
        if self._asked_for is not None:
            message = f"{reason}: pip install numba, or take the backend numpy"
            raise type(error)(message, name=error.name) from error
        _warn_of_numpy(reason)
        return _make_backend("numpy", self.weights)

    def predict(self, crops: Crops, threads: int | None = None) -> Floats:
        """The landmarks of one gray crop, ``float32`` (L, 2), or of several, (N, L, 2).

        ``crops`` is an array (H, W) or a ``Crop``; or several: an array (N, H, W), or a list of
        arrays (H, W) and ``Crop``s of any sizes, which may be empty. What a gray crop may be:
        ``npshapenet.image``.

        Columns are x and y in pixels of the crop as it was given; the centre of its top-left
        pixel is (0, 0). A crop that isn't square is widened, never stretched.

        ``threads`` is the most threads for several crops; None: as many as there are processors
        for this process, if the crops are many. The NumPy backend uses one, beside
        what NumPy itself does. The result doesn't depend on it.

        TypeError or ValueError, saying what came and what is accepted, for anything else.
        """
        checked, is_single = _check_crops(crops)
        landmarks = self._run("landmarks", checked, threads)
        return landmarks[0] if is_single else landmarks

    def parameters(self, crops: Crops, threads: int | None = None) -> Parameters:
        """What the network says of one gray crop, or of several: scores and a transform.

        As ``predict``, but before the shape model; one crop gives no leading axis, several give
        one of N.
        """
        checked, is_single = _check_crops(crops)
        outputs = self._run("outputs", checked, threads)
        return split_outputs(outputs[0] if is_single else outputs, self.weights.shape_model)

    def parameters_and_landmarks(
        self, crops: Crops, threads: int | None = None
    ) -> tuple[Parameters, Floats]:
        """What ``parameters`` and ``predict`` say of one gray crop, or of several, both at once."""
        checked, is_single = _check_crops(crops)
        both = self._run("outputs_and_landmarks", checked, threads)
        mean = self.weights.shape_model.mean
        outputs, landmarks = both[:, : -mean.size], both[:, -mean.size :]
        landmarks = landmarks.reshape(len(both), *mean.shape)
        if is_single:
            outputs, landmarks = outputs[0], landmarks[0]
        return split_outputs(outputs, self.weights.shape_model), landmarks

    def crop_face(self, photo: Image.Image | NDArray[Any], box: Box | Sequence[float]) -> Crop:
        """The square gray crop around a face: see ``image.crop_face``."""
        # Not to compile only for that: Pillow gives the same.
        make_gray = self._backend.rgb_to_gray if self._is_warm else None
        return image.crop_face(photo, box, self.crop_factor, make_gray)

    def _run(
        self,
        what: Literal["landmarks", "outputs", "outputs_and_landmarks"],
        crops: list[Gray],
        threads: int | None,
    ) -> Floats:
        """What the backend gives for all crops, by as many threads as are worth it."""
        if not self._is_warm:
            self.warmup()
        run: Callable[[Sequence[Gray]], Floats] = getattr(self._backend, what)
        count = _thread_count(threads, len(crops))
        # In NumPy's many short steps the threads would wait for each other.
        if count == 1 or self.backend_name == "numpy":
            return run(crops)
        from npshapenet.threads import run_in_parts  # takes a millisecond to import

        return np.concatenate(run_in_parts(run, crops, count))


def load(
    path_or_name: str | os.PathLike[str] | None = None, backend: BackendName | None = None
) -> Model:
    """A model from a weights file, or a bundled one by its name; None: the default, "fast".

    ``backend`` as for ``Model``. A string without folder and ending is a name. ValueError for an
    unknown name, ``WeightsError`` for a file that isn't as it must be, OSError if it can't be read.
    """
    path = DEFAULT_MODEL if path_or_name is None else path_or_name
    if isinstance(path, str) and path.replace("-", "").replace("_", "").isalnum():
        return Model(_read_bundled(path), backend)
    return Model(weights.read(path), backend)


_default_model: Model | None = None
_default_model_lock = allocate_lock()


def default_model() -> Model:
    """The bundled model that ``npshapenet.predict`` uses: loaded at the first call, then kept."""
    global _default_model
    with _default_model_lock:
        if _default_model is None:
            _default_model = load()
        return _default_model


def predict(crops: Crops, threads: int | None = None) -> Floats:
    """The landmarks of gray crops by the bundled model: see ``Model.predict``."""
    return default_model().predict(crops, threads)


def crop_face(
    photo: Image.Image | NDArray[Any], box: Box | Sequence[float], model: Model | None = None
) -> Crop:
    """The square gray crop around a face, as large as the model wants it.

    As ``npshapenet.image.crop_face``, with the crop factor of ``model``; None: the bundled one.
    """
    return (default_model() if model is None else model).crop_face(photo, box)


def bundled_models() -> list[str]:
    """The names of the models that come with this installation."""
    if os.path.isdir(_MODELS_FOLDER):
        files = os.listdir(_MODELS_FOLDER)
    else:
        files = [file.name for file in _models_in_zip().iterdir()]
    return sorted(name.removesuffix(".npz") for name in files if name.endswith(".npz"))


def _read_bundled(name: str) -> Weights:
    names = bundled_models()
    if name not in names:
        raise ValueError(
            f"no bundled model is named {name!r}; there are: {', '.join(names) or 'none'} "
            f"(a file is given by its path, such as ./{name}.npz)"
        )
    path = os.path.join(_MODELS_FOLDER, f"{name}.npz")
    if os.path.isdir(_MODELS_FOLDER):
        return weights.read(path)
    return weights.read_bytes((_models_in_zip() / f"{name}.npz").read_bytes(), path)


def _models_in_zip() -> Traversable:
    """The folder of bundled models, where the package is imported from a zip file."""
    from importlib.resources import files  # slow to import, rarely needed

    return files("npshapenet") / "models"


def _make_backend(name: BackendName, weights: Weights) -> Backend:
    arguments = weights.network, weights.tensors, weights.normalisation, weights.shape_model
    if name == "numpy":
        from npshapenet.plain import PlainBackend

        return PlainBackend(*arguments)
    from npshapenet.jit import CompiledBackend

    return CompiledBackend(*arguments)


def _asked_for(argument: BackendName | None) -> BackendName | None:
    """The backend named by the argument, else by the environment, if one is."""
    source, name = "backend", argument
    if name is None:
        source, name = BACKEND_VARIABLE, cast(BackendName, os.environ.get(BACKEND_VARIABLE) or None)
    if name is not None and name not in get_args(BackendName):
        accepted = ", ".join(get_args(BackendName))
        raise ValueError(f"{source} is {name!r}; accepted: {accepted}")
    return name


def _best_backend() -> BackendName:
    if all(importlib.util.find_spec(package) for package in ("numba", "llvmlite")):
        return "numba"
    from npshapenet import jit

    if jit.is_carried():
        return "numba"
    _warn_of_numpy("Numba isn't installed")
    return "numpy"


def _warn_of_numpy(reason: str) -> None:
    """A warning that is one line, and comes once."""
    # Below a warning Python prints the line of source that it comes from: brackets have none.
    warnings.warn_explicit(
        f"npshapenet: {reason}, so the slower NumPy backend is used; "
        'backend="numpy", or --backend numpy, chooses it without this line',
        RuntimeWarning,
        filename="<npshapenet>",
        lineno=1,
        module=__name__,
        registry=_shown_warnings,
    )


def _check_crops(crops: Crops) -> tuple[list[Gray], bool]:
    """The crops, each checked, and whether it was a single one."""
    if isinstance(crops, Crop):
        return [image.check_gray(crops.gray)], True
    if isinstance(crops, np.ndarray) and crops.ndim == 3 and crops.shape[2] >= image.SIDE_MIN_PX:
        crops = list(crops)
    if not isinstance(crops, list | tuple):
        return [image.check_gray(crops)], True
    checked = []
    for index, crop in enumerate(crops):
        try:
            checked.append(image.check_gray(crop.gray if isinstance(crop, Crop) else crop))
        except (TypeError, ValueError) as error:
            raise type(error)(f"crop {index} of {len(crops)}: {error}") from None
    return checked, False


def _thread_count(threads: int | None, crop_count: int) -> int:
    if threads is None:
        worth_it = crop_count // _CROPS_PER_THREAD_MIN
        return min(_processor_count(), worth_it) if worth_it > 1 else 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a positive whole number or None, not {threads!r}")
    return max(1, min(threads, crop_count))


def _processor_count() -> int:
    """How many processors this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
