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

    Python 3.10 does not know the variable. There they start in the root folder, until they are told
    the places of this process: multiprocessing has them change to its folder itself.
    """
    before, here = os.environ.get("PYTHONSAFEPATH"), os.getcwd()
    os.environ["PYTHONSAFEPATH"] = "1"
    if sys.version_info < (3, 11):
        os.chdir(os.path.abspath(os.sep))
    try:
        yield
    finally:
        os.chdir(here)
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
