"""The `baseline` engine: the paper's, one thread for one output neuron of one image.

Nothing is reused on purpose (kernels/baseline.cu); it is what the `tiled` engine is measured by.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.device import DeviceLayer, HostDrivenEngine
from spdnn_cli.network.layers import Int32

THREADS = 256
MOST_ROWS = 65535
"""CUDA's limit for the second dimension of a grid."""


class BaselineEngine(HostDrivenEngine):
    """CSR, every read from global memory. Values lie image by image."""

    source = "baseline.cu"
    kernel_names = ("layer", "unpack_bits")

    def _start(self, rows: Any, images: int) -> None:
        features = self._inputs.features
        if features.are_bits:
            # A grid holds MOST_ROWS images at most.
            for first in range(0, images, MOST_ROWS):
                part = rows[first : first + MOST_ROWS]
                grid = (-(-features.neurons // THREADS), len(part))
                sizes = (np.int32(features.neurons), np.int32(features.row_bytes))
                to = self._values[0][first * features.neurons :]
                self._kernels["unpack_bits"](grid, (THREADS,), (part, *sizes, to))
        else:
            self._values[0][: rows.size] = rows.ravel()
        self._source = self._cupy.arange(images, dtype=np.int32)

    def _run_layer(self, layer: DeviceLayer, images: int, lives: Any) -> None:
        grid = (-(-layer.outputs // THREADS), min(images, MOST_ROWS))
        sizes = (np.int32(images), np.int32(layer.inputs), np.int32(layer.outputs))
        arguments = (
            self._values[0], self._source, *sizes, layer.row_offsets, layer.columns,
            layer.weights, layer.bias, np.float32(self._network.ymax), self._values[1], lives,
        )  # fmt: skip
        self._kernels["layer"](grid, (THREADS,), arguments)
        self._values.reverse()
        self._source = self._cupy.arange(images, dtype=np.int32)

    def _keep(self, live: Int32, images: int, neurons: int) -> None:
        self._source = self._cupy.asarray(live)
