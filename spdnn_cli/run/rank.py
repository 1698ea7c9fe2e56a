"""What one rank does: its share of the images, on its device, in step with the other ranks.

The same function runs alone in this process, in spawned processes (processes.py) and under MPI
(mpi.py). Ranks read the dataset for themselves, and exchange nothing until the end: images do not
depend on each other.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spdnn_cli import machine, nvidia
from spdnn_cli.engines.choice import Choice, choose
from spdnn_cli.engines.protocol import Engine, EngineOptions, Inference, LayerProgress, Shortcuts
from spdnn_cli.engines.registry import ENGINES, create, find
from spdnn_cli.errors import DeviceError, EngineError, VerificationError
from spdnn_cli.network.dataset import Dataset, open_dataset
from spdnn_cli.network.layers import Features, Int64, Network
from spdnn_cli.results.record import Clocks, Device
from spdnn_cli.run.choices import KeptChoices, choices_file
from spdnn_cli.run.options import RunOptions
from spdnn_cli.run.rebalance import ExchangingGroup, MoveStats, Rebalanced
from spdnn_cli.run.shares import Share, share_of
from spdnn_cli.run.stream import Stream, StreamStats
from spdnn_cli.timing import Stopwatch


class Group(ExchangingGroup, Protocol):
    """The ranks that run together; `rank` is this one, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def barrier(self) -> None:
        """Wait until every rank is here."""


@dataclass(frozen=True)
class Alone:
    """A group of one rank, which waits for no other and sends nothing."""

    rank: int = 0
    size: int = 1

    def barrier(self) -> None: ...

    def all_of(self, value: Any) -> list[Any]:
        """The one value."""
        return [value]

    def exchange(self, gives: dict[int, Any], takes: dict[int, Any]) -> None: ...


@dataclass(frozen=True)
class InMemoryStats:
    """Measurements of a run of images that were uploaded before: `seconds` of inference."""

    seconds: float


RunStats = InMemoryStats | StreamStats | MoveStats
RunOnce = Callable[[], tuple[Inference, RunStats]]
"""Infers once. Returns the inference, with categories numbered as in the whole problem, and its
measurements."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result and the measurements of a rank.

    Attributes:
        rank, host: number of the rank, and name of its machine.
        choice: the engine, and why.
        device_index: its place among the devices of its host; None: it ran on the CPU.
        device_name, uuid: model and UUID of the GPU; on the CPU, of the processor, and None.
        threads: CPU threads.
        images: number of images that it ran.
        inference: with categories numbered as in the whole problem.
        warmup, samples: seconds of each run, from the common start.
        stages: seconds of the other stages.
        shortcuts, settings: those of the engine.
        stats: measurements of the last run: in memory, streamed or rebalanced.
        lifetimes: uint16, of each of its `Share.rows`; None: the run was not traced.
        clocks: state of the GPU before and after the runs; None on the CPU.
        cuda: versions of CUDA; None on the CPU.
        peak_memory_bytes: most host memory that the process had.
    """

    rank: int
    host: str
    choice: Choice
    device_index: int | None
    device_name: str
    uuid: str | None
    threads: int
    images: int
    inference: Inference
    warmup: list[float]
    samples: list[float]
    stages: dict[str, float]
    shortcuts: Shortcuts
    settings: dict[str, int | bool] = field(default_factory=dict)
    stats: RunStats | None = None
    lifetimes: Any = None
    clocks: Clocks | None = None
    cuda: dict[str, str] | None = None
    peak_memory_bytes: int = 0


@dataclass
class _Runs:
    """The runs so far; all must agree."""

    seconds: list[float] = field(default_factory=list)
    inference: Inference | None = None
    stats: RunStats | None = None

    def add(self, inference: Inference, stats: RunStats) -> None:
        first = self.inference
        if first is not None and not np.array_equal(first.categories, inference.categories):
            raise VerificationError(
                f"run {len(self.seconds) + 1} gave other categories than run 1 "
                f"({len(inference.categories)} and {len(first.categories)})",
                hint="The engine is at fault; please report this.",
            )
        self.inference, self.stats = inference, stats
        self.seconds.append(stats.seconds)


def work(
    group: Group,
    path: Path,
    options: RunOptions,
    gpu: int | None = None,
    progress: LayerProgress | None = None,
    stopwatch: Stopwatch | None = None,
) -> Outcome:
    """Run a rank's share of the images.

    Args:
        group: the ranks.
        path: the dataset file.
        options: what to run.
        gpu: the place of the rank's GPU among those of its host, in `nvidia.gpus()`; CUDA must
            list this one first.
        progress: called with the progress of a run.
        stopwatch: holds the seconds spent before, for example on a broadcast of the dataset.

    Raises:
        DataError: the dataset has fewer layers than asked for, or is damaged.
        DeviceError: there are fewer images than workers, or too little memory.
        EngineError: the engine does not run on the device.
        VerificationError: two runs of the same engine gave different categories.
    """
    stopwatch = Stopwatch() if stopwatch is None else stopwatch
    dataset = open_dataset(path)
    layers, images = options.settled_layers(dataset), options.settled_images(dataset)
    present = min(images, dataset.images)
    if group.size > present:
        raise DeviceError(
            f"{group.size} workers share {present} images",
            hint="Use no more workers than images.",
        )
    own = share_of(group.rank, group.size, images, dataset.images, options.partition)
    with stopwatch.stage("read"):
        network = dataset.network(layers)
    with stopwatch.stage("compile"):
        best, no_gpu = _best_device(group, options)
    choice = choose(options.engine, options.device, best, network, no_gpu)
    engine_options = EngineOptions(
        threads=options.threads,
        retire=options.retire,
        stopwatch=stopwatch,
        progress=progress,
        device_memory=options.device_memory,
        own=options.own_of(choice.engine),
        choices=KeptChoices(choices_file()),
    )
    engine, run, features = _ready(group, dataset, network, own, choice, options, engine_options)
    card = nvidia.gpus()[gpu or 0] if choice.device == "cuda" else None
    before = None if card is None else nvidia.gpu_state(card.uuid)
    runs = _Runs()
    for _ in range(options.warmup + options.repeat):
        group.barrier()
        runs.add(*run())
    after = None if card is None else nvidia.gpu_state(card.uuid)
    assert runs.inference is not None
    lifetimes = None
    if options.trace:
        from spdnn_cli.run.lifetimes import lifetimes as trace

        retires = engine.shortcuts.finished_images_retired
        lifetimes = trace(network, features, retires, options.threads)
    return Outcome(
        rank=group.rank,
        host=platform.node(),
        choice=choice,
        device_index=None if card is None else gpu or 0,
        device_name=machine.cpu_model() if card is None else card.name,
        uuid=None if card is None else card.uuid,
        threads=options.threads,
        images=own.images,
        inference=runs.inference,
        warmup=runs.seconds[: options.warmup],
        samples=runs.seconds[options.warmup :],
        stages={stage: s for stage, s in stopwatch.seconds.items() if stage != "infer"},
        shortcuts=engine.shortcuts,
        settings=dict(getattr(engine, "settings", {})),
        stats=runs.stats,
        lifetimes=lifetimes,
        clocks=None if card is None else Clocks(before, after),
        cuda=None if card is None else _cuda_versions(),
        peak_memory_bytes=machine.peak_memory_bytes(),
    )


def _best_device(group: Group, options: RunOptions) -> tuple[Device, str | None]:
    """The best device that is present; and why a GPU that is present is not used.

    A rank among several does not ask CUDA: all ranks must run on the same kind of device.
    """
    no_gpu = nvidia.why_not_cuda()
    asks_cuda = options.engine == "auto" and options.device is None and group.size == 1
    if no_gpu is None and nvidia.gpus() and asks_cuda:
        from spdnn_cli.engines.cuda.device import import_cupy

        try:
            import_cupy()
        except DeviceError as error:
            no_gpu = error.what
    return ("cuda" if no_gpu is None and nvidia.gpus() else "cpu"), no_gpu


def _ready(
    group: Group,
    dataset: Dataset,
    network: Network,
    own: Share,
    choice: Choice,
    options: RunOptions,
    engine_options: EngineOptions,
) -> tuple[Engine, RunOnce, Features]:
    """The engine with its network and inputs loaded, a function that runs it once, and the inputs.

    The inputs are read while the engine imports its libraries, compiles and prepares.
    """
    make = partial(create, choice.engine)
    if options.rebalance is not None:
        _check_rebalance(choice, own.is_streamed)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(dataset.features_of, own.rows, options.threads)
        if options.rebalance is not None:
            parts = Rebalanced(group, make, engine_options, network, options.rebalance)
        else:
            engine = make(engine_options)
            engine.prepare(network)
        with engine_options.stopwatch.stage("read"):
            features = reading.result()
    if options.rebalance is not None:
        parts.upload(features, own.numbers)
        return parts.engine, parts.run, features
    if own.is_streamed:
        stream = Stream(engine, features, own.passes, own.rest)
        return engine, _streamed(stream, own.rows, dataset.images), features
    engine.upload(features)
    return engine, _in_memory(engine, own.numbers, engine_options.stopwatch), features


def _in_memory(engine: Engine, numbers: Int64, stopwatch: Stopwatch) -> RunOnce:
    """A function that infers the images that were uploaded, which have these numbers."""

    def run() -> tuple[Inference, InMemoryStats]:
        with stopwatch.stage("infer"):
            inference = engine.infer()
        numbered = replace(inference, categories=numbers[inference.categories].astype(np.int32))
        return numbered, InMemoryStats(stopwatch.take("infer"))

    return run


def _streamed(stream: Stream, images: Int64, of_dataset: int) -> RunOnce:
    """A function that streams the images with these numbers, which repeat in every pass."""

    def run() -> tuple[Inference, StreamStats]:
        inference, stats = stream.run()
        passes, place = np.divmod(inference.categories.astype(np.int64), len(images))
        numbers = (passes * of_dataset + images[place]).astype(np.int32)
        return replace(inference, categories=numbers), stats

    return run


def _check_rebalance(choice: Choice, is_streamed: bool) -> None:
    """Raise an EngineError if images cannot move."""
    if not find(choice.engine).gives_values:
        able = [name for name, entry in ENGINES.items() if entry.gives_values]
        raise EngineError(
            f"engine {choice.engine} does not move images between workers",
            hint=f"Add --engine with one of {', '.join(able)}, or leave out --rebalance.",
        )
    if is_streamed:
        raise EngineError(
            "images that are streamed do not move between workers", hint="Leave out --rebalance."
        )


def _cuda_versions() -> dict[str, str]:
    """The version of the CUDA runtime, and the highest that the driver can run."""
    from cupy.cuda import runtime

    numbers = {"runtime": runtime.runtimeGetVersion(), "driver": runtime.driverGetVersion()}
    return {name: f"{n // 1000}.{n % 1000 // 10}" for name, n in numbers.items()}


IDENTITY = ("version of spdnn", "network (SHA-256)", "inputs (SHA-256)", "set of options")


def identity(dataset: Dataset, options: RunOptions) -> tuple[str, str, str, str]:
    """What must be the same on all ranks, in the order of `IDENTITY`."""
    from spdnn_cli import __version__

    network = dataset.network_sha256(options.settled_layers(dataset))
    return __version__, network, dataset.features_sha256, repr(replace(options, threads=0))
