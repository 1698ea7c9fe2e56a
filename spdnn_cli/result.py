"""Result files: one JSON a run, with its raw samples, in a folder a machine; and its categories.

Beside `NAME.json` lies `NAME-categories.tsv`, in the format of the official truth files.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import ResultError
from spdnn_cli.network import Int32
from spdnn_cli.verify import categories_text
from spdnn_cli.workspace import Workspace

SCHEMA_VERSION = 1
NEEDED = (
    *("created", "neurons", "layers", "images", "engine", "threads", "shortcuts", "dataset"),
    *("survivors", "categories_sha256", "verified", "effective_teraedges_per_s"),
)
"""What `verify` and `report` read of a result."""


@dataclass(frozen=True)
class Result:
    """A result file that was read: its path, and its record as `inference.run` makes it."""

    path: Path
    record: dict[str, Any]

    def categories(self) -> Int32:
        """The categories of the run, int32, ascending, from 0.

        Raises:
            ResultError: the file beside the result is missing or holds something else.
        """
        import numpy as np

        from spdnn_cli.verify import categories_sha256

        file = _categories_file(self.path)
        try:
            numbers = [int(line) - 1 for line in file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise ResultError(
                f"the categories cannot be read ({_reason(error)})", path=file
            ) from error
        categories = np.array(numbers, np.int32)
        if categories_sha256(categories) != self.record["categories_sha256"]:
            raise ResultError("is not the list that the result names", path=file)
        return categories


def save(workspace: Workspace, machine: str, record: dict[str, Any], categories: Int32) -> Path:
    """Write a result and its categories below results/`machine`/; returns the JSON file's path."""
    now = datetime.datetime.now(datetime.timezone.utc)
    name = "n{neurons}-l{layers}-{engine}".format(**record) + now.strftime("-%Y%m%dT%H%M%S%f")[:-3]
    path = workspace.results_dir / machine / f"{name}.json"
    with written_aside(_categories_file(path)) as part:
        part.write_text(categories_text(categories))
    with written_aside(path) as part:
        part.write_text(json.dumps({"schema_version": SCHEMA_VERSION} | record, indent=1) + "\n")
    return path


def update(result: Result, changes: dict[str, Any]) -> None:
    """Write a result file anew with some entries changed."""
    with written_aside(result.path) as part:
        part.write_text(json.dumps(result.record | changes, indent=1) + "\n")


def load(path: Path) -> Result:
    """Read a result file.

    Raises:
        ResultError: it is missing, not a result, or of a newer schema.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultError(f"cannot be read as a result ({_reason(error)})", path=path) from error
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise ResultError("is not a result of spdnn", path=path)
    if record["schema_version"] > SCHEMA_VERSION:
        raise ResultError(
            f"has schema version {record['schema_version']}; this program reads up to "
            f"{SCHEMA_VERSION}",
            path=path,
            hint="Update spdnn.",
        )
    missing = [name for name in NEEDED if name not in record]
    if missing:
        raise ResultError(f"is a result without {', '.join(missing)}", path=path)
    return Result(path, record)


def load_all(workspace: Workspace) -> list[Result]:
    """Every result below results/, oldest first."""
    found = [load(path) for path in sorted(workspace.results_dir.glob("*/*.json"))]
    return sorted(found, key=lambda result: str(result.record["created"]))


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _categories_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-categories.tsv")
