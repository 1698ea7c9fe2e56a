"""The tile shape of the `tiled` engine: tried out on the device, once for each kind of network.

A trial runs a few layers from the middle of the network with each candidate. The choice is kept in
`EngineOptions.choices`, so that the next run of such a network starts at once.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.kernel_source import kernels_sha256
from spdnn_cli.engines.cuda.tile import TileShape
from spdnn_cli.engines.protocol import Engine, EngineOptions
from spdnn_cli.errors import DeviceError, EngineError
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, FoldedLayer, Network

CANDIDATES = (
    TileShape(minibatch=16, outputs=4, blocksize=64),
    TileShape(minibatch=24, outputs=4, blocksize=64),
    TileShape(minibatch=8, outputs=4, blocksize=128),
    TileShape(minibatch=16, outputs=2, blocksize=128),
    TileShape(minibatch=16, outputs=4, blocksize=64, panel=16),
    TileShape(minibatch=12, outputs=1, blocksize=256, panel=4, buffer_bytes=24 << 10),
)
"""The first is the default; the last has the paper's numbers."""
LEAST_EDGES = 1 << 20
"""Edges below which a network runs with the default shape, without a trial."""
TRIAL_LAYERS = 8
FEW_IMAGES, MANY_IMAGES = 2_000, 24_000
"""A trial has both: few images live in most layers of a network, many in the first ones. In the
challenge's, the first layers do the work of about one trial with many."""
TRIAL_RUNS = 3
ALWAYS_ALIVE = np.float32(1e30)
"""A bias with which all images stay alive in a trial."""

MakeEngine = Callable[[EngineOptions, TileShape], Engine]


def tuned_shape(network: Network, options: EngineOptions, make_engine: MakeEngine) -> TileShape:
    """The fastest of the `CANDIDATES` for this network on the current device.

    Args:
        network: what is to run.
        options: threads and device memory for the trials, and where choices are kept.
        make_engine: makes an engine for a shape.
    """
    if network.edges < LEAST_EDGES:
        return CANDIDATES[0]
    first = max(0, (network.depth - TRIAL_LAYERS) // 2)
    with options.stopwatch.stage("read"):
        layers = network.layers[first : first + TRIAL_LAYERS]
    key = _key(network, layers)
    kept = _shape(options.choices.get(key))
    if kept is not None:
        return kept
    trial = make_network([_with_live_images(layer) for layer in layers], network.ymax)
    # The stages of a trial are not those of the run, and nobody follows its progress.
    quiet = EngineOptions(threads=options.threads, device_memory=options.device_memory)
    seconds = {
        shape: _trial_seconds(make_engine(quiet, shape), trial, network.depth)
        for shape in CANDIDATES
    }
    best = min(seconds, key=lambda shape: seconds[shape])
    options.choices[key] = json.dumps(asdict(best))
    return best


def _trial_seconds(engine: Engine, trial: Network, depth: int) -> float:
    """An estimate of the seconds of a whole run of `depth` layers."""
    neurons, seconds = trial.layers[0].inputs, []
    try:
        engine.prepare(trial)
        for images in (FEW_IMAGES, MANY_IMAGES):
            engine.upload(Features(np.full((images, -(-neurons // 8)), 255, np.uint8), neurons))
            samples = []
            for _ in range(TRIAL_RUNS):
                start = time.perf_counter()
                engine.infer()
                samples.append(time.perf_counter() - start)
            seconds.append(min(samples))
    except DeviceError:  # this shape needs more memory than there is
        return math.inf
    return seconds[0] * depth / trial.depth + seconds[1]


def _with_live_images(layer: FoldedLayer) -> FoldedLayer:
    bias = np.full_like(layer.core.bias, ALWAYS_ALIVE)
    return replace(layer, core=replace(layer.core, bias=bias))


# --- what was chosen before ----------------------------------------------------------------------


def _key(network: Network, layers: Sequence[FoldedLayer]) -> str:
    """The properties of device, software and network that decide which shape is fastest."""
    import cupy

    runtime = cupy.cuda.runtime
    device = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
    parts: list[Any] = [device, runtime.driverGetVersion(), kernels_sha256()[:16], network.depth]
    parts += [(layer.inputs, layer.outputs, layer.edges) for layer in layers]
    return json.dumps([*parts, [list(asdict(shape).values()) for shape in CANDIDATES]])


def _shape(text: str | None) -> TileShape | None:
    """The stored shape; None: there is none, or it is not valid."""
    try:
        return None if text is None else TileShape(**json.loads(text))
    except (ValueError, TypeError, EngineError):
        return None
