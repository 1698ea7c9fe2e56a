"""The CUDA engines against the reference on any machine: their kernels run on the CPU.

These are the checks of test_on_gpu.py, with fewer and smaller problems. What they cannot show: the
speed, what happens at the same time (blocks, streams, warps of a block), and what only a GPU's
compiler and memory do. tests/cuda_on_cpu/ has how it works.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cuda_on_cpu import cupy_on_cpu
from cuda_on_cpu.compiler import LaunchError
from helpers import cuda_checks, engine_checks
from helpers.cuda_checks import (
    CUDA_ENGINES,
    GATHER_SHAPES,
    LAYERED,
    PLAIN_LAYERED,
    SMALL_BUFFER,
    TILE_SHAPES,
)
from helpers.engine_problems import (
    EDGES,
    MANY_EDGES,
    NARROW,
    OVERFLOWS,
    Problem,
    random_problem,
)
from helpers.networks import NODE_YMAX, layer_of, network_of, node_problems, problems
from hypothesis import given, settings

from spdnn_cli.engines.cuda import kernel_source, tuning
from spdnn_cli.engines.cuda.gather_tables import GatherShape
from spdnn_cli.engines.cuda.tile import TileShape
from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import create
from spdnn_cli.errors import DeviceError

REVERSE, SHUFFLED = 1, 3
BLOCK_BARRIER, WARP_BARRIER = "__syncthreads();", "__syncwarp();"
FOLDING = [name for name in CUDA_ENGINES if name not in LAYERED]
NO_VECTORS = TILE_SHAPES[-2]
QUICK_EDGES = (
    "an image a lane",
    "2 images a warp, odd copies",
    "more words than shared memory",
    "more shifts than are prepared",
    "odd nodes",
)


def variation(*values: Any) -> Any:
    """Parameters for slow tests: a kind of problem that quick tests have too."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A stand-in for CuPy."""
    with cupy_on_cpu(tmp_path_factory.mktemp("kernels")) as cupy:
        yield cupy


@pytest.fixture
def order(device: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """Blocks, and the threads of a block, run in the order that the test asks for."""
    device.settings.order = request.param
    yield
    device.settings.order = 0


@pytest.mark.parametrize("name", CUDA_ENGINES)
@settings(max_examples=5)
@given(problem=problems(exact=True))
def test_small_networks(device: Any, name: str, problem: Problem) -> None:
    layers, features = problem
    engine_checks.agrees(name, network_of(layers), features)


@pytest.mark.parametrize(
    ("bits", "order"), [(True, REVERSE), variation(False, SHUFFLED)], indirect=["order"]
)
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_wide_networks(device: Any, order: None, name: str, bits: bool) -> None:
    cuda_checks.wide_networks(name, bits)


@pytest.mark.parametrize(
    "shape",
    [
        shape if shape == NO_VECTORS else variation(shape)
        for shape in TILE_SHAPES[1:]  # other tests have the first
        if shape != SMALL_BUFFER
    ],
    ids=str,
)
def test_tile_shapes(device: Any, shape: TileShape) -> None:
    cuda_checks.tile_shapes(shape, reorder=True)


def test_a_tile_shape_that_is_asked_for(device: Any) -> None:
    cuda_checks.a_tile_shape_that_is_asked_for()


@pytest.mark.parametrize("order", [variation(0), REVERSE, variation(SHUFFLED)], indirect=True)
def test_footprints_of_several_buffers(device: Any, order: None) -> None:
    cuda_checks.tile_shapes(SMALL_BUFFER, reorder=False)


@pytest.mark.parametrize("images", [1, 15, 16, 17, 700])
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_any_number_of_images(device: Any, name: str, images: int) -> None:
    cuda_checks.any_number_of_images(name, images)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_live_images_close_up_sooner_or_later(device: Any, share: float) -> None:
    cuda_checks.live_images_close_up(share)


def test_more_images_than_are_listed_at_a_time(device: Any) -> None:
    cuda_checks.any_number_of_images("tiled", 20_000)


@pytest.mark.parametrize("bits", [True, variation(False)])
def test_streamed_weights_and_batches_of_images(device: Any, bits: bool) -> None:
    cuda_checks.streamed_weights_and_batches(bits)


@pytest.mark.parametrize(
    ("share", "memory"), [variation(0.0, None), variation(1.0, None), (1.0, 3_000_000)]
)
def test_values_of_the_live_images(device: Any, share: float, memory: int | None) -> None:
    cuda_checks.values_of_the_live_images(share, memory)


@pytest.mark.parametrize("name", PLAIN_LAYERED)
def test_batches_of_images(device: Any, name: str) -> None:
    cuda_checks.batches_of_images(name)


@pytest.mark.parametrize("name", LAYERED)
def test_very_many_inputs(device: Any, name: str) -> None:
    cuda_checks.very_many_inputs(name)


@pytest.mark.parametrize("name", LAYERED)
def test_too_little_memory_is_said_in_words(device: Any, name: str) -> None:
    cuda_checks.too_little_memory(name)


def test_the_tile_shape_is_tried_out_once(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FEW_IMAGES", 30)
    monkeypatch.setattr(tuning, "CANDIDATES", tuning.CANDIDATES[:2])
    cuda_checks.tile_shapes_are_tried_out_once(monkeypatch)


@pytest.mark.parametrize(
    ("neurons", "retire", "order"),
    [
        (1024, True, REVERSE),
        variation(1024, False, SHUFFLED),
        variation(4096, True, 0),
    ],
    indirect=["order"],
)
def test_both_kernels_of_folded_layers(
    device: Any, monkeypatch: pytest.MonkeyPatch, neurons: int, retire: bool, order: None
) -> None:
    cuda_checks.both_kernels_of_folded_layers(monkeypatch, neurons, retire)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        (variation if k % 2 else pytest.param)(shape, (0, REVERSE, SHUFFLED)[k % 3])
        for k, shape in enumerate(GATHER_SHAPES)
    ],
    indirect=["order"],
    ids=str,
)
def test_teams_of_any_shape(
    device: Any, monkeypatch: pytest.MonkeyPatch, shape: GatherShape, order: None
) -> None:
    cuda_checks.teams_of_any_shape(monkeypatch, shape, retire=shape.images != 2)


def test_images_that_outlive_the_prepared_layers(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_checks.images_outlive_the_prepared_layers(monkeypatch)


def test_a_stream_of_images(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_checks.a_stream_of_images(monkeypatch, "folded")


def test_values_that_do_not_fit_on_the_chip(device: Any) -> None:
    cuda_checks.values_that_do_not_fit_on_the_chip()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        (pytest.param if name in FOLDING and case in QUICK_EDGES else variation)(name, case)
        for name in CUDA_ENGINES
        for case in EDGES
    ],
)
def test_networks_at_the_edges(device: Any, name: str, case: str) -> None:
    engine_checks.agrees_with_all_images(name, *EDGES[case](), NODE_YMAX)


@pytest.mark.parametrize("name", CUDA_ENGINES)
@settings(max_examples=5)
@given(problem=node_problems(most_neurons=1024))
def test_networks_of_any_width(device: Any, name: str, problem: Problem) -> None:
    engine_checks.agrees_with_all_images(name, *problem, NODE_YMAX)


@pytest.mark.slow
@pytest.mark.parametrize("name", CUDA_ENGINES)
@settings(max_examples=300)
@given(problem=node_problems(most_neurons=2048))
def test_many_networks_of_any_width(device: Any, name: str, problem: Problem) -> None:
    engine_checks.agrees_with_all_images(name, *problem, NODE_YMAX)


@pytest.mark.parametrize("case", OVERFLOWS)
@pytest.mark.parametrize("name", [*FOLDING, *map(variation, LAYERED)])
def test_folding_does_not_overflow(device: Any, name: str, case: str) -> None:
    engine_checks.folding_does_not_overflow(name, case)


@pytest.mark.parametrize(
    "case",
    [case if case == "no twins" else variation(case) for case in MANY_EDGES],
)
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_very_many_edges_a_neuron(device: Any, name: str, case: str) -> None:
    engine_checks.agrees_with_all_images(name, *MANY_EDGES[case]())


@pytest.mark.parametrize("name", [*FOLDING, *map(variation, LAYERED)])
def test_certificates_follow_the_degree(device: Any, name: str) -> None:
    engine_checks.certificates_follow_the_degree(name)


def test_an_array_that_is_gone_is_missed(device: Any) -> None:
    """A graph holds addresses only, so an engine must keep what its graph reads."""
    network, features = random_problem(NARROW, 6, 100, bits=True)
    engine: Any = create("tiled", EngineOptions())
    engine_checks.run(engine, network, features)
    del engine._weights._tables[1]
    with pytest.raises(LaunchError, match=r"layer<2>: block .*: it read or wrote memory outside"):
        engine.infer()


@pytest.mark.parametrize(
    ("file", "barrier", "number"),
    [
        ("tiled.cu", BLOCK_BARRIER, 0),
        variation("tiled.cu", BLOCK_BARRIER, 1),
        variation("folded_gather.cu", BLOCK_BARRIER, 0),
        variation("folded_gather.cu", BLOCK_BARRIER, 3),
        ("folded_gather.cu", WARP_BARRIER, 0),
        variation("folded_steps.cu", BLOCK_BARRIER, 0),
        variation("folded_steps.cu", BLOCK_BARRIER, 1),
    ],
)
def test_a_barrier_that_is_missing_is_noticed(
    device: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    barrier: str,
    number: int,
) -> None:
    """These tests can fail: in a copy of the kernels that lacks one barrier."""
    kernel_source.kernels_sha256()  # it is remembered, and should be that of the real ones
    folder = shutil.copytree(kernel_source.kernels_folder(), tmp_path / "kernels")
    first, *others = (folder / file).read_text().split(barrier)
    kept = [(";" if k == number else barrier) + text for k, text in enumerate(others)]
    (folder / file).write_text("".join([first, *kept]))
    monkeypatch.setattr(kernel_source, "kernels_folder", lambda: folder)
    with pytest.raises((AssertionError, LaunchError)):
        _check_of(file, barrier, monkeypatch)()


def _check_of(file: str, barrier: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A check that runs this barrier."""
    if file == "tiled.cu":
        return partial(cuda_checks.tile_shapes, SMALL_BUFFER, reorder=False)
    if file == "folded_steps.cu":
        return partial(cuda_checks.both_kernels_of_folded_layers, monkeypatch, 1024, retire=True)
    shape = GatherShape(1, 2, 32) if barrier == WARP_BARRIER else GatherShape(4, 1, 64)
    return partial(cuda_checks.teams_of_any_shape, monkeypatch, shape, retire=True)


@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_without_cupy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="the CUDA engines need CuPy") as caught:
        create(name, EngineOptions()).prepare(network_of([layer_of([[1.0]])]))
    assert "pip install" in str(caught.value.hint)
