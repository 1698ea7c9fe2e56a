"""A table as data, and as text: plain, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spdnn_cli.errors import one_line


@dataclass
class Table:
    """A table: a title, column names, rows of text, and notes below.

    A cell that is a number is nothing else: units are in the column's name. A cell "1.5 *" is a
    number that the notes say something about; an empty one is not known.

    Attributes:
        title: what it shows, and of which machine.
        columns: names, each one once.
        rows: as many cells each as there are columns.
        notes: what must be known to read it, a sentence each.
        kind: which table it is, say "throughput".
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    kind: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: one object a row; cells that are numbers as numbers, empty ones as null."""
        rows = [dict(zip(self.columns, map(_value, row), strict=True)) for row in self.rows]
        return {"table": self.kind, "title": self.title, "rows": rows, "notes": self.notes}


def plain(tables: Sequence[Table]) -> str:
    """Aligned columns, at full width, without lines between."""
    return "\n".join(_plain(table) + "\n" for table in tables)


def markdown(tables: Sequence[Table]) -> str:
    """A section each, with its notes as a list."""
    return "\n".join(_markdown(table) + "\n" for table in tables)


def comma_separated(tables: Sequence[Table]) -> str:
    """CSV: an empty line between two tables; lines that begin with # hold a title or a note."""
    return "\n".join(_comma_separated(table) for table in tables)


def as_json(tables: Sequence[Table]) -> str:
    """A list with one object a table, as `Table.as_dict` makes it."""
    return json.dumps([table.as_dict() for table in tables], indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "plain": plain,
    "markdown": markdown,
    "csv": comma_separated,
    "json": as_json,
}
"""Each way to write tables as text, by the name of the option."""


def grid(table: Table) -> str:
    """The rows of a table in Markdown, without title and notes."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _plain(table: Table) -> str:
    lines = [[one_line(cell) for cell in line] for line in (table.columns, *table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    numeric = [_is_numeric(cells) for cells in zip(*table.rows, strict=True)] or [False] * len(
        widths
    )
    aligned = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    ]
    notes = map(one_line, table.notes)
    return "\n".join([one_line(table.title), "", *aligned, "", *notes])


def _markdown(table: Table) -> str:
    notes = "\n".join(f"- {_escaped(note)}" for note in table.notes)
    return "\n\n".join([f"## {_escaped(table.title)}", grid(table), *([notes] if notes else [])])


def _comma_separated(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"# {one_line(table.title)}\n")
    writer.writerows([table.columns, *table.rows])
    text.writelines(f"# {one_line(note)}\n" for note in table.notes)
    return text.getvalue()


def _escaped(text: str) -> str:
    return one_line(text).replace("|", "\\|").replace("*", "\\*")


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column is one of numbers, marked ones and empty cells among them."""
    return all(isinstance(_value(_unmarked(cell)), float | int | None) for cell in cells)


def _unmarked(cell: str) -> str:
    """Without what the notes explain: not verified, wrong, projected."""
    return cell.removesuffix(" *").removesuffix(" !").removeprefix("~")


def _value(cell: str) -> str | int | float | None:
    """The number that a cell is, None for an empty one, else its text."""
    if not cell:
        return None
    for number in (int, float):
        try:
            return number(cell)
        except ValueError:
            continue
    return cell
