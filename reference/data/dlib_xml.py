"""Reading dlib's XML: `<image file><box top left width height><part name x y>`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from reference.data.face import (
    Box,
    LabelError,
    LabelledFace,
    image_inside,
    labelled_face,
    parse_coordinate,
)
from reference.data.markup import IBUG68, Markup

_ACCEPTED = "accepted: dlib's XML, <dataset><images><image file><box><part>"


def read_dlib_xml(path: Path, markup: Markup = IBUG68) -> Iterator[LabelledFace | LabelError]:
    """Yield each box of a dlib XML file as a face, or as the LabelError that says what is wrong.

    Boxes marked ignore='1' are passed over, as dlib does. Raises LabelError where the file is not
    XML, declares a document type (so that entities are neither expanded nor fetched), isn't
    dlib's, or holds no box.
    """
    root = _parse(path)
    found = False
    for image in root.iter("image"):
        for number, box in enumerate(image.iterchildren("box")):
            if box.get("ignore") == "1":
                continue
            found = True
            try:
                yield _face(path, image.get("file"), number, box, markup.point_count)
            except LabelError as error:
                yield error
    if not found:
        raise LabelError(path, "", "no face", f"the file holds no box; {_ACCEPTED}")


def read_title(path: Path) -> str:
    """Return what the file calls itself (`<dataset><name>`), or an empty text."""
    return " ".join((_parse(path).findtext("name") or "").split())


class _DoctypeFound(Exception):
    """Raised by the first pass, to stop at the declaration and before any entity."""


class _DoctypeGuard:
    """Parser target of the first pass: hears of a document type, builds nothing."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Stop at a document type."""
        raise _DoctypeFound

    def close(self) -> None:
        """Return nothing at the document's end."""


def _parser(target: _DoctypeGuard | None = None) -> etree.XMLParser:
    return etree.XMLParser(
        target=target, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )


def _parse(path: Path) -> etree._Element:
    try:
        content = path.read_bytes()
        # libxml2 expands entities in attributes even where it is told not to resolve any, so
        # a document type is looked for before the tree is built.
        etree.fromstring(content, _parser(_DoctypeGuard()))
        root = etree.fromstring(content, _parser())
    except _DoctypeFound:
        detail = "entities are neither expanded nor fetched; accepted: XML without <!DOCTYPE>"
        raise LabelError(path, "", "declares a document type", detail) from None
    except (etree.XMLSyntaxError, ValueError) as error:
        raise LabelError(path, "", "not XML", f"{error}; {_ACCEPTED}") from None
    except OSError as error:
        raise LabelError(path, "", "can't be read", str(error.strerror)) from None
    if root.tag != "dataset":
        raise LabelError(path, "", "not dlib's labels", f"root element <{root.tag}>; {_ACCEPTED}")
    return root


def _face(
    labels: Path, file: str | None, number: int, box: etree._Element, point_count: int
) -> LabelledFace:
    if not file:
        detail = f"line {box.getparent().sourceline}; accepted: <image file='path'>"
        raise LabelError(labels, "<image> without file", "missing image", detail)
    name = f"{file}#{number}"
    edges = _edges(labels, name, box)
    landmarks = _landmarks(labels, name, box, point_count)
    return labelled_face(
        labels, image_inside(labels, labels.parent, file, name), name, edges, landmarks
    )


def _coordinate(labels: Path, name: str, element: etree._Element, attribute: str) -> float:
    text = element.get(attribute)
    value = parse_coordinate(text)
    if value is None:
        came = f"no {attribute}" if text is None else f"{attribute}={text[:40]!r}"
        detail = (
            f"<{element.tag}> on line {element.sourceline} has {came}; accepted: a finite number"
        )
        raise LabelError(labels, name, "bad number", detail)
    return value


def _edges(labels: Path, name: str, box: etree._Element) -> Box:
    """Edges of a box; dlib's width and height count pixels, so left + width is exclusive."""
    left, top, width, height = (
        _coordinate(labels, name, box, key) for key in ("left", "top", "width", "height")
    )
    return left, top, left + width, top + height


def _landmarks(
    labels: Path, name: str, box: etree._Element, point_count: int
) -> NDArray[np.float64]:
    """(L, 2): the parts of a box, put in the order of their names."""
    accepted = f"accepted: {point_count} parts named 00 to {point_count - 1:02d}"
    parts = list(box.iterchildren("part"))
    landmarks = np.full((point_count, 2), np.nan)
    for part in parts:
        index = _index(part.get("name"), point_count)
        if index is None:
            came = f"{part.get('name')!r} among {len(parts)}"
            raise LabelError(labels, name, "unknown part", f"{came}; {accepted}")
        if not np.isnan(landmarks[index]).all():
            came = f"{part.get('name')!r} among {len(parts)}"
            raise LabelError(labels, name, "repeated part", f"{came}; {accepted}")
        landmarks[index] = [_coordinate(labels, name, part, axis) for axis in ("x", "y")]
    missing = np.flatnonzero(np.isnan(landmarks[:, 0]))
    if missing.size:
        first = ", ".join(f"{index:02d}" for index in missing[:5])
        came = f"{len(parts)} parts, without {first}{' …' if missing.size > 5 else ''}"
        raise LabelError(labels, name, "missing parts", f"{came}; {accepted}")
    return landmarks


def _index(name: str | None, point_count: int) -> int | None:
    if name is None or len(name) > 4 or not (name.isascii() and name.isdigit()):
        return None
    index = int(name)
    return index if index < point_count else None
