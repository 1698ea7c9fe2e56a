"""What the `cusparse` engine asks of the library: the product of a CSR and a row-major matrix."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import sparse

NAMES = (
    "CUSPARSE_INDEX_32I", "CUSPARSE_INDEX_BASE_ZERO", "CUSPARSE_ORDER_ROW",
    "CUSPARSE_OPERATION_NON_TRANSPOSE",
)  # fmt: skip
WORKSPACE_BYTES = 48


def make_cusparse() -> SimpleNamespace:
    """The module `cupy.cuda.cusparse`."""
    return SimpleNamespace(
        **{name: name for name in NAMES},
        createCsr=_csr,
        createDnMat=_dense,
        spMM_bufferSize=lambda *_: WORKSPACE_BYTES,
        spMM=_multiply,
        destroySpMat=lambda _: None,
        destroyDnMat=lambda _: None,
    )


def _array(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """The device's memory from there on."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, buffer=(ctypes.c_char * size).from_address(address))


def _csr(
    rows: int, columns: int, count: int, offsets: int, indices: int, values: int, *kinds: object
) -> Any:
    entries = _array(values, (count,), np.float32), _array(indices, (count,), np.int32)
    return sparse.csr_array((*entries, _array(offsets, (rows + 1,), np.int32)), (rows, columns))


def _dense(rows: int, columns: int, leading: int, values: int, *kinds: object) -> Any:
    assert leading == columns, "other matrices are not needed"
    return _array(values, (rows, columns), np.float32)


def _multiply(
    handle: object, of_a: str, of_b: str, alpha: int, a: Any, b: Any, beta: int, to: Any, *_: object
) -> None:
    factors = [float(_array(address, (1,), np.float32)[0]) for address in (alpha, beta)]
    assert factors == [1.0, 0.0], "other factors are not needed"
    to[...] = a @ b
