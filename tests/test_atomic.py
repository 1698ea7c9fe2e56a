"""atomic.py: a file gets its name when it is whole, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import DataError


def fail_with(error: BaseException, path: Path) -> None:
    """Write half of a file, then fail."""
    with written_aside(path) as part:
        part.write_bytes(b"half")
        raise error


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.tsv"
    with written_aside(path) as part:
        part.write_bytes(b"new")
        assert part == Path(f"{path}.part")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with written_aside(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


ANOTHER_FILE = FileNotFoundError(errno.ENOENT, "No such file or directory", "another file")


@pytest.mark.parametrize(
    "error",
    [RuntimeError("source"), KeyboardInterrupt(), DataError("bad source"), ANOTHER_FILE],
    ids=repr,
)
def test_failure_of_the_caller_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        fail_with(error, path)
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError("a message of two lines\nof a library"), "a message of two lines"),
    ],
)
def test_failed_write(tmp_path: Path, error: OSError, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DataError) as caught:
        fail_with(error, path)
    assert str(caught.value) == f"{path}: cannot be written ({reason}). Is there room on the disk?"
    assert caught.value.__cause__ is error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_name_belongs_to_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(DataError) as caught, written_aside(path) as part:
        part.write_bytes(b"new")
    assert caught.value.what == "cannot be written (Is a directory)"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/new", "File exists"), ("file/folder/new", "Not a directory")],
)
def test_folder_cannot_be_made(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(DataError) as caught, written_aside(tmp_path / name):
        pytest.fail("there is nothing to write to")
    assert caught.value.what == f"cannot be written ({reason})"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_part_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    with pytest.raises(DataError) as caught, written_aside(tmp_path / "file") as part:
        part.write_bytes(b"new")
    assert caught.value.what == "cannot be written (Is a directory)"
