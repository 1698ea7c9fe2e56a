"""The official inputs, regenerated bit for bit from the MNIST training images.

The challenge's recipe: lay the 60,000 images side by side as one strip of 28 rows, resize the strip
to m = sqrt(neurons) rows by zero-padding its two-dimensional Fourier transform, take the absolute
value, and set a feature where it reaches half of the maximum over the whole strip. The Nyquist bin
of each axis stays whole on the negative side, so the resized strip is complex.

A transform of the whole padded strip is neither needed nor affordable. For K images the long axis
has 28 K input bins; write bin f = k + K a with 0 <= k < K and -14 <= a < 14. Then column j of the
resized image q is

    sum over k of exp(2 pi i k q / K) * exp(2 pi i k j / (m K)) * G_j[k],
    G_j[k] = sum over a of exp(2 pi i a j / m) * spectrum[k + K a],

so one inverse transform of length K gives column j of all images, for each of the 28 input rows.
The short axis is then an m x 28 matrix. Columns are independent: each is one task for a thread.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from spdnn_cli.cores import available_cores
from spdnn_cli.errors import DataError
from spdnn_cli.jit import njit
from spdnn_cli.problem import IMAGES, MNIST_FILE, MNIST_MD5, NEURONS

SIDE = 28
"""MNIST images have 28 x 28 pixels."""

_HEADER = struct.Struct(">4sIII")
"""idx3 (http://yann.lecun.com/exdb/mnist): magic, then images, rows, columns."""
_MAGIC = bytes.fromhex("00000803")
"""Unsigned bytes in three dimensions."""

_BLOCK = 512
"""Values worked on at once: 28 rows of them stay in a core's cache. Even, for `_fold`."""

_BAND = np.arange(-SIDE // 2, SIDE // 2)
"""The 28 frequencies of the short axis, the Nyquist bin on the negative side."""

Float64Array = npt.NDArray[np.float64]
Complex128Array = npt.NDArray[np.complex128]
Uint8Array = npt.NDArray[np.uint8]


def read_mnist(path: str | Path) -> Uint8Array:
    """Read the MNIST training images from `train-images-idx3-ubyte.gz`, or unpacked.

    Returns:
        uint8 (60000, 28, 28), in file order; read-only.

    Raises:
        DataError: the file cannot be read, is not that file, or is damaged.
    """
    again = "Delete it and run `spdnn fetch` again."
    try:
        data = Path(path).read_bytes()
        expected = _HEADER.size + IMAGES * SIDE * SIDE
        is_unpacked = data[:4] == _MAGIC and (Path(path).suffix != ".gz" or len(data) == expected)
        if not is_unpacked:  # some browsers unpack a file and leave it its name
            data = gzip.decompress(data)
    except OSError as error:  # gzip.BadGzipFile is one, without an errno
        what = f"cannot be read ({error.strerror or error})"
        raise DataError(what, hint=f"It must be MNIST's {MNIST_FILE}.", path=path) from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"is cut short or damaged ({error})", hint=again, path=path) from error

    if data[:4] != _MAGIC or len(data) < _HEADER.size:
        what = f"does not hold images: it starts with {data[:4].hex() or 'nothing'}, not 00000803"
        raise DataError(what, hint=f"It must be MNIST's {MNIST_FILE}.", path=path)
    shape = _HEADER.unpack_from(data)[1:]
    if shape != (IMAGES, SIDE, SIDE):
        what = "holds {} images of {} x {} pixels, not 60000 of 28 x 28".format(*shape)
        raise DataError(what, hint=f"It must be MNIST's {MNIST_FILE}.", path=path)
    if len(data) != expected:
        what = f"unpacks to {len(data)} bytes, not {expected}"
        raise DataError(what, hint=again, path=path)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 != MNIST_MD5:
        raise DataError(f"unpacks to md5 {md5}, not {MNIST_MD5}", hint=again, path=path)
    return np.frombuffer(data, np.uint8, offset=_HEADER.size).reshape(IMAGES, SIDE, SIDE)


def official_features(
    images: Uint8Array,
    neurons: int,
    *,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Uint8Array:
    """Resize the images as the challenge does, and pack the features that are set.

    The resize and its threshold span all the images given, so the official inputs come from the
    60,000 official images only. Pixel (row i, column j) of a resized m x m image is feature
    j * m + i. An all-black strip sets no feature. Memory for 60,000 images: the result, 0.4 GB, and
    up to 40 MB a thread.

    Args:
        images: uint8 (K, 28, 28).
        neurons: features of an image: 1024, 4096, 16384 or 65536.
        threads: threads to use; None for all the cores that this process may use.
        progress: called from this thread with the fraction done, up to 1.0.

    Returns:
        uint8 (K, neurons // 8): feature f of an image is bit f % 8 of byte f // 8, as
        `np.packbits(bitorder="little")` packs.

    Raises:
        ValueError: an argument of another shape, dtype or size.
    """
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (K, 28, 28), not {images.dtype} {images.shape}")
    if neurons not in NEURONS:
        raise ValueError(f"neurons must be one of {NEURONS}, not {neurons}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    side = math.isqrt(neurons)
    report = progress or (lambda fraction: None)
    features = np.zeros((len(images), neurons // 8), np.uint8)
    if not images.any():
        report(1.0)
        return features

    with ThreadPoolExecutor(threads or available_cores()) as pool:
        strip = _Strip(_spectrum(images, pool), len(images), _short_axis(side))
        peak = 0.0
        for done, column_peak in enumerate(pool.map(partial(_peak, strip), range(side)), 1):
            peak = max(peak, column_peak)
            report(done / (2 * side))
        threshold = (0.5 * 0.5) * peak  # of powers, so half of the maximum is squared
        pack = partial(_pack, strip, threshold, features)
        for done, _ in enumerate(pool.map(pack, range(side)), 1):
            report(0.5 + done / (2 * side))
    return features


class _Strip(NamedTuple):
    """The strip of K images, transformed along its long axis, and the matrix for its short axis."""

    spectrum: Complex128Array
    """complex128 (28 rows, 28, K // 2 + 1): bin k + K a of a row is at [row, a + 14, k]."""
    images: int
    short_axis: Complex128Array
    """complex128 (m, 28): output rows from input rows."""


class _Column(NamedTuple):
    """One column of all the resized images, before its threshold.

    Output row i of image k is real[i] @ rows[:, k] + 1j * (slope[i] * wave[k]) + offset[i].
    """

    real: Float64Array
    """float64 (m, 28)."""
    rows: Float64Array
    """float64 (28, K): the column of each input row."""
    slope: Float64Array
    """float64 (m,)."""
    wave: Float64Array
    """float64 (K,): even rows less odd rows: the Nyquist bin of the short axis."""
    offset: Complex128Array
    """complex128 (m,): what the Nyquist bin of the long axis adds, the same for all images."""


def _spectrum(images: Uint8Array, pool: ThreadPoolExecutor) -> Complex128Array:
    """Transform the strip along its long axis, as `_Strip.spectrum` holds it.

    Bins with k > K / 2 are left out: the inverse transform to real values infers them.
    """
    count, half = len(images), len(images) // 2 + 1
    spectrum = np.empty((SIDE, SIDE, half), np.complex128)

    def transform(row: int) -> None:
        bins = scipy.fft.fft(images[:, row, :].ravel().astype(np.float64)).reshape(SIDE, count)
        spectrum[row, : SIDE // 2] = bins[SIDE // 2 :, :half]  # negative frequencies first
        spectrum[row, SIDE // 2 :] = bins[: SIDE // 2, :half]

    list(pool.map(transform, range(SIDE)))
    return spectrum


def _short_axis(side: int) -> Complex128Array:
    """The zero-padded Fourier resize from 28 to `side` values, as a matrix (side, 28)."""
    forward = np.exp(-2j * np.pi * np.outer(_BAND, np.arange(SIDE)) / SIDE) / SIDE
    inverse = np.exp(2j * np.pi * np.outer(np.arange(side), _BAND) / side)
    matrix: Complex128Array = inverse @ forward
    return matrix


def _column(strip: _Strip, index: int) -> _Column:
    """Resize the long axis at column `index` of every image.

    All bins but the two Nyquist bins pair up to real values. That of the long axis is alone on the
    negative side at k = 0, so it adds the same complex value to every image: the inverse transform
    keeps its real part, and its imaginary part goes to the offset. That of the short axis makes
    row i of `short_axis.imag` alternate between slope[i] and -slope[i].
    """
    side, half = len(strip.short_axis), strip.spectrum.shape[2]
    phases = np.exp(2j * np.pi * index / side * _BAND) / SIDE
    twiddles = np.exp(2j * np.pi * index / (side * strip.images) * np.arange(half))
    folded = np.empty(half, np.complex128)
    rows = np.empty((SIDE, strip.images))
    for row, bins in enumerate(strip.spectrum):
        _fold(phases, bins.view(np.float64), folded)
        folded *= twiddles
        rows[row] = scipy.fft.irfft(folded, strip.images)
    nyquist = (strip.spectrum[:, 0, 0].real * phases[0]).imag / strip.images
    return _Column(
        real=strip.short_axis.real.copy(),
        rows=rows,
        slope=strip.short_axis[:, 0].imag.copy(),
        wave=rows[0::2].sum(axis=0) - rows[1::2].sum(axis=0),
        offset=1j * (strip.short_axis @ nyquist),
    )


def _peak(strip: _Strip, index: int) -> float:
    """The largest squared absolute value in column `index` of all the images."""
    return float(_largest(_column(strip, index)))


def _pack(strip: _Strip, threshold: float, features: Uint8Array, index: int) -> None:
    """Set the features of column `index` of all the images: squared absolute value >= threshold."""
    width = len(strip.short_axis) // 8
    _reaching(_column(strip, index), threshold, features[:, index * width : (index + 1) * width])


@njit(nogil=True, fastmath={"contract"})
def _weighted_sum(weights: Float64Array, rows: Float64Array, first: int, sums: Float64Array) -> int:
    """sums = weights (28,) @ rows (28, any) from column `first` on; returns how many there were."""
    size: int = min(len(sums), rows.shape[1] - first)
    sums[:] = 0.0
    for r in range(0, SIDE, 4):  # four rows at a time save loads and stores
        w0, w1, w2, w3 = weights[r], weights[r + 1], weights[r + 2], weights[r + 3]
        row0, row1 = rows[r, first : first + size], rows[r + 1, first : first + size]
        row2, row3 = rows[r + 2, first : first + size], rows[r + 3, first : first + size]
        for q in range(size):
            sums[q] += w0 * row0[q] + w1 * row1[q] + w2 * row2[q] + w3 * row3[q]
    return size


@njit(nogil=True)
def _fold(phases: Complex128Array, bins: Float64Array, folded: Complex128Array) -> None:
    """folded = phases @ bins, where bins (28, 2 * half) are complex values, real part first."""
    by_real, by_imag = np.empty(_BLOCK), np.empty(_BLOCK)
    for first in range(0, bins.shape[1], _BLOCK):
        size = _weighted_sum(phases.real, bins, first, by_real)
        _weighted_sum(phases.imag, bins, first, by_imag)
        for q in range(0, size, 2):
            real, imag = by_real[q] - by_imag[q + 1], by_real[q + 1] + by_imag[q]
            folded[(first + q) // 2] = complex(real, imag)


@njit(nogil=True)
def _square(column: _Column, i: int, first: int, squared: Float64Array) -> int:
    """Squared absolute values of output row `i`, images `first` on; returns how many there were."""
    size = _weighted_sum(column.real[i], column.rows, first, squared)
    wave = column.wave[first : first + size]
    slope, real, imag = column.slope[i], column.offset[i].real, column.offset[i].imag
    for q in range(size):
        squared[q] = (squared[q] + real) ** 2 + (slope * wave[q] + imag) ** 2
    return size


@njit(nogil=True)
def _largest(column: _Column) -> float:
    """The largest squared absolute value of a column."""
    squared, largest = np.empty(_BLOCK), 0.0
    for first in range(0, len(column.wave), _BLOCK):
        for i in range(len(column.slope)):
            for q in range(_square(column, i, first, squared)):
                largest = max(largest, squared[q])
    return largest


@njit(nogil=True)
def _reaching(column: _Column, threshold: float, packed: Uint8Array) -> None:
    """Bit i % 8 of packed[k, i // 8]: whether row i of image k reaches the squared threshold."""
    squared = np.empty(_BLOCK)
    bits = np.empty((packed.shape[1], _BLOCK), np.uint8)
    for first in range(0, len(column.wave), _BLOCK):
        bits[:] = 0
        size = 0
        for i in range(len(column.slope)):
            size = _square(column, i, first, squared)
            byte, shift = bits[i // 8], i % 8
            for q in range(size):
                byte[q] |= (squared[q] >= threshold) << shift
        for q in range(size):
            for b in range(packed.shape[1]):
                packed[first + q, b] = bits[b, q]
