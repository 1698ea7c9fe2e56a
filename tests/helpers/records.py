"""Records of runs made by hand, for the tests of whatever reads results."""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.results.record import Record, alive_stretches, encode
from spdnn_cli.results.store import LISTS, Result, categories_text

MACHINE = "1x-nvidia-h100-80gb-hbm3"
H100 = {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-1", "driver": "580"}
TRILLION = 10**12

UNVERIFIED = {"verification__status": "not verified"}
COUNT_ONLY = {"verification__status": "count only"}
WRONG = {"verification__status": "wrong", "verification__difference": "1 missing"}
OFFICIAL = {"neurons": 1024, "layers": 120, "images": 60_000}
"""The smallest problem of the challenge."""
SYNTHETIC = {"dataset__official_inputs": False, "dataset__source": "synthetic"}
STREAM = {
    "chunk_images": 5,
    "chunks": 2,
    "images_per_s": 10.0,
    "bytes": 10,
    "bytes_per_s": 10.0,
    "bus_bytes_per_s": None,
    "bus_share": None,
}

_numbers = itertools.count(1)


def made(
    engine: str = "tiled",
    seconds: float | Sequence[float] = 1.0,
    *,
    ranks: Sequence[float] | None = None,
    alive: Sequence[int] = (5, 5, 3, 3),
    edges: int = 12 * TRILLION,
    folder: str = MACHINE,
    threads: int = 2,
    **changes: Any,
) -> Result:
    """A verified run of 8 neurons, 4 layers, 10 images and 12 tera-edges, on one device.

    Args:
        engine: its entry in the registry says on which device it runs, and whether it folds.
        seconds: of the timed runs; one number stands for two alike.
        ranks: the seconds of each worker; None: of one, or of as many as `launch__workers` says,
            the same as of the whole run.
        alive: images after each layer.
        edges: that the challenge counts; half of them ran.
        folder: the machine's.
        threads: of each worker, on a CPU.
        changes: other entries by name; `a__b` is entry b of part a.
    """
    samples = (seconds, seconds) if isinstance(seconds, int | float) else tuple(seconds)
    median = statistics.median(samples)
    entry = ENGINES.get(engine)
    device = changes.pop("device", entry.device if entry else "cuda")
    folds = entry is not None and entry.folds
    ranks = ranks or [median] * changes.get("launch__workers", 1)
    spread = len(ranks) > 1
    content: dict[str, Any] = {
        "id": f"run-{next(_numbers)}",
        "created": "2026-11-23T10:00:00.000+00:00",
        "program": {"version": "1", "sources_sha256": None},
        "command": ["spdnn", "infer"],
        "options": {"warmup": 0, "repeat": len(samples)},
        "neurons": 8,
        "layers": 4,
        "images": 10,
        "engine": engine,
        "engine_reason": "asked for",
        "device": device,
        "threads": threads,
        "device_memory": None,
        "shortcuts": {
            "dead_images_dropped": True,
            "twins_folded": folds,
            "finished_images_retired": folds,
        },
        "dataset": {
            "file": "neuron8.h5",
            "source": "mnist",
            "images": 60_000,
            "official_inputs": True,
            "official_network": True,
            "features_sha256": "f" * 64,
            "network_sha256": "e" * 64,
        },
        "survivors": 3,
        "categories_sha256": "d" * 64,
        "verification": {"status": "verified", "against": "a truth"},
        "timings_s": {**_stages(samples), "convert": 0.0, "gather": 0.0, "end_to_end": 9.0},
        "edges": edges,
        "effective_teraedges_per_s": edges / median / TRILLION,
        "executed_edges": edges // 2,
        "executed_teraedges_per_s": edges / 2 / median / TRILLION,
        "alive": alive_stretches(alive),
        "launch": {
            "launcher": "processes" if spread else "alone",
            "workers": len(ranks),
            "partition": "snake",
            "rebalance_layer": None,
            "broadcast": False,
        },
        "workers": [_worker(k, rank, device, threads) for k, rank in enumerate(ranks)],
        "imbalance": max(ranks) / statistics.mean(ranks),
        "machine": {
            "cpu": "Intel Xeon",
            "cores": 16,
            "memory_bytes": 2**36,
            "gpus": [H100],
            "system": "Linux",
            "python": "3.12",
            "packages": {},
        },
        "peak_memory_bytes": None,
    }
    for name, value in changes.items():
        _set(content, name.split("__"), value)
    record = msgspec.convert(content, Record)
    return Result(record, Path("results") / folder / f"{record.id}.json")


def _stages(samples: Sequence[float]) -> dict[str, Any]:
    infer = {"warmup": [], "samples": samples, "median": statistics.median(samples)}
    return {"read": 0.0, "prepare": 0.0, "compile": 0.0, "upload": 0.0, "infer": infer}


def _worker(rank: int, seconds: float, device: str, threads: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "host": "vm",
        "device": device,
        "device_index": rank if device == "cuda" else None,
        "device_name": "a device",
        "uuid": None,
        "threads": threads,
        "images": 1,
        "survivors": 1,
        "executed_edges": 1,
        "timings_s": _stages([seconds]),
        "rebalanced": None,
        "clocks": None,
        "peak_memory_bytes": None,
    }


def _set(content: dict[str, Any], path: list[str], value: Any) -> None:
    *parts, last = path
    for part in parts:
        content = content[part]
    content[last] = value


def on_devices(
    ranks: Sequence[float] | int,
    seconds: float | None = None,
    partition: str = "snake",
    **changes: Any,
) -> Result:
    """A run on some of the eight GPUs of a machine.

    Args:
        ranks: the seconds of each rank, or how many there are.
        seconds: of the run; None: of the slowest rank.
        partition: how they share the images.
        changes: as of `made`.
    """
    if isinstance(ranks, int):
        assert seconds is not None
        ranks = [seconds] * ranks
    gpus = [{"name": "NVIDIA H200", "uuid": f"GPU-{k}", "driver": "580"} for k in range(8)]
    return made(
        seconds=max(ranks) if seconds is None else seconds,
        ranks=ranks,
        folder="8x-nvidia-h200",
        **({"machine__gpus": gpus, "launch__partition": partition} | changes),
    )  # fmt: skip


def changed(result: Result, **changes: Any) -> Result:
    """The same with other entries, as `made` takes them."""
    content = msgspec.to_builtins(result.record)
    for name, value in changes.items():
        _set(content, name.split("__"), value)
    return Result(msgspec.convert(content, Record), result.path)


def written(result: Result, root: Path, name: str | None = None) -> Result:
    """The result as a file below `root`, in the folder of its machine; `name` replaces its name."""
    path = root / result.machine / f"{name or result.record.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(encode(result.record))
    return Result(result.record, path)


def traced(
    result: Result, root: Path, lifetimes: Sequence[int], categories: Sequence[int]
) -> Result:
    """The result as a file below `root`, with lifetimes and categories stored as a run's are."""
    folder = root / LISTS
    folder.mkdir(parents=True, exist_ok=True)
    text = categories_text(np.array(categories, np.int32)).encode()
    np.save(folder / "new.npy", np.array(lifetimes, np.uint16))
    array = (folder / "new.npy").read_bytes()
    sums = [hashlib.sha256(content).hexdigest() for content in (text, array)]
    (folder / "new.npy").rename(folder / f"{sums[1]}.npy")
    (folder / f"{sums[0]}.tsv").write_bytes(text)
    return written(changed(result, categories_sha256=sums[0], lifetimes_sha256=sums[1]), root)
