"""The `cusparse` engine: the library's product of a sparse and a dense matrix, then bias and clip.

A yardstick for the `tiled` engine: what one gets without writing a product. Values lie neuron by
neuron (row-major: neurons, images), the layout that the library is fastest with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.device import DeviceLayer, HostDrivenEngine
from spdnn_cli.network.layers import Features, Int32

THREADS = 256
SPMM_CSR_ALG2 = 6
"""cusparseSpMMAlg_t: the one for row-major matrices; CuPy has no name for it."""
ROWS = 1024
"""Number of blocks that share the neurons of an image column, and the step from a block's neuron to
its next."""


class CusparseEngine(HostDrivenEngine):
    """cuSPARSE SpMM and one fused pass over its result."""

    source = "cusparse.cu"
    kernel_names = ("finish", "keep_live", "unpack_bits")

    def upload(self, features: Features) -> None:
        super().upload(features)
        self._workspace = self._cupy.empty(0, np.uint8)

    def _start(self, rows: Any, images: int) -> None:
        features = self._inputs.features
        if features.are_bits:
            sizes = (np.int32(images), np.int32(features.neurons), np.int32(features.row_bytes))
            self._launch("unpack_bits", images, features.neurons, rows, *sizes, self._values[0])
        else:
            self._values[0][: rows.size] = rows.T.ravel()

    def _run_layer(self, layer: DeviceLayer, images: int, lives: Any) -> None:
        self._multiply(layer, images)
        self._values.reverse()
        self._launch(
            "finish", images, layer.outputs,
            self._values[0], np.int32(layer.outputs), np.int32(images), layer.bias,
            np.float32(self._network.ymax), lives,
        )  # fmt: skip

    def _keep(self, live: Int32, images: int, neurons: int) -> None:
        if len(live) == 0:
            return
        sizes = (np.int32(neurons), np.int32(images))
        places, count = self._cupy.asarray(live), np.int32(len(live))
        self._launch(
            "keep_live", len(live), neurons, self._values[0], *sizes, places, count, self._values[1]
        )
        self._values.reverse()

    def _launch(self, name: str, images: int, neurons: int, *arguments: Any) -> None:
        self._kernels[name]((-(-images // THREADS), min(neurons, ROWS)), (THREADS,), arguments)

    def _multiply(self, layer: DeviceLayer, images: int) -> None:
        """values[1] = weights times values[0], both row-major."""
        cupy = self._cupy
        from cupy.cuda import cusparse, device

        real, index = cupy.cuda.runtime.CUDA_R_32F, cusparse.CUSPARSE_INDEX_32I
        if len(layer.columns) == 0:
            self._values[1].fill(0)
            return
        handle = device.get_cusparse_handle()
        weights = cusparse.createCsr(
            layer.outputs, layer.inputs, len(layer.columns), layer.row_offsets.data.ptr,
            layer.columns.data.ptr, layer.weights.data.ptr, index, index,
            cusparse.CUSPARSE_INDEX_BASE_ZERO, real,
        )  # fmt: skip
        before, after = (
            cusparse.createDnMat(
                rows, images, images, values.data.ptr, real, cusparse.CUSPARSE_ORDER_ROW
            )
            for rows, values in zip((layer.inputs, layer.outputs), self._values, strict=True)
        )
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        same = cusparse.CUSPARSE_OPERATION_NON_TRANSPOSE
        problem = (
            handle, same, same, one.ctypes.data, weights, before, zero.ctypes.data, after, real,
            SPMM_CSR_ALG2,
        )  # fmt: skip
        size = cusparse.spMM_bufferSize(*problem)
        if size > self._workspace.nbytes:
            self._workspace = cupy.empty(size, np.uint8)
        cusparse.spMM(*problem, self._workspace.data.ptr)
        cusparse.destroySpMat(weights)
        cusparse.destroyDnMat(before)
        cusparse.destroyDnMat(after)
