"""The tables of this program's engines: throughput on one device, kernels step by step, CPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.report import cells
from spdnn_cli.report.tables import EMPTY, Table
from spdnn_cli.results import describe
from spdnn_cli.results.describe import PROBLEM_COLUMNS, Configuration, configuration_of
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

BASELINES = [name for name, entry in ENGINES.items() if entry.yardstick]
"""What others are compared with: the first of these that a machine has results of."""


# ---- throughput


def throughput(results: Sequence[Result]) -> list[Table]:
    """TeraEdges/s on one device, one table per machine: one row per problem, one column per engine.

    The challenge's rate, of the newest run of each configuration, and the ratio to the baseline.
    Streamed runs and those in limited memory have tables of their own. Runs on several devices
    (`scaling`) and with options of an engine's own (`kernels`) are left to those tables.
    """
    tables = []
    for machine, records in describe.by_machine(results).items():
        alone = [r for r in records if r.launch.workers == 1 and not r.engine_options]
        for what, chosen in _kinds(alone).items():
            if chosen:
                tables.append(_throughput(f"TeraEdges/s (effective){what} on {machine}", chosen))
    return tables


def _kinds(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs in memory, streamed ones, and those in limited memory."""
    kinds: dict[str, list[Record]] = {"": [], ", images streamed": [], ", limited memory": []}
    for record in records:
        if record.stream is not None:
            kinds[", images streamed"].append(record)
        elif record.device_memory is not None:
            kinds[", limited memory"].append(record)
        else:
            kinds[""].append(record)
    return kinds


def _throughput(title: str, records: Sequence[Record]) -> Table:
    newest = describe.newest(records)
    shown = list(newest.values())
    configurations = cells.in_order(shown)
    baseline = _baseline(configurations)
    columns = list(PROBLEM_COLUMNS)
    for configuration in configurations:
        columns.append(configuration.label)
        if baseline is not None and configuration != baseline:
            columns.append(f"{configuration.label} : {baseline.label}")
    table = Table(title, columns, kind="throughput", keys=len(PROBLEM_COLUMNS))
    for problem, about in cells.problem_cells(problem for problem, _ in newest).items():
        row = list(about)
        for configuration in configurations:
            record = newest.get((problem, configuration))
            row.append(cells.rate(record))
            if baseline is not None and configuration != baseline:
                row.append(cells.ratio(newest.get((problem, baseline)), record))
        table.add(*row)
    table.notes = [describe.EFFECTIVE, *describe.notes(shown)]
    return table


def _baseline(configurations: Sequence[Configuration]) -> Configuration | None:
    """What others are compared with; None: there is no baseline. On a CPU, with most threads."""
    for engine in BASELINES:
        plain = [c for c in configurations if c.engine == engine and c.is_plain]
        if plain:
            return plain[-1]
    return None


# ---- kernels

STEP_WORDS = {"baseline": "CSR, one thread an output and image", "cusparse": "the library's SpMM"}


def kernels(results: Sequence[Result]) -> list[Table]:
    """From the baseline to the optimised kernel, one table per machine: one row per step.

    The steps of `tiled` are its runs with `--tile`, in the order in which they add to each other.
    """
    tables = []
    for machine, records in describe.by_machine(results).items():
        steps = [r for r in records if r.engine in (*STEP_WORDS, "tiled") and _is_step(r)]
        table = _kernels(machine, steps)
        if table.rows:
            tables.append(table)
    return tables


def _is_step(record: Record) -> bool:
    """Whether it ran on one device, with everything in its memory."""
    return record.launch.workers == 1 and record.stream is None and record.device_memory is None


def _kernels(machine: str, records: Sequence[Record]) -> Table:
    columns = [*PROBLEM_COLUMNS, "step", "seconds", "TeraEdges/s", "gain", "over the first"]
    table = Table(
        f"Kernels, from the baseline to the optimised one, on {machine}",
        columns,
        kind="kernels",
        keys=len(PROBLEM_COLUMNS) + 1,
    )
    newest = describe.newest(records)
    shown: list[Record] = []
    for problem, about in cells.problem_cells(problem for problem, _ in newest).items():
        steps = sorted((r for (p, _), r in newest.items() if p == problem), key=_step_order)
        if len(steps) < 2:  # one step is no story
            continue
        before: Record | None = None
        for record in steps:
            gains = [cells.ratio(before, record), cells.ratio(before and steps[0], record)]
            table.add(*about, _step(record, before), cells.time(record), cells.rate(record), *gains)
            before = record
        shown += steps
    if shown:
        table.notes = [
            "gain: times as fast as the row above; over the first: as the problem's first row.",
            describe.EFFECTIVE,
            *describe.notes(shown),
        ]
    return table


def _step_order(record: Record) -> tuple[object, ...]:
    """Baseline, library, then tiled: fewer images, narrow loads, few outputs first."""
    if record.engine != "tiled":
        return (list(STEP_WORDS).index(record.engine),)
    if not record.engine_options:
        return (len(STEP_WORDS), 1)
    names = ("minibatch", "vector", "reorder", "outputs")
    shape = (record.engine_settings.get(name, 0) for name in names)
    return (len(STEP_WORDS), 0, *shape, record.created)


def _step(record: Record, before: Record | None) -> str:
    """A step in words: the shape of a tiled run, or what of it is new after the step before."""
    if record.engine != "tiled":
        return f"{record.engine}: {STEP_WORDS[record.engine]}"
    shape = record.engine_settings
    words = {name: word(shape[name]) for name, word in TILE_WORDS.items() if name in shape}
    previous = {} if before is None else before.engine_settings
    if not record.engine_options:
        return ": ".join(["tiled", "tuned shape", *([", ".join(words.values())] if words else [])])
    if not previous:
        return f"tiled: staged in shared memory: {', '.join(words.values())}"
    new = [words[name] for name in words if shape[name] != previous.get(name)]
    return f"tiled: {', '.join(new) or 'the same shape'}"


def _counted(one: str, many: str) -> Callable[[int], str]:
    return lambda count: f"{count} {one if count == 1 else many}"


TILE_WORDS: dict[str, Callable[..., str]] = {
    "minibatch": _counted("image a thread", "images a thread"),
    "outputs": _counted("output a thread", "outputs a thread"),
    "blocksize": _counted("thread a block", "threads a block"),
    "panel": _counted("image a panel", "images a panel"),
    "vector": _counted("image a load", "images a load"),
    "buffer_bytes": lambda size: f"a buffer of {size / 1024:g} KiB",
    "reorder": lambda on: "outputs reordered" if on else "outputs as they come",
}
"""The settings of `tiled` (`engines.cuda.tile.TileShape`), in words."""


# ---- CPUs


def cpu(results: Sequence[Result]) -> list[Table]:
    """The engines on CPUs, one table per machine, by threads and workers."""
    on_cpu = [result for result in results if result.record.device == "cpu"]
    return [_cpu(machine, records) for machine, records in describe.by_machine(on_cpu).items()]


def _cpu(machine: str, records: Sequence[Record]) -> Table:
    columns = [
        *(*PROBLEM_COLUMNS, "run", "engine", "workers", "threads a worker", "partition"),
        *("launcher", "seconds", "TeraEdges/s", "speed-up"),
    ]
    table = Table(
        f"Engines on the CPU of {machine}",
        columns,
        kind="cpu",
        keys=len(PROBLEM_COLUMNS) + 1,
        hidden=("engine", "workers", "threads a worker", "partition", "launcher"),
    )
    newest = describe.newest(records)
    for problem, about in cells.problem_cells(problem for problem, _ in newest).items():
        of_problem = [record for (p, _), record in newest.items() if p == problem]
        first: dict[str, Record] = {}
        for record in sorted(of_problem, key=_by_cores):
            made = configuration_of(record)
            fewest = first.setdefault(made.engine_label, record)
            table.add(
                *about,
                made.label,
                made.engine_label,
                made.workers,
                made.threads,
                made.partition or None,
                made.launcher or None,
                cells.time(record),
                cells.rate(record),
                EMPTY if record is fewest else cells.ratio(fewest, record),
            )
    table.notes = [
        "speed-up: over the same engine's first row, the one of the fewest workers x threads.",
        describe.EFFECTIVE,
        *describe.notes(list(newest.values())),
    ]
    return table


def _by_cores(record: Record) -> tuple[object, ...]:
    made = configuration_of(record)
    return made.engine_label, made.workers * made.threads, made.workers, record.created
