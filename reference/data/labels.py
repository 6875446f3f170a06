"""Reading labels of either form: dlib's XML or iBUG's .pts."""

from collections.abc import Iterator
from pathlib import Path

from reference.data.dlib_xml import read_dlib_xml
from reference.data.face import LabelError, LabelledFace
from reference.data.markup import IBUG68, Markup
from reference.data.pts import read_pts

__all__ = ["LabelError", "LabelledFace", "read_labels"]


def read_labels(path: Path, markup: Markup = IBUG68) -> Iterator[LabelledFace | LabelError]:
    """Yield the faces of a dlib .xml file, of a folder of .pts files, or of one .pts file.

    A label that can't be used is yielded as its LabelError, so that the caller may go on. What
    makes the whole file unusable (no such file, not XML, no label in it) is raised as LabelError.
    Photos are looked up, not opened. Of .pts files, which have no box, only iBUG's points are read.
    """
    path = Path(path)
    if not path.exists():
        raise LabelError(path, "", "no such file", "accepted: dlib's .xml, a folder of .pts files")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".pts":
        if markup != IBUG68:
            detail = f"they have no box, and one is fitted for {IBUG68.name} alone, not for "
            detail += f"{markup.name}; accepted: dlib's .xml"
            raise LabelError(path, "", ".pts files", detail)
        yield from read_pts(path)
    elif suffix == ".xml":
        yield from read_dlib_xml(path, markup)
    else:
        detail = f"{path.suffix or 'a name without suffix'}; accepted: .xml, a folder of .pts files"
        raise LabelError(path, "", "not a labels file", detail)
