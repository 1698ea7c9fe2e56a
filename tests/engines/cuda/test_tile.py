"""The tiled layout: every edge can be read back from its tables; outputs that share inputs meet."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import any_layers, layer_of, matrix_of, random_matrix
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines.cuda.tile import (
    STEPS,
    WARP,
    TiledLayer,
    TileShape,
    order_outputs,
    parse_tiling,
    tile_layer,
)
from spdnn_cli.errors import EngineError
from spdnn_cli.network.fold import unfold
from spdnn_cli.network.layers import Int32, Layer

Edges = dict[tuple[int, int], float]


def edges_of(layer: Layer) -> Edges:
    """Weights by (input, output)."""
    keys = zip(layer.columns.tolist(), layer.targets().tolist(), strict=True)
    return dict(zip(keys, layer.weights.tolist(), strict=True))


def decode(tiled: TiledLayer, input_position: Int32) -> Edges:
    """The edges in the tables, read as kernels/tiled.cu does."""
    shape = tiled.shape
    input_at = {int(place): i for i, place in enumerate(input_position)}
    output_at = {int(place): j for j, place in enumerate(tiled.position)}
    warps, edges = shape.blocksize // WARP, {}
    for block, buffer, warp in _slices(tiled):
        slots = tiled.map[tiled.mapdispl[buffer] : tiled.mapdispl[buffer + 1]]
        first, last = tiled.warpdispl[buffer * warps + warp :][:2]
        for batch in range(first, last):
            weights = tiled.warpvalue[batch].transpose(1, 0, 2).reshape(WARP, STEPS, shape.outputs)
            for lane, step, r in zip(*np.nonzero(weights), strict=True):
                place = block * shape.block_outputs + (warp * shape.outputs + r) * WARP + lane
                source = input_at[int(slots[tiled.warpindex[batch, lane, step]])]
                edge = source, output_at[int(place)]
                assert edge not in edges
                edges[edge] = float(weights[lane, step, r])
    return edges


def _slices(tiled: TiledLayer) -> list[tuple[int, int, int]]:
    """All (block, buffer, warp)."""
    return [
        (block, buffer, warp)
        for block in range(len(tiled.buffdispl) - 1)
        for buffer in range(tiled.buffdispl[block], tiled.buffdispl[block + 1])
        for warp in range(tiled.shape.blocksize // WARP)
    ]


@st.composite
def shapes(draw: st.DrawFn) -> TileShape:
    shape = TileShape(
        minibatch=draw(st.sampled_from([4, 8, 16])),
        outputs=draw(st.sampled_from([1, 2, 4])),
        blocksize=draw(st.sampled_from([32, 64])),
        panel=4,
    )
    slots = draw(st.sampled_from([1, 3, 1000]))
    return TileShape(**{**vars(shape), "buffer_bytes": slots * shape.slot_bytes})


@given(layer=any_layers(), shape=shapes(), data=st.data(), reorder=st.booleans())
def test_every_edge_is_there_once(
    layer: Layer, shape: TileShape, data: st.DataObject, reorder: bool
) -> None:
    spread = data.draw(st.permutations(range(layer.inputs + 5)))
    input_position = np.array(spread[: layer.inputs], np.int32)
    order = order_outputs(layer) if reorder else None
    tiled = tile_layer(layer, shape, order, input_position)
    assert decode(tiled, input_position) == edges_of(layer)
    assert np.array_equal(tiled.bias[tiled.position], layer.bias)
    assert np.count_nonzero(tiled.bias) == np.count_nonzero(layer.bias)
    assert tiled.stored_outputs % shape.block_outputs == 0
    assert tiled.largest_buffer <= shape.slots
    assert all(table.dtype in (np.int32, np.uint16, np.float32) for table in tiled.tables)


@given(layer=any_layers())
def test_an_order_is_a_permutation(layer: Layer) -> None:
    order = order_outputs(layer)
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == list(range(layer.outputs))


@pytest.mark.parametrize("reorder", [False, True])
def test_several_blocks_and_very_many_inputs(reorder: bool) -> None:
    """More than 65,536 inputs, 700 outputs in blocks of 256, buffers of 100 slots."""
    random = np.random.default_rng(3)
    inputs, outputs, edges = 70_000, 700, 5_000
    keys = random.choice(inputs * outputs, edges, replace=False)
    layer = Layer.from_edges(
        inputs, outputs, keys % inputs, keys // inputs, random.normal(size=edges), 0.5
    )
    shape = TileShape(16, 2, 128)
    shape = TileShape(16, 2, 128, buffer_bytes=100 * shape.slot_bytes)
    tiled = tile_layer(layer, shape, order_outputs(layer) if reorder else None)
    assert len(tiled.mapdispl) - 1 > len(tiled.buffdispl) - 1 == 3
    assert decode(tiled, np.arange(inputs, dtype=np.int32)) == edges_of(layer)


def test_tables_by_hand() -> None:
    """Two outputs, three inputs, one output a thread: a batch of four steps, two of them used."""
    layer = layer_of([[0, 2, 3], [5, 0, 0]], bias=np.array([-1.0, -2.0]))
    tiled = tile_layer(layer, TileShape(4, 1, 32, panel=4))
    assert tiled.buffdispl.tolist() == [0, 1]
    assert tiled.mapdispl.tolist() == [0, 3]
    assert tiled.map.tolist() == [0, 1, 2]
    assert tiled.warpdispl.tolist() == [0, 1]
    assert tiled.warpindex[0, 0].tolist() == [1, 2, 0, 0]
    assert tiled.warpvalue[0, 0, 0].tolist() == [2, 3, 0, 0]
    assert tiled.warpvalue[0, 0, 1].tolist() == [5, 0, 0, 0]
    assert tiled.bias.tolist() == [-1, -2] + [0] * 30


def test_twins_share_their_inputs() -> None:
    """On the challenge's layers a reordered block needs few inputs, and no weight is padding."""
    layer = unfold(next(official_layers(1024, 3, 4)))
    shape = TileShape(16, 4, 64)
    plain, ordered = tile_layer(layer, shape), tile_layer(layer, shape, order_outputs(layer))
    assert plain.inputs_staged == 4.0
    assert ordered.inputs_staged <= 1.1
    assert ordered.weights_filled == 1.0


def test_a_layer_without_edges() -> None:
    layer = layer_of(random_matrix(np.random.default_rng(0), 5, 7, 0.0, np.ones(1)), bias=-1.0)
    tiled = tile_layer(layer, TileShape(16, 4, 64), order_outputs(layer))
    assert not matrix_of(layer).any()
    assert tiled.buffdispl.tolist() == [0, 0]
    assert len(tiled.warpindex) == len(tiled.warpvalue) == 0


def test_a_tiling_that_was_asked_for() -> None:
    text = "minibatch=12, outputs=1,blocksize=256,panel=4,buffer=24KB,reorder=no"
    tiling = parse_tiling(text)
    assert tiling.shape == TileShape(12, 1, 256, panel=4, vector=4, buffer_bytes=24 << 10)
    assert not tiling.reorder
    assert tiling.settings == {
        "minibatch": 12,
        "outputs": 1,
        "blocksize": 256,
        "panel": 4,
        "vector": 4,
        "buffer_bytes": 24 << 10,
        "reorder": False,
    }
    assert parse_tiling("minibatch=8,outputs=2,blocksize=64").reorder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minibatch=8,output=2,blocksize=64", "'output=2' is no part of a tile shape"),
        ("minibatch=8,blocksize=64", "lacks outputs"),
        ("minibatch=9,outputs=2,blocksize=64", "minibatch is a multiple of panel, 32 at most"),
        ("minibatch=8,outputs=2,blocksize=64,vector=2", "vector is 1 or 4"),
        ("minibatch=1,outputs=2,blocksize=64,panel=1,vector=1,buffer=2", "a buffer holds a slot"),
        ("minibatch=8,outputs=2,blocksize=64,buffer=24MB", "'buffer=24MB' is no part"),
    ],
)
def test_a_tiling_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        parse_tiling(text)
