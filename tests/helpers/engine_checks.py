"""What every engine must do, on a CPU, on a GPU and on the emulator: the reference's answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from helpers.engine_problems import OVERFLOWS, Overflow, saturating_problem
from helpers.networks import YMAX, network_of
from spdnn_cli.engines.cuda.device import import_cupy
from spdnn_cli.engines.protocol import EngineOptions, Inference
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.network.layers import Features, Layer, Network


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


def outcome(name: str, network: Network, features: Features, **options: Any) -> Inference:
    """What an engine finds that is made for it."""
    return run(create(name, EngineOptions(**options)), network, features)


def every_layer(inference: Inference, depth: int) -> list[int]:
    """Images alive after each layer; after the layers that did not run as many as at the end."""
    alive = list(inference.alive)
    return alive + [len(inference.categories)] * (depth - len(alive))


def reference(network: Network, features: Features) -> Inference:
    """What the reference finds."""
    return run(create("reference", EngineOptions()), network, features)


def assert_equal(inference: Inference, wanted: Inference) -> None:
    """Images and work agree to the last one."""
    assert inference.categories.dtype == np.int32
    assert inference.categories.tolist() == wanted.categories.tolist()
    assert inference.alive == wanted.alive
    assert inference.executed_edges == wanted.executed_edges


def agrees(name: str, network: Network, features: Features, **options: Any) -> Inference:
    """An engine finds the reference's categories; all that is known of its work, if it folds not.

    The outcome is that of a second run, so that the first has left all as it should.
    """
    engine = create(name, EngineOptions(threads=2, **options))
    inference, wanted = run(engine, network, features, runs=2), reference(network, features)
    assert inference.categories.tolist() == wanted.categories.tolist(), f"{name}, {options}"
    if not ENGINES[name].folds:
        assert_equal(inference, wanted)
    elif not options.get("retire", True):
        assert inference.alive == wanted.alive, f"{name}, {options}"
    return inference


def agrees_with_all_images(
    name: str, layers: list[Layer], features: Features, ymax: float = YMAX
) -> None:
    """`agrees`, with finished images leaving, and with all of them running to the end."""
    network = network_of(layers, ymax)
    for retire in [True, False] if ENGINES[name].folds else [True]:
        agrees(name, network, features, retire=retire)


def folding_does_not_overflow(name: str, case: str) -> None:
    """Where twins add up to more than float32 holds, as bits and as values."""
    overflow: Overflow = OVERFLOWS[case]
    for features in overflow.features():
        agrees_with_all_images(name, overflow.layers(), features, overflow.ymax)


def certificates_follow_the_degree(name: str) -> None:
    """A saturated image leaves only where no rounding of 32,768 terms lets it fall below YMAX."""
    for share, keeps in ((5e-4, False), (1e-2, True)):
        layers, features = saturating_problem(share)
        network = network_of(layers)
        assert network.keeps_saturated.tolist() == [True, keeps, True, keeps, True]
        inference = agrees(name, network, features)
        assert inference.categories.tolist() == [0]
        first_final = 1 if keeps else 4
        runs = first_final if ENGINES[name].folds else len(layers)
        assert len(inference.alive) == runs
