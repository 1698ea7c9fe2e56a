"""One HTML page with the tables and the pictures: a single file that needs nothing else.

The style sheet and the pictures lie in the file, as CSS and SVG; there is no script and no
reference to anything outside. Colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from spdnn_cli import __version__
from spdnn_cli.atomic import written_aside
from spdnn_cli.report import plots, summary, tables
from spdnn_cli.report.all import all_tables
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import DARK, INK, LINES, MUTED, PAPER
from spdnn_cli.report.tables import Cell
from spdnn_cli.results.store import Result

TITLE = "Sparse DNN inference: measured results"
TEMPLATE = "page.html"
LONG_CELL = 40
"""Cells of more characters than this may be broken into lines."""

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_NAMES = {INK: "ink", MUTED: "muted", LINES: "lines", PAPER: "paper"}
_FAMILY = re.compile(r" *font-family: [^;]*;")


def write_page(results: Sequence[Result], path: Path) -> None:
    """Write the page: the summary, the paper's tables, the pictures, then all other tables.

    Args:
        results: what the pictures show, and the summary names.
        path: the file; one that is there is replaced.

    Raises:
        ResultError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    pictures = plots.pictures(results)
    made = all_tables(results) if results else []
    made = [tables.for_readers(table) for table in made if not table.is_long]
    first = [table for table in made if table.kind == "paper"]
    text = _template().render(
        title=TITLE,
        version=__version__,
        summary=summary.summary(results),
        light={_name(colour): colour for colour in DARK},
        dark={_name(colour): dark for colour, dark in DARK.items()},
        pictures=pictures,
        panel_svg=_panel_svg,
        first=first,
        tables=[table for table in made if table not in first],
    )
    with written_aside(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spdnn_cli.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"is_numeric": tables.is_numeric, "is_long": _is_long}
    return environment.get_template(TEMPLATE)


def _is_long(cell: Cell) -> bool:
    return len(str(cell)) > LONG_CELL


# ---- pictures


def _panel_svg(picture: Picture, number: int) -> Any:
    """A panel as markup for inside the page."""
    import markupsafe

    panel: Panel = picture.panels[number]
    stream = io.BytesIO()
    plots.save(panel.figure(), stream, "svg")
    return markupsafe.Markup(_inline(stream.getvalue(), f"{picture.name}-{number}", panel.title))


def _inline(svg: bytes, name: str, title: str) -> str:
    """An SVG for use inside HTML: no ids shared with another, colours that follow the page."""
    root = ElementTree.fromstring(svg)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height"):  # the page sets them; the viewBox keeps the proportions
        root.attrib.pop(size)
    root.attrib |= {"role": "img", "aria-label": title}
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.attrib[key.removeprefix(f"{{{_XLINK}}}")] = _own_ids(key, value, name)
    text = ElementTree.tostring(root, encoding="unicode")
    for colour in DARK:
        text = text.replace(colour, f"var(--{_name(colour)})")
    # The reader's own font: the same as of the text around, and sharp at every size.
    return _FAMILY.sub("", text)


def _own_ids(key: str, value: str, prefix: str) -> str:
    """An attribute's value with its id, or what it says of one, made the panel's own."""
    if key == "id":
        return f"{prefix}-{value}"
    if key.endswith("href"):
        return value.replace("#", f"#{prefix}-")
    return value.replace("url(#", f"url(#{prefix}-")


def _name(colour: str) -> str:
    """The CSS variable of a colour."""
    return _NAMES.get(colour, f"c-{colour[1:]}")
