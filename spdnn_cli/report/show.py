"""Tables on stdout: with lines on a terminal, aligned elsewhere, or as a format for programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Literal

from spdnn_cli.report.tables import (
    FORMATS,
    Table,
    blocks,
    column_widths,
    for_readers,
    is_numeric,
    lifted,
)

WIDTH = 100
"""Columns off a terminal, where COLUMNS does not say."""
LINES = "table"
"""The format that is drawn with lines; the others are `tables.FORMATS`."""
LINE, EDGE = 3, 4
"""Columns that a line between two cells takes, and the two lines at the edges, blanks included."""
FOR_READERS = (LINES, "plain")
"""Formats that are read, and so kept short; the others are complete."""


def resolved(form: str | None) -> str:
    """The format asked for; of None, that for where stdout goes."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return form or (LINES if on_terminal else "plain")


def width() -> int:
    """The columns of a line: COLUMNS, else the terminal's, else `WIDTH`."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def show(tables: Sequence[Table], form: str | None = None) -> None:
    """Print tables with their notes.

    Args:
        tables: what to print.
        form: `LINES`, or a name of `tables.FORMATS`; None: `LINES` on a terminal, else plain.
    """
    form = resolved(form)
    if form == LINES:
        _draw(tables)
    else:
        print(FORMATS[form](tables, width()), end="")


def lines(sentences: Sequence[str]) -> None:
    """Print sentences, each in a paragraph that is indented from its second line on."""
    for sentence in sentences:
        print(_filled(sentence, 2))


def commands(entries: Sequence[tuple[str, str]]) -> None:
    """Print commands, each with what it does."""
    wide = max(len(command) for command, _ in entries)
    for command, summary in entries:
        print(_filled(f"  {command:<{wide}}  {summary}", wide + 4))


def _filled(text: str, indent: int) -> str:
    return textwrap.fill(text, width(), subsequent_indent=" " * indent, break_on_hyphens=False)


def _draw(tables: Sequence[Table]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(width=width(), highlight=False, markup=False, emoji=False)
    for table in tables:
        if table.is_long:
            continue
        narrow, same = lifted(for_readers(table))
        console.print(table.title, style="bold")
        if same:
            console.print(same)
        for block in blocks(narrow, console.width, LINE, EDGE):
            grid = RichTable()
            widths = column_widths(block, console.width - EDGE, LINE)
            for k, (name, wide) in enumerate(zip(block.columns, widths, strict=True)):
                justify: Literal["right", "left"] = "right" if is_numeric(block, k) else "left"
                grid.add_column(name, width=wide, justify=justify, overflow="fold")
            for row in block.rows:
                grid.add_row(*map(str, row))
            console.print(grid)
        lines(table.notes)
        print()
