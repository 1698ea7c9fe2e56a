"""The `tiled` engine: the paper's, on one GPU, for any sparse network.

Every edge of every live image runs, layer by layer, one kernel per layer (kernels/tiled.cu). Dead
images are dropped on the device (kernels/images.cu): no layer waits for the host. So a run whose
weights and images fit the device is one CUDA graph; otherwise weights stream from pinned memory,
the next layer's copy under this layer's kernel, and images are run in batches.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.device import (
    DeviceInputs,
    import_cupy,
    memory_budget,
    memory_errors_explained,
)
from spdnn_cli.engines.cuda.kernel_source import compile_kernels
from spdnn_cli.engines.cuda.tile import TileShape, Tiling, parse_tiling
from spdnn_cli.engines.cuda.tuning import tuned_shape
from spdnn_cli.engines.cuda.weights import LayerTables, WeightStore
from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.errors import DeviceError
from spdnn_cli.network.layers import Features, Float32, Network

BITS, VALUES, MOVED = LAYER_KERNELS = ("layer<0>", "layer<1>", "layer<2>")
IMAGE_KERNELS = (
    "start_run", "pack_bits", "pack_values", "list_live", "count_alive", "mark_survivors",
)  # fmt: skip
LIST_THREADS = 1024
THREADS = 256
MOST_GROUPS = 65535
"""CUDA's limit for the second dimension of a grid."""
LISTS_AT_FIRST, LAYERS_PER_LIST = 16, 32
"""Live images are counted, and listed if few are left, after each of the first 16 layers, and then
after every 32nd."""
TAKEN_AT_A_TIME = 256
"""Images whose values are fetched from the device at a time."""
MOVE_SHARE = 0.8
"""Live images are compacted if they fill no more than this share of the slots in use."""


class TiledEngine:
    """The paper's engine."""

    shortcuts = Shortcuts(
        dead_images_dropped=True, twins_folded=False, finished_images_retired=False
    )

    def __init__(self, options: EngineOptions, tiling: Tiling | None = None) -> None:
        """Keep the options.

        Args:
            options: their own "tile" is a shape as `parse_tiling` takes it.
            tiling: how to tile; None: the shape of the options, else the fastest on the device.

        Raises:
            EngineError: the shape of the options is not valid.
        """
        asked = options.own.get("tile", "auto")
        self._asked = tiling or (None if asked == "auto" else parse_tiling(asked))
        self._options = options
        self.move_share = MOVE_SHARE
        self._graph: Any = None

    @property
    def settings(self) -> dict[str, int | bool]:
        """How the network was tiled, for the record of a run."""
        return self.tiling.settings

    def prepare(self, network: Network) -> None:
        self._network = network
        with self._options.stopwatch.stage("compile"):
            self._cupy = import_cupy()
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            device = self._cupy.cuda.Device()
            self._multiprocessors = device.attributes["MultiProcessorCount"]
        with self._options.stopwatch.stage("prepare"):
            self.tiling = self._asked or Tiling(tuned_shape(network, self._options, _trial_engine))
            self.shape = self.tiling.shape
        room = device.attributes["MaxSharedMemoryPerBlockOptin"]
        if self.shape.buffer_bytes > room:
            raise DeviceError(
                f"a buffer of {self.shape.buffer_bytes} bytes was asked for, a block of this "
                f"device has {room} bytes of shared memory",
                hint="Ask for a smaller buffer.",
            )
        with self._options.stopwatch.stage("compile"):
            self._kernels = compile_kernels("tiled.cu", LAYER_KERNELS, self.shape.macros)
            self._kernels |= compile_kernels("images.cu", IMAGE_KERNELS, self.shape.macros)
        with memory_errors_explained("the network's weights"), self._stream:
            budget = memory_budget(self._options.device_memory)
            self._weights = WeightStore(network, self.tiling, self._options, budget)
            self._stream.synchronize()
        most = max(layer.shared_bytes for layer in self._weights.layers)
        for name in LAYER_KERNELS:
            self._kernels[name].max_dynamic_shared_size_bytes = most
        self._together: dict[tuple[str, int], int] = {}

    def upload(self, features: Features) -> None:
        stopwatch = self._options.stopwatch
        self._forget_images()
        with stopwatch.stage("upload"), memory_errors_explained("the images"), self._stream:
            held = self._weights.bytes_on_device
            budget = memory_budget(self._options.device_memory, held)
            self._inputs = DeviceInputs(features, budget)
            self._plan_batches(budget - self._inputs.bytes_on_device)
            self._stream.synchronize()
        together = len(self.batches) == 1 and self._inputs.on_device and self._weights.resident
        if together and self._options.replays and not self._options.keep_values:
            with stopwatch.stage("prepare"), self._stream:
                self._stream.begin_capture()
                self._enqueue_run()
                self._graph = self._stream.end_capture()
                self._graph.upload(self._stream)
                self._stream.synchronize()

    def infer(self) -> Inference:
        self._kept: list[Float32] = []
        with self._options.stopwatch.stage("infer"), self._stream:
            if self._graph is not None:
                self._graph.launch(self._stream)
            else:
                self._enqueue_run()
            outcome = self._outcome.get(stream=self._stream)
        depth = self._network.depth
        alive = outcome[: 4 * depth].view(np.int32)
        entering = np.concatenate([[self._inputs.features.images], alive[:-1]]).astype(np.int64)
        if self._options.progress is not None:
            self._options.progress(depth, int(alive[-1]))
        return Inference(
            categories=np.flatnonzero(outcome[4 * depth :]).astype(np.int32),
            executed_edges=int(entering @ self._network.edges_by_layer),
            alive=tuple(alive[: np.count_nonzero(entering)].tolist()),
            values=np.concatenate(self._kept) if self._options.keep_values else None,
        )

    def _forget_images(self) -> None:
        """Free the memory of an earlier upload."""
        self._graph = None
        for name in ("_inputs", "_values", "_alive"):
            self.__dict__.pop(name, None)

    def _plan_batches(self, budget: int) -> None:
        """Cut the images into batches that fit `budget` bytes, and allocate for the largest."""
        cupy, features = self._cupy, self._inputs.features
        minibatch, depth = self.shape.minibatch, self._network.depth
        widest = max([features.neurons, *(layer.outputs for layer in self._weights.layers)])
        group_bytes = 8 * minibatch * widest + 4 * depth + 8 * minibatch
        if not self._inputs.on_device:
            group_bytes += minibatch * features.row_bytes
        room = max(0, budget - 4 * depth - features.images)
        groups = min(-(-features.images // minibatch), room // group_bytes, MOST_GROUPS)
        if groups == 0:
            raise DeviceError(
                f"{minibatch} images need {group_bytes} bytes of device memory, {room} are left",
                hint="Give a larger --device-memory.",
            )
        bounds = [*range(0, features.images, groups * minibatch), features.images]
        self.batches = list(pairwise(bounds))
        self._groups = groups
        self._values = cupy.empty((2, groups * minibatch * widest), np.float32)
        self._alive = cupy.empty((depth, groups), np.uint32)
        self._source = cupy.empty(groups * minibatch, np.int32)
        self._image_of_slot = cupy.empty(groups * minibatch, np.int32)
        self._control = cupy.empty(2, np.int32)
        self._outcome = cupy.empty(4 * depth + features.images, np.uint8)

    # --- a run: all methods below except `_live_values` only put work on the stream --------------

    def _enqueue_run(self) -> None:
        self._outcome.data.memset_async(0, self._outcome.nbytes, self._stream)
        for first, last in self.batches:
            self._start_batch(first, last)
            for k in range(self._network.depth):
                self._run_layer(k)
                if self._lists_live(k):
                    self._list_live(k)
            self._end_batch()
            if self._options.keep_values:
                self._kept.append(self._live_values())

    def _live_values(self) -> Float32:
        """Wait for the batch; the values of its live images, float32 (images, neurons)."""
        depth, minibatch, panel = self._network.depth, self.shape.minibatch, self.shape.panel
        words = self._alive[depth - 1][: int(self._control[0])].get()
        slots = np.flatnonzero(words[:, None] >> np.arange(minibatch, dtype=np.uint32) & 1)
        slots = slots[np.argsort(self._image_of_slot.get()[slots])]
        stored = self._weights.layers[-1].outputs
        panels = self._values[(depth - 1) % 2][: len(self._source) * stored]
        panels = panels.reshape(-1, stored, panel)
        position = self._cupy.asarray(self._weights.position)
        kept = np.empty((len(slots), len(position)), np.float32)
        for first in range(0, len(slots), TAKEN_AT_A_TIME):
            some = self._cupy.asarray(slots[first : first + TAKEN_AT_A_TIME])
            images = panels[some // panel, :, some % panel]
            kept[first : first + len(some)] = images[:, position].get()
        return kept

    def _start_batch(self, first: int, last: int) -> None:
        """Clear the words of live images and pack the inputs, into the second half of `values`."""
        features, images, slots = self._inputs.features, last - first, len(self._source)
        self._alive.data.memset_async(0, self._alive.nbytes, self._stream)
        self._launch(
            "start_run", (-(-slots // THREADS),),
            np.int32(first), np.int32(images), np.int32(slots), self._control, self._image_of_slot,
        )  # fmt: skip
        rows, groups = self._inputs.rows(first, last), -(-images // self.shape.minibatch)
        sizes = [np.int32(images), np.int32(features.neurons)]
        columns, kernel = features.neurons, "pack_values"
        if features.are_bits:
            columns, kernel = features.row_bytes, "pack_bits"
            sizes.append(np.int32(features.row_bytes))
        self._launch(kernel, (-(-columns // THREADS), groups), rows, *sizes, self._values[1])

    def _run_layer(self, k: int) -> None:
        layer = self._weights.layers[k]
        name = MOVED if k > 0 and self._lists_live(k - 1) else VALUES
        if k == 0 and self._inputs.features.are_bits:
            name = BITS
        tables = self._weights.fetch(k, self._stream)
        next_tables, next_bytes = self._weights.after(k)
        arguments = (
            self._values[(k + 1) % 2], self._values[k % 2],
            np.int32(layer.inputs), np.int32(layer.outputs), np.float32(self._network.ymax),
            np.int32(k % 2), self._control, self._source,
            self._alive[k - 1] if k > 0 else np.uintp(0), self._alive[k],
            np.uintp(next_tables), np.uintp(next_bytes),
            *(np.uintp(tables + offset) for offset in layer.offsets),
        )  # fmt: skip
        grid = (self._multiprocessors * self._blocks_together(name, layer),)
        kernel = self._kernels[name]
        kernel(grid, (self.shape.blocksize,), arguments, shared_mem=layer.shared_bytes)
        self._weights.release(k, self._stream)

    def _lists_live(self, k: int) -> bool:
        """Whether the live images are listed after layer k."""
        if k == self._network.depth - 1:
            return False
        return k < LISTS_AT_FIRST or k % LAYERS_PER_LIST == 0

    def _list_live(self, k: int) -> None:
        """Compact the live images after layer k, if few are left."""
        arguments = (
            self._alive[k], np.float32(self.move_share),
            self._control, self._source, self._image_of_slot,
        )  # fmt: skip
        self._kernels["list_live"]((1,), (LIST_THREADS,), arguments)

    def _end_batch(self) -> None:
        depth, slots = self._network.depth, len(self._source)
        counts, survives = self._outcome[: 4 * depth], self._outcome[4 * depth :]
        self._launch("count_alive", (depth,), self._alive, np.int32(self._groups), counts)
        self._launch(
            "mark_survivors", (-(-slots // THREADS),),
            self._alive[depth - 1], self._control, self._image_of_slot, survives,
        )  # fmt: skip

    def _launch(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        self._kernels[name](grid, (THREADS,), arguments)

    def _blocks_together(self, name: str, layer: LayerTables) -> int:
        """Blocks of a layer's kernel that run side by side on a multiprocessor."""
        key = (name, layer.shared_bytes)
        if key not in self._together:
            driver = self._cupy.cuda.driver
            self._together[key] = driver.occupancyMaxActiveBlocksPerMultiprocessor(
                self._kernels[name].kernel.ptr, self.shape.blocksize, layer.shared_bytes
            )
        return self._together[key]


def _trial_engine(options: EngineOptions, shape: TileShape) -> TiledEngine:
    """An engine for a trial of a shape."""
    return TiledEngine(options, Tiling(shape))
