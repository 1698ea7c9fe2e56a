"""trace.py: how many layers each image lives, against the reference engine cut off after each."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import (
    YMAX,
    bit_features,
    float_features,
    layer_of,
    matrix_of,
    network_of,
    problems,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spdnn_cli.challenge.digits import synthetic_features
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import create
from spdnn_cli.network.fold import fold, make_network
from spdnn_cli.network.layers import Bools, Features, Layer, Network
from spdnn_cli.run import lifetimes as trace

Problem = tuple[list[Layer], Features]


def alive_after(network: Network, layers: int, features: Features) -> Bools:
    """Which images the reference engine has alive after the first `layers` layers."""
    engine = create("reference", EngineOptions())
    engine.prepare(make_network(list(network.layers[:layers]), network.ymax))
    engine.upload(features)
    alive = np.zeros(features.images, np.bool_)
    alive[engine.infer().categories] = True
    return alive


def plain_lifetimes(network: Network, features: Features) -> list[int]:
    """Layers that each image enters: the first one, and each after which it is alive."""
    entered = np.ones(features.images, np.int64)
    for layers in range(1, network.depth):
        entered += alive_after(network, layers, features)
    return entered.tolist()


def saturated_for_good(layers: list[Layer], features: Features) -> list[int | None]:
    """The layer, from 1, after which each image is at YMAX and all later layers take YMAX beyond.

    No sum of exact networks is beyond it by rounding alone. None: there is no such layer.
    """
    values = features.values(0, features.images).T.astype(np.float64)
    takes_beyond = [
        bool((shifted_sums(k, np.full((k.inputs, 1), YMAX)) > YMAX).all()) for k in layers
    ]
    found: list[int | None] = [None] * features.images
    for number, layer in enumerate(layers, start=1):
        shifted = shifted_sums(layer, values)
        values = np.where(matrix_of(layer) @ values != 0, np.clip(shifted, 0, YMAX), 0)
        if all(takes_beyond[number:]):
            saturated = (values == YMAX).all(axis=0)
            found = [k or (number if s else None) for k, s in zip(found, saturated, strict=True)]
    return found


def shifted_sums(layer: Layer, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return matrix_of(layer) @ values + layer.bias[:, None].astype(np.float64)


# ---- by hand


GROWS = [
    layer_of([[0.5, 0.0], [0.0, 0.5]], -0.25),
    layer_of([[200.0, 0.0], [0.0, 200.0]]),
]
"""Halves and takes 0.25 off, so that less than 0.5 dies; then a one is 50, that is YMAX."""
DOUBLES = layer_of([[2.0, 0.0], [0.0, 2.0]])
"""Takes YMAX beyond YMAX."""


@pytest.mark.parametrize(("retire", "of_ones"), [(True, 2), (False, 4)])
def test_by_hand(retire: bool, of_ones: int) -> None:
    """The last image has one neuron that is never saturated."""
    network = network_of([*GROWS, DOUBLES, DOUBLES])
    features = float_features([[0, 0], [0.5, 0.5], [1, 1], [0, 1]])
    lifetimes = trace.lifetimes(network, features, retire, threads=1)
    assert lifetimes.dtype == np.uint16
    assert lifetimes.tolist() == [1, 1, of_ones, 4]


@pytest.mark.parametrize(
    ("later", "lifetime"),
    [
        ([DOUBLES, DOUBLES], 2),
        ([layer_of([[2.0, 0.0], [0.0, 2.0]], -33), DOUBLES, DOUBLES], 4),  # to 31, then 62
        ([layer_of([[2.0, 0.0]], -63), layer_of([[9.0]]), layer_of([[9.0]])], 5),  # 1, 9, 81
        ([layer_of([[1.0, 0.0]], -YMAX), layer_of([[2.0]])], 3),  # dead
    ],
    ids=["stays", "lowered", "lowered to one", "dead"],
)
def test_what_later_layers_do_says_whether_an_image_is_finished(
    later: list[Layer], lifetime: int
) -> None:
    network = network_of([*GROWS, *later])
    lifetimes = trace.lifetimes(network, bit_features([[1, 1]]), retire=True, threads=1)
    assert lifetimes.tolist() == [lifetime]


def test_what_the_layer_before_does_with_saturated_images_does_not_count() -> None:
    """The first layer takes (20, 0) to YMAX, though it takes (YMAX, YMAX) to half of that."""
    network = network_of([layer_of([[2.0, -1.5]]), layer_of([[2.0]]), layer_of([[2.0]])])
    assert trace.lifetimes(network, float_features([[20, 0]]), True, threads=1).tolist() == [1]


def test_a_sum_that_cancels_its_bias_but_for_rounding_is_dead() -> None:
    """In float32, 7 x 0.1 is more than 0.7 by 2e-8."""
    network = network_of([layer_of([[0.1] * 8], -0.7), layer_of([[1.0]])])
    features = bit_features([[1] * 7 + [0], [1] * 8])
    assert trace.lifetimes(network, features, retire=False, threads=1).tolist() == [1, 2]


# ---- random networks


@given(problem=problems(exact=True), threads=st.integers(1, 3))
def test_without_retiring_an_image_lives_until_the_reference_has_it_dead(
    problem: Problem, threads: int
) -> None:
    layers, features = problem
    network = network_of(layers)
    lifetimes = trace.lifetimes(network, features, retire=False, threads=threads)
    assert lifetimes.tolist() == plain_lifetimes(network, features)


@settings(derandomize=True)  # an image may by chance end within a rounding error of zero
@given(problem=problems(exact=False))
def test_real_weights(problem: Problem) -> None:
    layers, features = problem
    network = network_of(layers)
    lifetimes = trace.lifetimes(network, features, retire=False, threads=1)
    assert lifetimes.tolist() == plain_lifetimes(network, features)


@given(problem=problems(exact=True), threads=st.integers(1, 3))
def test_with_retiring_an_image_also_ends_where_it_is_saturated_for_good(
    problem: Problem, threads: int
) -> None:
    layers, features = problem
    network = network_of(layers)
    lifetimes = trace.lifetimes(network, features, retire=True, threads=threads)
    wanted = [
        until_dead if until_saturated is None else min(until_dead, until_saturated)
        for until_dead, until_saturated in zip(
            plain_lifetimes(network, features), saturated_for_good(layers, features), strict=True
        )
    ]
    assert lifetimes.tolist() == wanted


@given(
    problem=problems(exact=True),
    row=st.integers(1, 20),
    look=st.integers(1, 3),
    retire=st.booleans(),
)
def test_batches_and_looking_ahead_change_nothing(
    problem: Problem, row: int, look: int, retire: bool
) -> None:
    layers, features = problem
    network = network_of(layers)
    wanted = trace.lifetimes(network, features, retire, threads=1).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "BATCH_BYTES", row * 4 * features.neurons)
        patch.setattr(trace, "LOOK_AHEAD", look)
        assert trace.lifetimes(network, features, retire, threads=3).tolist() == wanted


# ---- the challenge's network


@pytest.fixture(scope="module")
def official() -> Network:
    return make_network(list(official_layers(1024, 0, 40)), YMAX)


@pytest.fixture(scope="module")
def digits() -> Features:
    return Features(synthetic_features(1024, 300, 1), 1024)


@pytest.mark.parametrize("as_floats", [False, True])
def test_official_layers(official: Network, digits: Features, as_floats: bool) -> None:
    """Bits take the leading layers in whole units, floats take all layers as the reference."""
    features = Features(digits.values(0, 300), 1024) if as_floats else digits
    lifetimes = trace.lifetimes(official, features, retire=False, threads=2)
    for layers in (1, 2, 3, 5, 6, 7, 12, 39):
        alive = alive_after(official, layers, digits)
        assert 0 < np.count_nonzero(alive) < 300
        np.testing.assert_array_equal(lifetimes > layers, alive)


def test_official_images_that_retire_are_alive_at_the_end(
    official: Network, digits: Features
) -> None:
    """Nine of 300 images live; all are saturated long before layer 40, where nothing changes."""
    dead_only, retired = (
        trace.lifetimes(official, digits, retire=retire, threads=1) for retire in (False, True)
    )
    (early,) = np.nonzero(retired < dead_only)
    alive = np.flatnonzero(alive_after(official, 40, digits))
    assert early.tolist() == alive.tolist()
    assert set(dead_only[early].tolist()) == {40}
    dead = np.delete(np.arange(300), alive)
    np.testing.assert_array_equal(retired[dead], dead_only[dead])


def test_twins_are_one_value() -> None:
    """A folded layer lives as long as the plain one, with twins among inputs and outputs."""
    twins = layer_of(np.ones((6, 4)) / 4, -0.5)
    network = make_network([fold(twins), fold(layer_of(np.ones((2, 6))))], YMAX)
    features = bit_features([[1, 1, 0, 0], [1, 1, 1, 0]])
    assert trace.lifetimes(network, features, False, threads=1).tolist() == [1, 2]
