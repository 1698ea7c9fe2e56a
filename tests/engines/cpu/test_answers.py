"""Every CPU engine against plain arithmetic and the reference."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.engine_checks import (
    agrees_with_all_images,
    certificates_follow_the_degree,
    every_layer,
    folding_does_not_overflow,
    outcome,
)
from helpers.engine_problems import EDGES, MANY_EDGES, OVERFLOWS, Problem
from helpers.networks import (
    NODE_YMAX,
    bit_features,
    float_features,
    layer_of,
    network_of,
    node_problems,
    plain_run,
    problems,
    random_matrix,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import create, on_device
from spdnn_cli.network.layers import Features, Network
from spdnn_cli.timing import Stopwatch

CPU_ENGINES = on_device("cpu")
LAYERED = ["reference", "cpu-layered"]
"""Engines that fold nothing and retire dead images only: their work is known exactly."""
OTHERS = [name for name in CPU_ENGINES if name != "reference"]
DOUBLE = [[2.0, 0.0], [0.0, 2.0]]


@pytest.mark.parametrize("name", CPU_ENGINES)
@given(problem=problems(exact=True), threads=st.integers(1, 3), retire=st.booleans())
def test_exact_networks(name: str, problem: Problem, threads: int, retire: bool) -> None:
    """Where no sum is rounded, categories and living images are right to the last one."""
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    inference = outcome(name, network_of(layers), features, threads=threads, retire=retire)
    assert inference.categories.dtype == np.int32
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert every_layer(inference, len(layers)) == [np.count_nonzero(lives) for lives in alive]


@pytest.mark.parametrize("name", CPU_ENGINES)
@settings(derandomize=True)  # an image may by chance end within a rounding error of zero
@given(problem=problems(exact=False), threads=st.integers(1, 3), retire=st.booleans())
def test_real_weights(name: str, problem: Problem, threads: int, retire: bool) -> None:
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    inference = outcome(name, network_of(layers), features, threads=threads, retire=retire)
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()


@pytest.mark.parametrize("name", LAYERED)
@given(problem=problems(exact=True), threads=st.integers(1, 3))
def test_layered_engines_run_every_edge_of_every_live_image(
    name: str, problem: Problem, threads: int
) -> None:
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    entering = [features.images, *(np.count_nonzero(lives) for lives in alive[:-1])]
    inference = outcome(name, network_of(layers), features, threads=threads)
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
    inference = outcome(name, network_of(layers), features)
    assert inference.categories.tolist() == [2, 3, 4]
    assert inference.alive == (3, 3)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_bias_does_not_wake_what_is_zero(name: str) -> None:
    layers = [layer_of([[1, -1], [0, 0]], bias=7.0)]
    inference = outcome(name, network_of(layers), float_features([[1, 1], [0, 0], [1, 0]]))
    assert inference.categories.tolist() == [2]


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_layers_after_the_death_of_all_images_do_not_run(name: str) -> None:
    network = network_of([layer_of([[1.0]]), layer_of([[-1.0]]), layer_of([[1.0]])])
    inference = outcome(name, network, float_features([[1], [2]]))
    assert inference.categories.tolist() == []
    assert inference.alive == (2, 0)
    assert inference.executed_edges == 4


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
    inference = outcome(name, network_of(layers), bit_features(bits), threads=2)
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


def test_shortcuts_say_what_is_skipped() -> None:
    def shortcuts(name: str, retire: bool) -> tuple[bool, bool, bool]:
        taken = create(name, EngineOptions(retire=retire)).shortcuts
        return taken.dead_images_dropped, taken.twins_folded, taken.finished_images_retired

    for retire in (True, False):
        assert shortcuts("reference", retire) == (True, False, False)
        assert shortcuts("cpu-layered", retire) == (True, False, False)
        assert shortcuts("cpu", retire) == (True, True, retire)


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
    inference = outcome(name, network_of(layers), features, retire=retire)
    assert inference.categories.tolist() == []
    assert every_layer(inference, 9) == [2] * 7 + [0, 0]


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
    inference = outcome(name, network_of(narrow + wide), bit_features(bits), threads=2)
    assert inference.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert every_layer(inference, 43) == [np.count_nonzero(lives) for lives in alive]


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize("as_floats", [False, True])
def test_official_layers_and_synthetic_digits(
    name: str, as_floats: bool, official: Network, digits: Features
) -> None:
    """Twelve layers, two blocks: stored from the reference. Floats take other paths than bits."""
    features = Features(digits.values(0, 300), 1024) if as_floats else digits
    categories = outcome(name, official.between(0, 12), features, threads=2).categories
    assert categories.tolist() == [35, 37, 56, 97, 118, 126, 146, 215, 293]


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("name", OTHERS)
def test_networks_at_the_edges(name: str, case: str) -> None:
    agrees_with_all_images(name, *EDGES[case](), NODE_YMAX)


@pytest.mark.parametrize("name", OTHERS)
@given(problem=node_problems(most_neurons=1024))
def test_networks_of_any_width(name: str, problem: Problem) -> None:
    agrees_with_all_images(name, *problem, NODE_YMAX)


@pytest.mark.parametrize("case", OVERFLOWS)
@pytest.mark.parametrize("name", OTHERS)
def test_folding_does_not_overflow(name: str, case: str) -> None:
    folding_does_not_overflow(name, case)


@pytest.mark.parametrize("case", MANY_EDGES)
@pytest.mark.parametrize("name", OTHERS)
def test_very_many_edges_a_neuron(name: str, case: str) -> None:
    agrees_with_all_images(name, *MANY_EDGES[case]())


@pytest.mark.parametrize("name", OTHERS)
def test_certificates_follow_the_degree(name: str) -> None:
    certificates_follow_the_degree(name)
