"""fold.py: nothing is lost, planted twins are found, near-twins are not; the certificate."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import any_layers, assert_same, layer_of, matrix_of, network_of, twin_layers
from hypothesis import given

from spdnn_cli.network.fold import fold, keeps_saturated, make_network, unfold
from spdnn_cli.network.layers import FoldedLayer, Layer

YMAX = 32.0


@given(any_layers())
def test_unfolding_gives_the_layer_back(layer: Layer) -> None:
    folded = fold(layer)
    assert_same(unfold(folded), layer)
    assert folded.edges == layer.edges


@given(twin_layers())
def test_planted_twins_are_merged(planted: tuple[Layer, int, int]) -> None:
    layer, input_classes, output_classes = planted
    folded = fold(layer)
    assert_same(unfold(folded), layer)
    assert folded.core.inputs <= input_classes
    assert folded.core.outputs <= output_classes


@given(twin_layers())
def test_no_twins_are_left(planted: tuple[Layer, int, int]) -> None:
    core = fold(planted[0]).core
    dense = matrix_of(core)
    assert len(np.unique(np.column_stack([dense, core.bias]), axis=0)) == core.outputs
    assert len(np.unique(dense, axis=1).T) == core.inputs


@given(twin_layers())
def test_classes_are_numbered_by_their_first_members(planted: tuple[Layer, int, int]) -> None:
    folded = fold(planted[0])
    for classes in (folded.input_class[folded.input_class >= 0], folded.output_class):
        _, firsts = np.unique(classes, return_index=True)
        assert np.all(np.diff(firsts) > 0)


def test_a_layer_folded_by_hand() -> None:
    layer = layer_of(
        [
            [0, 2, 0, 2, 3],
            [0, 0, 0, 0, 0],
            [0, 2, 0, 2, 3],
            [0, 0, 0, 0, 1],
        ],
        bias=np.array([-1, -1, -1, -1]),
    )
    folded = fold(layer)
    assert folded.output_class.tolist() == [0, 1, 0, 2]
    assert folded.input_class.tolist() == [-1, 0, -1, 0, 1]
    assert matrix_of(folded.core).tolist() == [[2, 3], [0, 0], [0, 1]]
    assert folded.core.bias.tolist() == [-1, -1, -1]
    assert_same(unfold(folded), layer)


def test_colliding_hashes_cost_twins_but_no_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one hash for all rows, only the twins of the first one are found."""
    monkeypatch.setattr(
        "spdnn_cli.network.fold._hash_rows", lambda *rows: np.zeros(len(rows[-1]), "u8")
    )
    layer = layer_of([[1, 0], [0, 2], [1, 0], [0, 2], [1, 0]], np.array([1, 1, 1, 1, 2]))
    folded = fold(layer)
    assert folded.output_class.tolist() == [0, 1, 0, 2, 3]
    assert_same(unfold(folded), layer)


def test_a_layer_without_edges_folds() -> None:
    layer = layer_of(np.zeros((3, 4)), bias=np.array([0.5, 1, 0.5]))
    folded = fold(layer)
    assert folded.input_class.tolist() == [-1, -1, -1, -1]
    assert folded.output_class.tolist() == [0, 1, 0]
    assert (folded.core.inputs, folded.core.outputs, folded.edges) == (0, 2, 0)
    assert_same(unfold(folded), layer)


def test_outputs_that_differ_in_the_bias_alone_are_no_twins() -> None:
    layer = layer_of([[1, 2], [1, 2], [1, 2]], bias=np.array([0, -0.5, 0]))
    assert fold(layer).output_class.tolist() == [0, 1, 0]


def test_neurons_that_differ_in_one_weight_alone_are_no_twins() -> None:
    near = float(np.nextafter(np.float32(2), np.float32(3)))
    assert fold(layer_of([[1, 2], [1, near]])).output_class.tolist() == [0, 1]
    assert fold(layer_of([[1, 1], [2, near]])).input_class.tolist() == [0, 1]
    assert fold(layer_of([[1, 1], [2, 2]])).input_class.tolist() == [0, 0]


def test_inputs_of_the_same_outputs_through_other_edges_are_no_twins() -> None:
    assert fold(layer_of([[1, 1, 0], [0, 1, 1]])).input_class.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("matrix", "bias", "keeps"),
    [
        ([[1, 1]], -0.3, True),
        ([[1, 1], [0.5, 0.25]], -0.3, False),  # the second neuron gets 24
        ([[2, -0.5]], 0.0, True),  # 48
        ([[2, -1.5]], 0.0, False),  # 16
        ([[2, -1.5]], 17.0, True),  # 16 + 17
        ([[1, 0]], 0.0, False),  # 32 exactly: within the margin
        ([[1.001, 0]], 0.0, True),  # 32.032: just outside of it
        ([[1.00005, 0]], 0.0, False),  # 32.0016: within the margin
        ([[1, 1], [0, 0]], 40.0, False),  # without an in-edge: zero, whatever the bias
        ([[1, 1], [2, -2]], 40.0, False),  # the sum is zero, and so is the neuron
        ([[1, 1], [0.5, -1]], 50.0, True),  # -16 + 50
        ([[1e6 + 2, -1e6]], 0.0, False),  # 64, but float32 sums may be far from that
    ],
)
def test_keeps_saturated(matrix: list[list[float]], bias: float, keeps: bool) -> None:
    assert keeps_saturated(fold(layer_of(matrix, bias)), YMAX) is keeps


def test_keeps_saturated_counts_twins() -> None:
    """Sixteen inputs of weight 1/16 are one class, and add up to 1."""
    assert keeps_saturated(fold(layer_of(np.full((4, 17), 1 / 16), -1.0)), YMAX)
    assert not keeps_saturated(fold(layer_of(np.full((4, 16), 1 / 16), -1.0)), YMAX)


def test_a_network_in_memory_has_its_tables() -> None:
    network = network_of([layer_of([[2, 0], [0, 2], [1, 1]]), layer_of([[0.5, 0.25, 0]])])
    assert network.depth == 2
    assert network.edges_by_layer.tolist() == [4, 2]
    assert network.edges == 6
    assert network.keeps_saturated.tolist() == [True, False]


def test_layers_that_do_not_fit_make_no_network() -> None:
    layers = [fold(layer_of(np.ones(shape))) for shape in ((3, 2), (4, 3), (2, 5))]
    with pytest.raises(ValueError, match=r"^layer 2 has 4 outputs, layer 3 5 inputs$"):
        make_network(layers, YMAX)


@pytest.mark.parametrize("degree", [2048, 32768])
@pytest.mark.parametrize("sign", [1, -1])
def test_room_follows_the_degree(degree: int, sign: int) -> None:
    """So many float32 numbers may be off by degree * 2^-24 of their sizes when they are added."""
    bound = degree * 2.0**-24
    for share, keeps in ((0.7, False), (4.0, True)):
        weight = (1 + share * max(bound, 1e-4)) / degree
        row = np.full((1, degree), weight)
        bias = 0.0 if sign > 0 else 2 * YMAX
        layer = layer_of(row if sign > 0 else row - 2 / degree, bias)
        assert keeps_saturated(fold(layer), YMAX) is keeps


@pytest.mark.parametrize("weights", [[3e38, 3e38], [3e38, -3e38, 5], [1e38] * 4])
def test_sums_that_overflow_have_no_certificate(weights: list[float]) -> None:
    assert not keeps_saturated(fold(layer_of([weights])), YMAX)


def test_too_many_terms_have_no_certificate() -> None:
    few = fold(layer_of([[1.0, 1.0]]))
    many = FoldedLayer(few.core, np.zeros(2**24, np.int32), few.output_class)
    assert keeps_saturated(few, YMAX)
    assert not keeps_saturated(many, YMAX)
