"""What kernels/folded_gather.cu takes: layers that add up few values a class, then two sums a row.

Made from folded layers. Two things are done here once, so that the kernel need not do them for
every image:

- Neighbouring layers that gather alike share a gather, which a thread then holds in registers. A
  layer whose input classes are unions of the classes gathered before takes the finer sums, and
  adds them up in its core: the same sums in another order.
- Rows are given to threads, and their terms are ordered, so that neighbouring threads read
  different banks of shared memory (cuda_bank_layout.py).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from spdnn_cli.engines.cuda.bank_layout import lay_out
from spdnn_cli.network.layers import FoldedLayer, Int32, Int64, Layer

LAYER = np.dtype(
    {
        "names": ["outputs_start", "gather", "outputs", "weight", "final"],
        "formats": ["i8", "i4", "i4", "f4", "i4"],
        "itemsize": 32,
    }
)
"""The structure `Layer` of kernels/folded_gather.cu."""
BANK_WORDS = 32
"""Floats that one pass over the banks of shared memory moves."""
WARP = 32
TEAMS_OF_WARPS = 4
"""Teams of a block where a team is a warp."""
MOST_TERMS = 32


@dataclass(frozen=True)
class GatherShape:
    """How many images a team of threads takes at a time, and how rows are shared out.

    Attributes:
        images: of a team: a slot of shared memory holds a value of each.
        rows_of_thread: rows that a thread computes.
        team: threads.
    """

    images: int
    rows_of_thread: int
    team: int

    @property
    def slots(self) -> int:
        """Rows that a team has room for."""
        return self.rows_of_thread * self.team

    @property
    def teams(self) -> int:
        """Teams of a block."""
        return TEAMS_OF_WARPS if self.team == WARP else 1

    @property
    def lanes(self) -> int:
        """Threads whose accesses to slots are one pass over the banks of shared memory."""
        return BANK_WORDS // self.images


ONE_IMAGE = (
    GatherShape(1, 2, 32),
    GatherShape(1, 2, 128),
    GatherShape(1, 4, 256),
    GatherShape(1, 4, 1024),
    GatherShape(1, 8, 1024),
)
SEVERAL_IMAGES = (
    GatherShape(4, 1, 64),
    GatherShape(2, 2, 128),
    GatherShape(4, 4, 256),
    GatherShape(4, 4, 1024),
)
"""Shapes by the number of rows: the first one that has room for them. An image alone where images
may finish early: nothing is read for those that have left. Several where all stay to the end: fewer
reads of tables, fewer barriers. docs/benchmarks.md has what others took."""


@dataclass(frozen=True, eq=False)
class Gather:
    """Sums over classes of neurons.

    Attributes:
        columns: int32 (terms): the values that a class adds up, class after class; a value that
            several neurons of a class have is there as often.
        offsets: int64 (rows + 1): where the terms of each class start.
        classes: int32 (neurons): the class of each neuron; -1: none.
        values: int32 (neurons): the value of each neuron.
        places: int32 (rows): where in shared memory the sum of each class lies.
    """

    columns: Int32
    offsets: Int64
    classes: Int32
    values: Int32
    places: Int32

    @property
    def rows(self) -> int:
        """Number of classes."""
        return len(self.places)

    @classmethod
    def of(cls, layer: FoldedLayer, values: Int32, core: Any) -> Gather:
        """The gather of a layer whose input neuron i has value number `values[i]`."""
        members = np.argsort(layer.input_class, kind="stable")
        members = members[np.count_nonzero(layer.input_class < 0) :]
        offsets = np.concatenate([[0], np.cumsum(layer.input_class_sizes)])
        places = _places(core, layer.core.inputs)
        return cls(values[members], offsets, layer.input_class, values, places)


@dataclass(frozen=True, eq=False)
class GatherTables:
    """The kernel's tables and compile-time numbers.

    Attributes:
        layers: `LAYER`s, from the network's first layer on.
        indices: uint16 (gathers, rows_of_thread, terms / 8, team, 8): slots to add up.
        places: uint32 (gathers, rows_of_thread, team): slot of the sum.
        outputs: uint32 (rows of all layers, 2): the two slots to add, 16 bits each; the bias.
        work: for each layer from the kernel's first on, its adds and multiply-adds for an image.
        terms: of a row, with padding.
        shape: of the teams.
    """

    layers: Any
    indices: Any
    places: Any
    outputs: Any
    work: list[int]
    terms: int
    shape: GatherShape

    @property
    def macros(self) -> dict[str, int]:
        """What the kernel is compiled with."""
        shape = self.shape
        rows = {"TERMS": self.terms, "ROWS": shape.rows_of_thread}
        return rows | {"TEAM": shape.team, "IMAGES": shape.images}

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.shape.teams * self.shape.team

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: of each team values and sums, and two more slots of each."""
        return self.shape.teams * 2 * 4 * self.shape.images * (self.shape.slots + 2)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What goes to the device, in the kernel's order."""
        return self.layers.view(np.uint8), self.indices, self.places, self.outputs


def gather_tables(layers: list[FoldedLayer], first: int, final: Any) -> GatherTables | None:
    """The tables of the layers from number `first` on; None where the kernel cannot run them.

    Args:
        layers: the network's layers, from its first on.
        first: the first one that the kernel is to run; at least 1.
        final: bool (more than layers): entry l: an image saturated before layer l may leave.
    """
    table = np.zeros(len(layers), LAYER)
    gathers: list[Gather] = []
    cores: list[Any] = []
    for k in range(first, len(layers)):
        layer, values = layers[k], layers[k - 1].output_class
        weights, core = layer.core.weights, _two_terms(layer.core)
        if core is None or layer.core.edges == 0 or np.ptp(weights) != 0:
            return None
        shared = _shared_gather(gathers[-1], layer, values, core) if gathers else None
        if shared is None:
            gathers.append(Gather.of(layer, values, core))
        cores.append(core if shared is None else shared)
        table[k]["gather"], table[k]["outputs"] = len(gathers) - 1, len(core)
        table[k]["weight"], table[k]["final"] = weights[0], final[k + 1]
    may_finish = np.any(final[first + 1 : len(layers) + 1])
    shapes = ONE_IMAGE if may_finish else SEVERAL_IMAGES
    if not cores:
        return None
    entering = layers[first - 1].core.outputs
    return _tables(layers[first:], table, gathers, cores, first, entering, shapes)


def _shared_gather(held: Gather, layer: FoldedLayer, values: Int32, core: Any) -> Any | None:
    """The core of a layer on the sums of `held`; None: they do not serve it."""
    if not _equal(held.values, values):
        return None
    if _equal(held.classes, layer.input_class):
        return core
    wired = held.classes >= 0
    coarse = np.full(held.rows, -1, np.int32)  # the layer's class that holds a class of `held`
    coarse[held.classes[wired]] = layer.input_class[wired]
    fits = np.array_equal(coarse[held.classes[wired]], layer.input_class[wired])
    if not fits or np.any(layer.input_class[~wired] >= 0):
        return None
    fine = np.flatnonzero(coarse >= 0)
    members = sparse.csr_matrix(
        (np.ones(len(fine)), (coarse[fine], fine)), shape=(layer.core.inputs, held.rows)
    )
    of_core = (layer.core.weights, layer.core.columns, layer.core.row_offsets)
    refined = sparse.csr_matrix(of_core, shape=(layer.core.outputs, layer.core.inputs)) @ members
    refined.sort_indices()
    return _two_terms(
        Layer(held.rows, refined.indptr, refined.indices, refined.data, layer.core.bias)
    )


def _equal(one: Int32, other: Int32) -> bool:
    return one is other or np.array_equal(one, other)


def _two_terms(core: Layer) -> Any | None:
    """The columns of each row, int32 (rows, 2), -1 for none; None: a row has more than two."""
    degrees = np.diff(core.row_offsets)
    if degrees.max(initial=0) > 2:
        return None
    pairs = np.full((core.outputs, 2), -1, np.int32)
    rows = core.targets()
    pairs[rows, np.arange(core.edges) - core.row_offsets[rows]] = core.columns
    return pairs


def _places(core: Any, rows: int) -> Int32:
    """Where the sums lie: so that output row r reads the places r and r + t, if that can be.

    Then neighbouring threads read neighbouring places. It can be if each sum has two readers, a
    shift apart; otherwise sum c lies at place c.
    """
    plain = np.arange(rows, dtype=np.int32)
    if len(core) != rows or np.any(core < 0) or np.any(np.bincount(core.ravel()) != 2):
        return plain
    readers = np.argsort(core.ravel(), kind="stable").reshape(rows, 2) // 2
    near_first = readers[core[0]]
    shift = min(int(other) for other in near_first.ravel() if other != 0) if rows > 1 else 0
    partner = (plain + shift) % rows
    # The sum that rows r and r + t share is the second one of r and the own one of r + t.
    shared = np.where(
        (core == core[partner][:, :1]).any(axis=1), core[partner][:, 0], core[partner][:, 1]
    )
    own = shared[(plain - shift) % rows]
    found = np.sort(np.stack([own, shared], axis=1), axis=1)
    if np.array_equal(found, np.sort(core, axis=1)) and len(np.unique(own)) == rows:
        places = np.empty(rows, np.int32)
        places[own] = plain
        return places
    return plain


def _tables(
    layers: list[FoldedLayer],
    table: Any,
    gathers: list[Gather],
    cores: list[Any],
    first: int,
    entering: int,
    shapes: tuple[GatherShape, ...],
) -> GatherTables | None:
    """`entering`: values before the first of the layers; shared memory must hold them too."""
    rows = max([entering, *map(len, cores), *(gather.rows for gather in gathers)])
    longest = max(int(np.diff(gather.offsets).max(initial=0)) for gather in gathers)
    terms = next((t for t in (8, 16, MOST_TERMS) if t >= longest), None)
    shape = next((shape for shape in shapes if shape.slots >= rows), None)
    if terms is None or shape is None:
        return None
    slots = shape.slots
    indices = np.full((len(gathers), slots, terms), slots, np.uint16)  # `slots` holds zero
    places = np.full((len(gathers), slots), slots + 1, np.uint32)  # `slots` + 1 is never read

    def lay_out_gather(g: int) -> None:
        padded = _padded_rows(gathers[g], terms, slots)
        lay_out(padded, gathers[g].places, shape.lanes, indices[g], places[g])

    with ThreadPoolExecutor() as pool:
        list(pool.map(lay_out_gather, range(len(gathers))))
    threads = (len(gathers), shape.rows_of_thread, shape.team)
    by_thread = indices.reshape(*threads, terms // 8, 8).transpose(0, 1, 3, 2, 4)
    of_layer = [gathers[number] for number in table["gather"][first:]]
    table["outputs_start"][first:] = np.cumsum([0, *map(len, cores[:-1])])
    outputs = [
        _outputs(core, gather.places, layer.core.bias, slots)
        for core, gather, layer in zip(cores, of_layer, layers, strict=True)
    ]
    work = [
        len(gather.columns) + int(np.count_nonzero(core >= 0))
        for core, gather in zip(cores, of_layer, strict=True)
    ]
    return GatherTables(
        table,
        np.ascontiguousarray(by_thread),
        places.reshape(threads),
        np.concatenate(outputs),
        work,
        terms,
        shape,
    )


def _padded_rows(gather: Gather, terms: int, zero: int) -> Any:
    """The terms of each class, uint16 (rows, terms), filled up with `zero`."""
    degrees = np.diff(gather.offsets)
    row = np.repeat(np.arange(gather.rows), degrees)
    padded = np.full((gather.rows, terms), zero, np.uint16)
    padded[row, np.arange(len(row)) - gather.offsets[row]] = gather.columns
    return padded


def _outputs(pairs: Any, places: Int32, bias: Any, zero: int) -> Any:
    """The rows of a layer as `GatherTables.outputs` has them."""
    slots = np.where(pairs >= 0, places[pairs], zero).astype(np.uint32)
    # Row j reads place j first where it reads it at all: neighbours then read neighbouring places.
    swapped = slots[:, 1] == np.arange(len(slots))
    slots[swapped] = slots[swapped, ::-1]
    packed = slots[:, 0] | slots[:, 1] << np.uint32(16)
    return np.stack([packed, np.ascontiguousarray(bias, np.float32).view(np.uint32)], axis=1)
