"""One measured run: dataset to engine to verified, timed result record."""

from __future__ import annotations

import datetime
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spdnn_cli import __version__, engines, machine
from spdnn_cli.dataset import Dataset
from spdnn_cli.engines import EngineOptions, Inference, Progress
from spdnn_cli.errors import DataError, VerificationError
from spdnn_cli.network import Int32, Network
from spdnn_cli.timing import Stopwatch
from spdnn_cli.verify import categories_sha256, difference, known_truth
from spdnn_cli.workspace import Workspace


@dataclass(frozen=True)
class RunOptions:
    """What to run, and how often.

    Attributes:
        layers: the depth of the problem; None: all layers of the dataset.
        images: the first so many images; None: all.
        engine: a name of `engines.ENGINES`, or "auto".
        device: "cpu" or "cuda"; None: the best that is present.
        threads: CPU threads.
        device_memory: bytes of device memory to use; None: all that is free.
        retire: whether finished images may leave the run.
        warmup: runs before the timed ones.
        repeat: timed runs.
    """

    layers: int | None = None
    images: int | None = None
    engine: str = "auto"
    device: str | None = None
    threads: int = 1
    device_memory: int | None = None
    retire: bool = True
    warmup: int = 1
    repeat: int = 5


def run(
    workspace: Workspace, dataset: Dataset, options: RunOptions, progress: Progress | None = None
) -> tuple[dict[str, Any], Int32]:
    """Run an engine on a dataset and measure it.

    Returns:
        The record (what `result.save` writes), and the categories, int32, ascending, from 0.

    Raises:
        DataError: the dataset has fewer layers or images than asked for, or is damaged.
        EngineError: the engine does not run on the device.
        VerificationError: two runs of the same engine gave different categories.
    """
    stopwatch = Stopwatch()
    layers = dataset.layers if options.layers is None else options.layers
    images = dataset.images if options.images is None else options.images
    if images > dataset.images:
        raise DataError(f"has {dataset.images} images, {images} were asked for", path=dataset.path)
    with stopwatch.stage("read"):
        network = dataset.network(layers)
        features = dataset.features(0, images, options.threads)
    choice = engines.choose(options.engine, options.device, machine.best_device(), network)
    engine_options = EngineOptions(
        threads=options.threads,
        retire=options.retire,
        stopwatch=stopwatch,
        progress=progress,
        device_memory=options.device_memory,
    )
    engine = engines.create(choice.engine, engine_options)
    engine.prepare(network)
    engine.upload(features)
    warmups = [_timed(engine, stopwatch) for _ in range(options.warmup)]
    samples = [_timed(engine, stopwatch) for _ in range(options.repeat)]
    inference = _agreed([inference for inference, _ in warmups + samples])

    truth = known_truth(workspace, dataset, layers, images)
    wrong = None if truth is None else difference(inference.categories, truth)
    timings: dict[str, Any] = {
        stage: seconds for stage, seconds in stopwatch.seconds.items() if stage != "infer"
    }
    timings["infer"] = {
        "warmup": [seconds for _, seconds in warmups],
        "samples": [seconds for _, seconds in samples],
        "median": statistics.median(seconds for _, seconds in samples),
    }
    record = {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
        "program": f"spdnn {__version__}",
        "command": sys.argv,
        "neurons": dataset.neurons,
        "layers": layers,
        "images": images,
        "engine": choice.engine,
        "engine_reason": choice.reason,
        "device": choice.device,
        "threads": options.threads,
        "device_memory": options.device_memory,
        "shortcuts": asdict(engine.shortcuts),
        "dataset": _provenance(workspace, dataset, layers),
        "survivors": len(inference.categories),
        "categories_sha256": categories_sha256(inference.categories),
        "verified": truth is not None and wrong is None,
        "verified_against": None if truth is None else truth.source,
        "difference": wrong,
        "timings_s": timings,
        **_rates(network, images, inference, timings["infer"]["median"]),
        "alive": list(inference.alive),
        "machine": machine.describe(),
    }
    timings["end_to_end"] = machine.seconds_since_start()
    record["peak_memory_bytes"] = machine.peak_memory_bytes()
    return record, inference.categories


def _timed(engine: engines.Engine, stopwatch: Stopwatch) -> tuple[Inference, float]:
    with stopwatch.stage("infer"):
        inference = engine.infer()
    return inference, stopwatch.take("infer")


def _agreed(inferences: list[Inference]) -> Inference:
    """The outcome that all runs share."""
    first = inferences[0]
    for number, other in enumerate(inferences[1:], start=2):
        if not np.array_equal(first.categories, other.categories):
            raise VerificationError(
                f"run {number} found {len(other.categories)} categories, run 1 "
                f"{len(first.categories)}, or others of the same number",
                hint="The engine is at fault; please report this.",
            )
    return first


def _rates(network: Network, images: int, inference: Inference, seconds: float) -> dict[str, Any]:
    """The challenge's rate (all edges of the problem), and what ran."""
    edges = images * network.edges
    return {
        "edges": edges,
        "effective_teraedges_per_s": edges / seconds / 1e12,
        "executed_edges": inference.executed_edges,
        "executed_teraedges_per_s": inference.executed_edges / seconds / 1e12,
    }


def _provenance(workspace: Workspace, dataset: Dataset, layers: int) -> dict[str, Any]:
    from spdnn_cli import problem

    path = dataset.path.resolve()
    official_inputs = dataset.features_sha256 == problem.FEATURES_SHA256.get(dataset.neurons)
    return {
        "source": "unknown",
        **dataset.provenance,
        # Below `data_dir` by its name, so that the folders can be moved.
        "file": path.name if path.parent == workspace.data_dir.resolve() else str(path),
        "official_inputs": official_inputs,
        "official_network": dataset.official_layers >= layers,
        "features_sha256": dataset.features_sha256,
        "network_sha256": dataset.network_sha256(layers),
    }
