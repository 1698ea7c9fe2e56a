"""network.py: layers from edges, what they hold and refuse; saturation; inputs unpacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.networks import bit_features, float_features

from spdnn_cli.network.layers import Features, FoldedLayer, Layer, Network


def test_edges_in_any_order_become_rows() -> None:
    layer = Layer.from_edges(
        inputs=4,
        outputs=3,
        sources=np.array([3, 0, 1, 0]),
        targets=np.array([2, 2, 0, 0]),
        weights=np.array([0.5, -2.0, 3.0, 0.25]),
        bias=-0.5,
    )
    assert (layer.inputs, layer.outputs, layer.edges) == (4, 3, 4)
    assert layer.row_offsets.tolist() == [0, 2, 2, 4]
    assert layer.columns.tolist() == [0, 1, 0, 3]
    assert layer.weights.tolist() == [0.25, 3.0, -2.0, 0.5]
    assert layer.bias.tolist() == [-0.5, -0.5, -0.5]
    assert layer.targets().tolist() == [0, 0, 2, 2]
    types = (layer.row_offsets, layer.columns, layer.weights, layer.bias, layer.targets())
    assert [array.dtype.name for array in types] == [
        "int64",
        "int32",
        "float32",
        "float32",
        "int32",
    ]


def test_a_layer_without_edges() -> None:
    layer = Layer.from_edges(2, 3, np.array([]), np.array([]), np.array([]), np.array([1, 2, 3]))
    assert layer.row_offsets.tolist() == [0, 0, 0, 0]
    assert layer.bias.tolist() == [1, 2, 3]
    assert layer.edges == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": [0, 4]}, "an edge's source is outside 0..3"),
        ({"sources": [-1, 0]}, "an edge's source is outside 0..3"),
        ({"targets": [0, 3]}, "an edge's target is outside 0..2"),
        ({"targets": [0, -1]}, "an edge's target is outside 0..2"),
        ({"sources": [3, 3], "targets": [2, 2]}, "the edge from 3 to 2 is there twice"),
        ({"weights": [1, np.nan]}, "a weight or a bias is not finite"),
        ({"weights": [1, 1e39]}, "a weight or a bias is not finite"),
        ({"bias": -np.inf}, "a weight or a bias is not finite"),
        ({"bias": np.array([0, 0, np.nan])}, "a weight or a bias is not finite"),
        ({"weights": [1, 1, 1]}, "2 sources, 2 targets and 3 weights"),
        ({"sources": [1]}, "1 sources, 2 targets and 2 weights"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_bad_edges_are_refused(changes: dict[str, Any], message: str) -> None:
    edges = {"sources": [0, 1], "targets": [0, 1], "weights": [1.0, 1.0], "bias": 0.0} | changes
    with pytest.raises(ValueError, match="^" + message + "$"):
        Layer.from_edges(4, 3, **{name: np.array(value) for name, value in edges.items()})


def test_a_folded_layer_counts_the_plain_edges() -> None:
    # Core: output class 0 from input classes 0 and 1; output class 1 from input class 1.
    core = Layer.from_edges(
        2, 2, np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1, 2, 3]), 0.0
    )
    folded = FoldedLayer(
        core,
        input_class=np.array([0, 1, -1, 1, 1], np.int32),
        output_class=np.array([0, 1, 1, 0, 0, 0], np.int32),
    )
    assert (folded.inputs, folded.outputs) == (5, 6)
    assert folded.input_class_sizes.tolist() == [1, 3]
    assert folded.output_class_sizes.tolist() == [4, 2]
    assert folded.edges == 4 * (1 + 3) + 2 * 3


@pytest.mark.parametrize(
    ("keeps", "final"),
    [
        ([True, True], [True, True, True]),
        ([True, False], [False, False, True]),
        ([False, True, True], [False, True, True, True]),
        ([True, False, True], [False, False, True, True]),
    ],
)
def test_saturation_is_final_where_every_later_layer_keeps_it(
    keeps: list[bool], final: list[bool]
) -> None:
    edges = np.full(len(keeps), 5)
    network = Network([None] * len(keeps), 32.0, np.array(keeps), edges)  # type: ignore[list-item]
    assert network.depth == len(keeps)
    assert network.edges == 5 * len(keeps)
    assert network.saturation_is_final.tolist() == final


def test_packed_bits_unpack_from_the_least_significant() -> None:
    features = Features(np.array([[0b10000001, 0b10], [0b10, 0b11]], np.uint8), neurons=10)
    assert features.are_bits
    assert (features.images, features.row_bytes) == (2, 2)
    values = features.values(0, 2)
    assert values.dtype == np.float32
    assert values.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 0, 0, 0, 0, 1, 1]]
    assert features.values(1, 2).tolist() == values[1:].tolist()


def test_padding_bits_are_no_features() -> None:
    features = Features(np.array([[0b11111101]], np.uint8), neurons=3)
    assert features.values(0, 1).tolist() == [[1, 0, 1]]


def test_float_inputs_stay_as_they_are() -> None:
    features = float_features([[0.5, 0], [1e-7, 32]])
    assert not features.are_bits
    assert features.row_bytes == 8
    assert features.values(1, 5).tolist() == [[np.float32(1e-7), 32]]


def test_the_helper_of_these_tests_packs_as_features_unpack() -> None:
    bits = np.random.default_rng(1).random((5, 21)) < 0.5
    np.testing.assert_array_equal(bit_features(bits).values(0, 5), bits)
