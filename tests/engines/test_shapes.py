"""All engines against the reference on networks of any width: copies of few or many nodes, odd
numbers of them, one layer or shift layers alone, one image or a few more than a warp takes.

On a device: `pytest -m gpu tests/test_shapes.py`; `-k small` are few and small enough for
compute-sanitizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.networks import (
    NODE_YMAX,
    network_of,
    node_problems,
    permutation_layer,
    shift_layer,
    some_images,
    sums_layer,
)
from hypothesis import given

from spdnn_cli.engines.cuda.device import import_cupy
from spdnn_cli.engines.protocol import EngineOptions, Inference
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.errors import DeviceError
from spdnn_cli.network.layers import Features, Layer

CPU, CUDA = (
    [name for name, entry in ENGINES.items() if entry.device == kind and name != "reference"]
    for kind in ("cpu", "cuda")
)
RETIRING, RETIRE = ("cpu", "folded"), [True, False]
"""Engines in which images that are finished leave early, unless all shall run to the end."""


@pytest.fixture(scope="module")
def device() -> None:
    """A device that CuPy finds."""
    try:
        import_cupy()
    except DeviceError as error:
        pytest.skip(str(error))


def outcome(name: str, layers: list[Layer], features: Features, retire: bool = True) -> Inference:
    """What an engine finds; from its second run, so that the first has left all as it should."""
    engine: Any = create(name, EngineOptions(threads=2, retire=retire))
    engine.prepare(network_of(layers, NODE_YMAX))
    engine.upload(features)
    engine.infer()
    inference: Inference = engine.infer()
    return inference


def check(name: str, layers: list[Layer], features: Features) -> None:
    """An engine and the reference agree on every image, and on how many live after each layer."""
    wanted = outcome("reference", layers, features)
    for retire in RETIRE if name in RETIRING else [False]:
        found = outcome(name, layers, features, retire)
        assert found.categories.tolist() == wanted.categories.tolist(), f"{name}, {retire=}"
        if not retire:
            assert found.alive == wanted.alive, f"{name}, {retire=}"


def shifted(
    nodes: int, copies: int, shifts: list[int], images: int, after: int | None = None
) -> tuple[list[Layer], Features]:
    """Shift layers on copies of nodes; `after` of them behind the first layer, else as many."""
    random = np.random.default_rng(nodes + copies + images)
    after = copies if after is None else after
    width = nodes * after
    layers = [shift_layer(nodes, copies, shifts[0], 1 / 8, -1 / 8, width)]
    layers += [shift_layer(nodes, after, t, 1 / after, -1 / 4, width) for t in shifts[1:]]
    return layers, some_images(random, images, nodes * copies)


def then_permuted(layers: list[Layer], features: Features) -> tuple[list[Layer], Features]:
    """The same layers, and a permutation of the last one's neurons."""
    neurons = layers[-1].outputs
    return [*layers, permutation_layer(np.random.default_rng(neurons), neurons, -1 / 8)], features


def then_classes(layers: list[Layer], features: Features) -> tuple[list[Layer], Features]:
    """The same layers, and one that adds their values up in eight classes, two to an output."""
    own = np.arange(8)
    terms = np.stack([own, (own + 1) % 8], axis=1)
    classes = np.arange(layers[-1].outputs) % 8
    return [*layers, sums_layer(classes, terms, 1 / 4, -1 / 8)], features


def alone(nodes: int, images: int) -> tuple[list[Layer], Features]:
    """A permutation, and nothing else."""
    random = np.random.default_rng(nodes)
    return [permutation_layer(random, nodes, -1 / 8)], some_images(random, images, nodes)


SMALL: dict[str, Callable[[], tuple[list[Layer], Features]]] = {
    "16 images a warp": lambda: then_permuted(*shifted(64, 4, [1, 2], 400)),
    "8 images a warp": lambda: then_permuted(*shifted(128, 4, [1, 2], 400)),
    "an image a lane": lambda: then_permuted(*shifted(32, 3, [31, 1], 33, after=1)),
    "most copies": lambda: then_permuted(*shifted(32, 31, [5], 65, after=1)),
    "2 images a warp, odd copies": lambda: then_permuted(*shifted(512, 3, [1, 2], 31, after=1)),
    "2 images a warp, 1 image": lambda: then_permuted(*shifted(512, 3, [1, 2], 1, after=1)),
    "more words than shared memory": lambda: then_permuted(*shifted(128, 24, [1], 9, after=1)),
    "1 layer, a shift": lambda: shifted(64, 16, [1], 50),
    "6 layers, all shifts": lambda: shifted(64, 16, [1, 2, 4, 8, 16, 32], 50),
    "more shifts than are prepared": lambda: shifted(64, 4, [1, *[32] * 39], 50, after=1),
    "as many shifts as are prepared": lambda: shifted(64, 4, [1, *[32] * 31], 50, after=1),
    "many values, few classes": lambda: then_classes(*shifted(256, 4, [1, 2], 90, after=1)),
    "odd nodes": lambda: then_permuted(*shifted(13, 7, [1, 5], 90, after=1)),
    "9 nodes in 32 copies": lambda: shifted(9, 32, [2, 3], 5, after=1),
    "1 layer, no shift": lambda: alone(77, 41),
}
"""Networks at the edges of what kernels take; on a device few enough for compute-sanitizer."""


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.parametrize("name", CPU)
def test_small_networks(name: str, case: str) -> None:
    check(name, *SMALL[case]())


@pytest.mark.gpu
@pytest.mark.parametrize("case", SMALL)
@pytest.mark.parametrize("name", CUDA)
def test_small_networks_on_a_device(device: None, name: str, case: str) -> None:
    check(name, *SMALL[case]())


@pytest.mark.parametrize("name", CPU)
@given(problem=node_problems(most_neurons=1024))
def test_networks_of_any_width(name: str, problem: tuple[list[Layer], Features]) -> None:
    check(name, *problem)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CUDA)
@given(problem=node_problems(most_neurons=4096))
def test_networks_of_any_width_on_a_device(
    device: None, name: str, problem: tuple[list[Layer], Features]
) -> None:
    check(name, *problem)
