"""atomic.py: a file gets its name when it is whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spdnn_cli.atomic import check_folder, written_aside
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
        assert part.parent == path.parent
        assert re.fullmatch(r"file\.tsv\.[0-9a-f]{8}\.part", part.name)
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
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "No space left on device). Is there room on the disk?",
        ),
        (
            OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
            "Disk quota exceeded). Is the disk quota used up?",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
            "Permission denied). Choose another folder, or get the permission to write there.",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS)),
            "Read-only file system). The file system is read-only: choose another folder.",
        ),
        (
            OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
            "File too large). Is there a limit on the size of files (ulimit -f)?",
        ),
        (
            OSError("Can't write data (errno = 28, error message = 'No space left on device')"),
            "No space left on device). Is there room on the disk?",
        ),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error)."),
        (OSError("a message of two lines\nof a library"), "a message of two lines)."),
    ],
    ids=str,
)
def test_failed_write(tmp_path: Path, error: OSError, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DataError) as caught:
        fail_with(error, path)
    assert str(caught.value) == f"{path}: cannot be written ({reason}"
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


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with written_aside(path) as first, written_aside(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the last one to end
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_link_stays_a_link(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "disk" / "file", tmp_path / "file"
    link.symlink_to(target)
    if there:
        target.parent.mkdir()
        target.write_bytes(b"old")
    with written_aside(link) as part:
        part.write_bytes(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


# ---- folders, before the work


def test_a_folder_is_checked_and_left_as_it_was(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "there").mkdir()
    check_folder(tmp_path / "there")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_that_many_check_at_once(tmp_path: Path) -> None:
    """Each makes it and removes it; none takes that for a fault."""

    def check(_: int) -> None:
        for _ in range(200):
            check_folder(tmp_path / "results" / "local" / "machine")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(check, range(4))) == [None] * 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file", "File exists"), ("file/a", "Not a directory"), ("file/a/b", "Not a directory")],
)
def test_a_folder_that_cannot_be_made(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(DataError) as caught:
        check_folder(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: cannot be written ({reason}). A file is where a folder must be."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user with limits")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError) as caught:
        check_folder(tmp_path / "results")
    assert str(caught.value) == (
        f"{tmp_path / 'results'}: cannot be written (Permission denied). "
        "Choose another folder, or get the permission to write there."
    )
