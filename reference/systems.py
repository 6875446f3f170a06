"""What can be evaluated: our checkpoints, our weights files, and dlib's predictor files.

Each becomes a system: a callable that is given an upright photo and a box, and returns the
landmarks. Photos are 8 bits a channel, of mode L or RGB; a box is left, top, right, bottom in
pixels of the photo: edges, right and bottom exclusive; landmarks (L, 2) are in pixels of the
photo too, the centre of its top-left pixel at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import npshapenet
import npshapenet.image
from npshapenet.model import BackendName
from npshapenet.shape import split_outputs
from reference.data.face import Box
from reference.data.markup import IBUG68, Markup, MarkupError, from_values

if TYPE_CHECKING:
    from reference.networks.shapenet import ShapeNet

Floats = NDArray[np.float64]

BACKENDS: Final[tuple[BackendName, ...]] = get_args(BackendName)
ACCEPTED: Final = (
    "accepted: a checkpoint (.pt); a weights file (.npz) or the name of a bundled model, both "
    "with :numpy or :numba behind it or not; a predictor file of dlib (.dat)"
)
_SUFFIXES: Final = (".pt", ".npz", ".dat")


class UnusableSystem(ValueError):
    """What was named can't be evaluated; the message names it and says why."""


class System(Protocol):
    """Finds the landmarks of one face in a photo; ValueError for a box it can't work with."""

    @property
    def name(self) -> str:
        """What tables and plots call it."""

    def __call__(self, photo: Image.Image, box: Box) -> Floats:
        """The landmarks (L, 2) of the face in the box."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one face, beside its landmarks.

    ``landmarks`` (L, 2) in the photo; ``outputs`` (P,) of the network, before the limits of the
    shape model; ``quality``, the NME in percent that the model expects, or None.
    """

    landmarks: Floats
    outputs: Floats
    quality: float | None


@dataclass(frozen=True, eq=False)
class ModelSystem:
    """A weights file, run by npshapenet as its users run it."""

    name: str
    model: npshapenet.Model
    markup: Markup = IBUG68

    def __call__(self, photo: Image.Image, box: Box) -> Floats:
        crop = npshapenet.crop_face(photo, npshapenet.Box(*box), self.model)
        return np.asarray(crop.to_photo(self.model.predict(crop)), np.float64)

    def answer(self, photo: Image.Image, box: Box) -> Answer:
        """All that the model says of the face in the box; ValueError as a call."""
        crop = npshapenet.crop_face(photo, npshapenet.Box(*box), self.model)
        outputs = self.model.backend.outputs([crop.gray])[0]
        parameters = split_outputs(outputs, self.model.weights.shape_model)
        landmarks = crop.to_photo(parameters.landmarks(len(crop.gray)))
        quality = None if parameters.quality is None else float(parameters.quality)
        return Answer(np.asarray(landmarks, np.float64), outputs.astype(np.float64), quality)


@dataclass(frozen=True, eq=False)
class CheckpointSystem:
    """A checkpoint of reference.train, run by PyTorch on the crops that inference cuts."""

    name: str
    network: ShapeNet
    side_px: int
    crop_factor: float
    markup: Markup = IBUG68

    def __call__(self, photo: Image.Image, box: Box) -> Floats:
        import torch
        from torch.nn import functional

        crop = npshapenet.image.crop_face(photo, npshapenet.Box(*box), self.crop_factor)
        square = torch.from_numpy(np.array(crop.gray, np.float32))[None, None] / 255
        size = (self.side_px, self.side_px)
        with torch.inference_mode():
            image = functional.interpolate(square, size, mode="bilinear", antialias=True)
            points = self.network(image)[0].double().numpy()
        side = crop.gray.shape[0]
        # The network's −1 and 1 are the crop's outer edges, half a pixel beyond the centres.
        return np.asarray(crop.to_photo((points + 1) / 2 * side - 0.5), np.float64)


@dataclass(frozen=True, eq=False)
class DlibSystem:
    """A shape predictor of dlib, run as its users run it: on the RGB photo, or on a gray one.

    dlib's rectangle counts pixels, so that its right and bottom ones still belong to it; it and
    the landmarks found are whole pixels.
    """

    name: str
    predictor: Any
    markup: Markup = IBUG68

    def __call__(self, photo: Image.Image, box: Box) -> Floats:
        import dlib

        left, top, right, bottom = (round(edge) for edge in box)
        found = self.predictor(
            np.asarray(photo), dlib.rectangle(left, top, right - 1, bottom - 1)
        ).parts()
        return np.array([(point.x, point.y) for point in found], np.float64)


OpenSystem = ModelSystem | CheckpointSystem | DlibSystem


def open_system(
    text: str, backend: BackendName | None = None, markup: Markup | None = None
) -> OpenSystem:
    """Load what a command line names; ``backend`` is for weights files that don't name theirs.

    ``markup`` is for those that don't know theirs: what others than our training made, and not of
    68 points. UnusableSystem where the name says nothing, the file is missing or isn't what its
    suffix says, or what it needs (PyTorch, dlib) isn't installed; for other points than those of
    the markup, if one is given, and for points that nothing tells of.
    """
    named, colon, chosen = text.rpartition(":")
    own_backend = next((known for known in BACKENDS if colon and chosen == known), None)
    if own_backend is None:
        named = text
    path = Path(named)
    suffix = path.suffix.lower()
    is_bundled = not suffix and path.name == named
    if suffix not in _SUFFIXES and not is_bundled:
        raise UnusableSystem(f"{text}: not known what that is; {ACCEPTED}")
    if not is_bundled and not path.is_file():
        raise UnusableSystem(f"{text}: no such file; {ACCEPTED}")
    if is_bundled or suffix == ".npz":
        return _open_model(named, own_backend or backend, markup)
    if own_backend:
        raise UnusableSystem(f"{text}: only weights files have a choice of backends")
    return _open_checkpoint(path, markup) if suffix == ".pt" else _open_dlib(path, markup)


def _open_model(text: str, backend: BackendName | None, markup: Markup | None) -> ModelSystem:
    try:
        model = npshapenet.load(text, backend=backend)
        values = model.weights.provenance.get("markup")
        own = None if values is None else from_values(values)
    except MarkupError as error:
        raise UnusableSystem(f"{text}: the markup in its provenance: {error}") from None
    except (ValueError, OSError, ImportError) as error:
        raise UnusableSystem(str(error) if text in str(error) else f"{text}: {error}") from None
    if model.markup == IBUG68.name:
        own = IBUG68
    found = _markup(text, model.landmark_count, own, markup)
    return ModelSystem(f"{Path(text).name}:{model.backend_name}", model, found)


def _open_checkpoint(path: Path, markup: Markup | None) -> CheckpointSystem:
    try:
        from reference import checkpoint
    except ModuleNotFoundError as error:
        raise UnusableSystem(f"{path}: checkpoints need PyTorch ({error})") from None
    try:
        loaded = checkpoint.load(path)
        network = loaded.network()
    except checkpoint.CheckpointError as error:
        raise UnusableSystem(str(error)) from None
    found = _markup(str(path), len(network.shape_layer.mean), loaded.markup, markup)
    side_px = loaded.recipe.network.side_px
    return CheckpointSystem(path.name, network, side_px, loaded.crop_factor, found)


def _open_dlib(path: Path, markup: Markup | None) -> DlibSystem:
    try:
        import dlib
    except ImportError:
        raise UnusableSystem(
            f"{path}: needs dlib, which isn't installed; pip install dlib-bin"
        ) from None
    try:
        predictor = dlib.shape_predictor(str(path))
        blank = np.zeros((64, 64), np.uint8)
        count = predictor(blank, dlib.rectangle(0, 0, 63, 63)).num_parts
    except RuntimeError as error:
        raise UnusableSystem(f"{path}: not a shape predictor of dlib: {error}") from None
    return DlibSystem(path.name, predictor, _markup(str(path), count, None, markup))


def _markup(text: str, count: int, own: Markup | None, given: Markup | None) -> Markup:
    """The markup of a system of ``count`` landmarks: its own, or the given one.

    Where neither is known, 68 are iBUG's.
    """
    if own and given and own != given:
        raise UnusableSystem(
            f"{text}: finds the points of {own.name}; evaluated are those of {given.name}"
        )
    markup = own or given or (IBUG68 if count == IBUG68.point_count else None)
    if markup is None:
        raise UnusableSystem(
            f"{text}: finds {count} landmarks, and doesn't say which: --markup does"
        )
    if markup.point_count != count:
        raise UnusableSystem(
            f"{text}: finds {count} landmarks; evaluated are the {markup.point_count} of "
            f"{markup.name}"
        )
    return markup
