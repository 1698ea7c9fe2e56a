"""The record of a run: every field with its type, unit and meaning.

A record is decoded strictly: an unknown, missing or mistyped field is an error that names its path,
such as `$.launch.workers`. docs/results.md and docs/result.schema.json are made from this module.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION: Literal[3] = 3
"""The version of the records that this program writes, and the only one that it reads."""

SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]
Device = Literal["cpu", "cuda"]
Launcher = Literal["alone", "processes", "mpi"]
Partition = Literal["contiguous", "snake"]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all parts of a record: immutable, and strict when it is decoded."""


class Status(enum.Enum):
    """What is known of the categories of a run."""

    VERIFIED = "verified"
    COUNT_ONLY = "count only"
    UNVERIFIED = "not verified"
    WRONG = "wrong"


class Verification(Struct, frozen=True):
    """Whether the categories are right."""

    status: Annotated[
        Status,
        Meta(
            description="`verified`: the same categories as the truth; `count only`: the same "
            "number of categories, and no more is known of the truth; `not verified`: no truth is "
            "known; `wrong`"
        ),
    ]
    against: Annotated[str | None, Meta(description="the truth; null: none")] = None
    difference: Annotated[str | None, Meta(description="how they differ; null: not at all")] = None


class Program(Struct, frozen=True):
    """The program that made the record."""

    version: Annotated[str, Meta(description="version of spdnn")]
    sources_sha256: Annotated[
        SHA256 | None,
        Meta(
            description="SHA-256 of the program's sources (`spdnn_cli.sources`); names the commit; "
            "null: the record was made before records held it"
        ),
    ]


class Repetition(Struct, frozen=True):
    """How many runs were asked for."""

    warmup: Annotated[Count, Meta(description="runs before the timed ones")]
    repeat: Annotated[Positive, Meta(description="timed runs")]


class Shortcuts(Struct, frozen=True):
    """What the engine could skip."""

    dead_images_dropped: Annotated[bool, Meta(description="images that are all zero left the run")]
    twins_folded: Annotated[
        bool, Meta(description="neurons with the same edges were computed once")
    ]
    finished_images_retired: Annotated[
        bool, Meta(description="images at YMAX for good left the run")
    ]


class Data(Struct, frozen=True):
    """The dataset."""

    file: Annotated[str, Meta(description="its name below the data folder, else its path")]
    source: Annotated[str, Meta(description='"tsv", "mnist", "synthetic", or another')]
    images: Annotated[
        Positive, Meta(description="images that it holds; a run of more images repeats them")
    ]
    official_inputs: Annotated[bool, Meta(description="the inputs are the challenge's own")]
    official_network: Annotated[bool, Meta(description="the layers are the challenge's own")]
    features_sha256: Annotated[SHA256, Meta(description="SHA-256 of the inputs")]
    network_sha256: Annotated[SHA256, Meta(description="SHA-256 of the layers that ran")]
    provenance: Annotated[
        dict[str, Any],
        Meta(description="how it was made: seed, raw files and sizes, program, time"),
    ] = {}


class Launch(Struct, frozen=True):
    """How the workers were started, and how they shared the images."""

    launcher: Annotated[
        Launcher,
        Meta(description="`alone`: one process; `processes`: several of one machine; `mpi`"),
    ]
    workers: Annotated[Positive, Meta(description="number of workers, each with its own device")]
    partition: Annotated[
        Partition,
        Meta(
            description="`snake`: images distributed to workers back and forth; `contiguous`: one "
            "block per worker"
        ),
    ]
    rebalance_layer: Annotated[
        int | None, Meta(description="the layer after which live images moved; null: they did not")
    ]
    broadcast: Annotated[bool, Meta(description="under MPI, rank 0 sent the dataset to all")]


class Samples(Struct, frozen=True):
    """The seconds of every run, from the common start to the end of the slowest worker."""

    warmup: Annotated[tuple[Seconds, ...], Meta(description="runs that do not count")]
    samples: Annotated[
        tuple[Seconds, ...], Meta(min_length=1, description="timed runs, none left out")
    ]
    median: Annotated[Seconds, Meta(description="median of `samples`")]

    @property
    def spread(self) -> float:
        """How far the samples lie apart: (largest - smallest) / median; 0 for a median of 0."""
        return (max(self.samples) - min(self.samples)) / self.median if self.median else 0.0


class Stages(Struct, frozen=True):
    """Seconds of each stage of a worker; they do not overlap."""

    read: Annotated[Seconds, Meta(description="disk to host")]
    prepare: Annotated[Seconds, Meta(description="convert the network to the engine's form")]
    compile: Annotated[Seconds, Meta(description="compile kernels with Numba or NVRTC")]
    upload: Annotated[Seconds, Meta(description="host to device")]
    infer: Annotated[Samples, Meta(description="features on the device to categories on the host")]


class Timings(Stages, frozen=True):
    """Seconds of each stage of a run: those of the slowest worker."""

    convert: Annotated[Seconds, Meta(description="making the dataset; 0: it was there")]
    gather: Annotated[Seconds, Meta(description="collecting the categories of all workers")]
    end_to_end: Annotated[Seconds, Meta(description="the whole process, from its start")]


class GpuState(Struct, frozen=True):
    """Clocks, temperature and power of a GPU at one moment; null where the driver does not say."""

    sm_mhz: Annotated[float | None, Meta(description="clock of the multiprocessors")]
    memory_mhz: Annotated[float | None, Meta(description="clock of the memory")]
    temperature_c: Annotated[float | None, Meta(description="temperature of the GPU")]
    power_w: Annotated[float | None, Meta(description="power that the GPU draws")]


class Clocks(Struct, frozen=True):
    """The state of a GPU around the runs."""

    before: Annotated[GpuState | None, Meta(description="before the first run")]
    after: Annotated[GpuState | None, Meta(description="after the last run")]


class Moved(Struct, frozen=True):
    """What `--rebalance` did to a worker, in the last run."""

    images_before: Annotated[Count, Meta(description="live images before the move")]
    images_after: Annotated[Count, Meta(description="live images after it")]
    seconds: Annotated[Seconds, Meta(description="duration of the move, with the wait for others")]


class Worker(Struct, frozen=True):
    """One rank, and what it did."""

    rank: Annotated[Count, Meta(description="number of the rank, from 0")]
    host: Annotated[str | None, Meta(description="the machine's name")]
    device: Annotated[Device, Meta(description="where it computed")]
    device_index: Annotated[int | None, Meta(description="place among the GPUs; null on a CPU")]
    device_name: Annotated[str, Meta(description="model of the GPU or processor")]
    uuid: Annotated[str | None, Meta(description="UUID of the GPU; null on a CPU")]
    threads: Annotated[Positive, Meta(description="CPU threads")]
    images: Annotated[Count, Meta(description="number of images that it ran")]
    survivors: Annotated[Count, Meta(description="number of its categories")]
    executed_edges: Annotated[Count, Meta(description="multiply-adds that it ran")]
    timings_s: Annotated[Stages, Meta(description="its own stages")]
    rebalanced: Annotated[Moved | None, Meta(description="null without `--rebalance`")]
    clocks: Annotated[Clocks | None, Meta(description="null on a CPU")]
    peak_memory_bytes: Annotated[int | None, Meta(description="most host memory that it had")]


class Stream(Struct, frozen=True):
    """A run whose images were copied to the device inside the timed part."""

    chunk_images: Annotated[Positive, Meta(description="images of a chunk")]
    chunks: Annotated[Positive, Meta(description="number of chunks")]
    images_per_s: Annotated[float, Meta(description="images / median seconds")]
    bytes: Annotated[Count, Meta(description="bytes of inputs that were copied")]
    bytes_per_s: Annotated[float, Meta(description="bytes / median seconds")]
    bus_bytes_per_s: Annotated[
        float | None,
        Meta(description="speed of copies without inference; null: copies do not overlap"),
    ]
    bus_share: Annotated[float | None, Meta(description="bytes_per_s / bus_bytes_per_s")]


class Gpu(Struct, frozen=True):
    """A GPU of the machine."""

    name: Annotated[str, Meta(description="the model")]
    uuid: Annotated[str, Meta(description="UUID from NVML")]
    driver: Annotated[str, Meta(description="version of the driver")]


class Cuda(Struct, frozen=True):
    """Versions of CUDA."""

    runtime: Annotated[str, Meta(description="version of the runtime that CuPy used")]
    driver: Annotated[str, Meta(description="highest version that the driver can run")]


class Machine(Struct, frozen=True):
    """The machine of rank 0."""

    cpu: Annotated[str, Meta(description="model of the processor")]
    cores: Annotated[Positive, Meta(description="cores that the process could use")]
    memory_bytes: Annotated[Count, Meta(description="bytes of host memory")]
    gpus: Annotated[tuple[Gpu, ...], Meta(description="NVIDIA GPUs, in the order of the bus")]
    system: Annotated[str, Meta(description="operating system and its release")]
    python: Annotated[str, Meta(description="version of Python")]
    packages: Annotated[
        dict[str, str], Meta(description="versions of the packages that affect a run")
    ]
    cuda: Annotated[Cuda | None, Meta(description="null where CUDA did not run")] = None


Alive = tuple[tuple[Count, Positive], ...]


class Record(Struct, frozen=True, kw_only=True):
    """One run."""

    schema_version: Annotated[Literal[3], Meta(description="3")] = SCHEMA_VERSION
    id: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            description="`n{neurons}-l{layers}-{engine}-{time in UTC}`",
        ),
    ]
    created: Annotated[str, Meta(description="when the run ended, UTC, ISO 8601")]
    suite: Annotated[
        str | None, Meta(description="the suite of bench.yaml that it belongs to; null: none")
    ] = None
    program: Program
    command: Annotated[tuple[str, ...], Meta(description="the command line")]
    options: Repetition
    neurons: Annotated[Positive, Meta(description="input neurons")]
    layers: Annotated[Positive, Meta(description="layers that ran")]
    images: Annotated[Positive, Meta(description="images, with those that were repeated")]
    engine: Annotated[str, Meta(description="name of the engine")]
    engine_reason: Annotated[str, Meta(description='why `auto` took it, or "asked for"')]
    engine_options: Annotated[
        dict[str, str], Meta(description="options that only this engine has, as asked for")
    ] = {}
    engine_settings: Annotated[
        dict[str, int | bool],
        Meta(description="what the engine chose itself, such as the tile shape"),
    ] = {}
    device: Annotated[Device, Meta(description="where it computed")]
    threads: Annotated[Positive, Meta(description="CPU threads of a worker")]
    device_memory: Annotated[
        int | None, Meta(description="the limit asked for, in bytes; null: none")
    ]
    shortcuts: Shortcuts
    dataset: Data
    survivors: Annotated[Count, Meta(description="number of categories, of all passes")]
    categories_sha256: Annotated[
        SHA256,
        Meta(description="SHA-256 of the list of categories, in `lists/` beside the results"),
    ]
    lifetimes_sha256: Annotated[
        SHA256 | None,
        Meta(
            description="SHA-256 of the lifetimes, in `lists/` beside the results; null: run "
            "without `--trace`"
        ),
    ] = None
    verification: Verification
    timings_s: Timings
    edges: Annotated[Count, Meta(description="images x edges of all layers: the challenge's count")]
    effective_teraedges_per_s: Annotated[
        float, Meta(description="edges / median seconds of inference / 1e12: the challenge's rate")
    ]
    executed_edges: Annotated[Count, Meta(description="multiply-adds that ran")]
    executed_teraedges_per_s: Annotated[
        float, Meta(description="executed_edges / median seconds / 1e12")
    ]
    alive: Annotated[
        Alive,
        Meta(
            description="images alive after each layer that ran: one entry [images, layers] for "
            "consecutive layers with the same number of images"
        ),
    ]
    launch: Launch
    workers: Annotated[tuple[Worker, ...], Meta(min_length=1, description="one for each rank")]
    imbalance: Annotated[float, Meta(description="slowest worker's median / mean of all")]
    stream: Annotated[Stream | None, Meta(description="null where images were in memory")] = None
    machine: Machine
    peak_memory_bytes: Annotated[int | None, Meta(description="most host memory that a worker had")]

    @property
    def seconds(self) -> float:
        """Median seconds of inference."""
        return self.timings_s.infer.median

    @property
    def status(self) -> Status:
        """What is known of the categories."""
        return self.verification.status

    @property
    def alive_by_layer(self) -> list[int]:
        """Images alive after each layer that ran."""
        return [images for images, layers in self.alive for _ in range(layers)]


def alive_stretches(by_layer: Iterable[int]) -> Alive:
    """Images alive after each layer, as `Record.alive` holds them."""
    return tuple((images, len(list(layers))) for images, layers in itertools.groupby(by_layer))


def decode(text: str | bytes) -> Record:
    """A record from JSON.

    Raises:
        ValueError: it is not JSON, or not a record of this version; the message names the path.
    """
    try:
        return _decoded(text)
    except msgspec.ValidationError as error:
        raise ValueError(_with_whole_path(str(error))) from error


def _decoded(text: str | bytes) -> Record:
    version = msgspec.json.decode(text, type=_Versioned).schema_version
    if version != SCHEMA_VERSION:
        newer = "Update spdnn" if version > SCHEMA_VERSION else "Run it again with this version"
        raise ValueError(f"schema version {version}; this program reads {SCHEMA_VERSION}. {newer}")
    return _decoder.decode(text)


def _with_whole_path(message: str) -> str:
    """What msgspec says; of a missing or unknown field it names the place and the field apart."""
    match = _FIELD_AT_FAULT.fullmatch(message)
    if match is None:
        return message
    state = "is missing" if match["what"] == "missing required" else "is unknown"
    return f"`{match['place'] or '$'}.{match['name']}` {state}"


def encode(record: Record) -> str:
    """A record as one line of JSON, without a line end."""
    return msgspec.json.encode(record).decode()


_FIELD_AT_FAULT = re.compile(
    r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*?)`"
    r"(?: - at `(?P<place>.*)`)?",
    re.DOTALL,
)


class _Versioned(msgspec.Struct):
    schema_version: int


_decoder = msgspec.json.Decoder(Record)
