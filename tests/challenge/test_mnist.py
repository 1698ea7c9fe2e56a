"""mnist.py: the resize against its plain definition, images by hand, files mangled in every way."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers.places import official

from spdnn_cli.challenge.mnist import official_features, read_mnist
from spdnn_cli.errors import DataError
from spdnn_cli.problem import INPUT_NONZEROS, MNIST_MD5, NEURONS

NOT_MNIST = "It must be MNIST's train-images-idx3-ubyte.gz."
AGAIN = "Delete it and run `spdnn fetch` again."
HEADER = struct.pack(">IIII", 0x803, 60000, 28, 28)
OFFICIAL_1024 = "69f31eec86f4a859def2738f8e71cca3898e7d109da52b1cf281a2ec8fab6211"
BYTES = 16 + 60000 * 28 * 28

Images = npt.NDArray[np.uint8]


def random_images(count: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def plainly(images: Images, neurons: int) -> Images:
    """The challenge's recipe, word for word: one padded transform of the whole strip."""
    count, m = len(images), math.isqrt(neurons)
    strip = np.concatenate(list(images), axis=1).astype(np.float64)
    padded = np.zeros((m, m * count), np.complex128)
    kept_rows = np.r_[:14, m - 14 : m]  # bin 14 of 28, Nyquist, becomes the lowest negative one
    kept_columns = np.r_[: 14 * count, (m - 14) * count : m * count]
    padded[np.ix_(kept_rows, kept_columns)] = np.fft.fft2(strip)
    resized = np.abs(np.fft.ifft2(padded))
    pixels = resized / resized.max() >= 0.5
    column_major = [image.ravel(order="F") for image in np.split(pixels, count, axis=1)]
    return np.packbits(column_major, axis=1, bitorder="little")


@pytest.mark.parametrize(
    "neurons", [*NEURONS[:-1], pytest.param(NEURONS[-1], marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("count", [2, 7])
def test_equals_the_plain_definition(neurons: int, count: int) -> None:
    images = random_images(count, seed=count)
    features = official_features(images, neurons)
    assert features.dtype == np.uint8
    np.testing.assert_array_equal(features, plainly(images, neurons))


def test_equals_the_plain_definition_on_a_long_strip() -> None:
    images = random_images(1100)
    np.testing.assert_array_equal(official_features(images, 1024), plainly(images, 1024))


def test_threshold_spans_all_images() -> None:
    """A dim image has features of its own, and none beside a bright one."""
    dim = np.full((1, 28, 28), 100, np.uint8)
    bright = np.full((1, 28, 28), 255, np.uint8)
    assert official_features(dim, 1024).all()
    both = official_features(np.concatenate([dim, bright, dim]), 1024)
    middle = both.reshape(3, 32, 4)[:, 8:24]  # away from the ringing at the edges
    assert (middle[0] == 0).all()
    assert (middle[1] == 255).all()
    assert (middle[2] == 0).all()


def test_pixels_are_packed_column_by_column() -> None:
    """Rows 0 to 13 white: output row i lies at input row i * 7 / 8, so rows 0 to 15 come out set.

    Row 15 lies at 13.125, next to white row 13; row 16 at 14, which is black; row 31 at 27.125,
    next to black row 27. Every column is the same: two full bytes, two empty ones.
    """
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, :14] = 255
    assert official_features(images, 1024).tolist() == [[255, 255, 0, 0] * 32]


def test_columns_follow_each_other() -> None:
    """Columns 0 to 13 white: by the same reckoning output columns 0 to 15 are full."""
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, :, :14] = 255
    assert official_features(images, 1024).tolist() == [[255] * 64 + [0] * 64]


def test_black_images_have_no_features() -> None:
    done: list[float] = []
    features = official_features(np.zeros((3, 28, 28), np.uint8), 4096, progress=done.append)
    assert features.shape == (3, 512)
    assert not features.any()
    assert done == [1.0]


def test_no_images() -> None:
    assert official_features(np.zeros((0, 28, 28), np.uint8), 1024).shape == (0, 128)


def test_threads_do_not_change_the_features() -> None:
    images = random_images(9)
    one = official_features(images, 4096, threads=1)
    np.testing.assert_array_equal(official_features(images, 4096, threads=5), one)


def test_progress_rises_to_one() -> None:
    done: list[float] = []
    official_features(random_images(2), 1024, progress=done.append)
    assert done == [k / 64 for k in range(1, 65)]


@pytest.mark.parametrize(
    ("images", "neurons", "threads", "message"),
    [
        (np.zeros((2, 28, 27), np.uint8), 1024, None, r"not uint8 \(2, 28, 27\)"),
        (np.zeros((28, 28), np.uint8), 1024, None, r"not uint8 \(28, 28\)"),
        (np.zeros((2, 28, 28)), 1024, None, r"not float64 \(2, 28, 28\)"),
        (np.zeros((2, 28, 28), np.uint8), 2048, None, "not 2048"),
        (np.zeros((2, 28, 28), np.uint8), 1024, 0, "threads must be at least 1, not 0"),
    ],
)
def test_wrong_arguments(images: Images, neurons: int, threads: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        official_features(images, neurons, threads=threads)


def test_official_inputs() -> None:
    images = read_mnist(official("train-images-idx3-ubyte.gz"))
    assert images.shape == (60000, 28, 28)
    assert images.dtype == np.uint8
    features = official_features(images, 1024)
    assert int(np.unpackbits(features).sum()) == INPUT_NONZEROS[1024]
    assert hashlib.sha256(features.tobytes()).hexdigest() == OFFICIAL_1024


def fault(path: Path, content: bytes) -> str:
    """What `read_mnist` says of a file with this content, without the path in front."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_mnist(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.gz"
    with pytest.raises(DataError) as caught:
        read_mnist(path)
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory). {NOT_MNIST}"


def test_file_that_is_not_compressed(tmp_path: Path) -> None:
    message = fault(tmp_path / "a.gz", HEADER)
    assert message == rf"cannot be read (Not a gzipped file (b'\x00\x00')). {NOT_MNIST}"


@pytest.mark.parametrize("kept", [9, 20, 30])
def test_truncated_file(tmp_path: Path, kept: int) -> None:
    message = fault(tmp_path / "a.gz", gzip.compress(HEADER)[:kept])
    assert message.startswith("is cut short or damaged (")
    assert message.endswith(f"). {AGAIN}")
    assert "\n" not in message


def test_damaged_file(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(HEADER))
    content[-8] ^= 1  # of the checksum
    message = fault(tmp_path / "a.gz", bytes(content))
    assert message.startswith("cannot be read (CRC check failed")


@pytest.mark.parametrize(
    ("data", "starts"),
    [
        (b"", "nothing"),
        (b"\x00\x00\x08", "000008"),
        (HEADER[:15], "00000803"),
        (struct.pack(">II", 0x801, 60000) + bytes(60000), "00000801"),  # the labels
    ],
)
def test_wrong_start(tmp_path: Path, data: bytes, starts: str) -> None:
    message = fault(tmp_path / "a.gz", gzip.compress(data))
    assert message == f"does not hold images: it starts with {starts}, not 00000803. {NOT_MNIST}"


def test_wrong_count(tmp_path: Path) -> None:
    """MNIST's other file of images, the test images."""
    message = fault(tmp_path / "a.gz", gzip.compress(struct.pack(">IIII", 0x803, 10000, 28, 28)))
    assert message == f"holds 10000 images of 28 x 28 pixels, not 60000 of 28 x 28. {NOT_MNIST}"


def test_wrong_length(tmp_path: Path) -> None:
    message = fault(tmp_path / "a.gz", gzip.compress(HEADER + bytes(100)))
    assert message == f"unpacks to 116 bytes, not {BYTES}. {AGAIN}"


def test_wrong_content(tmp_path: Path) -> None:
    data = HEADER + bytes(BYTES - 16)
    message = fault(tmp_path / "a.gz", gzip.compress(data, 1))
    assert message == f"unpacks to md5 {hashlib.md5(data).hexdigest()}, not {MNIST_MD5}. {AGAIN}"
