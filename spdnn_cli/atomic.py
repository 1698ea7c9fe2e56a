"""Files written aside, then renamed: a reader sees the old or the new one, never a part of one."""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spdnn_cli.errors import DataError

HINTS = {
    errno.EACCES: "Choose another folder, or get the permission to write there.",
    errno.EPERM: "Choose another folder, or get the permission to write there.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENOSPC: "Is there room on the disk?",
    errno.EDQUOT: "Is the disk quota used up?",
    errno.EFBIG: "Is there a limit on the size of files (ulimit -f)?",
    errno.ENOTDIR: "A file is where a folder must be.",
    errno.EEXIST: "A file is where a folder must be.",
    errno.EISDIR: "A folder is where the file must be.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
"""What may help where a file cannot be written, by the number of the system's error."""

_TRIES = 20
"""Of a folder that others may make and remove at the same time."""

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What a system answers where the user may not read or write."""


def link_target(path: Path) -> Path:
    """The file to write for `path`: what it points to, where it is a symbolic link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name `path` when the block ends well.

    Its name is `path`, a random word and ".part": processes that write the same file do not meet.
    Missing folders are made. A symbolic link stays one: the file that it points to is written. On
    any failure the part is removed, and a file that was at `path` before stays as it was.

    Raises:
        DataError: the file cannot be written. An OSError that names another file is not about
            this one, and passes through.
    """
    target = link_target(path)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, target)
    except OSError as error:
        # A full disk is noticed by a write, and the error of a write names no file.
        ours = {str(None), str(part), *map(str, target.parents)}
        if str(error.filename) not in ours:
            raise
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()


def remove_parts(path: Path) -> None:
    """Remove what processes that were killed have left of `path`; only where none writes it."""
    with suppress(OSError):
        for part in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
            part.unlink()


def check_folder(folder: Path) -> None:
    """Check that files can be written in a folder, before hours are spent on making them.

    It need not exist yet. Nothing is left behind.

    Raises:
        DataError: no file can be written there.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            _probe(folder)
            return
        except (FileNotFoundError, FileExistsError) as error:
            # Another process that probes may have removed the folder just now.
            if not tries_left:
                raise _not_written(folder, error) from error
        except OSError as error:
            raise _not_written(folder, error) from error


def _probe(folder: Path) -> None:
    """Write a file in a folder that need not exist, and remove what was made."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="probe-", suffix=".part") as file:
            file.write(b"probe")
            file.flush()
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def _not_written(path: Path, error: OSError) -> DataError:
    """What to tell of a file or folder. Libraries name a system's error in their text alone."""
    text = str(error)
    named = re.search(r"errno = (\d+)", text)
    number = error.errno if named is None else int(named[1])
    reason = text.partition("\n")[0]
    if number is not None and number in errno.errorcode:
        reason = os.strerror(number)
    hint = None if number is None else HINTS.get(number)
    return DataError(f"cannot be written ({reason})", path=path, hint=hint)
