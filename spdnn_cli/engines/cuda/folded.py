"""The `folded` engine: the folded network on one GPU, each image on the chip from bits to end.

Layers are read and prepared as far as images live (cuda_folded_program.py has the kernels). A run
is one CUDA graph, and its last block writes the outcome to the host's memory, so that nothing is
copied, and the host only watches for the run's number.

Where the values of an image do not fit in the shared memory of a block, the folded layers run one
by one through the `tiled` engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.device import import_cupy, memory_errors_explained
from spdnn_cli.engines.cuda.folded_program import (
    COUNTERS,
    RUN,
    SURVIVORS,
    UNFINISHED,
    FoldedProgram,
    RunBuffers,
)
from spdnn_cli.engines.cuda.tiled import TiledEngine
from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.errors import DeviceError
from spdnn_cli.network.layers import Features, FoldedLayer, Int32, Network
from spdnn_cli.network.steps import folded_network

FIRST_LAYERS = 32
"""Layers prepared at first. The number is doubled whenever an image is still running after them."""
POLLS = 20_000
"""Reads of the run's number before the driver is asked whether there is an error."""
NOT_READY = 600
"""cudaErrorNotReady."""
COPIED_WORDS = 4
"""Words of a piece in which the kernels copy an outcome."""
LANES = 2
"""Chunks of a stream on the device at a time: one is copied while another one runs."""


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
        self._network = network
        final = network.saturation_is_final
        self._final = final if self._options.retire else np.zeros_like(final)
        self._read: list[FoldedLayer] = []
        self._read_layers(FIRST_LAYERS if self._options.retire else network.depth)
        self._by_layers: TiledEngine | None = None

    def upload(self, features: Features) -> None:
        self._lanes: list[Lane] = []
        self._make_program(features)
        if not self._program.fits:
            self._run_by_layers(features)
            return
        with self._options.stopwatch.stage("upload"), memory_errors_explained("the images"):
            lane = Lane(features, features.images)
            lane.copy(features)
            lane.stream.synchronize()
        self._lanes = [lane]
        self._attach()

    def infer(self) -> Inference:
        if self._by_layers is not None:
            return self._by_layers.infer()
        lane = self._lanes[0]
        lane.start(lane.images)
        return self._finish(lane)

    def stream(self, chunks: Iterable[Features]) -> Iterator[Inference]:
        """Run chunk after chunk; the next one is copied to the device meanwhile.

        The arrays should lie in pinned memory (`pinned`), or copies do not overlap. No chunk may
        have more images than the features that were uploaded.
        """
        if self._by_layers is not None:
            for chunk in chunks:
                self._by_layers.upload(chunk)
                yield self._by_layers.infer()
            return
        while len(self._lanes) < LANES:
            first = self._lanes[0]
            self._lanes.append(Lane(first.features, first.images))
            self._lanes[-1].attach(self._program)
        running: list[Lane] = []
        for number, chunk in enumerate(chunks):
            lane = self._lanes[number % LANES]
            if len(running) == LANES:
                yield self._finish(running.pop(0))
            lane.copy(chunk)
            lane.start(chunk.images)
            running.append(lane)
        while running:
            yield self._finish(running.pop(0))

    def pinned(self, features: Features) -> Features:
        """A copy of `features` in pinned memory, which the device can read on its own."""
        memory = self._cupy.cuda.alloc_pinned_memory(features.array.nbytes)
        array: Any = np.frombuffer(memory, features.array.dtype, features.array.size)
        array = array.reshape(features.array.shape)
        array[:] = features.array
        return Features(array, features.neurons)

    def copy_seconds(self, features: Features) -> float | None:
        """Seconds to copy `features` to the device, and to do nothing else: the bus's limit.

        None where layers run one by one, and nothing overlaps.
        """
        if self._by_layers is not None:
            return None
        lane = self._lanes[0]
        lane.stream.synchronize()
        start = time.perf_counter()
        lane.copy(features)
        lane.stream.synchronize()
        return time.perf_counter() - start

    def _finish(self, lane: Lane) -> Inference:
        """The outcome of the lane's run; with more layers, should an image have outlived them.

        The categories are there first. Counting what ran, for the report, is no part of the run.
        """
        lane.wait()
        while lane.unfinished and len(self._read) < self._network.depth:
            for other in self._lanes:
                other.stream.synchronize()
            self._read_layers(2 * len(self._read))
            self._make_program(lane.features)
            self._attach()
            for other in self._lanes:  # their outcomes so far are gone
                if other.running_images:
                    other.start(other.running_images)
            lane.wait()
        categories = lane.categories()
        with self._options.stopwatch.stage(None):
            return lane.outcome(categories)

    # --- preparation ---------------------------------------------------------------------------

    def _read_layers(self, layers: int) -> None:
        """Prepare the first `layers` layers, or all if there are fewer."""
        with self._options.stopwatch.stage("read"):
            wanted = slice(len(self._read), min(layers, self._network.depth))
            self._read += self._network.layers[wanted]

    def _make_program(self, features: Features) -> None:
        network = self._network
        with memory_errors_explained("the network"):
            self._program = FoldedProgram(
                self._read,
                network.depth,
                network.ymax,
                self._final,
                features,
                self._options.stopwatch,
            )

    def _attach(self) -> None:
        with self._options.stopwatch.stage("prepare"), memory_errors_explained("the images"):
            for lane in self._lanes:
                lane.attach(self._program)

    def _run_by_layers(self, features: Features) -> None:
        self._read_layers(self._network.depth)
        self.shortcuts = TiledEngine.shortcuts.with_twins_folded()
        self._by_layers = TiledEngine(self._options)
        with self._options.stopwatch.stage("prepare"):
            network = folded_network(self._network, features.largest)
        self._by_layers.prepare(network)
        self._by_layers.upload(features)


class Lane:
    """Room for the images of a run, a stream, and a graph: runs of two lanes overlap.

    Attributes:
        features: inputs of the kind that it takes.
        images: the most images that it takes.
        running_images: images of the run whose outcome is still to come; 0: there is none.
        stream: where its copies and kernels go.
    """

    def __init__(self, features: Features, images: int) -> None:
        import cupy

        self.features, self.images, self.running_images = features, images, 0
        self.stream = cupy.cuda.Stream(non_blocking=True)
        shape = (images, *features.array.shape[1:])
        self._inputs = cupy.empty(shape, features.array.dtype)

    def attach(self, program: FoldedProgram) -> None:
        """Make the buffers for a program's runs, and put a run of all images into a graph."""
        import cupy

        self._program, self._runs = program, 0
        self._first_survivor = COUNTERS + 2 * program.layers
        size = -(-(self._first_survivor + self.images) // COPIED_WORDS) * COPIED_WORDS
        pinned = cupy.cuda.alloc_pinned_memory(4 * size)
        self._on_host: Any = np.frombuffer(pinned, np.int32, size)
        self._on_host[:COUNTERS] = 0
        self._counters = memoryview(self._on_host.data)
        with self.stream:
            self._buffers = RunBuffers(
                self._inputs,
                *self._pool(program.pool_width, np.uint16),
                *self._pool(program.late_pool_width, np.float32),
                cupy.zeros(size, np.int32),
                self._on_host.ctypes.data,
            )
            self.stream.synchronize()
            self.stream.begin_capture()
            program.enqueue(self.images, self._buffers)
            self._graph = self.stream.end_capture()
            self._graph.upload(self.stream)
            self.stream.synchronize()

    def _pool(self, width: int, dtype: Any) -> tuple[Any, Any]:
        """Room for the values of all images, and for their numbers; `width` 0: for none."""
        import cupy

        rows = self.images if width else 0
        return cupy.empty((rows, width), dtype), cupy.empty(rows, np.int32)

    def copy(self, features: Features) -> None:
        """Put the copy of inputs to the device on the stream."""
        array = np.ascontiguousarray(features.array)
        self._inputs.data.copy_from_host_async(array.ctypes.data, array.nbytes, self.stream)

    def start(self, images: int) -> None:
        """Put a run of the first `images` images on the stream."""
        self.running_images = images
        self._runs += 1
        if images == self.images:
            self._graph.launch(self.stream)
        else:
            with self.stream:
                self._program.enqueue(images, self._buffers)

    def wait(self) -> None:
        """Wait for the run that was started last.

        Raises:
            DeviceError: the device gave up.
        """
        from cupy.cuda import runtime

        counters, run = self._counters, self._runs
        while counters[RUN] != run:
            for _ in range(POLLS):
                if counters[RUN] == run:
                    return
            if runtime.streamQuery(self.stream.ptr) == NOT_READY:
                continue
            try:
                self.stream.synchronize()
            except runtime.CUDARuntimeError as error:
                raise DeviceError(f"the device failed in the middle of a run ({error})") from error

    @property
    def unfinished(self) -> int:
        """Images of the last run that outlived the prepared layers."""
        return self._counters[UNFINISHED]

    def categories(self) -> Int32:
        """The categories of the last run: int32, ascending."""
        first, found = self._first_survivor, self._counters[SURVIVORS]
        return np.sort(self._on_host[first : first + found])

    def outcome(self, categories: Int32) -> Inference:
        """The outcome of the last run, which found these categories; the lane is free then."""
        layers, entering = self._program.layers, self.running_images
        self.running_images = 0
        counts = self._on_host[COUNTERS : self._first_survivor].reshape(2, layers)
        died, retired = counts.astype(np.int64)
        entered = entering - np.concatenate([[0], np.cumsum(died + retired)])
        ran = np.count_nonzero(entered[:layers])  # fewer images enter each layer, and at last none
        alive = entered[1:] + np.cumsum(retired)
        executed = int(entered[:layers] @ self._program.work)
        return Inference(categories, executed, tuple(alive[:ran].tolist()))
