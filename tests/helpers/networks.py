"""Networks for tests: by hand, at random, and what they should give, computed plainly."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from spdnn_cli.network.fold import fold, make_network
from spdnn_cli.network.layers import Features, FoldedLayer, Layer, Network

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

YMAX = 32.0


def layer_of(matrix: Iterable[Iterable[float]] | Floats, bias: float | Floats = 0.0) -> Layer:
    """The layer with the weights `matrix` (outputs, inputs); a zero is no edge."""
    dense = np.array(matrix, np.float64)
    targets, sources = np.nonzero(dense)
    outputs, inputs = dense.shape
    return Layer.from_edges(inputs, outputs, sources, targets, dense[targets, sources], bias)


def network_of(layers: Iterable[Layer], ymax: float = YMAX) -> Network:
    """The layers, folded, as a network."""
    return make_network([fold(layer) for layer in layers], ymax)


def matrix_of(layer: Layer) -> NDArray[np.float64]:
    """The weights of a layer, float64 (outputs, inputs)."""
    dense = np.zeros((layer.outputs, layer.inputs))
    dense[layer.targets(), layer.columns] = layer.weights
    return dense


def plain_run(layers: list[Layer], values: Floats, ymax: float = YMAX) -> list[NDArray[np.bool_]]:
    """After each layer, bool (images): which images have a non-zero entry. In dense float64.

    `values` is (images, neurons).
    """
    return [after.any(axis=1) for after in _plain_layers(layers, values, ymax)]


def plain_values(layers: list[Layer], values: Floats, ymax: float = YMAX) -> Floats:
    """The values after the last layer, float64 (images, neurons)."""
    *_, last = _plain_layers(layers, values, ymax)
    return last


def _plain_layers(layers: list[Layer], values: Floats, ymax: float) -> Iterator[Floats]:
    values = values.astype(np.float64).T
    for layer in layers:
        sums = matrix_of(layer) @ values
        values = np.where(
            sums != 0, np.clip(sums + layer.bias[:, None].astype(np.float64), 0, ymax), 0
        )
        yield values.T


def arrays_of(layer: Layer | FoldedLayer) -> list[NDArray[np.generic]]:
    """Everything in a layer."""
    if isinstance(layer, FoldedLayer):
        return [*arrays_of(layer.core), layer.input_class, layer.output_class]
    return [
        np.array(layer.inputs),
        layer.row_offsets,
        layer.columns,
        layer.weights,
        layer.bias,
    ]


def assert_same(layer: Layer | FoldedLayer, other: Layer | FoldedLayer) -> None:
    """Two layers agree in every array and every type."""
    for array, wanted in zip(arrays_of(layer), arrays_of(other), strict=True):
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)


def random_matrix(
    random: np.random.Generator, outputs: int, inputs: int, density: float, weights: Floats
) -> Floats:
    """Weights (outputs, inputs), each drawn from `weights` with probability `density`, else 0."""
    return random.choice(weights, (outputs, inputs)) * (random.random((outputs, inputs)) < density)


DYADIC = np.array([-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1])
"""Weights whose sums float32 holds exactly through five layers, in any order: no rounding, so
every engine must agree even where a sum is exactly zero or exactly at a bound."""
DYADIC_BIASES = np.array([-1.5, -0.75, -0.5, -0.25, 0, 0.25, 1])
MOST_EXACT_LAYERS = 5


@st.composite
def twin_layers(draw: st.DrawFn) -> tuple[Layer, int, int]:
    """A layer with planted twins, and at most how many input and output classes it has."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs, outputs = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    input_classes, output_classes = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    density = draw(st.sampled_from([0.1, 0.5, 1.0]))
    core = random_matrix(random, output_classes, input_classes, density, DYADIC)
    of_input = random.integers(0, input_classes, inputs)
    of_output = random.integers(0, output_classes, outputs)
    bias = random.choice(DYADIC_BIASES, output_classes)
    layer = layer_of(core[np.ix_(of_output, of_input)], bias[of_output])
    return layer, len(np.unique(of_input)), len(np.unique(of_output))


@st.composite
def any_layers(draw: st.DrawFn) -> Layer:
    """A layer of any shape, with empty rows and columns, and with a few twins by chance."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs, outputs = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    weights = draw(st.sampled_from([DYADIC, random.normal(size=50), np.array([1 / 16])]))
    matrix = random_matrix(random, outputs, inputs, draw(st.floats(0, 1)), weights)
    return layer_of(matrix, random.choice(DYADIC_BIASES, outputs))


@st.composite
def problems(draw: st.DrawFn, exact: bool) -> tuple[list[Layer], Features]:
    """Layers that fit each other, and inputs for them: bits or floats, 1 to 70 images.

    With `exact` all sums are exact in float32; else weights and biases are any real numbers. Some
    layers only add up, so that values grow and saturate.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = draw(st.integers(1, MOST_EXACT_LAYERS))
    widths = draw(st.lists(st.integers(1, 40), min_size=depth + 1, max_size=depth + 1))
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        weights = DYADIC if exact else random.normal(scale=0.5, size=1000)
        biases = DYADIC_BIASES if exact else random.normal(scale=0.5, size=100)
        grows, density = draw(st.booleans()), draw(st.sampled_from([0.05, 0.2, 0.6, 1.0]))
        matrix = random_matrix(
            random, outputs, inputs, density, 4 * np.abs(weights) if grows else weights
        )
        twins = random.integers(0, outputs, outputs) if draw(st.booleans()) else np.arange(outputs)
        layers.append(layer_of(matrix[twins], random.choice(biases, outputs)[twins]))
    return layers, _features(draw, random, widths[0], exact)


def _features(draw: st.DrawFn, random: np.random.Generator, neurons: int, exact: bool) -> Features:
    images = draw(st.integers(1, 70))
    bits = random.random((images, neurons)) < draw(st.sampled_from([0.02, 0.3, 0.9]))
    if draw(st.booleans()):
        return bit_features(bits)
    values = random.integers(0, 9, bits.shape) if exact else 4 * random.random(bits.shape)
    return Features((bits * values).astype(np.float32), neurons)


def bit_features(bits: NDArray[np.generic]) -> Features:
    """0/1 inputs (images, neurons), packed."""
    array = np.asarray(bits, np.bool_)
    return Features(np.packbits(array, axis=1, bitorder="little"), array.shape[1])


def float_features(values: Iterable[Iterable[float]]) -> Features:
    """Inputs (images, neurons) as float32."""
    array = np.array(values, np.float32)
    return Features(array, array.shape[1])


# --- layers between copies of nodes, as the challenge's networks have them -----------------------

MOST_NODES, MOST_COPIES = 512, 32
SHIFT_WIDTHS = [32, 64, 128, 256, 512]
"""Nodes whose shift layers kernels/folded_shift.cu can run; 8 to 512 others go to other kernels."""
NODE_YMAX = 4.0
"""YMAX of networks of nodes: all sums of theirs are multiples of 2^-12 below 2^12, so float32 holds
them exactly, and no rounding decides whether an image lives."""


def sums_layer(input_class: Ints, terms: Ints, weight: float, bias: float) -> Layer:
    """A layer whose output j reads all inputs of the classes `terms[j]` (outputs, some).

    `input_class` is (inputs). Class -1 is none, on both sides.
    """
    reads = np.zeros((len(terms), len(input_class)), np.bool_)
    for term in terms.T:
        reads |= (term[:, None] == input_class) & (term[:, None] >= 0)
    targets, sources = np.nonzero(reads)
    weights = np.full(len(sources), weight)
    return Layer.from_edges(len(input_class), len(terms), sources, targets, weights, bias)


def shift_layer(
    nodes: int, copies: int, shift: int, weight: float, bias: float, outputs: int, rows: int = 0
) -> Layer:
    """A layer whose output j reads all `copies` of the nodes j mod `rows` and that + `shift`.

    rows: nodes of the outputs; 0: as many as before.
    """
    own = np.arange(outputs) % (rows or nodes)
    terms = np.stack([own, (own + shift) % nodes], axis=1)
    return sums_layer(np.arange(nodes * copies) % nodes, terms, weight, bias)


def permutation_layer(random: np.random.Generator, neurons: int, bias: float) -> Layer:
    """A layer in which each output neuron is one input neuron, and each input neuron one output."""
    sources = random.permutation(neurons)
    return Layer.from_edges(neurons, neurons, sources, np.arange(neurons), np.ones(neurons), bias)


def some_images(
    random: np.random.Generator, images: int, neurons: int, bits: bool = True
) -> Features:
    """Inputs of 0 and 1, or of eighths up to 4; few are not zero in some images."""
    on = random.random((images, neurons)) < 0.5 * random.random((images, 1)) ** 2
    if bits:
        return bit_features(on)
    return float_features(on * random.integers(1, 33, on.shape) / 8)


@st.composite
def node_problems(draw: st.DrawFn, most_neurons: int) -> tuple[list[Layer], Features]:
    """Shift layers on copies of 8 to 512 nodes, then layers of any kind; 1 to 400 images.

    The outcome is the same in any order of additions (`NODE_YMAX`).
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for_shifts = draw(st.booleans())  # what kernels/folded_shift.cu can run: 3 copies or more
    nodes = draw(st.sampled_from(SHIFT_WIDTHS) if for_shifts else st.integers(8, MOST_NODES))
    fewest, most = (3, 31) if for_shifts else (1, MOST_COPIES)
    copies = draw(st.integers(fewest, max(fewest, min(most, most_neurons // nodes))))
    neurons = nodes * copies
    shifts = draw(st.integers(1 if for_shifts else 0, 7))
    layers = list(_shift_layers(draw, random, nodes, copies, shifts, most_neurons))
    kinds = draw(st.lists(st.sampled_from(list(_FURTHER)), min_size=not layers, max_size=3))
    width = layers[-1].outputs if layers else neurons
    for kind in kinds:
        layers.append(_FURTHER[kind](random, width))
        width = layers[-1].outputs
    images = draw(st.one_of(st.integers(1, 70), st.integers(1, 400)))
    are_bits = for_shifts or draw(st.booleans())
    return layers, some_images(random, images, neurons, are_bits)


def _shift_layers(
    draw: st.DrawFn,
    random: np.random.Generator,
    nodes: int,
    copies: int,
    count: int,
    most_neurons: int,
) -> Iterator[Layer]:
    """So many on copies of the nodes; the last may have fewer nodes."""
    after = draw(st.sampled_from([k for k in (1, 2, 4) if k * nodes <= max(nodes, most_neurons)]))
    is_regular, narrows = draw(st.booleans()), draw(st.booleans())
    for k in range(count):
        shift = 1 << k if is_regular else int(random.integers(1, nodes))
        rows = max(1, nodes // 2) if narrows and k == count - 1 > 0 else nodes
        weight = random.choice([1 / 4, 1 / 8, 1 / 16]) if k == 0 else 1 / after
        bias = random.choice([-1 / 4, -1 / 8, 0])
        yield shift_layer(
            nodes, after if k else copies, shift % nodes or 1, weight, bias, rows * after, rows
        )


def _pairs_layer(random: np.random.Generator, inputs: int) -> Layer:
    """Sums over classes of inputs, then one or two of them to an output."""
    classes = int(random.integers(1, inputs + 1))
    input_class = random.integers(-1, classes, inputs)
    if random.random() < 0.5:
        input_class = np.arange(inputs) % classes
    rows = int(random.integers(1, 257))
    terms = random.integers(0, classes, (rows, 2))
    return sums_layer(input_class, terms, random.choice([1 / 4, 1 / 2, 1]), -1 / 8)


def _random_layer(random: np.random.Generator, inputs: int) -> Layer:
    """A few edges of different weights to an output, or none."""
    outputs = int(random.integers(1, 257))
    matrix = np.zeros((outputs, inputs))
    for _ in range(int(random.integers(1, 6))):
        columns = random.integers(0, inputs, outputs)
        matrix[np.arange(outputs), columns] = random.choice([-1, -0.5, 0, 0.5, 1], outputs)
    return layer_of(matrix, random.choice([-0.5, -0.25, 0, 0.25], outputs))


def _one_class_layer(random: np.random.Generator, inputs: int) -> Layer:
    """All inputs to each output: a core of one class."""
    outputs = np.zeros((int(random.integers(1, 65)), 1), np.int64)
    return sums_layer(np.zeros(inputs, np.int64), outputs, 1 / 4, random.choice([-2, -1 / 4]))


_FURTHER = {
    "permuted": lambda random, width: permutation_layer(random, width, -1 / 8),
    "pairs": _pairs_layer,
    "random": _random_layer,
    "one class": _one_class_layer,
}
