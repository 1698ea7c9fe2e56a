"""How this program starts itself: without the current folder among the places of imports.

A user's `random.py` would be imported there in place of Python's own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_START = (
    "import sys; home = sys.argv.pop(1); sys.argv[0] = 'spdnn'; "
    "sys.path[:] = [home, *filter(None, sys.path)]; import spdnn_cli; "
    # This very package, but nothing else that may lie beside it.
    "sys.path.append(sys.path.pop(0)); from spdnn_cli.cli import main; main()"
)


def command(*words: str) -> list[str]:
    """The command line that is `spdnn WORDS`, with this interpreter and this package."""
    return [sys.executable, "-c", _START, str(Path(__file__).parents[1]), *words]


@contextlib.contextmanager
def safe_imports() -> Iterator[None]:
    """The same for processes that multiprocessing starts inside the block.

    Before Python 3.11 they look in the current folder for what they need until they are told the
    places of this process.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
