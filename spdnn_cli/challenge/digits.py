"""Synthetic inputs: handwritten-looking digits that the program draws, so nothing need be fetched.

Every image is a digit's skeleton with its points moved a little, its corners rounded, then scaled,
slanted, tilted and shifted, and drawn with a round pen. The pen's width is spread so that about as
many pixels are set as in the official inputs, and about as many images live on in the network.

Everything is integer arithmetic on a grid of 2**14 steps a side, and the random numbers are our own
(splitmix64), so a seed draws the same bits on every platform and with every version of NumPy.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spdnn_cli.jit import njit
from spdnn_cli.problem import NEURONS

Int64Array = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]
Uint64Array = npt.NDArray[np.uint64]

_GRID = 1 << 14
"""Steps along a side of the image; a power of two, so that every pixel has a whole number."""

_UNIT = _GRID // 64
"""Steps in one unit of the skeletons, which are drawn on a square of 64 x 64 units."""

_WOBBLE = 3 * _UNIT // 2
"""How far, each way, a point of a skeleton may move."""

# fmt: off
_STROKES: list[tuple[int, list[tuple[int, int]]]] = [
    (0, [(2, -19), (-9, -16), (-13, 0), (-9, 16), (0, 20), (10, 16), (13, 0), (9, -16), (1, -19)]),
    (1, [(3, -20), (1, 0), (-1, 20)]),
    (2, [(-11, -11), (-7, -20), (6, -20), (11, -9), (2, 5), (-13, 18), (-13, 18), (0, 16),
         (13, 18)]),
    (3, [(-10, -16), (-2, -21), (10, -17), (8, -5), (-2, -1), (-2, -1), (11, 2), (12, 15), (0, 21),
         (-12, 16)]),
    (4, [(-6, -20), (-12, 3), (-12, 3), (0, 3), (13, 1)]),
    (4, [(7, -17), (5, 0), (3, 20)]),
    (5, [(11, -20), (-6, -19), (-6, -19), (-9, -3), (-9, -3), (2, -7), (11, 0), (9, 16), (-2, 20),
         (-12, 15)]),
    (6, [(7, -20), (-6, -10), (-12, 7), (-7, 20), (6, 20), (11, 9), (4, 1), (-5, 4), (-11, 12)]),
    (7, [(-12, -16), (0, -18), (12, -19), (12, -19), (5, 0), (-2, 20)]),
    (8, [(9, -15), (0, -21), (-10, -14), (-4, -4), (7, 4), (10, 15), (0, 21), (-10, 15), (-6, 4),
         (5, -5), (10, -14)]),
    (9, [(9, -14), (1, -21), (-10, -14), (-8, -3), (3, -3), (10, -13), (10, -13), (8, 4), (5, 20)]),
]
# fmt: on
"""The strokes of the digits: each a digit, and points (x to the right, y down) from the centre of
the image, in units. A point given twice is a sharp corner; every other corner is rounded."""

_DIGITS = np.array([digit for digit, _ in _STROKES], np.int64)
_POINTS = np.array([point for _, points in _STROKES for point in points], np.int64)
_FIRST = np.cumsum([0] + [len(points) for _, points in _STROKES], dtype=np.int64)
"""Stroke s has the points from _FIRST[s] up to, not including, _FIRST[s + 1]."""


def synthetic_features(neurons: int, images: int, seed: int) -> Uint8Array:
    """Draw `images` digits of `neurons` pixels, in the layout of the official inputs.

    Image k depends on `neurons`, `seed` and k alone: fewer images are the first of more. Another
    `neurons` shows the same digits, finer or coarser.

    Args:
        neurons: features of an image: 1024, 4096, 16384 or 65536, for an m x m square.
        images: how many; at least 0.
        seed: from 0 to 2**64 - 1.

    Returns:
        uint8 (images, neurons // 8): feature f of an image is bit f % 8 of byte f // 8, as
        `np.packbits(bitorder="little")` packs; pixel (row i, column j) is feature j * m + i.

    Raises:
        ValueError: an argument out of its range.
    """
    if neurons not in NEURONS:
        raise ValueError(f"neurons must be one of {NEURONS}, not {neurons}")
    if images < 0:
        raise ValueError(f"images must be at least 0, not {images}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, not {seed}")
    features = np.zeros((images, neurons // 8), np.uint8)
    _draw_images(np.uint64(seed), math.isqrt(neurons), features)
    return features


@njit(nogil=True)
def _draw_images(seed: np.uint64, side: int, features: Uint8Array) -> None:
    """Draw every image, each from random numbers of its own."""
    state = np.empty(1, np.uint64)
    for image in range(len(features)):
        state[0] = _mix(_mix(seed) ^ np.uint64(image))
        _draw_image(state, side, features[image])


@njit(nogil=True)
def _draw_image(state: Uint64Array, side: int, pixels: Uint8Array) -> None:
    """Draw one digit into its packed pixels. Factors are in 1024ths, lengths in steps."""
    digit = _between(state, 0, 9)
    wide, high = _between(state, 720, 1400), _between(state, 840, 1020)
    slant, tilt = _between(state, -130, 450), _between(state, -100, 100)
    right, down = _between(state, -2 * _UNIT, 2 * _UNIT), _between(state, -_UNIT, _UNIT)
    radius = _between(state, 280, 600) + _between(state, 0, 1000) * _between(state, 0, 1000) // 1200
    for stroke in range(len(_DIGITS)):
        if _DIGITS[stroke] != digit:
            continue
        skeleton = _POINTS[_FIRST[stroke] : _FIRST[stroke + 1]]
        points = np.empty_like(skeleton)
        for k in range(len(skeleton)):
            x = skeleton[k, 0] * _UNIT + _between(state, -_WOBBLE, _WOBBLE)
            y = skeleton[k, 1] * _UNIT + _between(state, -_WOBBLE, _WOBBLE)
            points[k, 0] = _GRID // 2 + right + ((wide * x - slant * y) >> 10)
            points[k, 1] = _GRID // 2 + down + ((high * y - tilt * x) >> 10)
        points = _rounded(_rounded(points))
        for k in range(len(points) - 1):
            _draw_line(points[k], points[k + 1], radius, side, pixels)


@njit(nogil=True)
def _rounded(points: Int64Array) -> Int64Array:
    """Cut the corners of an open line at a quarter of its sides, as Chaikin (1974) does."""
    last = len(points) - 1
    rounded = np.empty((2 * last + 2, 2), np.int64)
    for axis in range(2):
        rounded[0, axis], rounded[2 * last + 1, axis] = points[0, axis], points[last, axis]
        for k in range(last):
            start, end = points[k, axis], points[k + 1, axis]
            rounded[2 * k + 1, axis] = (3 * start + end) >> 2
            rounded[2 * k + 2, axis] = (start + 3 * end) >> 2
    return rounded


@njit(nogil=True)
def _draw_line(
    start: Int64Array, end: Int64Array, radius: int, side: int, pixels: Uint8Array
) -> None:
    """Set the pixels whose centres are within `radius` of the line from `start` to `end`."""
    step = _GRID // side
    first_column = max(0, (min(start[0], end[0]) - radius) // step)
    last_column = min(side - 1, (max(start[0], end[0]) + radius) // step)
    first_row = max(0, (min(start[1], end[1]) - radius) // step)
    last_row = min(side - 1, (max(start[1], end[1]) + radius) // step)
    dx, dy = end[0] - start[0], end[1] - start[1]
    squared = dx * dx + dy * dy
    for column in range(first_column, last_column + 1):
        x = column * step + step // 2 - start[0]
        for row in range(first_row, last_row + 1):
            y = row * step + step // 2 - start[1]
            along = x * dx + y * dy  # from 0 at the start of the line to `squared` at its end
            if along <= 0:
                near = x * x + y * y <= radius * radius
            elif along >= squared:
                near = (x - dx) ** 2 + (y - dy) ** 2 <= radius * radius
            else:
                near = (x * dy - y * dx) ** 2 <= radius * radius * squared
            feature = column * side + row
            pixels[feature // 8] |= near << (feature % 8)


@njit(nogil=True)
def _between(state: Uint64Array, lowest: int, highest: int) -> int:
    """The next random number, evenly from `lowest` to `highest`, both included."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    span = np.uint64(highest - lowest + 1)
    offset: int = np.int64(((_mix(state[0]) >> np.uint64(32)) * span) >> np.uint64(32))
    return lowest + offset


@njit(nogil=True)
def _mix(value: np.uint64) -> np.uint64:
    """The output function of splitmix64 (Steele, Lea and Flood, 2014; Vigna's public-domain C)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.uint64 = value ^ (value >> np.uint64(31))
    return mixed
