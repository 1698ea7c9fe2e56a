"""From the outcomes of all workers to the record of a run."""

from __future__ import annotations

import datetime
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from spdnn_cli import __version__, machine, problem
from spdnn_cli.challenge.official import official_depth
from spdnn_cli.engines.protocol import Inference
from spdnn_cli.network.dataset import Dataset
from spdnn_cli.network.layers import Int32
from spdnn_cli.results.record import (
    Cuda,
    Data,
    Launch,
    Launcher,
    Moved,
    Program,
    Record,
    Repetition,
    Samples,
    Shortcuts,
    Stages,
    Stream,
    Timings,
    Verification,
    Worker,
    alive_stretches,
)
from spdnn_cli.results.store import categories_sha256
from spdnn_cli.run.options import RunOptions
from spdnn_cli.run.rank import Outcome
from spdnn_cli.run.rebalance import MoveStats
from spdnn_cli.run.shares import share_of
from spdnn_cli.run.stream import StreamStats
from spdnn_cli.sources import sources_sha256
from spdnn_cli.workspace import Workspace

if TYPE_CHECKING:
    from spdnn_cli.results.store import Lifetimes

SUITE_VARIABLE = "SPDNN_SUITE"
"""The environment variable that names the suite of a run; `spdnn bench` sets it."""


def joined(inferences: Sequence[Inference]) -> Inference:
    """The inference of all ranks."""
    depth = max(len(inference.alive) for inference in inferences)
    alive = np.zeros(depth, np.int64)
    for inference in inferences:
        alive[: len(inference.alive)] += inference.alive
        # Layers that a rank did not need: its images had finished, and those alive stay so.
        alive[len(inference.alive) :] += inference.alive[-1] if inference.alive else 0
    categories = np.sort(np.concatenate([inference.categories for inference in inferences]))
    executed = sum(inference.executed_edges for inference in inferences)
    return Inference(categories, executed, tuple(alive.tolist()))


def make_record(
    workspace: Workspace,
    dataset: Dataset,
    options: RunOptions,
    launcher: Launcher,
    outcomes: Sequence[Outcome],
    verification: Verification,
    of_first_pass: Int32,
    seconds: dict[str, float],
) -> Record:
    """The record of a run.

    Args:
        workspace: the record names the dataset relative to its data folder.
        dataset: the dataset that ran.
        options: those of the run, with the number of threads.
        launcher: what started the workers.
        outcomes: the outcome of each worker, by rank.
        verification: that of the categories.
        of_first_pass: int32: the categories of one pass over the images.
        seconds: the stages "convert", "gather" and "end_to_end".
    """
    layers, images = options.settled_layers(dataset), options.settled_images(dataset)
    inference, first = joined([outcome.inference for outcome in outcomes]), outcomes[0]
    infer = _samples(
        [max(run) for run in zip(*(outcome.warmup for outcome in outcomes), strict=True)],
        [max(run) for run in zip(*(outcome.samples for outcome in outcomes), strict=True)],
    )
    edges = images * dataset.network(layers).edges
    cuda = None if first.cuda is None else Cuda(**first.cuda)
    return Record(
        id="not-saved",
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
        suite=os.environ.get(SUITE_VARIABLE) or None,
        program=Program(__version__, sources_sha256()),
        command=("spdnn", *map(_as_text, sys.argv[1:])),
        options=Repetition(options.warmup, options.repeat),
        neurons=dataset.neurons,
        layers=layers,
        images=images,
        engine=_as_text(first.choice.engine),
        engine_reason=first.choice.reason,
        engine_options={k: _as_text(v) for k, v in options.own_of(first.choice.engine).items()},
        engine_settings=first.settings,
        device=first.choice.device,
        threads=options.threads,
        device_memory=options.device_memory,
        shortcuts=Shortcuts(**asdict(first.shortcuts)),
        dataset=_data(workspace, dataset, layers),
        survivors=len(inference.categories),
        categories_sha256=categories_sha256(of_first_pass),
        verification=verification,
        timings_s=Timings(
            **{
                stage: max(outcome.stages[stage] for outcome in outcomes)
                for stage in ("read", "prepare", "compile", "upload")
            },
            infer=infer,
            **seconds,
        ),
        edges=edges,
        effective_teraedges_per_s=edges / infer.median / 1e12,
        executed_edges=inference.executed_edges,
        executed_teraedges_per_s=inference.executed_edges / infer.median / 1e12,
        alive=alive_stretches(inference.alive),
        launch=Launch(
            launcher, len(outcomes), options.partition, options.rebalance, options.broadcast
        ),
        workers=tuple(map(_worker, outcomes)),
        imbalance=_imbalance(outcomes),
        stream=_stream(outcomes, images, infer.median),
        machine=msgspec.structs.replace(machine.describe(), cuda=cuda),
        peak_memory_bytes=max(outcome.peak_memory_bytes for outcome in outcomes),
    )


def _as_text(word: str) -> str:
    """A word of the user's as JSON can hold it: a file's name may have bytes that are no text."""
    return word.encode("utf-8", "backslashreplace").decode("utf-8")


def lifetimes_of(
    outcomes: Sequence[Outcome], options: RunOptions, dataset: Dataset
) -> Lifetimes | None:
    """The lifetimes of all images, in their order; of one pass if they repeat."""
    if not options.trace:
        return None
    images = options.settled_images(dataset)
    lifetimes = np.empty(min(images, dataset.images), np.uint16)
    for outcome in outcomes:
        own = share_of(outcome.rank, len(outcomes), images, dataset.images, options.partition)
        lifetimes[own.rows] = outcome.lifetimes
    return lifetimes


def _samples(warmup: list[float], samples: list[float]) -> Samples:
    return Samples(tuple(warmup), tuple(samples), statistics.median(samples))


def _imbalance(outcomes: Sequence[Outcome]) -> float:
    """The median seconds of the slowest worker, divided by the mean of all workers."""
    medians = [statistics.median(outcome.samples) for outcome in outcomes]
    return max(medians) / statistics.mean(medians)


def _stream(outcomes: Sequence[Outcome], images: int, seconds: float) -> Stream | None:
    """The bytes and speeds of a streamed run, of all workers together; None: another run."""
    all_stats = [o.stats for o in outcomes if isinstance(o.stats, StreamStats)]
    if not all_stats:
        return None
    moved = sum(stats.bytes for stats in all_stats)
    buses = [stats.bus_bytes_per_s for stats in all_stats]
    bus = sum(speed for speed in buses if speed is not None) if None not in buses else None
    return Stream(
        chunk_images=all_stats[0].chunk_images,
        chunks=sum(stats.chunks for stats in all_stats),
        images_per_s=images / seconds,
        bytes=moved,
        bytes_per_s=moved / seconds,
        bus_bytes_per_s=bus,
        bus_share=None if bus is None else moved / seconds / bus,
    )


def _worker(outcome: Outcome) -> Worker:
    stages = {stage: outcome.stages[stage] for stage in ("read", "prepare", "compile", "upload")}
    return Worker(
        rank=outcome.rank,
        host=outcome.host,
        device=outcome.choice.device,
        device_index=outcome.device_index,
        device_name=outcome.device_name,
        uuid=outcome.uuid,
        threads=outcome.threads,
        images=outcome.images,
        survivors=len(outcome.inference.categories),
        executed_edges=outcome.inference.executed_edges,
        timings_s=Stages(**stages, infer=_samples(outcome.warmup, outcome.samples)),
        rebalanced=_moved(outcome.stats),
        clocks=outcome.clocks,
        peak_memory_bytes=outcome.peak_memory_bytes,
    )


def _moved(stats: Any) -> Moved | None:
    """The numbers of a worker's live images before and after they were rebalanced."""
    if not isinstance(stats, MoveStats):
        return None
    return Moved(stats.before, stats.after, stats.move_seconds)


def _data(workspace: Workspace, dataset: Dataset, layers: int) -> Data:
    path = dataset.path.resolve()
    made = dict(dataset.provenance)
    return Data(
        # A file in `data_dir` is stored without its folder, so that the folder can be moved.
        file=_as_text(path.name if path.parent == workspace.data_dir.resolve() else str(path)),
        source=str(made.pop("source", "unknown")),
        images=dataset.images,
        official_inputs=dataset.features_sha256 == problem.FEATURES_SHA256.get(dataset.neurons),
        official_network=official_depth(dataset, layers) == layers,
        features_sha256=dataset.features_sha256,
        network_sha256=dataset.network_sha256(layers),
        provenance=made,
    )
