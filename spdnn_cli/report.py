"""Tables from result files. Reads results and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spdnn_cli.result import Result


@dataclass
class Table:
    """A table: a title, column names, rows of text, and notes below."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: one object a row."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes}


def throughput(results: Sequence[Result]) -> list[Table]:
    """One table a machine: a row a problem, a column an engine, the newest run of each.

    The rate is the challenge's: all edges of the problem over the median inference time. The ratio
    is to the slowest engine of the row. Runs of unlike machines never share a table.
    """
    machines = sorted({result.path.parent.name for result in results})
    return [
        _throughput(name, [r.record for r in results if r.path.parent.name == name])
        for name in machines
    ]


def _throughput(machine: str, records: list[dict[str, Any]]) -> Table:
    newest = {(_row(record), _engine(record)): record for record in records}
    engines = sorted({engine for _, engine in newest})
    table = Table(
        f"TeraEdges/s (effective) on {machine}",
        ["neurons", "layers", "images", "data", *engines, "best to slowest"],
        [],
        [
            "effective: all edges of the problem / median seconds of inference, whatever an engine "
            "skips",
            "* not verified",
        ],
    )
    for row in sorted({row for row, _ in newest}):
        found = {engine: newest[row, engine] for engine in engines if (row, engine) in newest}
        rates = {engine: r["effective_teraedges_per_s"] for engine, r in found.items()}
        cells = [_rate(found.get(engine)) for engine in engines]
        ratio = max(rates.values()) / min(rates.values())
        table.rows.append([*map(str, row), *cells, f"{ratio:.1f}" if len(rates) > 1 else ""])
    return table


def _row(record: dict[str, Any]) -> tuple[int, int, int, str]:
    data = record["dataset"]
    official = data["official_inputs"] and data["official_network"]
    return (
        record["neurons"],
        record["layers"],
        record["images"],
        "official" if official else data["source"],
    )


def _engine(record: dict[str, Any]) -> str:
    """The column of a run: its engine, with what makes it another one."""
    shortcuts, memory = record["shortcuts"], record.get("device_memory")
    parts = [record["engine"]]
    if shortcuts["twins_folded"] and not shortcuts["finished_images_retired"]:
        parts.append("--no-retire")
    if memory is not None:
        parts.append(f"in {memory / 1e9:g} GB")
    if record["device"] == "cpu":
        parts.append(f"({record['threads']} threads)")
    return " ".join(parts)


def _rate(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    return f"{record['effective_teraedges_per_s']:.4g}{'' if record['verified'] else ' *'}"
