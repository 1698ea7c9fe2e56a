"""Machine, problem and configuration of the runs in results, by which tables group them.

So runs on different machines, of different problems or with different options are never merged. The
labels made here are only for readers: no program parses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from spdnn_cli.problem import IMAGES
from spdnn_cli.results.record import Device, Record, Status
from spdnn_cli.results.store import Result

NOISY_FROM = 0.1
"""The spread of its samples, (largest - smallest) / median, from which a run is called noisy. It is
twice the difference that `spdnn report compare` counts as a regression."""


# ---- machines


class Hardware(NamedTuple):
    """What two runs on equal machines have in common: CPU, number of cores, and GPUs that ran."""

    cpu: str
    cores: int
    gpus: tuple[str, ...]

    @property
    def label(self) -> str:
        """Such as "2x NVIDIA H200, Intel Xeon, 16 cores"."""
        counted = [f"{self.gpus.count(name)}x {name}" for name in dict.fromkeys(self.gpus)]
        return ", ".join([*counted, self.cpu, f"{self.cores} cores"])


def hardware(record: Record) -> Hardware:
    """The hardware of a run."""
    machine = record.machine
    names = [gpu.name for gpu in machine.gpus] if record.device == "cuda" else []
    return Hardware(machine.cpu, machine.cores, tuple(names))


def by_machine(results: Iterable[Result]) -> dict[str, list[Record]]:
    """The records of each machine, by its name, which is that of its folder; in order of names.

    If results of different hardware have the same name, the hardware is added to it.
    """
    groups: dict[tuple[str, Hardware], list[Record]] = {}
    for result in results:
        groups.setdefault((result.machine, hardware(result.record)), []).append(result.record)
    names = [name for name, _ in groups]
    named = {
        name if names.count(name) == 1 else f"{name} ({parts.label})": records
        for (name, parts), records in groups.items()
    }
    return dict(sorted(named.items()))


# ---- problems


class Problem(NamedTuple):
    """A problem that ran. Those with the same numbers but other data are different problems."""

    neurons: int
    layers: int
    images: int
    data: str
    features_sha256: str
    network_sha256: str

    @property
    def label(self) -> str:
        """Neurons x layers."""
        return f"{self.neurons} x {self.layers}"

    @property
    def is_official(self) -> bool:
        """Whether inputs and network are the challenge's own."""
        return self.data == OFFICIAL

    @property
    def is_comparable(self) -> bool:
        """Whether it is one of the challenge's problems: its data, and all of its images."""
        return self.is_official and self.images == IMAGES


OFFICIAL = "official"
PROBLEM_COLUMNS = ["neurons", "layers", "images", "data"]


def problem_of(record: Record) -> Problem:
    """The problem of a run."""
    data = record.dataset
    official = data.official_inputs and data.official_network
    return Problem(
        record.neurons,
        record.layers,
        record.images,
        OFFICIAL if official else data.source,
        data.features_sha256,
        data.network_sha256,
    )


def data_labels(problems: Iterable[Problem]) -> dict[Problem, str]:
    """A label for the data of each problem, with a part of its checksums if two are the same."""
    ordered = sorted(set(problems))
    shown = [problem[:4] for problem in ordered]
    labels = {}
    for problem in ordered:
        alike = shown.count(problem[:4]) > 1
        added = f" {problem.features_sha256[:6]}/{problem.network_sha256[:6]}" if alike else ""
        labels[problem] = problem.data + added
    return labels


# ---- configurations


@dataclass(frozen=True)
class Configuration:
    """An engine, and all options that distinguish two runs of it on the same problem and machine.

    Attributes:
        engine: its name.
        device: where it runs.
        retires: whether finished images may leave; None: the engine retires none in any case.
        engine_options: the options that only this engine takes, by name, as given.
        device_memory: the limit given, in bytes; 0: none.
        rebalance_layer: the layer after which live images move; 0: they do not.
        streamed: whether images are copied to the device inside the timed part.
        workers, partition, launcher, broadcast: how the images are distributed; "" with one worker.
        threads: CPU threads of a worker; 0 on a GPU.
    """

    engine: str
    device: Device
    retires: bool | None
    engine_options: tuple[tuple[str, str], ...]
    device_memory: int
    rebalance_layer: int
    streamed: bool
    workers: int
    partition: str
    launcher: str
    broadcast: bool
    threads: int

    @cached_property
    def engine_label(self) -> str:
        """The engine and its options, without workers and threads."""
        parts = [self.engine]
        if self.retires is False:
            parts.append("--no-retire")
        if self.device_memory:
            parts.append(f"in {self.device_memory / 1e9:g} GB")
        parts += [f"--{name} {value}" for name, value in self.engine_options]
        if self.rebalance_layer:
            parts.append(f"--rebalance {self.rebalance_layer}")
        if self.streamed:
            parts.append("streamed")
        return " ".join(parts)

    @cached_property
    def label(self) -> str:
        """The engine and its options, workers and threads."""
        parts = [self.engine_label]
        if self.workers > 1:
            parts.append(f"{self.workers} workers, {self.partition}, {self.launcher}")
        if self.broadcast:
            parts.append("broadcast")
        if self.threads:
            noun = "thread" if self.threads == 1 else "threads"
            parts.append(f"({self.threads} {noun}{' each' if self.workers > 1 else ''})")
        return " ".join(parts)

    @property
    def is_plain(self) -> bool:
        """Whether the engine has its default options; retiring, threads and workers may differ."""
        return not (
            self.engine_options or self.device_memory or self.rebalance_layer or self.streamed
        )


def configuration_of(record: Record) -> Configuration:
    """The configuration of a run."""
    launch, shortcuts = record.launch, record.shortcuts
    spread = launch.workers > 1
    return Configuration(
        engine=record.engine,
        device=record.device,
        retires=shortcuts.finished_images_retired if shortcuts.twins_folded else None,
        engine_options=tuple(sorted(record.engine_options.items())),
        device_memory=record.device_memory or 0,
        rebalance_layer=launch.rebalance_layer or 0,
        streamed=record.stream is not None,
        workers=launch.workers,
        partition=launch.partition if spread else "",
        launcher=launch.launcher if spread else "",
        broadcast=launch.broadcast,
        threads=record.workers[0].threads if record.device == "cpu" else 0,
    )


def newest(records: Iterable[Record]) -> dict[tuple[Problem, Configuration], Record]:
    """The newest run of each problem and configuration."""
    oldest_first = sorted(records, key=lambda record: record.created)
    return {(problem_of(record), configuration_of(record)): record for record in oldest_first}


# ---- what must be known to read a table

SKIPPED = {
    "dead_images_dropped": "dead images dropped",
    "twins_folded": "twins folded",
    "finished_images_retired": "finished images retired",
}
EFFECTIVE = (
    "Effective: the challenge's rate: all edges of all layers x images / median seconds of "
    "inference, also those that an engine skips."
)
TIMED = (
    "Timed: features on the device, in the engine's input layout, to categories on the host. Only "
    "the newest run of each configuration is shown."
)
MARKS = {
    Status.UNVERIFIED: ("*", "not verified"),
    Status.COUNT_ONLY: ("#", "verified by the number of categories only"),
    Status.WRONG: ("!", "the categories are WRONG"),
}
"""The mark behind a number of a run that is not verified, and its meaning."""


def shortcuts_in_words(record: Record) -> str:
    """The shortcuts that were on."""
    shortcuts = record.shortcuts
    on = [word for name, word in SKIPPED.items() if getattr(shortcuts, name)]
    return ", ".join(on) or "none"


def notes(records: Sequence[Record], *, timed: str = TIMED) -> list[str]:
    """The notes below a table of these runs, one sentence or line each."""
    return [*timing(records, timed=timed), *verification(records), *samples(records)]


def timing(records: Sequence[Record], *, timed: str = TIMED) -> list[str]:
    """Notes on what the times of these runs include, what was skipped, and on which machine."""
    lines = [timed]
    if any(record.stream is not None for record in records):
        lines.append("Streamed runs: the upload of the inputs is inside the timed part.")
    return [*lines, f"Shortcuts on: {_shortcuts(records)}.", f"Machine: {_machine(records)}."]


def verification(records: Iterable[Record]) -> list[str]:
    """Notes on the marks behind the numbers of these runs, or that all are verified."""
    statuses = {record.status for record in records}
    marked = [f"{mark} {words}." for status, (mark, words) in MARKS.items() if status in statuses]
    return marked or ["Verified: the categories of every run."]


def is_noisy(record: Record) -> bool:
    """Whether the samples of a run lie far apart. A run with one sample is not noisy."""
    return record.timings_s.infer.spread >= NOISY_FROM


def noise_in_words(record: Record) -> str:
    """How far the samples of a run lie apart."""
    infer = record.timings_s.infer
    low, high = min(infer.samples), max(infer.samples)
    return (
        f"the samples are noisy: {low:.4g} to {high:.4g} s, {infer.spread:.0%} of the median "
        f"(warned from {NOISY_FROM:.0%})"
    )


def samples(records: Sequence[Record]) -> list[str]:
    """Warnings about samples: noise, or only one sample."""

    def name(record: Record) -> str:
        return f"{configuration_of(record).label} {problem_of(record).label}"

    lines = []
    noisy = [
        f"{name(record)} ({record.timings_s.infer.spread:.0%})"
        for record in records
        if is_noisy(record)
    ]
    if noisy:
        lines.append(
            f"Noisy samples, (largest - smallest) / median from {NOISY_FROM:.0%} on: "
            f"{', '.join(noisy)}."
        )
    single = [name(record) for record in records if len(record.timings_s.infer.samples) == 1]
    if single:
        lines.append(f"Only one timed run: {', '.join(single)}.")
    return lines


def _shortcuts(records: Sequence[Record]) -> str:
    engines: dict[str, list[str]] = {}
    for record in records:
        configuration = configuration_of(record)
        name = record.engine + (" --no-retire" if configuration.retires is False else "")
        names = engines.setdefault(shortcuts_in_words(record), [])
        if name not in names:
            names.append(name)
    return "; ".join(f"{', '.join(sorted(names))}: {what}" for what, names in engines.items())


def _machine(records: Sequence[Record]) -> str:
    """Hardware, driver, CUDA and dates of runs on equal machines."""
    parts = list(dict.fromkeys(hardware(record).label for record in records))
    on_gpu = [record.machine for record in records if record.device == "cuda"]
    drivers = {gpu.driver for machine in on_gpu for gpu in machine.gpus}
    runtimes = {machine.cuda.runtime for machine in on_gpu if machine.cuda}
    parts += [f"driver {driver}" for driver in sorted(drivers)]
    parts += [f"CUDA {runtime}" for runtime in sorted(runtimes)]
    days = sorted({record.created[:10] for record in records})
    return "; ".join([*parts, " to ".join(dict.fromkeys([days[0], days[-1]]))])
