"""Synthetic photos and labels files for the tests of reading and cutting."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Points = Sequence[tuple[float, float]]


def ring(centre: float = 50.0, radius: float = 30.0) -> Points:
    """68 points, each its own place, with decimals."""
    angles = np.arange(68) * (2 * np.pi / 68)
    x, y = centre + radius * np.cos(angles), centre + (radius - 5) * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


@pytest.fixture
def points() -> Points:
    """A face of 68 points within a photo of 100 × 100."""
    return ring()


@pytest.fixture
def make_photo(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a photo of noise under tmp_path."""

    def make(name: str = "a.png", width: int = 100, height: int = 100) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return make


@pytest.fixture
def part_lines() -> Callable[[Points], list[str]]:
    """A function that writes points as dlib's parts."""

    def lines(points: Points) -> list[str]:
        return [f"<part name='{k:02d}' x='{x!r}' y='{y!r}'/>" for k, (x, y) in enumerate(points)]

    return lines


@pytest.fixture
def make_xml(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a labels file of one image with the boxes given as (box, parts)."""

    def make(
        *boxes: tuple[str, Sequence[str]], file: str = "a.png", name: str = "labels.xml"
    ) -> Path:
        body = "".join(f"<box {box}>{''.join(parts)}</box>" for box, parts in boxes)
        path = tmp_path / name
        path.write_text(
            "<?xml version='1.0' encoding='UTF-8'?>\n<dataset><name>synthetic</name><images>"
            f"<image file='{file}'>{body}</image></images></dataset>"
        )
        return path

    return make


BOX = "left='20' top='15' width='60' height='62'"


@pytest.fixture
def box() -> str:
    """A usable box, as attributes of dlib's XML."""
    return BOX


@pytest.fixture
def symlink() -> Callable[[Path, Path], None]:
    """``symlink(path, target)``; skips where the system doesn't let this user make links."""

    def make(path: Path, target: Path) -> None:
        try:
            path.symlink_to(target)
        except (OSError, NotImplementedError) as error:
            pytest.skip(f"no links here: {error}")

    return make
