"""The `folded` engine: the folded network on one GPU, each image on the chip from bits to end.

1. Leading shift layers (`steps.leading_shift_layers`) behind 0/1 inputs: an image in the registers
   of a few lanes (kernels/folded_shift.cu). What outlives them goes to a pool.
2. All other layers: a few images at a time in the shared memory of a block
   (kernels/folded_steps.cu), from the pool, or from the inputs where step 1 does not apply.

A run is one CUDA graph: clear the counters, the two kernels, and the copy of the outcome. Layers
are read and prepared as far as images live.
"""

from __future__ import annotations

from itertools import accumulate
from operator import add, mul
from typing import Any

import numpy as np

from spdnn_cli.engines import EngineOptions, Inference, Shortcuts
from spdnn_cli.engines.cuda_common import import_cupy, memory_errors_explained
from spdnn_cli.engines.cuda_folded_tables import ShiftShape, step_tables
from spdnn_cli.errors import EngineError
from spdnn_cli.kernel_source import compile_kernels
from spdnn_cli.network import Features, Network
from spdnn_cli.steps import Steps

FIRST_LAYERS = 32
"""Layers prepared at first; twice as many each time that an image is still running at the end."""
SHIFT_THREADS = 128
MOST_STEP_THREADS = 1024
NARROW_ROWS = 64
"""Layers this narrow have four lanes to a row: they wait for memory, not for instructions."""
COPIED_SURVIVORS = 8192
"""Survivors that are copied with the counters; more take a second copy."""
COUNTERS = 8
"""The outcome begins with: queue of images, pool, queue of groups, survivors, still running."""


class FoldedEngine:
    """Folded inference on one GPU."""

    def __init__(self, options: EngineOptions) -> None:
        self.shortcuts = Shortcuts(
            dead_images_dropped=True,
            twins_folded=True,
            finished_images_retired=options.retire,
        )
        self._options = options

    def prepare(self, network: Network) -> None:
        with self._options.stopwatch.stage("compile"):
            self._cupy = import_cupy()
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            attributes = self._cupy.cuda.Device().attributes
            self._multiprocessors = attributes["MultiProcessorCount"]
            self._shared_bytes = attributes["MaxSharedMemoryPerBlockOptin"]
        self._network = network
        final = network.saturation_is_final
        self._final = final if self._options.retire else np.zeros_like(final)
        self._steps = Steps()
        self._extend(FIRST_LAYERS if self._options.retire else network.depth)

    def upload(self, features: Features) -> None:
        cupy, stopwatch = self._cupy, self._options.stopwatch
        self._features = features
        self._shift = ShiftShape.of(self._steps.made, features, self._network.ymax)
        with stopwatch.stage("compile"):
            self._compile()
        with stopwatch.stage("upload"), memory_errors_explained("the images"), self._stream:
            self._inputs = cupy.asarray(features.array)
            if self._shift is not None:
                self._pool = cupy.empty((features.images, self._shift.rows), np.float32)
                self._pool_image = cupy.empty(features.images, np.int32)
            self._first_survivor = COUNTERS + 2 * self._network.depth
            size = self._first_survivor + features.images
            self._outcome = cupy.empty(size, np.int32)
            self._copied = min(size, self._first_survivor + COPIED_SURVIVORS)
            memory = cupy.cuda.alloc_pinned_memory(4 * size)
            self._on_host = np.frombuffer(memory, np.int32, size)
            self._stream.synchronize()
        self._capture()

    def infer(self) -> Inference:
        while True:
            self._graph.launch(self._stream)
            self._stream.synchronize()
            prepared, depth = len(self._steps.made), self._network.depth
            if self._on_host[4] == 0 or prepared == depth:
                return self._collect()
            self._extend(2 * prepared)
            with self._options.stopwatch.stage("compile"):
                self._compile()
            self._capture()

    # --- preparation ---------------------------------------------------------------------------

    def _extend(self, layers: int) -> None:
        """Have the first `layers` layers ready, or all that there are."""
        wanted = slice(len(self._steps.made), min(layers, self._network.depth))
        with self._options.stopwatch.stage("read"):
            read = list(self._network.layers[wanted])
        with self._options.stopwatch.stage("prepare"):
            self._steps.extend(read)

    def _compile(self) -> None:
        """Compile for the shapes of this network, as many images to a block as fit."""
        entry = self._features.neurons if self._shift is None else self._shift.rows
        first = 0 if self._shift is None else self._shift.layers
        after = [p for s in self._steps.made[first:] for p in (s.gather, s.apply) if p is not None]
        self._stride = max([entry, *(product.rows for product in after)])
        room = self._shared_bytes - 1024  # some for the kernel's own variables
        if 8 * self._stride > room:
            raise EngineError(
                f"{self._stride} values of an image do not fit twice in the "
                f"{self._shared_bytes} bytes of a block's shared memory",
                hint="Use --engine tiled.",
            )
        self._images = next((k for k in (4, 2) if 8 * k * self._stride <= room), 1)
        rows = max([32, *(product.rows for product in after)])
        split = 4 if rows <= NARROW_ROWS else 1
        alone = 2 * 8 * self._images * self._stride > room  # on its multiprocessor
        most = MOST_STEP_THREADS if alone else MOST_STEP_THREADS // 2
        self._threads = min(most, -(-rows * split // 32) * 32)
        macros = {"IMAGES": self._images, "SPLIT": split}
        kernels = compile_kernels("folded_steps.cu", ("run_pool", "run_features"), macros)
        self._run_steps = kernels["run_features" if self._shift is None else "run_pool"]
        self._run_steps.max_dynamic_shared_size_bytes = 8 * self._images * self._stride
        if self._shift is not None:
            name = self._shift.kernel
            self._run_shift = compile_kernels("folded_shift.cu", (name,), self._shift.macros)[name]

    def _capture(self) -> None:
        """Bring the tables to the device, and put a run into a graph: one launch for all of it."""
        with self._options.stopwatch.stage("prepare"):
            tables = step_tables(self._steps.made, self._images)
            self._terms = [step.terms for step in self._steps.made]
        with self._options.stopwatch.stage("upload"), memory_errors_explained("the network"):
            with self._stream:
                self._tables = [self._cupy.asarray(table) for table in tables]
                self._final_on_device = self._cupy.asarray(self._final.astype(np.uint8))
            self._stream.synchronize()
        with self._options.stopwatch.stage("prepare"), self._stream:
            if self._shift is not None:
                self._constants = self._cupy.asarray(self._shift.constants)
            self._stream.synchronize()
            self._stream.begin_capture()
            self._enqueue_run()
            self._graph = self._stream.end_capture()
            self._graph.upload(self._stream)
            self._stream.synchronize()

    # --- a run -----------------------------------------------------------------------------------

    def _enqueue_run(self) -> None:
        """The outcome holds the counters, images that entered and left each layer, survivors."""
        outcome, depth, features = self._outcome, self._network.depth, self._features
        outcome.data.memset_async(0, 4 * self._first_survivor, self._stream)
        entered, retired = outcome[COUNTERS:], outcome[COUNTERS + depth :]
        survivors = outcome[self._first_survivor :]
        ymax, first = np.float32(self._network.ymax), 0
        if self._shift is not None:
            first = self._shift.layers
            self._run_shift(
                (self._blocks(self._run_shift, SHIFT_THREADS, 0),), (SHIFT_THREADS,),
                (self._inputs, np.int32(features.images), self._constants,
                 np.float32(self._shift.unit), np.int32(self._shift.rows), outcome, entered,
                 self._pool, self._pool_image, outcome[1:]),
            )  # fmt: skip
            source = (self._pool, self._pool_image, outcome[1:], np.int32(self._shift.rows))
        else:
            sizes = (features.are_bits, features.images, features.neurons)
            source = (self._inputs, *map(np.int32, sizes))
        shared = 8 * self._images * self._stride
        self._run_steps(
            (self._blocks(self._run_steps, self._threads, shared),), (self._threads,),
            (*self._tables, np.int32(first), np.int32(len(self._steps.made)), np.int32(depth), ymax,
             self._final_on_device, outcome[2:], entered, retired, survivors, *source,
             np.int32(self._stride)),
            shared_mem=shared,
        )  # fmt: skip
        self._copy(0, self._copied)

    def _collect(self) -> Inference:
        first, found = self._first_survivor, int(self._on_host[3])
        if first + found > self._copied:
            self._copy(self._copied, first + found)
            self._stream.synchronize()
        categories = np.sort(self._on_host[first : first + found])
        # Plain lists: a run takes some ten microseconds, and so would NumPy on these few numbers.
        prepared, depth = len(self._terms), self._network.depth
        entered = self._on_host[COUNTERS : COUNTERS + prepared].tolist()
        retired = self._on_host[COUNTERS + depth : COUNTERS + depth + prepared].tolist()
        ran = prepared if entered[-1] else entered.index(0)
        running = [*entered[1:ran], found - sum(retired)]
        alive = tuple(map(add, running, accumulate(retired)))
        executed = sum(map(mul, entered, self._terms))
        return Inference(categories, executed, alive)

    def _copy(self, first: int, last: int) -> None:
        """Copy a part of the outcome to the host."""
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            self._on_host[first:].ctypes.data, self._outcome.data.ptr + 4 * first,
            4 * (last - first), runtime.memcpyDeviceToHost, self._stream.ptr,
        )  # fmt: skip

    def _blocks(self, kernel: Any, threads: int, shared: int) -> int:
        """As many blocks as run at once."""
        return self._multiprocessors * int(
            self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                kernel.kernel.ptr, threads, shared
            )
        )
