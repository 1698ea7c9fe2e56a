"""What kernels rely on: arrays of the right types and sizes, numbers in range, nothing infinite.

Numba and CUDA check no index, so a row that is too short would be read past its end. Arrays are
checked when a dataset is written, and again when it is read: a file may come from elsewhere.
Nothing is converted: bytes may be bits or values, and a wrong guess would be a wrong answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spdnn_cli.errors import DataError
from spdnn_cli.network.layers import Features, FoldedLayer, Layer

MOST_LAYERS = 2**16 - 1
"""Lifetimes of images are uint16."""
MOST_NUMBERED = 2**31 - 1
"""Neurons and images are numbered in int32."""
_HOW_TO_PACK = (
    'Give 0/1 inputs as np.packbits(array, axis=1, bitorder="little"), others as '
    "array.astype(np.float32)."
)


def check_size(what: str, value: Any, path: Path, most: int = MOST_NUMBERED) -> None:
    """A number of neurons, images or layers: whole, from 1 to `most`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not 1 <= value <= most:
        raise DataError(
            f"the number of {what} is {value!r}", path=path, hint=f"It must be from 1 to {most}."
        )


def check_ymax(ymax: Any, path: Path) -> None:
    """Where values are clipped: a positive number, in float32 too."""
    largest = float(np.finfo(np.float32).max)
    number = isinstance(ymax, (int, float, np.number))
    if not number or not 0 < ymax <= largest or np.float32(ymax) == 0:
        raise DataError(
            f"ymax is {ymax!r}",
            path=path,
            hint="It must be a positive number that float32 holds, such as 32.",
        )


def check_features(features: Features, path: Path) -> None:
    """The shape and type of inputs; `check_rows` is for what they hold."""
    array = features.array
    check_size("neurons", features.neurons, path)
    if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"the inputs are {_type_of(array)}, not float32 (values) or uint8 (packed bits)",
            path=path,
            hint=_HOW_TO_PACK,
        )
    width = row_width(features.neurons, array.dtype)
    if array.ndim != 2 or array.shape[1] != width:
        raise DataError(
            f"the inputs have the shape {array.shape}; {array.dtype} inputs of "
            f"{features.neurons} neurons have (images, {width})",
            path=path,
            hint=_HOW_TO_PACK,
        )
    check_size("images", len(array), path)


def row_width(neurons: int, dtype: np.dtype[Any]) -> int:
    """Entries of an image: packed bits (uint8) or values (float32)."""
    return -(-neurons // 8) if dtype == np.uint8 else neurons


def check_rows(rows: np.ndarray[Any, Any], first: int, neurons: int, path: Path) -> None:
    """Rows of inputs, from image `first` on: values are finite; no bit is beyond the neurons."""
    if rows.dtype == np.uint8:
        beyond = rows[:, -1] >> (neurons % 8) if neurons % 8 else np.zeros(1, np.uint8)
        if beyond.any():
            image = first + int(np.flatnonzero(beyond)[0])
            raise DataError(
                f"image {image + 1} has a bit beyond its {neurons} neurons",
                path=path,
                hint=_HOW_TO_PACK,
            )
    elif not (finite := np.isfinite(rows)).all():
        image, neuron = np.argwhere(~finite)[0]
        raise DataError(
            f"image {first + image + 1}, neuron {neuron + 1}: the input is {rows[image, neuron]}",
            path=path,
            hint="Inputs must be finite.",
        )


def check_layer(layer: FoldedLayer, number: int, path: Path) -> None:
    """Everything that `FoldedLayer` and `Layer` say of their arrays.

    Args:
        layer: the layer.
        number: of the layer, from 1.
        path: the dataset, for the message.
    """
    where = f"layer {number}"
    check_core(layer.core, where, path)
    for name, classes, least, wanted in (
        ("input_class", layer.input_class, -1, layer.core.inputs),
        ("output_class", layer.output_class, 0, layer.core.outputs),
    ):
        found = check_class_map(classes, least, f"{where}: {name}", path)
        check_classes(found, wanted, f"{where}: {name}", path)


def check_class_map(classes: Any, least: int, where: str, path: Path) -> int:
    """A map from neurons to classes: each number from 0 on is there; -1 only if it is `least`.

    Returns:
        The number of classes.
    """
    _check_array(classes, np.int32, where, path)
    if len(classes) == 0:
        raise DataError(f"{where} is of no neurons", path=path, hint=_WRITE_AGAIN)
    low, found = int(classes.min()), int(classes.max()) + 1
    if low < least or found > len(classes):
        wrong = low if low < least else found - 1
        raise DataError(
            f"{where} holds {wrong}, outside {least}..{len(classes) - 1}",
            path=path,
            hint=_WRITE_AGAIN,
        )
    sizes = np.bincount(classes if low >= 0 else classes[classes >= 0], minlength=found)
    if not sizes.all():
        raise DataError(
            f"{where}: class {np.argmin(sizes)} has no neuron", path=path, hint=_WRITE_AGAIN
        )
    return found


def check_classes(found: int, wanted: int, where: str, path: Path) -> None:
    """A map has as many classes as its core has neurons on that side."""
    if found != wanted:
        raise DataError(
            f"{where} has {found} classes, its core {wanted}", path=path, hint=_WRITE_AGAIN
        )


def check_core(core: Layer, where: str, path: Path) -> None:
    """A layer as arrays (CSR): offsets that rise, columns in range and in order, finite numbers."""
    for name, array, dtype in (
        ("row_offsets", core.row_offsets, np.int64),
        ("columns", core.columns, np.int32),
        ("weights", core.weights, np.float32),
        ("bias", core.bias, np.float32),
    ):
        _check_array(array, dtype, f"{where}: {name}", path)
    rows, edges, offsets = len(core.bias), len(core.columns), core.row_offsets
    if rows == 0 or len(offsets) != rows + 1:
        raise DataError(
            f"{where} has {rows} biases and {len(offsets)} row offsets",
            path=path,
            hint="There must be a bias for each output neuron, and one offset more.",
        )
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if offsets[0] != 0 or offsets[-1] != edges or len(falls) or len(core.weights) != edges:
        raise DataError(
            f"{where} has {edges} columns, {len(core.weights)} weights, and row offsets from "
            f"{offsets[0]} to {offsets[-1]}"
            + (f" that fall at row {falls[0] + 1}" if len(falls) else ""),
            path=path,
            hint="Offsets must rise from 0 to the number of edges.",
        )
    check_columns(core, where, path)
    follows = np.diff(core.columns) > 0
    starts = offsets[1:-1]
    follows[starts[(starts > 0) & (starts < edges)] - 1] = True
    if not follows.all():
        edge = int(np.argmin(follows)) + 1
        row = int(np.searchsorted(offsets, edge, side="right"))
        raise DataError(
            f"{where}: column {core.columns[edge]} follows {core.columns[edge - 1]} in row {row}",
            path=path,
            hint="Columns must rise in a row, none twice: Layer.from_edges sorts them.",
        )
    check_finite(core.weights, f"{where}: weight", path)
    check_finite(core.bias, f"{where}: bias", path)


def check_columns(core: Layer, where: str, path: Path) -> None:
    """Columns are neurons that the layer has."""
    # As unsigned numbers negative ones are large.
    if core.edges and core.columns.view(np.uint32).max() >= core.inputs:
        wrong = core.columns[core.columns.view(np.uint32) >= core.inputs][0]
        raise DataError(
            f"{where}: column {wrong} is outside 0..{core.inputs - 1}",
            path=path,
            hint=_WRITE_AGAIN,
        )


def check_finite(values: np.ndarray[Any, Any], what: str, path: Path, first: int = 0) -> None:
    """Numbers of a network, of which the first is number `first`, from 0."""
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.argmin(finite))
        raise DataError(
            f"{what} {first + at + 1} is {values[at]}", path=path, hint="It must be finite."
        )


_WRITE_AGAIN = "Make the layer anew (Layer.from_edges, fold), and write the dataset again."


def _check_array(array: Any, dtype: type, where: str, path: Path) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        raise DataError(
            f"{where} is {_type_of(array)}, not {np.dtype(dtype)} with one dimension",
            path=path,
            hint="Layer.from_edges and fold make arrays of the right types.",
        )


def _type_of(array: Any) -> str:
    if not isinstance(array, np.ndarray):
        return f"a {type(array).__name__}"
    return f"{array.dtype} {array.shape}"
