"""The reference: SciPy, float64, plain layers one by one. Slow and short: all others are compared
with it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.network.fold import unfold
from spdnn_cli.network.layers import Features, Network

BYTES_AT_A_TIME = 1 << 29
"""Bytes of one float64 array of values. Images run in batches that fit it."""
TIE = 1e-6
"""Sums up to this share of the bias count as zero. The challenge's biases are decimal numbers that
float32 rounds by up to 6e-8 of their size, and in its early layers some sums cancel them exactly.
The rest of such a sum is rounding: without this rule a value of 1e-8 would keep an image alive."""


class ReferenceEngine:
    """y' = clip(W y + bias), or 0 if W y is zero, in float64; dead images are dropped."""

    shortcuts = Shortcuts(
        dead_images_dropped=True, twins_folded=False, finished_images_retired=False
    )

    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    def prepare(self, network: Network) -> None:
        self._network = network
        with self._options.stopwatch.stage("read"):
            self._widest = max(layer.outputs for layer in network.layers)

    def upload(self, features: Features) -> None:
        self._features = features

    def infer(self) -> Inference:
        network, features = self._network, self._features
        batch = max(1, BYTES_AT_A_TIME // (8 * max(features.neurons, self._widest)))
        entering, living = np.zeros((2, network.depth), np.int64)
        categories = []
        for first in range(0, features.images, batch):
            images = np.arange(first, min(first + batch, features.images))
            values = features.values(first, first + batch).T.astype(np.float64)
            for k in range(network.depth):
                if len(images) == 0:
                    break
                entering[k] += len(images)
                values = self._layer(k, values)
                lives = values.any(axis=0)
                images, values = images[lives], values[:, lives]
                living[k] += len(images)
                if self._options.progress is not None:
                    self._options.progress(k + 1, len(images))
            categories.append(images)
        ran = np.count_nonzero(entering)
        return Inference(
            np.concatenate(categories).astype(np.int32),
            int(entering @ network.edges_by_layer),
            tuple(living[:ran].tolist()),
        )

    def _layer(self, k: int, values: np.ndarray) -> np.ndarray:
        """Values (inputs, images) before layer k to values (outputs, images) after it."""
        with self._options.stopwatch.stage("read"):
            folded = self._network.layers[k]
        with self._options.stopwatch.stage("prepare"):
            layer = unfold(folded)
            weights = sparse.csr_matrix(
                (layer.weights.astype(np.float64), layer.columns, layer.row_offsets),
                shape=(layer.outputs, layer.inputs),
            )
        sums = weights @ values
        bias = layer.bias[:, None].astype(np.float64)
        shifted = sums + bias
        # What is left after sum and bias cancel is the rounding of the bias to float32.
        shifted[np.abs(shifted) <= TIE * np.abs(bias)] = 0
        return np.where(sums != 0, np.clip(shifted, 0, self._network.ymax), 0)
