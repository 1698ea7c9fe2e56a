"""What the CUDA engines must do, on a GPU and on the emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.engine_checks import agrees, assert_equal, reference, run
from helpers.engine_problems import NARROW, WIDE, challenge_problem, random_problem
from spdnn_cli.engines.cuda import folded, folded_program, gather_tables, tuning
from spdnn_cli.engines.cuda.gather_tables import GatherShape
from spdnn_cli.engines.cuda.tile import TileShape, Tiling
from spdnn_cli.engines.cuda.tiled import TiledEngine
from spdnn_cli.engines.protocol import EngineOptions, Shortcuts
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.errors import DeviceError
from spdnn_cli.run import stream

CUDA_ENGINES = [name for name, entry in ENGINES.items() if entry.device == "cuda"]
LAYERED = [name for name in CUDA_ENGINES if not ENGINES[name].folds]
"""Engines that fold nothing and retire dead images only: their work is known exactly."""
PLAIN_LAYERED = [name for name in LAYERED if name != "tiled"]
SMALL_BUFFER = TileShape(16, 4, 64, panel=16, buffer_bytes=4 << 10)
"""With several buffers to a block."""
TILE_SHAPES = [
    *tuning.CANDIDATES,
    TileShape(1, 1, 256, panel=1, vector=1, buffer_bytes=24 << 10),
    TileShape(12, 1, 96, panel=12, vector=1, buffer_bytes=2 << 10),
    SMALL_BUFFER,
]
GATHER_SHAPES = [
    GatherShape(1, 2, 32),
    GatherShape(2, 2, 32),
    GatherShape(4, 8, 32),
    GatherShape(2, 1, 64),
    GatherShape(1, 4, 64),
    GatherShape(4, 1, 64),
]


def wide_networks(name: str, bits: bool) -> None:
    """Layers of thousands of neurons."""
    network, features = random_problem(WIDE, 12, 500, bits)
    inference = agrees(name, network, features)
    assert 0 < len(inference.categories) < 500


def tile_shapes(shape: TileShape, reorder: bool) -> None:
    """The tiled engine with a shape."""
    network, features = random_problem(WIDE, 12, 333, bits=True)
    engine = TiledEngine(EngineOptions(threads=2), Tiling(shape, reorder))
    assert_equal(run(engine, network, features, runs=2), reference(network, features))


def a_tile_shape_that_is_asked_for() -> None:
    """It is taken, without a trial, and told for the record."""
    network, features = random_problem(NARROW, 6, 100, bits=True)
    own = {"tile": "minibatch=8,outputs=2,blocksize=64,buffer=4KB,reorder=no"}
    engine = TiledEngine(EngineOptions(own=own))
    assert_equal(run(engine, network, features), reference(network, features))
    assert engine.settings == {
        "minibatch": 8,
        "outputs": 2,
        "blocksize": 64,
        "panel": 8,
        "vector": 4,
        "buffer_bytes": 4096,
        "reorder": False,
    }


def any_number_of_images(name: str, images: int) -> None:
    """One image, about a minibatch of them, many."""
    network, features = random_problem(NARROW, 6, images, bits=True)
    agrees(name, network, features)


def live_images_close_up(share: float) -> None:
    """Sooner or later."""
    network, features = random_problem(NARROW, 6, 3000, bits=False)
    engine = TiledEngine(EngineOptions())
    engine.move_share = share
    assert_equal(run(engine, network, features, runs=2), reference(network, features))


def streamed_weights_and_batches(bits: bool) -> None:
    """With less memory than weights and images need."""
    network, features = random_problem(WIDE, 12, 500, bits)
    engine = TiledEngine(EngineOptions(threads=2, device_memory=3_000_000))
    inference = run(engine, network, features, runs=2)
    assert not engine._weights.resident
    assert len(engine.batches) > 1
    assert_equal(inference, reference(network, features))


def values_of_the_live_images(share: float, memory: int | None) -> None:
    """With live images where they began or closed up, in one batch and in several."""
    network, features = random_problem(WIDE, 12, 500, bits=True)
    engine = TiledEngine(EngineOptions(threads=2, device_memory=memory, keep_values=True))
    engine.move_share = share
    inference = run(engine, network, features, runs=2)
    wanted = run(create("cpu-layered", EngineOptions(keep_values=True)), network, features)
    assert_equal(inference, wanted)
    np.testing.assert_array_equal(inference.values, wanted.values)


def batches_of_images(name: str) -> None:
    """With room for some of the images."""
    network, features = random_problem(NARROW, 6, 1000, bits=True)
    engine: Any = create(name, EngineOptions(device_memory=100_000))
    assert_equal(run(engine, network, features, runs=2), reference(network, features))
    assert engine._batch < features.images


def very_many_inputs(name: str) -> None:
    """More than 16 bits can number."""
    network, features = random_problem([70_000, 500, 300], 20, 60, bits=True)
    agrees(name, network, features)


def too_little_memory(name: str) -> None:
    """It is said in words."""
    network, features = random_problem(WIDE, 12, 50, bits=True)
    engine = create(name, EngineOptions(device_memory=2_000))
    engine.prepare(network)
    with pytest.raises(DeviceError, match=r"need.* \d+ bytes of device memory, -?\d+ are left"):
        engine.upload(features)


def tile_shapes_are_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found is handed out, and taken the next time; what is mangled is found anew."""
    monkeypatch.setattr(tuning, "LEAST_EDGES", 0)
    monkeypatch.setattr(tuning, "MANY_IMAGES", 200)
    network, features = random_problem(NARROW, 6, 100, bits=True)
    choices: dict[str, str] = {}
    engine = TiledEngine(EngineOptions(choices=choices))
    assert_equal(run(engine, network, features), reference(network, features))
    assert engine.shape in tuning.CANDIDATES
    ((key, found),) = choices.items()

    def no_trial(*_: object) -> float:
        raise AssertionError("a trial")

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_trial_seconds", no_trial)
        again = TiledEngine(EngineOptions(choices=choices))
        again.prepare(network)
        assert again.shape == engine.shape
        for mangled in ("{ mangled", '{"minibatch": 7}', "[]"):
            with pytest.raises(AssertionError, match="a trial"):
                TiledEngine(EngineOptions(choices={key: mangled})).prepare(network)
    assert choices == {key: found}


def teams_of_any_shape(monkeypatch: pytest.MonkeyPatch, shape: GatherShape, retire: bool) -> None:
    """Of the threads of kernels/folded_gather.cu."""
    for name in ("ONE_IMAGE", "SEVERAL_IMAGES"):
        monkeypatch.setattr(gather_tables, name, (shape,))
    network, features = challenge_problem(1024, 301, 26)
    agrees("folded", network, features, retire=retire)


def both_kernels_of_folded_layers(
    monkeypatch: pytest.MonkeyPatch, neurons: int, retire: bool
) -> None:
    """kernels/folded_gather.cu, and kernels/folded_steps.cu in its place."""
    network, features = challenge_problem(neurons, 301, 26)
    special = agrees("folded", network, features, retire=retire)
    monkeypatch.setattr(folded_program, "gather_tables", lambda *_: None)
    general = agrees("folded", network, features, retire=retire)
    assert 0 < len(special.categories) < 301
    assert special.alive == general.alive


def images_outlive_the_prepared_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further layers are prepared then, also in the middle of a stream."""
    monkeypatch.setattr(folded, "FIRST_LAYERS", 7)
    network, features = challenge_problem(1024, 301, 40)
    once = agrees("folded", network, features)
    monkeypatch.setattr(stream, "CHUNK_BYTES", 50 * 128)
    engine = create("folded", EngineOptions())
    engine.prepare(network)
    streamed, _ = stream.Stream(engine, features, 2, 10).run()
    categories = np.concatenate([once.categories + 301 * k for k in range(3)])
    assert streamed.categories.tolist() == categories[categories < 612].tolist()


def a_stream_of_images(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The same images again and again, in chunks."""
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


def values_that_do_not_fit_on_the_chip() -> None:
    """The folded layers run one by one then."""
    network, features = random_problem([70_000, 500, 300], 20, 60, bits=True)
    engine = create("folded", EngineOptions())
    inference, wanted = run(engine, network, features), reference(network, features)
    assert inference.categories.tolist() == wanted.categories.tolist()
    assert inference.alive == wanted.alive
    assert engine.shortcuts == Shortcuts(True, True, False)
