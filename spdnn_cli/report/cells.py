"""Cells that several tables have: the problem of a row, a rate, seconds, a ratio."""

from __future__ import annotations

from collections.abc import Iterable

from spdnn_cli.engines.registry import ENGINES, EngineEntry
from spdnn_cli.report.tables import EMPTY, Cell, seconds_cell
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Configuration, Problem, configuration_of
from spdnn_cli.results.record import Record


def problem_cells(problems: Iterable[Problem]) -> dict[Problem, list[Cell]]:
    """The cells of `describe.PROBLEM_COLUMNS` of each problem, in order."""
    labels = describe.data_labels(problems)
    return {problem: [*map(Cell, problem[:3]), Cell(label)] for problem, label in labels.items()}


def mark(record: Record) -> str:
    """What is put behind a number of a run: nothing where it was verified."""
    return describe.MARKS[record.status][0] if record.status in describe.MARKS else ""


def rate(record: Record | None) -> Cell:
    """The effective rate of a run, TeraEdges/s."""
    return EMPTY if record is None else Cell(record.effective_teraedges_per_s, None, mark(record))


def time(record: Record | None) -> Cell:
    """The median seconds of a run."""
    return EMPTY if record is None else seconds_cell(record.seconds, mark(record))


def ratio(slower: Record | None, faster: Record | None) -> Cell:
    """How many times as fast the second is."""
    if slower is None or faster is None:
        return EMPTY
    value = slower.seconds / faster.seconds
    return Cell(value, f"{value:.3g}" if value < 1000 else f"{value:.0f}")


def engine_entry(name: str) -> EngineEntry:
    """What is known of an engine that ran; of one that this program does not have, nothing."""
    return ENGINES.get(name) or EngineEntry(name, "cpu", "")


def in_order(records: Iterable[Record]) -> list[Configuration]:
    """The configurations of some runs: engines in the order of the registry, then by threads."""
    order = list(ENGINES)

    def key(of: Configuration) -> tuple[int, str, int, int, str]:
        place = order.index(of.engine) if of.engine in order else len(order)
        return place, of.engine_label, of.workers, of.threads, of.label

    return sorted({configuration_of(record) for record in records}, key=key)


def asks_for_options(record: Record) -> bool:
    """Whether options of the engine's own were asked for: such runs are for the kernel table."""
    return bool(record.engine_options)
