"""The protocol of all engines: their input and their output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from spdnn_cli.network.layers import Features, Float32, Int32, Network
from spdnn_cli.timing import Stopwatch

LayerProgress = Callable[[int, int], None]
"""Called with the number of layers done and the number of images alive."""


@dataclass(frozen=True)
class Shortcuts:
    """What an engine may skip. Every record holds these three."""

    dead_images_dropped: bool
    twins_folded: bool
    finished_images_retired: bool

    def with_twins_folded(self) -> Shortcuts:
        """The same, on a folded network."""
        return replace(self, twins_folded=True)


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        threads: CPU threads.
        retire: whether finished (dead or finally saturated) images may leave the run, for engines
            that can tell; False: only dead ones.
        stopwatch: records the time of the engine's stages.
        progress: called with the progress of a run; None: nothing is called.
        device_memory: bytes of device memory that a CUDA engine may use; None: all that is free.
        own: options that only this engine takes (`registry.EngineOption`), by name.
        choices: results of an engine's trials, which it looks up before it makes new ones; texts
            by key. The caller may keep them in a file.
        keep_values: whether the inference holds the values of the live images; for engines whose
            entry has `gives_values`.
        replays: whether an upload is inferred more than once, so that a recorded run (a CUDA graph)
            saves time.
    """

    threads: int = 1
    retire: bool = True
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    progress: LayerProgress | None = None
    device_memory: int | None = None
    own: Mapping[str, str] = field(default_factory=dict)
    choices: MutableMapping[str, str] = field(default_factory=dict)
    keep_values: bool = False
    replays: bool = True


@dataclass(frozen=True, eq=False)
class Inference:
    """The outcome of one run.

    Attributes:
        categories: int32, ascending: the images, from 0, with a non-zero entry after the last
            layer.
        executed_edges: multiply-adds (and adds of a gather) that ran, for live images.
        alive: for each layer that ran, the number of images alive after it. A layer that did not
            run has no entry: every image had finished before it.
        values: float32 (categories, neurons): the values of the images in `categories` after the
            last layer; None without `keep_values`.
    """

    categories: Int32
    executed_edges: int
    alive: tuple[int, ...]
    values: Float32 | None = None


class Engine(Protocol):
    """One way to run a network. An engine knows nothing of files or processes.

    The methods are called in this order. `infer` may be called repeatedly, and each call does all
    of the work. `infer` may also read and prepare layers, if only the run can tell that they are
    needed; the stopwatch keeps the stages apart.
    """

    shortcuts: Shortcuts

    def __init__(self, options: EngineOptions) -> None: ...

    def prepare(self, network: Network) -> None:
        """Compile kernels, and convert the network to the engine's own form."""

    def upload(self, features: Features) -> None:
        """Copy the inputs to the device, in the engine's own input layout."""

    def infer(self) -> Inference:
        """Run the network: features on the device to categories on the host."""
