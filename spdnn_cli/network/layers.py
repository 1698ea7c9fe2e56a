"""A sparse network as arrays: `Layer`, `FoldedLayer`, `Network`; and its inputs, `Features`.

The layer's arithmetic is the challenge's (https://graphchallenge.mit.edu/challenges). For one image
with input values y, every output neuron j computes

    z_j = sum over the in-edges (i, weight) of j:  weight * y_i
    y'_j = min(max(z_j + bias_j, 0), YMAX)   where z_j is not zero, else 0

so the bias touches non-zero entries only, and an image that is all zero stays all zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Layer:
    """One sparse layer, by output neuron (CSR): row j lists the in-edges of output neuron j.

    Attributes:
        inputs: number of input neurons.
        row_offsets: int64 (outputs + 1): row j is `columns[row_offsets[j]:row_offsets[j + 1]]`.
        columns: int32 (edges): input neurons from 0; ascending within a row, none twice.
        weights: float32 (edges): finite.
        bias: float32 (outputs): finite.
    """

    inputs: int
    row_offsets: Int64
    columns: Int32
    weights: Float32
    bias: Float32

    @property
    def outputs(self) -> int:
        """Number of output neurons."""
        return len(self.bias)

    @property
    def edges(self) -> int:
        """Number of edges."""
        return len(self.columns)

    @classmethod
    def from_edges(
        cls,
        inputs: int,
        outputs: int,
        sources: NDArray[np.integer],
        targets: NDArray[np.integer],
        weights: NDArray[np.floating],
        bias: float | NDArray[np.floating],
    ) -> Layer:
        """Build a layer from its edges in any order.

        Args:
            inputs: number of input neurons.
            outputs: number of output neurons.
            sources: (edges) the input neuron of each edge, from 0.
            targets: (edges) the output neuron of each edge, from 0.
            weights: (edges) the weight of each edge.
            bias: one for all neurons, or (outputs).

        Raises:
            ValueError: the lengths differ, an index is out of range, an edge is there twice, or a
                number is not finite.
        """
        if not len(sources) == len(targets) == len(weights):
            raise ValueError(
                f"{len(sources)} sources, {len(targets)} targets and {len(weights)} weights"
            )
        sources, targets = np.asarray(sources, np.int64), np.asarray(targets, np.int64)
        for name, index, size in (("source", sources, inputs), ("target", targets, outputs)):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise ValueError(f"an edge's {name} is outside 0..{size - 1}")
        keys = targets * inputs + sources
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if np.any(keys[1:] == keys[:-1]):
            target, source = divmod(int(keys[1:][keys[1:] == keys[:-1]][0]), inputs)
            raise ValueError(f"the edge from {source} to {target} is there twice")
        bias_of = np.ascontiguousarray(np.broadcast_to(np.asarray(bias, np.float32), (outputs,)))
        sorted_weights = np.asarray(weights, np.float32)[order]
        if not (np.isfinite(sorted_weights).all() and np.isfinite(bias_of).all()):
            raise ValueError("a weight or a bias is not finite")
        row_offsets = np.zeros(outputs + 1, np.int64)
        np.cumsum(np.bincount(targets, minlength=outputs), out=row_offsets[1:])
        return cls(inputs, row_offsets, sources[order].astype(np.int32), sorted_weights, bias_of)

    def targets(self) -> Int32:
        """The output neuron of every edge, int32 (edges), in the order of `columns`."""
        rows = np.arange(self.outputs, dtype=np.int32)
        return np.repeat(rows, np.diff(self.row_offsets))


@dataclass(frozen=True, eq=False)
class FoldedLayer:
    """A layer with its twins merged: a small layer, `core`, between classes of neurons.

    Output twins have the same in-edges, weights and bias: one value serves them all. Input twins
    have the same out-edges and weights: they act only through their sum. So the layer is

        u_c = sum of y_i over the inputs i of class c,   then `core` on u,   then
        y'_j = the core's value of the class of output j.

    Every layer has this form (at worst each neuron is a class of its own), and no edge is lost:
    `fold.unfold` gives the plain layer back.

    Attributes:
        core: the layer from input classes to output classes; its bias is by output class.
        input_class: int32 (inputs): the class of each input neuron; -1: it has no out-edge.
        output_class: int32 (outputs): the class of each output neuron.

    Classes are numbered in the order of their first members, so equal layers have equal arrays.
    """

    core: Layer
    input_class: Int32
    output_class: Int32

    @property
    def inputs(self) -> int:
        """Number of input neurons of the plain layer."""
        return len(self.input_class)

    @property
    def outputs(self) -> int:
        """Number of output neurons of the plain layer."""
        return len(self.output_class)

    @cached_property
    def input_class_sizes(self) -> Int64:
        """Number of input neurons in each input class, int64 (core.inputs)."""
        members = self.input_class[self.input_class >= 0]
        return np.bincount(members, minlength=self.core.inputs)

    @cached_property
    def output_class_sizes(self) -> Int64:
        """Number of output neurons in each output class, int64 (core.outputs)."""
        return np.bincount(self.output_class, minlength=self.core.outputs)

    @cached_property
    def edges(self) -> int:
        """Number of edges of the plain layer."""
        in_edges = self.input_class_sizes[self.core.columns]
        return int(in_edges @ self.output_class_sizes[self.core.targets()])


@dataclass(frozen=True, eq=False)
class Network:
    """A network: its folded layers in order, which may be read from a file only when asked for.

    Attributes:
        layers: the folded layers; any sequence, so that a stored network can read them late.
        ymax: where values are clipped.
        keeps_saturated: bool (layers): whether an image with every input neuron at `ymax` leaves
            the layer with every output neuron at `ymax` (`fold.keeps_saturated`).
        edges_by_layer: int64 (layers): edges of each plain layer.
    """

    layers: Sequence[FoldedLayer]
    ymax: float
    keeps_saturated: Bools
    edges_by_layer: Int64

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @cached_property
    def saturation_is_final(self) -> Bools:
        """Bool (depth + 1): entry l: an image saturated before layer l stays so to the end.

        True for l = depth: nothing follows.
        """
        final = np.ones(self.depth + 1, np.bool_)
        final[:-1] = np.logical_and.accumulate(self.keeps_saturated[::-1])[::-1]
        return final

    @property
    def edges(self) -> int:
        """Edges of all layers, for one image: what the challenge counts."""
        return int(self.edges_by_layer.sum())

    def between(self, first: int, last: int) -> Network:
        """The layers first..last-1, from 0, as a network."""
        return Network(
            _Between(self.layers, first, last),
            self.ymax,
            self.keeps_saturated[first:last],
            self.edges_by_layer[first:last],
        )


class _Between(Sequence[FoldedLayer]):
    """Some neighbours of a sequence, taken from it when they are asked for."""

    def __init__(self, layers: Sequence[FoldedLayer], first: int, last: int) -> None:
        self._layers, self._range = layers, range(first, last)

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> FoldedLayer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FoldedLayer]: ...
    def __getitem__(self, index: int | slice) -> FoldedLayer | Sequence[FoldedLayer]:
        wanted = self._range[index]
        if isinstance(wanted, int):
            return self._layers[wanted]
        if wanted.step == 1:
            return self._layers[wanted.start : wanted.stop]
        return [self._layers[k] for k in wanted]


@dataclass(frozen=True, eq=False)
class Features:
    """The input values of the images.

    Attributes:
        array: either uint8 (images, ceil(neurons / 8)), where feature f of an image is bit f % 8
            of byte f // 8 (0/1 inputs), or float32 (images, neurons).
        neurons: number of input neurons.
    """

    array: Bytes | Float32
    neurons: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.array)

    @property
    def are_bits(self) -> bool:
        """Whether the inputs are 0/1, packed."""
        return self.array.dtype == np.uint8

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return self.array.shape[1] * self.array.itemsize

    @cached_property
    def largest(self) -> float:
        """No input is larger than this, whatever its sign."""
        if self.are_bits:
            return 1.0
        return float(max(self.array.max(initial=0), -self.array.min(initial=0)))

    def values(self, first: int, last: int) -> Float32:
        """The values of images first..last-1 as float32 (last - first, neurons)."""
        part = self.array[first:last]
        if not self.are_bits:
            return np.asarray(part, np.float32)
        bits = np.unpackbits(part.view(np.uint8), axis=1, count=self.neurons, bitorder="little")
        return bits.astype(np.float32)
