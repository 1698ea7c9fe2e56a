"""The CUDA engines against the reference; batches, streaming, tuning, and what they say without."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import bit_features, float_features, layer_of, network_of, problems
from hypothesis import given, settings

from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines.cuda import folded as cuda_folded
from spdnn_cli.engines.cuda import folded_program as cuda_folded_program
from spdnn_cli.engines.cuda import gather_tables as cuda_gather_tables
from spdnn_cli.engines.cuda import tuning as cuda_tuning
from spdnn_cli.engines.cuda.device import import_cupy
from spdnn_cli.engines.cuda.gather_tables import GatherShape
from spdnn_cli.engines.cuda.tile import TileShape, Tiling
from spdnn_cli.engines.cuda.tiled import TiledEngine
from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.errors import DeviceError
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, Layer, Network
from spdnn_cli.problem import YMAX
from spdnn_cli.run import stream

CUDA_ENGINES = [name for name, entry in ENGINES.items() if entry.device == "cuda"]
LAYERED = [name for name in CUDA_ENGINES if name != "folded"]
"""Engines that fold nothing and retire dead images only: their work is known exactly."""
SHAPES = [
    *cuda_tuning.CANDIDATES[4],
    TileShape(1, 1, 256, panel=1, vector=1, buffer_bytes=24 << 10),
    TileShape(12, 1, 96, panel=12, vector=1, buffer_bytes=2 << 10),
    TileShape(16, 4, 64, panel=16, buffer_bytes=4 << 10),
]
NARROW_HALVES = TileShape(12, 1, 96, panel=12, vector=1, buffer_bytes=2 << 10, feature_bytes=2)


@pytest.fixture(scope="module")
def device() -> Any:
    """CuPy with a device."""
    try:
        return import_cupy()
    except DeviceError as error:
        pytest.skip(str(error))


def run(engine: Any, network: Network, features: Features, runs: int = 1) -> Inference:
    """The outcome of the last of some runs, on a device each from poisoned buffers."""
    engine.prepare(network)
    engine.upload(features)
    values = getattr(engine, "_values", [])
    for _ in range(runs):
        for half in [] if isinstance(values, np.ndarray) else values:
            half.fill(np.nan)
            import_cupy().cuda.Device().synchronize()
        inference: Inference = engine.infer()
    return inference


def reference(network: Network, features: Features) -> Inference:
    return run(create("reference", EngineOptions()), network, features)


def assert_equal(inference: Inference, wanted: Inference) -> None:
    """Images and work agree to the last one."""
    assert inference.categories.dtype == np.int32
    assert inference.categories.tolist() == wanted.categories.tolist()
    assert inference.alive == wanted.alive
    assert inference.executed_edges == wanted.executed_edges


def random_problem(
    sizes: list[int], degree: int, images: int, bits: bool
) -> tuple[Network, Features]:
    """A network of five layers at most, whose sums float32 holds exactly, and inputs for it.

    Some neurons have no edges. Some images are dead from the start, others die on the way.
    """
    random = np.random.default_rng()
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


def whole_numbers(
    sizes: list[int], degree: int, images: int, bits: bool
) -> tuple[Network, Features]:
    """A network whose values are whole numbers up to YMAX, and inputs for it."""
    random = np.random.default_rng()
    layers: list[Layer] = []
    for inputs, outputs in pairwise(sizes):
        keys = random.choice(inputs * outputs, outputs * degree, replace=False)
        weights, biases = random.choice([-1, 1], len(keys)), random.integers(-1, 1, outputs)
        layers.append(
            Layer.from_edges(inputs, outputs, keys % inputs, keys // inputs, weights, biases)
        )
    on = random.random((images, sizes[0])) < 0.4 * random.random((images, 1)) ** 3
    network = network_of(layers, ymax=YMAX)
    return network, bit_features(on) if bits else float_features(on * random.integers(1, 9))


WIDE = [3000, 2000, 1100, 2500, 600]
SMALL = [70, 64, 40, 64, 5]


@pytest.mark.gpu
@pytest.mark.parametrize("name", CUDA_ENGINES)
@settings(max_examples=25)
@given(problem=problems(exact=True))
def test_small_networks(device: Any, name: str, problem: tuple[list[Layer], Features]) -> None:
    layers, features = problem
    network = network_of(layers)
    inference = run(create(name, EngineOptions()), network, features)
    wanted = reference(network, features)
    if name in LAYERED:
        assert_equal(inference, wanted)
    assert inference.categories.tolist() == wanted.categories.tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [True, False])
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_wide_networks(device: Any, name: str, bits: bool) -> None:
    network, features = random_problem(WIDE, 12, 500, bits)
    inference = run(create(name, EngineOptions(threads=2)), network, features, runs=2)
    assert inference.categories.tolist() == reference(network, features).categories.tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("reorder", [True, False])
@pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda shape: "-".join(map(str, vars(shape).values()))
)
def test_tile_shapes(device: Any, shape: TileShape, reorder: bool) -> None:
    network, features = random_problem(WIDE, 12, 333, bits=True)
    engine = TiledEngine(EngineOptions(threads=2, tiling=Tiling(shape, reorder)))
    assert_equal(run(engine, network, features, runs=2), reference(network, features))


@pytest.mark.gpu
@pytest.mark.parametrize("images", [1, 15, 16, 17, 60_000])
@pytest.mark.parametrize("name", CUDA_ENGINES)
def test_any_number_of_images(device: Any, name: str, images: int) -> None:
    network, features = random_problem(SMALL, 6, images, bits=True)
    inference = run(create(name, EngineOptions()), network, features)
    wanted = reference(network, features)
    if name in LAYERED:
        assert_equal(inference, wanted)
    assert inference.categories.tolist() == wanted.categories.tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_live_images_close_up_sooner_or_later(device: Any, share: float) -> None:
    network, features = random_problem(SMALL, 6, 3000, bits=False)
    engine = TiledEngine(EngineOptions())
    engine.move_share = share
    assert_equal(run(engine, network, features, runs=2), reference(network, features))


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [True, False])
def test_streamed_weights_and_batches_of_images(device: Any, bits: bool) -> None:
    network, features = random_problem(WIDE, 12, 500, bits)
    engine = TiledEngine(EngineOptions(threads=2, device_memory=3_000_000))
    inference = run(engine, network, features, runs=2)
    assert not engine._weights.resident
    assert len(engine.batches) > 1
    assert_equal(inference, reference(network, features))


@pytest.mark.gpu
@pytest.mark.parametrize("memory", [None, 3_000_000])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_values_of_the_live_images(device: Any, share: float, memory: int | None) -> None:
    """With live images where they began or closed up, in one batch and in several."""
    network, features = random_problem(WIDE, 12, 500, bits=True)
    engine = TiledEngine(EngineOptions(threads=2, device_memory=memory, keep_values=True))
    engine.move_share = share
    inference = run(engine, network, features, runs=2)
    wanted = run(create("cpu-layered", EngineOptions(keep_values=True)), network, features)
    assert_equal(inference, wanted)
    np.testing.assert_array_equal(inference.values, wanted.values)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["baseline", "cusparse"])
def test_batches_of_images(device: Any, name: str) -> None:
    network, features = random_problem(SMALL, 6, 1000, bits=True)
    engine = create(name, EngineOptions(device_memory=100_000))
    assert_equal(run(engine, network, features, runs=2), reference(network, features))
    assert engine._batch < features.images  # type: ignore[attr-defined]


@pytest.mark.gpu
@pytest.mark.parametrize("name", LAYERED)
def test_very_many_inputs(device: Any, name: str) -> None:
    network, features = random_problem([70_000, 500, 300], 20, 60, bits=True)
    inference = run(create(name, EngineOptions()), network, features)
    assert_equal(inference, reference(network, features))


@pytest.mark.gpu
@pytest.mark.parametrize("name", LAYERED)
def test_too_little_memory_is_said_in_words(device: Any, name: str) -> None:
    network, features = random_problem(WIDE, 12, 50, bits=True)
    engine = create(name, EngineOptions(device_memory=2_000))
    engine.prepare(network)
    with pytest.raises(DeviceError, match=r"need.* \d+ bytes of device memory, -?\d+ are left"):
        engine.upload(features)


@pytest.mark.gpu
def test_the_tile_shape_is_tried_out_once(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = tmp_path / "tile-shapes.json"
    monkeypatch.setattr(cuda_tuning, "_file", lambda: choices)
    monkeypatch.setattr(cuda_tuning, "LEAST_EDGES", 0)
    monkeypatch.setattr(cuda_tuning, "MANY_IMAGES", 200)
    network, features = random_problem(SMALL, 6, 100, bits=True)
    engine = TiledEngine(EngineOptions())
    assert_equal(run(engine, network, features), reference(network, features))
    assert engine.shape in cuda_tuning.CANDIDATES[4]
    monkeypatch.setattr(cuda_tuning, "_trial_seconds", None)
    assert cuda_tuning.tuned_shape(network, EngineOptions(), TiledEngine) == engine.shape
    choices.write_text("{ mangled")
    with pytest.raises(TypeError):  # it tries again
        cuda_tuning.tuned_shape(network, EngineOptions(), TiledEngine)


def challenge_problem(neurons: int, images: int, depth: int) -> tuple[Network, Features]:
    """The first layers of an official network; random blocks of bits, some of which live long."""
    random = np.random.default_rng(7)
    on = np.zeros((images, neurons), np.bool_)
    for image, share in zip(on, random.random(images), strict=True):
        image[: int(share * neurons)] = random.random(int(share * neurons)) < 0.9
    return make_network(list(official_layers(neurons, 0, depth)), YMAX), bit_features(on)


GATHER_SHAPES = [
    GatherShape(1, 2, 32),
    GatherShape(2, 2, 32),
    GatherShape(4, 8, 32),
    GatherShape(2, 1, 64),
    GatherShape(1, 4, 64),
    GatherShape(4, 1, 64),
]


@pytest.mark.gpu
@pytest.mark.parametrize("retire", [True, False])
@pytest.mark.parametrize("shape", GATHER_SHAPES, ids=str)
def test_teams_of_any_shape(
    device: Any, monkeypatch: pytest.MonkeyPatch, shape: GatherShape, retire: bool
) -> None:
    for name in ("ONE_IMAGE", "SEVERAL_IMAGES"):
        monkeypatch.setattr(cuda_gather_tables, name, (shape,))
    network, features = challenge_problem(1024, 301, 26)
    wanted = reference(network, features)
    inference = run(create("folded", EngineOptions(retire=retire)), network, features, runs=3)
    assert inference.categories.tolist() == wanted.categories.tolist()
    if not retire:
        assert inference.alive == wanted.alive


@pytest.mark.gpu
@pytest.mark.parametrize("retire", [True, False])
@pytest.mark.parametrize("neurons", [1024, 4096, 16384])
def test_both_kernels_of_folded_layers(
    device: Any, monkeypatch: pytest.MonkeyPatch, neurons: int, retire: bool
) -> None:
    network, features = challenge_problem(neurons, 301, 26)
    options = EngineOptions(retire=retire)
    special = run(create("folded", options), network, features, runs=3)
    monkeypatch.setattr(cuda_folded_program, "gather_tables", lambda *_: None)
    general = run(create("folded", options), network, features, runs=3)
    wanted = reference(network, features)
    assert 0 < len(wanted.categories) < 301
    assert special.categories.tolist() == wanted.categories.tolist()
    assert general.categories.tolist() == wanted.categories.tolist()
    assert special.alive == general.alive
    if not retire:
        assert special.alive == wanted.alive


@pytest.mark.gpu
def test_images_that_outlive_the_prepared_layers(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_folded, "FIRST_LAYERS", 7)
    network, features = challenge_problem(1024, 301, 40)
    inference = run(create("folded", EngineOptions()), network, features, runs=2)
    assert inference.categories.tolist() == reference(network, features).categories.tolist()
    monkeypatch.setattr(stream, "CHUNK_BYTES", 50 * 128)
    engine = create("folded", EngineOptions())
    engine.prepare(network)
    streamed, _ = stream.Stream(engine, features, 2, 10).run()
    assert len(streamed.categories) >= 2 * len(inference.categories)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["folded", "tiled"])
def test_a_stream_of_images(device: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 50 * 128)
    network, features = challenge_problem(1024, 301, 20)
    engine = create(name, EngineOptions())
    engine.prepare(network)
    streaming = stream.Stream(engine, features, 3, 100)
    once = reference(network, features)
    categories = np.concatenate([once.categories + 301 * k for k in range(4)])
    for _ in range(2):
        inference, report = streaming.run()
        assert inference.categories.tolist() == categories[categories < 1003].tolist()
        assert (report.chunk_images, report.chunks, report.bytes) == (50, 23, 1003 * 128)
    assert (report.bus_bytes_per_s is None) == (name == "tiled")


@pytest.mark.gpu
def test_values_that_do_not_fit_on_the_chip(device: Any) -> None:
    network, features = random_problem([70_000, 500, 300], 20, 60, bits=True)
    engine = create("folded", EngineOptions())
    inference = run(engine, network, features)
    wanted = reference(network, features)
    assert inference.categories.tolist() == wanted.categories.tolist()
    assert inference.alive == wanted.alive
    assert engine.shortcuts == Shortcuts(True, True, False)


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="the CUDA engines need CuPy") as caught:
        create("tiled", EngineOptions()).prepare(network_of([layer_of([[1.0]])]))
    assert "pip install" in str(caught.value.hint)
