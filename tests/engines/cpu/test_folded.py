"""The `cpu` engine: twins, images that finish early, and its kernel for shift layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import pytest
from helpers.engine_checks import every_layer, outcome
from helpers.networks import YMAX, bit_features, float_features, layer_of, network_of, plain_run

from spdnn_cli.network.layers import Features, FoldedLayer, Layer, Network

DOUBLE = [[2.0, 0.0], [0.0, 2.0]]


def test_executed_edges_of_the_folded_engine_by_hand() -> None:
    """Four twins feed four twins: 4 adds and 1 multiply-add; then 1 term for 16 edges."""
    network = network_of([layer_of(np.full((4, 4), 0.5), -0.5), layer_of(np.full((4, 4), 0.5))])
    features = float_features([[1, 1, 1, 1], [0, 0, 0, 1]])
    inference = outcome("cpu", network, features)
    assert inference.alive == (1, 1)
    assert inference.executed_edges == 2 * min(4 + 1, 4) + 1 * 1
    assert outcome("cpu-layered", network, features).executed_edges == 2 * 16 + 1 * 16


def test_finished_images_leave_the_run() -> None:
    """Ten layers of 2 terms; 1 doubles five times to saturate, 16 once; 0 dies at once."""
    network = network_of([layer_of(DOUBLE)] * 10)
    features = float_features([[1, 1], [16, 16], [0, 0], [16, 1]])
    retiring = outcome("cpu", network, features)
    assert retiring.alive == (3, 3, 3, 3, 3)
    assert retiring.executed_edges == 2 * (5 + 1 + 1 + 5)
    staying = outcome("cpu", network, features, retire=False)
    assert staying.alive == (3,) * 10
    assert staying.executed_edges == 2 * (10 + 10 + 1 + 10)
    assert retiring.categories.tolist() == staying.categories.tolist() == [0, 1, 3]


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
    inference = outcome("cpu", network, features)
    assert record.read == set(range(read))
    assert len(inference.alive) == runs
    assert inference.categories.tolist() == [0]


def test_all_layers_are_read_where_nothing_retires() -> None:
    network, record = recorded([layer_of([[2.0]])] * 100)
    inference = outcome("cpu", network, float_features([[1]]), retire=False)
    assert record.read == set(range(100))
    assert len(inference.alive) == 100


@pytest.mark.parametrize("depth", [1, 2, 5, 6, 7, 40])
def test_every_depth_of_the_official_network(
    depth: int, official: Network, digits: Features
) -> None:
    network = official.between(0, depth)
    wanted = outcome("reference", network, digits).categories
    assert 0 < len(wanted) < 300
    for retire in (True, False):
        for threads in (1, 3):
            found = outcome("cpu", network, digits, threads=threads, retire=retire)
            np.testing.assert_array_equal(found.categories, wanted)
    np.testing.assert_array_equal(outcome("cpu-layered", network, digits).categories, wanted)


def test_the_official_network_retires_all_images(official: Network, digits: Features) -> None:
    """Survivors saturate within 30 layers, and from there nothing runs."""
    retiring, staying = (
        outcome("cpu", official, digits, retire=retire) for retire in (True, False)
    )
    assert len(retiring.alive) < 30
    assert len(staying.alive) == 40
    assert retiring.executed_edges < staying.executed_edges
    np.testing.assert_array_equal(retiring.categories, staying.categories)


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
        inference = outcome("cpu", network_of(layers), bit_features(bits), retire=retire)
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
    inference = outcome("cpu", network, bit_features(bits))
    assert inference.categories.tolist() == [1]
    assert inference.alive == (2, 2, 1)
