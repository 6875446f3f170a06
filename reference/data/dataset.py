"""The faces file that training reads: cut faces and their points, one .npz without pickles."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from reference.atomic import write_atomically
from reference.data.crop import Geometry, StoredFace
from reference.data.markup import IBUG68, Markup, MarkupError, from_values

FORMAT_VERSION = 1


class FacesError(ValueError):
    """A file that is no faces file, or one that doesn't hold together."""


@dataclass(frozen=True, eq=False)
class Faces:
    """N faces, shuffled; S is the side of a stored crop: the network's side and two margins.

    crops: uint8 (N, S, S), gray. landmarks: float32 (N, L, 2), x and y in pixels of the stored
    crop, the centre of its top-left pixel at (0, 0). names: text (N,), the image's path from the
    labels' folder and `#` with the number of its box. boxes: float32 (N, 4), left, top, right,
    bottom in the photo, edges. crop_frames: int32 (N, 3), left, top and side of the network's crop
    in the photo. photo_edges: float32 (N, 4), where the photo's left, top, right and bottom edges
    lie, in stored-crop pixels, counted so that the stored crop's own edges are 0 and S.
    meta: see `describe`.
    """

    crops: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    names: NDArray[np.str_]
    boxes: NDArray[np.float32]
    crop_frames: NDArray[np.int32]
    photo_edges: NDArray[np.float32]
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        """Count the faces."""
        return len(self.crops)

    @property
    def geometry(self) -> Geometry:
        """Sizes of the stored crops."""
        return Geometry(self.meta["side_px"], self.meta["margin_px"], self.meta["crop_factor"])

    @property
    def markup(self) -> Markup:
        """What the landmarks are; MarkupError where the meta has a wrong one."""
        return _markup(self.meta)

    @property
    def label_shifts(self) -> NDArray[np.float32]:
        """How far right of the true points the labels lie (N,), in pixels of the stored crop."""
        shift_px = self.meta.get("label_shift_px", 0.0)
        sides = np.maximum(self.crop_frames[:, 2], 1)  # a view's frame is zeros, its shift 0
        shifts: NDArray[np.float32] = (shift_px * self.meta["side_px"] / sides).astype(np.float32)
        return shifts


def describe(
    geometry: Geometry,
    seed: int,
    sources: Sequence[Mapping[str, Any]],
    skipped: Mapping[str, int],
    markup: Markup = IBUG68,
    label_shift_px: float = 0.0,
) -> dict[str, Any]:
    """Return the meta of a faces file.

    `sources`: per labels file its base name, the title that it gives itself, its count of faces.
    `skipped`: count of the labels left out, by reason. Faces without a `markup` are iBUG's.
    `label_shift_px`: how far right of the true points the labels lie, in pixels of the photo.
    """
    meta = {
        "format_version": FORMAT_VERSION,
        "side_px": geometry.side_px,
        "margin_px": geometry.margin_px,
        "crop_factor": geometry.crop_factor,
        "seed": seed,
        "sources": [dict(source) for source in sources],
        "faces": sum(source["faces"] for source in sources),
        "skipped": dict(skipped),
        "label_shift_px": label_shift_px,
    }
    return meta if markup == IBUG68 else {**meta, "markup": markup.to_values()}


def collect(stored: Sequence[StoredFace], meta: Mapping[str, Any]) -> Faces:
    """Stack single faces, in the order given."""
    frames = [(face.frame.left, face.frame.top, face.frame.side) for face in stored]
    return Faces(
        np.stack([face.crop for face in stored]),
        np.stack([face.landmarks for face in stored]),
        np.array([face.name for face in stored], dtype=np.str_),
        np.array([face.box for face in stored], dtype=np.float32),
        np.array(frames, dtype=np.int32),
        np.array([face.photo_edges for face in stored], dtype=np.float32),
        meta,
    )


def write_faces(path: Path, faces: Faces) -> None:
    """Write a faces file atomically; raises OSError where the folder can't be written."""

    def write(file: BinaryIO) -> None:
        np.savez(
            file,
            crops=faces.crops,
            landmarks=faces.landmarks,
            names=faces.names,
            boxes=faces.boxes,
            crop_frames=faces.crop_frames,
            photo_edges=faces.photo_edges,
            meta=np.array(json.dumps(dict(faces.meta))),
        )

    write_atomically(path, write)


def read_faces(path: Path) -> Faces:
    """Read a faces file; raises FacesError where it is none, or its arrays don't fit together."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with loaded as file:
            arrays = {key: file[key] for key in file.files}
        meta = json.loads(str(arrays.pop("meta")))
    except FileNotFoundError:
        raise FacesError(f"{path}: no such file; python -m reference.prepare writes one") from None
    except (OSError, ValueError, KeyError, AttributeError, EOFError, BadZipFile) as error:
        raise FacesError(f"{path}: not a faces file of reference.prepare: {error}") from None
    _check_meta(path, meta)
    count = len(arrays["crops"]) if "crops" in arrays and arrays["crops"].ndim else 0
    expected = _expected(count, meta["side_px"] + 2 * meta["margin_px"], _markup(meta).point_count)
    _check_arrays(path, arrays, expected)
    return Faces(**{key: arrays[key] for key in expected}, meta=meta)


def _check_meta(path: Path, meta: Any) -> None:
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise FacesError(f"{path}: format version {version}; accepted: {FORMAT_VERSION}")
    for key, kinds in (("side_px", int), ("margin_px", int), ("crop_factor", (int, float))):
        if not isinstance(meta.get(key), kinds):
            raise FacesError(f"{path}: {key} is {meta.get(key)!r}; accepted: a number")
    if not isinstance(meta.get("label_shift_px", 0.0), (int, float)):
        raise FacesError(
            f"{path}: label_shift_px is {meta['label_shift_px']!r}; accepted: a number"
        )
    try:
        _markup(meta)
    except MarkupError as error:
        raise FacesError(f"{path}: its markup: {error}") from None


def _markup(meta: Mapping[str, Any]) -> Markup:
    return from_values(meta["markup"]) if "markup" in meta else IBUG68


def _expected(count: int, side: int, point_count: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        "crops": ("uint8", (count, side, side)),
        "landmarks": ("float32", (count, point_count, 2)),
        "names": ("str", (count,)),
        "boxes": ("float32", (count, 4)),
        "crop_frames": ("int32", (count, 3)),
        "photo_edges": ("float32", (count, 4)),
    }


def _check_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    expected: Mapping[str, tuple[str, tuple[int, ...]]],
) -> None:
    for key, (dtype, shape) in expected.items():
        if key not in arrays:
            raise FacesError(f"{path}: no array {key}; python -m reference.prepare writes it")
        array = arrays[key]
        is_dtype = array.dtype.kind == "U" if dtype == "str" else array.dtype == np.dtype(dtype)
        if not is_dtype or array.shape != shape:
            came = f"{array.dtype} {array.shape}"
            raise FacesError(f"{path}: {key} is {came}; accepted: {dtype} {shape}")
    if not np.isfinite(arrays["landmarks"]).all():
        raise FacesError(f"{path}: landmarks hold numbers that aren't finite")
