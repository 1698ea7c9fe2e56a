"""What the CUDA engines share: CuPy, the device's memory, and the inputs on the device."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.kernel_source import compile_kernels
from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.errors import DeviceError
from spdnn_cli.network.fold import unfold
from spdnn_cli.network.layers import Features, Int32, Layer, Network

MEMORY_ALLOCATION_ERROR = 2
"""cudaErrorMemoryAllocation."""
FREE_SHARE = 0.94
"""Share of the free device memory that an engine uses; libraries need some too."""


def import_cupy() -> Any:
    """Import `cupy` and check that it works.

    Raises:
        DeviceError: CuPy is not installed, or finds no CUDA device.
    """
    try:
        import cupy
    except ImportError as error:
        # CuPy gives a page of advice, and the reason in its last line.
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise DeviceError(
            f"the CUDA engines need CuPy, which cannot be imported ({reason[0].strip()})",
            hint="Run: pip install 'spdnn[cuda13]' (or cuda12, as the driver allows).",
        ) from error
    try:
        cupy.cuda.runtime.getDevice()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"there is no usable CUDA device ({error})", hint="Use --device cpu, or see nvidia-smi."
        ) from error
    return cupy


def memory_budget(limit: int | None, held: int = 0) -> int:
    """Bytes of device memory that an engine may still use.

    Args:
        limit: what the user allows in all; None: what the device has.
        held: what the engine holds already.
    """
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    free = int(FREE_SHARE * cupy.cuda.runtime.memGetInfo()[0])
    return free if limit is None else min(limit - held, free)


@contextlib.contextmanager
def memory_errors_explained(what: str) -> Iterator[None]:
    """Turn CUDA's out-of-memory errors, of the device or of pinned memory, into a DeviceError.

    Args:
        what: what the memory was for, as in "no memory for WHAT".
    """
    import cupy

    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise _no_memory(what, error) from error
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if error.status != MEMORY_ALLOCATION_ERROR:
            raise
        raise _no_memory(what, error) from error


def _no_memory(what: str, error: Exception) -> DeviceError:
    return DeviceError(
        f"there is not enough memory for {what} ({error})",
        hint="Close other programs on the device, or give a smaller --device-memory.",
    )


class DeviceInputs:
    """The inputs, in their own layout: on the device if they fit, else copied batch by batch."""

    def __init__(self, features: Features, budget: int) -> None:
        """Copy `features` to the device if they take no more than a quarter of `budget` bytes."""
        import cupy

        self.features = features
        self.on_device = features.array.nbytes <= budget // 4
        self.array = cupy.asarray(features.array) if self.on_device else features.array

    @property
    def bytes_on_device(self) -> int:
        """Bytes of device memory that the inputs hold between runs."""
        return int(self.array.nbytes) if self.on_device else 0

    def rows(self, first: int, last: int) -> Any:
        """The inputs of images first..last-1 as a cupy.ndarray."""
        import cupy

        return cupy.asarray(self.array[first:last])


@dataclass(frozen=True, eq=False)
class DeviceLayer:
    """A plain layer on the device, in CSR: int32 row_offsets and columns, float32 weights, bias."""

    inputs: int
    outputs: int
    row_offsets: Any
    columns: Any
    weights: Any
    bias: Any


class HostDrivenEngine(ABC):
    """Plain layers in CSR on the device; after each layer the host asks which images are alive.

    A child names its kernels and says how a batch starts, how a layer runs and how dead images
    leave. Its values lie in `self._values`, two float32 buffers of `self._batch` images.
    """

    shortcuts = Shortcuts(
        dead_images_dropped=True, twins_folded=False, finished_images_retired=False
    )
    source: str
    kernel_names: tuple[str, ...]

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._stopwatch = options.stopwatch

    @abstractmethod
    def _start(self, rows: Any, images: int) -> None:
        """Begin with the inputs `rows` (cupy.ndarray) of a batch of `images` images."""

    @abstractmethod
    def _run_layer(self, layer: DeviceLayer, images: int, lives: Any) -> None:
        """Run a layer; set lives[image] (cupy uint8) where an output is not zero."""

    @abstractmethod
    def _keep(self, live: Int32, images: int, neurons: int) -> None:
        """Keep only the images `live` (places, ascending) of `images` images."""

    def prepare(self, network: Network) -> None:
        self._network = network
        with self._stopwatch.stage("compile"):
            self._cupy = import_cupy()
            self._kernels = compile_kernels(self.source, self.kernel_names, {})
        self._layers: list[DeviceLayer] = []
        with memory_errors_explained("the network's weights"):
            for k in range(network.depth):
                with self._stopwatch.stage("read"):
                    folded = network.layers[k]
                with self._stopwatch.stage("prepare"):
                    layer = unfold(folded)
                with self._stopwatch.stage("upload"):
                    self._layers.append(_to_device(layer))

    def upload(self, features: Features) -> None:
        cupy = self._cupy
        self._values: list[Any] = []
        with self._stopwatch.stage("upload"), memory_errors_explained("the images"):
            held = sum(12 * layer.outputs + 8 * len(layer.weights) for layer in self._layers)
            budget = memory_budget(self._options.device_memory, held)
            self._inputs = DeviceInputs(features, budget)
            widest = max([features.neurons, *(layer.outputs for layer in self._layers)])
            room = budget - self._inputs.bytes_on_device
            self._batch = min(features.images, room // (8 * widest + features.row_bytes + 8))
            if self._batch < 1:
                raise DeviceError(
                    f"one image needs {8 * widest} bytes of device memory, {room} are left",
                    hint="Give a larger --device-memory, or run the engine tiled.",
                )
            self._values = [cupy.empty(self._batch * widest, np.float32) for _ in range(2)]
            cupy.cuda.Device().synchronize()

    def infer(self) -> Inference:
        network, total = self._network, self._inputs.features.images
        entering, living = np.zeros((2, network.depth), np.int64)
        categories = []
        with self._stopwatch.stage("infer"):
            for first in range(0, total, self._batch):
                last = min(first + self._batch, total)
                images = np.arange(first, last, dtype=np.int32)
                self._start(self._inputs.rows(first, last), len(images))
                for k, layer in enumerate(self._layers):
                    if len(images) == 0:
                        break
                    entering[k] += len(images)
                    lives = self._cupy.zeros(len(images), np.uint8)
                    self._run_layer(layer, len(images), lives)
                    live = np.flatnonzero(lives.get()).astype(np.int32)
                    if len(live) < len(images):
                        self._keep(live, len(images), layer.outputs)
                        images = images[live]
                    living[k] += len(images)
                    if self._options.progress is not None:
                        self._options.progress(k + 1, len(images))
                categories.append(images)
        return Inference(
            np.concatenate(categories),
            int(entering @ network.edges_by_layer),
            tuple(living[: np.count_nonzero(entering)].tolist()),
        )


def _to_device(layer: Layer) -> DeviceLayer:
    import cupy

    return DeviceLayer(
        layer.inputs,
        layer.outputs,
        cupy.asarray(layer.row_offsets.astype(np.int32)),
        cupy.asarray(layer.columns),
        cupy.asarray(layer.weights),
        cupy.asarray(layer.bias),
    )
