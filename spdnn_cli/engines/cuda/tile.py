"""The paper's staged layout: a plain `Layer` becomes a `TiledLayer`, as kernels/tiled.cu reads it.

Two steps, both for any layer:

1. `order_outputs` puts output neurons with alike inputs next to each other. A block of outputs then
   needs fewer inputs, and threads next to each other read the same ones. The next layer's `map`
   says where its inputs lie, so a new order costs nothing when the network runs.
2. `tile_layer` cuts the ordered outputs into blocks, lists the inputs of each block (its
   footprint), cuts that list into buffers, and writes the edges for each warp and buffer in
   sliced ELLPACK.

All loops are plain Numba code without the GIL: layers are prepared side by side, one a thread.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spdnn_cli.errors import EngineError
from spdnn_cli.jit import njit
from spdnn_cli.network.fold import mix
from spdnn_cli.network.layers import Float32, Int32, Int64, Layer

WARP = 32
STEPS = 4
"""Steps of a batch: the weights that a lane loads at once."""
MOST_SLOTS = 1 << 16
"""Slots of a buffer are numbered with 16 bits."""


@dataclass(frozen=True)
class TileShape:
    """The compile-time numbers of kernels/tiled.cu; its static_asserts say which go together.

    Attributes:
        minibatch: images that a block works on at a time.
        outputs: output neurons that a thread computes.
        blocksize: threads of a block.
        panel: images that lie interleaved in device memory.
        vector: images that one load moves: 16 bytes of them, or 1.
        buffer_bytes: shared memory that a block may use for its buffer; no macro.
    """

    minibatch: int
    outputs: int
    blocksize: int
    panel: int = 8
    vector: int = 4
    buffer_bytes: int = 48 << 10

    def __post_init__(self) -> None:
        """Check the kernel's rules (kernels/README.md has the reasons).

        Raises:
            EngineError: the numbers do not go together.
        """
        rules = {
            "vector is 1 or 4": self.vector in (1, 4),
            "panel is a multiple of vector": self.panel > 0 and self.panel % self.vector == 0,
            "minibatch is a multiple of panel, 32 at most": (
                0 < self.minibatch <= 32 and self.minibatch % max(self.panel, 1) == 0
            ),
            "outputs is 1, 2 or 4": self.outputs in (1, 2, 4),
            "outputs x minibatch is 128 at most": self.outputs * self.minibatch <= 128,
            "blocksize is a multiple of 32, from minibatch to 1024": (
                self.blocksize % 32 == 0 and self.minibatch <= self.blocksize <= 1024
            ),
            "a buffer holds a slot at least": self.buffer_bytes >= self.slot_bytes,
        }
        broken = [rule for rule, kept in rules.items() if not kept]
        if broken:
            raise EngineError(f"no kernel has the tile shape {asdict(self)}", hint=f"{broken[0]}.")

    @property
    def macros(self) -> dict[str, int]:
        """The -D options of the kernel."""
        return {
            "MINIBATCH": self.minibatch,
            "PANEL": self.panel,
            "VECTOR": self.vector,
            "BLOCKSIZE": self.blocksize,
            "OUTPUTS": self.outputs,
        }

    @property
    def block_outputs(self) -> int:
        """Output neurons of a block."""
        return self.blocksize * self.outputs

    @property
    def slot_bytes(self) -> int:
        """Shared memory of one slot, as in the kernel: an odd number of vectors."""
        return 4 * self.vector * (self.minibatch // self.vector | 1)

    @property
    def slots(self) -> int:
        """Inputs that a buffer can hold."""
        return min(self.buffer_bytes // self.slot_bytes, MOST_SLOTS)


@dataclass(frozen=True)
class Tiling:
    """How to tile.

    Attributes:
        shape: the shape.
        reorder: whether outputs are reordered so that neighbours share inputs.
    """

    shape: TileShape
    reorder: bool = True

    @property
    def settings(self) -> dict[str, int | bool]:
        """For the record of a run."""
        return {**asdict(self.shape), "reorder": self.reorder}


def parse_tiling(text: str) -> Tiling:
    """The tiling in an option's text: "minibatch=12,outputs=1,blocksize=256,buffer=24KB".

    The numbers are those of `TileShape`, `buffer` with a unit, and `reorder` yes or no. `panel`,
    `vector`, `buffer` and `reorder` have defaults.

    Raises:
        EngineError: a name or a number is not right, or they do not go together.
    """
    numbers: dict[str, int] = {}
    reorder = True
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        size = re.fullmatch(r"(\d+)([kK]B)?", value)
        if name == "reorder" and value in ("yes", "no"):
            reorder = value == "yes"
        elif name == "buffer" and size:
            numbers["buffer_bytes"] = int(size[1]) * (1024 if size[2] else 1)
        elif name in ("minibatch", "outputs", "blocksize", "panel", "vector") and value.isdigit():
            numbers[name] = int(value)
        else:
            raise EngineError(
                f"{part.strip()!r} is no part of a tile shape",
                hint="Say, for example, minibatch=12,outputs=1,blocksize=256,panel=4,vector=4,"
                "buffer=24KB,reorder=no.",
            )
    missing = {"minibatch", "outputs", "blocksize"} - numbers.keys()
    if missing:
        raise EngineError(
            f"the tile shape {text!r} lacks {', '.join(sorted(missing))}",
            hint="minibatch, outputs and blocksize have no defaults.",
        )
    return Tiling(TileShape(**numbers), reorder)


@dataclass(frozen=True, eq=False)
class TiledLayer:
    """A layer as kernels/tiled.cu reads it; the names of the tables are explained there.

    Attributes:
        shape: what it was tiled for.
        inputs: number of input neurons of the plain layer.
        outputs: number of output neurons of the plain layer.
        edges: number of edges of the plain layer.
        position: int32 (outputs): where output neuron j is stored.
        buffdispl, mapdispl, map, warpdispl: int32.
        warpindex: uint16 (batches, 32, STEPS).
        warpvalue: float32 (batches, shape.outputs, 32, STEPS).
        bias: float32 (stored_outputs): in the order of storage, 0 where no neuron is stored.
    """

    shape: TileShape
    inputs: int
    outputs: int
    edges: int
    position: Int32
    buffdispl: Int32
    mapdispl: Int32
    map: Int32
    warpdispl: Int32
    warpindex: NDArray[np.uint16]
    warpvalue: Float32
    bias: Float32

    @property
    def tables(self) -> tuple[NDArray[Any], ...]:
        """The tables in the order of the kernel's parameters."""
        return (
            self.buffdispl,
            self.mapdispl,
            self.map,
            self.warpdispl,
            self.warpindex,
            self.warpvalue,
            self.bias,
        )

    @property
    def stored_outputs(self) -> int:
        """Places for outputs: a multiple of a block."""
        return len(self.bias)

    @property
    def largest_buffer(self) -> int:
        """Slots of the fullest buffer."""
        return int(np.diff(self.mapdispl).max(initial=0))

    @property
    def inputs_staged(self) -> float:
        """How many times the layer reads each input neuron from device memory, on average."""
        return len(self.map) / max(self.inputs, 1)

    @property
    def weights_filled(self) -> float:
        """Stored weights, zeros of padding included, for one edge."""
        return self.warpvalue.size / max(self.edges, 1)


def order_outputs(layer: Layer) -> Int32:
    """An order of the output neurons in which neighbours share inputs, int32 (outputs).

    Neurons with the same inputs come together as a group. A walk orders the groups: from one to the
    first unvisited group that shares an input with it, or else to the first unvisited one at all.
    It takes time linear in the number of edges.
    """
    group, leader = _group_rows(layer.row_offsets, layer.columns)
    place = _walk_groups(layer.row_offsets, layer.columns, leader, layer.inputs)
    return np.argsort(place[group], kind="stable").astype(np.int32)


def positions_of(order: Int32, shape: TileShape) -> Int32:
    """Where the neuron order[q] is stored, int32 (outputs), by neuron.

    Thread t of a block computes the neurons order[t * OUTPUTS ...]; its r-th is stored at
    (warp * OUTPUTS + r) * 32 + lane, as the kernel says.
    """
    block, place = np.divmod(np.arange(len(order)), shape.block_outputs)
    thread, r = np.divmod(place, shape.outputs)
    warp, lane = np.divmod(thread, WARP)
    position = np.empty(len(order), np.int32)
    position[order] = block * shape.block_outputs + (warp * shape.outputs + r) * WARP + lane
    return position


def tile_layer(
    layer: Layer, shape: TileShape, order: Int32 | None = None, input_position: Int32 | None = None
) -> TiledLayer:
    """Write a layer's tables.

    Args:
        layer: the plain layer.
        shape: the tile shape.
        order: int32 (outputs): a permutation of the outputs; None: as they are.
        input_position: int32 (inputs): where each input neuron is stored; None: in their order.
    """
    if order is None:
        order = np.arange(layer.outputs, dtype=np.int32)
    if input_position is None:
        input_position = np.arange(layer.inputs, dtype=np.int32)
    blocks = -(-layer.outputs // shape.block_outputs)
    stored = int(input_position.max(initial=0)) + 1
    edges = _Edges(layer.row_offsets, layer.columns, layer.weights, order, input_position)
    footprints = _Footprints(*_footprints(edges, stored, blocks, shape.block_outputs, shape.slots))
    warpdispl, warpindex, warpvalue = _slices(
        edges, footprints, stored, shape.blocksize // WARP, shape.outputs
    )
    position = positions_of(order, shape)
    bias = np.zeros(blocks * shape.block_outputs, np.float32)
    bias[position] = layer.bias
    return TiledLayer(
        shape, layer.inputs, layer.outputs, layer.edges, position,
        *footprints, warpdispl, warpindex, warpvalue, bias,
    )  # fmt: skip


# --- order ---------------------------------------------------------------------------------------


@njit(nogil=True)
def _group_rows(row_offsets, columns):  # type: ignore[no-untyped-def]
    """Group rows with equal columns: the group of each row, and a row of each group.

    Rows are told apart by a 64-bit hash; should two meet, the order is a little worse, no more.
    """
    rows = len(row_offsets) - 1
    size = 1
    while size < 2 * rows:
        size *= 2
    keys, groups = np.empty(size, np.uint64), np.full(size, -1, np.int32)
    group, leader = np.empty(rows, np.int32), np.empty(rows, np.int32)
    count = 0
    for row in range(rows):
        key = np.uint64(0)
        for k in range(row_offsets[row], row_offsets[row + 1]):
            key = np.uint64(mix(key ^ np.uint64(columns[k])))
        place = np.int64(key & np.uint64(size - 1))
        while groups[place] >= 0 and keys[place] != key:
            place = (place + 1) & (size - 1)
        if groups[place] < 0:
            keys[place], groups[place] = key, count
            leader[count] = row
            count += 1
        group[row] = groups[place]
    return group, leader[:count]


@njit(nogil=True)
def _walk_groups(row_offsets, columns, leader, inputs):  # type: ignore[no-untyped-def]
    """The place of each group in the walk of `order_outputs`."""
    groups = len(leader)
    # The groups that read each input: reader[cursor[i]:end[i]], and the cursor only moves on.
    end = np.zeros(inputs + 1, np.int64)
    for g in range(groups):
        for k in range(row_offsets[leader[g]], row_offsets[leader[g] + 1]):
            end[columns[k] + 1] += 1
    end = np.cumsum(end)
    cursor = end[:-1].copy()
    end = end[:-1].copy()
    reader = np.empty(0 if inputs == 0 else np.int64(len(columns)), np.int32)
    for g in range(groups):
        for k in range(row_offsets[leader[g]], row_offsets[leader[g] + 1]):
            reader[end[columns[k]]] = g
            end[columns[k]] += 1
    place = np.full(groups, -1, np.int32)
    current, unvisited = -1, 0
    for step in range(groups):
        found = -1
        if current >= 0:
            for k in range(row_offsets[leader[current]], row_offsets[leader[current] + 1]):
                i = columns[k]
                while cursor[i] < end[i] and place[reader[cursor[i]]] >= 0:
                    cursor[i] += 1
                if cursor[i] < end[i]:
                    found = reader[cursor[i]]
                    break
        if found < 0:
            while place[unvisited] >= 0:
                unvisited += 1
            found = unvisited
        place[found] = step
        current = found
    return place


# --- tables --------------------------------------------------------------------------------------


class _Edges(NamedTuple):
    """A layer's edges, the order of its outputs, and where its inputs are stored."""

    row_offsets: Int64
    columns: Int32
    weights: Float32
    order: Int32
    input_position: Int32


class _Footprints(NamedTuple):
    """`buffdispl`, `mapdispl` and `map`."""

    buffdispl: Int32
    mapdispl: Int32
    map: Int32


@njit(nogil=True)
def _footprints(edges, stored, blocks, block_outputs, slots):  # type: ignore[no-untyped-def]
    """`buffdispl`, `mapdispl` and `map`: the inputs of each block, ascending by where they lie."""
    needed_by = np.full(stored, -1, np.int32)
    map_ = np.empty(len(edges.columns), np.int32)
    buffdispl = np.zeros(blocks + 1, np.int32)
    mapdispl = [np.int32(0)]
    size = 0
    for block in range(blocks):
        first = size
        for q in range(block * block_outputs, min((block + 1) * block_outputs, len(edges.order))):
            row = edges.order[q]
            for k in range(edges.row_offsets[row], edges.row_offsets[row + 1]):
                position = edges.input_position[edges.columns[k]]
                if needed_by[position] != block:
                    needed_by[position] = block
                    map_[size] = position
                    size += 1
        map_[first:size].sort()
        for start in range(first, size, slots):
            mapdispl.append(np.int32(min(start + slots, size)))
        buffdispl[block + 1] = len(mapdispl) - 1
    return buffdispl, np.array(mapdispl), map_[:size].copy()


@njit(nogil=True)
def _slices(edges, footprints, stored, warps, outputs):  # type: ignore[no-untyped-def]
    """`warpdispl`, `warpindex` and `warpvalue`: the batches of every warp in every buffer."""
    buffdispl, mapdispl = footprints.buffdispl, footprints.mapdispl
    slots = 1
    for f in range(len(mapdispl) - 1):
        slots = max(slots, mapdispl[f + 1] - mapdispl[f])
    slot_of, entry = np.empty(stored, np.int32), np.full(slots, -1, np.int32)
    steps = np.zeros(WARP, np.int32)
    index = np.empty((WARP, slots), np.uint16)
    value = np.empty((WARP, slots, outputs), np.float32)
    warpdispl = np.zeros((len(mapdispl) - 1) * warps + 1, np.int32)
    room = len(edges.columns) // (WARP * outputs * STEPS) + 1
    warpindex = np.zeros((room, WARP, STEPS), np.uint16)
    warpvalue = np.zeros((room, outputs, WARP, STEPS), np.float32)
    for block in range(len(buffdispl) - 1):
        start = mapdispl[buffdispl[block]]
        for k in range(start, mapdispl[buffdispl[block + 1]]):
            slot_of[footprints.map[k]] = k - start
        for slice_ in range(buffdispl[block] * warps, buffdispl[block + 1] * warps):
            low, high = mapdispl[slice_ // warps] - start, mapdispl[slice_ // warps + 1] - start
            for lane in range(WARP):
                first = ((block * warps + slice_ % warps) * WARP + lane) * outputs
                last = min(first + outputs, len(edges.order))
                steps[lane] = _lane_steps(
                    edges, slot_of, low, high, first, last, entry, index[lane], value[lane]
                )
            used = warpdispl[slice_]
            warpdispl[slice_ + 1] = used + (steps.max() + STEPS - 1) // STEPS
            if warpdispl[slice_ + 1] > room:
                room = 2 * warpdispl[slice_ + 1]
                warpindex, warpvalue = _grown(warpindex, room), _grown(warpvalue, room)
            _write_slice(warpindex[used:], warpvalue[used:], steps, index, value)
    used = warpdispl[-1]
    return warpdispl, warpindex[:used].copy(), warpvalue[:used].copy()


@njit(nogil=True)
def _lane_steps(edges, slot_of, low, high, first, last, entry, index, value):  # type: ignore[no-untyped-def]
    """The steps of the thread that computes order[first:last], in the buffer low..high-1.

    `slot_of` tells where in the block's map an input is. Writes index[:n] (slot in the buffer) and
    value[:n] (a weight for each output); returns n. `entry` is scratch, -1 everywhere.
    """
    n = 0
    for q in range(first, last):
        row = edges.order[q]
        for k in range(edges.row_offsets[row], edges.row_offsets[row + 1]):
            slot = slot_of[edges.input_position[edges.columns[k]]] - low
            if 0 <= slot < high - low:
                if entry[slot] < 0:
                    entry[slot] = n
                    index[n] = slot
                    value[n, :] = 0.0
                    n += 1
                value[entry[slot], q - first] = edges.weights[k]
    for e in range(n):
        entry[index[e]] = -1
    return n


@njit(nogil=True)
def _write_slice(warpindex, warpvalue, steps, index, value):  # type: ignore[no-untyped-def]
    """Write the lists of a warp's lanes, each down its column.

    A list that differs from that of the lane before starts one step later, and wraps around: lists
    of one pattern would otherwise read slots of the same bank in every step.
    """
    shift = 0
    for lane in range(WARP):
        n = steps[lane]
        if lane > 0:
            same = n == steps[lane - 1]
            e = 0
            while same and e < n:
                same = index[lane, e] == index[lane - 1, e]
                e += 1
            shift += not same
        for e in range(n):
            batch, step = divmod((e + shift) % n, STEPS)
            warpindex[batch, lane, step] = index[lane, e]
            for r in range(value.shape[2]):
                row, place = divmod(step * value.shape[2] + r, STEPS)
                warpvalue[batch, row, lane, place] = value[lane, e, r]


@njit(nogil=True)
def _grown(array, rows):  # type: ignore[no-untyped-def]
    """A copy of `array` with `rows` rows, the new ones zero."""
    grown = np.zeros((rows, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
