"""Numba's compiler, on any machine: wherever compiled code can be kept, or nowhere at all.

Modules take `njit` from here in place of Numba's own. Numba settles at the import of a module where
its compiled code is kept, and raises where no place can be written. Here that is settled when a
function is first compiled: in Numba's own places, else in a folder below the data folder or the
temporary one, else code is compiled anew in each process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from spdnn_cli.errors import EngineError

PROBE_BYTES = 1 << 16
"""Bytes that are written to test whether a folder can be written: enough to notice a full quota."""
UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)
FOLDER = ".numba-cache"

data_dir: Path | None = None
"""The data folder, where the caller has one: see `_fallback`."""


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(cache=True, ...)`, which needs no place to keep compiled code.

    Where NUMBA_DISABLE_JIT is set, the function raises an EngineError when it is called: as plain
    Python it would run for hours, if at all.
    """

    import numba

    config: Any = numba.config

    def decorate(function: Callable[..., Any]) -> Any:
        if config.DISABLE_JIT:
            return _refuse
        dispatcher: Any = numba.njit(**options)(function)
        dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


def _refuse(*_: Any, **__: Any) -> Any:
    raise EngineError(
        "Numba's compiler is switched off (NUMBA_DISABLE_JIT is set)",
        hint="Unset NUMBA_DISABLE_JIT and run the command again.",
    )


class _Cache:
    """The compiled code of a function, kept where that is possible. Numba asks it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._is_settled = function, False
        self._kept: Any = None

    @property
    def cache_path(self) -> str | None:
        """The folder, or None: it is not kept."""
        kept = self._settled()
        return None if kept is None else str(kept.cache_path)

    def flush(self) -> None:
        """Forget what was kept."""
        if (kept := self._settled()) is not None:
            kept.flush()

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled code for a signature; None: it is to be compiled."""
        if (kept := self._settled()) is None:
            return None
        try:
            return kept.load_overload(signature, context)
        except UNREADABLE:
            with contextlib.suppress(OSError):
                kept.flush()
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep compiled code."""
        if (kept := self._settled()) is None:
            return
        try:
            kept.save_overload(signature, compiled)
        except UNREADABLE as error:  # a disk that is full by now
            self._kept = None
            _say_not_kept(getattr(error, "strerror", None) or str(error))

    def _settled(self) -> Any:
        if not self._is_settled:
            self._kept, self._is_settled = _place_for(self._function), True
        return self._kept


def _place_for(function: Callable[..., Any]) -> Any:
    """Numba's own cache of a function, in a folder that can be written; None: there is none."""
    own = _own_cache(function)
    if own is not None and _takes_bytes(own.cache_path):
        return own
    return None if _fallback() is None else _own_cache(function)


def _own_cache(function: Callable[..., Any]) -> Any:
    from numba.core.caching import FunctionCache

    make: Any = FunctionCache
    try:
        return make(function)
    except (RuntimeError, OSError):  # Numba finds no place for it
        return None


@cache
def _takes_bytes(folder: str) -> bool:
    """Whether files can be written there."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


@cache
def _fallback() -> Path | None:
    """A folder for compiled code, which Numba is told of from here on; None: there is none.

    Child processes are told of it too, by NUMBA_CACHE_DIR.
    """
    import numba

    config: Any = numba.config
    places = [] if data_dir is None else [data_dir.absolute() / FOLDER]
    user = os.getuid() if hasattr(os, "getuid") else "user"
    with contextlib.suppress(OSError):  # no folder for temporary files can be written
        places.append(Path(tempfile.gettempdir()) / f"spdnn-numba-{user}")
    for place in places:
        if _is_own(place) and _takes_bytes(str(place)):
            os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = str(place)
            _say(f"Numba's cache cannot be written where it belongs; compiled code is in {place}.")
            return place
    _say_not_kept("no folder for it can be written")
    return None


def _is_own(folder: Path) -> bool:
    """Make the folder; tell whether only this user can write there. Code in it will be executed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(status.st_mode)
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


@cache
def _say_not_kept(why: str) -> None:
    _say(
        f"Compiled code cannot be kept ({why}), and is compiled in each run: that takes up to a "
        "minute. Set NUMBA_CACHE_DIR to a folder that can be written."
    )


@cache
def _say(sentence: str) -> None:
    """One sentence on stderr, from the first of the processes of a run."""
    import multiprocessing

    if multiprocessing.parent_process() is None and sys.stderr is not None:
        print(sentence, file=sys.stderr, flush=True)
