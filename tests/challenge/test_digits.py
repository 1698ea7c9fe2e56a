"""digits.py: the same bits for ever, digits that stand upright, ink as in the official inputs."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pytest

from spdnn_cli.challenge.digits import _draw_line, _mix, synthetic_features
from spdnn_cli.problem import NEURONS

Uint8Array = npt.NDArray[np.uint8]


def squares(features: Uint8Array) -> Uint8Array:
    """Packed features as images: uint8 (images, row, column), 0 or 1."""
    m = math.isqrt(features.shape[1] * 8)
    bits = np.unpackbits(features, axis=1, bitorder="little")
    return bits.reshape(len(features), m, m).swapaxes(1, 2)


@pytest.mark.parametrize(
    ("neurons", "seed", "sha256"),
    [
        (1024, 0, "fefe41c18b08154369a4aa9ffea580882ac05c185d0eb4aa7807c8d82b279f0f"),
        (4096, 1, "605cc456c0c3f7bff13030f00a000475336f75c30d16349cb33f182a2dcbdab5"),
        (16384, 7, "550917480408d8d2f036f3f72771fb5e48b194a25e582ae7b4716cfc5ecfc058"),
        (65536, 2**64 - 1, "7d5bb8383860f3323095bad566244b3f69106bc189b1dc969df75fc392b21b01"),
    ],
)
def test_bits_are_the_same_for_ever(neurons: int, seed: int, sha256: str) -> None:
    features = synthetic_features(neurons, 50, seed)
    assert features.dtype == np.uint8
    assert features.shape == (50, neurons // 8)
    assert hashlib.sha256(features.tobytes()).hexdigest() == sha256


def test_fewer_images_are_the_first_of_more() -> None:
    many = synthetic_features(1024, 40, 3)
    np.testing.assert_array_equal(synthetic_features(1024, 7, 3), many[:7])
    assert synthetic_features(1024, 0, 3).shape == (0, 128)


def test_images_and_seeds_differ() -> None:
    features = np.concatenate([synthetic_features(1024, 100, seed) for seed in (0, 1)])
    assert len(np.unique(features, axis=0)) == 200


@pytest.mark.parametrize("neurons", NEURONS)
def test_ink_is_like_the_official(neurons: int) -> None:
    """The official inputs have 10.4 % of the pixels set, from 3 % to 26 % in an image."""
    fill = squares(synthetic_features(neurons, 1000, 1)).mean(axis=(1, 2))
    assert 0.095 < fill.mean() < 0.115
    assert 0.035 < fill.std() < 0.05
    assert fill.min() > 0.015
    assert fill.max() < 0.35


def test_survivors_are_like_the_official() -> None:
    """After the six layers of block 0, 6.8 % of the official images are alive.

    Only n = 64 distinct values leave a layer of 1024 neurons; they are counted in 1/80, in which
    the weight 1/16 times 1 is 5, the bias -0.3 is -24, and 32 is 2560.
    """
    bits = np.unpackbits(synthetic_features(1024, 6000, 1), axis=1, bitorder="little")
    values = 5 * bits.reshape(-1, 16, 64).sum(axis=1, dtype=np.int64)
    for layer in range(6):
        sums = values + np.roll(values, -(1 << layer), axis=1)
        values = np.clip(sums - 24, 0, 2560)
    alive = np.count_nonzero(values.any(axis=1)) / 6000
    assert 0.04 < alive < 0.1


def test_digits_stand_upright() -> None:
    """Digits are taller than wide, as they are only with pixels packed column by column."""
    images = squares(synthetic_features(1024, 500, 1))
    heights = images.any(axis=2).sum(axis=1)
    widths = images.any(axis=1).sum(axis=1)
    assert heights.mean() > widths.mean() + 3
    assert heights.min() >= 16


def test_digits_are_off_the_border() -> None:
    images = squares(synthetic_features(1024, 500, 1))
    border = images[:, [0, -1]].any(axis=(1, 2)) | images[:, :, [0, -1]].any(axis=(1, 2))
    assert border.mean() < 0.02


def test_sizes_show_the_same_digits() -> None:
    coarse = squares(synthetic_features(1024, 20, 5))
    fine = squares(synthetic_features(16384, 20, 5))
    shrunk = fine.reshape(20, 32, 4, 32, 4).mean(axis=(2, 4)) >= 0.5
    assert (shrunk == coarse).mean() > 0.98


def test_line_worked_out_by_hand() -> None:
    """Pixels are 512 steps wide, and pixel k has its centre at 512 k + 256.

    From the centre of pixel (row 5, column 3) to that of (row 9, column 3): with a radius of 600
    the line itself, the pixels beside it and one pixel beyond each end are near enough; diagonally
    beyond an end the distance is 724.
    """
    pixels = np.zeros(128, np.uint8)
    start, end = np.array([3 * 512 + 256, 5 * 512 + 256]), np.array([3 * 512 + 256, 9 * 512 + 256])
    _draw_line(start, end, 600, 32, pixels)
    expected = np.zeros((32, 32), np.uint8)
    expected[5:10, 2:5] = 1
    expected[4:11, 3] = 1
    np.testing.assert_array_equal(squares(pixels[None])[0], expected)


def test_line_at_the_border_is_clipped() -> None:
    pixels = np.zeros(128, np.uint8)
    _draw_line(np.array([-900, -900]), np.array([256, 256]), 300, 32, pixels)
    assert np.flatnonzero(np.unpackbits(pixels, bitorder="little")).tolist() == [0]


def test_random_numbers_are_splitmix64() -> None:
    """The first values that the published C program prints for the seed 1234567."""
    golden = 0x9E3779B97F4A7C15
    values = [int(_mix(np.uint64((1234567 + k * golden) % 2**64))) for k in (1, 2, 3)]
    assert values == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(
    ("neurons", "images", "seed", "message"),
    [
        (1000, 1, 0, "not 1000"),
        (1024, -1, 0, "images must be at least 0, not -1"),
        (1024, 1, -1, "seed must be from 0 to 2"),
        (1024, 1, 2**64, "seed must be from 0 to 2"),
    ],
)
def test_wrong_arguments(neurons: int, images: int, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_features(neurons, images, seed)
