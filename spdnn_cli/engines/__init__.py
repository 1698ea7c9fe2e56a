"""The engines: what each one is, the protocol that all of them keep, and the choice of `auto`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from spdnn_cli.errors import EngineError
from spdnn_cli.network import Features, Int32, Network
from spdnn_cli.timing import Stopwatch

Progress = Callable[[int, int], None]
"""Called with the number of layers done and of images still alive."""


@dataclass(frozen=True)
class Shortcuts:
    """What an engine may skip. Every result names these three."""

    dead_images_dropped: bool
    twins_folded: bool
    finished_images_retired: bool


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is to run.

    Attributes:
        threads: CPU threads.
        retire: whether finished (dead or finally saturated) images may leave the run, for engines
            that can tell; False: only dead ones.
        stopwatch: where the engine books the time of its stages.
        progress: told how far the run is; None: nobody.
    """

    threads: int = 1
    retire: bool = True
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Inference:
    """The outcome of one run.

    Attributes:
        categories: int32, ascending: the images, from 0, with a non-zero entry after the last layer.
        executed_edges: multiply-adds (and adds of a gather) that ran, for live images.
        alive: for each layer that ran, how many images were alive after it. A layer that did not
            run has no entry: by then every image had finished.
    """

    categories: Int32
    executed_edges: int
    alive: tuple[int, ...]


class Engine(Protocol):
    """One way to run a network. An engine knows nothing of files or processes.

    The verbs come in this order; `infer` may be called again and again, and each call does all of
    the work. Layers may also be read and prepared inside `infer`, when only the run can tell that
    they are needed; the stopwatch keeps the stages apart.
    """

    shortcuts: Shortcuts

    def __init__(self, options: EngineOptions) -> None: ...

    def prepare(self, network: Network) -> None:
        """Compile kernels, and bring the network into the engine's own form."""

    def upload(self, features: Features) -> None:
        """Bring the inputs to the device, in the engine's own input layout."""

    def infer(self) -> Inference:
        """Run the network: features on the device to categories on the host."""


@dataclass(frozen=True)
class EngineEntry:
    """Where an engine is found, and what it is."""

    device: str
    module: str
    class_name: str
    summary: str


ENGINES = {
    "reference": EngineEntry(
        "cpu", "reference", "ReferenceEngine", "SciPy, float64, layer by layer: the oracle"
    ),
    "cpu-layered": EngineEntry(
        "cpu", "cpu_layered", "CpuLayeredEngine", "Numba, layer by layer, dead images dropped"
    ),
    "cpu": EngineEntry(
        "cpu", "cpu", "CpuEngine", "Numba, twins folded, finished images retired"
    ),
}


def create(name: str, options: EngineOptions) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: there is no such engine.
    """
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name!r}", hint=f"Engines: {', '.join(ENGINES)}.")
    entry = ENGINES[name]
    module = importlib.import_module(f"spdnn_cli.engines.{entry.module}")
    engine: Engine = getattr(module, entry.class_name)(options)
    return engine
