"""The tables of kernels/folded_gather.cu, run on the CPU as the kernel runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.networks import layer_of

from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines.cuda import gather_tables as cuda_gather_tables
from spdnn_cli.engines.cuda.gather_tables import (
    ONE_IMAGE,
    SEVERAL_IMAGES,
    GatherShape,
    GatherTables,
    gather_tables,
)
from spdnn_cli.network.fold import fold, make_network
from spdnn_cli.network.layers import FoldedLayer, Layer, Network

NEVER = np.zeros(100, np.bool_)


def run_tables(tables: GatherTables, first: int, values: Any, ymax: float) -> list[Any]:
    """The values after each layer, in float64; slots as in the kernel."""
    slots = tables.shape.slots
    index = tables.indices.transpose(0, 1, 3, 2, 4).reshape(-1, slots, tables.terms)
    places = tables.places.reshape(-1, slots)
    held = np.zeros(slots + 2)
    held[: len(values)] = values
    after = []
    for layer in tables.layers[first:]:
        sums = np.zeros(slots + 2)
        sums[places[layer["gather"]]] = held[index[layer["gather"]]].sum(axis=1)
        sums[slots] = 0.0
        start, count = int(layer["outputs_start"]), int(layer["outputs"])
        pairs, bias = tables.outputs[start : start + count].T
        z = (sums[pairs & 0xFFFF] + sums[pairs >> 16]) * float(layer["weight"])
        out = np.where(z != 0, np.clip(z + np.ascontiguousarray(bias).view(np.float32), 0, ymax), 0)
        held[:count] = out
        after.append(out)
    return after


def run_layers(layers: list[FoldedLayer], values: Any, ymax: float) -> list[Any]:
    """The class values after each layer, neuron by neuron."""
    neurons, after = values, []
    for layer in layers:
        wired = layer.input_class >= 0
        sums = np.bincount(layer.input_class[wired], neurons[wired], layer.core.inputs)
        core = layer.core
        z = np.bincount(core.targets(), core.weights * sums[core.columns], core.outputs)
        out = np.where(z != 0, np.clip(z + core.bias, 0, ymax), 0)
        after.append(out)
        neurons = out[layer.output_class]
    return after


def layers_of(network: Network) -> list[FoldedLayer]:
    return list(network.layers)


@pytest.mark.parametrize("neurons", [1024, 4096, 16384])
def test_official_layers_behind_the_first_block(neurons: int) -> None:
    depth = (neurons // 16).bit_length() - 1
    layers = list(official_layers(neurons, 0, 3 * depth))
    tables = gather_tables(layers, depth, NEVER)
    assert tables is not None
    # The layers of a block gather alike, but for its first one: it reads half as many values.
    assert tables.layers["gather"][depth:].tolist() == [0] + [1] * (depth - 1) + [2] + [3] * (
        depth - 1
    )
    values = np.random.default_rng(1).integers(0, 80, neurons // 32) / 80
    neurons_before = values[layers[depth - 1].output_class]
    wanted = run_layers(layers[depth:], neurons_before, 32.0)
    found = run_tables(tables, depth, values, 32.0)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert tables.work == [neurons + 2 * int(n) for n in tables.layers["outputs"][depth:]]


@pytest.mark.parametrize("images", [1, 2, 4])
def test_neighbouring_threads_read_different_banks(
    monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr(cuda_gather_tables, "SEVERAL_IMAGES", (GatherShape(images, 4, 64),))
    layers, lanes = list(official_layers(4096, 0, 10)), 32 // images
    tables = gather_tables(layers, 8, NEVER)
    assert tables is not None
    groups = tables.indices.transpose(0, 1, 3, 2, 4).reshape(-1, lanes, tables.terms)
    conflicts = [
        np.bincount(group[:, term] % lanes, minlength=lanes).max()
        for group in groups
        for term in range(tables.terms)
    ]
    # At random the fullest of 8, 16 or 32 banks would hold about 2.9, 3.1 or 3.5 reads.
    assert np.mean(conflicts) < 1.3
    for places in tables.places.reshape(-1, lanes):
        used = places[places < tables.shape.slots] % lanes
        assert len(set(used)) == len(used)
    for layer in tables.layers[8:]:
        rows = tables.outputs[layer["outputs_start"] :][: layer["outputs"]].reshape(-1, lanes, 2)
        for half in (rows[:, :, 0] & 0xFFFF, rows[:, :, 0] >> 16):
            assert all(len(set(group % lanes)) == lanes for group in half)


@pytest.mark.parametrize("shapes", [ONE_IMAGE, SEVERAL_IMAGES])
def test_shapes_have_room_for_more_and_more_rows(shapes: tuple[GatherShape, ...]) -> None:
    slots = [shape.slots for shape in shapes]
    assert slots == sorted(set(slots))


@pytest.mark.parametrize("may_finish", [True, False])
def test_teams_have_room_for_the_values_that_enter(may_finish: bool) -> None:
    """More than any later layer has: 256 values, in 8 classes; some are in none."""
    before = fold(layer_of(np.diag(np.arange(1.0, 257.0))))
    matrix = (np.arange(8)[:, None] == np.arange(256) % 9) * 0.5
    layers = layers_of(make_network([before, fold(layer_of(matrix))], 4.0))
    tables = gather_tables(layers, 1, np.full(3, may_finish))
    assert tables is not None
    assert tables.shape.slots >= 256
    values = np.random.default_rng(2).integers(0, 5, 256) / 4
    found, wanted = run_tables(tables, 1, values, 4.0), run_layers(layers[1:], values, 4.0)
    assert [out.tolist() for out in found] == [out.tolist() for out in wanted]


def test_images_share_a_team_only_where_none_may_finish() -> None:
    layers = list(official_layers(1024, 0, 8))
    for may_finish in (True, False):
        tables = gather_tables(layers, 6, np.full(9, may_finish))
        assert tables is not None
        assert tables.shape == (ONE_IMAGE if may_finish else SEVERAL_IMAGES)[0]


def test_a_layer_by_hand() -> None:
    # Two values; one class of three neurons (values 0, 0, 1) and one of one (value 1).
    before = fold(layer_of([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert before.output_class.tolist() == [0, 0, 1, 1]
    layer = fold(
        Layer.from_edges(
            4, 2, np.array([0, 1, 2, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1, 1]),
            np.full(7, 0.5), np.array([-1.0, 0.25]),
        )
    )  # fmt: skip
    network = make_network([before, layer], 4.0)
    tables = gather_tables(layers_of(network), 1, NEVER)
    assert tables is not None
    # 0.5 * (1 + 1 + 2) - 1 and 0.5 * (1 + 1 + 2 + 2) + 0.25
    assert [out.tolist() for out in run_tables(tables, 1, np.array([1.0, 2.0]), 4.0)] == [
        [1.0, 3.25]
    ]
    assert tables.work == [4 + 3]


@pytest.mark.parametrize("reason", ["weights", "terms", "degree"])
def test_other_layers_are_left_to_the_general_kernel(reason: str) -> None:
    before = fold(layer_of(np.eye(64)))
    matrix = np.eye(64)
    if reason == "weights":
        matrix[0, 0] = 2.0
    elif reason == "terms":
        matrix[0, :3] = 1.0
    else:  # one class of forty values
        matrix = np.zeros((64, 64))
        matrix[0, :40] = 1.0
    layers = layers_of(make_network([before, fold(layer_of(matrix))], 4.0))
    assert gather_tables(layers, 1, NEVER) is None
