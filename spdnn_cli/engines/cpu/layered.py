"""The `cpu-layered` engine: every edge of every live image, layer by layer, on all cores.

This is the paper's schedule on a CPU: nothing is folded, and only dead images leave. A panel holds
sixteen images, so that an index and a weight are read once for sixteen multiply-adds; after a
layer the live images are compacted into fewer panels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil

from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.network.fold import unfold
from spdnn_cli.network.layers import Bools, Features, Float32, Int32, Int64, Layer, Network

STATE_BYTES = 1 << 29
"""Bytes for the values of the images that run at a time, both sides together."""
KEPT_SHARE = 0.25
"""Share of the free memory in which layers are kept; other layers are read again in each run."""


class CpuLayeredEngine:
    """Layer by layer on all cores, dead images dropped."""

    shortcuts = Shortcuts(
        dead_images_dropped=True, twins_folded=False, finished_images_retired=False
    )

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._pool = ThreadPoolExecutor(options.threads)

    def prepare(self, network: Network) -> None:
        with self._options.stopwatch.stage("compile"):
            from spdnn_cli.engines.cpu import kernels as cpu_kernels
            from spdnn_cli.engines.cpu import simd

            self._kernels, self._lanes = cpu_kernels, simd.LANES
        self._network = network
        self._kept: dict[int, tuple[Any, ...]] = {}
        room = KEPT_SHARE * psutil.virtual_memory().available
        for k in range(network.depth):
            room -= 8 * int(network.edges_by_layer[k])
            if room < 0:
                break
            self._kept[k] = self._read(k)

    def upload(self, features: Features) -> None:
        self._features = features
        with self._options.stopwatch.stage("prepare"):
            lanes = self._lanes
            outputs = [len(self._layer(k)[3]) for k in range(self._network.depth)]
            self._stride = lanes * max([features.neurons, *outputs])
            panels = -(-features.images // lanes)
            self._panels = max(1, min(panels, STATE_BYTES // (2 * 4 * self._stride)))
            self._values = np.zeros(2 * self._panels * self._stride, np.float32)
        with self._options.stopwatch.stage("compile"):
            self._fill(0, 1)  # one image, one layer: Numba compiles the kernels, or loads them
            self._apply(self._layer(0), 0, self._panels * self._stride, 1)
            self._compact(np.zeros(1, np.int64), 0, self._panels * self._stride, 1)

    def infer(self) -> Inference:
        at_a_time = self._panels * self._lanes
        entering, living = np.zeros((2, self._network.depth), np.int64)
        categories, values = [], []
        for first in range(0, self._features.images, at_a_time):
            last = min(first + at_a_time, self._features.images)
            images, side = self._run(first, last, entering, living)
            categories.append(images)
            if self._options.keep_values:
                values.append(self._values_of(len(images), side))
        ran = np.count_nonzero(entering)
        return Inference(
            np.concatenate(categories),
            int(entering @ self._network.edges_by_layer),
            tuple(living[:ran].tolist()),
            np.concatenate(values) if values else None,
        )

    def _run(self, first: int, last: int, entering: Int64, living: Int64) -> tuple[Int32, int]:
        """The survivors of images first..last-1, and the side of `_values` that holds theirs.

        Adds to `entering` and `living` how many images enter each layer, and are alive after it.
        """
        images = np.arange(first, last, dtype=np.int32)
        side, half = 0, len(self._values) // 2
        self._fill(first, last)
        for k in range(self._network.depth):
            if len(images) == 0:
                break
            entering[k] += len(images)
            layer = self._layer(k)
            lives = self._apply(layer, side * half, (1 - side) * half, len(images))
            side = 1 - side
            living[k] += np.count_nonzero(lives)
            if not lives.all():
                self._compact(np.flatnonzero(lives), side * half, (1 - side) * half, len(layer[3]))
                images, side = images[lives], 1 - side
            if self._options.progress is not None:
                self._options.progress(k + 1, len(images))
        return images, side

    def _values_of(self, images: int, side: int) -> Float32:
        """The values of the first `images` lanes of a side, float32 (images, neurons)."""
        neurons, panels = len(self._layer(self._network.depth - 1)[3]), -(-images // self._lanes)
        first = side * len(self._values) // 2
        stored = self._values[first : first + panels * self._stride].reshape(panels, self._stride)
        lanes = stored[:, : neurons * self._lanes].reshape(panels, neurons, self._lanes)
        return lanes.transpose(0, 2, 1).reshape(-1, neurons)[:images]

    def _fill(self, first: int, last: int) -> None:
        kernels, features = self._kernels, self._features

        def fill(begin: int, end: int) -> None:
            low, high = first + begin * self._lanes, min(first + end * self._lanes, last)
            images = np.empty((end - begin) * self._lanes, np.int32)
            values = self._values[begin * self._stride :]
            kernels.fill_panels(
                features.array, low, high, features.neurons, values, self._stride, images
            )

        self._spread(fill, -(-(last - first) // self._lanes))

    def _apply(self, layer: tuple[Any, ...], source: int, target: int, images: int) -> Bools:
        """Run a layer on all panels; returns which images are alive."""
        kernels, threads = self._kernels, self._options.threads
        panels, rows = -(-images // self._lanes), len(layer[3])
        # With fewer panels than threads, the threads share the rows of a panel.
        blocks = -(-threads // panels) if panels < threads else 1
        bounds = np.linspace(0, rows, blocks + 1).astype(np.int64)
        tops = np.empty((blocks, panels, self._lanes), np.float32)
        ymax = np.float32(self._network.ymax)

        def apply(begin: int, end: int) -> None:
            for block in range(blocks) if blocks == 1 else range(begin, end):
                span = (0, panels) if blocks > 1 else (begin, end)
                kernels.apply_layer(
                    self._values, source, target, self._stride, span,
                    (bounds[block], bounds[block + 1]), *layer, ymax, tops[block],
                )  # fmt: skip

        self._spread(apply, panels if blocks == 1 else blocks)
        return (tops.max(axis=0) > 0).ravel()[:images]

    def _compact(self, lanes: Int64, source: int, target: int, width: int) -> None:
        def gather(begin: int, end: int) -> None:
            self._kernels.gather_lanes(
                self._values, source, target, self._stride, width, lanes, begin, end
            )

        self._spread(gather, -(-len(lanes) // self._lanes))

    def _spread(self, work: Callable[[int, int], None], count: int) -> None:
        """Call work(begin, end) for parts of range(count), on all threads."""
        parts = min(count, 4 * self._options.threads)
        bounds = np.linspace(0, count, parts + 1).astype(int).tolist()
        list(self._pool.map(work, bounds[:-1], bounds[1:]))

    def _layer(self, k: int) -> tuple[Any, ...]:
        return self._kept[k] if k in self._kept else self._read(k)

    def _read(self, k: int) -> tuple[Any, ...]:
        """Layer k as `cpu_kernels.apply_layer` reads it: offsets, indices, weights, bias."""
        with self._options.stopwatch.stage("read"):
            folded = self._network.layers[k]
        with self._options.stopwatch.stage("prepare"):
            layer: Layer = unfold(folded)
            return (
                layer.row_offsets.astype(np.uint64),
                layer.columns.astype(np.uint32),
                layer.weights,
                layer.bias,
            )
