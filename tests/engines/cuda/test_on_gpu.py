"""The CUDA engines against the reference on a GPU; without one they are skipped.

`-k edges` are few and small enough for compute-sanitizer.
"""

from __future__ import annotations

from typing import Any

import pytest
from helpers import cuda_checks, engine_checks
from helpers.cuda_checks import CUDA_ENGINES, GATHER_SHAPES, LAYERED, PLAIN_LAYERED, TILE_SHAPES
from helpers.engine_problems import EDGES, MANY_EDGES, OVERFLOWS, Problem
from helpers.networks import NODE_YMAX, network_of, node_problems, problems
from hypothesis import given, settings

from spdnn_cli.engines.cuda.device import import_cupy
from spdnn_cli.engines.cuda.gather_tables import GatherShape
from spdnn_cli.engines.cuda.tile import TileShape
from spdnn_cli.errors import DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device() -> Any:
    """CuPy with a device."""
    try:
        return import_cupy()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", CUDA_ENGINES)
@settings(max_examples=25)
@given(problem=problems(exact=True))
def test_small_networks(name: str, problem: Problem) -> None:
    layers, features = problem
    engine_checks.agrees(name, network_of(layers), features)


@pytest.mark.parametrize("bits", [True, False])
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_wide_networks(name: str, bits: bool) -> None:
    cuda_checks.wide_networks(name, bits)


@pytest.mark.parametrize("reorder", [True, False])
@pytest.mark.parametrize("shape", TILE_SHAPES, ids=str)
def test_tile_shapes(shape: TileShape, reorder: bool) -> None:
    cuda_checks.tile_shapes(shape, reorder)


def test_a_tile_shape_that_is_asked_for() -> None:
    cuda_checks.a_tile_shape_that_is_asked_for()


@pytest.mark.parametrize("images", [1, 15, 16, 17, 60_000])
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_any_number_of_images(name: str, images: int) -> None:
    cuda_checks.any_number_of_images(name, images)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_live_images_close_up_sooner_or_later(share: float) -> None:
    cuda_checks.live_images_close_up(share)


@pytest.mark.parametrize("bits", [True, False])
def test_streamed_weights_and_batches_of_images(bits: bool) -> None:
    cuda_checks.streamed_weights_and_batches(bits)


@pytest.mark.parametrize("memory", [None, 3_000_000])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_values_of_the_live_images(share: float, memory: int | None) -> None:
    cuda_checks.values_of_the_live_images(share, memory)


@pytest.mark.parametrize("name", PLAIN_LAYERED)
def test_batches_of_images(name: str) -> None:
    cuda_checks.batches_of_images(name)


@pytest.mark.parametrize("name", LAYERED)
def test_very_many_inputs(name: str) -> None:
    cuda_checks.very_many_inputs(name)


@pytest.mark.parametrize("name", LAYERED)
def test_too_little_memory_is_said_in_words(name: str) -> None:
    cuda_checks.too_little_memory(name)


def test_the_tile_shape_is_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_checks.tile_shapes_are_tried_out_once(monkeypatch)


@pytest.mark.parametrize("retire", [True, False])
@pytest.mark.parametrize("shape", GATHER_SHAPES, ids=str)
def test_teams_of_any_shape(
    monkeypatch: pytest.MonkeyPatch, shape: GatherShape, retire: bool
) -> None:
    cuda_checks.teams_of_any_shape(monkeypatch, shape, retire)


@pytest.mark.parametrize("retire", [True, False])
@pytest.mark.parametrize("neurons", [1024, 4096, 16384])
def test_both_kernels_of_folded_layers(
    monkeypatch: pytest.MonkeyPatch, neurons: int, retire: bool
) -> None:
    cuda_checks.both_kernels_of_folded_layers(monkeypatch, neurons, retire)


def test_images_that_outlive_the_prepared_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_checks.images_outlive_the_prepared_layers(monkeypatch)


@pytest.mark.parametrize("name", ["folded", "tiled"])
def test_a_stream_of_images(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cuda_checks.a_stream_of_images(monkeypatch, name)


def test_values_that_do_not_fit_on_the_chip() -> None:
    cuda_checks.values_that_do_not_fit_on_the_chip()


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_networks_at_the_edges(name: str, case: str) -> None:
    engine_checks.agrees_with_all_images(name, *EDGES[case](), NODE_YMAX)


@pytest.mark.parametrize("name", CUDA_ENGINES)
@given(problem=node_problems(most_neurons=4096))
def test_networks_of_any_width(name: str, problem: Problem) -> None:
    engine_checks.agrees_with_all_images(name, *problem, NODE_YMAX)


@pytest.mark.parametrize("case", OVERFLOWS)
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_folding_does_not_overflow(name: str, case: str) -> None:
    engine_checks.folding_does_not_overflow(name, case)


@pytest.mark.parametrize("case", MANY_EDGES)
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_very_many_edges_a_neuron(name: str, case: str) -> None:
    engine_checks.agrees_with_all_images(name, *MANY_EDGES[case]())


@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_certificates_follow_the_degree(name: str) -> None:
    engine_checks.certificates_follow_the_degree(name)
