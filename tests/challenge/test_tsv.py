"""tsv.py: small files worked out by hand, round trips, and every way to mangle a file."""

from __future__ import annotations

import gzip
import io
import re
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.places import official
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spdnn_cli.challenge import tsv
from spdnn_cli.challenge.tsv import LayerEdges
from spdnn_cli.errors import DataError

AGAIN = "Delete it and run `spdnn fetch` again."
SERVES_ONE = "It serves --layers 1 and less; for more, bring the others."
SERVES_NONE = "Bring the missing layers, or use --from mnist or synthetic."
CUT_OFF = (
    "the line has no line end. "
    "The file may be cut off; if it is complete, add a newline at its end."
)
WINDOWS = (
    "the line has a Windows line end. "
    "The file must have Unix line ends: convert it, for example with dos2unix."
)
IMAGE_LINE = "A line is image<TAB>feature<TAB>value."
LEAVE_OUT = "Leave out edges without weight."
LAYER_LINE = "A line is input<TAB>output<TAB>weight."


def fault(function: Callable[[], object]) -> str:
    """The message of the DataError that `function` raises."""
    with pytest.raises(DataError) as caught:
        function()
    return str(caught.value)


# Images: 3 images of 16 features in the tests


def read_images_text(folder: Path, text: bytes) -> np.ndarray:
    path = folder / "images.tsv.gz"
    path.write_bytes(gzip.compress(text))
    return tsv.read_images(path, 16, images=3)


def test_images_by_hand(tmp_path: Path) -> None:
    packed = read_images_text(tmp_path, b"3\t16\t1\n1\t1\t1\n1\t10\t1\n3\t2\t1\n")
    assert packed.dtype == np.uint8
    # feature 1 is bit 0 of byte 0, 10 is bit 1 of byte 1, 16 is bit 7 of byte 1
    assert packed.tolist() == [[0b1, 0b10], [0, 0], [0b10, 0b10000000]]


def test_plain_images_file_and_zeros_in_front(tmp_path: Path) -> None:
    path = tmp_path / "images.tsv"
    path.write_bytes(b"2\t3\t1.0\n02\t00000000000004\t1e0\n")
    assert tsv.read_images(path, 8, images=2).tolist() == [[0], [0b1100]]


def test_long_runs_of_zeros(tmp_path: Path) -> None:
    zeros = b"0" * 5000
    packed = read_images_text(tmp_path, zeros + b"2\t" + zeros + b"3\t" + zeros + b"1\n")
    assert packed.tolist() == [[0, 0], [0b100, 0], [0, 0]]


def test_features_that_do_not_fill_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "images.tsv"
    path.write_bytes(b"1\t9\t1\n")
    assert tsv.read_images(path, 9, images=1).tolist() == [[0, 1]]
    path.write_bytes(b"1\t10\t1\n")
    with pytest.raises(DataError, match="feature '10' is not a whole number from 1 to 9"):
        tsv.read_images(path, 9, images=1)


def test_written_images_are_the_official_text(tmp_path: Path) -> None:
    path = tmp_path / "images.tsv.gz"
    tsv.write_images(path, np.array([[0b1, 0b10], [0, 0], [0b10, 0x80]], np.uint8), 16)
    assert gzip.decompress(path.read_bytes()) == b"1\t1\t1\n1\t10\t1\n3\t2\t1\n3\t16\t1\n"


@settings(max_examples=25, deadline=None)
@given(
    packed=hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 4))).filter(np.any),
    suffix=st.sampled_from([".tsv", ".tsv.gz"]),
    bits=st.sampled_from([8, 100, 1 << 20]),
    block=st.sampled_from([1, 7, 64, 1 << 20]),
)
def test_images_round_trip(
    tmp_path_factory: pytest.TempPathFactory, packed: np.ndarray, suffix: str, bits: int, block: int
) -> None:
    path = tmp_path_factory.mktemp("images") / f"images{suffix}"
    images, neurons = len(packed), packed.shape[1] * 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsv, "_BITS", bits)
        patch.setattr(tsv, "_BLOCK", block)
        tsv.write_images(path, packed, neurons)
        assert np.array_equal(tsv.read_images(path, neurons, images), packed)


def test_progress_ends_at_the_size_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsv, "_BLOCK", 100)
    path = tmp_path / "images.tsv.gz"
    tsv.write_images(path, np.full((50, 2), 255, np.uint8), 16)
    seen: list[int] = []
    tsv.read_images(path, 16, images=50, progress=seen.append)
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert seen[-1] == path.stat().st_size


IMAGE_FAULTS = {
    "missing column": (b"2\t2", f"'2\\t2' has 2 columns, not 3. {IMAGE_LINE}"),
    "spaces for tabs": (b"2 2 1", f"'2 2 1' has 1 column, not 3. {IMAGE_LINE}"),
    "extra column": (b"2\t2\t1\t", f"'2\\t2\\t1\\t' has 4 columns, not 3. {IMAGE_LINE}"),
    "comment": (b"# images", f"'# images' has 1 column, not 3. {IMAGE_LINE}"),
    "text": (b"two\t2\t1", "image 'two' is not a whole number from 1 to 3."),
    "float": (b"2\t2.0\t1", "feature '2.0' is not a whole number from 1 to 16."),
    "zero": (b"0\t2\t1", "image '0' is not a whole number from 1 to 3."),
    "negative": (b"2\t-2\t1", "feature '-2' is not a whole number from 1 to 16."),
    "image too large": (b"4\t2\t1", "image '4' is not a whole number from 1 to 3."),
    "feature too large": (b"2\t17\t1", "feature '17' is not a whole number from 1 to 16."),
    "overflows": (
        b"18446744073709551617\t2\t1",
        "image '18446744073709551617' is not a whole number from 1 to 3.",
    ),
    "thousands of digits": (
        b"9" * 5000 + b"\t2\t1",
        f"image '{'9' * 40}'... is not a whole number from 1 to 3.",
    ),
    "plus": (b"+2\t2\t1", "image '+2' is not a whole number from 1 to 3."),
    "space": (b"2\t 2\t1", "feature ' 2' is not a whole number from 1 to 16."),
    "quotes": (b'"2"\t2\t1', "image '\"2\"' is not a whole number from 1 to 3."),
    "not ASCII": (
        "２\t2\t1".encode(),
        "image '\\xef\\xbc\\x92' is not a whole number from 1 to 3.",
    ),
    "long": (b"x" * 99, f"'{'x' * 40}'... has 1 column, not 3. {IMAGE_LINE}"),
    "value": (b"2\t2\t2", "value '2' is not 1. The inputs are 0 or 1; zeros have no line."),
    "zero value": (b"2\t2\t0", "value '0' is not 1. The inputs are 0 or 1; zeros have no line."),
    "empty value": (b"2\t2\t", "value '' is not 1. The inputs are 0 or 1; zeros have no line."),
    "Windows": (b"2\t2\t1\r", WINDOWS),
    "old Macintosh": (
        b"2\t2\t1\r2\t3\t1",
        f"'2\\t2\\t1\\r2\\t3\\t1' has 5 columns, not 3. {IMAGE_LINE}",
    ),
    "byte order mark": (
        b"\xef\xbb\xbf2\t2\t1",
        "image '\\xef\\xbb\\xbf2' is not a whole number from 1 to 3.",
    ),
    "empty line": (b"", "the line is empty."),
    "twice": (b"1\t1\t1", f"image 1, feature 1 is listed twice. {AGAIN}"),
}


@pytest.mark.parametrize("block", [1 << 20, 8], ids=["one block", "small blocks"])
@pytest.mark.parametrize(("line", "message"), IMAGE_FAULTS.values(), ids=IMAGE_FAULTS)
def test_bad_line_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, message: str, block: int
) -> None:
    monkeypatch.setattr(tsv, "_BLOCK", block)
    text = b"1\t1\t1\n1\t2\t1\n" + line + b"\n3\t3\t1\nanother fault\n"
    if "twice" in message:
        text = text.replace(b"another fault\n", b"")
    found = fault(lambda: read_images_text(tmp_path, text))
    assert found == f"{tmp_path / 'images.tsv.gz'}, line 3: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", f": the file is empty. {AGAIN}"),
        (b"\n", ", line 1: the line is empty."),
        (b"1\t1\t1\n2\t2\t1", f", line 2: {CUT_OFF}"),
        (b"1\t1\t1\n2\t", f", line 2: {CUT_OFF}"),
        (b"1\t1\t1", f", line 1: {CUT_OFF}"),
        (b"1\t1\t1\n" + bytes(1 << 20), f", line 2: {CUT_OFF}"),
    ],
    ids=["empty", "newline", "no newline", "half a line", "one line", "no TSV"],
)
def test_images_cut_off(tmp_path: Path, text: bytes, message: str) -> None:
    found = fault(lambda: read_images_text(tmp_path, text))
    assert found == f"{tmp_path / 'images.tsv.gz'}{message}"


def test_images_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "none.tsv.gz"
    message = f"{path}: no such file. Run `spdnn fetch` first."
    assert fault(lambda: tsv.read_images(path, 16)) == message


def test_images_file_is_a_folder(tmp_path: Path) -> None:
    message = f"{tmp_path}: cannot be read: Is a directory."
    assert fault(lambda: tsv.read_images(tmp_path, 16)) == message


def damaged(data: bytes) -> bytes:
    """A gzip file with one bit of its checksum flipped."""
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


GZIP_FAULTS = {
    "cut off": (lambda data: data[:-20], "the file is cut off"),
    "checksum missing": (lambda data: data[:-8], "the file is cut off"),
    "checksum": (damaged, "the file is damaged, or not a gzip file ("),
    "not gzip": (gzip.decompress, "the file is damaged, or not a gzip file ("),
    "more behind it": (
        lambda data: data + b"more" * 9,
        "the file is damaged, or not a gzip file (",
    ),
}


@pytest.mark.parametrize(("mangle", "message"), GZIP_FAULTS.values(), ids=GZIP_FAULTS)
def test_damaged_gzip_of_images(
    tmp_path: Path, mangle: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "images.tsv.gz"
    tsv.write_images(path, np.full((50, 20), 255, np.uint8), 160)
    path.write_bytes(mangle(path.read_bytes()))
    found = fault(lambda: tsv.read_images(path, 160, images=50))
    assert found.startswith(f"{path}: {message}")
    assert found.endswith(AGAIN)


# Layers: 4 neurons with 2 edges each in the tests

LAYER = b"".join(b"%d\t%d\t6.250000e-02\n" % (i, o) for i in range(1, 5) for o in (i, i % 4 + 1))


def write_archive(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """An archive made with the standard library alone."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return path


def read_all(source: Path, layers: int = 1) -> list[LayerEdges]:
    return list(tsv.read_layers(source, 4, layers, edges_per_neuron=2))


def read_layer_text(folder: Path, text: bytes) -> LayerEdges:
    (layer,) = read_all(write_archive(folder / "neuron4.tar.gz", [("neuron4/n4-l1.tsv", text)]))
    return layer


def test_layer_by_hand(tmp_path: Path) -> None:
    text = LAYER.replace(b"1\t2\t6.250000e-02", b"1\t3\t-1.5")
    layer, inputs, outputs, weights = read_layer_text(tmp_path, text)
    assert layer == 1
    assert inputs.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert outputs.tolist() == [0, 2, 1, 2, 2, 3, 3, 0]
    assert weights.tolist() == [0.0625, -1.5] + [0.0625] * 6
    assert (inputs.dtype, outputs.dtype, weights.dtype) == (np.int32, np.int32, np.float32)


def test_written_archive_has_the_official_members_and_text(tmp_path: Path) -> None:
    path = tmp_path / "neuron4.tar.gz"
    edges = np.array([0, 3], np.int32), np.array([2, 1], np.int32)
    layers = [
        LayerEdges(2, *edges, np.array([0.1, 1 / 3], np.float32)),
        LayerEdges(1, *edges, np.array([-32, 1 / 16], np.float32)),
    ]
    tsv.write_layers(path, 4, layers)
    with tarfile.open(path) as tar:
        names = tar.getnames()
        texts = [tar.extractfile(name).read() for name in names]  # type: ignore[union-attr]
    assert names == ["neuron4/n4-l2.tsv", "neuron4/n4-l1.tsv"]
    assert texts[0] == b"1\t3\t1.000000e-01\n4\t2\t3.33333343e-01\n"
    assert texts[1] == b"1\t3\t-3.200000e+01\n4\t2\t6.250000e-02\n"
    first = path.read_bytes()
    tsv.write_layers(path, 4, layers)
    assert path.read_bytes() == first


def random_layers(draw: st.DrawFn) -> tuple[int, int, list[LayerEdges]]:
    """Neurons, edges of each, and one to three layers in any order."""
    neurons = draw(st.integers(1, 12))
    edges_per_neuron = draw(st.integers(1, neurons))
    edges = neurons * edges_per_neuron
    keys = st.permutations(range(neurons**2)).map(lambda order: np.array(order[:edges]))
    weights = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(bool)
    numbers = draw(st.permutations(range(1, draw(st.integers(1, 3)) + 1)))
    layers = []
    for number in numbers:
        inputs, outputs = np.divmod(draw(keys), neurons)
        values = draw(hnp.arrays(np.float32, edges, elements=weights))
        layers.append(LayerEdges(number, inputs, outputs, values))
    return neurons, edges_per_neuron, layers


@settings(max_examples=40, deadline=None)
@given(network=st.composite(random_layers)())
def test_layers_round_trip(
    tmp_path_factory: pytest.TempPathFactory, network: tuple[int, int, list[LayerEdges]]
) -> None:
    neurons, edges_per_neuron, layers = network
    path = tmp_path_factory.mktemp("layers") / "network.tar.gz"
    tsv.write_layers(path, neurons, layers)
    found = list(tsv.read_layers(path, neurons, len(layers), edges_per_neuron))
    assert [layer.layer for layer in found] == [layer.layer for layer in layers]
    for one, other in zip(found, layers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))


@pytest.fixture
def large_layer() -> LayerEdges:
    """A layer of 2048 neurons; its text is longer than the pieces that Arrow's threads take."""
    inputs = np.repeat(np.arange(2048, dtype=np.int32), 32)
    outputs = (inputs * 5 + np.tile(np.arange(32, dtype=np.int32), 2048)) % 2048
    return LayerEdges(1, inputs, outputs, np.arange(1, len(inputs) + 1, dtype=np.float32))


@pytest.mark.parametrize("block", [1 << 18, 1 << 30], ids=["many blocks", "one block"])
def test_large_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_layer: LayerEdges, block: int
) -> None:
    monkeypatch.setattr(tsv, "_BLOCK", block)
    path = tmp_path / "network.tar.gz"
    tsv.write_layers(path, 2048, [large_layer])
    (found,) = tsv.read_layers(path, 2048, 1)
    assert all(np.array_equal(a, b) for a, b in zip(found, large_layer, strict=True))


@pytest.mark.parametrize("block", [1 << 18, 1 << 30], ids=["many blocks", "one block"])
def test_line_number_of_a_late_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_layer: LayerEdges, block: int
) -> None:
    monkeypatch.setattr(tsv, "_BLOCK", block)
    path = tmp_path / "network.tar.gz"
    large_layer.outputs[65000] = 2048
    tsv.write_layers(path, 2048, [large_layer])
    message = ", line 65001: output '2049' is not a whole number from 1 to 2048."
    assert fault(lambda: list(tsv.read_layers(path, 2048, 1))).endswith(message)


def test_weights_at_the_ends_of_float32(tmp_path: Path) -> None:
    # the float64 numbers next to those that round to infinity and to zero
    text = LAYER.replace(b"1\t1\t6.250000e-02", b"1\t1\t3.4028235677973362e+38")
    text = text.replace(b"2\t2\t6.250000e-02", b"2\t2\t7.0064923216240863e-46")
    weights = read_layer_text(tmp_path, text).weights
    assert weights[0] == np.finfo(np.float32).max
    assert weights[2] == np.finfo(np.float32).smallest_subnormal


@pytest.mark.parametrize(
    "text",
    ["1", "1.", ".5", "-0.1", "1e+3", "1E3", "100000000000000000000", "1.17549435e-38", "1e-45",
     "3.40282347e+38", "0.1000000000000000055511151231257827", "123456789012345e-30",
     "8.5e-0000000001", "0.000000000000000000000000000000625"],
)  # fmt: skip
def test_weight_is_the_nearest_float32(tmp_path: Path, text: str) -> None:
    layer = read_layer_text(tmp_path, LAYER.replace(b"6.250000e-02", text.encode()))
    assert layer.weights.tolist() == [float(np.float32(text))] * 8


LAYER_FAULTS = {
    "missing column": (b"2\t2", f"'2\\t2' has 2 columns, not 3. {LAYER_LINE}"),
    "extra column": (b"2\t2\t1\t1", f"'2\\t2\\t1\\t1' has 4 columns, not 3. {LAYER_LINE}"),
    "comment": (b"% edges", f"'% edges' has 1 column, not 3. {LAYER_LINE}"),
    "text": (b"two\t2\t1", "input 'two' is not a whole number from 1 to 4."),
    "float": (b"2\t2.0\t1", "output '2.0' is not a whole number from 1 to 4."),
    "exponent": (b"2\t1e0\t1", "output '1e0' is not a whole number from 1 to 4."),
    "zero": (b"2\t0\t1", "output '0' is not a whole number from 1 to 4."),
    "negative": (b"-1\t2\t1", "input '-1' is not a whole number from 1 to 4."),
    "input too large": (b"5\t2\t1", "input '5' is not a whole number from 1 to 4."),
    "output too large": (b"2\t5\t1", "output '5' is not a whole number from 1 to 4."),
    "no input": (b"\t2\t1", "input '' is not a whole number from 1 to 4."),
    "minus zero": (b"2\t-0\t1", "output '-0' is not a whole number from 1 to 4."),
    "hexadecimal": (b"0x2\t2\t1", "input '0x2' is not a whole number from 1 to 4."),
    "plus": (b"2\t2\t+1", "weight '+1' is not a number."),
    "space": (b"2\t2\t1 ", "weight '1 ' is not a number."),
    "quotes": (b'2\t2\t"1"', "weight '\"1\"' is not a number."),
    "no weight": (b"2\t2\t", "weight '' is not a number."),
    "point": (b"2\t2\t-.", "weight '-.' is not a number."),
    "no exponent": (b"2\t2\t1e-", "weight '1e-' is not a number."),
    "comma": (b"2\t2\t0,5", "weight '0,5' is not a number."),
    "underscore": (b"2\t2\t1_0", "weight '1_0' is not a number."),
    "NaN": (b"2\t2\tnan", "weight 'nan' is not finite as float32."),
    "infinite": (b"2\t2\t-Inf", "weight '-Inf' is not finite as float32."),
    "too large": (b"2\t2\t1e39", "weight '1e39' is not finite as float32."),
    "zero weight": (b"2\t2\t0.0", f"weight '0.0' is zero as float32. {LEAVE_OUT}"),
    "just too large": (
        b"2\t2\t340282356779733661637539395458142568448",
        "weight '340282356779733661637539395458142568448' is not finite as float32.",
    ),
    "no float64": (b"2\t2\t1e999", "weight '1e999' is not finite as float32."),
    "just too small": (
        b"2\t2\t7.00649232162408535461864791644958e-46",
        f"weight '7.00649232162408535461864791644958e-46' is zero as float32. {LEAVE_OUT}",
    ),
    "too small": (b"2\t2\t1e-60", f"weight '1e-60' is zero as float32. {LEAVE_OUT}"),
    "Windows": (b"2\t2\t1\r", WINDOWS),
    "empty line": (b"", "the line is empty."),
    "twice": (b"1\t2\t1", f"the edge from 1 to 2 is listed twice, first on line 2. {AGAIN}"),
}  # fmt: skip


@pytest.mark.parametrize("source", ["archive", "folder"])
@pytest.mark.parametrize("faults", [1, 2])
@pytest.mark.parametrize(("line", "message"), LAYER_FAULTS.values(), ids=LAYER_FAULTS)
def test_bad_line_of_a_layer(
    tmp_path: Path, line: bytes, message: str, faults: int, source: str
) -> None:
    lines = LAYER.split(b"\n")
    lines[2] = line
    if faults == 2 and "twice" not in message:
        lines[5] = b"another fault"
    text = b"\n".join(lines)
    if source == "archive":
        place = f"{tmp_path / 'neuron4.tar.gz'}: neuron4/n4-l1.tsv"
        found = fault(lambda: read_layer_text(tmp_path, text))
    else:
        place = str(tmp_path / "n4-l1.tsv")
        Path(place).write_bytes(text)
        found = fault(lambda: read_all(tmp_path))
    assert found == f"{place}, line 3: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", f": 0 lines, not 8 (2 for each neuron). {AGAIN}"),
        (LAYER[: LAYER.rindex(b"4\t1")], f": 7 lines, not 8 (2 for each neuron). {AGAIN}"),
        (LAYER + b"1\t3\t1\n", f": 9 lines, not 8 (2 for each neuron). {AGAIN}"),
        (LAYER[:-1], f", line 8: {CUT_OFF}"),
        (LAYER[:-10], f", line 8: {CUT_OFF}"),
        (b"1", f", line 1: {CUT_OFF}"),
    ],
    ids=["empty", "too few", "too many", "no newline", "half a line", "one byte"],
)
def test_wrong_number_of_lines(tmp_path: Path, text: bytes, message: str) -> None:
    found = fault(lambda: read_layer_text(tmp_path, text))
    assert found == f"{tmp_path / 'neuron4.tar.gz'}: neuron4/n4-l1.tsv{message}"


def plain_reading(text: bytes) -> list[tuple[int, int, float]] | None:
    """A layer read as plainly as can be; None if anything is wrong with it."""
    if not text.endswith(b"\n"):
        return None
    rows = []
    for line in text[:-1].split(b"\n"):
        fields = line.decode("latin-1").split("\t")
        if len(fields) != 3 or not all(re.fullmatch("[0-9]+", field) for field in fields[:2]):
            return None
        if not re.fullmatch(r"[0-9.eE+-]+", fields[2]) or fields[2].startswith("+"):
            return None
        try:
            with np.errstate(over="ignore"):
                weight = np.float32(float(fields[2]))
        except ValueError:
            return None
        if not np.isfinite(weight) or weight == 0:
            return None
        rows.append((int(fields[0]) - 1, int(fields[1]) - 1, float(weight)))
    edges = {row[:2] for row in rows}
    in_range = all(0 <= neuron < 4 for edge in edges for neuron in edge)
    return rows if len(edges) == len(rows) == 8 and in_range else None


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(["replace", "insert", "delete"]),
            st.integers(0, len(LAYER) - 1),
            st.sampled_from(list(b'0123456789\t\n\r .-+eE"#xn\x00\xff')),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_mangled_layer_is_read_rightly_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]]
) -> None:
    text = bytearray(LAYER)
    for change, place, byte in changes:
        text[place : place + (change != "insert")] = b"" if change == "delete" else bytes([byte])
    folder = tmp_path_factory.getbasetemp()
    (folder / "n4-l1.tsv").write_bytes(text)
    expected = plain_reading(bytes(text))
    if expected is None:
        with pytest.raises(DataError):
            read_all(folder)
    else:
        (layer,) = read_all(folder)
        columns = layer.inputs.tolist(), layer.outputs.tolist(), layer.weights.tolist()
        assert list(zip(*columns, strict=True)) == expected


# Archives and folders


def numbered(*layers: int) -> list[tuple[str, bytes]]:
    """Members for the given layers; layer k has the weight k."""
    return [
        (f"neuron4/n4-l{layer}.tsv", LAYER.replace(b"6.250000e-02", b"%d" % layer))
        for layer in layers
    ]


def test_archive_in_any_order_without_the_layers_not_wanted(tmp_path: Path) -> None:
    unwanted = ("neuron4/n4-l10.tsv", b"not even read")
    path = write_archive(tmp_path / "neuron4.tar.gz", [*numbered(3, 1), unwanted, *numbered(2)])
    found = read_all(path, layers=3)
    assert [(layer.layer, layer.weights[0]) for layer in found] == [(3, 3), (1, 1), (2, 2)]


def test_archive_with_an_entry_for_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "neuron4"
    folder.mkdir()
    (folder / "n4-l1.tsv").write_bytes(LAYER)
    path = tmp_path / "neuron4.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "neuron4")
    assert [layer.layer for layer in read_all(path)] == [1]


def test_archive_packed_from_inside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "packed" / "neuron4"
    folder.mkdir(parents=True)
    (folder / "n4-l1.tsv").write_bytes(LAYER)
    path = tmp_path / "neuron4.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder.parent, ".")
        assert tar.getnames() == [".", "./neuron4", "./neuron4/n4-l1.tsv"]
    assert [layer.layer for layer in read_all(path)] == [1]


def test_folder_is_read_in_order(tmp_path: Path) -> None:
    for name, text in numbered(*range(12, 0, -1)):
        (tmp_path / Path(name).name).write_bytes(text)
    (tmp_path / "notes.txt").write_text("other files in a folder are none of our business")
    found = read_all(tmp_path, layers=11)
    assert [(layer.layer, layer.weights[0]) for layer in found] == [(k, k) for k in range(1, 12)]


@pytest.mark.parametrize(
    ("layers", "wanted", "message"),
    [
        ((1, 3), 3, f"1 of 3 layers missing: 2. {SERVES_ONE}"),
        ((2,), 8, f"7 of 8 layers missing: 1, 3, 4, 5, 6 and 2 more. {SERVES_NONE}"),
        ((), 1, f"1 of 1 layers missing: 1. {SERVES_NONE}"),
    ],
)
def test_missing_layers(tmp_path: Path, layers: tuple[int, ...], wanted: int, message: str) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(*layers))
    assert fault(lambda: read_all(path, wanted)) == f"{path}: {message}"
    folder = tmp_path / "neuron4"
    folder.mkdir()
    for name, text in numbered(*layers):
        (folder / Path(name).name).write_bytes(text)
    assert fault(lambda: read_all(folder, wanted)) == f"{folder}: {message}"


def test_archive_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "neuron4.tar.gz"
    message = f"{path}: no such file. Run `spdnn fetch` first."
    assert fault(lambda: read_all(path)) == message


@pytest.mark.parametrize("again", [1, 2])
def test_layer_twice(tmp_path: Path, again: int) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(1, 2, again))
    message = f"{path}: neuron4/n4-l{again}.tsv: the layer is there twice. {AGAIN}"
    assert fault(lambda: read_all(path, layers=1)) == message


@pytest.mark.parametrize(
    "name",
    ["/neuron4/n4-l1.tsv", "../neuron4/n4-l1.tsv", ".//neuron4/n4-l1.tsv", "neuron4/../n4-l1.tsv",
     "n4-l1.tsv", "neuron4/._n4-l1.tsv", "neuron8/n8-l1.tsv", "neuron4/n8-l1.tsv",
     "neuron4/n4-l01.tsv", "neuron4/n4-l0.tsv", "neuron4/n4-l1.tsv.bak", "neuron4/n4-l1.tsv\n",
     "README", "."],
)  # fmt: skip
def test_unexpected_member(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", [*numbered(1), (name, LAYER)])
    hint = "The archive for 4 neurons holds neuron4/n4-l1.tsv and its like, nothing else."
    message = f"{path}: unexpected member {name!a}. {hint}"
    assert fault(lambda: read_all(path)) == message


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_member_that_is_no_file(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "neuron4.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("neuron4/n4-l1.tsv")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    message = f"{path}: member neuron4/n4-l1.tsv is not a regular file. {AGAIN}"
    assert fault(lambda: read_all(path)) == message


@pytest.mark.parametrize(("mangle", "message"), GZIP_FAULTS.values(), ids=GZIP_FAULTS)
def test_damaged_gzip_of_an_archive(
    tmp_path: Path, mangle: Callable[[bytes], bytes], message: str
) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(1, 2))
    path.write_bytes(mangle(path.read_bytes()))
    found = fault(lambda: read_all(path, layers=1))
    assert found.startswith(f"{path}: {message}")
    assert found.endswith(AGAIN)


def test_checksum_behind_the_end_of_the_tar(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(1))
    padded = gzip.decompress(path.read_bytes()) + bytes(4 << 20)
    path.write_bytes(gzip.compress(padded))
    assert [layer.layer for layer in read_all(path)] == [1]
    path.write_bytes(damaged(gzip.compress(padded)))
    assert "the file is damaged, or not a gzip file (" in fault(lambda: read_all(path))


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (lambda data: data[:600], "the archive is damaged or cut off (unexpected end of data)"),
        (lambda data: data[:100], "the archive is damaged or cut off (truncated header)"),
        (lambda data: b"", "the archive is damaged or cut off (empty file)"),
        (lambda data: b"x" + data[1:], "the archive is damaged or cut off (bad checksum)"),
    ],
    ids=[
        "in a file",
        "in the first header",
        "empty",
        "no tar",
    ],
)
def test_damaged_tar(tmp_path: Path, mangle: Callable[[bytes], bytes], message: str) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(1, 2))
    path.write_bytes(gzip.compress(mangle(gzip.decompress(path.read_bytes()))))
    assert fault(lambda: read_all(path, layers=2)) == f"{path}: {message}. {AGAIN}"


@pytest.mark.parametrize("kept", [1024, 1100], ids=["between files", "in a later header"])
def test_tar_that_ends_behind_a_layer_holds_so_many(tmp_path: Path, kept: int) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(1, 2))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:kept]))
    assert fault(lambda: read_all(path, layers=2)) == (
        f"{path}: 1 of 2 layers missing: 2. "
        "It serves --layers 1 and less; for more, bring the others."
    )


def test_tar_cut_off_in_a_layer_that_is_not_wanted(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "neuron4.tar.gz", numbered(1, 2))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:1600]))
    message = f"{path}: the archive is damaged or cut off (unexpected end of data). {AGAIN}"
    assert fault(lambda: read_all(path, layers=1)) == message


# Categories


def test_categories_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "categories.tsv"
    path.write_bytes(b"7\n1\n60000\n")
    categories = tsv.read_categories(path)
    assert categories.dtype == np.int32
    assert categories.tolist() == [0, 6, 59999]
    tsv.write_categories(path, categories)
    assert path.read_bytes() == b"1\n7\n60000\n"


def test_no_categories_are_written_as_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "categories.tsv"
    tsv.write_categories(path, np.array([], np.int32))
    assert path.read_bytes() == b""


@settings(max_examples=25, deadline=None)
@given(categories=st.sets(st.integers(0, 99), min_size=1).map(list))
def test_categories_round_trip(
    tmp_path_factory: pytest.TempPathFactory, categories: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "categories.tsv"
    tsv.write_categories(path, np.array(categories))
    assert tsv.read_categories(path, images=100).tolist() == sorted(categories)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", f": the file is empty: it has no category, or it was cut off. {AGAIN}"),
        (b"1\n0\n", ", line 2: image '0' is not a whole number from 1 to 9."),
        (b"1\n10\n", ", line 2: image '10' is not a whole number from 1 to 9."),
        (b"1\n-2\n", ", line 2: image '-2' is not a whole number from 1 to 9."),
        (b"1\ntwo\n", ", line 2: image 'two' is not a whole number from 1 to 9."),
        (b"1\n2\t1\n", ", line 2: image '2\\t1' is not a whole number from 1 to 9."),
        (b"1\n2\r\n", f", line 2: {WINDOWS}"),
        (b"1\n\n2\n", ", line 2: the line is empty."),
        (b"1\n2", f", line 2: {CUT_OFF}"),
        (b"5\n1\n5\n", f", line 3: image 5 is listed twice, first on line 1. {AGAIN}"),
    ],
)
def test_bad_categories(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "categories.tsv"
    path.write_bytes(text)
    assert fault(lambda: tsv.read_categories(path, images=9)) == f"{path}{message}"


def test_categories_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "none.tsv"
    message = f"{path}: no such file. Run `spdnn fetch` first."
    assert fault(lambda: tsv.read_categories(path)) == message


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("data/neuron1024-l120-categories.tsv", (1024, 120)),
        ("neuron65536-l1920-categories.tsv", (65536, 1920)),
        ("neuron1024-categories.tsv", None),
        ("my-neuron1024-l120-categories.tsv", None),
        ("neuron1024-l120-categories.tsv.old", None),
    ],
)
def test_problem_in_the_name_of_categories(name: str, problem: tuple[int, int] | None) -> None:
    assert tsv.categories_problem(name) == problem
    assert tsv.categories_problem(Path(name)) == problem


def test_official_categories(tmp_path: Path) -> None:
    truth = official("neuron1024-l120-categories.tsv")
    categories = tsv.read_categories(truth)
    assert len(categories) == 1812
    copy = tmp_path / "copy.tsv"
    tsv.write_categories(copy, categories)
    assert copy.read_bytes() == truth.read_bytes()


# Writing aside


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    def layers() -> Iterator[LayerEdges]:
        edges = np.array([0], np.int32)
        yield LayerEdges(1, edges, edges, np.ones(1, np.float32))
        raise RuntimeError("the source fails")

    path = tmp_path / "network.tar.gz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the source fails"):
        tsv.write_layers(path, 1, layers())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


WRITES = {
    "images": lambda path: tsv.write_images(path, np.ones((1, 1), np.uint8), 8),
    "layers": lambda path: tsv.write_layers(path, 8, []),
    "categories": lambda path: tsv.write_categories(path, np.array([1])),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_folder_to_write_into_is_made(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "none" / "file.gz"
    write(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there")
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], name: str
) -> None:
    path = tmp_path / name
    monkeypatch.setattr(secrets, "token_hex", lambda size: "word")
    (tmp_path / f"{name}.word.part").symlink_to("/dev/full")
    message = "cannot be written (No space left on device). Is there room on the disk?"
    assert fault(lambda: write(path)) == f"{path}: {message}"
    assert list(tmp_path.iterdir()) == []
