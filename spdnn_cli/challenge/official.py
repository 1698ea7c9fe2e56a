"""Is a network the challenge's own? By the checksums of its layers; its name proves nothing."""

from __future__ import annotations

import hashlib

from spdnn_cli import problem
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.network.dataset import Dataset, layer_sha256


def official_depth(dataset: Dataset, layers: int | None = None) -> int:
    """How many of the first `layers` layers (default: all) are the challenge's, from the first on.

    The checksums are those in the file; `Dataset.check` tells whether they are those of its layers.
    Where they are not known by the depths of `problem.NETWORK_SHA256`, layers are regenerated.
    """
    if dataset.neurons not in problem.NEURONS or dataset.ymax != problem.YMAX:
        return 0
    wanted = min(dataset.layers if layers is None else layers, problem.LAYERS[-1])
    stored = dataset.layer_checksums()
    known = problem.NETWORK_SHA256[dataset.neurons]
    whole = [
        depth
        for depth in problem.LAYERS
        if depth <= len(stored)
        and hashlib.sha256(stored[:depth].tobytes()).hexdigest() == known[depth]
    ]
    depth = max(whole, default=0)
    if depth >= wanted:
        return wanted
    for layer in official_layers(dataset.neurons, depth, wanted):
        if layer_sha256(layer) != stored[depth].tobytes().hex():
            break
        depth += 1
    return depth
