"""Fold twins: a plain `Layer` becomes a `FoldedLayer`, losslessly; and the fixed-point certificate.

Nothing here is special to the challenge. Twins are found by hashing rows and columns and confirmed
by comparing them; a hash collision costs a missed twin, never a wrong answer. On the challenge's
networks 16 neurons at a time are twins, so a layer shrinks from 32 N edges to N / 8.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from spdnn_cli.jit import njit
from spdnn_cli.network.layers import FoldedLayer, Int32, Int64, Layer, Network

SATURATION_MARGIN = 1e-4
"""Room that a certificate asks for at least, as a share of the terms' sizes added up."""
ROUNDING = 2.0**-24
"""The most by which float32 rounds a number, as a share of it."""
FURTHER_ROUNDINGS = 4
"""Of a folded weight, of its class's sum, of the bias and of adding it; the others are by term."""
LARGEST, SMALLEST = (float(number) for number in (np.finfo("f4").max, np.finfo("f4").tiny))
"""Beyond the one float32 overflows; below the other a GPU may take a number for zero."""


def fold(layer: Layer) -> FoldedLayer:
    """Merge the twins of a layer on both sides.

    Output neurons with the same in-edges, weights and bias become one class; then input neurons
    with the same out-edges and weights.
    """
    output_class, first_output = _twin_rows(
        layer.row_offsets, layer.columns, layer.weights, layer.bias
    )
    rows = _take_rows(layer, first_output)
    column_offsets, targets, weights = _transpose(rows)
    input_class, first_input = _twin_rows(
        column_offsets, targets, weights, np.zeros(layer.inputs, np.float32)
    )
    has_edges = np.diff(column_offsets) > 0
    input_class, first_input = _drop_classes(input_class, first_input, has_edges)
    return FoldedLayer(_keep_columns(rows, first_input), input_class, output_class)


def unfold(folded: FoldedLayer) -> Layer:
    """The plain layer: the inverse of `fold`. Without the GIL: layers unfold side by side."""
    core = folded.core
    row_offsets, columns, weights = _unfold_edges(
        core.row_offsets, core.columns, core.weights,
        folded.input_class, folded.input_class_sizes, folded.output_class,
    )  # fmt: skip
    return Layer(folded.inputs, row_offsets, columns, weights, core.bias[folded.output_class])


def keeps_saturated(folded: FoldedLayer, ymax: float) -> bool:
    """Whether an image with every input at `ymax` leaves this layer with every output at `ymax`.

    True where z = ymax * (sum of the incoming weights) is not zero and z + bias >= ymax for every
    output neuron, however an engine orders its float32 sums: with so much room to spare as the sum
    of that many terms may be off (`_room`), and without overflow. The sums here are in float64.
    """
    core, targets = folded.core, folded.core.targets()
    edges = folded.input_class_sizes[core.columns]
    terms = ymax * core.weights.astype(np.float64) * edges
    sums = np.bincount(targets, weights=terms, minlength=core.outputs)
    sizes = np.bincount(targets, weights=np.abs(terms), minlength=core.outputs) + np.abs(core.bias)
    degrees = np.bincount(targets, weights=edges, minlength=core.outputs)
    room = _room(sizes, degrees)
    holds = (np.abs(sums) > room) & (sums + core.bias - room >= ymax)
    return bool(np.all(holds & (sizes + room < LARGEST)))


def _room(sizes: Any, degrees: Any) -> Any:
    """By how much float32 sums, in any order, may be off; infinite where nobody can tell.

    Args:
        sizes: float64 (rows): the sizes of each sum's terms, added up.
        degrees: float64 (rows): how many terms it has.
    """
    rounded = (degrees + FURTHER_ROUNDINGS) * ROUNDING
    # Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2: gamma_n.
    with np.errstate(divide="ignore"):
        gamma = np.where(rounded < 1, rounded / np.abs(1 - rounded), np.inf)
    return np.maximum(SATURATION_MARGIN, gamma) * sizes + degrees * SMALLEST


def make_network(layers: list[FoldedLayer], ymax: float) -> Network:
    """A network in memory from its folded layers.

    Raises:
        ValueError: two neighbouring layers do not fit.
    """
    for k, (before, after) in enumerate(itertools.pairwise(layers), start=1):
        if before.outputs != after.inputs:
            raise ValueError(
                f"layer {k} has {before.outputs} outputs, layer {k + 1} {after.inputs} inputs"
            )
    certificates = np.array([keeps_saturated(layer, ymax) for layer in layers], np.bool_)
    return Network(layers, ymax, certificates, np.array([layer.edges for layer in layers]))


@njit(nogil=True)
def _unfold_edges(core_offsets, core_columns, core_weights, input_class, class_sizes, output_class):  # type: ignore[no-untyped-def]
    """Row offsets, columns and weights of the plain layer."""
    # The members of each input class, ascending: members[starts[c]:starts[c + 1]].
    starts = np.zeros(len(class_sizes) + 1, np.int64)
    starts[1:] = np.cumsum(class_sizes)
    members, filled = np.empty(starts[-1], np.int32), starts[:-1].copy()
    for i in range(len(input_class)):
        if input_class[i] >= 0:
            members[filled[input_class[i]]] = i
            filled[input_class[i]] += 1
    # The row of each output class, once: a column and the entry of the core that it comes from.
    row_starts = np.zeros(len(core_offsets), np.int64)
    for row in range(len(core_offsets) - 1):
        row_starts[row + 1] = row_starts[row]
        for k in range(core_offsets[row], core_offsets[row + 1]):
            row_starts[row + 1] += class_sizes[core_columns[k]]
    keys = np.empty(row_starts[-1], np.int64)
    for row in range(len(core_offsets) - 1):
        at = row_starts[row]
        for k in range(core_offsets[row], core_offsets[row + 1]):
            for m in range(starts[core_columns[k]], starts[core_columns[k] + 1]):
                keys[at] = (np.int64(members[m]) << 32) | (k - core_offsets[row])
                at += 1
        keys[row_starts[row] : at].sort()
    row_offsets = np.zeros(len(output_class) + 1, np.int64)
    for j in range(len(output_class)):
        row = output_class[j]
        row_offsets[j + 1] = row_offsets[j] + row_starts[row + 1] - row_starts[row]
    columns = np.empty(row_offsets[-1], np.int32)
    weights = np.empty(row_offsets[-1], np.float32)
    for j in range(len(output_class)):
        row = output_class[j]
        shift = row_starts[row] - row_offsets[j]
        for at in range(row_offsets[j], row_offsets[j + 1]):
            columns[at] = keys[at + shift] >> 32
            weights[at] = core_weights[core_offsets[row] + (keys[at + shift] & 0xFFFFFFFF)]
    return row_offsets, columns, weights


def _twin_rows(
    row_offsets: Int64, columns: Int32, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> tuple[Int32, Int64]:
    """The class of each row, and the first row of each class; classes in order of first rows."""
    hashes = _hash_rows(row_offsets, columns, weights.view(np.uint32), bias.view(np.uint32))
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    leader = first[group]
    leader = _confirm(leader, row_offsets, columns, weights.view(np.uint32), bias.view(np.uint32))
    firsts, row_class = np.unique(leader, return_inverse=True)
    return row_class.astype(np.int32), firsts


@njit()
def mix(value: int) -> int:
    """A step of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every output."""
    value = uint64(value) + uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> uint64(27))) * uint64(0x94D049BB133111EB)
    return value ^ (value >> uint64(31))


@njit(nogil=True)
def _hash_rows(row_offsets, columns, weight_bits, bias_bits):  # type: ignore[no-untyped-def]
    hashes = np.empty(len(bias_bits), np.uint64)
    for row in range(len(bias_bits)):
        value = mix(uint64(bias_bits[row]))
        for k in range(row_offsets[row], row_offsets[row + 1]):
            edge = (uint64(columns[k]) << uint64(32)) | uint64(weight_bits[k])
            value = mix(value ^ edge)
        hashes[row] = value
    return hashes


@njit(nogil=True)
def _confirm(leader, row_offsets, columns, weight_bits, bias_bits):  # type: ignore[no-untyped-def]
    """Make a row its own leader where it differs from its leader."""
    confirmed = leader.copy()
    for row in range(len(leader)):
        start, end = row_offsets[row], row_offsets[row + 1]
        other = row_offsets[leader[row]]
        same = end - start == row_offsets[leader[row] + 1] - other
        same = same and bias_bits[row] == bias_bits[leader[row]]
        k = start
        while same and k < end:
            twin = other + k - start
            same = columns[k] == columns[twin] and weight_bits[k] == weight_bits[twin]
            k += 1
        if not same:
            confirmed[row] = row
    return confirmed


def _take_rows(layer: Layer, rows: Int64) -> Layer:
    starts, ends = layer.row_offsets[rows], layer.row_offsets[rows + 1]
    entries = _ranges(starts, ends)
    offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
    return Layer(
        layer.inputs, offsets, layer.columns[entries], layer.weights[entries], layer.bias[rows]
    )


def _transpose(layer: Layer) -> tuple[Int64, Int32, NDArray[np.float32]]:
    """Offsets, output neurons and weights by input neuron (CSC), output neurons ascending."""
    order = np.argsort(layer.columns, kind="stable")
    offsets = np.zeros(layer.inputs + 1, np.int64)
    np.cumsum(np.bincount(layer.columns, minlength=layer.inputs), out=offsets[1:])
    return offsets, layer.targets()[order], layer.weights[order]


def _drop_classes(row_class: Int32, first: Int64, keep: NDArray[np.bool_]) -> tuple[Int32, Int64]:
    """Give the rows where `keep` is False class -1, and number the others' classes anew."""
    kept = keep[first]
    number = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    return number[row_class], first[kept]


def _keep_columns(layer: Layer, kept: Int64) -> Layer:
    """The layer of the columns `kept` (ascending) alone, numbered anew."""
    number = np.full(layer.inputs, -1, np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    columns = number[layer.columns]
    stays = columns >= 0
    offsets = np.concatenate([[0], np.cumsum(stays)])[layer.row_offsets].astype(np.int64)
    return Layer(len(kept), offsets, columns[stays], layer.weights[stays], layer.bias)


def _ranges(starts: NDArray[np.integer], ends: NDArray[np.integer]) -> Int64:
    """All integers of the ranges starts[k]..ends[k]-1, one range after the other."""
    lengths = np.asarray(ends - starts, np.int64)
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
