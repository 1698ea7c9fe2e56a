"""The choice of `auto`: which engine runs, on which device, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spdnn_cli.engines.registry import ENGINES, find, on_device
from spdnn_cli.errors import EngineError
from spdnn_cli.network.layers import Network
from spdnn_cli.results.record import Device

MOST_FOLDED_SHARE = 0.5
"""`auto` folds where the cores keep no more than this share of the edges."""
MOST_FOLDED_VALUES = 12_000
"""Values of an image of which two copies fit in 96 KiB of shared memory."""


@dataclass(frozen=True)
class Choice:
    """The engine that runs, on which device, and why; and why not on a GPU that is there."""

    engine: str
    device: Device
    reason: str
    no_gpu: str | None = None


def choose(
    name: str,
    device: Device | None,
    best_device: Device,
    network: Network,
    no_gpu: str | None = None,
) -> Choice:
    """Choose the engine and the device.

    Args:
        name: an engine, or "auto".
        device: "cpu", "cuda", or None: that of the engine, and `best_device` for "auto".
        best_device: the best that is present.
        network: what is to run; `auto` looks at its first layers.
        no_gpu: why `best_device` is not the GPU that is there; None: it is, or there is none.

    Raises:
        EngineError: there is no such engine, or it does not run on the device.
    """
    if name == "auto":
        choice = _best(device or best_device, network)
        if device is not None or no_gpu is None:
            return choice
        return replace(choice, reason=f"{choice.reason}; no GPU: {no_gpu}", no_gpu=no_gpu)
    entry = find(name)
    if device not in (None, entry.device):
        raise EngineError(
            f"engine {name} runs on {entry.device}, not on {device}",
            hint=f"Leave out --device, or choose one of {', '.join(on_device(str(device)))}.",
        )
    return Choice(name, entry.device, "asked for")


def _best(device: Device, network: Network) -> Choice:
    first = network.layers[: min(2, network.depth)]
    share = sum(layer.core.edges for layer in first) / max(1, sum(layer.edges for layer in first))
    left = f"{share:.1%} of the first layers' edges are left after folding twins"
    candidates = [entry for entry in ENGINES.values() if entry.auto and entry.device == device]
    folded = next(entry.name for entry in candidates if entry.folds)
    plain = next(entry.name for entry in candidates if not entry.folds)
    if share > MOST_FOLDED_SHARE:
        return Choice(plain, device, f"few neurons are twins: {left}")
    widest = max(layer.core.outputs for layer in first)
    if device == "cuda" and widest > MOST_FOLDED_VALUES:
        left += f"; layer by layer: {widest} values of an image do not fit on the chip"
    return Choice(folded, device, left)
