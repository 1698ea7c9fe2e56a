"""The tables of `spdnn report`, by name, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spdnn_cli.report.tables import Table
from spdnn_cli.results.store import Result

Maker = Callable[[Sequence[Result]], list[Table]]


@dataclass(frozen=True)
class Entry:
    """Tables of one name.

    Attributes:
        summary: what they show.
        make: makes them; none where no result is for them.
        hint: what to run to have one.
        is_own: whether they show runs of this program alone.
    """

    summary: str
    make: Maker
    hint: str
    is_own: bool = True


def _make(module: str, function: str) -> Maker:
    """A maker that is imported when it is called: each command pays for its own table alone."""

    def make(results: Sequence[Result]) -> list[Table]:
        from importlib import import_module

        tables: list[Table] = getattr(import_module(f"spdnn_cli.report.{module}"), function)(
            results
        )
        return tables

    return make


TABLES = {
    "paper": Entry(
        "the paper's tables I and II, with this program's figures beside them",
        _make("paper", "paper"),
        "Run spdnn bench paper.",
        is_own=False,
    ),
    "throughput": Entry(
        "TeraEdges/s on one device, by problem and engine",
        _make("engines", "throughput"),
        "Run spdnn infer on one device.",
    ),
    "machines": Entry(
        "TeraEdges/s of an engine, by problem and machine",
        _make("machines", "machines"),
        "Run the same engine on two machines, and keep both results in one folder.",
        is_own=False,
    ),
    "kernels": Entry(
        "from the baseline to the optimised kernel, step by step",
        _make("engines", "kernels"),
        "On a GPU, run spdnn infer with --engine baseline and with --engine tiled.",
    ),
    "scaling": Entry(
        "strong and weak scaling, measured and projected",
        _make("scaling", "scaling"),
        "Run spdnn infer with --gpus, or with --device cpu --workers.",
    ),
    "peers": Entry(
        "seconds of other programs, with sources",
        _make("peers", "peers"),
        "Fetch an official problem, and run spdnn infer on all its images.",
        is_own=False,
    ),
    "cpu": Entry(
        "engines on CPUs, by threads and workers",
        _make("engines", "cpu"),
        "Run spdnn infer --device cpu.",
    ),
}


def all_tables(results: Sequence[Result]) -> list[Table]:
    """Every table that the results fill."""
    return [table for entry in TABLES.values() for table in entry.make(results)]


def own_tables(results: Sequence[Result]) -> list[Table]:
    """Every table of runs of this program alone that the results fill."""
    return [table for entry in TABLES.values() if entry.is_own for table in entry.make(results)]
