"""Runs on more and more devices as series: what was measured, and what is projected beyond.

A series has one machine, problem, engine with its options, and partition. It is of strong scaling
where the images stay the same, and of weak scaling where they grow with the devices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spdnn_cli.errors import ResultError
from spdnn_cli.partition import PARTITIONS, Partition
from spdnn_cli.report.projection import Lifetimes, Model, RankTime, fit, work_of_ranks
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Configuration, Problem, configuration_of, problem_of
from spdnn_cli.results.record import Record, Status
from spdnn_cli.results.store import Result

PAPER_DEVICES = (1, 3, 6, 12, 24, 48, 96, 192, 384, 768)
"""The numbers of GPUs in the paper's table I."""


@dataclass(frozen=True)
class Row:
    """A number of devices.

    Attributes:
        devices: how many.
        images: how many in all.
        launcher: what started the processes; None: projected.
        seconds: of the slowest rank: the median, or what the model says.
        imbalance: slowest rank over mean of the ranks.
        projection: what the model says; None: there is none.
        record: of the run; None: projected.
        edges: that the challenge counts.
    """

    devices: int
    images: int
    launcher: str | None
    seconds: float
    imbalance: float
    projection: float | None
    record: Record | None
    edges: int

    @property
    def error(self) -> float | None:
        """Of the projection, relative to what was measured."""
        if self.record is None or self.projection is None:
            return None
        return self.projection / self.seconds - 1

    @property
    def teraedges_per_s(self) -> float:
        """The challenge's rate."""
        return self.edges / self.seconds / 1e12


@dataclass
class Series:
    """One problem with one engine and partition on more and more devices of a machine.

    Attributes:
        machine: its name.
        problem: of one device; with weak scaling `images` are those of each device.
        configuration: the engine and its options, on one device.
        partition: how images are shared.
        grows: whether images grow with the devices (weak scaling).
        rows: by devices.
        model: None: the ranks that were measured do not determine one.
        missing: why there is no projection, and what would make one; None: there is one.
        held_out_errors: by devices, the error of a projection from runs on fewer devices alone.
        projections: by devices, seconds of the slowest rank and the imbalance, as the model has it.
    """

    machine: str
    problem: Problem
    configuration: Configuration
    partition: Partition
    grows: bool
    rows: list[Row]
    model: Model | None
    missing: str | None
    held_out_errors: dict[int, float] = field(default_factory=dict)
    projections: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        """The engine with its options, and the threads of each worker on a CPU."""
        threads = self.configuration.threads
        noun = "thread" if threads == 1 else "threads"
        label = self.configuration.engine_label
        return f"{label} ({threads} {noun} each)" if threads else label

    @property
    def own_rows(self) -> list[Row]:
        """The rows whose workers, where measured, had a device or cores of their own."""
        return [row for row in self.rows if row.record is None or not shares_cores(row.record)]

    def best(self, devices: int) -> Row | None:
        """The fastest row with that number of devices; None: there is none."""
        rows = [row for row in self.own_rows if row.devices == devices]
        return max(rows, key=lambda row: row.teraedges_per_s, default=None)

    def speed_up(self, row: Row) -> float | None:
        """The rate over that of one device; None where one device was not measured."""
        first = self.best(1)
        if first is None or first.record is None:
            return None
        return row.teraedges_per_s / first.teraedges_per_s


@dataclass(frozen=True)
class _Key:
    """What runs of a model have in common, however many devices and images."""

    machine: str
    neurons: int
    layers: int
    features_sha256: str
    network_sha256: str
    configuration: Configuration


def all_series(
    results: Sequence[Result],
    devices: Sequence[int] = PAPER_DEVICES,
    wanted: Callable[[Record], bool] = lambda record: True,
) -> list[Series]:
    """Every series that has a run on several devices, or a projection.

    Args:
        results: what was measured; the traces of all of them serve.
        devices: numbers of devices to project to.
        wanted: which runs to make series of.
    """
    traces = Traces(results)
    groups: dict[_Key, list[Record]] = {}
    for machine, records in describe.by_machine(results).items():
        for record in describe.newest(records).values():
            usable = not record.engine_options and record.status is not Status.WRONG
            if usable and wanted(record):
                groups.setdefault(_key(machine, record), []).append(record)
    made = [_of_group(key, records, traces, devices) for key, records in groups.items()]
    return sorted(
        itertools.chain.from_iterable(made),
        key=lambda s: (s.machine, s.grows, s.problem, s.configuration.label, s.partition),
    )


def on_one_device(configuration: Configuration) -> Configuration:
    """The same engine and options, not spread."""
    return replace(configuration, workers=1, partition="", launcher="", broadcast=False)


def _key(machine: str, record: Record) -> _Key:
    problem = problem_of(record)
    checksums = problem.features_sha256, problem.network_sha256
    configuration = on_one_device(configuration_of(record))
    return _Key(machine, problem.neurons, problem.layers, *checksums, configuration)


def _of_group(
    key: _Key, records: Sequence[Record], traces: Traces, devices: Sequence[int]
) -> Iterator[Series]:
    """The series of runs that share a key."""
    measured = list(itertools.chain.from_iterable(_rank_times(r, traces) for r in records))
    group = _Group(key, fit(measured), len(measured), traces, devices)
    most = max((r.images for r in records if r.launch.workers == 1), default=0)
    for problem in dict.fromkeys(problem_of(record) for record in records):
        strong = [r for r in records if problem_of(r) == problem]
        yield from _series(group, problem, strong, problem.images == most)
    for problem in dict.fromkeys(problem_of(r) for r in records if r.launch.workers == 1):
        weak = [r for r in records if r.images == problem.images * r.launch.workers]
        yield from _series(group, problem, weak, problem.images == most, grows=True)


@dataclass(frozen=True)
class _Group:
    """What the series of a key share: the model, and from how many ranks one was sought."""

    key: _Key
    model: Model | None
    ranks: int
    traces: Traces
    devices: Sequence[int]


def _series(
    group: _Group,
    problem: Problem,
    records: Sequence[Record],
    projects: bool,
    grows: bool = False,
) -> Iterator[Series]:
    """One for each partition that has runs on several devices, or a projection."""
    first, key, model = records[0], group.key, group.model
    lifetimes = None if _is_measured_only(first) else group.traces.of(first, problem.images)
    known = lifetimes is not None and model is not None
    several = {r.launch.partition for r in records if r.launch.workers > 1}
    for partition in PARTITIONS:
        projected = known and projects and not (grows and partition != "contiguous")
        if partition not in several and not projected:
            continue
        own = [r for r in records if r.launch.workers == 1 or r.launch.partition == partition]
        if not own:
            continue
        missing = None if known else _missing(first, lifetimes, group.ranks)
        series = Series(
            key.machine, problem, key.configuration, partition, grows, [], model, missing
        )
        _fill(series, own, lifetimes if known else None, group.devices if projected else ())
        yield series


def _is_measured_only(record: Record) -> bool:
    """Whether the model is not for such runs: images move, or stream in."""
    return record.launch.rebalance_layer is not None or record.stream is not None


def _rank_times(record: Record, traces: Traces) -> Iterable[RankTime]:
    """One for each rank of a run, if it was traced or another one of the same images was."""
    lifetimes = None if _is_measured_only(record) else traces.of(record, record.images)
    if lifetimes is None or shares_cores(record):
        return
    devices = record.launch.workers
    work = work_of_ranks(lifetimes, devices, record.launch.partition)
    for worker, layers, image_layers in zip(record.workers, *work, strict=True):
        seconds = worker.timings_s.infer.median
        if layers > 0:
            yield RankTime(devices, int(layers), int(image_layers), seconds)


def shares_cores(record: Record) -> bool:
    """Whether the workers of a host had more threads than the host has cores.

    Then they waited for each other, so their time is not that of so many devices.
    """
    if record.device != "cpu":
        return False
    threads: dict[str | None, int] = {}
    for worker in record.workers:
        threads[worker.host] = threads.get(worker.host, 0) + worker.threads
    return max(threads.values()) > record.machine.cores


def _missing(record: Record, lifetimes: Lifetimes | None, ranks: int) -> str:
    """Why there is no projection, and the command that makes what is missing."""
    if _is_measured_only(record):
        return "measured only: the model is not for runs that are streamed or rebalanced"
    command = _command(record)
    if lifetimes is None:
        return f"no projection, because no run was traced. Run: {command} --trace"
    fewer = max(1, record.images // 2)
    return (
        f"no projection, because {ranks} ranks were measured, which do not determine the model. "
        f"Run: {command} --images {fewer}, and on more devices"
    )


def _command(record: Record) -> str:
    data = record.dataset
    which = f"--neurons {record.neurons}" if data.official_network else f"--dataset {data.file}"
    retire = " --no-retire" if configuration_of(record).retires is False else ""
    return f"spdnn infer {which} --layers {record.layers} --engine {record.engine}{retire}"


def _fill(
    series: Series, records: Sequence[Record], lifetimes: Lifetimes | None, devices: Sequence[int]
) -> None:
    """Add the rows: what was measured, and what is projected beyond."""
    for record in sorted(records, key=lambda r: (r.launch.workers, r.launch.launcher)):
        count = record.launch.workers
        projection = None if shares_cores(record) else _project(series, lifetimes, count)
        series.rows.append(
            Row(
                count,
                record.images,
                record.launch.launcher,
                record.seconds,
                record.imbalance,
                None if projection is None else projection[0],
                record,
                record.edges,
            )
        )
    most = max((row.devices for row in series.own_rows), default=0)
    per_image = records[0].edges // records[0].images
    for count in devices:
        projection = _project(series, lifetimes, count) if count > most else None
        if projection is not None:
            images = series.problem.images * (count if series.grows else 1)
            seconds, imbalance = projection
            edges = per_image * images
            series.rows.append(Row(count, images, None, seconds, imbalance, seconds, None, edges))
    series.held_out_errors = _held_out_errors(series, lifetimes)


def _project(
    series: Series, lifetimes: Lifetimes | None, devices: int, model: Model | None = None
) -> tuple[float, float] | None:
    """Seconds of the slowest rank, and the imbalance, as a model has it, that of the series or
    another one.
    """
    if series.grows:  # a block each: every device has the images of one
        devices = 1
    if lifetimes is None or (model is None and series.model is None):
        return None
    if model is not None:
        return model.run(lifetimes, devices, series.partition)
    assert series.model is not None
    if devices not in series.projections:
        projection = series.model.run(lifetimes, devices, series.partition)
        series.projections[devices] = projection
    return series.projections[devices]


def _held_out_errors(series: Series, lifetimes: Lifetimes | None) -> dict[int, float]:
    """The errors of projections onto each measured number of devices, from fewer ones alone."""
    errors: dict[int, float] = {}
    for row in series.rows:
        if row.error is None or series.model is None or row.devices == 1:
            continue
        model = fit([rank for rank in series.model.ranks if rank.devices < row.devices])
        projection = model and _project(series, lifetimes, row.devices, model)
        if projection:
            errors[row.devices] = projection[0] / row.seconds - 1
    return errors


# ---- traces


class Traces:
    """The traces at hand: of each inputs and network, the deepest and longest first.

    A network of fewer layers is a prefix of a deeper one, and so are its lifetimes, cut at its
    depth: for the challenge's networks, one trace at the greatest depth serves all. Where a trace
    is of a run that retired finished images, those that survived live on to the last layer of a run
    that does not.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self._results: dict[tuple[str, str], list[Result]] = {}
        for result in results:
            record = result.record
            if record.lifetimes_sha256 is not None and record.stream is None:
                self._results.setdefault(_traced(record), []).append(result)
        self._read: dict[tuple[str, bool], Lifetimes] = {}

    def of(self, record: Record, images: int) -> Lifetimes | None:
        """How many layers each of `images` images lives in a run of its depth; None: not known.

        uint16 (images,).
        """
        retires = record.shortcuts.finished_images_retired
        for result in self._candidates(record):
            traced = result.record
            if retires and not traced.shortcuts.finished_images_retired:
                continue
            if traced.layers >= record.layers and traced.images >= images:
                lifetimes = self._lifetimes(result, retires)[:images]
                return np.minimum(lifetimes, record.layers).astype(np.uint16)
        return None

    def _candidates(self, record: Record) -> list[Result]:
        found = self._results.get(_traced(record), [])
        return sorted(found, key=lambda r: (r.record.images, -r.record.layers), reverse=True)

    def _lifetimes(self, result: Result, retires: bool) -> Lifetimes:
        key = result.record.id, retires
        if key not in self._read:
            lifetimes = _checked_lifetimes(result)
            if not retires:
                lifetimes = lifetimes.copy()
                lifetimes[result.categories()] = result.record.layers
            self._read[key] = lifetimes
        return self._read[key]


def _traced(record: Record) -> tuple[str, str]:
    """What runs have in common that a trace may serve."""
    data = record.dataset
    network = (
        OFFICIAL_NETWORK.format(record.neurons) if data.official_network else data.network_sha256
    )
    return data.features_sha256, network


OFFICIAL_NETWORK = "the challenge's network of {} neurons"
"""The networks of all depths are prefixes of one."""


def _checked_lifetimes(result: Result) -> Lifetimes:
    """The lifetimes of a traced run.

    Raises:
        ResultError: the list is missing or damaged; or images leave early that the run did not
            retire, so that the trace is of another kind of run.
    """
    lifetimes, record = result.lifetimes(), result.record
    outside = np.count_nonzero((lifetimes < 1) | (lifetimes > record.layers))
    if outside:
        raise ResultError(
            f"the trace is not of this run: {outside} images live for less than 1 or more than "
            f"{record.layers} layers",
            path=result.path,
            hint="Run spdnn infer --trace again.",
        )
    if not record.shortcuts.finished_images_retired:
        early = np.count_nonzero(lifetimes[result.categories()] != record.layers)
        if early:
            raise ResultError(
                f"the trace is not of this run: {early} images that are alive at the end leave "
                "before it",
                path=result.path,
                hint="Run spdnn infer --trace again.",
            )
    return lifetimes
