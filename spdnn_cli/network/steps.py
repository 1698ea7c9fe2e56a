"""From layers to steps: what a folded engine computes between the class values of two layers.

After layer k an image is one value for each output class. Layer k + 1 wants one sum for each of its
input classes, and then applies its core. Both are sparse products:

    sums = gather @ values          gather[c, o] = neurons that are in output class o of layer k
                                    and in input class c of layer k + 1
    values = clip(core @ sums + bias)

or, where that has no more terms, one product with core @ gather. The choice is made layer by
layer: on the challenge's first block one product of 2 terms an output, later 16 adds and 2
multiply-adds. Nothing is lost: each edge of the plain network is a term, alone or with its twins.

Where the sums of twins could overflow float32 while those of the plain layer do not, each edge is a
term of its own, in the plain layer's order (`plain_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from spdnn_cli.network.fold import unfold
from spdnn_cli.network.layers import (
    Features,
    Float32,
    FoldedLayer,
    Int32,
    Int64,
    Layer,
    Network,
)


@dataclass(frozen=True, eq=False)
class Product:
    """A sparse matrix (rows x columns), CSR.

    Columns ascend in a row, none is there twice; except where a step is plain (`plain_step`).

    Attributes:
        columns: number of columns.
        offsets: int64 (rows + 1).
        indices: int32 (terms).
        weights: float32 (terms).
    """

    columns: int
    offsets: Int64
    indices: Int32
    weights: Float32

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    @property
    def terms(self) -> int:
        """Number of multiply-adds that it takes for an image."""
        return len(self.indices)

    @cached_property
    def weight(self) -> float | None:
        """The weight that all terms share; None where they differ."""
        return float(self.weights[0]) if self.terms and np.ptp(self.weights) == 0 else None

    @cached_property
    def shift(self) -> int | None:
        """t, where row r has just the columns r and (r + t) mod `columns`; None: another shape."""
        if self.terms != 2 * self.rows or not np.all(np.diff(self.offsets) == 2):
            return None
        pairs = self.indices.reshape(-1, 2).astype(np.int64)
        own = np.arange(self.rows)
        partner = np.where(pairs[:, 0] == own, pairs[:, 1], pairs[:, 0])
        if not np.all((pairs == own[:, None]).any(axis=1)) or self.rows == 0:
            return None
        shifts = (partner - own) % self.columns
        return int(shifts[0]) if np.ptp(shifts) == 0 else None

    @cached_property
    def groups(self) -> int | None:
        """g, where `columns` = g * `rows` and row r adds up the columns r, r + rows, ... once each.

        None: another shape.
        """
        if self.rows == 0 or self.columns % self.rows or self.weight != 1.0:
            return None
        groups = self.columns // self.rows
        if not np.all(np.diff(self.offsets) == groups):
            return None
        wanted = np.arange(self.columns).reshape(groups, self.rows).T.ravel()
        return groups if np.array_equal(self.indices, wanted) else None


@dataclass(frozen=True, eq=False)
class Step:
    """One layer on class values: `gather` where it is not None, then `apply`, bias and clip.

    `bias` is float32 (apply.rows); `output_class` (int32, neurons) says which value each output
    neuron has.
    """

    gather: Product | None
    apply: Product
    bias: Float32
    output_class: Int32

    @property
    def terms(self) -> int:
        """Adds and multiply-adds that the step takes for an image."""
        return self.apply.terms + (0 if self.gather is None else self.gather.terms)

    @cached_property
    def uniform_bias(self) -> float | None:
        """The bias that all values share; None where they differ."""
        return float(self.bias[0]) if len(self.bias) and np.ptp(self.bias) == 0 else None


LARGEST_INPUT = 1e20
"""Inputs are taken to be no larger than this; `Steps.suit` is for those that are."""


class Steps:
    """The steps of a network, made in order, layer by layer, as far as they are asked for."""

    def __init__(self, ymax: float = 1.0) -> None:
        """Begin with no steps; `ymax` is where the network clips values."""
        self.made: list[Step] = []
        self._ymax = ymax

    def extend(self, layers: list[FoldedLayer]) -> None:
        """Make the steps of the next layers."""
        for layer in layers:
            values = self.made[-1].output_class if self.made else np.arange(layer.inputs)
            largest = self._ymax if self.made else LARGEST_INPUT
            self.made.append(make_step(layer, np.asarray(values, np.int32), largest))

    def suit(self, features: Features, layers: Sequence[FoldedLayer]) -> bool:
        """Make the first step, of `layers[0]`, plain where these inputs need it; tells whether."""
        if features.largest <= LARGEST_INPUT:
            return False
        self.made[0] = plain_step(layers[0], np.arange(features.neurons, dtype=np.int32))
        return True


LARGEST_SUM = float(np.finfo(np.float32).max) / 2
"""Sums whose terms' sizes add up to less stay finite in float32, in any order."""
LARGEST_UNIT = 1000
MOST_GROUPS = 31
"""Groups of inputs whose counts the shift kernels add up in five bit planes."""


def leading_shift_layers(steps: list[Step]) -> list[Step]:
    """The steps from the first on in which value r depends on the values r and r + t alone.

    The first must gather groups of inputs (`Product.groups`), the others nothing; weights and bias
    are uniform, and wake no dead image. All have as many columns as the first; only the last, if it
    is not the first, may have fewer rows.
    """
    if (
        not steps
        or steps[0].gather is None
        or not 1 <= (steps[0].gather.groups or 0) <= MOST_GROUPS
    ):
        return []
    width = steps[0].gather.rows
    leading: list[Step] = []
    for step in steps:
        narrows = step.apply.rows != width
        misfits = narrows if not leading else step.gather is not None
        if misfits or step.apply.columns != width or not _is_shift_layer(step):
            break
        leading.append(step)
        if narrows:
            break
    return leading


def fixed_point_unit(leading: list[Step], ymax: float) -> int | None:
    """The smallest q for which all numbers of shift layers are multiples of 1/q.

    The first layer's weight, every bias and `ymax` must be multiples of 1/q to the last bit of
    float32, and further weights 1; then every value is a multiple. None: no q up to
    `LARGEST_UNIT`, or the sums would not fit in 16 bits.

    On the challenge's networks the weight is 1/16, further weights are 16 twins x 1/16, and the
    biases are multiples of 0.05: q is 80.
    """
    if any(step.apply.weight != 1.0 for step in leading[1:]):
        return None
    numbers = [leading[0].apply.weight, ymax, *(step.uniform_bias for step in leading)]
    exact = np.array(numbers, np.float32)
    for unit in range(1, LARGEST_UNIT + 1):
        units = np.rint(exact.astype(np.float64) * unit)
        if np.array_equal((units / unit).astype(np.float32), exact):
            largest_sum = max(2 * MOST_GROUPS * units[0], 2 * units[1])
            return unit if largest_sum + np.abs(units).max() < 2**15 else None
    return None


def _is_shift_layer(step: Step) -> bool:
    weight, bias = step.apply.weight, step.uniform_bias
    if step.apply.shift is None or weight is None or bias is None:
        return False
    return weight > 0 and bias <= 0


def make_step(layer: FoldedLayer, value_of: Int32, largest: float = 1.0) -> Step:
    """The step of a layer whose input neuron i has value number `value_of[i]`.

    No value is larger than `largest`.
    """
    core = layer.core
    if _may_overflow(layer, largest):
        return plain_step(layer, value_of)
    wired = layer.input_class >= 0
    values = int(value_of.max(initial=-1)) + 1
    gather = sparse.csr_matrix(
        (np.ones(np.count_nonzero(wired)), (layer.input_class[wired], value_of[wired])),
        shape=(core.inputs, values),
    )
    apply = sparse.csr_matrix(
        (core.weights.astype(np.float64), core.columns, core.row_offsets),
        shape=(core.outputs, core.inputs),
    )
    whole = apply @ gather
    if whole.nnz <= gather.nnz + apply.nnz:
        return Step(None, _product(whole), core.bias, layer.output_class)
    return Step(_product(gather), _product(apply), core.bias, layer.output_class)


def plain_step(layer: FoldedLayer, value_of: Int32) -> Step:
    """The step of a layer with a term for each edge, in the order of the plain layer.

    Output twins are one row all the same: their sums are the same.
    """
    rows = np.arange(layer.core.outputs, dtype=np.int32)
    plain = unfold(FoldedLayer(layer.core, layer.input_class, rows))
    values = int(value_of.max(initial=-1)) + 1
    terms = Product(values, plain.row_offsets, value_of[plain.columns], plain.weights)
    return Step(None, terms, plain.bias, layer.output_class)


def _may_overflow(layer: FoldedLayer, largest: float) -> bool:
    """Whether twins' weights, or values, or sums, could add up to what float32 does not hold."""
    sizes, core = layer.input_class_sizes, layer.core
    weights = np.abs(core.weights.astype(np.float64)) * sizes[core.columns]
    sums = np.bincount(core.targets(), weights=weights, minlength=core.outputs)
    bounds = max(1.0, largest) * sums.max(initial=0), largest * sizes.max(initial=0)
    return not max(bounds) < LARGEST_SUM


def folded_network(network: Network, largest_input: float = 1.0) -> Network:
    """The network between the class values, as plain layers: a neuron for each class.

    No input is larger than `largest_input`. Layers of plain steps may have an edge several times.

    It has the same categories: an image has a class value that is not zero where it has a neuron
    that is not. No layer is marked as keeping saturated images.
    """
    layers: list[FoldedLayer] = []
    values = np.arange(network.layers[0].inputs, dtype=np.int32)
    for layer in network.layers:
        step = make_step(layer, values, network.ymax if layers else largest_input)
        whole = step.apply if step.gather is None else _after(step.apply, step.gather)
        core = Layer(whole.columns, whole.offsets, whole.indices, whole.weights, step.bias)
        own = [np.arange(size, dtype=np.int32) for size in (core.inputs, core.outputs)]
        layers.append(FoldedLayer(core, *own))
        values = layer.output_class
    edges = np.array([layer.core.edges for layer in layers], np.int64)
    return Network(layers, network.ymax, np.zeros(len(layers), np.bool_), edges)


def _after(second: Product, first: Product) -> Product:
    """One product in place of two."""
    matrices = [
        sparse.csr_matrix((p.weights.astype(np.float64), p.indices, p.offsets), (p.rows, p.columns))
        for p in (second, first)
    ]
    return _product(matrices[0] @ matrices[1])


def _product(matrix: sparse.csr_matrix) -> Product:
    matrix.sum_duplicates()
    matrix.sort_indices()
    return Product(
        matrix.shape[1],
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.float32),
    )
