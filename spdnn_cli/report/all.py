"""The tables of `spdnn report`, by the name of their subcommand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spdnn_cli.report.engines import cpu, kernels, throughput
from spdnn_cli.report.peers import peers
from spdnn_cli.report.scaling import scaling
from spdnn_cli.report.tables import Table
from spdnn_cli.results.store import Result

TABLES: dict[str, Callable[[Sequence[Result]], list[Table]]] = {
    "throughput": throughput,
    "kernels": kernels,
    "scaling": scaling,
    "peers": peers,
    "cpu": cpu,
}
HINTS = {
    "throughput": "Run spdnn infer on one device.",
    "kernels": "On a GPU, run spdnn infer with --engine baseline and with --engine tiled.",
    "scaling": "Run spdnn infer with --gpus, or with --device cpu --workers.",
    "peers": "Fetch an official problem, and run spdnn infer on all its images.",
    "cpu": "Run spdnn infer --device cpu.",
}
"""What fills a table that is empty."""


def all_tables(results: Sequence[Result]) -> list[Table]:
    """Every table that the results can fill."""
    return [table for make in TABLES.values() for table in make(results)]
