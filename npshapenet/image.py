"""What a gray crop is: checking it, cutting it out of a photo, resizing it for the network.

A gray crop is a 2-D array (H, W) of one face, rows are y, at least 16×16: ``uint8``, another
integer type with values in 0–255, or floats in 0–1. Pixel centres have whole coordinates, the
top-left one (0, 0); boxes are given by edges, which lie half a pixel outside of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

    from npshapenet.weights import Normalisation

    Floats = NDArray[np.float32]
    Gray = NDArray[np.uint8] | NDArray[np.float32]

#: The smallest side of a crop, in pixels.
SIDE_MIN_PX: Final = 16

#: A box this many times larger than its photo is a mistake; the bound keeps memory in bounds too.
BOX_TO_PHOTO_MAX: Final = 4

#: How far beyond 0–1 the rounding of an earlier resize may carry a float.
ROUNDING: Final = 1e-6

#: Of red, green and blue, what gray has of each, in parts of 2¹⁶: 0.299, 0.587 and 0.114.
LUMA_SHARES: Final = (19595, 38470, 7471)

_WHITE_16_BIT: Final = 65535
_ALPHA_MODES: Final = frozenset({"LA", "PA", "RGBA", "RGBa"})
_COLOUR_MODES: Final = frozenset({"P", "CMYK", "YCbCr", "HSV", "RGBX"})
_ACCEPTED: Final = (
    "accepted: a 2-D array, at least 16×16, of uint8, of integers in 0–255, or of floats in 0–1; "
    "for several crops a list of these, or an array (N, H, W)"
)


@dataclass(frozen=True)
class Box:
    """A rectangle by its edges, in pixels of the photo after EXIF rotation.

    ``right`` and ``bottom`` are exclusive, as in Pillow: the whole photo is
    ``Box(0, 0, width, height)``. ValueError if it has no extent or isn't finite.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        edges = self.edges
        for edge in edges:
            # A protocol is slow to check, and a tracker makes many boxes.
            if not isinstance(edge, (float, int, SupportsFloat)):
                raise TypeError(f"the edges of a box are numbers; got {str(edges)[:80]}")
        if not all(map(math.isfinite, edges)):
            raise ValueError(f"{self} is not finite")
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError(
                f"{self} has no extent; accepted: left < right and top < bottom "
                "(Box.from_ltwh takes width and height)"
            )

    @property
    def edges(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @classmethod
    def from_ltwh(cls, left: float, top: float, width: float, height: float) -> Box:
        """The box of a left and top edge and a size: OpenCV's form, and that of dlib's XML."""
        return cls(left, top, left + width, top + height)

    @classmethod
    def from_dlib(cls, rectangle: Any) -> Box:
        """The box of dlib's ``rectangle``, ``drectangle`` or ``mmod_rectangle``.

        dlib's right and bottom are inclusive, so its width is right − left + 1. TypeError for
        anything else.
        """
        rectangle = getattr(rectangle, "rect", rectangle)
        if not hasattr(rectangle, "left"):
            raise TypeError(
                f"from_dlib takes a rectangle of dlib's, not {_kind(rectangle)}; "
                "Box(left, top, right, bottom) and Box.from_ltwh take numbers"
            )
        return cls.from_ltwh(
            rectangle.left(), rectangle.top(), rectangle.width(), rectangle.height()
        )

    def __str__(self) -> str:
        return f"box {self.left:g} {self.top:g} {self.right:g} {self.bottom:g}"


@dataclass(frozen=True, eq=False)
class Crop:
    """A gray crop (H, W), and where its top-left pixel lies in the photo."""

    gray: Gray
    left: int
    top: int

    def to_photo(self, landmarks: ArrayLike) -> Floats:
        """Points (..., 2) in pixels of this crop → the same points in pixels of the photo."""
        points = np.asarray(landmarks, np.float32)
        if points.ndim < 1 or points.shape[-1] != 2:
            raise ValueError(f"landmarks must be (..., 2), x and y; got shape {points.shape}")
        return points + np.array([self.left, self.top], np.float32)


def crop_face(
    photo: Image.Image | NDArray[Any],
    box: Box | Sequence[float],
    factor: float,
    make_gray: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> Crop:
    """The square gray crop around a face, as the network wants it.

    ``photo`` is a picture of Pillow's in any mode (see ``to_gray``), turned as its EXIF data says
    before ``box`` is applied; or an array: gray (H, W) as a gray crop may be, or ``uint8``
    (H, W, 3) in the order red, green, blue. ``box`` is a ``Box`` or its four edges in order.

    The side is round(factor · the longer side of the box), the centre that of the box, both in
    whole pixels; outside the photo the nearest pixel is repeated. ValueError names the box if the
    crop would be under 16×16, or the box lies outside the photo or is over four times as large.
    ``make_gray`` takes the place of ``rgb_to_gray``.
    """
    if not isinstance(box, Box):
        box = box_of_edges(box)
    upright = check_photo(photo) if isinstance(photo, np.ndarray) else _upright(photo)
    if isinstance(upright, np.ndarray):
        height, width = upright.shape[:2]
    else:
        width, height = upright.size

    side = _crop_side(box, factor, width, height)
    left = round((box.left + box.right) / 2 - side / 2)
    top = round((box.top + box.bottom) / 2 - side / 2)
    # Only what is seen becomes gray: photos are large and faces small.
    x0, x1 = _seen_of(left, side, width)
    y0, y1 = _seen_of(top, side, height)
    gray: Gray
    if not isinstance(upright, np.ndarray):
        gray = to_gray(upright.crop((x0, y0, x1, y1))).copy()
    elif upright.ndim == 3:
        gray = (make_gray or rgb_to_gray)(upright[y0:y1, x0:x1])
    else:
        gray = _gray_values(upright[y0:y1, x0:x1]).copy()
    # Of a crop that lies beside the photo, the photo's last column or row is all that is seen.
    square = _repeat_edges(gray, side, min(max(-left, 0), side - 1), min(max(-top, 0), side - 1))
    return Crop(square, left, top)


def to_gray(photo: Image.Image) -> NDArray[np.uint8]:
    """A picture of Pillow's → gray (H, W): ITU-R 601 luma, rounded, as ``convert("L")``.

    Upright as the EXIF data says. Transparent parts stand on white, as a browser shows them.
    16 bits are scaled to 8 (65535 is white). Floats (mode F) must lie in 0–1. ValueError for
    a mode that has no gray, such as LAB.
    """
    photo = _upright(photo)
    mode = photo.mode
    if mode == "F":
        levels: Floats = _gray_values(np.asarray(photo)) * np.float32(255)
        return np.rint(levels).clip(0, 255).astype(np.uint8)
    if mode.startswith("I"):
        return _gray_from_16_bits(np.asarray(photo), mode)
    return np.asarray(_opaque(photo).convert("L"))


def rgb_to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``uint8`` (H, W, 3) → gray (H, W), as ``to_gray`` makes it: by Pillow, and LUMA_SHARES."""
    from PIL import Image

    height, width, _ = pixels.shape
    # Image.fromarray would fill the picture with black before it writes the pixels.
    picture = Image.new("RGB", (width, height), None)
    picture.frombytes(np.ascontiguousarray(pixels))
    return np.array(picture.convert("L"))


def to_rgb(photo: Image.Image) -> Image.Image:
    """A picture of Pillow's → the same in mode RGB: what ``to_gray`` sees, in colour.

    Where the picture is RGB and upright already, it is returned itself.
    """
    from PIL import Image

    photo = _upright(photo)
    if photo.mode == "F" or photo.mode.startswith("I"):
        return Image.fromarray(to_gray(photo)).convert("RGB")
    photo = _opaque(photo)
    return photo if photo.mode == "RGB" else photo.convert("RGB")


def to_rgb_array(photo: Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    """A photo, as ``crop_face`` takes it → ``uint8`` (H, W, 3), upright: what detectors look at."""
    if not isinstance(photo, np.ndarray):
        return np.asarray(to_rgb(photo))
    array = check_photo(photo)
    if array.ndim == 3:
        return np.ascontiguousarray(array)
    gray = _gray_values(array)
    if gray.dtype != np.uint8:
        gray = np.rint(gray * np.float32(255)).clip(0, 255).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def check_photo(photo: object) -> NDArray[Any]:
    """A photo as an array: gray (H, W), or ``uint8`` (H, W, 3); the array itself.

    The values of a gray one are not looked at. TypeError or ValueError for anything else.
    """
    array = _checked_array(photo)
    if array.size == 0:
        raise ValueError(f"the photo is empty: {_describe(array)}")
    if array.ndim == 2:
        return array
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        return array
    raise ValueError(
        f"a photo is gray (H, W), or uint8 (H, W, 3) in the order red, green, blue "
        f"(of red, green, blue, alpha: array[..., :3]); got {_describe(array)}"
    )


def check_gray(crop: object) -> Gray:
    """A gray crop → the same as ``uint8`` or ``float32`` (H, W), C-contiguous, native bytes.

    Nothing is rescaled: TypeError for what is no array of numbers (lists, pictures, sparse and
    masked arrays, bools, objects, complex numbers), ValueError for another rank, colour, a side
    under 16, NaN, infinity, integers outside 0–255, floats outside 0–1 (by more than rounding).
    """
    array = _checked_array(crop)
    if array.ndim != 2 or min(array.shape) < SIDE_MIN_PX:
        raise ValueError(f"{_shape_complaint(array)}; {_ACCEPTED}")
    return cast("Gray", np.ascontiguousarray(_gray_values(array)))


def widen_to_square(gray: Gray) -> tuple[Gray, int, int]:
    """A gray crop (H, W) → (S, S) with S = max(H, W), and the columns and rows put before it.

    The crop is in the middle; where the difference is odd, one more pixel comes after it than
    before it. The nearest pixel is repeated.
    """
    height, width = gray.shape
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    if height != width:
        gray = _repeat_edges(gray, side, left, top)
    return gray, left, top


def resize(gray: Gray, height: int, width: int) -> Floats:
    """Gray (H, W) → ``float32`` (height, width) in the same units, by the triangle filter.

    What Pillow's BILINEAR does in mode F, and PyTorch's ``interpolate(mode="bilinear",
    antialias=True)``: columns first, then rows, without rounding to whole numbers.
    """
    columns = _triangle_weights(gray.shape[1], width)
    rows = _triangle_weights(gray.shape[0], height)
    resized: Floats = rows @ (gray.astype(np.float32) @ columns.T)
    return resized


def network_input(gray: Gray, side: int, normalisation: Normalisation) -> Floats:
    """A gray crop (H, W), as ``check_gray`` returns it → what the network reads (side, side).

    Widened to a square, taken to 0–1, resized, then multiplied by the normalisation's scale,
    and its offset added.
    """
    square = widen_to_square(gray)[0]
    white = 255.0 if gray.dtype == np.uint8 else 1.0
    resized = resize(square, side, side)
    resized *= np.float32(normalisation.scale / white)
    resized += np.float32(normalisation.offset)
    return resized


def _triangle_weights(source: int, target: int) -> Floats:
    """How much each source pixel counts for each target pixel: (target, source), rows sum to 1.

    Half-pixel centres. The triangle reaches one source pixel to each side when enlarging, one
    target pixel when shrinking; at the border its rest is normalised.
    """
    step = source / target
    reach = max(step, 1.0)
    centres = (np.arange(target)[:, None] + 0.5) * step
    distances = np.abs(np.arange(source) + 0.5 - centres)
    weights = np.maximum(1 - distances / reach, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def _seen_of(start: int, side: int, extent: int) -> tuple[int, int]:
    """Of the pixels from ``start`` on, the first and the end of those that the photo has.

    One at least: the nearest.
    """
    return min(max(start, 0), extent - 1), max(min(start + side, extent), 1)


def _repeat_edges(gray: Gray, side: int, left: int, top: int) -> Gray:
    """A square with ``gray`` (H, W) after so many columns and rows; around it, the nearest pixel.

    ``gray`` itself where it is that square.
    """
    height, width = gray.shape
    if height == width == side:
        return gray
    right, bottom = left + width, top + height
    square = np.empty((side, side), gray.dtype)
    square[top:bottom, left:right] = gray
    square[top:bottom, :left] = gray[:, :1]
    square[top:bottom, right:] = gray[:, -1:]
    square[:top] = square[top]
    square[bottom:] = square[bottom - 1]
    return square


def _crop_side(box: Box, factor: float, width: int, height: int) -> int:
    where = f"{box} in a photo of {width}×{height}"
    if box.left >= width or box.top >= height or box.right <= 0 or box.bottom <= 0:
        raise ValueError(f"{where}: the box lies outside the photo")
    if max(box.width, box.height) > BOX_TO_PHOTO_MAX * max(width, height):
        raise ValueError(f"{where}: over {BOX_TO_PHOTO_MAX} times as large as the photo")
    side = round(factor * max(box.width, box.height))
    if side < SIDE_MIN_PX:
        raise ValueError(f"{where}: the crop would be {side}×{side}; accepted: 16×16 and larger")
    return side


def box_of_edges(edges: Sequence[float]) -> Box:
    """The box of left, top, right and bottom; TypeError if these aren't four numbers."""
    try:
        left, top, right, bottom = (float(edge) for edge in edges)
    except (TypeError, ValueError):
        raise TypeError(
            f"a box is a Box or left, top, right, bottom; got {str(edges)[:80]}"
        ) from None
    return Box(left, top, right, bottom)


def _upright(photo: Image.Image) -> Image.Image:
    from PIL import Image, ImageOps

    if not isinstance(photo, Image.Image):
        raise TypeError(
            f"a photo is a PIL.Image.Image or a NumPy array; got {type(photo).__name__}"
        )
    # A picture that is upright already would be copied by exif_transpose.
    return photo if photo.getexif().get(0x0112, 1) == 1 else ImageOps.exif_transpose(photo)


def _opaque(photo: Image.Image) -> Image.Image:
    """A picture of 8 bits a channel, on white where it is transparent; in mode 1, L or RGB."""
    from PIL import Image

    if photo.mode in _ALPHA_MODES or "transparency" in photo.info:
        colour = photo.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        return Image.alpha_composite(white, colour).convert("RGB")
    if photo.mode in ("1", "L", "RGB"):
        return photo
    if photo.mode in _COLOUR_MODES:
        return photo.convert("RGB")
    # Pillow converts some of the others, but to nonsense.
    raise ValueError(
        f"a picture of mode {photo.mode} can't be made gray; accepted: 1, L, P, RGB, "
        f"I;16, I, F, {', '.join(sorted(_ALPHA_MODES | _COLOUR_MODES - {'P'}))}"
    )


def _gray_from_16_bits(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    # Mode I has 32 bits, but what Pillow reads into it are 16-bit files.
    if values.size and not (values.min() >= 0 and values.max() <= _WHITE_16_BIT):
        raise ValueError(
            f"a picture of mode {mode} with values from {values.min()} to {values.max()}; "
            "accepted: 16 bits, 0–65535"
        )
    levels: Floats = values.astype(np.float32) * np.float32(255 / _WHITE_16_BIT)
    return np.rint(levels).astype(np.uint8)


def _checked_array(value: object) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) or hasattr(value, "mask"):
        raise TypeError(f"a gray crop is a NumPy array; got {_kind(value)}; {_ACCEPTED}")
    if value.dtype.kind not in "uif":
        advice = " (a mask becomes gray by mask * np.uint8(255))" if value.dtype == bool else ""
        raise TypeError(f"got {_describe(value)}{advice}; {_ACCEPTED}")
    return value


def _gray_values(array: NDArray[Any]) -> Gray:
    """The values of an array of numbers, if they are those of a gray crop, as uint8 or float32."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind in "ui":
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ValueError(f"got {array.dtype} with values from {low} to {high}; {_ACCEPTED}")
        return array.astype(np.uint8)
    low, high = array.min(), array.max()
    # NaN fails every comparison.
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        if not np.isfinite(array).all():
            raise ValueError(f"got {array.dtype} with NaN or infinite values; {_ACCEPTED}")
        advice = " (divide by 255 if 255 is white)" if low >= 0 and 1 < high <= 255 else ""
        raise ValueError(
            f"got {array.dtype} with values from {low:g} to {high:g}{advice}; {_ACCEPTED}"
        )
    return array.astype(np.float32)


def _shape_complaint(array: NDArray[Any]) -> str:
    came = f"got {_describe(array)}"
    if array.size == 0:
        return f"{came}, which is empty"
    if array.ndim >= 3 and array.shape[-1] in (3, 4):
        return f'{came}, which looks like colour: Image.fromarray(array).convert("L") makes it gray'
    if array.ndim >= 3 and array.shape[-1] == 1:
        return f"{came}: array[..., 0] drops the last axis"
    return came


def _describe(array: NDArray[Any]) -> str:
    return f"an array of shape {array.shape} and dtype {array.dtype}"


def _kind(value: object) -> str:
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if type(value).__module__.startswith("PIL."):
        return f'{name} (np.asarray(picture.convert("L")) is a gray array)'
    if hasattr(value, "__array__"):
        return f"{name} (np.asarray makes an array of it, if that is what is meant)"
    return name
