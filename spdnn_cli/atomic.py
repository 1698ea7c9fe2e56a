"""Files written aside, then renamed: a reader sees the old one or the new one, never a half."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spdnn_cli.errors import DataError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give `path` + ".part" to write to; it takes the name `path` when the block ends well.

    Missing folders are made. On any failure the part is removed, and a file that was at `path`
    before stays as it was.

    Raises:
        DataError: the file cannot be written. An OSError that names another file is not about
            this one, and passes through.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        # A full disk is noticed by a write, and the error of a write names no file.
        ours = {str(None), str(part), *map(str, path.parents)}
        if str(error.filename) not in ours:
            raise
        reason = error.strerror or str(error).partition("\n")[0]
        raise DataError(
            f"cannot be written ({reason})", path=path, hint="Is there room on the disk?"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
