"""A table as data, and as text that fits a width: plain, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import itertools
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Value = str | int | float | None

PROJECTED = "~"
"""The mark of a number that was projected, not measured."""
GAP = "  "
"""What is between two columns of plain text."""


@dataclass(frozen=True)
class Cell:
    """One cell: a value for programs, and how it is shown.

    Attributes:
        value: a number in the unit of its column, a text, or None where nothing is known.
        text: how it is shown, without the mark; None: as `number` or `str` write the value.
        mark: what the notes explain: behind the text, but for `PROJECTED`, which is before it.
    """

    value: Value
    text: str | None = None
    mark: str = ""

    def __str__(self) -> str:
        text = _shown(self.value) if self.text is None else self.text
        if not self.mark or not text:
            return text
        return f"{self.mark}{text}" if self.mark == PROJECTED else f"{text} {self.mark}"

    @property
    def is_numeric(self) -> bool:
        """Whether it is a number, or empty."""
        return self.value is None or isinstance(self.value, int | float)


EMPTY = Cell(None)


@dataclass
class Table:
    """A table: a title, column names, rows of cells, and notes below.

    Attributes:
        title: what it shows, and of which machine.
        columns: names, each one once; units are in them.
        rows: each has one cell for each column.
        notes: what must be known to read it, a sentence each.
        kind: which table it is, such as "throughput".
        keys: number of columns, from the first, that say what a row is about; they are repeated in
            every block of a table that is too wide for one.
        is_long: whether it is for programs: text for readers leaves it out.
        hidden: columns for programs, which repeat what other columns say in words.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kind: str = ""
    keys: int = 1
    is_long: bool = False
    hidden: tuple[str, ...] = ()

    def add(self, *cells: Cell | Value) -> None:
        """Add a row; what is no cell becomes one."""
        row = [cell if isinstance(cell, Cell) else Cell(cell) for cell in cells]
        if len(row) != len(self.columns):
            raise ValueError(f"{len(row)} cells for {len(self.columns)} columns")
        self.rows.append(row)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: one object a row, and the marks of its cells apart."""
        rows = [
            {name: cell.value for name, cell in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]
        marks = [
            {name: cell.mark for name, cell in zip(self.columns, row, strict=True) if cell.mark}
            for row in self.rows
        ]
        return {
            "table": self.kind,
            "title": self.title,
            "rows": rows,
            "marks": marks,
            "notes": self.notes,
        }


def number(value: float, digits: int = 4) -> str:
    """A number with `digits` significant digits; no exponent if it is easy to read without."""
    return f"{float(f'{value:.{digits}g}'):.15g}"


def duration(seconds: float, digits: int = 3) -> str:
    """Seconds in the unit that reads best: s, ms, us or ns."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if float(f"{seconds:.{digits}g}") >= size:
            return f"{number(seconds / size, digits)} {unit}"
    return f"{number(seconds, digits)} s"


def seconds_cell(seconds: float | None, mark: str = "") -> Cell:
    """A cell of a column of seconds, shown in the unit that reads best."""
    return EMPTY if seconds is None else Cell(seconds, duration(seconds), mark)


def _shown(value: Value) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


# ---- blocks that fit a width

KEY_SHARE = 0.5
"""Keys of text break their cells before they take more of a line than this."""
NARROWEST = 8
"""No column of text is made narrower than this."""


def for_readers(table: Table) -> Table:
    """The table without its hidden columns."""
    keys = [name for name in table.columns[: table.keys] if name not in table.hidden]
    shown = [k for k, name in enumerate(table.columns) if name not in table.hidden]
    return replace(_chosen(table, shown), keys=len(keys), hidden=())


def lifted(table: Table) -> tuple[Table, str]:
    """The table without the key columns that are the same in every row, and what they say.

    One key stays in any case.
    """
    same = [
        k
        for k in range(table.keys)
        if len(table.rows) > 1 and len({str(row[k]) for row in table.rows}) == 1
    ]
    same = same[: table.keys - 1]
    said = [f"{table.columns[k]} {table.rows[0][k]}" for k in same if str(table.rows[0][k])]
    left = [k for k in range(len(table.columns)) if k not in same]
    words = f"In every row: {', '.join(said)}." if said else ""
    return replace(_chosen(table, left), keys=table.keys - len(same)), words


def blocks(table: Table, width: int, cell_gap: int, edge: int = 0) -> list[Table]:
    """The table as blocks that fit `width`: key columns in each, other columns shared out.

    Columns that are empty in every row are left out, and of several blocks rows that are empty in
    it. A block has one column beside its keys at least.

    Args:
        table: the whole.
        width: characters of a line.
        cell_gap: characters between two columns.
        edge: characters of the borders at both sides together.
    """
    filled = [
        k
        for k in range(len(table.columns))
        if not table.rows or any(str(row[k]) for row in table.rows)
    ]
    widths = _widths(table)
    keys = [k for k in filled if k < table.keys]
    key_widths = column_widths(_chosen(table, keys), width * KEY_SHARE, cell_gap)
    room = width - edge - sum(key_widths) - cell_gap * len(keys)
    groups: list[list[int]] = []
    used = room + 1
    for k in (k for k in filled if k >= table.keys):
        if used + widths[k] > room:
            groups.append([])
            used = 0
        groups[-1].append(k)
        used += widths[k] + cell_gap
    if len(groups) < 2:
        return [_chosen(table, [*keys, *group]) for group in groups or [[]]]
    bare = [row for row in table.rows if not any(str(cell) for cell in row[table.keys :])]
    made = []
    for group in groups:
        rows = [row for row in table.rows if any(str(row[k]) for k in group) or row in bare]
        made.append(_chosen(replace(table, rows=rows), [*keys, *group]))
    return made


def is_numeric(table: Table, column: int) -> bool:
    """Whether a column has numbers alone, and so is set to the right."""
    return all(row[column].is_numeric for row in table.rows)


def _chosen(table: Table, columns: Sequence[int]) -> Table:
    return replace(
        table,
        columns=[table.columns[k] for k in columns],
        rows=[[row[k] for k in columns] for row in table.rows],
    )


def _widths(table: Table) -> list[int]:
    """The widest word or cell of each column: headings may break between words."""
    return [
        max([*(len(word) for word in name.split()), *(len(str(row[k])) for row in table.rows), 1])
        for k, name in enumerate(table.columns)
    ]


def column_widths(table: Table, width: float, cell_gap: int) -> list[int]:
    """Widths that fit a line: the widest columns of text give way, and break their cells."""
    fitted = _widths(table)
    text = [k for k in range(len(fitted)) if not is_numeric(table, k)]
    while text and sum(fitted) + cell_gap * (len(fitted) - 1) > width:
        widest = max(text, key=lambda k: fitted[k])
        if fitted[widest] <= NARROWEST:
            break
        fitted[widest] -= 1
    return fitted


# ---- text


def plain(tables: Sequence[Table], width: int = 100) -> str:
    """Aligned columns without lines between, in blocks that fit `width`."""
    return "\n".join(_plain(table, width) + "\n" for table in tables if not table.is_long)


def markdown(tables: Sequence[Table], width: int = 0) -> str:
    """A section each, with its notes as a list."""
    return "\n".join(_markdown(table) + "\n" for table in tables)


def comma_separated(tables: Sequence[Table], width: int = 0) -> str:
    """CSV: an empty line between two tables; lines that begin with # hold a title or a note.

    Cells are values. Marks are in a separate column, if a table has any.
    """
    return "\n".join(_comma_separated(table) for table in tables)


def as_json(tables: Sequence[Table], width: int = 0) -> str:
    """A list with one object a table, as `Table.as_dict` makes it."""
    return json.dumps([table.as_dict() for table in tables], indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Table], int], str]] = {
    "plain": plain,
    "markdown": markdown,
    "csv": comma_separated,
    "json": as_json,
}
"""Each way to write tables as text, by the name of the option."""


def grid(table: Table) -> str:
    """The rows of a table in Markdown, without title and notes."""
    rows = [[str(cell) for cell in row] for row in table.rows]
    lines = [table.columns, ["---"] * len(table.columns), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _plain(table: Table, width: int) -> str:
    parts = [*textwrap.wrap(table.title, width), ""]
    narrow, same = lifted(for_readers(table))
    if same:
        parts += [*textwrap.wrap(same, width), ""]
    for block in blocks(narrow, width, len(GAP)):
        parts += [*_aligned(block, width), ""]
    for note in table.notes:
        parts += textwrap.wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(parts)


def _aligned(table: Table, width: int) -> Iterator[str]:
    """Heading and rows of a block; cells of text break where the line is too short for them."""
    widths = column_widths(table, width, len(GAP))
    numeric = [is_numeric(table, k) for k in range(len(widths))]
    for cells in [table.columns, *([str(cell) for cell in row] for row in table.rows)]:
        lines = [textwrap.wrap(text, wide) for text, wide in zip(cells, widths, strict=True)]
        for line in itertools.zip_longest(*lines, fillvalue=""):
            padded = [
                text.rjust(wide) if right else text.ljust(wide)
                for text, wide, right in zip(line, widths, numeric, strict=True)
            ]
            yield GAP.join(padded).rstrip()


def _markdown(table: Table) -> str:
    notes = "\n".join(f"- {_escaped(note)}" for note in table.notes)
    return "\n\n".join([f"## {_escaped(table.title)}", grid(table), *([notes] if notes else [])])


def _comma_separated(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"# {table.title}\n")
    marked = [
        name for k, name in enumerate(table.columns) if any(row[k].mark for row in table.rows)
    ]
    writer.writerow([*table.columns, *(f"{name} (mark)" for name in marked)])
    for row in table.rows:
        marks = [row[table.columns.index(name)].mark for name in marked]
        writer.writerow(["" if cell.value is None else cell.value for cell in row] + marks)
    text.writelines(f"# {note}\n" for note in table.notes)
    return text.getvalue()


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("#", "\\#")
