"""The engines: what each one is, the protocol that all of them keep, and the choice of `auto`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from spdnn_cli.errors import EngineError
from spdnn_cli.network import Features, Float32, Int32, Network
from spdnn_cli.tile import Tiling
from spdnn_cli.timing import Stopwatch

Progress = Callable[[int, int], None]
"""Called with the number of layers done and of images still alive."""


@dataclass(frozen=True)
class Shortcuts:
    """What an engine may skip. Every result names these three."""

    dead_images_dropped: bool
    twins_folded: bool
    finished_images_retired: bool

    def with_twins_folded(self) -> Shortcuts:
        """The same, on a folded network."""
        return replace(self, twins_folded=True)


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is to run.

    Attributes:
        threads: CPU threads.
        retire: whether finished (dead or finally saturated) images may leave the run, for engines
            that can tell; False: only dead ones.
        stopwatch: where the engine books the time of its stages.
        progress: told how far the run is; None: nobody.
        device_memory: bytes of device memory that a CUDA engine may use; None: what is free.
        tiling: how `tiled` is to tile; None: as is fastest on the device.
        feature_bytes: of a value that `tiled` stores between layers: 4 (float32) or 2 (float16).
        keep_values: whether the outcome holds the values of the live images; for engines of
            `rebalance.ENGINES`.
        replays: whether an upload is inferred more than once, so that recording the run for a
            replay pays (CUDA graphs).
    """

    threads: int = 1
    retire: bool = True
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    progress: Progress | None = None
    device_memory: int | None = None
    tiling: Tiling | None = None
    feature_bytes: int = 4
    keep_values: bool = False
    replays: bool = True


@dataclass(frozen=True, eq=False)
class Inference:
    """The outcome of one run.

    Attributes:
        categories: int32, ascending: the images, from 0, with a non-zero entry after the last
            layer.
        executed_edges: multiply-adds (and adds of a gather) that ran, for live images.
        alive: for each layer that ran, how many images were alive after it. A layer that did not
            run has no entry: by then every image had finished.
        values: float32 (categories, neurons): the values of those images after the last layer;
            None: they were not asked for.
    """

    categories: Int32
    executed_edges: int
    alive: tuple[int, ...]
    values: Float32 | None = None


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
    """Which device an engine runs on, and where its class is."""

    device: str
    module: str
    class_name: str


ENGINES = {
    "reference": EngineEntry("cpu", "reference", "ReferenceEngine"),
    "cpu-layered": EngineEntry("cpu", "cpu_layered", "CpuLayeredEngine"),
    "cpu": EngineEntry("cpu", "cpu", "CpuEngine"),
    "baseline": EngineEntry("cuda", "cuda_baseline", "BaselineEngine"),
    "cusparse": EngineEntry("cuda", "cuda_cusparse", "CusparseEngine"),
    "tiled": EngineEntry("cuda", "cuda_tiled", "TiledEngine"),
    "folded": EngineEntry("cuda", "cuda_folded", "FoldedEngine"),
}


MOST_FOLDED_SHARE = 0.5
"""`auto` folds where the cores keep no more than this share of the edges."""
MOST_FOLDED_VALUES = 12_000
"""Two copies of so many values of an image fit in 96 KiB of shared memory."""


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


@dataclass(frozen=True)
class Choice:
    """The engine that runs, on which device, and why."""

    engine: str
    device: str
    reason: str


def choose(name: str, device: str | None, best_device: str, network: Network) -> Choice:
    """Settle the engine and the device.

    Args:
        name: an engine, or "auto".
        device: "cpu", "cuda", or None: that of the engine, and `best_device` for "auto".
        best_device: the best that is present.
        network: what is to run; `auto` looks at its first layers.

    Raises:
        EngineError: there is no such engine, or it does not run on the device.
    """
    if name == "auto":
        return _best(device or best_device, network)
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name!r}", hint=f"Engines: {', '.join(ENGINES)}.")
    if device not in (None, ENGINES[name].device):
        raise EngineError(
            f"engine {name} runs on {ENGINES[name].device}, not on {device}",
            hint=f"Leave out --device, or choose one of {', '.join(_on(str(device)))}.",
        )
    return Choice(name, ENGINES[name].device, "asked for")


def _best(device: str, network: Network) -> Choice:
    first = network.layers[: min(2, network.depth)]
    share = sum(layer.core.edges for layer in first) / max(1, sum(layer.edges for layer in first))
    left = f"{share:.1%} of the first layers' edges are left"
    folded, plain = ("folded", "tiled") if device == "cuda" else ("cpu", "cpu-layered")
    if share > MOST_FOLDED_SHARE:
        return Choice(plain, device, f"there are few twins to fold: {left}")
    widest = max(layer.core.outputs for layer in first)
    if device == "cuda" and widest > MOST_FOLDED_VALUES:
        left += f"; layer by layer: {widest} values of an image do not fit on the chip"
    return Choice(folded, device, f"folding twins, {left}")


def _on(device: str) -> list[str]:
    return [name for name, entry in ENGINES.items() if entry.device == device]
