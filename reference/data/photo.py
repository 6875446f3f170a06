"""Opening a photo as gray."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

_ACCEPTED = "accepted: any photo that Pillow reads, 8 bits a channel or 16 bits gray"


class PhotoError(ValueError):
    """A photo that can't be used; `kind` is the short reason by which it is counted."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        """One line: what came and what is accepted."""
        return f"{self.kind}: {self.detail}"


def read_gray(path: Path) -> NDArray[np.uint8]:
    """Return a photo as ITU-R 601 luma, uint8 (H, W), turned as its EXIF says.

    The same gray that inference makes of a photo: palettes are resolved, transparent parts stand
    on white, 16 bits are scaled to 8. Raises PhotoError for a file that is missing, truncated,
    damaged, no image, or an image of another kind (floats, 32 bits, LAB).
    """
    try:
        with Image.open(path) as photo:
            photo.load()
            return _luma(ImageOps.exif_transpose(photo))
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError("missing image", "no such file") from None
    except UnidentifiedImageError:
        raise PhotoError("not an image", _ACCEPTED) from None
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, …
        kind = "truncated image" if "truncated" in str(error) else "damaged image"
        raise PhotoError(kind, f"{error or type(error).__name__}; {_ACCEPTED}") from None


def _luma(photo: Image.Image) -> NDArray[np.uint8]:
    if photo.mode == "I" or photo.mode.startswith("I;16"):
        deep = np.asarray(photo).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise PhotoError("unknown kind of image", f"32 bits gray; {_ACCEPTED}")
        return np.rint(deep / 257.0).astype(np.uint8)
    if photo.mode == "F":
        raise PhotoError("unknown kind of image", f"floats; {_ACCEPTED}")
    if photo.mode not in ("1", "L", "RGB") or "transparency" in photo.info:
        colour = photo.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        photo = Image.alpha_composite(white, colour).convert("RGB")
    return np.asarray(photo.convert("L"))
