"""Strong scaling: measured on the devices at hand, and a projection beyond them.

A projection needs a trace, that is how many layers each image lives (`trace.lifetimes`). From it
follows, for any partition on any number of devices, what each rank has to do:

    layers         how many it runs: those of its image that lives longest
    image-layers   the layers of all of its images added up

The model of a rank's seconds is

    seconds = fixed + per_layer * layers + per_image_layer * image-layers

with no number below zero, fitted to the ranks of all measured runs of the same machine, engine and
problem: all numbers of devices, all partitions, and runs with fewer images. The sum of the squared
*relative* errors is least (non-negative least squares), so that short runs count as much as long
ones. A run takes as long as its slowest rank: nothing is exchanged before the categories are
gathered, which is not in the time of inference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spdnn_cli.errors import ResultError
from spdnn_cli.partition import share as share_of_rank
from spdnn_cli.report.tables import Table
from spdnn_cli.results import describe as runs
from spdnn_cli.results.describe import PROBLEM_COLUMNS, Problem, Record, number
from spdnn_cli.results.store import Result

DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768)
"""Projected numbers of devices: up to the paper's 768."""
PARTITIONS = ("contiguous", "cyclic")

Floats = NDArray[np.float64]


# ---- the model


@dataclass(frozen=True)
class Point:
    """What a rank had to do, and how long it took: the median of its runs."""

    devices: int
    layers: int
    image_layers: int
    seconds: float


@dataclass(frozen=True)
class Model:
    """The seconds of a rank; see the top of this file.

    Attributes:
        fixed: seconds, whatever there is to do.
        per_layer: seconds for each layer that the rank runs.
        per_image_layer: seconds for each layer that an image of the rank enters.
        points: what it was fitted to.
        knows_fixed: whether `fixed` was fitted; False: all points ran the same number of layers,
            so that `per_layer` holds both.
    """

    fixed: float
    per_layer: float
    per_image_layer: float
    points: tuple[Point, ...]
    knows_fixed: bool

    def seconds(self, layers: Any, image_layers: Any) -> Floats:
        """Of ranks that have so much to do; 0 for one that has nothing."""
        layers, image_layers = (np.asarray(part, np.float64) for part in (layers, image_layers))
        some = self.fixed + self.per_layer * layers + self.per_image_layer * image_layers
        return np.where(layers > 0, some, 0.0)

    @property
    def largest_error(self) -> float:
        """The largest relative error on the points, of either sign."""
        errors = [
            float(self.seconds(p.layers, p.image_layers)) / p.seconds - 1 for p in self.points
        ]
        return max(map(abs, errors))


def fit(points: Sequence[Point]) -> Model | None:
    """The model with the least squared relative errors; None: the points do not determine one.

    There must be one point more than there are numbers to find.
    """
    from scipy.optimize import nnls

    if not points:
        return None
    measured = np.array([p.seconds for p in points])
    work = np.array([[1, p.layers, p.image_layers] for p in points], np.float64)
    for first in (0, 1):  # with a fixed part; without, where it is one with that of the layers
        columns = work[:, first:] / measured[:, None]
        columns /= (scale := np.linalg.norm(columns, axis=0))
        if len(points) > columns.shape[1] == np.linalg.matrix_rank(columns):
            found, _ = nnls(columns, np.ones(len(points)))
            numbers = [0.0] * first + (found / scale).tolist()
            fixed, per_layer, per_image_layer = numbers
            return Model(fixed, per_layer, per_image_layer, tuple(points), first == 0)
    return None


def share(images: int, devices: int, partition: str) -> NDArray[np.int64]:
    """The rank of each image, int64 (images,), as `worker.share` has it."""
    rank = np.empty(images, np.int64)
    for device in range(devices):
        rank[share_of_rank(device, devices, images, partition)] = device
    return rank


def work_of_ranks(
    lifetimes: NDArray[np.uint16], devices: int, partition: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What each rank has to do: layers and image-layers, int64 (devices,) both."""
    rank = share(len(lifetimes), devices, partition)
    layers = np.zeros(devices, np.int64)
    np.maximum.at(layers, rank, lifetimes)
    image_layers = np.bincount(rank, lifetimes, devices).astype(np.int64)
    return layers, image_layers


# ---- series of runs


@dataclass(frozen=True)
class Row:
    """A number of devices.

    Attributes:
        devices: how many.
        launcher: what started the processes; None: projected.
        seconds: of the slowest rank: the median, or what the model says.
        imbalance: slowest rank over mean of the ranks.
        projection: what the model says; None: there is none.
        record: of the run; None: projected.
    """

    devices: int
    launcher: str | None
    seconds: float
    imbalance: float
    projection: float | None
    record: Record | None

    @property
    def error(self) -> float | None:
        """Of the projection, relative to what was measured."""
        if self.record is None or self.projection is None:
            return None
        return self.projection / self.seconds - 1


@dataclass
class Series:
    """One problem with one engine and partition on more and more devices of a machine."""

    machine: str
    problem: Problem
    engine: str
    partition: str
    rows: list[Row]
    model: Model | None
    missing: str | None
    foretold: dict[int, float] = field(default_factory=dict)
    """By devices: the error of a projection from runs on fewer devices alone."""

    @property
    def own_rows(self) -> list[Row]:
        """The rows whose workers, where measured, had a device or cores of their own."""
        return [row for row in self.rows if row.record is None or not shares_cores(row.record)]

    def speed_up(self, row: Row) -> float:
        """Over one device; where none was measured alone, the fewest measured count as ideal."""
        first = self.rows[0]
        return first.devices * first.seconds / row.seconds


@dataclass(frozen=True)
class _Key:
    """What runs of a series have in common, however many devices and images."""

    machine: str
    neurons: int
    layers: int
    features_sha256: str
    network_sha256: str
    engine: str


def all_series(results: Sequence[Result]) -> list[Series]:
    """Every series that has a run on several devices, or a projection."""
    traces = _Traces(results)
    groups: dict[_Key, list[Record]] = {}
    for machine, some in runs.by_machine(results).items():
        for record in (result.record for result in some):
            if not runs.asks_for_tile(record) and record.get("difference") is None:
                groups.setdefault(_key(machine, record), []).append(record)
    made = [_series(key, records, traces) for key, records in groups.items()]
    return sorted(
        itertools.chain.from_iterable(made),
        key=lambda series: (series.machine, series.problem, series.engine, series.partition),
    )


def _key(machine: str, record: Record) -> _Key:
    problem = runs.problem_of(record)
    checksums = problem.features_sha256, problem.network_sha256
    return _Key(machine, problem.neurons, problem.layers, *checksums, engine_name(record))


def engine_name(record: Record) -> str:
    """The engine with its options, and the threads of each worker on a CPU."""
    each = runs.threads(record)
    name = runs.engine_and_options(record)
    noun = "thread" if each == 1 else "threads"
    return name if each is None else f"{name} ({each} {noun} each)"


class _Traces:
    """The traces at hand: of each data set and network, with and without retiring, the longest."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results: dict[tuple[str, str, bool], Result] = {}
        for result in results:
            if result.record["lifetimes"] is not None and result.record["stream"] is None:
                known = self._results.get(_traced(result.record))
                if known is None or known.record["images"] <= result.record["images"]:
                    self._results[_traced(result.record)] = result
        self._read: dict[tuple[str, str, bool], NDArray[np.uint16]] = {}

    def of(self, record: Record) -> NDArray[np.uint16] | None:
        """How many layers each image of a run lives, uint16 (images,); None: not known."""
        key = _traced(record)
        if key not in self._results:
            return None
        if key not in self._read:
            self._read[key] = _checked_lifetimes(self._results[key])
        lifetimes = self._read[key][: record["images"]]
        return lifetimes if len(lifetimes) == record["images"] else None


def _checked_lifetimes(result: Result) -> NDArray[np.uint16]:
    """The lifetimes of a traced run.

    Raises:
        ResultError: the file is missing or damaged; or images leave early that the run did not
            retire, so that the trace is of another kind of run.
    """
    lifetimes, record = result.lifetimes(), result.record
    outside = np.count_nonzero((lifetimes < 1) | (lifetimes > record["layers"]))
    if outside:
        raise ResultError(
            f"the trace is not of this run: {outside} images live for less than 1 or more than "
            f"{record['layers']} layers",
            path=result.path,
            hint="Run spdnn infer --trace again.",
        )
    if not record["shortcuts"]["finished_images_retired"]:
        early = np.count_nonzero(lifetimes[result.categories()] != record["layers"])
        if early:
            raise ResultError(
                f"the trace is not of this run: {early} images that are alive at the end leave "
                "before it",
                path=result.path,
                hint="Run spdnn infer --trace again.",
            )
    return lifetimes


def _traced(record: Record) -> tuple[str, str, bool]:
    data = record["dataset"]
    retires = bool(record["shortcuts"]["finished_images_retired"])
    return data["features_sha256"], data["network_sha256"], retires


def _series(key: _Key, records: Sequence[Record], traces: _Traces) -> Iterable[Series]:
    """The series of runs that share a key: one for each number of images and partition."""
    points = list(itertools.chain.from_iterable(_points(r, traces) for r in _newest(records)))
    model = fit(points)
    for problem in dict.fromkeys(runs.problem_of(record) for record in records):
        of_problem = [r for r in _newest(records) if runs.problem_of(r) == problem]
        lifetimes = None if _is_measured_only(of_problem[0]) else traces.of(of_problem[0])
        several = {r["launch"]["partition"] for r in of_problem if runs.workers(r) > 1}
        projected = model is not None and lifetimes is not None
        whole = problem.images == max(record["images"] for record in records)
        for partition in PARTITIONS:
            if partition not in several and not (projected and whole):
                continue
            mine = [
                record
                for record in of_problem
                if runs.workers(record) == 1 or record["launch"]["partition"] == partition
            ]
            if not mine:
                continue
            missing = None if projected else _missing(of_problem[0], lifetimes, len(points))
            series = Series(key.machine, problem, key.engine, partition, [], model, missing)
            _fill(series, mine, lifetimes if projected else None)
            yield series


def _newest(records: Iterable[Record]) -> list[Record]:
    """The newest run of each configuration and number of images."""
    return list(runs.newest(records).values())


def _is_measured_only(record: Record) -> bool:
    """Whether the model is not for such runs: images move, stream in, or live on rounded values."""
    moves = record["launch"]["rebalance_layer"] is not None
    return moves or record["stream"] is not None or runs.stores_float16(record)


def _points(record: Record, traces: _Traces) -> Iterable[Point]:
    """One for each rank of a run, if it was traced or another one of the same images was."""
    lifetimes = None if _is_measured_only(record) else traces.of(record)
    if lifetimes is None or shares_cores(record):
        return
    devices = runs.workers(record)
    work = work_of_ranks(lifetimes, devices, record["launch"]["partition"])
    for worker, layers, image_layers in zip(record["workers"], *work, strict=True):
        seconds = worker["timings_s"]["infer"]["median"]
        if layers > 0:
            yield Point(devices, int(layers), int(image_layers), float(seconds))


def shares_cores(record: Record) -> bool:
    """Whether the workers of a host had more threads than the host has cores.

    They waited for each other then, which says nothing of so many devices.
    """
    if record["device"] != "cpu":
        return False
    threads: dict[str, int] = {}
    for worker in record["workers"]:
        threads[worker["host"]] = threads.get(worker["host"], 0) + worker["threads"]
    return max(threads.values(), default=0) > record["machine"]["cores"]


def _missing(record: Record, lifetimes: NDArray[np.uint16] | None, points: int) -> str:
    """Why there is no projection, and the command that makes what is missing."""
    if _is_measured_only(record):
        return "measured only: the model is not for runs that are streamed, rebalanced or rounded"
    command = _command(record)
    if lifetimes is None:
        return f"no projection, because no run was traced. Run: {command} --trace"
    fewer = max(1, record["images"] // 2)
    return (
        f"no projection, because {points} ranks were measured, which do not determine the model. "
        f"Run: {command} --images {fewer}, and on more devices"
    )


def _command(record: Record) -> str:
    data = record["dataset"]
    official = data["official_network"]
    which = f"--neurons {record['neurons']}" if official else f"--dataset {data['file']}"
    retire = " --no-retire" if "--no-retire" in runs.engine_and_options(record) else ""
    return f"spdnn infer {which} --layers {record['layers']} --engine {record['engine']}{retire}"


def _fill(series: Series, records: Sequence[Record], lifetimes: NDArray[np.uint16] | None) -> None:
    """Add the rows: what was measured, and what is projected beyond."""
    ordered = sorted(records, key=lambda r: (runs.workers(r), r["launch"]["launcher"]))
    for record in ordered:
        devices = runs.workers(record)
        projection = None if shares_cores(record) else _project(series, lifetimes, devices)
        series.rows.append(
            Row(
                devices,
                record["launch"]["launcher"],
                runs.seconds(record),
                float(record["imbalance"]),
                None if projection is None else projection[0],
                record,
            )
        )
    most = max((row.devices for row in series.own_rows), default=0)
    for devices in DEVICES:
        projection = _project(series, lifetimes, devices) if devices > most else None
        if projection is not None:
            series.rows.append(Row(devices, None, *projection, projection[0], None))
    series.foretold = _foretold(series, lifetimes)


def _project(
    series: Series,
    lifetimes: NDArray[np.uint16] | None,
    devices: int,
    model: Model | None = None,
) -> tuple[float, float] | None:
    """Seconds of the slowest rank, and the imbalance, as the model has it."""
    model = model or series.model
    if lifetimes is None or model is None:
        return None
    ranks = model.seconds(*work_of_ranks(lifetimes, devices, series.partition))
    return float(ranks.max()), float(ranks.max() / ranks.mean())


def _foretold(series: Series, lifetimes: NDArray[np.uint16] | None) -> dict[int, float]:
    """The errors of projections onto each measured number of devices, from fewer ones alone."""
    errors: dict[int, float] = {}
    for row in series.rows:
        if row.error is None or series.model is None or row.devices == 1:
            continue
        model = fit([p for p in series.model.points if p.devices < row.devices])
        if model is not None:
            foretold = _project(series, lifetimes, row.devices, model)
            if foretold is not None:
                errors[row.devices] = foretold[0] / row.seconds - 1
    return errors


# ---- tables and pictures


def scaling(results: Sequence[Result]) -> list[Table]:
    """Two tables a machine: all that is known of each number of devices, and the paper's table."""
    by_machine = itertools.groupby(all_series(results), key=lambda series: series.machine)
    tables = []
    for machine, some in by_machine:
        series = list(some)
        tables += [_details(machine, series), _rates(machine, series)]
    return tables


def _details(machine: str, series: Sequence[Series]) -> Table:
    columns = [
        *(*PROBLEM_COLUMNS, "engine", "partition", "devices", "launcher", "what", "seconds"),
        *("TeraEdges/s", "speed-up", "efficiency %", "imbalance", "projection s", "error %"),
    ]
    table = Table(f"Strong scaling on {machine}", columns, [], kind="scaling")
    cells = runs.problem_cells(one.problem for one in series)
    for one in series:
        for row in one.rows:
            table.rows.append([*cells[one.problem], *_detail_cells(one, row)])
    table.notes = [
        "seconds: of the slowest device, from a common start; gathering the categories is not in "
        "it. speed-up: over the series' first row, taken as ideal. efficiency: speed-up / devices. "
        "imbalance: slowest device / mean of all. cores shared: a host had more threads than "
        "cores; such runs are in no fit, no picture and not in the paper's table.",
        *_model_notes(series),
        runs.EFFECTIVE,
        *runs.notes(_records(series)),
    ]
    return table


def _detail_cells(series: Series, row: Row) -> list[str]:
    marked = "" if row.record is None else runs.mark(row.record)
    speed_up = series.speed_up(row)
    return [
        *(series.engine, series.partition, str(row.devices)),
        *(row.launcher or "", _what(row)),
        number(row.seconds) + marked,
        number(_teraedges(series, row)) + marked,
        number(speed_up),
        number(100 * speed_up / row.devices, 3),
        number(row.imbalance),
        "" if row.projection is None else number(row.projection),
        "" if row.error is None else _percent(row.error),
    ]


def _what(row: Row) -> str:
    if row.record is None:
        return "projected"
    return "measured, cores shared" if shares_cores(row.record) else "measured"


def _rates(machine: str, series: Sequence[Series]) -> Table:
    """The paper's table: a column for each number of devices."""
    counts = sorted({row.devices for one in series for row in one.own_rows})
    columns = [*PROBLEM_COLUMNS, "engine", "partition", *map(str, counts)]
    table = Table(f"TeraEdges/s (effective) by devices on {machine}", columns, [], kind="scaling")
    cells = runs.problem_cells(one.problem for one in series)
    for one in series:
        rates: dict[int, tuple[float, str]] = {}
        for row in one.own_rows:  # of two launchers the faster counts
            rate = _teraedges(one, row)
            if row.devices not in rates or rate > rates[row.devices][0]:
                about = "~" if row.record is None else ""
                marked = "" if row.record is None else runs.mark(row.record)
                rates[row.devices] = rate, f"{about}{number(rate)}{marked}"
        row_cells = [rates[count][1] if count in rates else "" for count in counts]
        table.rows.append([*cells[one.problem], one.engine, one.partition, *row_cells])
    table.notes = [
        "~: projected, not measured.",
        *_model_notes(series),
        runs.EFFECTIVE,
        *runs.notes(_records(series)),
    ]
    return table


def _teraedges(series: Series, row: Row) -> float:
    edges: int = next(r.record["edges"] for r in series.rows if r.record is not None)
    return edges / row.seconds / 1e12


def _records(series: Sequence[Series]) -> list[Record]:
    records = [row.record for one in series for row in one.rows if row.record is not None]
    return list({id(record): record for record in records}.values())


def _model_notes(series: Sequence[Series]) -> list[str]:
    """Of each fit: its numbers, the points, the error; of a series without one, what is missing."""
    lines = []
    if any(one.model is not None for one in series):
        lines.append(
            "Projection: seconds of a rank = fixed + per layer x layers it runs + per image-layer "
            "x layers of all its images, which a traced run gives for any partition; the slowest "
            "rank counts. Fitted to the ranks that were measured, so its error there is that of "
            "the fit. What ranks of one host take from each other is in it only as far as it was "
            "measured. Networks between hosts, and a start that is not common, are not in it."
        )
    for one in series:
        name = f"{one.engine}, {one.problem.label}, {one.problem.images} images"
        if one.missing is not None:
            lines.append(f"{name}: {one.missing}.")
        elif one.model is not None:
            lines.append(f"{name}: {_model_in_words(one.model)}.")
            told = [f"{count} devices {_percent(e)} %" for count, e in one.foretold.items()]
            if told:
                lines.append(
                    f"{name}, {one.partition}: projected from fewer devices alone: "
                    f"{', '.join(told)}."
                )
    return list(dict.fromkeys(lines))


def _model_in_words(model: Model) -> str:
    loads = [point.image_layers for point in model.points]
    fixed = f"fixed {_time(model.fixed)}, " if model.knows_fixed else ""
    runs_devices = sorted({point.devices for point in model.points})
    return (
        f"{fixed}{_time(model.per_layer)} a layer"
        f"{'' if model.knows_fixed else ' (fixed included)'}, "
        f"{_time(model.per_image_layer)} an image-layer; fitted to {len(loads)} ranks of runs on "
        f"{', '.join(map(str, runs_devices))} devices, with {min(loads)} to {max(loads)} "
        f"image-layers (fewer is extrapolation), off by up to {100 * model.largest_error:.1f} %"
    )


def _percent(share: float) -> str:
    """With its sign, which a zero has too: always the same one."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _time(seconds: float) -> str:
    """With the unit that reads best."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if float(number(seconds, 3)) >= size:
            return f"{number(seconds / size, 3)} {unit}"
    return f"{number(seconds, 3)} s"
