"""The dataset file: the inputs and the folded network in one HDF5 file.

    /                attributes: format, schema_version, neurons, images, layers, ymax,
                     provenance (JSON: where the data came from, checksums, program version)
    /features        uint8 (images, ceil(neurons / 8)), bit f % 8 of byte f // 8 is feature f; or
                     float32 (images, neurons). Attribute sha256: of the unpacked rows in order.
    /layers/*        one entry a layer: inputs, outputs, edges; input_map, output_map, core (numbers
                     into the pools below); keeps_saturated (the certificate); sha256
    /class_maps/*    the pool of class maps: values, and offsets by map
    /cores/*         the pool of cores: inputs, row_offsets, columns, weights, bias, and where each
                     core's rows and edges start

A map or a core that many layers share is stored once. A reader takes the slices that it needs, so
the first layers open without reading the rest. Paths, never open handles, go from process to
process.

What comes in is checked when it is written, and again when it is read, so far as kernels rely on it
(checks.py). Whether checksums and tables are those of the arrays is for `Dataset.check`.

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

from spdnn_cli import problem
from spdnn_cli.atomic import NOT_ALLOWED, written_aside
from spdnn_cli.errors import DataError, is_limit_on_threads
from spdnn_cli.network import checks
from spdnn_cli.network.fold import keeps_saturated
from spdnn_cli.network.layers import (
    Bytes,
    Features,
    FoldedLayer,
    Int32,
    Int64,
    Layer,
    Network,
)

FORMAT = "spdnn-dataset"
SCHEMA_VERSION = 2
"""Version 1 had certificates whose margin did not follow the degree."""
HDF5_FORMAT = "v110"
"""The file format, as h5py names it."""
CHUNK_BYTES = 1 << 20
POOL_CHUNK = 1 << 15
"""Entries in a chunk of a pool: small, so that one layer's slice inflates little else."""
BLOCK_ENTRIES = 1 << 18
"""Entries of a pool that are read at a time: the edges of 2000 layers of N = 1024, of 32 of
N = 65536."""
CHECKED_AT_A_TIME = 32
"""Layers that `Dataset.check` reads from one opening of the file."""
BLOCKS_KEPT = 3
"""Blocks of a pool kept in memory, because early layers share their class maps."""

CONVERTED_FROM = ("tsv", "mnist", "synthetic")
"""Sources of the datasets that `spdnn convert` makes."""
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
                hint=f"Run: spdnn convert --neurons {self.neurons} --layers {wanted}"
                if self._can_be_extended(wanted)
                else f"Ask for {self.layers} at most.",
            )
        with _opened(self.path, self.file_id) as file:
            table = file["layers"]
            certificates = table["keeps_saturated"][:wanted].astype(np.bool_)
            edges = table["edges"][:wanted].astype(np.int64)
        layers_of_file = StoredLayers(self.path, self.file_id, wanted)
        return Network(layers_of_file, self.ymax, certificates, edges)

    def _can_be_extended(self, layers: int) -> bool:
        """Whether `spdnn convert` made it, and can add layers up to that many."""
        converted = self.provenance.get("source") in CONVERTED_FROM
        return converted and self.neurons in problem.NEURONS and layers <= problem.LAYERS[-1]

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
            rows = _read_rows(file["features"], images, threads, self.neurons, self.path)
            return Features(rows, self.neurons)

    def layer_checksums(self) -> Bytes:
        """The SHA-256 of each layer (`layer_sha256`), as the file has it: uint8 (layers, 32)."""
        with _opened(self.path, self.file_id) as file:
            return np.asarray(file["layers/sha256"][:])

    def network_sha256(self, layers: int) -> str:
        """A checksum of the first `layers` layers, from their checksums in the file."""
        return hashlib.sha256(self.layer_checksums()[:layers].tobytes()).hexdigest()

    def check(self, layers: int | None = None) -> None:
        """Compute what the file says of its inputs and its first `layers` layers (default: all).

        That is their checksums, certificates, widths and numbers of edges. Inputs are read a chunk
        at a time, layers one by one.

        Raises:
            DataError: something else comes out.
        """
        with _opened(self.path, self.file_id) as file:
            if _sha256_of_rows(file["features"]) != self.features_sha256:
                raise _changed("the inputs are", self.path)
            table = {name: stored[:layers] for name, stored in file["layers"].items()}
        stored_layers = self.network(layers).layers
        for first in range(0, len(stored_layers), CHECKED_AT_A_TIME):
            block = stored_layers[first : first + CHECKED_AT_A_TIME]
            for k, layer in enumerate(block, first):
                checks.check_core(layer.core, f"layer {k + 1}", self.path)
                for name, value in _table_row(layer, self.ymax).items():
                    if not np.array_equal(table[name][k], value):
                        raise _changed(f"layer {k + 1}, {name}: the layer is", self.path)


class StoredLayers(Sequence[FoldedLayer]):
    """The layers of a dataset file, each read when it is asked for."""

    def __init__(self, path: Path, file_id: tuple[int, int], layers: int) -> None:
        self._path, self._file_id, self._layers = path, file_id, layers
        self._maps: dict[int, _ClassMap] = {}
        self._degrees, self._bias = (_ReadAhead(path, f"cores/{t}") for t in ("degrees", "bias"))
        self._columns, self._weights = (
            _ReadAhead(path, f"cores/{table}") for table in ("columns", "weights")
        )
        self._map_values = _ReadAhead(path, "class_maps/values")
        with _opened(path, file_id) as file:
            tables = {
                name: file[name][: layers if name.startswith("layers/") else None]
                for name, dtype in TABLES.items()
                if dtype in ("i4", "i8") and name not in POOLS
            }
            _check_tables(tables, file, path)
        # Lists: their entries are read one by one.
        self._inputs, self._outputs, self._input_map, self._output_map, self._core = (
            tables[f"layers/{name}"].tolist()
            for name in ("inputs", "outputs", "input_map", "output_map", "core")
        )
        self._map_offsets = tables["class_maps/offsets"].tolist()
        self._core_inputs, self._row_starts, self._edge_starts = (
            tables[f"cores/{name}"].tolist() for name in ("inputs", "row_starts", "edge_starts")
        )

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
        where, core = f"layer {k + 1}", self._core[k]
        rows = self._row_starts[core], self._row_starts[core + 1]
        edges = self._edge_starts[core], self._edge_starts[core + 1]
        row_offsets = np.zeros(rows[1] - rows[0] + 1, np.int64)
        np.cumsum(self._degrees.read(file, *rows), out=row_offsets[1:])
        layer = Layer(
            inputs=self._core_inputs[core],
            row_offsets=row_offsets,
            columns=self._columns.read(file, *edges),
            weights=self._weights.read(file, *edges),
            bias=self._bias.read(file, *rows),
        )
        if row_offsets[-1] != layer.edges:
            what = f"{where} has {layer.edges} edges, its rows {row_offsets[-1]}"
            raise _inconsistent(what, self._path)
        checks.check_columns(layer, where, self._path)
        numbers = self._input_map[k], self._output_map[k]
        for number in set(numbers) - self._maps.keys():
            start, end = self._map_offsets[number : number + 2]
            self._maps[number] = _ClassMap.of(
                self._map_values.read(file, start, end), where, self._path
            )
        # Neighbouring layers share their maps; older ones will not be asked for again.
        self._maps = {number: self._maps[number] for number in numbers}
        before, after = (self._maps[number] for number in numbers)
        widths = len(before.values), len(after.values)
        classes = before.classes, after.classes
        if (
            widths != (self._inputs[k], self._outputs[k])
            or classes != (layer.inputs, layer.outputs)
            or after.least < 0
        ):
            raise _inconsistent(f"{where}: its class maps do not fit it", self._path)
        return FoldedLayer(layer, before.values, after.values)


@dataclass(frozen=True, eq=False)
class _ClassMap:
    """A class map that was checked: its values, how many classes it has, and its least value."""

    values: Int32
    classes: int
    least: int

    @classmethod
    def of(cls, values: Int32, where: str, path: Path) -> _ClassMap:
        classes = checks.check_class_map(values, -1, f"{where}: a class map", path)
        return cls(values, classes, int(values.min()))


class _ReadAhead:
    """A pool of a dataset file, read by the block: the next layers will ask for what follows."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
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
            self._check(block, start)
            if len(self._blocks) == BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
        self._blocks[number] = block  # the last one asked for comes last
        return block

    def _check(self, block: Any, start: int) -> None:
        if block.dtype == np.float32:
            checks.check_finite(block, f"{self._name}: entry", self._path, start)
        elif self._name == "cores/degrees" and len(block) and block.min() < 0:
            raise _inconsistent("a row has fewer than no edges", self._path)


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
            raise DataError(
                "is an HDF5 file, but not a dataset of spdnn",
                path=path,
                hint="spdnn_cli.write_dataset makes one from a network of your own: see "
                "docs/datasets.md.",
            )
        _check_version(int(attributes["schema_version"]), path)
        provenance = json.loads(attributes["provenance"])
        if not isinstance(provenance, dict):
            raise _inconsistent("its provenance is no JSON object", path)
        dataset = Dataset(
            path=path,
            neurons=int(attributes["neurons"]),
            images=int(attributes["images"]),
            layers=int(attributes["layers"]),
            ymax=float(attributes["ymax"]),
            provenance=provenance,
            features_sha256=file["features"].attrs["sha256"].decode(),
            file_id=file_id,
        )
        _check_header(dataset, file)
    return dataset


def _check_version(version: int, path: Path) -> None:
    if version != SCHEMA_VERSION:
        hint = "Update spdnn, or delete it and run spdnn convert."
        if version < SCHEMA_VERSION:
            hint = "Delete it and run spdnn convert; write one of your own again."
        raise DataError(
            f"has schema version {version}; this program reads version {SCHEMA_VERSION}",
            path=path,
            hint=hint,
        )


def _check_header(dataset: Dataset, file: h5py.File) -> None:
    """The numbers are such that there can be a run; tables and inputs have the right shapes."""
    path, features = dataset.path, file["features"]
    checks.check_size("neurons", dataset.neurons, path)
    checks.check_size("images", dataset.images, path)
    checks.check_size("layers", dataset.layers, path, checks.MOST_LAYERS)
    checks.check_ymax(dataset.ymax, path)
    shape = dataset.images, checks.row_width(dataset.neurons, features.dtype)
    if features.dtype not in (np.uint8, np.float32) or features.shape != shape:
        what = f"the inputs are {features.dtype} {features.shape}, not uint8 or float32 {shape}"
        raise _inconsistent(what, path)
    if features.chunks is None or features.chunks[1] != shape[1] or features.compression != "gzip":
        raise _inconsistent("the inputs are not stored in compressed rows", path)
    if features.shuffle or features.fletcher32 or features.scaleoffset is not None:
        raise _inconsistent("the inputs went through other filters than gzip", path)
    for name, dtype in TABLES.items():
        if file[name].dtype != np.dtype(dtype):
            raise _inconsistent(f"{name} holds {file[name].dtype}, not {dtype}", path)
        if name.startswith("layers/") and len(file[name]) != dataset.layers:
            what = f"{name} has {len(file[name])} entries for {dataset.layers} layers"
            raise _inconsistent(what, path)


def _inconsistent(what: str, path: Path) -> DataError:
    """The error of a file that HDF5 reads, but that says what cannot be."""
    return DataError(what, path=path, hint="Delete it, and convert or write the dataset again.")


def _changed(what: str, path: Path) -> DataError:
    """The error of a file whose arrays are others than its tables and checksums tell."""
    return _inconsistent(f"{what} not what the file says; it was changed after it was made", path)


def write_dataset(
    path: str | Path,
    features: Features,
    layers: Iterable[tuple[int, FoldedLayer]],
    depth: int,
    ymax: float,
    provenance: dict[str, Any],
    progress: LayerProgress | None = None,
) -> Dataset:
    """Write a dataset file: aside, then renamed.

    Arrays must have the types that `Features`, `Layer` and `FoldedLayer` name: none is converted.

    Args:
        path: the file to write.
        features: the inputs.
        layers: (number from 0, layer) for every number below `depth`, in any order.
        depth: number of layers.
        ymax: where values are clipped.
        provenance: where the data came from; must go into JSON.
        progress: called with the number of layers written so far.

    Raises:
        DataError: an array has another type or shape, or a number that is not finite or out of
            range; layers are missing, neighbours do not fit; or the disk is full.
    """
    path = Path(path)
    checks.check_features(features, path)
    checks.check_ymax(ymax, path)
    with written_aside(path) as part:
        content = io.BytesIO()
        with h5py.File(content, "w", libver=HDF5_FORMAT) as file:
            file.attrs.update(
                format=np.bytes_(FORMAT),
                schema_version=SCHEMA_VERSION,
                neurons=features.neurons,
                images=features.images,
                ymax=float(ymax),
                provenance=_provenance(provenance, path),
            )
            _write_features(file, features, path)
            _make_tables(file)
            _write_layers(file, layers, 0, depth, progress, path)
        part.write_bytes(content.getbuffer())
    return open_dataset(path)


def extend_dataset(
    path: str | Path,
    layers: Iterable[tuple[int, FoldedLayer]],
    depth: int,
    progress: LayerProgress | None = None,
) -> Dataset:
    """Add layers to a dataset file, up to `depth`: to a copy, which then takes the file's place.

    Args and errors are those of `write_dataset`; `layers` gives those that the file has not.
    """
    path = Path(path)
    present = open_dataset(path)
    with _opened(path, present.file_id) as file:
        _read_tables(file)
    with written_aside(path) as part:
        content = io.BytesIO(path.read_bytes())
        with h5py.File(content, "r+", libver=HDF5_FORMAT) as file:
            _write_layers(file, layers, present.layers, depth, progress, path)
        part.write_bytes(content.getbuffer())
    return open_dataset(path)


def layer_sha256(layer: FoldedLayer) -> str:
    """A checksum of everything in a layer. Equal layers have equal checksums."""
    digest = hashlib.sha256()
    for array in _arrays(layer):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _provenance(provenance: dict[str, Any], path: Path) -> np.bytes_:
    try:
        text = json.dumps(dict(provenance))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the provenance does not go into JSON ({error})",
            path=path,
            hint="Give a dictionary of text, numbers and lists.",
        ) from error
    return np.bytes_(text)


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


_DAMAGE = (
    *(OSError, RuntimeError, KeyError, IsalError),
    *(ValueError, TypeError, IndexError, AttributeError),  # entries of other kinds and shapes
)


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
    except _DAMAGE as error:  # type: ignore[misc]
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


def _write_features(file: h5py.File, features: Features, path: Path) -> None:
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
        checks.check_rows(part, first, features.neurons, path)
        block[: len(part)] = part
        stored.id.write_direct_chunk((first, 0), isal_zlib.compress(block.data, 3))


def _read_rows(stored: h5py.Dataset, images: Int64, threads: int, neurons: int, path: Path) -> Any:
    """The rows of `images`. HDF5 reads the chunks one by one; `threads` threads inflate them."""
    chunk, width = stored.chunks
    rows = np.empty((len(images), width), stored.dtype)
    first, last = (int(images[0]), int(images[-1]) + 1) if len(images) else (0, 0)

    def inflate(start: int, packed: bytes) -> None:
        block = np.frombuffer(isal_zlib.decompress(packed), stored.dtype).reshape(chunk, width)
        checks.check_rows(block, start, neurons, path)
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


def _sha256_of_rows(stored: h5py.Dataset) -> str:
    """Of all rows, a chunk at a time; one is inflated while the one before it is hashed."""
    digest, (chunk, width) = hashlib.sha256(), stored.chunks
    row_bytes, images = width * stored.dtype.itemsize, len(stored)
    with ThreadPoolExecutor(1) as pool:
        hashing: Future[None] | None = None
        for start in range(0, images, chunk):
            _, packed = stored.id.read_direct_chunk((start, 0))
            block = memoryview(isal_zlib.decompress(packed))
            if hashing is not None:
                hashing.result()
            hashing = pool.submit(digest.update, block[: min(chunk, images - start) * row_bytes])
    return digest.hexdigest()


# --- layers ------------------------------------------------------------------------------------


TABLES = {
    **{f"layers/{name}": "i4" for name in ("inputs", "outputs", "input_map", "output_map", "core")},
    "layers/edges": "i8",
    "layers/keeps_saturated": "u1",
    "layers/sha256": "u1",
    "class_maps/values": "i4",
    "class_maps/offsets": "i8",
    "cores/inputs": "i4",
    "cores/degrees": "i4",
    "cores/columns": "i4",
    "cores/weights": "f4",
    "cores/bias": "f4",
    "cores/row_starts": "i8",
    "cores/edge_starts": "i8",
}
"""The tables of a file, and what they hold."""
POOLS = ("class_maps/values", "cores/degrees", "cores/columns", "cores/weights", "cores/bias")
"""Tables that hold what layers share; the others say where."""
SHA256_BYTES = 32


def _make_tables(file: h5py.File) -> None:
    for name, dtype in TABLES.items():
        row = (SHA256_BYTES,) if name == "layers/sha256" else ()
        file.create_dataset(
            name,
            (0, *row),
            dtype,
            maxshape=(None, *row),
            chunks=(POOL_CHUNK if name in POOLS else 1024, *row),
            compression="gzip",
            shuffle=True,
        )
    for name in ("class_maps/offsets", "cores/row_starts", "cores/edge_starts"):
        file[name].resize(1, axis=0)


def _read_tables(file: h5py.File) -> None:
    """Read every table once: damage is to show before anything is added."""
    for name in TABLES:
        file[name][:]


def _check_tables(tables: dict[str, Any], file: h5py.File, path: Path) -> None:
    """Every number leads to entries that are there; neighbouring layers fit."""
    lengths = {name: len(file[name]) for name in TABLES}
    offsets, cores = tables["class_maps/offsets"], len(tables["cores/inputs"])
    for starts, pools in (
        (offsets, ("class_maps/values",)),
        (tables["cores/row_starts"], ("cores/degrees", "cores/bias")),
        (tables["cores/edge_starts"], ("cores/columns", "cores/weights")),
    ):
        rise = len(starts) > 0 and starts[0] >= 0 and not np.any(np.diff(starts) < 0)
        if not rise or any(starts[-1] > lengths[pool] for pool in pools):
            raise _inconsistent(f"the offsets of {pools[0]} do not fit it", path)
    if {lengths["cores/row_starts"], lengths["cores/edge_starts"]} != {cores + 1}:
        raise _inconsistent("the tables of cores are of several lengths", path)
    if tables["cores/inputs"].min(initial=0) < 0:
        raise _inconsistent("a core has fewer than no inputs", path)
    for name, count in (
        ("core", cores),
        *((f"{s}put_map", len(offsets) - 1) for s in ("in", "out")),
    ):
        numbers = tables[f"layers/{name}"]
        wrong = np.flatnonzero((numbers < 0) | (numbers >= count))
        if len(wrong):
            k = wrong[0]
            raise _inconsistent(f"layer {k + 1} has the {name} {numbers[k]} of {count}", path)
    neurons = int(file.attrs["neurons"])
    _check_fit(neurons, tables["layers/inputs"], tables["layers/outputs"], path)


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
    progress: LayerProgress | None,
    path: Path,
) -> None:
    """Store layers present..depth-1, in whatever order they come."""
    checks.check_size("layers", depth, path, checks.MOST_LAYERS)
    ymax = float(file.attrs["ymax"])
    out = _Appender(file)
    maps = _Pool(file, out, ["class_maps/offsets"])
    cores = _Pool(file, out, ["cores/row_starts", "cores/edge_starts"])
    table = {name: stored[:] for name, stored in file["layers"].items()}
    for name, values in table.items():
        table[name] = np.resize(values, (depth, *values.shape[1:]))
    table["inputs"][present:] = -1
    for count, (number, layer) in enumerate(layers, start=1):
        if not present <= number < depth:
            raise DataError(
                f"layer {number + 1} was given, layers {present + 1} to {depth} are wanted",
                path=path,
                hint="Layers are numbered from 0.",
            )
        checks.check_layer(layer, number + 1, path)
        row = _table_row(layer, ymax) | {
            "input_map": _store_map(maps, layer.input_class),
            "output_map": _store_map(maps, layer.output_class),
            "core": _store_core(cores, layer.core),
        }
        for name, value in row.items():
            table[name][number] = value
        if progress is not None:
            progress(count)
    out.flush()
    _check_fit(int(file.attrs["neurons"]), table["inputs"], table["outputs"], path)
    for name, values in table.items():
        file["layers"][name].resize(depth, axis=0)
        file["layers"][name][:] = values
    file.attrs["layers"] = depth


def _table_row(layer: FoldedLayer, ymax: float) -> dict[str, Any]:
    """What the tables say of a layer that can be computed from it."""
    return {
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "edges": layer.edges,
        "keeps_saturated": keeps_saturated(layer, ymax),
        "sha256": np.frombuffer(bytes.fromhex(layer_sha256(layer)), np.uint8),
    }


def _check_fit(neurons: int, inputs: Int32, outputs: Int32, path: Path) -> None:
    """Every layer is there, and takes what the one before it gives."""
    missing = np.flatnonzero(inputs < 0) + 1
    if len(missing):
        raise DataError(
            f"layer {missing[0]} is missing ({len(missing)} in all)",
            path=path,
            hint="Give every layer, with its number from 0.",
        )
    given = np.concatenate([[neurons], outputs[:-1]])
    for k in np.flatnonzero(given != inputs):
        raise DataError(
            f"layer {k + 1} takes {inputs[k]} inputs, but is given {given[k]}",
            path=path,
            hint="A layer must take what the one before it gives.",
        )


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
