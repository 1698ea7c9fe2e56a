"""The tables of all tiled layers: on the device, or streamed there from pinned memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.tile import TiledLayer, Tiling, order_outputs, positions_of, tile_layer
from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.network.fold import unfold
from spdnn_cli.network.layers import Bytes, FoldedLayer, Int32, Layer, Network

ALIGNMENT = 256
"""Bytes. Tables start at multiples of it."""
WEIGHTS_SHARE = 0.6
"""Weights stay on the device if they take no more than this share of the memory to use."""


@dataclass(frozen=True)
class LayerTables:
    """The tables of a tiled layer as one piece of memory, and the numbers that its launch needs.

    Attributes:
        offsets: where each table starts, in bytes.
        nbytes: their size together.
        inputs, outputs: stored neurons before and after the layer.
        blocks: blocks of outputs.
        shared_bytes: shared memory of a block.
    """

    offsets: tuple[int, ...]
    nbytes: int
    inputs: int
    outputs: int
    blocks: int
    shared_bytes: int


def tile_layers(network: Network, tiling: Tiling, options: EngineOptions) -> Iterator[TiledLayer]:
    """All layers, tiled, in order; several at a time, one per thread."""
    shape, at_a_time = tiling.shape, 2 * options.threads
    before: Int32 | None = None

    def ordered(folded: FoldedLayer) -> tuple[Layer, Int32]:
        layer = unfold(folded)
        return layer, order_outputs(layer) if tiling.reorder else np.arange(
            layer.outputs, dtype=np.int32
        )

    with ThreadPoolExecutor(options.threads) as pool:
        for first in range(0, network.depth, at_a_time):
            with options.stopwatch.stage("read"):
                folded = network.layers[first : first + at_a_time]
            with options.stopwatch.stage("prepare"):
                layers, orders = zip(*pool.map(ordered, folded), strict=True)
                positions = [before, *(positions_of(order, shape) for order in orders)]
                shapes = [shape] * len(layers)
                tiled = list(pool.map(tile_layer, layers, shapes, orders, positions[:-1]))
            yield from tiled
            before = positions[-1]


class WeightStore:
    """Holds the tables of a network, and brings them to where a kernel can read them.

    If they fit, they stay on the device. Otherwise they wait in pinned memory; two places on the
    device take them in turn, and a copy runs on a stream of its own, under the kernel of the layer
    before.

    Attributes:
        layers: what each launch needs to know.
        position: int32 (outputs): where the last layer's output neuron j is stored.
        resident: whether the tables stay on the device.
    """

    def __init__(
        self,
        network: Network,
        tiling: Tiling,
        options: EngineOptions,
        budget: int,
    ) -> None:
        """Tile the network's layers; `budget`: bytes of device memory to plan with."""
        self.layers: list[LayerTables] = []
        self._tables: list[Any] = []
        stored = None
        for tiled in tile_layers(network, tiling, options):
            tables = _describe(tiled, tiled.inputs if stored is None else stored)
            stored = tables.outputs
            if not self.layers:
                of_all = tables.nbytes * network.edges / max(tiled.edges, 1)
                self.resident = of_all <= WEIGHTS_SHARE * budget
            self.layers.append(tables)
            self.position = tiled.position
            with options.stopwatch.stage("upload"):
                self._keep(tiled, tables)
        if not self.resident:
            self._make_places()

    @property
    def bytes_on_device(self) -> int:
        """Bytes of device memory that the tables hold between runs."""
        tables = self._tables if self.resident else [self._places]
        return sum(int(table.nbytes) for table in tables)

    def fetch(self, k: int, stream: Any) -> int:
        """The device address of layer k's tables, for kernels put on `stream` from now on."""
        if self.resident:
            return int(self._tables[k].data.ptr)
        place, host = self._places[k % 2], self._tables[k]
        self._copies.wait_event(self._released[k % 2])
        place.data.copy_from_host_async(host.ctypes.data, host.nbytes, self._copies)
        self._arrived[k % 2].record(self._copies)
        stream.wait_event(self._arrived[k % 2])
        return int(place.data.ptr)

    def after(self, k: int) -> tuple[int, int]:
        """Device address and bytes of the tables after layer k's; (0, 0): none are there yet."""
        if not self.resident or k + 1 == len(self.layers):
            return 0, 0
        return int(self._tables[k + 1].data.ptr), self.layers[k + 1].nbytes

    def release(self, k: int, stream: Any) -> None:
        """Declare that no kernel put on `stream` from now on reads layer k's tables."""
        if not self.resident:
            self._released[k % 2].record(stream)

    def _keep(self, tiled: TiledLayer, tables: LayerTables) -> None:
        import cupy

        if self.resident:
            host = np.empty(tables.nbytes, np.uint8)
            _write_tables(tiled, tables, host)
            self._tables.append(cupy.asarray(host))
        else:
            memory = cupy.cuda.PinnedMemoryPointer(cupy.cuda.PinnedMemory(tables.nbytes), 0)
            host = np.frombuffer(memory, np.uint8, tables.nbytes)
            _write_tables(tiled, tables, host)
            self._tables.append(host)

    def _make_places(self) -> None:
        import cupy

        largest = max(layer.nbytes for layer in self.layers)
        self._places = cupy.empty((2, largest), np.uint8)
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._arrived, self._released = (
            [cupy.cuda.Event(disable_timing=True) for _ in range(2)] for _ in range(2)
        )


def _describe(tiled: TiledLayer, stored_inputs: int) -> LayerTables:
    sizes = [-(-table.nbytes // ALIGNMENT) * ALIGNMENT for table in tiled.tables]
    return LayerTables(
        offsets=tuple(int(end - size) for end, size in zip(np.cumsum(sizes), sizes, strict=True)),
        nbytes=sum(sizes),
        inputs=stored_inputs,
        outputs=tiled.stored_outputs,
        blocks=tiled.stored_outputs // tiled.shape.block_outputs,
        shared_bytes=tiled.largest_buffer * tiled.shape.slot_bytes,
    )


def _write_tables(tiled: TiledLayer, tables: LayerTables, memory: Bytes) -> None:
    for table, offset in zip(tiled.tables, tables.offsets, strict=True):
        memory[offset : offset + table.nbytes] = np.ascontiguousarray(table).view(np.uint8).ravel()
