"""Result files: one JSON a run, with its raw samples, in a folder a machine; and its categories.

Beside `NAME.json` lies `NAME-categories.tsv`, in the format of the official truth files, and
`NAME-lifetimes.npy` where the run was traced. docs/results.md names every field.

A folder holds the results of one kind of machine, which its `machine.json` describes: processor,
cores, memory, and for results of GPUs their models in order. A machine that differs in one of these
gets a folder of its own, `NAME-2`, `NAME-3` and so on. Driver, versions, host and UUIDs may differ
within a folder; every result names its own.
"""

from __future__ import annotations

import datetime
import io
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import ResultError
from spdnn_cli.network.layers import Int32
from spdnn_cli.run.truth import categories_text
from spdnn_cli.timing import spread
from spdnn_cli.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Lifetimes = NDArray[np.uint16]

SCHEMA_VERSION = 2
MACHINE_FILE = "machine.json"
BENCH_FILES = "bench-*.json"
"""What `spdnn bench` has done; kept beside the results, and no result."""
SAME_MEMORY = 0.02
"""Memory sizes this close, as a share, are the same: what a system keeps for itself varies."""
NEEDED = (
    *("created", "neurons", "layers", "images", "engine", "threads", "shortcuts", "dataset"),
    *("survivors", "categories_sha256", "verified", "effective_teraedges_per_s"),
    *("device", "executed_edges", "timings_s", "machine"),
)
"""What a result has of any version: what `verify` and `report` read of it."""
NEEDED_SINCE_2 = ("launch", "workers", "imbalance", "options", "stream", "lifetimes")
WOBBLES_FROM = 0.1
"""From this spread of its samples on, (largest - smallest) / median, a run is warned about: twice
the difference between two runs that `spdnn report compare` takes for a regression. Runs of some
milliseconds on an idle machine stay below 0.03."""


Warn = Callable[[str], None]
"""Told, in a line, of what is left out."""


def _silently(line: str) -> None:
    """For callers who need no warnings."""


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

        from spdnn_cli.run.truth import categories_sha256

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

    def lifetimes(self) -> Lifetimes:
        """How many layers each image entered before it was dead or finished, uint16 (images,).

        Raises:
            ResultError: the run was not traced, or the file beside the result is missing or holds
                something else.
        """
        import numpy as np

        named = self.record["lifetimes"]
        if named is None:
            raise ResultError(
                "has no lifetimes of its images", path=self.path, hint="Run: spdnn infer --trace"
            )
        file = self.path.with_name(named["file"])
        try:
            lifetimes = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ResultError(
                f"the lifetimes cannot be read ({_reason(error)})", path=file
            ) from error
        wanted = (self.record["images"],)
        if lifetimes.shape != wanted or lifetimes.dtype != np.uint16:
            raise ResultError(
                f"holds {lifetimes.dtype} {lifetimes.shape}, the result has uint16 {wanted}",
                path=file,
            )
        return lifetimes


def save(
    workspace: Workspace,
    machine: str,
    record: dict[str, Any],
    categories: Int32,
    lifetimes: Lifetimes | None = None,
) -> Path:
    """Write a result, and what belongs beside it, into the folder of its machine.

    Args:
        workspace: results go below its `results_dir`.
        machine: the folder's name, say `1x-nvidia-h200`; where that folder is of an unlike machine,
            `-2`, `-3` and so on is added (see the top of this file).
        record: as `inference.run` makes it. Its "lifetimes" is set, to what is written here.
        categories: int32, ascending, from 0.
        lifetimes: layers that each image entered, uint16 (images,), of a traced run.

    Returns:
        The JSON file's path.

    Raises:
        DataError: a file cannot be written.
    """
    import numpy as np

    path = path_of(workspace, machine, record)
    folder = path.parent
    name_lifetimes(record, lifetimes)
    if lifetimes is not None:
        content = io.BytesIO()  # NumPy would not say why a file cannot be written
        np.save(content, lifetimes.astype(np.uint16, casting="same_kind"))
        with written_aside(folder / record["lifetimes"]["file"]) as part:
            part.write_bytes(content.getbuffer())
    with written_aside(_categories_file(path)) as part:
        part.write_text(categories_text(categories))
    with written_aside(path) as part:
        part.write_text(json.dumps({"schema_version": SCHEMA_VERSION} | record, indent=1) + "\n")
    if not (folder / MACHINE_FILE).exists():
        with written_aside(folder / MACHINE_FILE) as part:
            part.write_text(json.dumps(_hardware(record), indent=1) + "\n")
    return path


def path_of(workspace: Workspace, machine: str, record: dict[str, Any]) -> Path:
    """Where `save` puts a result, and has put it."""
    folder = machine_folder(workspace.results_dir, machine, record)
    return folder / f"{_name(record)}.json"


def name_lifetimes(record: dict[str, Any], lifetimes: Lifetimes | None) -> None:
    """Say in a record where its lifetimes are to lie, if it has any."""
    file = {"file": f"{_name(record)}-lifetimes.npy"}
    record["lifetimes"] = None if lifetimes is None else file


def _name(record: dict[str, Any]) -> str:
    created = datetime.datetime.fromisoformat(record["created"])
    moment = created.strftime("%Y%m%dT%H%M%S%f")[:-3]
    return "n{neurons}-l{layers}-{engine}".format(**record) + f"-{moment}"


def update(result: Result, changes: dict[str, Any]) -> None:
    """Write a result file anew with some entries changed, and all others as the file has them."""
    record = json.loads(result.path.read_text())
    with written_aside(result.path) as part:
        part.write_text(json.dumps(record | changes, indent=1) + "\n")


def load(path: Path) -> Result:
    """Read a result file; an older one is brought to the present schema, in memory.

    Raises:
        ResultError: it is missing, not a result, or of a newer schema.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
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
    needed = NEEDED if record["schema_version"] == 1 else (*NEEDED, *NEEDED_SINCE_2)
    missing = [name for name in needed if name not in record]
    if missing:
        raise ResultError(f"is a result without {', '.join(missing)}", path=path)
    if record["schema_version"] > 1:
        return Result(path, record)
    try:
        return Result(path, _upgraded(record))
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"is a damaged result ({type(error).__name__}: {error})", path=path
        ) from error


def machine_folder(results_dir: Path, name: str, record: dict[str, Any]) -> Path:
    """The folder for results of a machine: `name`, or `name`-2 and so on where that is of another.

    It need not exist yet. Of `record`, "device" and "machine" count.
    """
    hardware = _hardware(record)
    for number in itertools.count(1):
        folder = results_dir / (name if number == 1 else f"{name}-{number}")
        if not folder.is_dir() or _alike(hardware, _hardware_of(folder, hardware)):
            return folder
    raise AssertionError("numbers do not end")


def load_all(workspace: Workspace, warn: Warn = _silently) -> list[Result]:
    """Every result below results/, oldest first; what else lies there is left out.

    Args:
        workspace: where results are.
        warn: told, in a line, of each file that is no result or cannot be read.
    """
    folders = [path for path in _listed(workspace.results_dir, warn) if os.path.isdir(path)]
    return _loaded([file for folder in folders for file in _result_files(folder, warn)], warn)


def load_below(folder: Path, warn: Warn = _silently) -> list[Result]:
    """Every result in a folder and all folders below it; else as `load_all`."""
    return _loaded(_result_files(folder, warn, below=True), warn)


def _loaded(files: list[Path], warn: Warn) -> list[Result]:
    """The results among files, oldest first."""
    found = []
    for file in files:
        try:
            if os.path.exists(file) and not os.path.isfile(file):  # a pipe would block
                raise ResultError("is no file", path=file)
            found.append(load(file))
        except ResultError as error:
            warn(f"Warning: {error} It is left out.")
    return sorted(found, key=lambda result: str(result.record["created"]))


def _result_files(folder: Path, warn: Warn, below: bool = False) -> list[Path]:
    """What should be results in a folder; not its machine file, nor what `spdnn bench` notes there.

    `below` takes the folders in it as well.
    """
    found = []
    for path in _listed(folder, warn):
        if path.suffix == ".json" and path.name != MACHINE_FILE and not path.match(BENCH_FILES):
            found.append(path)
        if below and os.path.isdir(path) and not os.path.islink(path):
            found += _result_files(path, warn, below)
    return found


def _listed(folder: Path, warn: Warn) -> list[Path]:  # os.path says no where pathlib may not look
    """What is in a folder, by name; nothing where there is no folder."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        warn(f"Warning: {folder}: cannot be read ({_reason(error)}). It is left out.")
        return []


def wobble(record: dict[str, Any]) -> str | None:
    """A warning where the samples of a run lie `WOBBLES_FROM` apart or more; None: they do not.

    One sample says nothing: None.
    """
    samples = record["timings_s"]["infer"]["samples"]
    apart = spread(samples)
    if apart < WOBBLES_FROM:
        return None
    return (
        f"the samples wobble: {min(samples):.4g} to {max(samples):.4g} s, {apart:.0%} of the median"
        f" (warned from {WOBBLES_FROM:.0%})"
    )


def _upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1 with what that did not say, as it was always so: one device, alone."""
    infer = record["timings_s"]["infer"]
    return {
        **record,
        "schema_version": SCHEMA_VERSION,
        "machine": {**record["machine"], "cuda": None},
        "options": {"warmup": len(infer["warmup"]), "repeat": len(infer["samples"])},
        "launch": {
            "launcher": "alone",
            "workers": 1,
            "partition": "contiguous",
            "rebalance_layer": None,
            "broadcast": False,
        },
        "workers": [_only_worker(record)],
        "imbalance": 1.0,
        "stream": None,
        "features": "float32",
        "tile": None,
        "lifetimes": None,
    }


def _only_worker(record: dict[str, Any]) -> dict[str, Any]:
    """The one worker of a run of version 1, from what the run said of itself."""
    on_gpu = record["device"] == "cuda"
    gpus = record["machine"]["gpus"] if on_gpu else []
    return {
        "rank": 0,
        "host": None,
        "device": record["device"],
        "device_index": 0 if on_gpu else None,
        "device_name": gpus[0]["name"] if gpus else record["machine"]["cpu"],
        "uuid": gpus[0]["uuid"] if len(gpus) == 1 else None,
        "threads": record["threads"],
        "images": record["images"],
        "survivors": record["survivors"],
        "executed_edges": record["executed_edges"],
        "timings_s": {k: v for k, v in record["timings_s"].items() if k != "end_to_end"},
        "rebalanced": None,
        "clocks": None,
        "peak_memory_bytes": record.get("peak_memory_bytes"),
    }


def _hardware(record: dict[str, Any]) -> dict[str, Any]:
    """What two results must have in common to be of one machine, for `machine.json`."""
    machine = record["machine"]
    names = [gpu["name"] for gpu in machine["gpus"]] if record["device"] == "cuda" else []
    kept = {name: machine[name] for name in ("cpu", "cores", "memory_bytes")}
    return {**kept, "gpus": names}


def _hardware_of(folder: Path, unknown: dict[str, Any]) -> dict[str, Any]:
    """What a folder's machine file says; else what its results say; `unknown` where it has none."""
    try:
        if (folder / MACHINE_FILE).exists():
            return dict(json.loads((folder / MACHINE_FILE).read_text()))
        found = _loaded(_result_files(folder, _silently), _silently)
        return _hardware(found[0].record) if found else unknown
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return {}  # nobody can tell: it is not taken for this machine's


def _alike(hardware: dict[str, Any], other: dict[str, Any]) -> bool:
    if any(hardware[name] != other.get(name) for name in ("cpu", "cores", "gpus")):
        return False
    memory, other_memory = hardware["memory_bytes"], other.get("memory_bytes")
    return isinstance(other_memory, int) and abs(memory - other_memory) <= SAME_MEMORY * memory


def _reason(error: OSError | ValueError | RecursionError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _categories_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-categories.tsv")
