"""Photo files, opened so that one line says what is wrong with one that can't be."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from npshapenet.cli.errors import reason


class PhotoError(Exception):
    """A file that is no photo; the message says why, without the file's name."""


def read_photo(path: Path) -> Image.Image:
    """The picture in a file, whole and turned as its EXIF data says, in whatever mode it has.

    Of several frames the first. PhotoError if there is none, or only a part of one.
    """
    if path.is_dir():
        raise PhotoError("is a folder, not a photo")
    try:
        with warnings.catch_warnings():
            # Pillow refuses huge pictures by itself; of large ones it only warns.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise PhotoError("is not a picture in any form that Pillow reads") from None
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise PhotoError(reason(error)) from error
