"""The dataset file: the inputs and the folded network in one HDF5 file.

    /                attributes: format, schema_version, neurons, images, layers, ymax,
                     provenance (JSON: where the data came from, checksums, program version)
    /features        uint8 (images, ceil(neurons / 8)), bit f % 8 of byte f // 8 is feature f; or
                     float32 (images, neurons). Attribute sha256: of the unpacked rows in order.
    /layers/*        one entry a layer: inputs, outputs, edges; input_map, output_map, core (numbers
                     into the pools below); keeps_saturated (the certificate); official (1: equals
                     the challenge's own layer); sha256
    /class_maps/*    the pool of class maps: values, and offsets by map
    /cores/*         the pool of cores: inputs, row_offsets, columns, weights, bias, and where each
                     core's rows and edges start

A map or a core that many layers share is stored once. A reader takes the slices that it needs, so
the first layers open without reading the rest. Paths, never open handles, go from process to
process.

A file is built in memory, since HDF5 breaks on a full disk, then written aside and renamed: a
reader sees the old file or the new one. Everything in it has a checksum: metadata and attributes in
the format of HDF5 1.10, the rest in its chunks. So strings are of fixed length: HDF5 keeps the
others on a heap without one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError

from spdnn_cli.atomic import NOT_ALLOWED, written_aside
from spdnn_cli.errors import DataError, is_limit_on_threads
from spdnn_cli.network.fold import keeps_saturated
from spdnn_cli.network.layers import Features, FoldedLayer, Int32, Int64, Layer, Network

FORMAT = "spdnn-dataset"
SCHEMA_VERSION = 1
HDF5_FORMAT = "v110"
"""The file format, as h5py names it."""
CHUNK_BYTES = 1 << 20
POOL_CHUNK = 1 << 15
"""Entries in a chunk of a pool: small, so that one layer's slice inflates little else."""
BLOCK_ENTRIES = 1 << 18
"""Entries of a pool that are read at a time: the edges of 2000 layers of N = 1024, of 32 of
N = 65536."""
BLOCKS_KEPT = 3
"""So many blocks of a pool are kept: class maps of early layers come again and again."""

LayerProgress = Callable[[int], None]


@dataclass(frozen=True)
class Dataset:
    """The header of a dataset file; `open_dataset` makes it, the methods read the rest.

    Attributes:
        path: the HDF5 file.
        neurons: number of input neurons.
        images: number of images.
        layers: number of layers in the file.
        ymax: where values are clipped.
        provenance: where the data came from.
        features_sha256: of the input rows.
        official_layers: how many layers from the first on equal the challenge's own.
        file_id: tells the file from one that takes its place later (`_file_id`).

    Reading raises a DataError where another file has taken the place of this one.
    """

    path: Path
    neurons: int
    images: int
    layers: int
    ymax: float
    provenance: dict[str, Any]
    features_sha256: str
    official_layers: int
    file_id: tuple[int, int]

    def network(self, layers: int | None = None) -> Network:
        """The first `layers` layers (default: all), each read from the file when asked for.

        Raises:
            DataError: the file has fewer layers.
        """
        wanted = self.layers if layers is None else layers
        if wanted > self.layers:
            raise DataError(
                f"has {self.layers} layers, {wanted} were asked for",
                path=self.path,
                hint=f"Run: spdnn convert --neurons {self.neurons} --layers {wanted}",
            )
        with _opened(self.path, self.file_id) as file:
            table = file["layers"]
            certificates = table["keeps_saturated"][:wanted].astype(np.bool_)
            edges = table["edges"][:wanted].astype(np.int64)
        layers_of_file = StoredLayers(self.path, self.file_id, wanted)
        return Network(layers_of_file, self.ymax, certificates, edges)

    def features(self, first: int = 0, last: int | None = None, threads: int = 1) -> Features:
        """The inputs of images first..last-1 (default: all).

        Args:
            first: first image, from 0.
            last: one past the last image.
            threads: threads that inflate chunks.

        Raises:
            DataError: the file is damaged.
        """
        return self.features_of(
            np.arange(first, self.images if last is None else min(last, self.images)), threads
        )

    def features_of(self, images: Int64, threads: int = 1) -> Features:
        """The inputs of some images; no others are held in memory.

        Args:
            images: int64, ascending, from 0.
            threads: threads that inflate chunks.

        Raises:
            DataError: the file is damaged.
        """
        with _opened(self.path, self.file_id) as file:
            return Features(_read_rows(file["features"], images, threads), self.neurons)

    def network_sha256(self, layers: int) -> str:
        """A checksum of the first `layers` layers."""
        with _opened(self.path, self.file_id) as file:
            return hashlib.sha256(file["layers/sha256"][:layers].tobytes()).hexdigest()


class StoredLayers(Sequence[FoldedLayer]):
    """The layers of a dataset file, each read when it is asked for."""

    def __init__(self, path: Path, file_id: tuple[int, int], layers: int) -> None:
        self._path, self._file_id, self._layers = path, file_id, layers
        self._maps: dict[int, Int32] = {}
        self._degrees, self._bias = _ReadAhead("cores/degrees"), _ReadAhead("cores/bias")
        self._columns, self._weights = _ReadAhead("cores/columns"), _ReadAhead("cores/weights")
        self._map_values = _ReadAhead("class_maps/values")
        with _opened(path, file_id) as file:
            self._input_map = file["layers/input_map"][:layers]
            self._output_map = file["layers/output_map"][:layers]
            self._core = file["layers/core"][:layers]
            self._map_offsets = file["class_maps/offsets"][:]
            self._core_inputs = file["cores/inputs"][:]
            self._row_starts = file["cores/row_starts"][:]
            self._edge_starts = file["cores/edge_starts"][:]

    def __len__(self) -> int:
        return self._layers

    @overload
    def __getitem__(self, index: int) -> FoldedLayer: ...
    @overload
    def __getitem__(self, index: slice) -> list[FoldedLayer]: ...
    def __getitem__(self, index: int | slice) -> FoldedLayer | list[FoldedLayer]:
        """Layer `index` from 0, or the layers of a slice, from one opening of the file."""
        wanted = range(self._layers)[index]
        with _opened(self._path, self._file_id) as file:
            if isinstance(wanted, int):
                return self._read(file, wanted)
            return [self._read(file, k) for k in wanted]

    def _read(self, file: h5py.File, k: int) -> FoldedLayer:
        core = int(self._core[k])
        rows = int(self._row_starts[core]), int(self._row_starts[core + 1])
        edges = int(self._edge_starts[core]), int(self._edge_starts[core + 1])
        degrees = self._degrees.read(file, *rows)
        layer = Layer(
            inputs=int(self._core_inputs[core]),
            row_offsets=np.concatenate([[0], np.cumsum(degrees, dtype=np.int64)]),
            columns=self._columns.read(file, *edges),
            weights=self._weights.read(file, *edges),
            bias=self._bias.read(file, *rows),
        )
        maps = {int(self._input_map[k]), int(self._output_map[k])}
        for number in maps - self._maps.keys():
            start, end = self._map_offsets[number : number + 2]
            self._maps[number] = self._map_values.read(file, int(start), int(end))
        # Neighbouring layers share their maps; older ones will not be asked for again.
        self._maps = {number: self._maps[number] for number in maps}
        return FoldedLayer(
            layer, self._maps[int(self._input_map[k])], self._maps[int(self._output_map[k])]
        )


class _ReadAhead:
    """A pool of a dataset file, read by the block: the next layers will ask for what follows."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._blocks: dict[int, Any] = {}

    def read(self, file: h5py.File, first: int, last: int) -> Any:
        """Its entries first..last-1; perhaps a view, which nobody may change."""
        numbers = range(first // BLOCK_ENTRIES, max(first, last - 1) // BLOCK_ENTRIES + 1)
        blocks = [self._block(file, number) for number in numbers]
        values = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        start = numbers[0] * BLOCK_ENTRIES
        return values[first - start : last - start]

    def _block(self, file: h5py.File, number: int) -> Any:
        block = self._blocks.pop(number, None)
        if block is None:
            start = number * BLOCK_ENTRIES
            block = file[self._name][start : start + BLOCK_ENTRIES]
            if len(self._blocks) == BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
        self._blocks[number] = block  # the last one asked for comes last
        return block


def open_dataset(path: str | Path) -> Dataset:
    """Read and check the header of a dataset file.

    Raises:
        DataError: the file is missing, truncated, not a dataset, or of a newer schema.
    """
    path = Path(path)
    for _ in range(_TRIES):
        with contextlib.suppress(_ReplacedError):
            return _open_header(path)
    return _open_header(path)


_TRIES = 3
"""How often a header is read anew because another process has just written the file."""


def _open_header(path: Path) -> Dataset:
    file_id = _file_id(path)
    with _opened(path, file_id) as file:
        attributes = dict(file.attrs)
        if attributes.get("format") != FORMAT.encode():
            raise DataError("is an HDF5 file, but not a dataset of spdnn", path=path)
        version = int(attributes["schema_version"])
        if version > SCHEMA_VERSION:
            raise DataError(
                f"has schema version {version}; this program reads up to {SCHEMA_VERSION}",
                path=path,
                hint="Update spdnn, or delete it and run spdnn convert.",
            )
        official = file["layers/official"][:].astype(np.bool_)
        return Dataset(
            path=path,
            neurons=int(attributes["neurons"]),
            images=int(attributes["images"]),
            layers=int(attributes["layers"]),
            ymax=float(attributes["ymax"]),
            provenance=json.loads(attributes["provenance"]),
            features_sha256=file["features"].attrs["sha256"].decode(),
            official_layers=int(np.argmin(official)) if not official.all() else len(official),
            file_id=file_id,
        )


def write_dataset(
    path: str | Path,
    features: Features,
    layers: Iterable[tuple[int, FoldedLayer]],
    depth: int,
    ymax: float,
    provenance: dict[str, Any],
    is_official: Callable[[int, str], bool] | None = None,
    progress: LayerProgress | None = None,
) -> Dataset:
    """Write a dataset file: aside, then renamed.

    Args:
        path: the file to write.
        features: the inputs.
        layers: (number from 0, layer) for every number below `depth`, in any order.
        depth: number of layers.
        ymax: where values are clipped.
        provenance: where the data came from; must go into JSON.
        is_official: tells from a layer's number and its `layer_sha256` whether it equals the
            challenge's own; None: no layer does.
        progress: called with the number of layers written so far.

    Raises:
        DataError: layers are missing, neighbours do not fit, or the disk is full.
    """
    path = Path(path)
    with written_aside(path) as part:
        content = io.BytesIO()
        with h5py.File(content, "w", libver=HDF5_FORMAT) as file:
            file.attrs.update(
                format=np.bytes_(FORMAT),
                schema_version=SCHEMA_VERSION,
                neurons=features.neurons,
                images=features.images,
                ymax=ymax,
                provenance=np.bytes_(json.dumps(provenance)),
            )
            _write_features(file, features)
            _make_tables(file)
            _write_layers(file, layers, 0, depth, is_official, progress)
        part.write_bytes(content.getbuffer())
    return open_dataset(path)


def extend_dataset(
    path: str | Path,
    layers: Iterable[tuple[int, FoldedLayer]],
    depth: int,
    is_official: Callable[[int, str], bool] | None = None,
    progress: LayerProgress | None = None,
) -> Dataset:
    """Add layers to a dataset file, up to `depth`: to a copy, which then takes the file's place.

    Args and errors are those of `write_dataset`; `layers` gives those that the file has not.
    """
    path = Path(path)
    present = open_dataset(path)
    with _opened(path, present.file_id) as file:
        _check_tables(file)
    with written_aside(path) as part:
        content = io.BytesIO(path.read_bytes())
        with h5py.File(content, "r+", libver=HDF5_FORMAT) as file:
            _write_layers(file, layers, present.layers, depth, is_official, progress)
        part.write_bytes(content.getbuffer())
    return open_dataset(path)


def layer_sha256(layer: FoldedLayer) -> str:
    """A checksum of everything in a layer. Equal layers have equal checksums."""
    digest = hashlib.sha256()
    for array in _arrays(layer):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays(layer: FoldedLayer) -> tuple[np.ndarray[Any, Any], ...]:
    core = layer.core
    maps = (layer.input_class, layer.output_class)
    return (core.row_offsets, core.columns, core.weights, core.bias, *maps)


# --- files -------------------------------------------------------------------------------------


def _file_id(path: Path) -> tuple[int, int]:
    """A pair of numbers that another file of the same name does not have."""
    try:
        status = path.stat()
    except OSError as error:
        raise _not_opened(path, error) from error
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def _opened(path: Path, file_id: tuple[int, int]) -> Iterator[h5py.File]:
    """Open for reading; whatever HDF5 finds wrong becomes a DataError that names the file."""
    _check_readable(path)
    try:
        with _file(path) as file:
            if _file_id(path) != file_id:
                raise _ReplacedError(
                    "was replaced while in use", path=path, hint="Run the same command again."
                )
            yield file
    except (OSError, RuntimeError, KeyError, IsalError) as error:  # type: ignore[misc]
        if is_limit_on_threads(error):
            raise
        raise _not_opened(path, error) from error


class _ReplacedError(DataError):
    """Another file has taken the name since the header was read."""


def _file(path: Path) -> h5py.File:
    """The HDF5 file. A file of ours is never changed in place, so it needs no lock."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return h5py.File(path, "r", locking=False)


_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
"""What a system answers where the file system has no locks."""


def _check_readable(path: Path) -> None:
    """Raise where the file cannot be read or is of another kind: HDF5's words do not tell."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_HDF5_START))
    except OSError as error:
        raise _not_opened(path, error) from error
    same = sum(a == b for a, b in zip(start, _HDF5_START, strict=False))
    if 2 * same < len(start):  # else one of HDF5, damaged or cut off
        what = "is not an HDF5 file, so not a dataset of spdnn"
        hint = "Name a dataset that spdnn convert has written."
        raise DataError(what, path=path, hint=hint)


_HDF5_START = b"\x89HDF\r\n\x1a\n"


def _not_opened(path: Path, error: BaseException) -> DataError:
    """The error for what went wrong with a file; damage is what nothing else explains."""
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and path.is_symlink() and not path.exists():
        what = f"is a link to {os.readlink(path)}, which is not there"
        return DataError(what, path=path, hint="Bring that file back, or remove the link.")
    for numbers, what, hint in _NOT_THE_FILE:
        if number in numbers:
            return DataError(what.format(os.strerror(number or 0)), path=path, hint=hint)
    reason = (str(error).strip("'\"").splitlines() or [type(error).__name__])[0]
    what, hint = f"is damaged or cut off ({reason})", "Delete it, and run spdnn convert."
    return DataError(what, path=path, hint=hint)


_NOT_THE_FILE: tuple[tuple[tuple[int, ...], str, str], ...] = (
    (
        (errno.ENOENT, errno.ENOTDIR),
        "there is no such file",
        "Run spdnn convert to make the dataset.",
    ),
    ((errno.EISDIR,), "is a folder, not a dataset", "Name a file."),
    (
        NOT_ALLOWED,
        "may not be read ({})",
        "Ask its owner for the permission to read it, and to enter its folder.",
    ),
    (
        (errno.EAGAIN, errno.EWOULDBLOCK),
        "is locked by another program",
        "Wait until the program that is writing it has ended.",
    ),
    (
        _NO_LOCKS,
        "is on a file system without locks ({})",
        "Set HDF5_USE_FILE_LOCKING=FALSE, or copy the file to a local disk.",
    ),
    (
        (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ELOOP, errno.ENAMETOOLONG),
        "cannot be read ({})",
        "The file may be whole: it is the disk, the system or the path that fails.",
    ),
)
"""What a system answers where the file itself is not at fault: numbers, words, advice."""


# --- features ----------------------------------------------------------------------------------


def _write_features(file: h5py.File, features: Features) -> None:
    rows, width = features.array.shape
    chunk = max(1, min(rows, CHUNK_BYTES // features.row_bytes))
    stored = file.create_dataset(
        "features", (rows, width), features.array.dtype, chunks=(chunk, width), compression="gzip"
    )
    sha256 = hashlib.sha256(np.ascontiguousarray(features.array).data).hexdigest()
    stored.attrs["sha256"] = np.bytes_(sha256)
    for first in range(0, rows, chunk):
        block = np.zeros((chunk, width), features.array.dtype)
        part = features.array[first : first + chunk]
        block[: len(part)] = part
        stored.id.write_direct_chunk((first, 0), isal_zlib.compress(block.data, 3))


def _read_rows(stored: h5py.Dataset, images: Int64, threads: int) -> Any:
    """The rows of `images`. HDF5 reads the chunks one by one; `threads` threads inflate them."""
    chunk, width = stored.chunks
    rows = np.empty((len(images), width), stored.dtype)
    first, last = (int(images[0]), int(images[-1]) + 1) if len(images) else (0, 0)

    def inflate(start: int, packed: bytes) -> None:
        block = np.frombuffer(isal_zlib.decompress(packed), stored.dtype).reshape(chunk, width)
        low, high = np.searchsorted(images, [start, start + chunk])
        rows[low:high] = block[images[low:high] - start]

    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[None]] = deque()
        for start in range(first // chunk * chunk, last, chunk):
            _, packed = stored.id.read_direct_chunk((start, 0))
            pending.append(pool.submit(inflate, start, packed))
            if len(pending) > 2 * threads:
                pending.popleft().result()
        for future in pending:
            future.result()
    return rows


# --- layers ------------------------------------------------------------------------------------


def _make_tables(file: h5py.File) -> None:
    def table(name: str, dtype: str, width: int | None = None, chunk: int = 1024) -> None:
        shape = (0,) if width is None else (0, width)
        limit = (None,) if width is None else (None, width)
        chunks = (chunk,) if width is None else (chunk, width)
        file.create_dataset(
            name, shape, dtype, maxshape=limit, chunks=chunks, compression="gzip", shuffle=True
        )

    for name in ("inputs", "outputs", "input_map", "output_map", "core"):
        table(f"layers/{name}", "i4")
    table("layers/edges", "i8")
    table("layers/keeps_saturated", "u1")
    table("layers/official", "u1")
    table("layers/sha256", "u1", width=32)
    table("class_maps/values", "i4", chunk=POOL_CHUNK)
    table("cores/inputs", "i4")
    for name, dtype in (("degrees", "i4"), ("columns", "i4"), ("weights", "f4"), ("bias", "f4")):
        table(f"cores/{name}", dtype, chunk=POOL_CHUNK)
    for name in ("class_maps/offsets", "cores/row_starts", "cores/edge_starts"):
        table(name, "i8")
        file[name].resize(1, axis=0)


def _check_tables(file: h5py.File) -> None:
    """Read every table once: damage is to show before anything is added."""
    for group in ("layers", "class_maps", "cores"):
        for name in file[group]:
            file[f"{group}/{name}"][:]


class _Appender:
    """Appends to one-dimensional tables of a file, many arrays at a time: HDF5 calls are slow."""

    BUFFER_BYTES = 1 << 22

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._waiting: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._bytes = 0

    def append(self, name: str, values: np.ndarray[Any, Any]) -> None:
        self._waiting.setdefault(name, []).append(values)
        self._bytes += values.nbytes
        if self._bytes > self.BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        for name, arrays in self._waiting.items():
            stored, values = self._file[name], np.concatenate(arrays)
            start = len(stored)
            stored.resize(start + len(values), axis=0)
            stored[start:] = values
        self._waiting.clear()
        self._bytes = 0


class _Pool:
    """Arrays stored one after the other, each distinct one once; numbered in order of arrival.

    What an earlier call stored is not looked up: an extended file may hold an array twice.
    """

    def __init__(self, file: h5py.File, out: _Appender, offsets: list[str]) -> None:
        self._out, self._offsets = out, offsets
        self._ends = [int(file[name][-1]) for name in offsets]
        self._count = len(file[offsets[0]]) - 1
        self._numbers: dict[bytes, int] = {}

    def store(self, arrays: dict[str, np.ndarray[Any, Any]], lengths: list[int]) -> int:
        """The number of `arrays`, which are appended to their tables if they are new.

        `lengths` says how far each of the pool's offsets moves on.
        """
        content = b"".join(array.tobytes() for array in arrays.values())
        key = hashlib.sha256(repr(lengths).encode() + content).digest()
        if key not in self._numbers:
            self._numbers[key] = self._count
            self._count += 1
            for name, array in arrays.items():
                self._out.append(name, array)
            self._ends = [end + length for end, length in zip(self._ends, lengths, strict=True)]
            for name, end in zip(self._offsets, self._ends, strict=True):
                self._out.append(name, np.array([end], np.int64))
        return self._numbers[key]


def _write_layers(
    file: h5py.File,
    layers: Iterable[tuple[int, FoldedLayer]],
    present: int,
    depth: int,
    is_official: Callable[[int, str], bool] | None,
    progress: LayerProgress | None,
) -> None:
    """Store layers present..depth-1, in whatever order they come."""
    out = _Appender(file)
    maps = _Pool(file, out, ["class_maps/offsets"])
    cores = _Pool(file, out, ["cores/row_starts", "cores/edge_starts"])
    table = {name: stored[:] for name, stored in file["layers"].items()}
    for name, values in table.items():
        table[name] = np.resize(values, (depth, *values.shape[1:]))
    table["inputs"][present:] = -1
    for count, (number, layer) in enumerate(layers, start=1):
        sha256 = layer_sha256(layer)
        row = {
            "inputs": layer.inputs,
            "outputs": layer.outputs,
            "input_map": _store_map(maps, layer.input_class),
            "output_map": _store_map(maps, layer.output_class),
            "core": _store_core(cores, layer.core),
            "edges": layer.edges,
            "keeps_saturated": keeps_saturated(layer, float(file.attrs["ymax"])),
            "official": is_official is not None and is_official(number, sha256),
            "sha256": np.frombuffer(bytes.fromhex(sha256), np.uint8),
        }
        for name, value in row.items():
            table[name][number] = value
        if progress is not None:
            progress(count)
    out.flush()
    _check_fit(int(file.attrs["neurons"]), table["inputs"], table["outputs"])
    for name, values in table.items():
        file["layers"][name].resize(depth, axis=0)
        file["layers"][name][:] = values
    file.attrs["layers"] = depth


def _check_fit(neurons: int, inputs: Int32, outputs: Int32) -> None:
    """Every layer is there, and takes what the one before it gives."""
    missing = np.flatnonzero(inputs < 0) + 1
    if len(missing):
        raise DataError(f"layer {missing[0]} is missing ({len(missing)} in all)")
    given = np.concatenate([[neurons], outputs[:-1]])
    for k in np.flatnonzero(given != inputs):
        raise DataError(f"layer {k + 1} takes {inputs[k]} inputs, but is given {given[k]}")


def _store_map(pool: _Pool, class_map: Int32) -> int:
    return pool.store({"class_maps/values": class_map}, [len(class_map)])


def _store_core(pool: _Pool, core: Layer) -> int:
    arrays = {
        "cores/inputs": np.array([core.inputs], np.int32),
        "cores/degrees": np.diff(core.row_offsets).astype(np.int32),
        "cores/columns": core.columns,
        "cores/weights": core.weights,
        "cores/bias": core.bias,
    }
    return pool.store(arrays, [core.outputs, core.edges])
