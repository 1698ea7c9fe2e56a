"""This machine's results beside those of other programs, which published.yaml holds.

Three kinds of numbers never share a column: results of this program, what others published, and
own measurements of other programs. Each column names its program and its machine.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spdnn_cli import problem
from spdnn_cli.report.tables import Table
from spdnn_cli.results import describe as runs
from spdnn_cli.results.describe import Record, number, seconds
from spdnn_cli.results.store import Result

FILE = Path(__file__).with_name("published.yaml")
KINDS = {
    "published": "published results",
    "measured": "other programs, own measurements",
}


@dataclass(frozen=True)
class Peer:
    """The times of one program on one machine, official data, 60,000 images.

    Attributes:
        kind: "published" (its source says so) or "measured" (an own measurement).
        key: a short name, each one once.
        program: what ran.
        source: who says so.
        machine: on what.
        date: of an own measurement; None: the source's.
        device: "cuda" or "cpu".
        timed: what the seconds include.
        note: what else must be known, or None.
        seconds: of inference, by (neurons, layers).
    """

    kind: str
    key: str
    program: str
    source: str
    machine: str
    date: str | None
    device: str
    timed: str
    note: str | None
    seconds: dict[tuple[int, int], float]

    def teraedges_per_s(self, neurons: int, layers: int) -> float:
        """The challenge's rate on a problem that `seconds` has."""
        return problem.Problem(neurons, layers).edges / self.seconds[neurons, layers] / 1e12


def load() -> list[Peer]:
    """Everything that published.yaml holds, in its order."""
    import yaml

    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [_peer(kind, entry) for kind in KINDS for entry in content[kind]]


def claims() -> list[str]:
    """What sources claim without a table of times, each with its source."""
    import yaml

    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))["claims"]
    return [f"{entry['claim']} ({entry['source']})" for entry in entries]


def _peer(kind: str, entry: dict[str, Any]) -> Peer:
    times = {}
    for name, value in entry["seconds"].items():
        neurons, layers = map(int, name.split("x"))
        times[neurons, layers] = float(value)
    words = {key: entry[key] for key in ("key", "program", "source", "machine", "device", "timed")}
    date = str(entry["date"]) if "date" in entry else None
    return Peer(kind=kind, **words, date=date, note=entry.get("note"), seconds=times)


def peers(results: Sequence[Result]) -> list[Table]:
    """Seconds on the official problems: a machine's engines beside others, a table for each kind.

    Only runs of all 60,000 images on one device are shown, and only programs for such a device.
    """
    shown = [
        result
        for result in results
        if runs.workers(result.record) == 1
        and not runs.asks_for_tile(result.record)
        and result.record["images"] == problem.IMAGES
        and runs.problem_of(result.record).data == "official"
    ]
    others = load()
    tables = []
    for machine, some in runs.by_machine(shown).items():
        records = [result.record for result in some]
        for kind in KINDS:
            beside = [peer for peer in others if (peer.kind, peer.device) == _wanted(kind, records)]
            tables += _table(machine, records, kind, beside)
    return tables


def _wanted(kind: str, records: Sequence[Record]) -> tuple[str, str]:
    return kind, records[0]["device"]


def _table(
    machine: str, records: Sequence[Record], kind: str, beside: Sequence[Peer]
) -> list[Table]:
    newest = {
        ((of.neurons, of.layers), name): record
        for (of, name), record in runs.newest(records).items()
    }
    at = sorted({size for size, _ in newest})
    beside = [peer for peer in beside if any(size in peer.seconds for size in at)]
    if not beside:
        return []
    names = runs.in_order(newest.values())
    letters = dict(zip((peer.key for peer in beside), string.ascii_lowercase, strict=False))
    table = Table(
        f"Seconds of inference on {machine}, beside {KINDS[kind]}",
        [
            *("neurons", "layers"),
            *(f"{name}, this machine" for name in names),
            *(f"{peer.program}, {_short(peer.machine)} ({letters[peer.key]})" for peer in beside),
        ],
        [],
        kind="peers",
    )
    for size in at:
        own = [newest.get((size, name)) for name in names]
        times = [peer.seconds.get(size) for peer in beside]
        table.rows.append(
            [
                *map(str, size),
                *("" if r is None else number(seconds(r)) + runs.mark(r) for r in own),
                *("" if time is None else number(time) for time in times),
            ]
        )
    table.notes = [
        f"{KINDS[kind].capitalize()}, on other machines and each timed in its own way: compare "
        "with care.",
        *(f"({letters[peer.key]}) {_description(peer)}" for peer in beside),
    ]
    if kind == "published" and records[0]["device"] == "cuda":
        table.notes += [f"Published without a table of times: {claim}." for claim in claims()]
    table.notes += runs.notes(list(newest.values()))
    return [table]


def _short(machine: str) -> str:
    return machine.removeprefix("1x NVIDIA ")


def _description(peer: Peer) -> str:
    """Where the numbers of a program come from, and what they include."""
    when = "" if peer.date is None else f", {peer.date}"
    note = "" if peer.note is None else f"; {peer.note}"
    source = peer.source[:1].upper() + peer.source[1:]
    return f"{peer.program} on {peer.machine}. {source}{when}. Timed: {peer.timed}{note}."
