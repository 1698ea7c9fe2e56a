"""The tables of `spdnn report`, from result files and nothing else.

Here are those of this machine's engines; `peers` and `scaling` have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spdnn_cli.report.tables import Table
from spdnn_cli.results import describe as runs
from spdnn_cli.results.describe import PROBLEM_COLUMNS, Record, number, seconds
from spdnn_cli.results.store import Result

__all__ = ["HINTS", "TABLES", "Table", "all_tables", "cpu", "kernels", "throughput"]

BASELINES = ("baseline", "reference", "cpu-layered")
"""What others are compared with: the first of these that a machine has results of."""


def all_tables(results: Sequence[Result]) -> list[Table]:
    """Every table that the results can fill."""
    return [table for make in TABLES.values() for table in make(results)]


def throughput(results: Sequence[Result]) -> list[Table]:
    """The paper's single-device table, one a machine: a row a problem, a column an engine.

    TeraEdges/s as the challenge counts them, of the newest run of each configuration, and the ratio
    to the baseline. Runs on several devices (`scaling`) and of tile shapes that were asked for
    (`kernels`) are left to those tables.
    """
    alone = [r for r in results if runs.workers(r.record) == 1 and not runs.asks_for_tile(r.record)]
    return [
        _throughput(machine, [result.record for result in some])
        for machine, some in runs.by_machine(alone).items()
    ]


def _throughput(machine: str, records: Sequence[Record]) -> Table:
    newest = runs.newest(records)
    shown = list(newest.values())
    names = runs.in_order(shown)
    baseline = _baseline(shown)
    columns = list(PROBLEM_COLUMNS)
    for name in names:
        compared = baseline is not None and name != baseline
        columns += [name, f"{name} : {baseline}"] if compared else [name]
    table = Table(f"TeraEdges/s (effective) on {machine}", columns, [], kind="throughput")
    for problem, cells in runs.problem_cells(problem for problem, _ in newest).items():
        found = {name: newest.get((problem, name)) for name in names}
        row = list(cells)
        for name in names:
            row.append(_rate(found[name]))
            if baseline is not None and name != baseline:
                row.append(_ratio(found[baseline], found[name]))
        table.rows.append(row)
    table.notes = [runs.EFFECTIVE, *runs.notes(shown)]
    return table


def _baseline(records: Sequence[Record]) -> str | None:
    """The configuration that others are compared with; None: there is no baseline.

    It has no options: it is not streamed, say. On a CPU it has the most threads.
    """
    for engine in BASELINES:
        names = runs.in_order(r for r in records if runs.engine_and_options(r) == engine)
        if names:
            return names[-1]
    return None


def _rate(record: Record | None) -> str:
    if record is None:
        return ""
    return number(record["effective_teraedges_per_s"]) + runs.mark(record)


def _ratio(slower: Record | None, faster: Record | None) -> str:
    """How many times as fast the second is."""
    if slower is None or faster is None:
        return ""
    return number(seconds(slower) / seconds(faster), 3)


# ---- the kernel table


STEP_WORDS = {"baseline": "CSR, one thread an output and image", "cusparse": "the library's SpMM"}


def kernels(results: Sequence[Result]) -> list[Table]:
    """From the baseline to the optimised kernel, one table a machine: a row a step of a problem.

    The steps of `tiled` are its runs with `--tile`, in the order in which they add to each other.
    """
    wanted = [
        r
        for r in results
        if r.record["engine"] in (*STEP_WORDS, "tiled")
        and runs.workers(r.record) == 1
        and r.record["stream"] is None
        and r.record.get("device_memory") is None
    ]
    tables = [
        _kernels(machine, [r.record for r in some])
        for machine, some in runs.by_machine(wanted).items()
    ]
    return [table for table in tables if table.rows]


def _kernels(machine: str, records: Sequence[Record]) -> Table:
    columns = [*PROBLEM_COLUMNS, "step", "seconds", "TeraEdges/s", "gain", "over the first"]
    table = Table(
        f"Kernels, from the baseline to the optimised one, on {machine}", columns, [], [], "kernels"
    )
    newest = runs.newest(records)
    shown: list[Record] = []
    for problem, cells in runs.problem_cells(problem for problem, _ in newest).items():
        steps = sorted((r for (p, _), r in newest.items() if p == problem), key=_step_order)
        if len(steps) < 2:  # one step is no story
            continue
        before: Record | None = None
        for record in steps:
            time = number(seconds(record)) + runs.mark(record)
            gains = [_ratio(before, record), _ratio(steps[0] if before else None, record)]
            table.rows.append([*cells, _step(record, before), time, _rate(record), *gains])
            before = record
        shown += steps
    if shown:
        table.notes = [
            "gain: times as fast as the row above; over the first: as the problem's first row.",
            runs.EFFECTIVE,
            *runs.notes(shown),
        ]
    return table


def _step_order(record: Record) -> tuple[object, ...]:
    """Baseline, library, then tiled: fewer images, narrow loads, as stored, few outputs first."""
    engine = record["engine"]
    if engine != "tiled":
        return (list(STEP_WORDS).index(engine),)
    tile, is_half = record["tile"], runs.stores_float16(record)
    if not runs.asks_for_tile(record):
        return (len(STEP_WORDS), is_half, 1)
    names = ("minibatch", "vector", "reorder", "outputs")
    return (len(STEP_WORDS), is_half, 0, *(tile[name] for name in names), record["created"])


def _step(record: Record, before: Record | None) -> str:
    """A step in words: the shape of a tiled run, or what of it is new after the step before."""
    tile, engine = record["tile"], record["engine"]
    if engine != "tiled":
        return f"{engine}: {STEP_WORDS[engine]}"
    if tile is None:
        return "tiled: tuned shape"
    previous = before["tile"] if before is not None else None
    words = {name: word(tile[name]) for name, word in TILE_WORDS.items()}
    engine += ", values stored as float16" if runs.stores_float16(record) else ""
    if not runs.asks_for_tile(record):
        return f"{engine}: tuned shape: {', '.join(words.values())}"
    if previous is None:
        return f"{engine}: staged in shared memory: {', '.join(words.values())}"
    new = [words[name] for name in words if tile[name] != previous[name]]
    return f"{engine}: {', '.join(new) or 'the same shape'}"


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
"""The entries of a tile shape (`tile.TileShape`), in words."""


# ---- the CPU table


def cpu(results: Sequence[Result]) -> list[Table]:
    """The engines on CPUs, one table a machine, by threads and workers."""
    on_cpu = [result for result in results if result.record["device"] == "cpu"]
    return [
        _cpu(machine, [result.record for result in some])
        for machine, some in runs.by_machine(on_cpu).items()
    ]


def _cpu(machine: str, records: Sequence[Record]) -> Table:
    columns = [
        *(*PROBLEM_COLUMNS, "engine", "workers", "threads a worker", "partition", "launcher"),
        *("seconds", "TeraEdges/s", "speed-up"),
    ]
    table = Table(f"Engines on the CPU of {machine}", columns, [], kind="cpu")
    newest = runs.newest(records)
    for problem, cells in runs.problem_cells(problem for problem, _ in newest).items():
        of_problem = [record for (p, _), record in newest.items() if p == problem]
        ordered = sorted(of_problem, key=_by_cores)
        first: dict[str, Record] = {}
        for record in ordered:
            name = runs.engine_and_options(record)
            fewest = first.setdefault(name, record)
            count, launch = runs.workers(record), record["launch"]
            spread = [launch["partition"], launch["launcher"]] if count > 1 else ["", ""]
            table.rows.append(
                [
                    *(*cells, name, str(count), str(runs.threads(record)), *spread),
                    number(seconds(record)) + runs.mark(record),
                    _rate(record),
                    _ratio(fewest, record),
                ]
            )
    table.notes = [
        "speed-up: over the same engine's first row, the one of the fewest workers x threads.",
        runs.EFFECTIVE,
        *runs.notes(list(newest.values())),
    ]
    return table


def _by_cores(record: Record) -> tuple[object, ...]:
    count, each = runs.workers(record), runs.threads(record) or 0
    return (runs.engine_and_options(record), count * each, count, record["created"])


def _peers(results: Sequence[Result]) -> list[Table]:
    from spdnn_cli.report import peers

    return peers.peers(results)


def _scaling(results: Sequence[Result]) -> list[Table]:
    from spdnn_cli.report import scaling

    return scaling.scaling(results)


TABLES: dict[str, Callable[[Sequence[Result]], list[Table]]] = {
    "throughput": throughput,
    "kernels": kernels,
    "scaling": _scaling,
    "peers": _peers,
    "cpu": cpu,
}
"""Each table of `spdnn report`, by the name of its subcommand."""

HINTS = {
    "throughput": "Run spdnn infer on one device.",
    "kernels": "On a GPU, run spdnn infer with --engine baseline and with --engine tiled.",
    "scaling": "Run spdnn infer with --gpus, or with --device cpu --workers.",
    "peers": "Fetch an official problem, and run spdnn infer on all its images.",
    "cpu": "Run spdnn infer --device cpu.",
}
"""What fills a table that is empty."""
