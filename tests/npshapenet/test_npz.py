"""Reading .npz files: what NumPy writes, and what an enemy might."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npshapenet import npz
from npshapenet.npz import NpzError, read_directory

ARRAYS = {
    "half": np.linspace(-2, 2, 30).astype(np.float16).reshape(5, 6),
    "single": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "bytes": np.frombuffer(b"{}", np.uint8),
    "number": np.float32(3).reshape(()),
    "nothing": np.zeros((0, 3), np.float32),
}
DTYPES = ("<f2", "<f4", "|u1")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_writes(save, path):
    save(path, **ARRAYS)
    members = read_directory(path)
    assert set(members) == set(ARRAYS)
    for name, expected in ARRAYS.items():
        array = members[name].array(DTYPES, expected.size)
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
        assert not array.flags.writeable


def header(descr="<f4", shape="(2, 2)", fortran="False", magic=b"\x93NUMPY\x01\x00"):
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    return magic + struct.pack("<H", len(text) + 1) + text + b"\n"


def write_zip(path, *members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)


FOUR = np.ones(4, np.float32).tobytes()

BAD_MEMBERS = {
    "no magic": (b"PICKLE" + bytes(100), "not a .npy file of version 1.0"),
    "empty": (b"", "not a .npy file"),
    "cut in the header": (header()[:20], "header"),
    "version 2": (header(magic=b"\x93NUMPY\x02\x00") + FOUR, "version 1.0"),
    "objects": (header("|O") + FOUR, r"dtype is \|O; accepted: <f2, <f4"),
    "doubles": (header("<f8") + FOUR * 2, "dtype is <f8"),
    "big-endian": (header(">f4") + FOUR, "dtype is >f4"),
    "records": (header("[('a', '<f4')]") + FOUR, "not that of a plain array"),
    "Fortran order": (header(fortran="True") + FOUR, "not that of a plain array"),
    "code": (header(shape="(__import__('os').getpid(), 1)") + FOUR, "not that of a plain array"),
    "negative": (header(shape="(-2, -2)") + FOUR, "not that of a plain array"),
    "too short": (header() + FOUR[:-1], "15 bytes of data"),
    "too long": (header() + FOUR + b"\0", "17 bytes of data"),
    "huge shape": (header(shape="(999999999, 999999999)") + FOUR, "16 bytes of data"),
    "many axes": (header(shape="(" + "1, " * 300 + ")") + FOUR, "bytes of data|header"),
    "more than asked for": (header(shape="(400,)") + FOUR * 100, "declares 16.. bytes"),
}


@pytest.mark.parametrize("what", BAD_MEMBERS)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bad_member(what, method, path):
    content, message = BAD_MEMBERS[what]
    write_zip(path, ("a.npy", content), method=method)
    with pytest.raises(NpzError, match=f"^a: .*{message}"):
        read_directory(path)["a"].array(("<f2", "<f4"), 4)


def test_no_such_zip(path, tmp_path):
    for content in (b"", b"PK", b"PK\5\6" + bytes(17), b"\x93NUMPY", bytes(1000), b"PK" * 500):
        path.write_bytes(content)
        with pytest.raises(NpzError, match=r"not an \.npz file|cut short"):
            read_directory(path)
    with pytest.raises(FileNotFoundError):
        read_directory(tmp_path / "none.npz")
    with pytest.raises(OSError, match=r"irectory|denied"):
        read_directory(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.txt", b"")], "only arrays"),
        ([("a.npy/", b"")], "only arrays"),
        ([("../a.pkl", b"")], "only arrays"),
    ],
)
def test_other_members(members, message, path):
    write_zip(path, *members)
    with pytest.raises(NpzError, match=message):
        read_directory(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(path):
    write_zip(path, ("a.npy", header() + FOUR), ("a.npy", header() + FOUR))
    with pytest.raises(NpzError, match="a: the name occurs twice"):
        read_directory(path)


def test_other_compression(path):
    write_zip(path, ("a.npy", header() + FOUR), method=zipfile.ZIP_LZMA)
    with pytest.raises(NpzError, match="method 14"):
        read_directory(path)


def test_comment(path):
    write_zip(path, ("a.npy", header() + FOUR))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
    with pytest.raises(NpzError, match="cut short"):
        read_directory(path)


def test_bomb_is_refused_before_it_inflates(path):
    bomb = header(shape="(100000000,)") + bytes(100_000_000)
    write_zip(path, ("a.npy", bomb), method=zipfile.ZIP_DEFLATED)
    del bomb
    tracemalloc.start()
    with pytest.raises(NpzError, match=r"declares 1000000\d\d bytes, more than"):
        read_directory(path)["a"].array(DTYPES, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_bomb_that_lies_about_its_size(path):
    content = header() + bytes(50_000_000)
    write_zip(path, ("a.npy", content), method=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    small = len(header()) + 16
    entry = data.rindex(b"PK\1\2")
    data[entry + 24 : entry + 28] = struct.pack("<L", small)
    data[entry + 16 : entry + 20] = struct.pack("<L", zlib.crc32(content[:small]))
    path.write_bytes(data)
    del content
    tracemalloc.start()
    with pytest.raises(NpzError, match=f"does not hold the {small} bytes"):
        read_directory(path)["a"].array(DTYPES, 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_table_of_contents_of_absurd_size(path):
    entries = struct.pack("<4s6H3L5H2L", b"PK\1\2", *[0] * 16) * 30000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 30000, 30000, len(entries), 2, 0)
    path.write_bytes(b"PK" + entries + end)
    with pytest.raises(NpzError, match="table of contents takes 1380000 bytes"):
        read_directory(path)


def test_file_of_absurd_size(path):
    with open(path, "wb") as file:
        file.truncate(npz.FILE_BYTES_MAX + 1)
    with pytest.raises(NpzError, match="larger than 160 MiB"):
        read_directory(path)


def saved(save):
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)
    return buffer.getvalue()


FILES = [saved(np.savez), saved(np.savez_compressed)]

#: The file is written anew for each example, so that they may share its path.
PER_EXAMPLE = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


def read_all(path):
    return {
        name: member.array(DTYPES, ARRAYS[name].size)
        for name, member in read_directory(path).items()
    }


@given(data=st.data(), content=st.sampled_from(FILES))
@settings(max_examples=100, **PER_EXAMPLE)
def test_cut_short(data, content, path):
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(NpzError):
        read_all(path)


@given(data=st.data(), content=st.sampled_from(FILES), flip=st.integers(1, 255))
@settings(max_examples=300, **PER_EXAMPLE)
def test_a_changed_byte_is_an_error_or_changes_nothing(data, content, flip, path):
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= flip
    path.write_bytes(changed)
    arrays, message = {}, ""
    try:
        arrays = read_all(path)
    except NpzError as error:
        message = str(error)
    assert "\n" not in message
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
