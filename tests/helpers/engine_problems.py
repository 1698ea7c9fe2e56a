"""Networks that tests of engines share, with inputs for them. All are the same in each run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from helpers.networks import (
    DYADIC,
    YMAX,
    bit_features,
    float_features,
    layer_of,
    network_of,
    permutation_layer,
    shift_layer,
    some_images,
    sums_layer,
)
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, Layer, Network

WIDE = [3000, 2000, 1100, 2500, 600]
NARROW = [70, 64, 40, 64, 5]
"""Neurons before each layer and at the end, for `random_problem`."""

Problem = tuple[list[Layer], Features]


def random_problem(
    sizes: list[int], degree: int, images: int, bits: bool
) -> tuple[Network, Features]:
    """A network of five layers at most, whose sums float32 holds exactly, and inputs for it.

    Some neurons have no edges. Some images are dead from the start, others die on the way.
    """
    random = np.random.default_rng([*sizes, degree, images, bits])
    layers: list[Layer] = []
    for inputs, outputs in pairwise(sizes):
        edges = random.integers(0, inputs, outputs * degree)
        keys = np.unique(edges * outputs + np.repeat(np.arange(outputs), degree))
        keys = keys[random.random(outputs)[keys % outputs] < 0.9]
        weights = random.choice([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75], len(keys))
        biases = random.choice([-0.5, -0.25, 0.0], outputs)
        sources, targets = np.divmod(keys, outputs)
        layers.append(Layer.from_edges(inputs, outputs, sources, targets, weights, biases))
    on = random.random((images, sizes[0])) < 0.4 * random.random((images, 1)) ** 3
    on[images // 3 : images // 2] = False
    network = network_of(layers, ymax=4.0)
    return network, bit_features(on) if bits else float_features(on * random.integers(1, 9) / 8)


def challenge_problem(neurons: int, images: int, depth: int) -> tuple[Network, Features]:
    """The first layers of an official network; random blocks of bits, some of which live long."""
    random = np.random.default_rng(7)
    on = np.zeros((images, neurons), np.bool_)
    for image, share in zip(on, random.random(images), strict=True):
        image[: int(share * neurons)] = random.random(int(share * neurons)) < 0.9
    return make_network(list(official_layers(neurons, 0, depth)), YMAX), bit_features(on)


# --- at the edges of what kernels take -----------------------------------------------------------


def _shifted(
    nodes: int, copies: int, shifts: list[int], images: int, after: int | None = None
) -> Problem:
    """Shift layers on copies of nodes; `after` of them behind the first layer, else as many."""
    random = np.random.default_rng(nodes + copies + images)
    after = copies if after is None else after
    width = nodes * after
    layers = [shift_layer(nodes, copies, shifts[0], 1 / 8, -1 / 8, width)]
    layers += [shift_layer(nodes, after, t, 1 / after, -1 / 4, width) for t in shifts[1:]]
    return layers, some_images(random, images, nodes * copies)


def _then_permuted(layers: list[Layer], features: Features) -> Problem:
    """The same layers, and a permutation of the last one's neurons."""
    neurons = layers[-1].outputs
    return [*layers, permutation_layer(np.random.default_rng(neurons), neurons, -1 / 8)], features


def _then_classes(layers: list[Layer], features: Features) -> Problem:
    """The same layers, and one that adds their values up in eight classes, two to an output."""
    own = np.arange(8)
    terms = np.stack([own, (own + 1) % 8], axis=1)
    classes = np.arange(layers[-1].outputs) % 8
    return [*layers, sums_layer(classes, terms, 1 / 4, -1 / 8)], features


def _alone(nodes: int, images: int) -> Problem:
    """A permutation, and nothing else."""
    random = np.random.default_rng(nodes)
    return [permutation_layer(random, nodes, -1 / 8)], some_images(random, images, nodes)


EDGES: dict[str, Callable[[], Problem]] = {
    "16 images a warp": lambda: _then_permuted(*_shifted(64, 4, [1, 2], 400)),
    "8 images a warp": lambda: _then_permuted(*_shifted(128, 4, [1, 2], 400)),
    "an image a lane": lambda: _then_permuted(*_shifted(32, 3, [31, 1], 33, after=1)),
    "most copies": lambda: _then_permuted(*_shifted(32, 31, [5], 65, after=1)),
    "2 images a warp, odd copies": lambda: _then_permuted(*_shifted(512, 3, [1, 2], 31, after=1)),
    "2 images a warp, 1 image": lambda: _then_permuted(*_shifted(512, 3, [1, 2], 1, after=1)),
    "more words than shared memory": lambda: _then_permuted(*_shifted(128, 24, [1], 9, after=1)),
    "1 layer, a shift": lambda: _shifted(64, 16, [1], 50),
    "6 layers, all shifts": lambda: _shifted(64, 16, [1, 2, 4, 8, 16, 32], 50),
    "more shifts than are prepared": lambda: _shifted(64, 4, [1, *[32] * 39], 50, after=1),
    "as many shifts as are prepared": lambda: _shifted(64, 4, [1, *[32] * 31], 50, after=1),
    "many values, few classes": lambda: _then_classes(*_shifted(256, 4, [1, 2], 90, after=1)),
    "odd nodes": lambda: _then_permuted(*_shifted(13, 7, [1, 5], 90, after=1)),
    "9 nodes in 32 copies": lambda: _shifted(9, 32, [2, 3], 5, after=1),
    "1 layer, no shift": lambda: _alone(77, 41),
}
"""Networks at the edges of what kernels take; on a device few enough for compute-sanitizer."""


# --- numbers near the end of float32 -------------------------------------------------------------

HUGE = 3e38


@dataclass(frozen=True)
class Overflow:
    """A network that folds, where the sum of twins overflows float32 and no plain sum does.

    Attributes:
        matrices: the weights of each layer, (outputs, inputs).
        inputs: (images, neurons).
        ymax: where values are clipped.
    """

    matrices: list[Any]
    inputs: list[list[float]]
    ymax: float = 32.0

    def layers(self) -> list[Layer]:
        """The layers; the first has a bias that wakes no image."""
        return [
            layer_of(matrix, -0.25 if k == 0 else 0.0) for k, matrix in enumerate(self.matrices)
        ]

    def features(self) -> list[Features]:
        """The inputs as float32, and as bits if they are."""
        values = np.array(self.inputs)
        forms = [float_features(values)]
        return forms if np.abs(values).max() > 1 else [*forms, bit_features(values)]


_FEW_OF_THREE = [[0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
OVERFLOWS = {
    "twins": Overflow([[[HUGE, HUGE, 1]], [[1]]], _FEW_OF_THREE),
    "three twins": Overflow(
        [[[2e38] * 3 + [1]], [[1]]], [[0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]
    ),
    "negative twins": Overflow([[[-HUGE, -HUGE, 1]], [[1]]], _FEW_OF_THREE),
    "twins of values": Overflow(
        [np.eye(2), [[0, 1], [0, 1], [1, 0]], [[HUGE, HUGE, 1]]], [[0, 1], [1, 0], [0, 0]]
    ),
    "inputs": Overflow(
        [[[1e-30, 1e-30, 1]], [[1]]], [[HUGE, HUGE, 0], [0, 0, 1], [-HUGE, -HUGE, 0]]
    ),
    "ymax": Overflow([np.ones((3, 1)), np.full((2, 3), 2e-38)], [[HUGE], [0], [1]], HUGE),
}


# --- very many edges a neuron --------------------------------------------------------------------

DEGREE = 32_768
"""Edges of a neuron: as many as half of the challenge's widest layer."""


def _few_bits(images: int) -> Features:
    """`DEGREE` inputs: images with 0, 1, 2, 4, ... ones, and from then on with all of them."""
    random = np.random.default_rng(images)
    bits = np.zeros((images, DEGREE), np.bool_)
    for image in range(images):
        ones = min(1 << image >> 1, DEGREE)
        bits[image, random.permutation(DEGREE)[:ones]] = True
    return bit_features(bits)


def _twins(kinds: int) -> Problem:
    """All inputs to each of 8 outputs, in so many classes; then each output to the next one."""
    weights = np.tile(DYADIC[:kinds] - DYADIC[:kinds].mean() + 1 / 512, DEGREE // kinds)
    layers = [layer_of(np.tile(weights, (8, 1)), -1 / 4), layer_of(np.roll(np.eye(8), 1, axis=0))]
    return layers, _few_bits(18)


def _no_twins() -> Problem:
    """All inputs to each of 8 outputs, hardly two of them alike; then differences of outputs."""
    weights = np.random.default_rng(5).choice(DYADIC, (8, DEGREE))
    differences = np.eye(8) - np.roll(np.eye(8), 1, axis=1)
    return [layer_of(weights, -2.0), layer_of(differences)], _few_bits(18)


MANY_EDGES: dict[str, Callable[[], Problem]] = {
    "one class": lambda: _twins(1),
    "four classes": lambda: _twins(4),
    "no twins": _no_twins,
}
"""Neurons with `DEGREE` edges, all sums of which float32 holds."""


def saturating_problem(share: float) -> Problem:
    """Five layers, of which two have `DEGREE` edges a neuron; one image that lives, one that dies.

    The image that lives is saturated after the first layer. The sums of `DEGREE` terms are by
    `share` of them larger than what keeps it so.
    """
    narrowing = layer_of(np.full((4, DEGREE), (1 + share) / DEGREE))
    widening = layer_of(np.ones((DEGREE, 4)))
    layers = [layer_of(np.full((DEGREE, 1), YMAX)), narrowing, widening, narrowing]
    return [*layers, layer_of(np.eye(4) * 2)], bit_features(np.array([[1], [0]]))
