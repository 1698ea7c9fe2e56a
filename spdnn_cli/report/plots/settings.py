"""matplotlib with its own defaults and ours, whatever a user has set for it: same data, same bytes.

A user's `matplotlibrc` and MPLBACKEND (Jupyter sets one for every process below it) are for other
work. matplotlib reads them while it is imported, and what it cannot use may fail right there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spdnn_cli.errors import ResultError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = {"svg.fonttype": "none", "svg.hashsalt": "spdnn"}
"""Text stays text in an SVG: smaller, sharp, and found by a search. Names in it are no chance.
"""


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Inside the block, or the function that this decorates, the user's settings do not count.

    Raises:
        ResultError: matplotlib is not installed.
    """
    import_figure()
    import matplotlib as mpl

    # Choosing a backend would import it; none is needed to write files.
    defaults: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"}
    with mpl.rc_context(defaults | OURS):
        yield


def import_figure() -> type[Figure]:
    """matplotlib's `Figure`, which draws without a screen.

    Raises:
        ResultError: matplotlib is not installed.
    """
    try:
        if "matplotlib" not in sys.modules:
            with _users_files_hidden():
                import matplotlib  # noqa: F401
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ResultError(
            "pictures need matplotlib, which is not installed",
            hint="Run pip install 'spdnn[plot]'.",
        ) from error
    return Figure


@contextlib.contextmanager
def _users_files_hidden() -> Iterator[None]:
    """Where matplotlib's import finds an empty file of settings, and no backend named.

    It looks for `matplotlibrc` in the current folder before all others, and in no other then.
    """
    # It would say, too, that its folder for fonts cannot be written, which does no harm here.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        with tempfile.TemporaryDirectory(prefix="spdnn-") as folder, _inside(Path(folder)):
            Path("matplotlibrc").touch()
            yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder; where the current one was deleted, stay: there is nothing in it."""
    try:
        before = Path.cwd()
    except FileNotFoundError:
        yield
        return
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
