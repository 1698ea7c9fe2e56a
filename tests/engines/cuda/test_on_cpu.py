"""The CUDA engines against the reference on any machine: their kernels run on the CPU.

These are the tests of test_cuda_engines.py, with fewer and smaller problems. What they cannot show:
the speed, what happens at the same time (blocks, streams, warps of a block), and what only a GPU's
compiler and memory do. tests/cuda_on_cpu/ has how it works.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_cuda_engines as on_gpu
import test_shapes as shapes
from cuda_on_cpu import cupy_on_cpu
from cuda_on_cpu.compiler import LaunchError
from helpers.networks import node_problems, problems
from hypothesis import given, settings

from spdnn_cli.engines.cuda import kernel_source
from spdnn_cli.engines.cuda.gather_tables import GatherShape
from spdnn_cli.engines.cuda.tile import TileShape
from spdnn_cli.engines.cuda.tuning import CANDIDATES
from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import create
from spdnn_cli.network.layers import Features, Layer

REVERSE, SHUFFLED = 1, 3
BLOCK_BARRIER, WARP_BARRIER = "__syncthreads();", "__syncwarp();"
SMALL_BUFFER = TileShape(16, 4, 64, panel=16, buffer_bytes=4 << 10)
SHAPES = [shape for shape in [*CANDIDATES[4][1:], *on_gpu.SHAPES[-3:]] if shape != SMALL_BUFFER]


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


@pytest.mark.parametrize("name", on_gpu.CUDA_ENGINES)
@settings(max_examples=8)
@given(problem=problems(exact=True))
def test_small_networks(device: Any, name: str, problem: tuple[list[Layer], Features]) -> None:
    on_gpu.test_small_networks.hypothesis.inner_test(device, name, problem)


@pytest.mark.parametrize(
    ("bits", "order"), [(True, REVERSE), (False, SHUFFLED)], indirect=["order"]
)
@pytest.mark.parametrize("name", on_gpu.CUDA_ENGINES)
def test_wide_networks(device: Any, order: None, name: str, bits: bool) -> None:
    on_gpu.test_wide_networks(device, name, bits)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tile_shapes(device: Any, shape: TileShape) -> None:
    on_gpu.test_tile_shapes(device, shape, reorder=True)


@pytest.mark.parametrize("order", [0, REVERSE, SHUFFLED], indirect=True)
def test_footprints_of_several_buffers(device: Any, order: None) -> None:
    on_gpu.test_tile_shapes(device, SMALL_BUFFER, reorder=False)


@pytest.mark.parametrize("images", [1, 15, 16, 17, 700])
@pytest.mark.parametrize("name", on_gpu.CUDA_ENGINES)
def test_any_number_of_images(device: Any, name: str, images: int) -> None:
    on_gpu.test_any_number_of_images(device, name, images)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_live_images_close_up_sooner_or_later(device: Any, share: float) -> None:
    on_gpu.test_live_images_close_up_sooner_or_later(device, share)


def test_more_images_than_a_survey_moves_at_a_time(device: Any) -> None:
    on_gpu.test_any_number_of_images(device, "tiled", 20_000)


@pytest.mark.parametrize("bits", [True, False])
def test_streamed_weights_and_batches_of_images(device: Any, bits: bool) -> None:
    on_gpu.test_streamed_weights_and_batches_of_images(device, bits)


@pytest.mark.parametrize(("share", "memory"), [(0.0, None), (1.0, None), (1.0, 3_000_000)])
def test_values_of_the_live_images(device: Any, share: float, memory: int | None) -> None:
    on_gpu.test_values_of_the_live_images(device, share, memory)


@pytest.mark.parametrize("name", ["baseline", "cusparse"])
def test_batches_of_images(device: Any, name: str) -> None:
    on_gpu.test_batches_of_images(device, name)


@pytest.mark.parametrize("name", on_gpu.LAYERED)
def test_very_many_inputs(device: Any, name: str) -> None:
    on_gpu.test_very_many_inputs(device, name)


@pytest.mark.parametrize("name", on_gpu.LAYERED)
def test_too_little_memory_is_said_in_words(device: Any, name: str) -> None:
    on_gpu.test_too_little_memory_is_said_in_words(device, name)


def test_the_tile_shape_is_tried_out_once(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_gpu.cuda_tuning, "FEW_IMAGES", 30)
    on_gpu.test_the_tile_shape_is_tried_out_once(device, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("neurons", "retire", "order"),
    [(1024, True, REVERSE), (1024, False, SHUFFLED), (4096, True, 0)],
    indirect=["order"],
)
def test_both_kernels_of_folded_layers(
    device: Any, monkeypatch: pytest.MonkeyPatch, neurons: int, retire: bool, order: None
) -> None:
    on_gpu.test_both_kernels_of_folded_layers(device, monkeypatch, neurons, retire)


@pytest.mark.parametrize(
    ("shape", "order"),
    [(shape, (0, REVERSE, SHUFFLED)[k % 3]) for k, shape in enumerate(on_gpu.GATHER_SHAPES)],
    indirect=["order"],
    ids=str,
)
def test_teams_of_any_shape(
    device: Any, monkeypatch: pytest.MonkeyPatch, shape: GatherShape, order: None
) -> None:
    on_gpu.test_teams_of_any_shape(device, monkeypatch, shape, retire=shape.images != 2)


def test_images_that_outlive_the_prepared_layers(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu.test_images_that_outlive_the_prepared_layers(device, monkeypatch)


def test_a_stream_of_images(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu.test_a_stream_of_images(device, monkeypatch, "folded")


def test_values_that_do_not_fit_on_the_chip(device: Any) -> None:
    on_gpu.test_values_that_do_not_fit_on_the_chip(device)


@pytest.mark.parametrize("case", shapes.SMALL)
@pytest.mark.parametrize("name", on_gpu.CUDA_ENGINES)
def test_networks_at_the_edges(device: Any, name: str, case: str) -> None:
    shapes.check(name, *shapes.SMALL[case]())


@pytest.mark.parametrize("name", on_gpu.CUDA_ENGINES)
@settings(max_examples=20)
@given(problem=node_problems(most_neurons=1024))
def test_networks_of_any_width(
    device: Any, name: str, problem: tuple[list[Layer], Features]
) -> None:
    shapes.check(name, *problem)


@pytest.mark.slow
@pytest.mark.parametrize("name", on_gpu.CUDA_ENGINES)
@settings(max_examples=300)
@given(problem=node_problems(most_neurons=2048))
def test_many_networks_of_any_width(
    device: Any, name: str, problem: tuple[list[Layer], Features]
) -> None:
    shapes.check(name, *problem)


def test_an_array_that_is_gone_is_missed(device: Any) -> None:
    """A graph holds addresses only, so an engine must keep what its graph reads."""
    network, features = on_gpu.random_problem(on_gpu.SMALL, 6, 100, bits=True)
    engine = create("tiled", EngineOptions())
    on_gpu.run(engine, network, features)
    del engine._weights._tables[1]
    with pytest.raises(LaunchError, match=r"layer<2>: block .*: it read or wrote memory outside"):
        engine.infer()


@pytest.mark.parametrize(
    ("file", "barrier", "number"),
    [
        ("tiled.cu", BLOCK_BARRIER, 0),
        ("tiled.cu", BLOCK_BARRIER, 1),
        ("folded_gather.cu", BLOCK_BARRIER, 0),
        ("folded_gather.cu", BLOCK_BARRIER, 3),
        ("folded_gather.cu", WARP_BARRIER, 0),
        ("folded_steps.cu", BLOCK_BARRIER, 0),
        ("folded_steps.cu", BLOCK_BARRIER, 1),
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
    test: Any = on_gpu.test_both_kernels_of_folded_layers
    arguments: tuple[Any, ...] = (device, monkeypatch, 1024, True)
    if file == "tiled.cu":
        test, arguments = on_gpu.test_tile_shapes, (device, SMALL_BUFFER, False)
    elif file == "folded_gather.cu":
        shape = GatherShape(1, 2, 32) if barrier == WARP_BARRIER else GatherShape(4, 1, 64)
        test, arguments = on_gpu.test_teams_of_any_shape, (device, monkeypatch, shape, True)
    with pytest.raises((AssertionError, LaunchError)):
        test(*arguments)
