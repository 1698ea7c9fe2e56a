"""The scaling tables: measured on the devices at hand, projected beyond them."""

from __future__ import annotations

from collections.abc import Sequence

from spdnn_cli.report import cells
from spdnn_cli.report.series import PAPER_DEVICES, Row, Series, all_series, shares_cores
from spdnn_cli.report.tables import EMPTY, PROJECTED, Cell, Table, seconds_cell
from spdnn_cli.results import describe
from spdnn_cli.results.describe import PROBLEM_COLUMNS
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

MODEL_NOTE = (
    "Projection: seconds of a rank = fixed + per layer x layers it runs + per image-layer x layers "
    "of all its images, which a traced run gives for any partition; the slowest rank counts. "
    "Fitted to the ranks that were measured, so its error there is that of the fit. What ranks of "
    "one host take from each other is in it only as far as it was measured. Networks between "
    "hosts, and a start that is not common, are not in it."
)


def scaling(results: Sequence[Result], devices: Sequence[int] = PAPER_DEVICES) -> list[Table]:
    """Strong and weak scaling, a machine each: rates by devices, then all that is known.

    Streamed runs are in tables of their own.

    Args:
        results: what was measured.
        devices: numbers of devices to project to.
    """
    groups: dict[tuple[str, bool, bool], list[Series]] = {}
    for one in all_series(results, devices):
        key = one.machine, one.configuration.streamed, one.grows
        groups.setdefault(key, []).append(one)
    tables = []
    for (machine, streamed, grows), series in groups.items():
        kind = "Weak scaling (as many images for each device)" if grows else "Strong scaling"
        where = f"on {machine}{', images streamed' if streamed else ''}"
        tables.append(_rates(f"{kind}: TeraEdges/s (effective) by devices, {where}", series))
        tables += _details(f"{kind} in detail: {{}}, {where}", series)
    return tables


def _rates(title: str, series: Sequence[Series]) -> Table:
    """A column for each number of devices."""
    counts = sorted({row.devices for one in series for row in one.own_rows})
    columns = [*PROBLEM_COLUMNS, "engine", "partition", *map(str, counts)]
    table = Table(title, columns, kind="scaling", keys=len(PROBLEM_COLUMNS) + 2)
    about = cells.problem_cells(one.problem for one in series)
    for one in series:
        rates = [rate_cell(one.best(count)) for count in counts]
        table.add(*about[one.problem], one.engine, one.partition, *rates)
    projected = any(row.record is None for one in series for row in one.rows)
    table.notes = [f"{PROJECTED}: projected, not measured."] if projected else []
    table.notes += notes(series)
    return table


def rate_cell(row: Row | None) -> Cell:
    """The rate of a row, marked where it is projected."""
    if row is None:
        return EMPTY
    marked = PROJECTED if row.record is None else cells.mark(row.record)
    return Cell(row.teraedges_per_s, None, marked)


def _details(title: str, series: Sequence[Series]) -> list[Table]:
    """What was measured; then, for programs, what is projected."""
    measured, projected = (
        _detail(title.format(what), series, is_projected)
        for what, is_projected in (("measured", False), ("projected", True))
    )
    projected.is_long = True
    return [table for table in (measured, projected) if table.rows]


def _detail(title: str, series: Sequence[Series], is_projected: bool) -> Table:
    columns = [
        *(*PROBLEM_COLUMNS, "engine", "partition", "devices", "launcher", "what", "seconds"),
        *("TeraEdges/s", "speed-up", "efficiency %", "imbalance", "projection", "error %"),
    ]
    table = Table(title, columns, kind="scaling", keys=len(PROBLEM_COLUMNS) + 3)
    about = cells.problem_cells(one.problem for one in series)
    for one in series:
        for row in one.rows:
            if (row.record is None) != is_projected:
                continue
            table.add(*about[one.problem], *_detail_cells(one, row))
    table.notes = [
        "seconds: of the slowest device, from a common start; gathering the categories is not in "
        "it. speed-up: the rate over that of one device, where one was measured. efficiency: "
        "speed-up / devices. imbalance: slowest device / mean of all. cores shared: a host had "
        "more threads than cores; such runs are in no fit, no picture and not among the rates.",
        *notes(series),
    ]
    return table


def _detail_cells(series: Series, row: Row) -> list[Cell]:
    marked = PROJECTED if row.record is None else cells.mark(row.record)
    speed_up = series.speed_up(row)
    efficiency = None if speed_up is None else 100 * speed_up / row.devices
    error = None if row.error is None else 100 * row.error
    return [
        *map(Cell, (series.engine, series.partition, row.devices, row.launcher, _what(row))),
        seconds_cell(row.seconds, marked),
        rate_cell(row),
        EMPTY if speed_up is None else Cell(speed_up),
        EMPTY if efficiency is None else Cell(efficiency, f"{efficiency:.3g}"),
        Cell(row.imbalance),
        seconds_cell(row.projection),
        EMPTY if error is None else Cell(error, percent(error)),
    ]


def _what(row: Row) -> str:
    if row.record is None:
        return "projected"
    return "measured, cores shared" if shares_cores(row.record) else "measured"


def notes(series: Sequence[Series]) -> list[str]:
    """What must be known to read tables of these series."""
    return [*_model_notes(series), describe.EFFECTIVE, *describe.notes(_records(series))]


def _records(series: Sequence[Series]) -> list[Record]:
    records = [row.record for one in series for row in one.rows if row.record is not None]
    return list({record.id: record for record in records}.values())


def _model_notes(series: Sequence[Series]) -> list[str]:
    """Of each fit: its numbers, the ranks, the error; of a series without one, what is missing."""
    lines = [MODEL_NOTE] if any(one.missing is None for one in series) else []
    for one in series:
        name = f"{one.engine}, {one.problem.label}, {one.problem.images} images"
        if one.missing is not None:
            lines.append(f"{name}: {one.missing}.")
        elif one.model is not None:
            lines.append(f"{name}: {one.model.in_words}.")
            errors = held_out_in_words(one)
            if errors:
                lines.append(f"{name}, {one.partition}: held-out error: {errors}.")
    return list(dict.fromkeys(lines))


def held_out_in_words(series: Series) -> str:
    """The errors of projections from fewer devices alone; "" where none could be checked."""
    errors = series.held_out_errors.items()
    return ", ".join(f"{count} devices {percent(100 * error)} %" for count, error in errors)


def percent(value: float) -> str:
    """With its sign, which a zero has too: always the same one."""
    return f"{round(value, 1) + 0.0:+.1f}"
