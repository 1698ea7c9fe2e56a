"""Live images that move between ranks: who gives what, the values they take along, the outcome."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from helpers.networks import assert_same, network_of, plain_run, plain_values, problems
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import create
from spdnn_cli.errors import EngineError
from spdnn_cli.network.layers import Features, Layer
from spdnn_cli.run.rank import Alone
from spdnn_cli.run.rebalance import Rebalanced, moves

Problem = tuple[list[Layer], Features]


def test_moves_by_hand() -> None:
    assert moves([5]) == []
    assert moves([3, 4, 4]) == []  # no two ranks differ by more than one
    assert moves([9, 1, 2]) == [(0, 1, 3), (0, 2, 2)] or moves([9, 1, 2]) == [
        (0, 2, 2),
        (0, 1, 3),
    ]
    assert moves([0, 7]) == [(1, 0, 3)]  # the one that has most keeps one more


@given(counts=st.lists(st.integers(0, 200), min_size=1, max_size=40))
def test_moves_even_out_and_are_no_more_than_needed(counts: list[int]) -> None:
    after, least = list(counts), sum(counts) // len(counts)
    for giver, taker, images in moves(counts):
        assert images > 0
        after[giver] -= images
        after[taker] += images
    assert sum(after) == sum(counts)
    assert set(after) <= {least, least + 1}
    given_away = sum(max(0, old - new) for old, new in zip(counts, after, strict=True))
    assert sum(images for _, _, images in moves(counts)) == given_away
    # Ranks above the larger share must give, and those below the smaller one must be given.
    above = sum(max(0, count - least - (sum(counts) % len(counts) > 0)) for count in counts)
    below = sum(max(0, least - count) for count in counts)
    assert given_away == max(above, below)


@given(problem=problems(exact=True), data=st.data())
def test_some_layers_of_a_network(problem: Problem, data: st.DataObject) -> None:
    network = network_of(problem[0])
    first = data.draw(st.integers(0, network.depth))
    last = data.draw(st.integers(first, network.depth))
    some = network.between(first, last)
    wanted = network.layers[first:last]
    assert some.depth == last - first
    assert some.edges == sum(layer.edges for layer in wanted)
    np.testing.assert_array_equal(some.keeps_saturated, network.keeps_saturated[first:last])
    begin, end, step = data.draw(st.slices(some.depth)).indices(some.depth)
    picked = slice(begin, end if end >= 0 else None, step)
    for layer, other in zip(some.layers[picked], wanted[picked], strict=True):
        assert_same(layer, other)
    for k in range(some.depth):
        assert_same(some.layers[k], wanted[k])


@given(problem=problems(exact=True), threads=st.integers(1, 3))
def test_values_of_the_live_images(problem: Problem, threads: int) -> None:
    layers, features = problem
    engine = create("cpu-layered", EngineOptions(threads=threads, keep_values=True))
    engine.prepare(network_of(layers))
    engine.upload(features)
    inference = engine.infer()
    values = plain_values(layers, features.values(0, features.images))
    assert inference.values is not None
    np.testing.assert_array_equal(inference.values, values[inference.categories])


@given(problem=problems(exact=True), data=st.data())
def test_two_parts_find_what_one_run_finds(problem: Problem, data: st.DataObject) -> None:
    layers, features = problem
    layer = data.draw(st.integers(0, len(layers) + 1))
    make = partial(create, "cpu-layered")
    seen: list[int] = []
    options = EngineOptions(progress=lambda done, images: seen.append(done))
    if not 0 < layer < len(layers):
        with pytest.raises(EngineError, match=rf"cannot move after layer {layer} of {len(layers)}"):
            Rebalanced(Alone(), make, options, network_of(layers), layer)
        return
    parts = Rebalanced(Alone(), make, options, network_of(layers), layer)
    parts.upload(features, np.arange(100, 100 + features.images))
    plain = make(EngineOptions())
    plain.prepare(network_of(layers))
    plain.upload(features)
    wanted = plain.infer()
    for _ in range(2):
        inference, report = parts.run()
        assert inference.categories.tolist() == (wanted.categories + 100).tolist()
        assert inference.executed_edges == wanted.executed_edges
        assert inference.alive[: len(wanted.alive)] == wanted.alive
        assert set(inference.alive[len(wanted.alive) :]) <= {0}
        alive = plain_run(layers[:layer], features.values(0, features.images))[-1]
        assert (report.before, report.after) == (np.count_nonzero(alive),) * 2
        assert 0 <= report.move_seconds <= report.seconds
    assert max(seen) <= len(layers)
