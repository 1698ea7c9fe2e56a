"""One engine on machine after machine, with ratios; for the paper's method published ones, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spdnn_cli.report import cells, published
from spdnn_cli.report.paper import short_name
from spdnn_cli.report.published import OFFICIAL_SIZES, Kind, Size
from spdnn_cli.report.tables import EMPTY, Cell, Table, number
from spdnn_cli.results import describe
from spdnn_cli.results.describe import PROBLEM_COLUMNS, Configuration, Problem, hardware
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

PAPERS_PROGRAMS = ("pnnl-seed", "seed-h100")
"""Keys in published.yaml: the paper's own program, as others ran it."""


def machines(results: Sequence[Result], engine: str | None = None) -> list[Table]:
    """TeraEdges/s on one device, a table for each engine that ran on two machines at least.

    Args:
        results: runs of one device, in memory, with the engine's defaults, count.
        engine: the only one to show; None: all.
    """
    found: dict[str, dict[str, dict[Problem, Record]]] = {}
    configurations: dict[str, Configuration] = {}
    for machine, records in _by_short_name(results).items():
        alone = (r for r in records if r.launch.workers == 1)
        for (problem, configuration), record in describe.newest(alone).items():
            if configuration.is_plain and engine in (None, configuration.engine):
                columns = found.setdefault(configuration.engine_label, {})
                _keep_faster(columns.setdefault(machine, {}), problem, record)
                configurations[configuration.engine_label] = configuration
    tables = [_table(configurations[label], columns) for label, columns in found.items()]
    return [table for table in tables if table is not None]


def _by_short_name(results: Sequence[Result]) -> dict[str, list[Record]]:
    """The records of each machine by its hardware, or by its folder where others have the same."""
    found = describe.by_machine(results)
    short = {machine: short_name(hardware(records[0])) for machine, records in found.items()}
    names = list(short.values())
    return {
        short[machine] if names.count(short[machine]) == 1 else machine: records
        for machine, records in found.items()
    }


def _keep_faster(records: dict[Problem, Record], problem: Problem, record: Record) -> None:
    """Of a CPU's numbers of threads the fastest one counts."""
    if problem not in records or record.seconds < records[problem].seconds:
        records[problem] = record


@dataclass(frozen=True)
class _Published:
    """Figures of the paper's method that are not ours: by problem, TeraEdges/s."""

    name: str
    rates: Mapping[Size, float]
    source: str


def _published() -> list[_Published]:
    known = published.paper()
    v100 = {size: known.table_1.rates(size)[1] for size in OFFICIAL_SIZES}
    a100 = {size: known.table_1.a100_rates(size)[1] for size in OFFICIAL_SIZES}
    found = [
        _Published("V100 (published)", v100, known.source),
        _Published("A100 (published)", a100, known.source),
    ]
    for peer in published.peers():
        if peer.key in PAPERS_PROGRAMS:
            label = "published" if peer.kind is Kind.PUBLISHED else "the paper's program"
            rates = {size: peer.teraedges_per_s(size) for size in peer.seconds}
            name = f"{peer.machine.removeprefix('NVIDIA ')} ({label})"
            found.append(_Published(name, rates, f"{peer.source}: {peer.address}"))
    return found


def _table(
    configuration: Configuration, columns: Mapping[str, Mapping[Problem, Record]]
) -> Table | None:
    """Machines from the slowest on, each with its ratio to the first; None: one column alone."""
    is_papers = configuration.engine == published.paper().method and configuration.is_plain
    others = _published() if is_papers else []
    if len(columns) + len(others) < 2:
        return None
    problems = {problem for records in columns.values() for problem in records}
    names = [*(other.name for other in others), *columns]
    first = names[0]
    heads = [first, *(head for name in names[1:] for head in (name, f"{name}, ratio"))]
    table = Table(
        f"TeraEdges/s of {configuration.engine_label} on one device, by machine",
        [*PROBLEM_COLUMNS, *heads],
        kind="machines",
        keys=len(PROBLEM_COLUMNS),
    )
    for problem, about in cells.problem_cells(problems).items():
        size = problem.neurons, problem.layers
        rates = [
            Cell(other.rates[size], number(other.rates[size]))
            if problem.is_comparable and size in other.rates
            else EMPTY
            for other in others
        ]
        rates += [cells.rate(columns[machine].get(problem)) for machine in columns]
        row = [rates[0]]
        for rate in rates[1:]:
            row += [rate, _ratio(rate, rates[0])]
        table.add(*about, *row)
    records = [record for of in columns.values() for record in of.values()]
    table.notes = [f"ratio: to {first}.", *(f"{other.name}: {other.source}." for other in others)]
    table.notes += [describe.EFFECTIVE, *describe.notes(records)]
    return table


def _ratio(rate: Cell, first: Cell) -> Cell:
    if not isinstance(rate.value, float) or not isinstance(first.value, float):
        return EMPTY
    ratio = rate.value / first.value
    return Cell(ratio, number(ratio, 3))
