"""Pictures from result files: first the paper, other programs and ours on one axis.

Each has a module, whose `picture` describes it from the results that can fill it; None: none can.
Runs of unlike machines never share a panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import ResultError
from spdnn_cli.report.plots import alive, overview, roofline, scaling, throughput
from spdnn_cli.report.plots.settings import own_settings
from spdnn_cli.report.plots.sheet import Picture, sheet
from spdnn_cli.results.store import Result

SUFFIXES = (".svg", ".png")
DOTS_PER_INCH = 200


@own_settings()
def pictures(results: Sequence[Result]) -> list[Picture]:
    """Every picture that the results can fill.

    Raises:
        ResultError: matplotlib is not installed.
    """
    modules = (overview, scaling, throughput, alive, roofline)
    made = (module.picture(results) for module in modules)
    return [picture for picture in made if picture is not None]


def draw(results: Sequence[Result], path: Path) -> None:
    """Write one file with all pictures that the results can fill, SVG or PNG by its suffix.

    Raises:
        ResultError: another suffix; matplotlib is not installed; nothing to draw.
        DataError: the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ResultError(
            f"pictures are written as SVG or PNG, not as {path.suffix or 'a file without suffix'}",
            path=path,
            hint="Name the file .svg or .png.",
        )
    made = pictures(results)
    if not made:
        raise ResultError(
            "there is nothing to draw: no result has categories that are right",
            path=path,
            hint="Run spdnn infer first.",
        )
    with written_aside(path) as part:
        save(sheet(made), part, path.suffix.lower()[1:])


@own_settings()
def save(figure: Any, file: Any, form: str) -> None:
    """Write a figure as "svg" or "png" to a path or a stream; same data, same bytes."""
    metadata = {"Date": None} if form == "svg" else None
    figure.savefig(file, format=form, dpi=DOTS_PER_INCH, metadata=metadata)
