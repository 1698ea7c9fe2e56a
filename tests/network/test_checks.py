"""What a dataset may hold: refused when it is written, and again when a file says it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.networks import bit_features, float_features, layer_of
from isal import isal_zlib

from spdnn_cli.errors import DataError
from spdnn_cli.network.dataset import (
    Dataset,
    extend_dataset,
    layer_sha256,
    open_dataset,
    write_dataset,
)
from spdnn_cli.network.fold import fold
from spdnn_cli.network.layers import Features, FoldedLayer

NEURONS = 11
BITS = np.random.default_rng(1).random((5, NEURONS)) < 0.5
FIRST = fold(layer_of([[1, 1, 0.5] + [0] * 8, [0, 0, 0.25, 2] + [0] * 7], bias=-0.25))
LAST = fold(layer_of([[1, 0.5], [0, 2], [1, 0.5]]))
PACKED = 'Give 0/1 inputs as np.packbits(array, axis=1, bitorder="little"), others as '
PACKED += "array.astype(np.float32)."
AGAIN = "Delete it, and convert or write the dataset again."


def write(
    path: Path,
    features: Features | None = None,
    layers: tuple[FoldedLayer, ...] = (FIRST, LAST),
    ymax: Any = 32.0,
    depth: Any = None,
    provenance: Any = None,
) -> Dataset:
    return write_dataset(
        path,
        features or bit_features(BITS),
        enumerate(layers),
        len(layers) if depth is None else depth,
        ymax,
        provenance or {},
    )


def assert_refused(path: Path, message: str, **content: Any) -> None:
    with pytest.raises(DataError) as caught:
        write(path, **content)
    assert str(caught.value) == f"{path}: {message}"
    assert not path.exists()


# --- at the door -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (BITS, "the inputs are bool (5, 11), not float32 (values) or uint8 (packed bits)"),
        (BITS.astype("i1"), "the inputs are int8 (5, 11), not float32 (values) or uint8 (packed "),
        (BITS.astype("f8"), "the inputs are float64 (5, 11), not float32 (values) or uint8 (pack"),
        (BITS.astype(">f4"), "the inputs are >f4 (5, 11), not float32 (values) or uint8 (packed "),
        ([[1.0] * NEURONS], "the inputs are a list, not float32 (values) or uint8 (packed bits)"),
        (BITS.astype("u1"), "the inputs have the shape (5, 11); uint8 inputs of 11 neurons have "),
        (
            np.ones((5, 10), "f4"),
            "the inputs have the shape (5, 10); float32 inputs of 11 neurons have (images, 11).",
        ),
        (np.ones((5, 1), "u1"), "the inputs have the shape (5, 1); uint8 inputs of 11 neurons "),
        (np.ones(NEURONS, "f4"), "the inputs have the shape (11,); float32 inputs of 11 neurons"),
        (
            np.packbits(BITS, axis=1) | np.uint8(16),
            "image 1 has a bit beyond its 11 neurons",
        ),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_inputs_of_other_types_and_shapes(tmp_path: Path, array: Any, what: str) -> None:
    path = tmp_path / "data.h5"
    with pytest.raises(DataError) as caught:
        write(path, Features(array, NEURONS))
    assert str(caught.value).startswith(f"{path}: {what}")
    assert str(caught.value).endswith(PACKED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(tmp_path: Path, value: float) -> None:
    array = np.ones((5, NEURONS), np.float32)
    array[3, 7] = value
    message = f"image 4, neuron 8: the input is {value}. Inputs must be finite."
    assert_refused(tmp_path / "data.h5", message, features=Features(array, NEURONS))


@pytest.mark.parametrize("ymax", [np.nan, 0, 0.0, -1.0, np.inf, 1e39, 1e-60, 10**400, "32", None])
def test_ymax_is_a_positive_number(tmp_path: Path, ymax: Any) -> None:
    message = f"ymax is {ymax!r}. It must be a positive number that float32 holds, such as 32."
    assert_refused(tmp_path / "data.h5", message, ymax=ymax)


def test_nothing_of_images_neurons_or_layers(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    most = "It must be from 1 to 2147483647."
    none = Features(np.zeros((0, 2), np.uint8), NEURONS)
    assert_refused(path, f"the number of images is 0. {most}", features=none)
    for neurons in (0, -3, 11.0, None):
        features = Features(np.zeros((5, 2), np.uint8), neurons)  # type: ignore[arg-type]
        message = f"the number of neurons is {neurons!r}. {most}"
        assert_refused(path, message, features=features)
    for depth in (0, -1, 65536, 2.0):
        message = f"the number of layers is {depth!r}. It must be from 1 to 65535."
        assert_refused(path, message, depth=depth)


def test_provenance_goes_into_json(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with pytest.raises(DataError, match="the provenance does not go into JSON"):
        write(path, provenance={"array": np.zeros(2)})


def test_layers_that_are_not_wanted(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    message = "layer 2 was given, layers 1 to 1 are wanted. Layers are numbered from 0."
    assert_refused(path, message, depth=1)
    write(path)
    for number in (-1, 0, 1, 3):
        with pytest.raises(DataError, match=rf"layer {number + 1} was given, layers 3 to 3 are"):
            extend_dataset(path, [(number, LAST)], 3)


def core_with(**changes: Any) -> FoldedLayer:
    """The last layer with other arrays in its core: two rows, of the columns 0, 1 and 1."""
    return replace(LAST, core=replace(LAST.core, **changes))


TYPES = "Layer.from_edges and fold make arrays of the right types."
MADE = "Make the layer anew (Layer.from_edges, fold), and write the dataset again."
RISE = "Offsets must rise from 0 to the number of edges."
SORTED = "Columns must rise in a row, none twice: Layer.from_edges sorts them."


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            core_with(weights=np.ones(3)),
            f"weights is float64 (3,), not float32 with one dimension. {TYPES}",
        ),
        (
            core_with(columns=np.array([0, 1, 1])),
            f"columns is int64 (3,), not int32 with one dimension. {TYPES}",
        ),
        (
            core_with(bias=np.zeros((2, 1), np.float32)),
            f"bias is float32 (2, 1), not float32 with one dimension. {TYPES}",
        ),
        (
            core_with(bias=np.zeros(3, np.float32)),
            "has 3 biases and 3 row offsets. "
            "There must be a bias for each output neuron, and one offset more.",
        ),
        (
            core_with(row_offsets=np.array([0, 2, 4])),
            f"has 3 columns, 3 weights, and row offsets from 0 to 4. {RISE}",
        ),
        (
            core_with(row_offsets=np.array([0, 4, 3])),
            f"has 3 columns, 3 weights, and row offsets from 0 to 3 that fall at row 2. {RISE}",
        ),
        (
            core_with(weights=np.ones(2, np.float32)),
            f"has 3 columns, 2 weights, and row offsets from 0 to 3. {RISE}",
        ),
        (core_with(columns=np.array([0, 2, 1], "i4")), f"column 2 is outside 0..1. {MADE}"),
        (core_with(columns=np.array([0, -1, 1], "i4")), f"column -1 is outside 0..1. {MADE}"),
        (core_with(columns=np.array([1, 1, 1], "i4")), f"column 1 follows 1 in row 1. {SORTED}"),
        (core_with(columns=np.array([1, 0, 1], "i4")), f"column 0 follows 1 in row 1. {SORTED}"),
        (
            core_with(weights=np.array([1, np.nan, 1], "f4")),
            "weight 2 is nan. It must be finite.",
        ),
        (core_with(bias=np.array([0, -np.inf], "f4")), "bias 2 is -inf. It must be finite."),
        (
            replace(LAST, input_class=np.array([0, 2], "i4")),
            f"input_class holds 2, outside -1..1. {MADE}",
        ),
        (
            replace(LAST, output_class=np.array([0, -1, 1], "i4")),
            f"output_class holds -1, outside 0..2. {MADE}",
        ),
        (
            replace(LAST, output_class=np.array([0, 2, 2], "i4")),
            f"output_class: class 1 has no neuron. {MADE}",
        ),
        (
            replace(LAST, output_class=np.array([0, 0, 0], "i4")),
            f"output_class has 1 classes, its core 2. {MADE}",
        ),
        (replace(LAST, output_class=np.zeros(0, "i4")), f"output_class is of no neurons. {MADE}"),
    ],
)
def test_layers_whose_arrays_are_wrong(tmp_path: Path, layer: FoldedLayer, message: str) -> None:
    path = tmp_path / "data.h5"
    with pytest.raises(DataError) as caught:
        write(path, layers=(FIRST, layer))
    assert re.sub("^layer 2:? ", "", caught.value.args[0].removeprefix(f"{path}: ")) == message
    assert list(tmp_path.iterdir()) == []
    write(path)
    before = path.read_bytes()
    with pytest.raises(DataError):
        extend_dataset(path, [(2, layer)], 3)
    assert path.read_bytes() == before


def test_rows_without_edges_are_in_order(tmp_path: Path) -> None:
    """Columns start again in each row, wherever the empty ones are."""
    rows = [[0, 0], [1, 2], [0, 0], [3, 0], [0, 0]]
    layers = (FIRST, fold(layer_of(rows, bias=np.arange(5.0))), fold(layer_of(np.zeros((2, 5)))))
    write(tmp_path / "data.h5", layers=layers).check()


# --- files from elsewhere ----------------------------------------------------------------------


def test_a_dataset_as_it_was_written_is_sound(tmp_path: Path) -> None:
    for number, features in enumerate((bit_features(BITS), float_features(BITS * 2.5))):
        write(tmp_path / f"{number}.h5", features).check()


def read_all(path: Path) -> None:
    dataset = open_dataset(path)
    dataset.features()
    list(dataset.network().layers)


def change(name: str, at: int, value: float) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        file[name][at] = value

    return apply


def header(name: str, value: Any) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        file.attrs[name] = value

    return apply


def stored_as(name: str, array: Any, **how: Any) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=array, **how).attrs.update(attributes)

    return apply


FLOATS = np.ones((5, NEURONS), np.float32)
GZIP = {"compression": "gzip", "chunks": (2, NEURONS)}


@pytest.mark.parametrize(
    ("apply", "what"),
    [
        (header("neurons", 12), "layer 1 takes 11 inputs, but is given 12"),
        (header("neurons", 0), "the number of neurons is 0"),
        (header("neurons", 64), "the inputs are uint8 (5, 2), not uint8 or float32 (5, 8)"),
        (header("images", 6), "the inputs are uint8 (5, 2), not uint8 or float32 (6, 2)"),
        (header("layers", 3), "layers/inputs has 2 entries for 3 layers"),
        (header("layers", 0), "the number of layers is 0"),
        (header("ymax", -1.0), "ymax is -1.0"),
        (header("ymax", np.nan), "ymax is nan"),
        (header("provenance", np.bytes_("[]")), "its provenance is no JSON object"),
        (header("provenance", np.bytes_("{")), "is damaged or cut off (Expecting property name"),
        (header("ymax", np.zeros(2)), "is damaged or cut off ("),
        (stored_as("features", BITS, **GZIP), "the inputs are bool (5, 11), not uint8 or float32"),
        (stored_as("features", FLOATS), "the inputs are not stored in compressed rows"),
        (
            stored_as("features", FLOATS, shuffle=True, **GZIP),
            "the inputs went through other filters than gzip",
        ),
        (
            stored_as("features", FLOATS + np.nan, **GZIP),
            "image 1, neuron 1: the input is nan",
        ),
        (stored_as("cores/weights", np.ones(9)), "cores/weights holds float64, not f4"),
        (change("cores/weights", 2, np.nan), "cores/weights: entry 3 is nan"),
        (change("cores/bias", 1, np.inf), "cores/bias: entry 2 is inf"),
        (change("cores/columns", 0, 7), "layer 1: column 7 is outside 0..2"),
        (change("cores/columns", 0, -1), "layer 1: column -1 is outside 0..2"),
        (change("cores/degrees", 0, -2), "a row has fewer than no edges"),
        (change("cores/degrees", 0, 1), "layer 1 has "),
        (change("cores/inputs", 0, -2), "a core has fewer than no inputs"),
        (change("cores/row_starts", 1, 99), "the offsets of cores/degrees do not fit it"),
        (change("cores/edge_starts", 2, 99), "the offsets of cores/columns do not fit it"),
        (change("class_maps/offsets", 1, -1), "the offsets of class_maps/values do not fit it"),
        (change("class_maps/values", 0, 11), "layer 1: a class map holds 11, outside -1..10"),
        (change("layers/core", 1, 2), "layer 2 has the core 2 of 2"),
        (change("layers/input_map", 0, -1), "layer 1 has the input_map -1 of "),
        (change("layers/outputs", 0, 3), "layer 2 takes 2 inputs, but is given 3"),
        (change("layers/outputs", 1, 4), "layer 2: its class maps do not fit it"),
        (change("layers/core", 1, 0), "layer 2: its class maps do not fit it"),
    ],
)
def test_files_that_say_what_cannot_be(
    tmp_path: Path, apply: Callable[[h5py.File], None], what: str
) -> None:
    path = write(tmp_path / "data.h5").path
    with h5py.File(path, "r+") as file:
        apply(file)
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert str(caught.value).startswith(f"{path}: {what}")
    assert caught.value.hint


def test_chunks_of_another_size(tmp_path: Path) -> None:
    path = write(tmp_path / "data.h5").path
    with h5py.File(path, "r+") as file:
        file["features"].id.write_direct_chunk((0, 0), isal_zlib.compress(b"short"))
    with pytest.raises(DataError, match=r"is damaged or cut off \("):
        open_dataset(path).features()


# --- what the file says of its arrays ----------------------------------------------------------


@pytest.mark.parametrize("floats", [True, False])
def test_inputs_changed_below_their_checksum(tmp_path: Path, floats: bool) -> None:
    features = float_features(BITS) if floats else bit_features(BITS)
    dataset = write(tmp_path / "data.h5", features)
    dataset.check()
    with h5py.File(dataset.path, "r+") as file:
        array = features.array.copy()
        array[4, 0] += 1
        stored = file["features"]
        stored.id.write_direct_chunk((0, 0), isal_zlib.compress(array.tobytes()))
    changed = open_dataset(dataset.path)
    np.testing.assert_array_equal(changed.features().array, array)  # nothing else would tell
    with pytest.raises(DataError) as caught:
        changed.check()
    assert str(caught.value) == (
        f"{dataset.path}: the inputs are not what the file says; it was changed after it was made. "
        + AGAIN
    )


@pytest.mark.parametrize(
    ("name", "at", "value", "layer", "what"),
    [
        ("cores/weights", 0, 5.0, 1, "sha256"),
        ("cores/bias", -1, 5.0, 2, "sha256"),
        ("layers/keeps_saturated", 0, 0, 1, "keeps_saturated"),
        ("layers/edges", 1, 6, 2, "edges"),
    ],
)
def test_layers_changed_below_their_tables(
    tmp_path: Path, name: str, at: int, value: float, layer: int, what: str
) -> None:
    path = write(tmp_path / "data.h5").path
    with h5py.File(path, "r+") as file:
        file[name][at if at >= 0 else len(file[name]) + at] = value
    read_all(path)
    dataset = open_dataset(path)
    with pytest.raises(DataError) as caught:
        dataset.check()
    assert str(caught.value) == (
        f"{path}: layer {layer}, {what}: the layer is not what the file says; it was changed after "
        f"it was made. {AGAIN}"
    )
    if layer == 2:
        dataset.check(1)  # what is not run is not looked at


def test_checksums_are_of_the_arrays(tmp_path: Path) -> None:
    stored = write(tmp_path / "data.h5").layer_checksums()
    assert [row.tobytes().hex() for row in stored] == [layer_sha256(FIRST), layer_sha256(LAST)]
