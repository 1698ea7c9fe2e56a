"""The output on a terminal: tables on stdout, notes and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table as RichTable

from spdnn_cli.errors import one_line
from spdnn_cli.report.tables import duration
from spdnn_cli.results.describe import (
    configuration_of,
    hardware,
    is_noisy,
    noise_in_words,
    shortcuts_in_words,
)
from spdnn_cli.results.record import Status

if TYPE_CHECKING:
    from spdnn_cli.bench.suite import Suite, SuiteRun
    from spdnn_cli.bench.suite_run import Bench, Settled
    from spdnn_cli.challenge.convert import ConversionProgress
    from spdnn_cli.challenge.fetch import FetchedFile, FetchPlan, TransferProgress
    from spdnn_cli.engines.protocol import LayerProgress
    from spdnn_cli.network.dataset import Dataset
    from spdnn_cli.results.record import Record
    from spdnn_cli.results.store import Result

FULL_WIDTH = 400
"""Columns where the output is not a terminal, so that nothing is cut."""


def _out() -> Console:
    width = None if _on_terminal(sys.stdout) else FULL_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _err() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def note(sentence: str) -> None:
    """One sentence on stderr."""
    _err().print(one_line(sentence))


@contextlib.contextmanager
def conversion() -> Iterator[ConversionProgress]:
    """Progress of a conversion: a bar for each thing that is being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err(), transient=True, disable=_quiet()) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=share)

        yield report


@contextlib.contextmanager
def layers() -> Iterator[LayerProgress]:
    """Progress of a run: the layers done and the images alive."""
    columns = (TextColumn("layer {task.completed:.0f}, images alive {task.fields[alive]}"),)
    with Progress(*columns, console=_err(), transient=True, disable=_quiet()) as bars:
        tasks: list[TaskID] = []

        def progress(layer: int, alive: int) -> None:
            if not tasks:
                tasks.append(bars.add_task("", total=None, alive=alive))
            bars.update(tasks[0], completed=layer, alive=alive)

        yield progress


@contextlib.contextmanager
def transfer() -> Iterator[TransferProgress]:
    """Progress of downloads: one bar per file."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err(), disable=_quiet()) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
            if file_name not in tasks:
                tasks[file_name] = bars.add_task(file_name, total=total_bytes)
            bars.update(tasks[file_name], completed=done_bytes, total=total_bytes)

        yield progress


def fetch_plan(plan: FetchPlan) -> None:
    """What is to be fetched, and how large it is, before the first byte."""
    from spdnn_cli.challenge.download import readable_size

    for file in plan.files:
        note(f"{file.name}: {readable_size(file.size)}, {file.state}")
    unknown = f" and {plan.unknown_sizes} files of unknown size" if plan.unknown_sizes else ""
    note(f"To fetch: {readable_size(plan.total_bytes)}{unknown} into {plan.folder}")


def fetched(files: Sequence[FetchedFile]) -> None:
    """The files that are there now."""
    from spdnn_cli.challenge.download import readable_size

    for file in files:
        state = "fetched" if file.fetched else "was there"
        print(one_line(f"{file.path}  {readable_size(file.bytes)}  {state}"))


def dataset(made: Dataset) -> None:
    """A dataset after its conversion."""
    from spdnn_cli.challenge.official import official_depth

    table = _pairs("Dataset")
    table.add_row("file", _as_written(str(made.path)))
    table.add_row("neurons, layers, images", f"{made.neurons}, {made.layers}, {made.images}")
    table.add_row("source", str(made.provenance.get("source", "unknown")))
    table.add_row("layers equal to the challenge's", f"{official_depth(made)} of {made.layers}")
    table.add_row("size", f"{made.path.stat().st_size / 1e6:.1f} MB")
    _out().print(table)


def record(made: Record) -> None:
    """A run: what ran on what, how long each stage took, and what the number means."""
    table = _pairs("Inference")
    for name, value in _configuration(made) + _timings(made) + _outcome(made):
        table.add_row(name, value)
    _out().print(table)
    if len(made.workers) > 1:
        _out().print(_workers(made))


def _workers(record: Record) -> RichTable:
    launch = record.launch
    table = RichTable(
        title=f"Workers: {launch.launcher}, {launch.partition} partition; slowest to mean "
        f"{record.imbalance:.3f}",
        title_justify="left",
    )
    layer = launch.rebalance_layer
    moved = [] if layer is None else [f"alive after layer {layer}"]
    columns = ["rank", "host", "device", "images", *moved]
    for column in (*columns, "survivors", "infer", "SM MHz", "UUID"):
        table.add_column(column, justify="right")
    for worker in record.workers:
        after = None if worker.clocks is None else worker.clocks.after
        place = "" if worker.device_index is None else f" ({worker.device_index})"
        cells = [str(worker.rank), worker.host or "", worker.device_name + place]
        cells.append(str(worker.images))
        if layer is not None and worker.rebalanced is not None:
            cells.append(f"{worker.rebalanced.images_before} to {worker.rebalanced.images_after}")
        table.add_row(
            *cells,
            str(worker.survivors),
            duration(worker.timings_s.infer.median, 4),
            "" if after is None or after.sm_mhz is None else f"{after.sm_mhz:.0f}",
            (worker.uuid or "")[:12],
        )
    return table


def _configuration(record: Record) -> list[tuple[str, str]]:
    data = record.dataset
    inputs = data.source if not data.official_inputs else f"official (from {data.source})"
    network = "official" if data.official_network else "not official"
    memory = record.device_memory
    return [
        ("problem", f"{record.neurons} neurons, {record.layers} layers, {record.images} images"),
        ("inputs", inputs),
        ("network", network),
        (
            "engine",
            f"{record.engine} on {record.device}, {record.threads} threads; {record.engine_reason}",
        ),
        *record.engine_options.items(),
        *([] if memory is None else [("device memory", f"{memory / 1e9:g} GB")]),
        ("shortcuts", shortcuts_in_words(record)),
        ("machine", hardware(record).label),
    ]


def _timings(record: Record) -> list[tuple[str, str]]:
    timings, infer = record.timings_s, record.timings_s.infer
    stages = {
        "convert": timings.convert,
        "read": timings.read,
        "prepare": timings.prepare,
        "compile": timings.compile,
        "upload": timings.upload,
        "gather": timings.gather,
        "end to end": timings.end_to_end,
    }
    rows = [(stage, duration(seconds)) for stage, seconds in stages.items() if seconds]
    text = duration(infer.median, 4)
    if len(infer.samples) > 1:
        low, high = duration(min(infer.samples), 4), duration(max(infer.samples), 4)
        text += f" (median of {len(infer.samples)}, {low} to {high})"
    if record.stream is None:
        return [*rows, ("infer", text)]
    text += ", the copies of the images to the device included"
    stream = record.stream
    speed = f"{stream.images_per_s:.4g} images/s, {stream.bytes_per_s / 1e9:.4g} GB/s"
    if stream.bus_share is not None:
        speed += f", {stream.bus_share:.1%} of the speed of copies alone"
    return [*rows, ("infer", text), ("stream", speed)]


def _outcome(record: Record) -> list[tuple[str, str]]:
    share = record.executed_edges / max(1, record.edges)
    effective = f"{record.effective_teraedges_per_s:.4g} TeraEdges/s"
    executed = f"{record.executed_edges:.4g} of {record.edges:.4g} ({share:.3%})"
    return [
        ("effective rate", f"{effective}: all edges of the problem / seconds of inference"),
        ("edges executed", f"{executed}: {record.executed_teraedges_per_s:.4g} TeraEdges/s"),
        ("categories", f"{record.survivors} images, {verification_in_words(record)}"),
    ]


def verification_in_words(record: Record) -> str:
    """The verification of a run's categories, and the truth that they were compared with."""
    verification = record.verification
    return {
        Status.VERIFIED: f"VERIFIED against {verification.against}",
        Status.COUNT_ONLY: f"VERIFIED by their number only, against {verification.against}",
        Status.UNVERIFIED: "not verified: no answer is stored for this problem. spdnn verify runs "
        "the reference engine, which is slow",
        Status.WRONG: f"WRONG: {verification.difference} (by {verification.against})",
    }[verification.status]


def as_json(result: Result) -> None:
    """The record of a result, with its file."""
    print(json.dumps({"file": str(result.path), **msgspec.to_builtins(result.record)}, indent=1))


def verified(result: Result) -> None:
    """The verification of a result by `spdnn verify`."""
    record = result.record
    print(
        one_line(
            f"{result.name}: N={record.neurons}, L={record.layers}, {record.images} images, "
            f"engine {record.engine}"
        )
    )
    print(one_line(f"{record.survivors} categories: {verification_in_words(record)}"))


def results(listed: Sequence[Result]) -> None:
    """One line per result, the newest last."""
    for result in listed:
        record = result.record
        problem = f"{record.neurons} x {record.layers}, {record.images} images"
        configuration = configuration_of(record).label
        kept = "own" if result.is_local else f"kept in {result.path.stem}"
        print(
            one_line(
                f"{record.id}  {result.machine}  {problem}  {configuration}  "
                f"{duration(record.seconds)}  {record.status.value}  {kept}"
            )
        )


def suite(shown: Suite, why_not_here: Callable[[SuiteRun], str | None]) -> None:
    """A suite and its runs, as commands."""
    print(f"{shown.name}: {len(shown.runs)} run{'' if len(shown.runs) == 1 else 's'}")
    for run in shown.runs:
        obstacle = why_not_here(run)
        command = one_line(shlex.join(run.words))
        print(f"  spdnn infer {command}" + (f"  ({obstacle})" if obstacle else ""))


@contextlib.contextmanager
def bench(made: Bench) -> Iterator[tuple[Callable[[SuiteRun], None], Callable[[Settled], None]]]:
    """Progress of a suite: one line on stderr for each run that is done, and a bar below.

    Yields two callbacks: before a run, and after it, with how it went.
    """
    total = len(made.suite.runs)
    place = {run: f"[{number}/{total}]" for number, run in enumerate(made.suite.runs, start=1)}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # Once a second: the runs below are timed, and want the cores.
    settings: dict[str, Any] = {"transient": True, "refresh_per_second": 1}
    with Progress(*columns, console=_err(), disable=_quiet(), **settings) as bars:
        task = bars.add_task("", total=total, left="")

        def update() -> None:
            left = made.seconds_left()
            words = "" if left is None or not made.pending else f"about {_duration(left)} left"
            bars.update(task, completed=total - len(made.pending), left=words)

        def begins(run: SuiteRun) -> None:
            bars.update(task, description=one_line(f"{place[run]} {run.title}"))

        def ended(outcome: Settled) -> None:
            run = outcome.run
            bars.console.print(one_line(f"{place[run]} {run.title}: {_how_it_went(outcome)}"))
            update()

        for outcome in made.outcomes:
            ended(outcome)
        yield begins, ended


def _how_it_went(outcome: Settled) -> str:
    if outcome.state == "kept":
        return f"done before, {outcome.result_name}"
    if outcome.state == "done":
        return f"done in {_duration(outcome.seconds)}, {outcome.result_name}"
    return f"{outcome.state.upper()}: {outcome.reason}"


def _duration(seconds: float) -> str:
    """Seconds as text, in the one or two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def bench_end(outcomes: Sequence[Settled], results: Sequence[Result]) -> None:
    """What the tables of a suite do not show: noisy, skipped and failed runs."""
    for result in results:
        if is_noisy(result.record):
            note(f"Warning: {result.record.id}: {noise_in_words(result.record)}")
    skipped = Counter(outcome.reason for outcome in outcomes if outcome.state == "skipped")
    for reason, number in skipped.items():
        note(f"Skipped: {number} run{'' if number == 1 else 's'}: {reason}")
    for outcome in outcomes:
        if outcome.state == "failed":
            note(f"Failed: {outcome.run.title}: {outcome.reason}")


def _pairs(title: str) -> RichTable:
    table = RichTable(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _as_written(text: str) -> str:
    """The text on one line, with escapes for characters that stdout cannot hold.

    So the lines of a table stay aligned.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return one_line(text).encode(encoding, "backslashreplace").decode(encoding)


def _quiet() -> bool:
    return not _on_terminal(sys.stderr)


def _on_terminal(stream: TextIO | None) -> bool:
    """None stands for a stream that was closed before the program began (`>&-`)."""
    return stream is not None and stream.isatty()
