"""One measured run: what the workers found becomes one verified, timed result record."""

from __future__ import annotations

import datetime
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spdnn_cli import __version__, cores, machine, problem
from spdnn_cli.challenge.official import official_depth
from spdnn_cli.engines.protocol import Inference, Progress
from spdnn_cli.network.dataset import Dataset
from spdnn_cli.network.layers import Int32
from spdnn_cli.partition import share
from spdnn_cli.run import mpi
from spdnn_cli.run import processes as launch
from spdnn_cli.run.rank import Alone, Outcome, Report, RunOptions, work
from spdnn_cli.run.rebalance import MoveReport
from spdnn_cli.run.stream import StreamReport
from spdnn_cli.run.truth import Truth, categories_sha256, difference, known_truth
from spdnn_cli.timing import STAGES
from spdnn_cli.workspace import Workspace

__all__ = ["Launch", "Measured", "RunOptions", "run"]


@dataclass(frozen=True)
class Launch:
    """How many workers, and how they come about.

    Attributes:
        workers: processes on this machine, a device each; ignored under MPI.
        broadcast: under MPI, whether rank 0's dataset goes to all ranks.
        launcher: "alone", "processes" or "mpi"; None: as found.
    """

    workers: int = 1
    broadcast: bool = False
    launcher: str | None = None

    def settled(self) -> str:
        """The launcher: MPI where this process is one of its ranks."""
        if self.launcher is not None:
            return self.launcher
        if mpi.ranks() > 1:
            return "mpi"
        return "alone" if self.workers == 1 else "processes"


@dataclass(frozen=True, eq=False)
class Measured:
    """A run.

    Attributes:
        record: what `result.save` writes.
        categories: int32, ascending, from 0; of one pass where images come again: others are alike.
        lifetimes: uint16 (images), layers that each image entered; None: not asked for.
        no_gpu: why the GPU that is there was not taken; None: it was, or there is none.
    """

    record: dict[str, Any]
    categories: Int32
    lifetimes: Any
    no_gpu: str | None = None


def run(
    workspace: Workspace,
    find: Callable[[], Dataset],
    options: RunOptions,
    how: Launch | None = None,
    progress: Progress | None = None,
) -> Measured | None:
    """Run an engine on a dataset, on one device or on many, and measure it.

    Args:
        workspace: where truths are.
        find: finds or makes the dataset.
        options: what to run; `threads` 0: all cores, shared by the workers of a machine.
        how: on how many workers.
        progress: told how far a run on one device is.

    Returns:
        The run; None on the ranks of an MPI job other than 0.

    Raises:
        SpdnnError: see `worker.work`, `launch.run_processes` and `mpi.run_ranks`.
    """
    how = how or Launch()
    launcher = how.settled()
    if launcher == "mpi":
        return _run_ranks(workspace, find, options, how)
    dataset = find()
    threads = options.threads or max(1, cores.available_cores() // how.workers)
    options = replace(options, threads=threads)
    gather = 0.0
    if launcher == "alone":
        outcomes = [work(Alone(), dataset.path, options, None, progress)]
    else:
        on_gpu = options.device == "cuda"
        places = [rank if on_gpu else None for rank in range(how.workers)]
        outcomes, gather = launch.run_processes(dataset.path, options, places)
    return _measured(workspace, dataset, options, how, launcher, outcomes, gather)


def _run_ranks(
    workspace: Workspace, find: Callable[[], Dataset], options: RunOptions, how: Launch
) -> Measured | None:
    world = mpi.communicator()
    try:
        found: list[Dataset] = []

        def find_path() -> Path:
            found.append(find())
            return found[0].path.resolve()

        gathered = mpi.run_ranks(world, find_path, options, how.broadcast)
        if gathered is None:
            return None
        outcomes, gather = gathered
        options = replace(options, threads=outcomes[0].threads)
        return _measured(workspace, found[0], options, how, "mpi", outcomes, gather)
    except BaseException as error:
        mpi.stop_all(world, error)
        raise


def _measured(
    workspace: Workspace,
    dataset: Dataset,
    options: RunOptions,
    how: Launch,
    launcher: str,
    outcomes: list[Outcome],
    gather: float,
) -> Measured:
    layers = dataset.layers if options.layers is None else options.layers
    images = dataset.images if options.images is None else options.images
    inference = _joined([outcome.inference for outcome in outcomes])
    end_to_end = machine.seconds_since_start()  # what follows is no part of the run
    truth = known_truth(workspace, dataset, layers, min(images, dataset.images))
    if truth is None:
        dataset.check(layers)  # the record names its checksums
    wrong = _difference(inference.categories, truth, dataset.images)
    of_first_pass = inference.categories[inference.categories < dataset.images]
    timings = _timings(outcomes, gather)
    first = outcomes[0]
    record = {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
        "program": f"spdnn {__version__}",
        "command": ["spdnn", *sys.argv[1:]],
        "options": {"warmup": options.warmup, "repeat": options.repeat},
        "neurons": dataset.neurons,
        "layers": layers,
        "images": images,
        "engine": first.choice.engine,
        "engine_reason": first.choice.reason,
        "device": first.choice.device,
        "threads": options.threads,
        "device_memory": options.device_memory,
        "features": options.features,
        "tile": first.tile,
        "launch": {
            "launcher": launcher,
            "workers": len(outcomes),
            "partition": options.partition,
            "rebalance_layer": options.rebalance,
            "broadcast": how.broadcast,
        },
        "shortcuts": asdict(first.shortcuts),
        "dataset": _provenance(workspace, dataset, layers),
        "survivors": len(inference.categories),
        "categories_sha256": categories_sha256(of_first_pass),
        "verified": truth is not None and wrong is None,
        "verified_against": None if truth is None else truth.source,
        "difference": wrong,
        "timings_s": timings,
        **_rates(images * _edges(dataset, layers), inference, timings["infer"]["median"]),
        "alive": list(inference.alive),
        "imbalance": _imbalance(outcomes),
        "stream": _stream(outcomes, images, timings["infer"]["median"]),
        "workers": [_worker(outcome) for outcome in outcomes],
        "machine": machine.describe() | {"cuda": first.cuda},
    }
    timings["end_to_end"] = end_to_end
    record["peak_memory_bytes"] = max(outcome.peak_memory_bytes for outcome in outcomes)
    lifetimes = _lifetimes(outcomes, options, dataset, images)
    return Measured(record, of_first_pass, lifetimes, first.choice.no_gpu)


def _joined(inferences: list[Inference]) -> Inference:
    """The outcome of all ranks."""
    depth = max(len(inference.alive) for inference in inferences)
    alive = np.zeros(depth, np.int64)
    for inference in inferences:
        alive[: len(inference.alive)] += inference.alive
        # Layers that a rank did not need: its images had finished, and those alive stay so.
        alive[len(inference.alive) :] += inference.alive[-1] if inference.alive else 0
    categories = np.sort(np.concatenate([inference.categories for inference in inferences]))
    executed = sum(inference.executed_edges for inference in inferences)
    return Inference(categories, executed, tuple(alive.tolist()))


def _difference(categories: Int32, truth: Truth | None, images: int) -> str | None:
    """How the categories differ from the truth; image i is image i % `images` of the dataset."""
    if truth is None:
        return None
    first = categories[categories < images]
    wrong = difference(first, truth)
    if wrong is not None:
        return wrong
    last = int(categories.max(initial=0)) // images
    for number in range(1, last + 1):
        again = categories[(categories >= number * images) & (categories < (number + 1) * images)]
        again = again - number * images
        whole = first if number < last else first[: len(again)]
        if not np.array_equal(again, whole):
            return f"pass {number + 1} over the images found others than the first one"
    return None


def _timings(outcomes: list[Outcome], gather: float) -> dict[str, Any]:
    """The slowest worker's seconds of each stage and each run."""
    timings: dict[str, Any] = {
        stage: max(outcome.stages[stage] for outcome in outcomes)
        for stage in STAGES
        if stage != "infer"
    }
    timings["gather"] = gather
    timings["infer"] = _infer(
        [max(seconds) for seconds in zip(*(o.warmup for o in outcomes), strict=True)],
        [max(seconds) for seconds in zip(*(o.samples for o in outcomes), strict=True)],
    )
    return timings


def _infer(warmup: list[float], samples: list[float]) -> dict[str, Any]:
    return {"warmup": warmup, "samples": samples, "median": statistics.median(samples)}


def _imbalance(outcomes: list[Outcome]) -> float:
    """The slowest worker's median seconds over the mean of all."""
    medians = [statistics.median(outcome.samples) for outcome in outcomes]
    return max(medians) / statistics.mean(medians)


def _edges(dataset: Dataset, layers: int) -> int:
    return dataset.network(layers).edges


def _rates(edges: int, inference: Inference, seconds: float) -> dict[str, Any]:
    """The challenge's rate (all edges of the problem), and what ran."""
    return {
        "edges": edges,
        "effective_teraedges_per_s": edges / seconds / 1e12,
        "executed_edges": inference.executed_edges,
        "executed_teraedges_per_s": inference.executed_edges / seconds / 1e12,
    }


def _stream(outcomes: list[Outcome], images: int, seconds: float) -> dict[str, Any] | None:
    """What a streamed run moved, all workers together."""
    reports = [o.report for o in outcomes if isinstance(o.report, StreamReport)]
    if not reports:
        return None
    moved = sum(report.bytes for report in reports)
    buses = [report.bus_bytes_per_s for report in reports]
    bus = sum(speed for speed in buses if speed is not None) if None not in buses else None
    return {
        "chunk_images": reports[0].chunk_images,
        "chunks": sum(report.chunks for report in reports),
        "images_per_s": images / seconds,
        "bytes": moved,
        "bytes_per_s": moved / seconds,
        "bus_bytes_per_s": bus,
        "bus_share": None if bus is None else moved / seconds / bus,
    }


def _worker(outcome: Outcome) -> dict[str, Any]:
    return {
        "rank": outcome.rank,
        "host": outcome.host,
        "device": outcome.choice.device,
        "device_index": outcome.device_index,
        "device_name": outcome.device_name,
        "uuid": outcome.uuid,
        "threads": outcome.threads,
        "images": outcome.images,
        "survivors": len(outcome.inference.categories),
        "executed_edges": outcome.inference.executed_edges,
        "timings_s": {**outcome.stages, "infer": _infer(outcome.warmup, outcome.samples)},
        "rebalanced": _moved(outcome.report),
        "clocks": outcome.clocks,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }


def _moved(report: Report | None) -> dict[str, Any] | None:
    """What came of a worker's images when they were evened out."""
    if not isinstance(report, MoveReport):
        return None
    return {
        "images_before": report.before,
        "images_after": report.after,
        "seconds": report.move_seconds,
    }


def _lifetimes(
    outcomes: list[Outcome], options: RunOptions, dataset: Dataset, images: int
) -> Any | None:
    """The lifetimes of all images, in their order; of one pass where they come again."""
    if not options.trace:
        return None
    present = min(images, dataset.images)
    lifetimes = np.empty(present, np.uint16)
    for outcome in outcomes:
        own = share(outcome.rank, len(outcomes), present, options.partition)
        lifetimes[own] = outcome.lifetimes
    return lifetimes


def _provenance(workspace: Workspace, dataset: Dataset, layers: int) -> dict[str, Any]:
    path = dataset.path.resolve()
    official_inputs = dataset.features_sha256 == problem.FEATURES_SHA256.get(dataset.neurons)
    return {
        "source": "unknown",
        **dataset.provenance,
        # Below `data_dir` by its name, so that the folders can be moved.
        "file": path.name if path.parent == workspace.data_dir.resolve() else str(path),
        "official_inputs": official_inputs,
        "official_network": official_depth(dataset, layers) == layers,
        "features_sha256": dataset.features_sha256,
        "network_sha256": dataset.network_sha256(layers),
    }
