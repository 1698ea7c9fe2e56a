"""One process at a time makes a file; the others wait, and use what it has made.

The lock is the operating system's, on a file beside the one that is made: it goes with its process,
however that ends, and the lock file that stays behind is empty and locks nobody out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from spdnn_cli.atomic import link_target, remove_parts

POLL_SECONDS = 0.1


@contextmanager
def alone_at(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of `path` while the block runs; waits for whoever has it.

    Where no lock can be had (a file system without locks, a folder that nobody may write to) the
    block runs without: files are written aside under names of their own, so the worst is that
    the same work is done twice.

    Args:
        path: the file to be made.
        wait: called once, if the lock is not free at once; may raise, to wait no longer.
    """
    path = link_target(path)
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), is_singleton=False)
    held = False
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            held = True
        except filelock.Timeout:
            wait()
            lock.acquire(poll_interval=POLL_SECONDS)
            held = True
        except (OSError, NotImplementedError):
            pass
        if held:
            remove_parts(path)  # of a process that was killed: a live one would hold the lock
        yield
    finally:
        if held:
            with suppress(OSError):
                lock.release()
