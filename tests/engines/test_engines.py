"""Every CPU engine against plain arithmetic and the reference; finished images; the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import pytest
from helpers.networks import (
    YMAX,
    bit_features,
    float_features,
    layer_of,
    network_of,
    plain_run,
    problems,
    random_matrix,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from spdnn_cli import cli
from spdnn_cli.challenge import convert
from spdnn_cli.challenge.digits import synthetic_features
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines import registry
from spdnn_cli.engines.choice import choose
from spdnn_cli.engines.protocol import EngineOptions, Inference
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.errors import EngineError
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, FoldedLayer, Layer, Network
from spdnn_cli.timing import Stopwatch

CPU_ENGINES = [name for name, entry in ENGINES.items() if entry.device == "cpu"]
LAYERED = ["reference", "cpu-layered"]
"""Engines that fold nothing and retire dead images only: their work is known exactly."""

Problem = tuple[list[Layer], Features]


def run(name: str, network: Network, features: Features, **options: Any) -> Inference:
    engine = create(name, EngineOptions(**options))
    engine.prepare(network)
    engine.upload(features)
    return engine.infer()


def every_layer(inference: Inference, depth: int) -> list[int]:
    """Images alive after each layer; after the layers that did not run as many as at the end."""
    alive = list(inference.alive)
    return alive + [len(inference.categories)] * (depth - len(alive))


# --- the answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CPU_ENGINES)
@given(problem=problems(exact=True), threads=st.integers(1, 3), retire=st.booleans())
def test_exact_networks(name: str, problem: Problem, threads: int, retire: bool) -> None:
    """Where no sum is rounded, categories and living images are right to the last one."""
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    inference = run(name, network_of(layers), features, threads=threads, retire=retire)
    assert inference.categories.dtype == np.int32
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert every_layer(inference, len(layers)) == [np.count_nonzero(lives) for lives in alive]


@pytest.mark.parametrize("name", CPU_ENGINES)
@settings(derandomize=True)  # an image may by chance end within a rounding error of zero
@given(problem=problems(exact=False), threads=st.integers(1, 3), retire=st.booleans())
def test_real_weights(name: str, problem: Problem, threads: int, retire: bool) -> None:
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    inference = run(name, network_of(layers), features, threads=threads, retire=retire)
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()


@pytest.mark.parametrize("name", LAYERED)
@given(problem=problems(exact=True), threads=st.integers(1, 3))
def test_layered_engines_run_every_edge_of_every_live_image(
    name: str, problem: Problem, threads: int
) -> None:
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    entering = [features.images, *(np.count_nonzero(lives) for lives in alive[:-1])]
    inference = run(name, network_of(layers), features, threads=threads)
    edges = [layer.edges for layer in layers]
    assert inference.executed_edges == sum(np.multiply(entering, edges))
    assert len(inference.alive) == sum(images > 0 for images in entering)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_network_by_hand(name: str) -> None:
    """Two layers, five images, a bias that wakes no zero and a clip."""
    layers = [
        layer_of([[2, -1, 0], [0, 0, 20]], bias=np.array([-0.5, -1.0])),
        layer_of([[1, 0], [0, 2], [-1, 1]], bias=np.array([0.0, -63.5, 5.0])),
    ]
    features = float_features(
        [
            [0, 0, 0],  # nothing at all
            [0.25, 0, 0],  # 2 / 4 - 0.5 is zero: dead after layer 1
            [1, 0, 0],  # 1.5, 0; then 1.5, 0, 3.5
            [1, 2, 1],  # the first sum is zero, so is its neuron; 19; then 0, 0, 24
            [0, 0, 2],  # 39 clips to 32; then 0, 0.5, 32
        ]
    )
    inference = run(name, network_of(layers), features)
    assert inference.categories.tolist() == [2, 3, 4]
    assert inference.alive == (3, 3)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_bias_does_not_wake_what_is_zero(name: str) -> None:
    layers = [layer_of([[1, -1], [0, 0]], bias=7.0)]
    inference = run(name, network_of(layers), float_features([[1, 1], [0, 0], [1, 0]]))
    assert inference.categories.tolist() == [2]


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_layers_after_the_death_of_all_images_do_not_run(name: str) -> None:
    network = network_of([layer_of([[1.0]]), layer_of([[-1.0]]), layer_of([[1.0]])])
    inference = run(name, network, float_features([[1], [2]]))
    assert inference.categories.tolist() == []
    assert inference.alive == (2, 0)
    assert inference.executed_edges == 4


def test_executed_edges_of_the_folded_engine_by_hand() -> None:
    """Four twins feed four twins: 4 adds and 1 multiply-add; then 1 term for 16 edges."""
    network = network_of([layer_of(np.full((4, 4), 0.5), -0.5), layer_of(np.full((4, 4), 0.5))])
    features = float_features([[1, 1, 1, 1], [0, 0, 0, 1]])
    inference = run("cpu", network, features)
    assert inference.alive == (1, 1)
    assert inference.executed_edges == 2 * min(4 + 1, 4) + 1 * 1
    assert run("cpu-layered", network, features).executed_edges == 2 * 16 + 1 * 16


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_an_engine_runs_again_and_takes_other_inputs(name: str) -> None:
    random = np.random.default_rng(7)
    layers = [layer_of(random_matrix(random, 20, 20, 0.3, np.array([-1, 1])), -1.0)] * 3
    engine = create(name, EngineOptions(threads=2))
    engine.prepare(network_of(layers))
    for images in (40, 7, 90):
        bits = random.random((images, 20)) < 0.2
        engine.upload(bit_features(bits))
        wanted = np.flatnonzero(plain_run(layers, bits)[-1]).tolist()
        assert 0 < len(wanted) < images
        for _ in range(2):
            assert engine.infer().categories.tolist() == wanted


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_more_images_than_are_taken_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spdnn_cli.engines.reference.BYTES_AT_A_TIME", 8 * 30 * 50)
    monkeypatch.setattr("spdnn_cli.engines.cpu.layered.STATE_BYTES", 2 * 4 * 16 * 30 * 3)
    monkeypatch.setattr("spdnn_cli.engines.cpu.layered.KEPT_SHARE", 0)
    random = np.random.default_rng(4)
    layers = [
        layer_of(random_matrix(random, 30, 30, 0.2, np.array([-1, 1])), -1.0) for _ in range(4)
    ]
    bits = random.random((1001, 30)) < 0.3
    alive = plain_run(layers, bits)
    assert 100 < np.count_nonzero(alive[-1]) < 900
    inference = run(name, network_of(layers), bit_features(bits), threads=2)
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert every_layer(inference, 4) == [np.count_nonzero(lives) for lives in alive]


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_the_stopwatch_and_the_progress_are_told(name: str) -> None:
    stopwatch, told = Stopwatch(), []
    engine = create(
        name, EngineOptions(stopwatch=stopwatch, progress=lambda *what: told.append(what))
    )
    engine.prepare(network_of([layer_of([[1.0]]), layer_of([[1.0]])]))
    engine.upload(float_features([[1], [0], [2]]))
    with stopwatch.stage("infer"):
        engine.infer()
    assert told[-1] == (2, 2)
    assert stopwatch.seconds["infer"] > 0
    assert stopwatch.seconds["prepare"] > 0


# --- finished images ---------------------------------------------------------------------------


DOUBLE = [[2.0, 0.0], [0.0, 2.0]]


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize("retire", [True, False])
@pytest.mark.parametrize(
    ("killer", "bias"),
    [
        ([[-1.0, 0.0], [0.0, -1.0]], 0.0),
        ([[1.0, -1.0], [-1.0, 1.0]], 40.0),  # all sums zero: the bias saves nobody
        ([[0.0, 0.0], [0.0, 0.0]], 40.0),
        ([[0.5, 0.0], [0.5, 0.0]], -16.0),
    ],
)
def test_saturated_images_that_a_later_layer_kills(
    name: str, retire: bool, killer: list[list[float]], bias: float
) -> None:
    layers = [layer_of(DOUBLE)] * 7 + [layer_of(killer, bias), layer_of(DOUBLE)]
    features = float_features([[1, 1], [2, 3], [0, 0]])
    inference = run(name, network_of(layers), features, retire=retire)
    assert inference.categories.tolist() == []
    assert every_layer(inference, 9) == [2] * 7 + [0, 0]


def test_finished_images_leave_the_run() -> None:
    """Ten layers of 2 terms; 1 doubles five times to saturate, 16 once; 0 dies at once."""
    network = network_of([layer_of(DOUBLE)] * 10)
    features = float_features([[1, 1], [16, 16], [0, 0], [16, 1]])
    retiring = run("cpu", network, features)
    assert retiring.alive == (3, 3, 3, 3, 3)
    assert retiring.executed_edges == 2 * (5 + 1 + 1 + 5)
    staying = run("cpu", network, features, retire=False)
    assert staying.alive == (3,) * 10
    assert staying.executed_edges == 2 * (10 + 10 + 1 + 10)
    assert retiring.categories.tolist() == staying.categories.tolist() == [0, 1, 3]


def test_shortcuts_say_what_is_skipped() -> None:
    def shortcuts(name: str, retire: bool) -> tuple[bool, bool, bool]:
        taken = create(name, EngineOptions(retire=retire)).shortcuts
        return taken.dead_images_dropped, taken.twins_folded, taken.finished_images_retired

    for retire in (True, False):
        assert shortcuts("reference", retire) == (True, False, False)
        assert shortcuts("cpu-layered", retire) == (True, False, False)
        assert shortcuts("cpu", retire) == (True, True, retire)


class RecordedLayers(Sequence[FoldedLayer]):
    """Layers that remember which of them were read."""

    def __init__(self, layers: Sequence[FoldedLayer]) -> None:
        self._layers, self.read = layers, set[int]()

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, index: int) -> FoldedLayer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FoldedLayer]: ...
    def __getitem__(self, index: int | slice) -> FoldedLayer | Sequence[FoldedLayer]:
        wanted = range(len(self))[index]
        self.read |= {wanted} if isinstance(wanted, int) else set(wanted)
        return self._layers[index]


def recorded(layers: list[Layer]) -> tuple[Network, RecordedLayers]:
    network = network_of(layers)
    record = RecordedLayers(network.layers)
    tables = network.keeps_saturated, network.edges_by_layer
    return Network(record, network.ymax, *tables), record


@pytest.mark.parametrize(
    ("growth", "runs", "read"),
    [
        (2.0, 5, 32),  # saturated after 5 layers
        (1.1, 37, 64),  # 1.1 to the 37th is 34
        (1.05, 72, 128),
        (1.0, 200, 200),  # stays 1
    ],
)
def test_layers_are_read_as_far_as_images_run(growth: float, runs: int, read: int) -> None:
    network, record = recorded([layer_of([[growth]])] * 200)
    features = float_features([[1], [0]])
    inference = run("cpu", network, features)
    assert record.read == set(range(read))
    assert len(inference.alive) == runs
    assert inference.categories.tolist() == [0]


def test_all_layers_are_read_where_nothing_retires() -> None:
    network, record = recorded([layer_of([[2.0]])] * 100)
    inference = run("cpu", network, float_features([[1]]), retire=False)
    assert record.read == set(range(100))
    assert len(inference.alive) == 100


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_late_layers_may_be_wider_than_early_ones(name: str) -> None:
    random = np.random.default_rng(6)
    narrow = [layer_of(np.eye(5))] * 40
    wide = [
        layer_of(random_matrix(random, outputs, inputs, 0.4, np.array([-1, 1])), -1.0)
        for inputs, outputs in ((5, 2000), (2000, 50), (50, 40))
    ]
    bits = random.random((50, 5)) < 0.4
    alive = plain_run(narrow + wide, bits)
    assert 0 < np.count_nonzero(alive[-1]) < np.count_nonzero(alive[0]) < 50
    inference = run(name, network_of(narrow + wide), bit_features(bits), threads=2)
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert every_layer(inference, 43) == [np.count_nonzero(lives) for lives in alive]


# --- the official network ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def official() -> Network:
    return make_network(list(official_layers(1024, 0, 40)), 32.0)


@pytest.fixture(scope="module")
def digits() -> Features:
    return Features(synthetic_features(1024, 300, 1), 1024)


def first_layers(network: Network, depth: int) -> Network:
    return make_network(list(network.layers[:depth]), network.ymax)


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize("as_floats", [False, True])
def test_official_layers_and_synthetic_digits(
    name: str, as_floats: bool, official: Network, digits: Features
) -> None:
    """Twelve layers, two blocks: stored from the reference. Floats take other paths than bits."""
    features = Features(digits.values(0, 300), 1024) if as_floats else digits
    categories = run(name, first_layers(official, 12), features, threads=2).categories
    assert categories.tolist() == [35, 37, 56, 97, 118, 126, 146, 215, 293]


@pytest.mark.parametrize("depth", [1, 2, 5, 6, 7, 40])
def test_every_depth_of_the_official_network(
    depth: int, official: Network, digits: Features
) -> None:
    network = first_layers(official, depth)
    wanted = run("reference", network, digits).categories
    assert 0 < len(wanted) < 300
    for retire in (True, False):
        for threads in (1, 3):
            found = run("cpu", network, digits, threads=threads, retire=retire)
            np.testing.assert_array_equal(found.categories, wanted)
    np.testing.assert_array_equal(run("cpu-layered", network, digits).categories, wanted)


def test_the_official_network_retires_all_images(official: Network, digits: Features) -> None:
    """Survivors saturate within 30 layers, and from there nothing runs."""
    retiring, staying = (run("cpu", official, digits, retire=retire) for retire in (True, False))
    assert len(retiring.alive) < 30
    assert len(staying.alive) == 40
    assert retiring.executed_edges < staying.executed_edges
    np.testing.assert_array_equal(retiring.categories, staying.categories)


# --- shift layers ------------------------------------------------------------------------------


def shift_layers(
    widths: list[int], shifts: list[int], copies: int, weights: tuple[float, float] = (0.75, 1.0)
) -> list[Layer]:
    """Layers in which output r has edges from the inputs of class r and r + shift.

    Classes are taken modulo the width before; the first layer has `copies` inputs of each class.
    `weights` are that of the first layer and that of the others.
    """
    layers = []
    for k, shift in enumerate(shifts):
        columns, rows = widths[k], widths[k + 1]
        own = np.arange(rows)
        matrix = np.zeros((rows, columns))
        matrix[own, own] = matrix[own, (own + shift) % columns] = weights[k > 0]
        layers.append(layer_of(np.tile(matrix, copies if k == 0 else 1), bias=-1.0))
    return layers


@pytest.mark.parametrize(
    ("widths", "shifts", "copies"),
    [
        ([64] * 5, [1, 63, 16, 40], 4),
        ([256] * 4, [64, 100, 5], 31),
        ([64, 64, 48], [3, 16], 4),
        ([128, 128, 128, 96], [3, 20, 32], 5),  # fewer values at the end
        ([128, 96], [32], 4),  # fewer values from the first layer on
        ([128, 96, 64], [32, 32], 4),
        ([64, 32], [32], 4),
    ],
)
@pytest.mark.parametrize("weights", [(0.5, 1.0), (0.75, 0.75), (4096.0, 1.0)])
def test_shift_layers(
    widths: list[int], shifts: list[int], copies: int, weights: tuple[float, float]
) -> None:
    """Classes with 1, 2, ... bits, pairs of full ones, and random images; in plain arithmetic."""
    random = np.random.default_rng(7)
    width, neurons = widths[0], widths[0] * copies
    counts = np.arange(copies)[None, :, None] < np.arange(1, copies + 1)[:, None, None]
    one_class = np.eye(width, dtype=bool)
    counts = counts & one_class[[0, width // 2, width - 1], None, None, :]
    bits = np.concatenate(
        [
            counts.reshape(-1, neurons),
            np.tile(one_class | np.roll(one_class, 48, axis=1), copies),
            *(random.random((200, neurons)) < density for density in (2 / neurons, 0.03, 0.2, 0.8)),
            np.ones((1, neurons), bool),
        ]
    )
    layers = shift_layers(widths, shifts, copies, weights)
    alive = plain_run(layers, bits)
    assert 0 < np.count_nonzero(alive[-1]) < len(bits) or weights[0] > YMAX
    for retire in (True, False):
        inference = run("cpu", network_of(layers), bit_features(bits), retire=retire)
        assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
        living = [np.count_nonzero(lives) for lives in alive]
        assert every_layer(inference, len(layers)) == living


def test_images_that_saturate_in_shift_layers_and_die_later() -> None:
    """The last layer takes differences of neighbours, which are zero where all is saturated."""
    layers = shift_layers([64, 64, 64], [1, 2], copies=31)
    differences = np.eye(64) - np.roll(np.eye(64), 1, axis=1)
    bits = np.ones((3, 64 * 31), bool)
    bits[1:] = False
    bits[1].reshape(31, 64)[:3, :20] = True
    network = network_of([*layers, layer_of(differences)])
    inference = run("cpu", network, bit_features(bits))
    assert inference.categories.tolist() == [1]
    assert inference.alive == (2, 2, 1)


# --- the choice --------------------------------------------------------------------------------


def few_twins() -> Network:
    random = np.random.default_rng(8)
    return network_of([layer_of(random_matrix(random, 30, 30, 0.5, np.array([1, 2, 3])))] * 2)


def test_auto_folds_the_official_network(official: Network) -> None:
    for device in (None, "cpu"):
        choice = choose("auto", device, "cpu", official)
        assert (choice.engine, choice.device) == ("cpu", "cpu")


def test_auto_folds_no_network_with_few_twins() -> None:
    choice = choose("auto", None, "cpu", few_twins())
    assert (choice.engine, choice.device) == ("cpu-layered", "cpu")
    assert "100.0%" in choice.reason


def test_auto_looks_at_a_network_of_one_layer() -> None:
    network = network_of([layer_of(np.zeros((2, 2)))])
    assert choose("auto", "cpu", "cpu", network).engine == "cpu"


@pytest.mark.parametrize("name", list(ENGINES))
def test_an_engine_that_is_asked_for_brings_its_device(name: str) -> None:
    choice = choose(name, None, "cpu", few_twins())
    assert (choice.engine, choice.device) == (name, ENGINES[name].device)
    assert choose(name, ENGINES[name].device, "cpu", few_twins()) == choice


@pytest.mark.parametrize(("name", "device", "other"), [("cpu", "cpu", "cuda"),
                                                       ("tiled", "cuda", "cpu")])  # fmt: skip
def test_an_engine_on_another_device(name: str, device: str, other: str) -> None:
    with pytest.raises(EngineError) as caught:
        choose(name, other, "cpu", few_twins())
    there = ", ".join(name for name, entry in ENGINES.items() if entry.device == other)
    assert str(caught.value) == (
        f"engine {name} runs on {device}, not on {other}. "
        f"Leave out --device, or choose one of {there}."
    )


def test_an_engine_that_is_not_there() -> None:
    wanted = f"there is no engine 'gpu'. Engines: {', '.join(ENGINES)}."
    with pytest.raises(EngineError) as caught:
        choose("gpu", None, "cpu", few_twins())
    assert str(caught.value) == wanted
    with pytest.raises(EngineError) as caught:
        create("gpu", EngineOptions())
    assert str(caught.value) == wanted


def test_the_command_line_offers_every_engine_and_source() -> None:
    # cli.py repeats the names, so that --help need not import the engines.
    assert set(cli.ENGINE_NAMES) == {"auto", *registry.ENGINES}
    assert cli.SOURCE_NAMES == convert.SOURCES


# --- numbers near the end of float32 -----------------------------------------------------------

HUGE = 3e38


@pytest.mark.parametrize(
    ("matrices", "inputs", "ymax"),
    [
        ([[[HUGE, HUGE, 1]], [[1]]], [[0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], 32.0),
        ([[[2e38] * 3 + [1]], [[1]]], [[0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]], 32.0),
        ([[[-HUGE, -HUGE, 1]], [[1]]], [[0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], 32.0),
        ([np.eye(2), [[0, 1], [0, 1], [1, 0]], [[HUGE, HUGE, 1]]], [[0, 1], [1, 0], [0, 0]], 32.0),
        ([[[1e-30, 1e-30, 1]], [[1]]], [[HUGE, HUGE, 0], [0, 0, 1], [-HUGE, -HUGE, 0]], 32.0),
        ([np.ones((3, 1)), np.full((2, 3), 1e-38)], [[HUGE], [0], [1]], HUGE),
    ],
    ids=["twins", "three twins", "negative twins", "twins of values", "inputs", "ymax"],
)
@pytest.mark.parametrize("as_bits", [True, False])
def test_folding_does_not_overflow(
    matrices: list[Any], inputs: list[list[float]], ymax: float, as_bits: bool
) -> None:
    values = np.array(inputs)
    if as_bits and np.abs(values).max() > 1:
        pytest.skip("these inputs are no bits")
    network = network_of(
        [layer_of(matrix, -0.25 if k == 0 else 0.0) for k, matrix in enumerate(matrices)], ymax
    )
    features = bit_features(values) if as_bits else float_features(values)
    found = []
    for name in ("reference", "cpu-layered", "cpu"):
        engine = create(name, EngineOptions(threads=2))
        engine.prepare(network)
        engine.upload(features)
        outcome = engine.infer()
        found.append((outcome.categories.tolist(), outcome.alive))
    assert found[1] == found[0]
    assert found[2] == found[0]
