"""One HTML page with the tables and the pictures: a single file that needs nothing else.

The style sheet and the pictures lie in the file, as CSS and SVG; there is no script and no
reference to anything outside. Colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from xml.etree import ElementTree

from spdnn_cli import __version__
from spdnn_cli.atomic import written_aside
from spdnn_cli.report import plots
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import DARK, INK, LINES, MUTED, PAPER
from spdnn_cli.report.tables import Table
from spdnn_cli.results.store import Result

TITLE = "Sparse DNN inference: measured results"
LONG_CELL = 40
"""Cells of more letters than this may be broken into lines."""

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_NAMES = {INK: "ink", MUTED: "muted", LINES: "lines", PAPER: "paper"}
_FAMILY = re.compile(r" *font-family: [^;]*;")
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?(%|x|s|ms|GB|\*))*", re.IGNORECASE)


def write_page(
    results: Sequence[Result],
    tables: Sequence[Table],
    path: Path,
) -> None:
    """Write the page.

    Args:
        results: what the pictures show, and the summary names.
        tables: in the order in which they are to be read, notes included.
        path: the file; one that is there is replaced.

    Raises:
        ResultError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    pictures = plots.pictures(results)
    sections = [(f"picture-{picture.name}", picture.title) for picture in pictures]
    sections += [("tables", "Tables")] if tables else []
    main = [_picture(picture) for picture in pictures]
    if tables:
        main += ['<h2 id="tables">Tables</h2>', *(_table(table) for table in tables)]
    template = Template(
        resources.files("spdnn_cli.report").joinpath("page.html").read_text("utf-8")
    )
    text = template.substitute(
        title=escape(TITLE),
        summary=escape(_summary(results)),
        light=_variables({colour: colour for colour in DARK}),
        dark=_variables(DARK),
        links="\n".join(f'<li><a href="#{at}">{escape(name)}</a></li>' for at, name in sections),
        main="\n".join(main),
        footer=f"<p>Made from result files by spdnn {escape(__version__)}.</p>",
    )
    with written_aside(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def _summary(results: Sequence[Result]) -> str:
    """How many runs of which machines, when, and how many were verified."""
    if not results:
        return "No results."
    dates = sorted(str(result.record["created"])[:10] for result in results)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    machines = sorted({result.path.parent.name for result in results})
    verified = sum(bool(result.record["verified"]) for result in results)
    wrong = sum(result.record.get("difference") is not None for result in results)
    text = (
        f"{len(results)} runs, {when}, {verified} of them verified, on {len(machines)} "
        f"machine{'' if len(machines) == 1 else 's'}: {', '.join(machines)}."
    )
    return f"{text} {wrong} with wrong categories are not drawn." if wrong else text


# ---- tables


def _table(table: Table) -> str:
    """A table in a box of its own, which scrolls where it is too wide, and its notes below."""
    are_text = [_is_text(cells) for cells in _columns(table)]

    def line(tag: str, cells: Sequence[str]) -> str:
        made = [_cell(tag, *cell) for cell in zip(cells, are_text, strict=True)]
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line("td", row) for row in table.rows)
    title = escape(table.title)
    return (
        f"<section><h3>{title}</h3>\n"
        f'<div class="scroll" role="region" tabindex="0" aria-label="{title}"><table>\n'
        f"<thead>{line('th', table.columns)}</thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
        f"{_notes(table.notes)}</section>"
    )


def _columns(table: Table) -> list[list[str]]:
    return [[row[k] for row in table.rows] for k in range(len(table.columns))]


def _is_text(cells: Sequence[str]) -> bool:
    """Whether a column holds anything but numbers, and so is set to the left."""
    return any(cell and not _NUMBER.fullmatch(cell.strip()) for cell in cells)


def _cell(tag: str, text: str, is_text: bool) -> str:
    names = ["text"] * is_text + ["long"] * (tag == "td" and len(text) > LONG_CELL)
    scope = ' scope="col"' if tag == "th" else ""
    marked = f' class="{" ".join(names)}"' if names else ""
    return f"<{tag}{scope}{marked}>{escape(text)}</{tag}>"


def _notes(notes: Sequence[str]) -> str:
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">\n{items}\n</ul>' if notes else ""


# ---- pictures


def _picture(picture: Picture) -> str:
    """A picture: its panels beside each other where there is room, and its notes below."""
    panels = [_panel(panel, f"{picture.name}-{k}") for k, panel in enumerate(picture.panels)]
    return (
        f'<section><h2 id="picture-{picture.name}">{escape(picture.title)}</h2>\n'
        f'<div class="panels">\n{"".join(panels)}</div>\n{_notes(picture.notes)}</section>'
    )


def _panel(panel: Panel, name: str) -> str:
    stream = io.BytesIO()
    plots.save(panel.figure(), stream, "svg")
    return (
        f"<figure><figcaption><h3>{escape(panel.title)}</h3>\n"
        f'<p class="muted">{escape(panel.note)}</p></figcaption>\n'
        f"{_inline(stream.getvalue(), name, panel.title)}</figure>\n"
    )


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
    # The reader's own letters: the same as of the text around, and sharp at every size.
    return _FAMILY.sub("", text)


def _own_ids(key: str, value: str, prefix: str) -> str:
    """An attribute's value with its id, or what it says of one, made the panel's own."""
    if key == "id":
        return f"{prefix}-{value}"
    if key.endswith("href"):
        return value.replace("#", f"#{prefix}-")
    return value.replace("url(#", f"url(#{prefix}-")


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{_name(colour)}: {value};" for colour, value in colours.items())


def _name(colour: str) -> str:
    """The CSS variable of a colour."""
    return _NAMES.get(colour, f"c-{colour[1:]}")
