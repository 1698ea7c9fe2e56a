"""The options of a run: one type, from the command line or the Python API to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spdnn_cli.errors import EngineError
from spdnn_cli.partition import Partition
from spdnn_cli.results.record import Device, Launcher

if TYPE_CHECKING:
    from spdnn_cli.network.dataset import Dataset


@dataclass(frozen=True)
class RunOptions:
    """What to run, how, and how often. Names and meanings are those of `spdnn infer`.

    Attributes:
        neurons: the official problem; None: the last one fetched, or the smallest.
        dataset: a dataset file in place of `neurons`.
        seed: of synthetic digits; None: the default, or the dataset at hand.
        layers: number of layers to run, from the first; None: all of the dataset.
        images: number of images to run, from the first; more than the dataset has: images repeat
            and are streamed to the device; None: all.
        engine: a name, or "auto".
        device: "cpu" or "cuda"; None: that of the engine, or a GPU if one can be used.
        threads: CPU threads of a worker; 0: all cores, shared by the workers of a machine.
        device_memory: bytes of device memory to use; None: all that is free.
        retire: whether finished images may leave the run.
        engine_options: options that an engine declares itself, by name.
        gpus: number of processes with one GPU each; None: one process.
        workers: number of processes on the CPU; None: one.
        launcher: what starts the workers; None: detected.
        partition: how workers share the images.
        rebalance: after which layer workers rebalance their live images; None: never.
        broadcast: under MPI, whether rank 0's dataset goes to all ranks.
        warmup: runs before the timed ones.
        repeat: timed runs.
        trace: whether to record how many layers each image is alive.
    """

    neurons: int | None = None
    dataset: Path | None = None
    seed: int | None = None
    layers: int | None = None
    images: int | None = None
    engine: str = "auto"
    device: Device | None = None
    threads: int = 0
    device_memory: int | None = None
    retire: bool = True
    engine_options: Mapping[str, str] = field(default_factory=dict)
    gpus: int | None = None
    workers: int | None = None
    launcher: Launcher | None = None
    partition: Partition = "snake"
    rebalance: int | None = None
    broadcast: bool = False
    warmup: int = 1
    repeat: int = 5
    trace: bool = False

    @property
    def processes(self) -> int:
        """How many workers are asked for."""
        return self.gpus or self.workers or 1

    def settled_layers(self, dataset: Dataset) -> int:
        """The number of layers that run."""
        return dataset.layers if self.layers is None else self.layers

    def settled_images(self, dataset: Dataset) -> int:
        """The number of images that run, with those that repeat."""
        return dataset.images if self.images is None else self.images

    def own_of(self, engine: str) -> dict[str, str]:
        """The options that are the engine's own.

        Raises:
            EngineError: one was given that the engine does not take.
        """
        from spdnn_cli.engines.registry import find

        taken = {option.name for option in find(engine).options}
        for name in self.engine_options:
            if name not in taken:
                raise EngineError(
                    f"engine {engine} does not take --{name}", hint=f"Leave out --{name}."
                )
        return dict(self.engine_options)
