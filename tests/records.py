"""Results made by hand, for the tests of tables, pictures and pages."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from spdnn_cli.results.store import Result
from spdnn_cli.run.truth import categories_sha256, categories_text

MACHINE = "1x-nvidia-h100-80gb-hbm3"
ENGINES_THAT_FOLD = ("folded", "cpu")


def made(engine: str = "tiled", *, folder: str = MACHINE, **changes: Any) -> Result:
    """A result of 8 neurons, 4 layers, 10 images and 16 edges a layer, 640 in all, in 1 second.

    Five images are alive after layers 1 and 2, then three. `changes` replace entries.
    """
    folds = engine in ENGINES_THAT_FOLD
    record: dict[str, Any] = {
        "schema_version": 2,
        "created": "2026-11-23T10:00:00.000+00:00",
        "options": {"warmup": 0, "repeat": 2},
        "neurons": 8,
        "layers": 4,
        "images": 10,
        "engine": engine,
        "device": "cuda",
        "threads": 2,
        "shortcuts": {
            "dead_images_dropped": True,
            "twins_folded": folds,
            "finished_images_retired": folds,
        },
        "dataset": {
            "source": "mnist",
            "official_inputs": True,
            "official_network": True,
            "features_sha256": "f" * 64,
            "network_sha256": "e" * 64,
        },
        "survivors": 3,
        "categories_sha256": "d" * 64,
        "verified": True,
        "difference": None,
        "timings_s": {"infer": {"warmup": [], "samples": [1.0, 1.0], "median": 1.0}},
        "edges": 640,
        "effective_teraedges_per_s": 2.0,
        "executed_edges": 320,
        "executed_teraedges_per_s": 0.5,
        "alive": [5, 5, 3, 3],
        "machine": {
            "cpu": "Intel Xeon",
            "cores": 16,
            "gpus": [{"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-1", "driver": "580"}],
            "cuda": None,
        },
        "launch": {
            "launcher": "alone",
            "workers": 1,
            "partition": "contiguous",
            "rebalance_layer": None,
            "broadcast": False,
        },
        "workers": [{"host": "vm", "threads": 2, "timings_s": {"infer": {"median": 1.0}}}],
        "imbalance": 1.0,
        "stream": None,
        "tile": None,
        "lifetimes": None,
        "device_memory": None,
    }
    record |= changes
    return Result(Path("results") / folder / f"{engine}.json", record)


def timed(*samples: float) -> dict[str, Any]:
    """The change that gives a result these timed runs, and their median."""
    median = statistics.median(samples)
    return {"timings_s": {"infer": {"warmup": [], "samples": list(samples), "median": median}}}


def written(result: Result, root: Path, name: str | None = None) -> Result:
    """The result as a file below `root`, in the folder of its machine; `name` replaces its name."""
    path = root / result.path.parent.name / f"{name or result.path.stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.record))
    return Result(path, result.record)


def on_devices(count: int, seconds: float, partition: str, **changes: Any) -> Result:
    """The same on `count` of the eight GPUs of a machine."""
    gpus = [{"name": "NVIDIA H200", "uuid": f"GPU-{k}", "driver": "580"} for k in range(8)]
    launch = {
        "launcher": "alone" if count == 1 else "processes",
        "workers": count,
        "partition": partition,
        "rebalance_layer": None,
        "broadcast": False,
    }
    result = made(
        folder="8x-nvidia-h200",
        timings_s={"infer": {"warmup": [], "samples": [seconds] * 2, "median": seconds}},
        launch=launch,
        workers=[{"host": "vm", "threads": 2, "timings_s": {"infer": {"median": seconds}}}] * count,
        **changes,
    )
    result.record["machine"] = result.record["machine"] | {"gpus": gpus}
    return Result(result.path.with_name(f"{count}-{partition}.json"), result.record)


def traced(result: Result, root: Path, lifetimes: list[int], categories: list[int]) -> Result:
    """The result below `root`, with lifetimes and categories beside it as `result.save` writes."""
    path = root / result.path.parent.name / result.path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.stem}-lifetimes.npy")
    np.save(file, np.array(lifetimes, np.uint16))
    survivors = np.array(categories, np.int32)
    path.with_name(f"{path.stem}-categories.tsv").write_text(categories_text(survivors))
    known = {
        "lifetimes": {"file": file.name},
        "categories_sha256": categories_sha256(survivors),
    }
    return Result(path, result.record | known)
