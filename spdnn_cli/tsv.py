"""The challenge's TSV files, read and written: input images, layers and categories.

Source of the formats: the Sparse DNN Graph Challenge (https://graphchallenge.mit.edu/challenges).
A line of the images is `image<TAB>feature<TAB>1`, a line of a layer is
`input<TAB>output<TAB>weight`, a line of the categories is one image. In the files every index
counts from 1; in the arrays here every index counts from 0.

Reading is strict. A compiled loop reads the lines that look as they should, and marks the others;
plain Python then decides whether a marked line is good, and says what is wrong with it. Nothing
that is not understood is skipped.
"""

from __future__ import annotations

import io
import math
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from gzip import BadGzipFile
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from isal import igzip, igzip_threaded
from isal.igzip_lib import IsalError
from numba import njit
from numpy.typing import NDArray

from spdnn_cli.errors import DataError
from spdnn_cli.problem import EDGES_PER_NEURON, IMAGES, layer_member

_BLOCK = 8 << 20
"""Bytes of text that are read, parsed and forgotten at a time."""
_BITS = 4 << 20
"""Input features that are written at a time."""
_PIECE = 256 << 10
"""Bytes of text worth a thread of their own."""
_LONGEST_LINE = 1 << 20
"""Bytes after which a line counts as one without end."""
_THREADS = min(4, os.cpu_count() or 1)
"""Threads that parse: with four, inflating is the slower part."""

_INDEX = re.compile(rb"[0-9]{1,18}")
_NUMBER = re.compile(rb"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_LAYER_NUMBER = re.compile(r"-l([1-9][0-9]{0,8})\.tsv")
_CATEGORIES_NAME = re.compile(r"neuron([1-9][0-9]*)-l([1-9][0-9]*)-categories\.tsv")

_FETCH_AGAIN = "Delete it and run `spdnn fetch` again."


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
    columns = _Columns("image", "feature", "value", images, neurons)
    packed = np.zeros((images, (neurons + 7) // 8), np.uint8)
    line = 1
    with _reading(path), path.open("rb") as file, _inflated(file, path) as stream:
        for text in _blocks(stream):
            rows, features, _ = _parse(text, columns, path, line)
            repeated = _set_bits(packed, rows, features)
            if repeated >= 0:
                entry = f"image {rows[repeated] + 1}, feature {features[repeated] + 1}"
                what = f"{entry} is listed twice"
                raise DataError(what, hint=_FETCH_AGAIN, path=path, line=line + repeated)
            line += len(rows)
            if progress:
                progress(file.tell())
    if line == 1:
        raise DataError("the file is empty", hint=_FETCH_AGAIN, path=path)
    return packed


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
    texts = _folder_texts if source.is_dir() else _archive_texts
    for layer, path, text in texts(source, neurons, layers):
        yield _layer(text, layer, path, neurons, edges_per_neuron)


def read_categories(path: str | Path, images: int = IMAGES) -> NDArray[np.int32]:
    """Read the categories: the images that have a non-zero entry after the last layer.

    Returns:
        Array of shape (categories,), int32: images counted from 0, ascending.

    Raises:
        DataError: the file is missing, empty or cut off, a line is not an image from 1 to
            `images`, or an image is listed twice.
    """
    path = Path(path)
    with _reading(path):
        text = path.read_bytes()
    if not text:
        raise DataError("the file is empty", hint=_FETCH_AGAIN, path=path)
    first_lines: dict[int, int] = {}
    *lines, rest = text.split(b"\n")
    for line, content in enumerate(lines, start=1):
        with _at(path, line):
            _check_line_end(content)
            image = _index(content, "image", images)
            if image in first_lines:
                what = f"image {image + 1} is listed twice, first on line {first_lines[image]}"
                raise DataError(what, hint=_FETCH_AGAIN)
        first_lines[image] = line
    if rest:
        raise _cut_off(path, len(lines) + 1)
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
    with _written_aside(path) as file, _deflated(file, path) as stream:
        for start in range(0, len(packed), at_once):
            bits = np.unpackbits(
                packed[start : start + at_once], axis=1, count=neurons, bitorder="little"
            )
            rows, features = np.nonzero(bits.view(np.bool_))
            ones = np.zeros(len(rows), np.intp)
            stream.write(_format(start + rows, features, [b"1"], ones))


def write_layers(archive: str | Path, neurons: int, layers: Iterable[LayerEdges]) -> None:
    """Write a network as the official archive: a .tar.gz of `neuron{N}/n{N}-l{k}.tsv`.

    Weights are written as `6.250000e-02`, with two more digits where float32 needs them, so that
    reading returns them exactly. The same layers give the same bytes.

    Raises:
        DataError: the file cannot be written. A file that was there before stays as it was.
    """
    archive = Path(archive)
    with (
        _written_aside(archive) as file,
        _deflated(file, archive) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for layer, inputs, outputs, weights in layers:
            values, codes = np.unique(weights, return_inverse=True)
            text = _format(inputs, outputs, [_weight_text(value) for value in values], codes)
            member = tarfile.TarInfo(layer_member(neurons, layer))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))


def write_categories(path: str | Path, categories: NDArray[np.integer]) -> None:
    """Write the categories, given as images counted from 0, one 1-based image a line, ascending.

    Raises:
        DataError: the file cannot be written. A file that was there before stays as it was.
    """
    with _written_aside(Path(path)) as file:
        file.write(b"".join(b"%d\n" % (image + 1) for image in np.sort(categories)))


# Lines of three columns: what they must look like


class _Columns(NamedTuple):
    """The names of the three columns, and the largest index in the first two (counted from 1)."""

    first: str
    second: str
    third: str
    first_largest: int
    second_largest: int

    def good(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values may stand in the file: 1 for an image; for a weight finite and not 0."""
        if self.third == "value":
            return np.asarray(values == 1)
        weights = _as_float32(values)
        return np.asarray(np.isfinite(weights) & (weights != 0))


def _parse(
    text: bytes, columns: _Columns, path: str | Path, first_line: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The three columns of a text, 0-based; raises DataError at the first bad line."""
    end = text.rfind(b"\n") + 1
    count = min(_THREADS, 1 + end // _PIECE)
    cuts = [0, *(text.find(b"\n", end * k // count, end) + 1 for k in range(1, count)), end]
    view = np.frombuffer(text, np.uint8)
    pieces = [view[start:stop] for start, stop in pairwise(cuts)]
    rows = [0, *accumulate(_count_lines(piece) for piece in pieces)]
    first, second = np.empty(rows[-1], np.int32), np.empty(rows[-1], np.int32)
    third = np.empty(rows[-1], np.float64)

    def parse_piece(piece: NDArray[np.uint8], start: int, stop: int) -> None:
        largest = columns.first_largest, columns.second_largest
        _parse_lines(piece, *largest, first[start:stop], second[start:stop], third[start:stop])

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(parse_piece, pieces, rows[:-1], rows[1:]))
    marked = np.flatnonzero(~columns.good(third))
    lines = text.split(b"\n") if len(marked) else []
    for row in map(int, marked):
        with _at(path, first_line + row):
            first[row], second[row], third[row] = _parse_line(lines[row], columns)
    if end < len(text):
        raise _cut_off(path, first_line + len(first))
    return first, second, third


def _parse_line(content: bytes, columns: _Columns) -> tuple[int, int, float]:
    """One line, checked in full: its two indices, counted from 0, and its value."""
    _check_line_end(content)
    fields = content.split(b"\t")
    if len(fields) != 3:
        what = f"{_quoted(content)} has {len(fields)} column{'s' * (len(fields) > 1)}, not 3"
        hint = f"A line is {columns.first}<TAB>{columns.second}<TAB>{columns.third}."
        raise DataError(what, hint=hint)
    first = _index(fields[0], columns.first, columns.first_largest)
    second = _index(fields[1], columns.second, columns.second_largest)
    value = float(fields[2]) if _NUMBER.fullmatch(fields[2]) else math.nan
    if not columns.good(np.array([value]))[0]:
        raise _value_error(fields[2], columns.third)
    return first, second, value


def _value_error(text: bytes, name: str) -> DataError:
    """What is wrong with the text of a bad third column."""
    number = _NUMBER.fullmatch(text)
    value = f"{name} {_quoted(text)}"
    if name == "value":
        return DataError(f"{value} is not 1", hint="The inputs are 0 or 1; zeros have no line.")
    if number and _as_float32(np.array([float(text)]))[0] == 0:
        return DataError(f"{value} is zero as float32", hint="Leave out edges without weight.")
    if number or _NOT_FINITE.fullmatch(text):
        return DataError(f"{value} is not finite as float32")
    return DataError(f"{value} is not a number")


def _index(text: bytes, name: str, largest: int) -> int:
    """An index counted from 0, out of the text of one that counts from 1."""
    if not _INDEX.fullmatch(text) or not 1 <= int(text) <= largest:
        raise DataError(f"{name} {_quoted(text)} is not a whole number from 1 to {largest}")
    return int(text) - 1


def _check_line_end(content: bytes) -> None:
    if not content:
        raise DataError("the line is empty")
    if content.endswith(b"\r"):
        hint = "The file must have Unix line ends: convert it, for example with dos2unix."
        raise DataError("the line has a Windows line end", hint=hint)


def _cut_off(path: str | Path, line: int) -> DataError:
    hint = "The file may be cut off; if it is complete, add a newline at its end."
    return DataError("the line has no line end", hint=hint, path=path, line=line)


@contextmanager
def _at(path: str | Path, line: int) -> Iterator[None]:
    """Add the place to the errors of one line."""
    try:
        yield
    except DataError as error:
        raise DataError(error.what, hint=error.hint, path=path, line=line) from None


def _quoted(text: bytes) -> str:
    """A text of the file for a message: printable and short."""
    return ascii(text[:40].decode("latin-1")) + ("..." if len(text) > 40 else "")


def _as_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


# Lines of three columns: the compiled loops

_TAB, _NEWLINE, _MINUS, _PLUS, _POINT, _SMALL_E = (np.uint8(ord(c)) for c in "\t\n-+.e")
_POWERS_OF_TEN = 10.0 ** np.arange(23)
"""Exact as float64, and there are no more of them."""
_ONE = np.uintp(1)
"""Positions are unsigned: Numba then spends nothing on negative ones. A plain 1 is signed."""


@njit(nogil=True)
def _count_lines(text):  # type: ignore[no-untyped-def]
    lines = 0
    for byte in text:
        lines += byte == _NEWLINE
    return lines


@njit(nogil=True)
def _parse_lines(text, first_largest, second_largest, first, second, third):  # type: ignore[no-untyped-def]
    """Fill in the columns of whole lines, 0-based; a line that is not plain gets the value NaN.

    The text must end in a newline: that is what every loop here stops at.
    """
    at = np.uintp(0)
    for row in range(len(first)):
        value = np.nan
        index_2 = 0
        at, index_1 = _parse_index(text, at, first_largest)
        if index_1:
            at, index_2 = _parse_index(text, at, second_largest)
        if index_2:
            at, value = _parse_value(text, at)
        first[row], second[row], third[row] = index_1 - 1, index_2 - 1, value
        while text[at] != _NEWLINE:
            at += _ONE
        at += _ONE


@njit(nogil=True)
def _parse_digits(text, at, number):  # type: ignore[no-untyped-def]
    """Where the digits at `at` end, and `number` with them appended.

    More than 18 digits overflow: the callers look at how many there were.
    """
    digit = np.uint8(text[at] - np.uint8(48))
    while digit <= 9:
        number = number * 10 + np.int64(digit)
        at += _ONE
        digit = np.uint8(text[at] - np.uint8(48))
    return at, number


@njit(nogil=True)
def _parse_index(text, at, largest):  # type: ignore[no-untyped-def]
    """Where an index from 1 to `largest` and its tab end, and the index; 0 if it is not plain."""
    end, number = _parse_digits(text, at, np.int64(0))
    if text[end] == _TAB and np.int64(end - at) <= 9 and 1 <= number <= largest:
        return end + _ONE, number
    return end, np.int64(0)


@njit(nogil=True)
def _parse_value(text, at):  # type: ignore[no-untyped-def]
    """Where a number at a line's end stops, and the number; NaN if it is not plain.

    Plain are up to 15 digits and a power of ten up to 22: both are exact as float64, so that their
    product or quotient is the correctly rounded number (W. D. Clinger, How to read floating point
    numbers accurately, 1990).
    """
    negative = text[at] == _MINUS
    if negative:
        at += _ONE
    end, number = _parse_digits(text, at, np.int64(0))
    digits, decimals = np.int64(end - at), np.int64(0)
    if text[end] == _POINT:
        at = end + _ONE
        end, number = _parse_digits(text, at, number)
        decimals = np.int64(end - at)
    plain = 1 <= digits + decimals <= 15
    exponent = -decimals
    if text[end] == _SMALL_E:
        at = end + _ONE
        sign = text[at]
        if sign in (_PLUS, _MINUS):
            at += _ONE
        end, size = _parse_digits(text, at, np.int64(0))
        plain = plain and 1 <= np.int64(end - at) <= 3
        exponent += -size if sign == _MINUS else size
    if not plain or text[end] != _NEWLINE or abs(exponent) > 22:
        return end, np.nan
    value = float(-number if negative else number)
    if exponent < 0:
        return end, value / _POWERS_OF_TEN[-exponent]
    return end, value * _POWERS_OF_TEN[exponent]


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


@njit(nogil=True)
def _format_lines(out, first, second, texts, ends, codes):  # type: ignore[no-untyped-def]
    """Write lines into `out` and return their size; text k is texts[ends[k] : ends[k + 1]]."""
    at = 0
    for row in range(len(first)):
        at = _format_index(out, at, first[row] + 1)
        at = _format_index(out, at, second[row] + 1)
        for k in range(ends[codes[row]], ends[codes[row] + 1]):
            out[at] = texts[k]
            at += 1
        out[at] = _NEWLINE
        at += 1
    return at


@njit(nogil=True)
def _format_index(out, at, number):  # type: ignore[no-untyped-def]
    """Write a positive number and a tab."""
    size, rest = 1, number // 10
    while rest:
        size += 1
        rest //= 10
    for place in range(at + size - 1, at - 1, -1):
        out[place] = 48 + number % 10
        number //= 10
    out[at + size] = _TAB
    return at + size + 1


def _format(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    texts: list[bytes],
    codes: NDArray[np.intp],
) -> bytes:
    """Lines of three columns: two indices counted from 0, and the text that `codes` selects."""
    if not len(first):
        return b""
    longest = len(f"{first.max() + 1}\t{second.max() + 1}\t\n") + max(map(len, texts))
    out = np.empty(len(first) * longest, np.uint8)
    ends = np.cumsum([0, *map(len, texts)])
    size = _format_lines(out, first, second, np.frombuffer(b"".join(texts), np.uint8), ends, codes)
    return out[:size].tobytes()


def _weight_text(weight: np.float32) -> bytes:
    """A float32 in the official form; nine digits always give back the same float32."""
    text = b"%.6e" % weight
    return text if np.float32(float(text)) == weight else b"%.8e" % weight


# Layers


def _layer(text: bytes, layer: int, path: str, neurons: int, edges_per_neuron: int) -> LayerEdges:
    """One layer out of its text, checked."""
    columns = _Columns("input", "output", "weight", neurons, neurons)
    inputs, outputs, values = _parse(text, columns, path, first_line=1)
    expected = neurons * edges_per_neuron
    if len(inputs) != expected:
        what = f"{len(inputs)} lines, not {expected} ({edges_per_neuron} for each neuron)"
        raise DataError(what, hint=_FETCH_AGAIN, path=path)
    keys = inputs.astype(np.int64) * neurons + outputs
    ordered = np.sort(keys)
    if (ordered[1:] == ordered[:-1]).any():
        raise _repeated_edge(keys, neurons, path)
    return LayerEdges(layer, inputs, outputs, _as_float32(values))


def _repeated_edge(keys: NDArray[np.int64], neurons: int, path: str) -> DataError:
    """The error for the first line that repeats an edge; keys are input * neurons + output."""
    firsts = np.unique(keys, return_index=True)[1]
    row = int(np.setdiff1d(np.arange(len(keys)), firsts)[0])
    first_row = int(np.flatnonzero(keys == keys[row])[0])
    edge = f"{keys[row] // neurons + 1} to {keys[row] % neurons + 1}"
    what = f"the edge from {edge} is listed twice, first on line {first_row + 1}"
    return DataError(what, hint=_FETCH_AGAIN, path=path, line=row + 1)


def _folder_texts(folder: Path, neurons: int, layers: int) -> Iterator[tuple[int, str, bytes]]:
    """Number, path and text of the wanted layers of a folder, in order."""
    paths = {
        layer: folder / Path(layer_member(neurons, layer)).name for layer in range(1, layers + 1)
    }
    _check_complete({layer for layer, path in paths.items() if path.exists()}, layers, folder)
    for layer, path in paths.items():
        with _reading(path):
            text = path.read_bytes()
        yield layer, str(path), text


def _archive_texts(archive: Path, neurons: int, layers: int) -> Iterator[tuple[int, str, bytes]]:
    """Number, path and text of the wanted layers of an archive, as they lie."""
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
                    content = tar.extractfile(member)
                    assert content is not None, "a regular file has content"
                    yield layer, path, content.read()
        while stream.read(_BLOCK):
            pass
    _check_complete(found, layers, archive)


def _member_layer(member: tarfile.TarInfo, neurons: int, archive: Path) -> int | None:
    """The layer that a member of the archive holds; None for the folder of the layers."""
    example = layer_member(neurons, 1)
    if member.isdir() and member.name == example.split("/")[0]:
        return None
    number = _LAYER_NUMBER.search(member.name)
    layer = int(number[1]) if number else 0
    if not layer or member.name != layer_member(neurons, layer):
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
        raise DataError(what, hint=_FETCH_AGAIN, path=source)


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
    if path.suffix != ".gz":
        return nullcontext(file)
    return cast(IO[bytes], igzip_threaded.open(file, "rb"))  # type: ignore[no-untyped-call]


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """The text in blocks of whole lines; only the last may lack its line end."""
    while block := stream.read(_BLOCK):
        yield block + stream.readline(_LONGEST_LINE)


@contextmanager
def _written_aside(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets the name `path` only when it has been written whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
        os.replace(aside, path)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise DataError(what, path=path) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _deflated(file: IO[bytes], path: Path) -> AbstractContextManager[IO[bytes]]:
    """A stream into `file`, compressed when the name ends in .gz, without name and time."""
    if path.suffix != ".gz":
        return nullcontext(file)
    return cast(IO[bytes], igzip.IGzipFile("", "wb", fileobj=file, mtime=0))  # type: ignore[no-untyped-call]
