"""This program's results beside those of other programs, which published.yaml holds.

A row has one program on one machine and number of devices, and says whose numbers they are: this
program's, published by others, or own measurements of other programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spdnn_cli.report import cells, published
from spdnn_cli.report.published import Kind, Peer, Size
from spdnn_cli.report.tables import Cell, Table, seconds_cell
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Configuration, configuration_of, problem_of
from spdnn_cli.results.record import Device, Record, Status
from spdnn_cli.results.store import Result

DEVICES: dict[Device, str] = {"cuda": "GPUs", "cpu": "CPUs"}
OWN = "this program"
KEYS = ("program", "machine", "devices", "whose")


@dataclass(frozen=True)
class Own:
    """The fastest runs of an engine on some devices of a machine, by problem."""

    machine: str
    configuration: Configuration
    records: Mapping[Size, Record]


def peers(results: Sequence[Result]) -> list[Table]:
    """Seconds on the official problems: this program's engines beside others, GPUs and CPUs apart.

    The rows are runs of all 60,000 images with the engine's default options, and the figures of
    other programs on the same problems.
    """
    own = own_rows(results)
    tables = [table for device in DEVICES for table in _table(device, own)]
    return [*tables, trained()] if tables else []


def own_rows(results: Sequence[Result]) -> list[Own]:
    """One for each engine, with or without retiring, number of devices and of threads.

    If the images were distributed in several ways, the fastest run of each problem is used.
    """
    found = []
    for machine, records in describe.by_machine(results).items():
        newest = describe.newest(filter(_is_comparable, records)).values()
        groups: dict[tuple[str, int, int], dict[Size, Record]] = {}
        place = {made: k for k, made in enumerate(cells.in_order(newest))}
        for record in sorted(newest, key=lambda record: place[configuration_of(record)]):
            made, size = configuration_of(record), (record.neurons, record.layers)
            best = groups.setdefault((made.engine_label, made.workers, made.threads), {})
            if size not in best or record.seconds < best[size].seconds:
                best[size] = record
        found += [
            Own(machine, configuration_of(next(iter(best.values()))), best)
            for best in groups.values()
        ]
    return found


def _is_comparable(record: Record) -> bool:
    """Whether a run is right, of an official problem, whole, with the engine's defaults."""
    is_right = record.status is not Status.WRONG
    return is_right and problem_of(record).is_comparable and configuration_of(record).is_plain


def _table(device: Device, own: Sequence[Own]) -> list[Table]:
    rows = [row for row in own if row.configuration.device == device]
    sizes = sorted({size for row in rows for size in row.records})
    others = [
        peer
        for peer in published.peers()
        if peer.device == device and any(size in peer.seconds for size in sizes)
    ]
    if not others:
        return []
    columns = [*KEYS, *("{} x {}".format(*size) for size in sizes)]
    title = f"Seconds of inference on {DEVICES[device]}: this program and others"
    table = Table(title, columns, kind="peers", keys=len(KEYS))
    for row in rows:
        times = [cells.time(row.records.get(size)) for size in sizes]
        table.add(_program(row), row.machine, row.configuration.workers, OWN, *times)
    sources = _numbered_sources(others)
    for peer in sorted(others, key=lambda peer: peer.kind is Kind.PUBLISHED):
        whose = Cell(peer.kind.value, mark=f"[{sources[_description(peer)]}]")
        times = [seconds_cell(peer.seconds.get(size)) for size in sizes]
        table.add(peer.program, peer.machine, peer.devices, whose, *times)
    table.notes = [
        "Other programs ran on other machines, and each was timed in its own way: compare with "
        "care. Empty: no figure. measured: an own measurement of that program.",
        *(f"[{number}] {words}." for words, number in sources.items()),
    ]
    if device == "cuda":
        table.notes += [f"Published without a table of times: {c}." for c in published.claims()]
    table.notes += describe.notes([record for row in rows for record in row.records.values()])
    return [table]


def _program(row: Own) -> str:
    """The engine; on a CPU with the threads of each worker."""
    configuration = row.configuration
    if not configuration.threads:
        return configuration.engine_label
    noun = "thread" if configuration.threads == 1 else "threads"
    each = " each" if configuration.workers > 1 else ""
    return f"{configuration.engine_label} ({configuration.threads} {noun}{each})"


def _numbered_sources(others: Iterable[Peer]) -> dict[str, int]:
    """What is to be said of each source and way of timing, numbered from 1."""
    ordered = sorted(others, key=lambda peer: peer.kind is Kind.PUBLISHED)
    words = dict.fromkeys(map(_description, ordered))
    return {description: number for number, description in enumerate(words, start=1)}


def _description(peer: Peer) -> str:
    """Where numbers come from, and what they include."""
    source = peer.source[:1].upper() + peer.source[1:]
    when = "" if peer.date is None else f" of {peer.date}; the program"
    note = "" if peer.note is None else f"; {peer.note}"
    return f"{source}{when}: {peer.address}. Timed: {peer.timed}{note}"


def trained() -> Table:
    """How much faster another program was on networks that were trained."""
    known, source = published.trained()
    columns = [
        *("network", "neurons", "sparse layers", "data", "accuracy %", "loss of accuracy %"),
        *("times as fast as SNIG", "as BF"),
    ]
    table = Table(f"{known.program} on trained networks, published", columns, kind="peers")
    for network in known.networks:
        table.add(
            network.name,
            network.neurons,
            network.layers,
            network.data,
            network.accuracy_percent,
            network.accuracy_loss_percent,
            network.speed_up_over_snig,
            network.speed_up_over_bf,
        )
    table.notes = [f"{source}."]
    return table
