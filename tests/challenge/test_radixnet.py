"""radixnet.py: the layers equal those built plainly from the challenge's definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers.networks import assert_same

from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.network.fold import fold, unfold
from spdnn_cli.problem import BIAS, NEURONS


def in_edges(neurons: int, layer: int) -> list[list[int]]:
    """The input neurons of each output neuron, from the definition, with no short cut.

    With n = N / 16 and S = log2(n), layer l is step s = l mod S of block b = l div S: output j
    receives from the inputs whose class c_b(i) mod n is j mod n or (j + 2^s) mod n. c_0(i) = i;
    later blocks rank N uniform doubles, drawn one block after the other from MT19937(5489).
    """
    nodes = neurons // 16
    block, step = divmod(layer, nodes.bit_length() - 1)
    classes = list(range(neurons))
    stream = np.random.RandomState(5489)
    for _ in range(block):
        drawn = stream.random_sample(neurons).tolist()
        for rank, i in enumerate(sorted(range(neurons), key=drawn.__getitem__)):
            classes[i] = rank
    members: dict[int, list[int]] = {node: [] for node in range(nodes)}
    for i, c in enumerate(classes):
        members[c % nodes].append(i)
    return [sorted(members[j % nodes] + members[(j + 2**step) % nodes]) for j in range(neurons)]


@pytest.mark.parametrize(
    ("neurons", "layer"),
    [(1024, 0), (1024, 4), (1024, 5), (1024, 6), (1024, 11), (1024, 12), (1024, 27), (4096, 17)],
)
def test_layers_follow_the_definition(neurons: int, layer: int) -> None:
    (folded,) = official_layers(neurons, layer, layer + 1)
    plain = unfold(folded)
    assert (plain.inputs, plain.outputs, plain.edges) == (neurons, neurons, 32 * neurons)
    wanted = in_edges(neurons, layer)
    np.testing.assert_array_equal(plain.columns.reshape(neurons, 32), wanted)
    assert np.all(plain.weights == 1 / 16)
    assert np.all(plain.bias == np.float32(BIAS[neurons]))


def test_layers_come_folded_as_fold_does_it() -> None:
    for folded in official_layers(1024, 0, 20):
        assert_same(folded, fold(unfold(folded)))


def test_layers_have_32_edges_a_neuron_and_few_terms() -> None:
    for number, folded in enumerate(official_layers(1024, 0, 12)):
        assert np.all(np.diff(unfold(folded).row_offsets) == 32)
        nodes, terms = (32, 32) if number % 6 == 5 else (64, 128)
        assert (folded.core.inputs, folded.core.outputs, folded.core.edges) == (nodes, nodes, terms)


@pytest.mark.parametrize("first", [1, 5, 6, 7, 13])
def test_layers_do_not_depend_on_where_one_begins(first: int) -> None:
    wanted = itertools.islice(official_layers(1024, 0, 15), first, None)
    for layer, other in zip(official_layers(1024, first, 15), wanted, strict=True):
        assert_same(layer, other)


def test_no_layers() -> None:
    assert list(official_layers(1024, 3, 3)) == []


@pytest.mark.parametrize("neurons", NEURONS)
def test_every_official_size_is_there(neurons: int) -> None:
    steps = {1024: 6, 4096: 8, 16384: 10, 65536: 12}[neurons]
    *_, last, next_block = official_layers(neurons, 0, steps + 1)
    assert last.core.outputs == neurons // 32
    assert next_block.core.outputs == neurons // 16
    assert next_block.edges == 32 * neurons
    assert next_block.core.bias[0] == np.float32(BIAS[neurons])
