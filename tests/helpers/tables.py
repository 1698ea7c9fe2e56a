"""Tables as tests compare them."""

from __future__ import annotations

from collections.abc import Sequence

from spdnn_cli.report.tables import Table


def texts(table: Table) -> list[list[str]]:
    """Every row as it is shown."""
    return [[str(cell) for cell in row] for row in table.rows]


def columns(table: Table, *names: str) -> list[tuple[str, ...]]:
    """Some columns of each row."""
    at = [table.columns.index(name) for name in names]
    return [tuple(row[k] for k in at) for row in texts(table)]


def only(tables: Sequence[Table]) -> Table:
    (table,) = tables
    return table
