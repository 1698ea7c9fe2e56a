"""steps.py: a step computes what its layer computes; shapes that the shift kernels can run."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import any_layers, layer_of, matrix_of, network_of, random_matrix, twin_layers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.network.fold import fold, make_network
from spdnn_cli.network.layers import Layer
from spdnn_cli.network.steps import (
    Product,
    Step,
    Steps,
    fixed_point_unit,
    leading_shift_layers,
    make_step,
)
from spdnn_cli.problem import NEURONS

Floats = NDArray[np.float64]


def product_of(rows: list[list[int]], columns: int, weights: list[float] | None = None) -> Product:
    """A product from the columns of each row; all weights 1, unless given."""
    indices = np.array([column for row in rows for column in row], np.int32)
    offsets = np.cumsum([0] + [len(row) for row in rows])
    values = np.ones(len(indices)) if weights is None else np.array(weights)
    return Product(columns, offsets.astype(np.int64), indices, values.astype(np.float32))


def dense(product: Product) -> Floats:
    rows = np.repeat(np.arange(product.rows), np.diff(product.offsets))
    matrix = np.zeros((product.rows, product.columns))
    matrix[rows, product.indices] = product.weights
    return matrix


def sums_of(step: Step, values: Floats) -> Floats:
    """The sums of the output neurons, from the class values before the layer."""
    gathered = values if step.gather is None else dense(step.gather) @ values
    return (dense(step.apply) @ gathered)[step.output_class]


@given(layer=st.one_of(any_layers(), twin_layers().map(lambda planted: planted[0])), data=st.data())
def test_a_step_gives_the_sums_of_its_layer(layer: Layer, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    classes = data.draw(st.integers(1, layer.inputs))
    _, value_of = np.unique(random.integers(0, classes, layer.inputs), return_inverse=True)
    step = make_step(fold(layer), value_of.astype(np.int32))
    values = random.integers(0, 32, value_of.max() + 1).astype(float)
    wanted = matrix_of(layer) @ values[value_of]
    np.testing.assert_allclose(sums_of(step, values), wanted, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(step.bias[step.output_class], layer.bias)


def test_few_terms_are_one_product() -> None:
    """Values that stand for whole input classes need no gather: 2 terms in place of 4 + 2."""
    step = make_step(fold(layer_of([[2, 2, 3, 3]])), np.array([0, 0, 1, 1], np.int32))
    assert step.gather is None
    assert dense(step.apply).tolist() == [[4, 6]]
    assert step.terms == 2


def test_many_terms_are_gathered_first() -> None:
    """Each output takes all inputs, which are two classes: 6 + 6 terms in place of 18."""
    layer = layer_of([[1, 2, 1, 2, 1, 2], [2, 1, 2, 1, 2, 1], [3, 5, 3, 5, 3, 5]])
    step = make_step(fold(layer), np.arange(6, dtype=np.int32))
    assert step.gather is not None
    assert dense(step.gather).tolist() == [[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]
    assert dense(step.apply).tolist() == [[1, 2], [2, 1], [3, 5]]
    assert step.terms == 12


def test_steps_follow_the_classes_from_layer_to_layer() -> None:
    random = np.random.default_rng(5)
    plain = [layer_of(random_matrix(random, 9, 9, 0.4, np.array([1, 2]))) for _ in range(4)]
    network = network_of(plain)
    at_once, bit_by_bit = Steps(), Steps()
    at_once.extend(list(network.layers))
    for layer in network.layers:
        bit_by_bit.extend([layer])
    values = random.integers(0, 5, 9).astype(float)
    for steps in (at_once, bit_by_bit):
        classes = neurons = values
        for step, layer in zip(steps.made, plain, strict=True):
            neurons = matrix_of(layer) @ neurons
            sums = sums_of(step, classes)
            np.testing.assert_array_equal(sums, neurons)
            _, first_of_class = np.unique(step.output_class, return_index=True)
            classes = sums[first_of_class]


# --- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "shift"),
    [
        ([[0, 1], [1, 2], [0, 2]], 3, 1),
        ([[0, 2], [0, 1], [1, 2]], 3, 2),
        ([[0, 2], [1, 3]], 4, 2),  # fewer rows than columns
        ([[0, 1]], 2, 1),
        ([[0, 1], [0, 1]], 2, 1),
        ([[0, 1], [1, 2], [1, 2]], 3, None),  # row 2 with 1, not with 0
        ([[0, 1], [2, 3], [0, 2]], 4, None),  # row 1 without itself
        ([[0, 1, 2], [1], [2, 0]], 3, None),  # two terms a row on average only
        ([[0], [1]], 2, None),
        ([[0, 1], [1, 2], [0, 2]], 4, None),  # row 2 wraps around too early
        ([], 2, None),
    ],
)
def test_shift(rows: list[list[int]], columns: int, shift: int | None) -> None:
    assert product_of(rows, columns).shift == shift


@pytest.mark.parametrize(
    ("rows", "columns", "groups"),
    [
        ([[0, 2, 4], [1, 3, 5]], 6, 3),
        ([[0], [1], [2]], 3, 1),
        ([[0, 1, 2]], 3, 3),
        ([[0, 1], [2, 3]], 4, None),  # neighbours, not every second
        ([[0, 2], [1]], 4, None),  # one is left out
        ([[0, 2], [1, 3]], 5, None),  # the columns are not a multiple of the rows
        ([[0, 1], []], 2, None),  # the right columns, in the wrong rows
        ([], 2, None),
    ],
)
def test_groups(rows: list[list[int]], columns: int, groups: int | None) -> None:
    assert product_of(rows, columns).groups == groups


def test_groups_add_up_once_each() -> None:
    assert product_of([[0, 2], [1, 3]], 4, [2, 2, 2, 2]).groups is None
    assert product_of([[0, 2], [1, 3]], 4, [1, 1, 2, 1]).groups is None


def test_a_weight_or_bias_that_all_share() -> None:
    assert product_of([[0, 1], [1]], 2, [0.5, 0.5, 0.5]).weight == 0.5
    assert product_of([[0, 1], [1]], 2, [0.5, 0.5, 0.25]).weight is None
    assert product_of([[]], 2).weight is None
    bias = [
        make_step(fold(layer_of(np.eye(2), np.array(b))), np.arange(2)) for b in ([1, 1], [1, 2])
    ]
    assert [step.uniform_bias for step in bias] == [1.0, None]


def official_steps(neurons: int, layers: int) -> list[Step]:
    network = make_network(list(official_layers(neurons, 0, layers)), 32.0)
    steps = Steps()
    steps.extend(list(network.layers))
    return steps.made


def test_the_first_official_block_shifts() -> None:
    steps = official_steps(1024, 8)
    assert steps[0].gather is not None
    assert steps[0].gather.groups == 16
    assert [step.apply.shift for step in steps[:6]] == [1, 2, 4, 8, 16, 32]
    assert [step.apply.rows for step in steps[:6]] == [64, 64, 64, 64, 64, 32]
    assert [step.terms for step in steps[:6]] == [1024 + 128, 128, 128, 128, 128, 64]
    assert steps[6].gather is not None
    assert leading_shift_layers(steps) == steps[:6]
    assert leading_shift_layers(steps[:3]) == steps[:3]
    assert leading_shift_layers(steps[1:]) == []
    assert leading_shift_layers([]) == []


def shift_layer(
    width: int, rows: int, shift: int, weight: float, bias: float, copies: int
) -> Layer:
    """Output r has edges from every input of class r or r + shift, modulo `width`."""
    own = np.arange(rows)
    matrix = np.zeros((rows, width))
    matrix[own, own] = matrix[own, (own + shift) % width] = weight
    return layer_of(np.tile(matrix, copies), bias)


@pytest.mark.parametrize(
    ("changes", "leading"),
    [
        ({}, 1),
        ({"weight": -0.5}, 0),
        ({"bias": 0.0}, 1),
        ({"bias": 0.25}, 0),  # a dead image would wake
        ({"rows": 12, "shift": 4}, 0),  # the kernels make as many values as there are columns
        ({"copies": 31}, 1),
        ({"copies": 32}, 0),  # more than five bit planes count
    ],
)
def test_what_a_first_shift_layer_may_be(changes: dict[str, float], leading: int) -> None:
    shape = {"width": 16, "rows": 16, "shift": 4, "weight": 0.5, "bias": -1.0, "copies": 4}
    layer = shift_layer(**(shape | changes))  # type: ignore[arg-type]
    step = make_step(fold(layer), np.arange(layer.inputs, dtype=np.int32))
    assert step.gather is not None
    assert step.gather.groups == layer.inputs // 16
    assert len(leading_shift_layers([step])) == leading


@pytest.mark.parametrize("neurons", NEURONS)
def test_the_official_numbers_are_multiples_of_an_80th(neurons: int) -> None:
    assert fixed_point_unit(leading_shift_layers(official_steps(neurons, 5)), 32.0) == 80


@pytest.mark.parametrize(
    ("changes", "ymax", "unit"),
    [
        ({}, 32.0, 2),
        ({"bias": -0.3}, 32.0, 10),
        ({"bias": -0.1234567}, 32.0, None),  # no multiple of 1/1000 or more
        ({}, 32.001, None),  # of 1/1000, but then the sum of two values is beyond 16 bits
        ({"weight": 500.0}, 32.0, 1),
        ({"weight": 200.5}, 32.0, 2),
        ({"weight": 4096.0}, 32.0, None),  # 62 bits would add up beyond 16 bits
        ({"bias": -40000.0}, 32.0, None),
    ],
)
def test_units_of_shift_layers(changes: dict[str, float], ymax: float, unit: int | None) -> None:
    shape = {"width": 16, "rows": 16, "shift": 4, "weight": 0.5, "bias": -1.0, "copies": 4}
    layer = shift_layer(**(shape | changes))  # type: ignore[arg-type]
    step = make_step(fold(layer), np.arange(layer.inputs, dtype=np.int32))
    assert leading_shift_layers([step]) == [step]
    assert fixed_point_unit([step], ymax) == unit


def test_only_the_first_shift_layer_multiplies() -> None:
    first, plain, scaled = (
        shift_layer(16, 16, 4, weight, -1.0, copies)
        for weight, copies in ((0.5, 4), (1.0, 1), (0.5, 1))
    )
    for second, unit in ((plain, 2), (scaled, None)):
        steps = Steps()
        steps.extend([fold(first), fold(second)])
        assert leading_shift_layers(steps.made) == steps.made
        assert fixed_point_unit(steps.made, 32.0) == unit
