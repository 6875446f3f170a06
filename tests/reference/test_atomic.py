"""Files are written whole or not at all."""

import os

import pytest

from reference.atomic import write_atomically


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, lambda file: file.write(b"one") and None)
    write_atomically(path, lambda file: file.write(b"two") and None)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("failure", [OSError, ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_leaves_everything_as_it_was(failure, existed, tmp_path):
    path = tmp_path / "a.bin"
    if existed:
        path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise failure

    with pytest.raises(failure):
        write_atomically(path, write)
    assert os.listdir(tmp_path) == (["a.bin"] if existed else [])
    assert not existed or path.read_bytes() == b"old"


def test_the_target_is_untouched_until_the_end(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_atomically(path, write)
    assert path.read_bytes() == b"new"


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a.bin", lambda file: None)
