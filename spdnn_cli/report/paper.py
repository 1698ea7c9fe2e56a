"""The paper's tables with this program's figures beside them, in the paper's own shape.

`paper` gives three: Table I, TeraEdges/s by devices; one GPU, from the paper's V100 and A100 on to
the machines at hand; Table II, the best over all numbers of devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spdnn_cli.report import cells, published
from spdnn_cli.report.peers import Own, own_rows
from spdnn_cli.report.published import OFFICIAL_SIZES, Size
from spdnn_cli.report.scaling import held_out_in_words
from spdnn_cli.report.series import PAPER_DEVICES, Row, Series, all_series, shares_cores
from spdnn_cli.report.tables import EMPTY, PROJECTED, Cell, Table, number
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Hardware, configuration_of, hardware
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

KEYS = ["neurons", "layers"]
SUITE = "spdnn bench paper"
"""Runs what the tables lack."""


def paper(results: Sequence[Result], devices: Sequence[int] = PAPER_DEVICES) -> list[Table]:
    """Table I, the line of single GPUs, and Table II, in this order.

    Args:
        results: what was measured; runs of the official problems with all images count.
        devices: numbers of devices to project to.
    """
    own = [row for row in own_rows(results) if row.configuration.device == "cuda"]
    rows = _machine_rows(own, all_series(results, devices, _is_of_method))
    return [_table_1(rows), _one_gpu(rows), _table_2(own)]


# ---- our runs of the paper's method


@dataclass
class MachineRow:
    """The paper's method on one machine.

    Attributes:
        name: of its GPUs.
        measured: by problem and devices, the fastest run.
        projected: likewise, beyond what was measured.
        series: those that were projected.
    """

    name: str
    measured: dict[Size, dict[int, Record]] = field(default_factory=dict)
    projected: dict[Size, dict[int, Row]] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)

    def cell(self, size: Size, devices: int) -> Cell:
        """The rate on that number of devices."""
        record = self.measured.get(size, {}).get(devices)
        row = self.projected.get(size, {}).get(devices)
        if record is None and row is not None:
            return Cell(row.teraedges_per_s, mark=PROJECTED)
        return cells.rate(record)

    def records(self) -> list[Record]:
        """All that were measured."""
        return [record for by_devices in self.measured.values() for record in by_devices.values()]

    def devices(self) -> set[int]:
        """The numbers of devices that have a figure."""
        measured = (devices for known in self.measured.values() for devices in known)
        return {*measured, *(devices for known in self.projected.values() for devices in known)}


def _machine_rows(own: Iterable[Own], series: Iterable[Series]) -> dict[str, MachineRow]:
    """By machine, in order."""
    method = published.paper().method
    found: dict[str, MachineRow] = {}
    for row in own:
        if row.configuration.engine == method:
            record = next(iter(row.records.values()))
            line = found.setdefault(row.machine, MachineRow(short_name(hardware(record))))
            for size, record in row.records.items():
                if size in OFFICIAL_SIZES and not shares_cores(record):
                    line.measured.setdefault(size, {})[record.launch.workers] = record
    for one in series:
        if one.machine in found and one.problem.is_comparable and not one.grows:
            _add_projections(found[one.machine], one)
    names = [line.name for line in found.values()]
    for machine, line in found.items():
        if names.count(line.name) > 1:
            line.name = machine
    return found


def _is_of_method(record: Record) -> bool:
    """Whether it is a run of the paper's method, with the engine's defaults."""
    return record.engine == published.paper().method and configuration_of(record).is_plain


def _add_projections(line: MachineRow, series: Series) -> None:
    """The projected rows of a series; of two partitions the faster one counts."""
    size = series.problem.neurons, series.problem.layers
    rows = line.projected.setdefault(size, {})
    for row in series.rows:
        before = rows.get(row.devices)
        if row.record is None and (before is None or row.seconds < before.seconds):
            rows[row.devices] = row
    if any(row.record is None for row in series.rows):
        line.series.append(series)


def short_name(machine: Hardware) -> str:
    """The GPUs without their maker, or the processor."""
    counted = [
        f"{machine.gpus.count(name)}x {name.removeprefix('NVIDIA ')}"
        for name in dict.fromkeys(machine.gpus)
    ]
    return ", ".join(counted) or f"{machine.cpu}, {machine.cores} cores"


# ---- the tables


def _table_1(rows: dict[str, MachineRow]) -> Table:
    known = published.paper()
    v100 = set(known.table_1.v100)
    counts = sorted(v100.union(*(line.devices() for line in rows.values())))
    a100 = [f"{count} A100" for count in known.table_1.a100]
    columns = [*KEYS, "on", str(counts[0]), *a100, *map(str, counts[1:])]
    title = (
        f"Table I: TeraEdges/s by devices, the paper's figures and this program's {known.method}"
    )
    table = Table(title, columns, kind="paper", keys=len(KEYS) + 1)
    for size in OFFICIAL_SIZES:
        rates, on_a100 = known.table_1.rates(size), known.table_1.a100_rates(size)
        first, *others = [_printed(rates.get(count)) for count in counts]
        table.add(*size, "V100 (paper)", first, *map(_printed, on_a100.values()), *others)
        for line in rows.values():
            first, *others = [line.cell(size, count) for count in counts]
            if size in line.measured:
                table.add(*size, line.name, first, *([EMPTY] * len(a100)), *others)
    table.notes = _notes_1(rows)
    return table


def _printed(rate: float | None) -> Cell:
    """A figure of the paper, with the digits that it has there."""
    return EMPTY if rate is None else Cell(rate, f"{rate:.2f}")


def _notes_1(rows: dict[str, MachineRow]) -> list[str]:
    known, records = published.paper(), _records(rows)
    lines = [f"Paper: {known.source}; from 3 V100s on six of them a node. {known.misprint}."]
    if not records:
        return [*lines, f"No run of {known.method} on an official problem is here. Run: {SUITE}"]
    lines.append(
        f"Ours: {known.method}, the paper's method, the newest runs, the faster partition. "
        f"{describe.EFFECTIVE}"
    )
    series = [one for line in rows.values() for one in line.series]
    if series:
        lines.append(
            f"{PROJECTED}: projected, not measured; `spdnn report scaling` says how. Error: "
            f"{'; '.join(dict.fromkeys(map(_error, series)))}."
        )
    without = [
        "{} x {}".format(*size)
        for size in OFFICIAL_SIZES
        if not any(line.projected.get(size) for line in rows.values())
    ]
    if without:
        lines.append(
            f"Not projected, for want of runs on more devices or of a trace: {', '.join(without)}. "
            f"Run: {SUITE}"
        )
    return [*lines, *_about(records)]


def _error(series: Series) -> str:
    """How far a projection is off, where that is known."""
    assert series.model is not None
    fit = f"{100 * series.model.largest_error:.1f} % in the fit to {len(series.model.ranks)} ranks"
    held_out = held_out_in_words(series) or "not known, for too few runs"
    return f"{series.problem.label}: up to {fit}, held-out {held_out}"


def _records(rows: dict[str, MachineRow]) -> list[Record]:
    return [record for line in rows.values() for record in line.records()]


def _about(records: Sequence[Record]) -> list[str]:
    """Which machine, and what is verified."""
    return [*describe.timing(records)[1:], *describe.verification(records)]


def _one_gpu(rows: dict[str, MachineRow]) -> Table:
    """From the paper's V100 and A100 on to the GPUs at hand, with ratios to the V100."""
    known = published.paper()
    lines = [line for line in rows.values() if any(1 in known for known in line.measured.values())]
    columns = [*KEYS, "V100 (paper)", "A100 (paper)", "A100 : V100"]
    for line in lines:
        columns += [line.name, f"{line.name} : V100"]
    table = Table(
        f"One GPU: TeraEdges/s of the paper's method ({known.method})",
        columns,
        kind="paper",
        keys=len(KEYS),
    )
    for size in OFFICIAL_SIZES:
        v100 = known.table_1.rates(size)[1]
        a100 = known.table_1.a100_rates(size)[1]
        row = [_printed(v100), _printed(a100), _ratio(a100, v100)]
        for line in lines:
            record = line.measured.get(size, {}).get(1)
            row += [cells.rate(record), EMPTY if record is None else _ratio(_rate(record), v100)]
        table.add(*size, *row)
    table.notes = [
        f"Paper: {known.source}. Its abstract says {number(known.a100_over_v100)} for A100 : V100."
    ]
    alone = [r for line in lines for r in line.records() if r.launch.workers == 1]
    if alone:
        table.notes += describe.verification(alone)
    return table


def _rate(record: Record) -> float:
    return record.effective_teraedges_per_s


def _ratio(rate: float, other: float) -> Cell:
    return Cell(rate / other, number(rate / other, 3))


def _table_2(own: Sequence[Own]) -> Table:
    """The best over all numbers of devices, of the paper, of others in it, and ours."""
    known = published.paper()
    method, any_engine = f"this program, {known.method}", "this program, fastest engine"
    programs = [*known.table_2.programs]
    table = Table(
        "Table II: best TeraEdges/s over all numbers of devices",
        [*KEYS, programs[0], method, any_engine, *programs[1:]],
        kind="paper",
        keys=len(KEYS),
    )
    shown: list[Record] = []
    for size in OFFICIAL_SIZES:
        paper_rate, *others = known.table_2.rates(size).values()
        of_method = _best((o for o in own if o.configuration.engine == known.method), size)
        best = _best(own, size)
        shown += [record for record in (of_method, best) if record is not None]
        table.add(*size, paper_rate, cells.rate(of_method), cells.rate(best), *others)
    table.notes = [f"Paper, and what it quotes of others: {known.source}. {known.table_2.awards}."]
    if shown:
        engines = dict.fromkeys(_where(record) for record in shown)
        table.notes += [f"This program: {'; '.join(engines)}.", *describe.verification(shown)]
    return table


def _best(own: Iterable[Own], size: Size) -> Record | None:
    """The fastest run on a problem."""
    records = [row.records[size] for row in own if size in row.records]
    return max(records, key=_rate, default=None)


def _where(record: Record) -> str:
    """Engine, devices and machine."""
    return f"{record.engine} on {record.launch.workers} of {short_name(hardware(record))}"
