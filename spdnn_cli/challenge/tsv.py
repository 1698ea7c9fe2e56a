"""The challenge's TSV files, read and written: input images, layers and categories.

Source of the formats: the Sparse DNN Graph Challenge (https://graphchallenge.mit.edu/challenges).
A line of the images is `image<TAB>feature<TAB>1`, a line of a layer is
`input<TAB>output<TAB>weight`, a line of the categories is one image. In the files every index
counts from 1; in the arrays here every index counts from 0.

Reading is strict. Arrow reads blocks of usual lines; where anything is unusual, plain Python reads
the block line by line, decides what is good, and says what is wrong. Nothing that is not
understood is skipped.
"""

from __future__ import annotations

import io
import math
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
from isal import igzip, igzip_threaded
from isal.igzip_lib import IsalError
from numpy.typing import NDArray
from pyarrow import csv

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import DataError, FewerLayersError
from spdnn_cli.jit import njit
from spdnn_cli.problem import EDGES_PER_NEURON, IMAGES, layer_member

_BLOCK = 8 << 20
"""Bytes of text that are read, parsed and forgotten at a time."""
_BITS = 4 << 20
"""Input features that are written at a time."""
_LONGEST_LINE = 1 << 20
"""Bytes after which a line counts as one without end."""

_GZIPPED = (".gz", ".tgz")

_NUMBER = re.compile(rb"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_LAYER_NUMBER = re.compile(r"-l([1-9][0-9]{0,8})\.tsv")
_CATEGORIES_NAME = re.compile(r"neuron([1-9][0-9]*)-l([1-9][0-9]*)-categories\.tsv")

_USUAL_BYTES = b"0123456789\t\n.eE+-"
_AS_ZERO, _AS_INFINITE = 2.0**-150, 2.0**128 - 2.0**103
"""Magnitudes that round to zero (it and less) and to infinity (it and more) as float32."""

_FETCH_AGAIN = "Delete it and run `spdnn fetch` again."

_T = TypeVar("_T")


class LayerEdges(NamedTuple):
    """The edges of one layer, in the order of its file."""

    layer: int
    """Number of the layer, counted from 1."""
    inputs: NDArray[np.int32]
    """Shape (edges,): the neuron of the previous layer, from 0 to neurons - 1."""
    outputs: NDArray[np.int32]
    """Shape (edges,): the neuron of this layer, from 0 to neurons - 1."""
    weights: NDArray[np.float32]
    """Shape (edges,): finite and not zero."""


# Reading


def read_images(
    path: str | Path,
    neurons: int,
    images: int = IMAGES,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Read the input images, block by block: the text is never held as a whole.

    Args:
        path: `sparse-images-{N}.tsv.gz`, or the same unpacked (any name that does not end in .gz).
        neurons: features of an image.
        images: number of images; those without a line are empty.
        progress: called after every block with the bytes of the file that have been read so far.

    Returns:
        Array of shape (images, neurons / 8 rounded up), uint8: feature f is bit f % 8 of byte
        f // 8, the lowest bit first.

    Raises:
        DataError: the file is missing, damaged, empty or cut off, an index is out of range, a
            value is not 1, or an entry is listed twice.
    """
    path = Path(path)
    columns = _Columns(("image", "feature", "value"), (images, neurons), weighted=False)
    packed = np.zeros((images, (neurons + 7) // 8), np.uint8)
    lines = 0
    with _reading(path), path.open("rb") as file, _inflated(file, path) as stream:
        for rows, features, _ in _parsed(stream, columns, path):
            repeated = _set_bits(packed, rows, features)
            if repeated >= 0:
                entry = f"image {rows[repeated] + 1}, feature {features[repeated] + 1}"
                what = f"{entry} is listed twice"
                raise DataError(what, hint=_FETCH_AGAIN, path=path, line=lines + repeated + 1)
            lines += len(rows)
            if progress:
                progress(file.tell())
    if not lines:
        raise DataError("the file is empty", hint=_FETCH_AGAIN, path=path)
    return packed


@njit(nogil=True)
def _set_bits(packed, rows, features):  # type: ignore[no-untyped-def]
    """Set one bit an entry; stops at an entry whose bit is set, and returns its place, or -1."""
    for entry in range(len(rows)):
        row, byte = rows[entry], features[entry] >> 3
        bit = np.uint8(1 << (features[entry] & 7))
        if packed[row, byte] & bit:
            return entry
        packed[row, byte] |= bit
    return -1


def read_layers(
    source: str | Path,
    neurons: int,
    layers: int,
    edges_per_neuron: int = EDGES_PER_NEURON,
) -> Iterator[LayerEdges]:
    """Read the layers 1 to `layers` of a network, one at a time, in the order of the source.

    An archive is read once, from beginning to end, and never unpacked to disk. Its end is always
    read, even when every wanted layer was found: gzip's checksum stands there.

    Args:
        source: `neuron{N}.tar.gz`, or a folder that holds its files `n{N}-l{k}.tsv`.
        neurons: neurons of a layer.
        layers: number of layers wanted; the archive may hold more.
        edges_per_neuron: a layer has `neurons * edges_per_neuron` lines.

    Yields:
        The layers, each once. Layers of a folder come in order; those of an archive as they lie.

    Raises:
        DataError: the source is missing, damaged or cut off, holds anything else than layers, a
            layer is missing or there twice, or a layer has a wrong number of lines, an index out
            of range, a weight that is zero or not finite, or an edge twice.
    """
    source = Path(source)
    read = _read_folder if source.is_dir() else _read_archive
    return read(source, neurons, layers, edges_per_neuron)


def read_categories(path: str | Path, images: int = IMAGES) -> NDArray[np.int32]:
    """Read the categories: the images that have a non-zero entry after the last layer.

    Returns:
        Array of shape (categories,), int32: images counted from 0, ascending.

    Raises:
        DataError: the file is missing, empty or cut off, a line is not an image from 1 to
            `images`, or an image is listed twice. A file without any category is refused: a
            download that was cut off looks the same.
    """
    path = Path(path)
    with _reading(path):
        text = path.read_bytes()
    if not text:
        what = "the file is empty: it has no category, or it was cut off"
        raise DataError(what, hint=_FETCH_AGAIN, path=path)
    first_lines: dict[int, int] = {}
    found = _scan(text, lambda content: _index(content, "image", images), path)
    for line, image in enumerate(found, start=1):
        if image in first_lines:
            what = f"image {image + 1} is listed twice, first on line {first_lines[image]}"
            raise DataError(what, hint=_FETCH_AGAIN, path=path, line=line)
        first_lines[image] = line
    return np.array(sorted(first_lines), np.int32)


def categories_problem(path: str | Path) -> tuple[int, int] | None:
    """Neurons and layers that the name of a categories file states.

    Returns:
        (neurons, layers) for a name of the form `neuron{N}-l{L}-categories.tsv`, else None.
    """
    match = _CATEGORIES_NAME.fullmatch(Path(path).name)
    return (int(match[1]), int(match[2])) if match else None


# Writing


def write_images(path: str | Path, packed: NDArray[np.uint8], neurons: int) -> None:
    """Write the input images, sorted by image, then by feature.

    Args:
        path: compressed when the name ends in .gz.
        packed: shape (images, neurons / 8 rounded up), uint8, as `read_images` returns it.
        neurons: features of an image.

    Raises:
        DataError: the file cannot be written. A file that was there before stays as it was.
    """
    path = Path(path)
    at_once = max(1, _BITS // neurons)
    with _writing(path) as stream:
        for start in range(0, len(packed), at_once):
            bits = np.unpackbits(
                packed[start : start + at_once], axis=1, count=neurons, bitorder="little"
            )
            rows, features = np.nonzero(bits.view(np.bool_))
            stream.write(_format(start + rows, features, np.ones(len(rows), np.int8)))


def write_layers(archive: str | Path, neurons: int, layers: Iterable[LayerEdges]) -> None:
    """Write a network as the official archive: a .tar.gz of `neuron{N}/n{N}-l{k}.tsv`.

    Weights are written as `6.250000e-02`, with two more digits where float32 needs them, so that
    reading returns them exactly. The same layers give the same bytes.

    Raises:
        DataError: the file cannot be written. A file that was there before stays as it was.
    """
    with _writing(Path(archive)) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for layer, inputs, outputs, weights in layers:
            text = _format(inputs, outputs, _weight_texts(weights))
            member = tarfile.TarInfo(layer_member(neurons, layer))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))


def write_categories(path: str | Path, categories: NDArray[np.integer]) -> None:
    """Write the categories, given as images counted from 0, one 1-based image a line, ascending.

    Without any category the file is empty.

    Raises:
        DataError: the file cannot be written. A file that was there before stays as it was.
    """
    with written_aside(Path(path)) as part:
        part.write_bytes(b"".join(b"%d\n" % (image + 1) for image in np.sort(categories)))


def _format(first: NDArray[np.integer], second: NDArray[np.integer], third: Any) -> bytes:
    """Lines of three columns: two indices counted from 0, and an array that Arrow can write."""
    table = pa.table([first + 1, second + 1, third], names=["first", "second", "third"])
    options = csv.WriteOptions(
        include_header=False, delimiter="\t", quoting_style="none", batch_size=1 << 14
    )
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, options)
    return sink.getvalue().to_pybytes()


def _weight_texts(weights: NDArray[np.float32]) -> pa.Array:
    """The weights in the official form; only the few distinct ones are formatted."""
    encoded = pa.array(weights).dictionary_encode()
    texts = [_weight_text(weight) for weight in encoded.dictionary.to_numpy()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _weight_text(weight: np.float32) -> str:
    """A float32 in the official form; nine digits always give back the same float32."""
    text = f"{weight:.6e}"
    return text if np.float32(float(text)) == weight else f"{weight:.8e}"


# Lines of three columns


class _Columns(NamedTuple):
    """What the three columns of a file hold: two indices and a value."""

    names: tuple[str, str, str]
    largest: tuple[int, int]
    """The largest index in the first two columns, counted from 1."""
    weighted: bool
    """Whether the value is a weight, finite and not zero as float32; else it is always 1."""

    def good(self, values: Any) -> Any:
        """Whether a value, or which of an array of values, may stand in the file."""
        if not self.weighted:
            return values == 1
        return (abs(values) > _AS_ZERO) & (abs(values) < _AS_INFINITE)


_Arrays = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]
"""The three columns of a block, each of shape (lines,); the indices count from 0."""


def _parsed(stream: IO[bytes], columns: _Columns, path: str | Path) -> Iterator[_Arrays]:
    """The columns of the text, block by block; raises DataError at the first bad line."""
    first_line = 1
    while block := stream.read(_BLOCK):
        text = block + stream.readline(_LONGEST_LINE)
        arrays = _parse_usual(text, columns)
        if arrays is None:
            found = _scan(text, lambda content: _parse_line(content, columns), path, first_line)
            rows = np.fromiter(found, "i4, i4, f8")
            arrays = rows["f0"], rows["f1"], rows["f2"]
        yield arrays
        first_line += len(arrays[0])


def _parse_usual(text: bytes, columns: _Columns) -> _Arrays | None:
    """The columns of a block, read by Arrow; None if anything in it is unusual."""
    # Arrow would take spaces, Windows line ends, hexadecimal digits, a plus in front of a value,
    # and a last line that is cut off. Most files have no plus at all, and one byte is soon sought.
    plus = b"+" in text and b"\t+" in text
    if plus or text.translate(None, _USUAL_BYTES):
        return None
    # Values as float64, so that a weight is rounded to float32 in the same way as by `_scan`.
    types = dict(zip(columns.names, (pa.int32(), pa.int32(), pa.float64()), strict=True))
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(column_names=columns.names),
            csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    first, second, values = (column.to_numpy() for column in table.columns)
    good = (
        len(first) == text.count(b"\n")
        and 1 <= first.min() <= first.max() <= columns.largest[0]
        and 1 <= second.min() <= second.max() <= columns.largest[1]
        and columns.good(values).all()
    )
    return (first - 1, second - 1, values) if good else None


def _scan(
    text: bytes, parse: Callable[[bytes], _T], path: str | Path, first_line: int = 1
) -> Iterator[_T]:
    """The lines of a text, parsed one by one; raises DataError at the first bad line."""
    *lines, rest = text.split(b"\n")
    for line, content in enumerate(lines, start=first_line):
        try:
            _check_line_end(content)
            yield parse(content)
        except DataError as error:
            raise DataError(error.what, hint=error.hint, path=path, line=line) from None
    if rest:
        hint = "The file may be cut off; if it is complete, add a newline at its end."
        line = first_line + len(lines)
        raise DataError("the line has no line end", hint=hint, path=path, line=line)


def _check_line_end(content: bytes) -> None:
    if not content:
        raise DataError("the line is empty")
    if content.endswith(b"\r"):
        hint = "The file must have Unix line ends: convert it, for example with dos2unix."
        raise DataError("the line has a Windows line end", hint=hint)


def _parse_line(content: bytes, columns: _Columns) -> tuple[int, int, float]:
    """The indices, counted from 0, and the value of a line."""
    fields = content.split(b"\t")
    if len(fields) != 3:
        what = f"{_quoted(content)} has {len(fields)} column{'s' * (len(fields) > 1)}, not 3"
        raise DataError(what, hint=f"A line is {'<TAB>'.join(columns.names)}.")
    first = _index(fields[0], columns.names[0], columns.largest[0])
    second = _index(fields[1], columns.names[1], columns.largest[1])
    value = float(fields[2]) if _NUMBER.fullmatch(fields[2]) else math.nan
    if not columns.good(value):
        raise _value_error(fields[2], columns)
    return first, second, value


def _value_error(text: bytes, columns: _Columns) -> DataError:
    """What is wrong with the text of a bad third column."""
    value = f"{columns.names[2]} {_quoted(text)}"
    if not columns.weighted:
        return DataError(f"{value} is not 1", hint="The inputs are 0 or 1; zeros have no line.")
    number = _NUMBER.fullmatch(text)
    if number and abs(float(text)) <= _AS_ZERO:
        return DataError(f"{value} is zero as float32", hint="Leave out edges without weight.")
    if number or _NOT_FINITE.fullmatch(text):
        return DataError(f"{value} is not finite as float32")
    return DataError(f"{value} is not a number")


def _index(text: bytes, name: str, largest: int) -> int:
    """An index counted from 0, out of the text of one that counts from 1."""
    digits = text.lstrip(b"0")
    # Python refuses to read numbers of thousands of digits, hence the limit.
    if not digits.isdigit() or len(digits) > 18 or int(digits) > largest:
        raise DataError(f"{name} {_quoted(text)} is not a whole number from 1 to {largest}")
    return int(digits) - 1


def _quoted(text: bytes) -> str:
    """A text of the file for a message: printable and short."""
    return ascii(text[:40].decode("latin-1")) + ("..." if len(text) > 40 else "")


# Layers


def _read_folder(
    folder: Path, neurons: int, layers: int, edges_per_neuron: int
) -> Iterator[LayerEdges]:
    """The wanted layers of a folder, in order."""
    paths = {
        layer: folder / Path(layer_member(neurons, layer)).name for layer in range(1, layers + 1)
    }
    _check_complete({layer for layer, path in paths.items() if path.exists()}, layers, folder)
    for layer, path in paths.items():
        with _reading(path), path.open("rb") as file:
            edges = _layer(file, layer, path, neurons, edges_per_neuron)
        yield edges


def _read_archive(
    archive: Path, neurons: int, layers: int, edges_per_neuron: int
) -> Iterator[LayerEdges]:
    """The wanted layers of an archive, as they lie."""
    found: set[int] = set()
    with _reading(archive), archive.open("rb") as file, _inflated(file, archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as tar:
            for member in tar:
                layer = _member_layer(member, neurons, archive)
                if layer is None:
                    continue
                path = f"{archive}: {member.name}"
                if layer in found:
                    raise DataError("the layer is there twice", hint=_FETCH_AGAIN, path=path)
                found.add(layer)
                if layer <= layers:
                    text = tar.extractfile(member)
                    assert text is not None, "a regular file has content"
                    yield _layer(text, layer, path, neurons, edges_per_neuron)
        while stream.read(_BLOCK):
            pass
    _check_complete(found, layers, archive)


def _layer(
    stream: IO[bytes], layer: int, path: str | Path, neurons: int, edges_per_neuron: int
) -> LayerEdges:
    """One layer out of its text, checked."""
    columns = _Columns(("input", "output", "weight"), (neurons, neurons), weighted=True)
    blocks = list(_parsed(stream, columns, path))
    lines, expected = sum(len(inputs) for inputs, _, _ in blocks), neurons * edges_per_neuron
    if lines != expected:
        what = f"{lines} lines, not {expected} ({edges_per_neuron} for each neuron)"
        raise DataError(what, hint=_FETCH_AGAIN, path=path)
    inputs, outputs, values = map(np.concatenate, zip(*blocks, strict=True))
    keys = inputs.astype(np.int64) * neurons + outputs
    ordered = np.sort(keys)
    if (ordered[1:] == ordered[:-1]).any():
        raise _repeated_edge(keys, neurons, path)
    return LayerEdges(layer, inputs, outputs, values.astype(np.float32))


def _repeated_edge(keys: NDArray[np.int64], neurons: int, path: str | Path) -> DataError:
    """The error for the first line that repeats an edge; keys are input * neurons + output."""
    firsts = np.unique(keys, return_index=True)[1]
    row = int(np.setdiff1d(np.arange(len(keys)), firsts)[0])
    first_row = int(np.flatnonzero(keys == keys[row])[0])
    edge = f"{keys[row] // neurons + 1} to {keys[row] % neurons + 1}"
    what = f"the edge from {edge} is listed twice, first on line {first_row + 1}"
    return DataError(what, hint=_FETCH_AGAIN, path=path, line=row + 1)


def _member_layer(member: tarfile.TarInfo, neurons: int, archive: Path) -> int | None:
    """The layer that a member of the archive holds; None for the folder of the layers."""
    example = layer_member(neurons, 1)
    name = member.name.removeprefix("./")  # which tar writes when it packs "."
    if member.isdir() and name in (".", example.split("/")[0]):
        return None
    number = _LAYER_NUMBER.search(name)
    layer = int(number[1]) if number else 0
    if not layer or name != layer_member(neurons, layer):
        hint = f"The archive for {neurons} neurons holds {example} and its like, nothing else."
        raise DataError(f"unexpected member {member.name!a}", hint=hint, path=archive)
    if not member.isfile():
        what = f"member {member.name} is not a regular file"
        raise DataError(what, hint=_FETCH_AGAIN, path=archive)
    return layer


def _check_complete(found: set[int], layers: int, source: Path) -> None:
    missing = [str(layer) for layer in range(1, layers + 1) if layer not in found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        what = f"{len(missing)} of {layers} layers missing: {', '.join(missing[:5])}{more}"
        raise FewerLayersError(what, int(missing[0]) - 1, source)


# Files


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading `path` into a DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError("no such file", hint="Run `spdnn fetch` first.", path=path) from error
    except EOFError as error:
        raise DataError("the file is cut off", hint=_FETCH_AGAIN, path=path) from error
    except (zlib.error, IsalError, BadGzipFile) as error:  # type: ignore[misc]
        what = f"the file is damaged, or not a gzip file ({error})"
        raise DataError(what, hint=_FETCH_AGAIN, path=path) from error
    except tarfile.TarError as error:
        what = f"the archive is damaged or cut off ({error})"
        raise DataError(what, hint=_FETCH_AGAIN, path=path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error


def _inflated(file: IO[bytes], path: Path) -> AbstractContextManager[IO[bytes]]:
    """The bytes that `file` stands for; a thread inflates ahead of the reader."""
    if path.suffix not in _GZIPPED:
        return nullcontext(file)
    return cast(IO[bytes], igzip_threaded.open(file, "rb"))  # type: ignore[no-untyped-call]


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """A stream into a file written aside; compressed, without name and time, if it ends in .gz."""
    with written_aside(path) as part, part.open("wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        with igzip.IGzipFile("", "wb", fileobj=file, mtime=0) as stream:  # type: ignore[no-untyped-call]
            yield cast(IO[bytes], stream)
