"""The official networks, regenerated: a RadiX-Net with 16 neurons for every node.

With n = N / 16 nodes and S = log2(n) layers in a block, layer l (from 0) is step s = l mod S of
block b = l div S. Output neuron j has an edge of weight 1/16 from each of the 32 input neurons i
whose class c_b(i) mod n is j mod n or (j + 2^s) mod n. Block 0 has c_0(i) = i. Every later block
shuffles: its classes are the ranks of N uniform doubles drawn from MT19937 with seed 5489, one
stream for a network, blocks in order. Compared edge for edge with the published layers of the
challenge (N = 1024, the first 120); the construction is that of Kepner and Robinett, "RadiX-Net:
Structured Sparse Matrices for Deep Neural Networks", 2019.

The layers are built folded, since their twins are known; `fold.unfold` gives the plain edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spdnn_cli.network.layers import FoldedLayer, Int32, Int64, Layer
from spdnn_cli.problem import BIAS, WEIGHT

TWINS = 16
SEED = 5489


def official_layers(neurons: int, first: int, last: int) -> Iterator[FoldedLayer]:
    """Layers first..last-1 (from 0) of the official network of `neurons` neurons, in order."""
    nodes = neurons // TWINS
    steps = nodes.bit_length() - 1
    for block, classes in enumerate(_shuffles(neurons, blocks=-(-last // steps))):
        wanted = range(max(first, block * steps), min(last, (block + 1) * steps))
        if wanted:
            full, half = (
                _classes_in_order(classes % nodes),
                _classes_in_order(classes % (nodes // 2)),
            )
        for layer in wanted:
            stride = 1 << layer % steps
            # At the last step j and j + n/2 have the same two partners: only n/2 nodes differ.
            input_class, number = half if 2 * stride == nodes else full
            yield _radix_layer(input_class, number, stride, BIAS[neurons])


def _shuffles(neurons: int, blocks: int) -> Iterator[Int64]:
    """The classes of each block, int64 (neurons)."""
    stream = np.random.RandomState(SEED)
    for block in range(blocks):
        if block == 0:
            yield np.arange(neurons)
        else:
            yield np.argsort(np.argsort(stream.random_sample(neurons)))


def _classes_in_order(node: Int64) -> tuple[Int32, Int32]:
    """Number nodes by their first members: the number of each neuron's node, and of each node."""
    _, first_member = np.unique(node, return_index=True)
    number = np.empty(len(first_member), np.int32)
    number[np.argsort(first_member)] = np.arange(len(number), dtype=np.int32)
    return number[node], number


def _radix_layer(input_class: Int32, number: Int32, stride: int, bias: float) -> FoldedLayer:
    """The layer in which node j receives from the nodes j and j + stride (modulo their number)."""
    nodes = len(number)
    own = np.arange(nodes)
    shifts = (0,) if stride % nodes == 0 else (0, stride)
    partners = np.stack([(own + shift) % nodes for shift in shifts])
    columns = np.sort(number[partners], axis=0)
    core = Layer(
        inputs=nodes,
        row_offsets=np.arange(nodes + 1, dtype=np.int64) * len(partners),
        columns=columns.T.ravel(),
        weights=np.full(columns.size, WEIGHT, np.float32),
        bias=np.full(nodes, bias, np.float32),
    )
    output_class = (np.arange(len(input_class)) % nodes).astype(np.int32)
    return FoldedLayer(core, input_class, output_class)
