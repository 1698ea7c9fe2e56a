"""The tables of the folded GPU kernels, on the CPU: decoded back, they are the steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli import problem
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines.cuda.folded_tables import STEP, ShiftShape, step_tables
from spdnn_cli.network.fold import fold, make_network
from spdnn_cli.network.layers import Features, Layer
from spdnn_cli.network.steps import Product, Step, Steps


def decoded(tables: list[np.ndarray], k: int, name: str, columns: int) -> np.ndarray:
    """The dense matrix of a product in the tables."""
    steps, indices, weights, _ = tables
    record = steps.view(STEP)[k][name]
    rows, terms, start = int(record["rows"]), int(record["terms"]), int(record["start"])
    index = indices[start : start + rows * terms].reshape(terms, rows)
    if record["scale"] != 0:
        weight = np.full(index.shape, record["scale"], np.float32)
    else:
        weight = weights[start : start + rows * terms].reshape(terms, rows)
    dense = np.zeros((rows, columns), np.float64)
    np.add.at(dense, (np.broadcast_to(np.arange(rows), index.shape), index), weight)
    return dense


def dense(product: Product) -> np.ndarray:
    matrix = np.zeros((product.rows, product.columns), np.float64)
    rows = np.repeat(np.arange(product.rows), np.diff(product.offsets))
    matrix[rows, product.indices] = product.weights
    return matrix


@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    even=st.booleans(),
    images=st.sampled_from([1, 2, 4]),
)
def test_tables_hold_every_term(seed: int, widths: list[int], even: bool, images: int) -> None:
    random = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        sources, targets = np.nonzero(random.random((inputs, outputs)) < random.random())
        weights = np.full(len(sources), 0.5) if even else random.normal(size=len(sources))
        layers.append(fold(Layer.from_edges(inputs, outputs, sources, targets, weights, -0.25)))
    steps = Steps()
    steps.extend(list(make_network(layers, 1.0).layers))
    tables = step_tables(steps.made, images)
    bias_start = 0
    for k, step in enumerate(steps.made):
        for name, product in (("gather", step.gather), ("apply", step.apply)):
            if product is None:
                assert tables[0].view(STEP)[k][name]["rows"] == 0
            else:
                found = decoded(tables, k, name, product.columns)
                np.testing.assert_allclose(found, dense(product), rtol=1e-6)
        assert tables[0].view(STEP)[k]["bias_start"] == bias_start
        bias_start += len(step.bias)
    np.testing.assert_array_equal(tables[3], np.concatenate([step.bias for step in steps.made]))


def test_neighbouring_rows_read_different_banks_where_they_can() -> None:
    # Four rows of four terms, the same four columns in the same order: one bank at a time.
    layer = Layer.from_edges(
        4, 4, np.tile(np.arange(4), 4), np.repeat(np.arange(4), 4), np.arange(1, 17), -1.0
    )
    identity = np.arange(4, dtype=np.int32)
    product = Product(4, layer.row_offsets, layer.columns, layer.weights)
    step = Step(None, product, layer.bias, identity)
    tables = step_tables([step], images=4)
    index = tables[1][1:].reshape(4, 4)
    assert [sorted(term) for term in index.tolist()] == [[0, 1, 2, 3]] * 4
    np.testing.assert_array_equal(decoded(tables, 0, "apply", 4), dense(product))


@pytest.mark.parametrize("neurons", problem.NEURONS)
def test_the_shift_kernel_takes_the_official_first_block(neurons: int) -> None:
    steps, depth = Steps(), (neurons // 16).bit_length() - 1
    steps.extend(list(official_layers(neurons, 0, depth + 2)))
    bits = Features(np.zeros((1, neurons // 8), np.uint8), neurons)
    shape = ShiftShape.of(steps.made, bits, problem.YMAX)
    assert shape is not None
    assert shape.shifts == tuple(1 << k for k in range(depth))
    assert (shape.unit, shape.weight, shape.ymax) == (80, 5, 2560)
    assert shape.bias == (round(80 * problem.BIAS[neurons]),) * depth
    assert (shape.groups, shape.rows) == (16, neurons // 32)
    assert 32 * shape.lanes * shape.words == neurons // 16
    values = Features(np.zeros((1, neurons), np.float32), neurons)
    assert ShiftShape.of(steps.made, values, problem.YMAX) is None
