"""How things look on a terminal: tables on stdout, notes and progress on stderr."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

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

if TYPE_CHECKING:
    from spdnn_cli.bench.suite import Run, Suite
    from spdnn_cli.bench.suite_run import Bench, Outcome
    from spdnn_cli.challenge.convert import Report
    from spdnn_cli.challenge.fetch import FetchedFile, FetchPlan
    from spdnn_cli.challenge.fetch import Progress as TransferProgress
    from spdnn_cli.engines.protocol import Progress as LayerProgress
    from spdnn_cli.network.dataset import Dataset
    from spdnn_cli.report.engines import Table
    from spdnn_cli.results.store import Result

FULL_WIDTH = 400
"""Columns off a terminal, where nothing is to be cut."""


def _out() -> Console:
    width = None if _on_terminal(sys.stdout) else FULL_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _err() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def note(sentence: str) -> None:
    """One sentence on stderr."""
    _err().print(one_line(sentence))


@contextlib.contextmanager
def work() -> Iterator[Report]:
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
    """Progress of downloads: one bar a file."""
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


def result(record: dict[str, Any]) -> None:
    """A run: what ran on what, how long each stage took, and what the number means."""
    table = _pairs("Inference")
    for name, value in _configuration(record) + _timings(record) + _outcome(record):
        table.add_row(name, value)
    _out().print(table)
    if len(record["workers"]) > 1:
        _out().print(_workers(record))


def _workers(record: dict[str, Any]) -> RichTable:
    table = RichTable(
        title="Workers: {launcher}, {partition} partition; slowest to mean {imbalance:.3f}".format(
            **record["launch"], imbalance=record["imbalance"]
        ),
        title_justify="left",
    )
    layer = record["launch"]["rebalance_layer"]
    evened = [] if layer is None else [f"alive after layer {layer}"]
    columns = ["rank", "host", "device", "images", *evened]
    for column in (*columns, "survivors", "infer, s", "SM MHz", "UUID"):
        table.add_column(column, justify="right")
    for worker in record["workers"]:
        clocks, place = worker["clocks"], worker["device_index"]
        after = None if clocks is None or clocks["after"] is None else clocks["after"]["sm_mhz"]
        cells = [
            str(worker["rank"]),
            worker["host"],
            worker["device_name"] + ("" if place is None else f" ({place})"),
            str(worker["images"]),
        ]
        if layer is not None:
            cells.append("{images_before} to {images_after}".format(**worker["rebalanced"]))
        table.add_row(
            *cells,
            str(worker["survivors"]),
            f"{worker['timings_s']['infer']['median']:.6f}",
            "" if after is None else f"{after:.0f}",
            (worker["uuid"] or "")[:12],
        )
    return table


def _configuration(record: dict[str, Any]) -> list[tuple[str, str]]:
    data, on = record["dataset"], record["shortcuts"]
    inputs = "official" if data["official_inputs"] else f"not the official ones ({data['source']})"
    network = "official" if data["official_network"] else "not the official one"
    words = {
        "dead images dropped": on["dead_images_dropped"],
        "twins folded": on["twins_folded"],
        "finished images retired": on["finished_images_retired"],
    }
    return [
        ("problem", "{neurons} neurons, {layers} layers, {images} images".format(**record)),
        ("inputs, network", f"{inputs}, {network} (from {data['source']})"),
        ("engine", "{engine} on {device}, {threads} threads; {engine_reason}".format(**record)),
        *([("features", "stored as float16")] if record["features"] == "float16" else []),
        ("shortcuts on", ", ".join(word for word, is_on in words.items() if is_on) or "none"),
        ("machine", "{cpu}, {cores} cores".format(**record["machine"])),
    ]


def _timings(record: dict[str, Any]) -> list[tuple[str, str]]:
    timings = record["timings_s"]
    rows = [
        (stage, f"{timings[stage]:.4f} s")
        for stage in ("read", "prepare", "compile", "upload", "gather", "end_to_end")
    ]
    samples, stream = timings["infer"]["samples"], record["stream"]
    text = f"{timings['infer']['median']:.6f} s"
    if len(samples) > 1:
        text += f" (median of {len(samples)}, {min(samples):.6f} to {max(samples):.6f})"
    if stream is None:
        return [*rows, ("infer", text)]
    text += ", the copies of the images to the device included"
    speed = f"{stream['images_per_s']:.4g} images/s, {stream['bytes_per_s'] / 1e9:.4g} GB/s"
    if stream["bus_share"] is not None:
        speed += f", {stream['bus_share']:.1%} of what copies alone reach"
    return [*rows, ("infer", text), ("stream", speed)]


def _outcome(record: dict[str, Any]) -> list[tuple[str, str]]:
    if record["difference"] is not None:
        verified = f"WRONG: {record['difference']} (by {record['verified_against']})"
    elif record["verified"]:
        verified = f"VERIFIED against {record['verified_against']}"
    else:
        verified = (
            "not verified: no answer is known for these inputs and layers; spdnn verify runs the "
            "reference engine, and compares with it"
        )
    share = record["executed_edges"] / max(1, record["edges"])
    effective = f"{record['effective_teraedges_per_s']:.4g} TeraEdges/s"
    executed = f"{record['executed_edges']:.4g} of {record['edges']:.4g} ({share:.3%})"
    return [
        ("effective rate", f"{effective}: all edges of the problem / seconds of inference"),
        ("edges executed", f"{executed}: {record['executed_teraedges_per_s']:.4g} TeraEdges/s"),
        ("categories", f"{record['survivors']} images, {verified}"),
    ]


def verification(outcome: dict[str, Any]) -> None:
    """What `verify` found."""
    problem = "N={neurons}, L={layers}, {images} images, engine {engine}".format(**outcome)
    state = "VERIFIED" if outcome["verified"] else f"WRONG: {outcome['difference']}"
    print(one_line(f"{outcome['result']}: {problem}"))
    print(f"{outcome['survivors']} categories: {state}, against {outcome['verified_against']}")


def tables(made: Sequence[Table], form: str | None = None) -> None:
    """Tables with their notes: "table", or a name of `tables.FORMATS`.

    Nothing said is "table" on a terminal, and "plain" elsewhere.
    """
    from spdnn_cli.report.tables import FORMATS

    form = form or ("table" if _on_terminal(sys.stdout) else "plain")
    if form != "table":
        print(FORMATS[form](made), end="")
        return
    out = _out()
    for table in made:
        shown = RichTable(title=one_line(table.title), title_justify="left")
        for column in table.columns:
            shown.add_column(column, justify="right")
        for row in table.rows:
            shown.add_row(*map(one_line, row))
        out.print(shown)
        for line in table.notes:
            out.print(one_line(line))


def suite(shown: Suite, why_not_here: Callable[[Run], str | None]) -> None:
    """A suite and its runs, as commands."""
    print(f"{shown.name}: {len(shown.runs)} run{'' if len(shown.runs) == 1 else 's'}")
    for run in shown.runs:
        obstacle = why_not_here(run)
        command = one_line(shlex.join(run.words))
        print(f"  spdnn infer {command}" + (f"  ({obstacle})" if obstacle else ""))


@contextlib.contextmanager
def bench(made: Bench) -> Iterator[tuple[Callable[[Run], None], Callable[[Outcome], None]]]:
    """Progress of a suite: a line on stderr for each run that is settled, and a bar below.

    Gives what to call before a run, and what to call with its outcome.
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

        def begins(run: Run) -> None:
            bars.update(task, description=one_line(f"{place[run]} {run.title}"))

        def ended(outcome: Outcome) -> None:
            run = outcome.run
            bars.console.print(one_line(f"{place[run]} {run.title}: {_how_it_went(outcome)}"))
            update()

        for outcome in made.outcomes:
            ended(outcome)
        yield begins, ended


def _how_it_went(outcome: Outcome) -> str:
    if outcome.state == "kept":
        return f"done before, {outcome.path}"
    if outcome.state == "done":
        return f"done in {_duration(outcome.seconds)}, {outcome.path}"
    return f"{outcome.state.upper()}: {outcome.reason}"


def _duration(seconds: float) -> str:
    """Seconds in the two largest units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def bench_end(outcomes: Sequence[Outcome], results: Sequence[Result]) -> None:
    """What to know of a suite's runs beside their tables: which wobble, were skipped, or failed."""
    from spdnn_cli.results.store import wobble

    for found in results:
        warning = wobble(found.record)
        if warning is not None:
            note(f"Warning: {found.path.name}: {warning}")
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
    """On one line, with escapes for what stdout cannot hold, so that a table's lines stay even."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return one_line(text).encode(encoding, "backslashreplace").decode(encoding)


def _quiet() -> bool:
    return not _on_terminal(sys.stderr)


def _on_terminal(stream: TextIO | None) -> bool:
    """None stands for a stream that was closed before the program began (`>&-`)."""
    return stream is not None and stream.isatty()
