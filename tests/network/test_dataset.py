"""dataset.py: what goes in comes out; damage, a full disk and interruptions never go unnoticed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.networks import assert_same, bit_features, float_features, layer_of, random_matrix

from spdnn_cli.challenge.digits import synthetic_features
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.errors import DataError
from spdnn_cli.network.dataset import (
    Dataset,
    extend_dataset,
    layer_sha256,
    open_dataset,
    write_dataset,
)
from spdnn_cli.network.fold import fold, keeps_saturated
from spdnn_cli.network.layers import Features, FoldedLayer

YMAX = 32.0
PROVENANCE = {"source": "test", "files": {"ä.gz": 17}}


def random_layers(widths: list[int], seed: int = 1) -> list[FoldedLayer]:
    """Layers of all kinds: with few edges and many weights, and some that keep saturated."""
    random = np.random.default_rng(seed)
    layers = []
    for k in range(len(widths) - 1):
        shape = widths[k + 1], widths[k]
        weights = np.array([2.0]) if k % 2 else random.normal(size=20)
        matrix = random_matrix(random, *shape, density=0.9 if k % 2 else 0.2, weights=weights)
        layers.append(fold(layer_of(matrix, random.normal(size=shape[0]))))
    return layers


def numbered(layers: list[FoldedLayer], first: int = 0) -> list[tuple[int, FoldedLayer]]:
    return list(enumerate(layers, first))


BITS = bit_features(np.random.default_rng(2).random((50, 13)) < 0.5)
LAYERS = random_layers([13, 20, 20, 7, 30, 9])


def write(path: Path, features: Features = BITS, layers: list[FoldedLayer] = LAYERS) -> Dataset:
    return write_dataset(path, features, numbered(layers), len(layers), YMAX, PROVENANCE)


def content(dataset: Dataset) -> dict[str, Any]:
    """Everything that can be asked of a dataset, to compare."""
    network = dataset.network()
    return {
        "header": (dataset.neurons, dataset.images, dataset.layers, dataset.ymax),
        "provenance": dataset.provenance,
        "sha256": (dataset.features_sha256, dataset.network_sha256(dataset.layers)),
        "features": dataset.features().array.tobytes(),
        "tables": (network.keeps_saturated.tolist(), network.edges_by_layer.tolist()),
        "layers": [layer_sha256(layer) for layer in network.layers],
    }


# --- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "features",
    [
        BITS,
        float_features(np.random.default_rng(3).random((50, 13))),
        bit_features(np.ones((1, 13))),
    ],
    ids=["bits", "floats", "one image"],
)
def test_what_was_written_is_read(tmp_path: Path, features: Features) -> None:
    path = tmp_path / "new" / "data.h5"
    for dataset in (write(path, features), open_dataset(path)):
        assert dataset.path == path
        assert (dataset.neurons, dataset.images, dataset.layers) == (13, features.images, 5)
        assert (dataset.ymax, dataset.provenance) == (YMAX, PROVENANCE)
        assert dataset.features_sha256 == hashlib.sha256(features.array.tobytes()).hexdigest()
        read = dataset.features()
        assert (read.neurons, read.array.dtype) == (13, features.array.dtype)
        np.testing.assert_array_equal(read.array, features.array)
        network = dataset.network()
        assert (network.depth, network.ymax) == (5, YMAX)
        assert network.edges_by_layer.tolist() == [layer.edges for layer in LAYERS]
        kept = [keeps_saturated(layer, YMAX) for layer in LAYERS]
        assert True in kept
        assert False in kept
        assert network.keeps_saturated.tolist() == kept
        for layer, wanted in zip(network.layers, LAYERS, strict=True):
            assert_same(layer, wanted)
    assert [file.name for file in path.parent.iterdir()] == ["data.h5"]


def test_ranges_of_images_from_many_chunks(tmp_path: Path) -> None:
    """A chunk is 1 MiB: 64 images of 4096 floats."""
    array = np.random.default_rng(4).random((300, 4096)).astype(np.float32)
    layers = [fold(layer_of(np.eye(4096)))]
    dataset = write(tmp_path / "data.h5", Features(array, 4096), layers)
    for threads in (1, 3):
        for first, last in ((0, 300), (0, 64), (63, 65), (64, 65), (100, 290), (299, 300), (7, 7)):
            read = dataset.features(first, last, threads)
            np.testing.assert_array_equal(read.array, array[first:last])
    np.testing.assert_array_equal(dataset.features(290, 999).array, array[290:])


@pytest.mark.parametrize("entries", [pytest.param(1, marks=pytest.mark.slow), 7, 64])
def test_layers_that_lie_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    monkeypatch.setattr("spdnn_cli.network.dataset.BLOCK_ENTRIES", entries)
    layers = write(tmp_path / "data.h5").network().layers
    for k in (0, 4, 1, 3, 2, 0):
        assert_same(layers[k], LAYERS[k])


def test_layers_are_read_by_number_and_slice(tmp_path: Path) -> None:
    layers = write(tmp_path / "data.h5").network(4).layers
    assert len(layers) == 4
    assert_same(layers[3], LAYERS[3])
    assert_same(layers[-1], LAYERS[3])
    assert_same(layers[0], LAYERS[0])
    for layer, wanted in zip(layers[1:9], LAYERS[1:4], strict=True):
        assert_same(layer, wanted)
    for number in (4, -5):
        with pytest.raises(IndexError):
            layers[number]


def test_the_first_layers_are_a_network_of_their_own(tmp_path: Path) -> None:
    few, many = write(tmp_path / "few.h5", layers=LAYERS[:3]), write(tmp_path / "many.h5")
    network = many.network(3)
    assert network.depth == 3
    assert network.edges == sum(layer.edges for layer in LAYERS[:3])
    assert many.network_sha256(3) == few.network_sha256(3) != many.network_sha256(5)


def test_layers_come_in_any_order(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    written: list[int] = []
    dataset = write_dataset(
        tmp_path / "mixed.h5",
        BITS,
        ((k, LAYERS[k]) for k in order),
        5,
        YMAX,
        PROVENANCE,
        progress=written.append,
    )
    assert content(dataset) == content(write(tmp_path / "ordered.h5"))
    assert written == [1, 2, 3, 4, 5]


def test_what_layers_share_is_stored_once(tmp_path: Path) -> None:
    layer = random_layers([400, 400])[0]
    features = bit_features(np.zeros((1, 400)))
    sizes = [
        write(tmp_path / f"{k}.h5", features, [layer] * k).path.stat().st_size for k in (1, 60)
    ]
    assert sizes[1] < 1.2 * sizes[0]
    network = open_dataset(tmp_path / "60.h5").network()
    assert_same(network.layers[59], layer)


def test_checksums_tell_layers_apart() -> None:
    layer = layer_of([[1, 2], [0, 3]], -1.0)
    same, other = layer_of([[1, 2], [0, 3]], -1.0), layer_of([[1, 2], [0, 3]], -0.5)
    moved = layer_of([[1, 2], [3, 0]], -1.0)
    sums = [layer_sha256(fold(each)) for each in (layer, same, other, moved)]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


# --- extension ---------------------------------------------------------------------------------


def test_extended_or_written_at_once_is_the_same(tmp_path: Path) -> None:
    path, layers = tmp_path / "data.h5", list(official_layers(1024, 0, 20))
    features = Features(synthetic_features(1024, 20, 1), 1024)

    whole = write_dataset(tmp_path / "whole.h5", features, numbered(layers), 20, YMAX, PROVENANCE)
    write_dataset(path, features, numbered(layers[:5]), 5, YMAX, PROVENANCE)
    written: list[int] = []
    extend_dataset(path, numbered(layers[5:8], 5), 8, written.append)
    extended = extend_dataset(path, reversed(numbered(layers[8:], 8)), 20)
    assert content(extended) == content(open_dataset(path)) == content(whole)
    extended.check()
    assert written == [1, 2, 3]


def test_an_extension_must_be_whole_and_fit(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    write(path, layers=LAYERS[:2])
    before = path.read_bytes()
    for number, depth, message in [
        (3, 4, "layer 3 is missing (1 in all). Give"),
        (2, 5, "layer 4 is missing (2 in all). Give"),
    ]:
        with pytest.raises(DataError, match="^" + re.escape(f"{path}: {message}")):
            extend_dataset(path, [(number, LAYERS[number])], depth)
    with pytest.raises(DataError, match=r"layer 3 takes 7 inputs, but is given 20\. A layer"):
        extend_dataset(path, [(2, LAYERS[3])], 3)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "depth", "message"),
    [
        (numbered(LAYERS)[1:], 5, "layer 1 is missing (1 in all)."),
        (numbered(LAYERS)[:2], 5, "layer 3 is missing (3 in all)."),
        ([], 2, "layer 1 is missing (2 in all)."),
        (numbered(LAYERS[1:]), 4, "layer 1 takes 20 inputs, but is given 13."),
        (numbered([LAYERS[0], LAYERS[3]]), 2, "layer 2 takes 7 inputs, but is given 20."),
    ],
)
def test_layers_must_be_whole_and_fit(
    tmp_path: Path, layers: list[tuple[int, FoldedLayer]], depth: int, message: str
) -> None:
    path = tmp_path / "data.h5"
    with pytest.raises(DataError) as caught:
        write_dataset(path, BITS, layers, depth, YMAX, {})
    assert str(caught.value).startswith(f"{path}: {message} ")
    assert list(tmp_path.iterdir()) == []


def test_more_layers_than_there_are(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data.h5")
    with pytest.raises(DataError) as caught:
        dataset.network(6)
    assert str(caught.value) == (
        f"{dataset.path}: has 5 layers, 6 were asked for. Ask for 5 at most."
    )


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "data.h5")
    assert str(caught.value) == (
        f"{tmp_path}/data.h5: there is no such file. Run spdnn convert to make the dataset."
    )


def test_a_file_that_vanished(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data.h5")
    layers = dataset.network().layers
    dataset.path.unlink()
    for read in (dataset.features, dataset.network, lambda: layers[0]):
        with pytest.raises(DataError, match=r"data\.h5: there is no such file\. Run"):
            read()


@pytest.mark.parametrize("text", [b"", b"\x89HD", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_ends_where_it_begins(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "data.h5"
    path.write_bytes(text)
    assert_damaged(path, lambda: open_dataset(path))


@pytest.mark.parametrize("text", [b"1\t2\t1\n" * 1000, b"\x1f\x8b\x08", b"\0" * 600, b"{}"])
def test_a_file_of_another_kind_is_not_called_damaged(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    assert message_of(path) == (
        f"{path}: is not an HDF5 file, so not a dataset of spdnn. "
        "Name a dataset that spdnn convert has written."
    )


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    return str(caught.value)


# --- files that are whole, and cannot be read ----------------------------------------------------


def test_a_folder_and_a_link_to_nothing(tmp_path: Path) -> None:
    assert message_of(tmp_path) == f"{tmp_path}: is a folder, not a dataset. Name a file."
    link = tmp_path / "link.h5"
    link.symlink_to(tmp_path / "gone.h5")
    assert message_of(link) == (
        f"{link}: is a link to {tmp_path}/gone.h5, which is not there. "
        "Bring that file back, or remove the link."
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = write(tmp_path / "data.h5").path

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read all
    assert message_of(path) == (
        f"{path}: may not be read ({os.strerror(number)}). "
        "Ask its owner for the permission to read it, and to enter its folder."
    )


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    dataset, opened = write(tmp_path / "data.h5"), h5py.File

    def without_locks(path: Any, mode: str, locking: Any = None, **options: Any) -> Any:
        if locking is not False:
            raise OSError(number, f"unable to lock file, errno = {number}")
        return opened(path, mode, locking=False, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    assert content(open_dataset(dataset.path)) == content(dataset)

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(number, f"unable to lock file, errno = {number}")

    monkeypatch.setattr(h5py, "File", refuse)
    assert message_of(dataset.path) == (
        f"{dataset.path}: is on a file system without locks ({os.strerror(number)}). "
        "Set HDF5_USE_FILE_LOCKING=FALSE, or copy the file to a local disk."
    )


def test_a_file_that_another_program_has_locked(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks as on Unix")
    path = write(tmp_path / "data.h5").path
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert message_of(path) == (
            f"{path}: is locked by another program. "
            "Wait until the program that is writing it has ended."
        )
    open_dataset(path)


def test_a_file_that_is_replaced_while_its_header_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = write(tmp_path / "data.h5").path, h5py.File
    times: list[int] = []

    def replaced(*args: Any, **options: Any) -> Any:
        if not times:
            times.append(1)
            other = path.with_name("other")
            other.write_bytes(path.read_bytes())
            os.replace(other, path)
        return opened(*args, **options)

    monkeypatch.setattr(h5py, "File", replaced)
    assert open_dataset(path).layers == len(LAYERS)


def changed(path: Path, **attributes: Any) -> None:
    """Write a dataset whose header says something else."""
    write(path)
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)


def test_hdf5_that_is_no_dataset(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2, 3]
    message = (
        f"{path}: is an HDF5 file, but not a dataset of spdnn. spdnn_cli.write_dataset makes one "
        "from a network of your own: see docs/datasets.md."
    )
    with pytest.raises(DataError, match="^" + re.escape(message) + "$"):
        open_dataset(path)
    changed(path, format=np.bytes_("another"))
    with pytest.raises(DataError, match="^" + re.escape(message) + "$"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("version", "hint"),
    [
        (3, "Update spdnn, or delete it and run spdnn convert."),
        (1, "Delete it and run spdnn convert; write one of your own again."),
    ],
)
def test_another_schema(tmp_path: Path, version: int, hint: str) -> None:
    """An older one has certificates of another rule."""
    path = tmp_path / "data.h5"
    changed(path, schema_version=version)
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    assert str(caught.value) == (
        f"{path}: has schema version {version}; this program reads version 2. {hint}"
    )


def test_a_header_without_its_entries(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    for name in ("schema_version", "images", "provenance"):
        changed(path)
        with h5py.File(path, "r+") as file:
            del file.attrs[name]
        assert_damaged(path, lambda: open_dataset(path))
    changed(path)
    with h5py.File(path, "r+") as file:
        del file["layers/sha256"]
    assert_damaged(path, lambda: open_dataset(path))


# --- damage ------------------------------------------------------------------------------------


def assert_damaged(path: Path, read: Callable[[], object]) -> None:
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{path}: is damaged or cut off (")
    assert message.endswith("). Delete it, and run spdnn convert.")
    assert "\n" not in message


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "data.h5").path
    whole = path.read_bytes()
    for length in {*range(0, len(whole), len(whole) // 60), *range(len(whole) - 9, len(whole))}:
        path.write_bytes(whole[:length])
        assert_damaged(path, lambda: content(open_dataset(path)))
        assert_damaged(path, lambda: extend_dataset(path, [], 6))


@pytest.mark.parametrize("changes", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_changed_bytes_never_change_the_data(tmp_path: Path, changes: int) -> None:
    """Either the change is found, or it is in bytes that hold nothing."""
    path = write(tmp_path / "data.h5").path
    whole, good = path.read_bytes(), content(open_dataset(path))
    random = np.random.default_rng(5)
    times_found = 0
    for _ in range(changes):
        damaged = bytearray(whole)
        start = random.integers(len(whole))
        length = random.choice([1, 1, 1, 2, 16])
        for at in range(start, min(start + length, len(whole))):
            damaged[at] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        found = content_or_message(path)
        assert found == good or str(found).startswith(f"{path}: is damaged or cut off (")
        times_found += found != good
    assert times_found > changes / 3


def content_or_message(path: Path) -> dict[str, Any] | str:
    try:
        return content(open_dataset(path))
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("changes", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_a_damaged_file_is_not_extended(tmp_path: Path, changes: int) -> None:
    path = tmp_path / "data.h5"
    write(path, layers=LAYERS[:3])
    whole = path.read_bytes()
    random = np.random.default_rng(6)
    wanted = content(write(tmp_path / "whole.h5"))
    for at in random.integers(0, len(whole), changes):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            extend_dataset(path, numbered(LAYERS[3:], 3), 5)
        except DataError:
            assert path.read_bytes() == damaged
            continue
        if content_or_message(path) != wanted:  # layers are added without a look at the inputs
            with pytest.raises(DataError, match="is damaged or cut off"):
                open_dataset(path).features()


# --- full disks and interruptions --------------------------------------------------------------


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Makes files no longer than so many bytes: writing more fails as on a full disk."""
    resource = pytest.importorskip("resource", reason="limits are set as on Unix only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path: Path, file_size_limit: Callable[[int], None]) -> None:
    path = tmp_path / "data.h5"
    before = write(path, layers=LAYERS[:3]).path.read_bytes()
    whole = write(tmp_path / "whole.h5").path.stat().st_size
    message = (
        f"{path}: cannot be written (File too large). "
        "Is there a limit on the size of files (ulimit -f)?"
    )
    for size in {0, 100, whole // 2, whole - 1}:
        file_size_limit(size)
        with pytest.raises(DataError) as caught:
            write(path)
        assert str(caught.value) == message
        with pytest.raises(DataError) as caught:
            extend_dataset(path, numbered(LAYERS[3:], 3), 5)
        assert str(caught.value) == message
        assert path.read_bytes() == before
        assert not list(path.parent.glob("*.part"))
    file_size_limit(whole)
    assert write(path).layers == 5


def test_an_interruption_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    before = write(path, layers=LAYERS[:3]).path.read_bytes()

    def interrupted(first: int) -> Iterator[tuple[int, FoldedLayer]]:
        yield first, LAYERS[first]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(path, BITS, interrupted(0), 5, YMAX, {})
    with pytest.raises(KeyboardInterrupt):
        extend_dataset(path, interrupted(3), 5)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_replaced_while_in_use(tmp_path: Path) -> None:
    """Layers of another network must not follow those of the first."""
    dataset = write(tmp_path / "data.h5")
    layers = dataset.network().layers
    write(dataset.path, layers=random_layers([13, 20, 20, 7, 30, 9], seed=2))
    message = f"{dataset.path}: was replaced while in use. Run the same command again."
    for read in (dataset.features, dataset.network, lambda: layers[1], lambda: layers[1:]):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value) == message


def test_two_readers_at_once(tmp_path: Path) -> None:
    """h5py locks files; readers do not lock each other out."""
    path = write(tmp_path / "data.h5").path
    with h5py.File(path, "r"):
        assert open_dataset(path).layers == 5
