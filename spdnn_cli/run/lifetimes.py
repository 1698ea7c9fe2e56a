"""How many layers each image of a run is alive: the trace from which `scaling` projects.

The network is run folded, on the CPU, with SciPy. Leading shift layers run in whole units, which is
exact (`steps.fixed_point_unit`); others run in float64, as in the reference engine. Images leave
when they are dead, or saturated for good, since their result is then certain.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spdnn_cli.engines.reference import TIE
from spdnn_cli.network.layers import Bools, Features, Network
from spdnn_cli.network.steps import Product, Step, Steps, fixed_point_unit, leading_shift_layers

Lifetimes = NDArray[np.uint16]

BATCH_BYTES = 1 << 26
"""Bytes of inputs, as float32, that a thread takes at a time."""
LOOK_AHEAD = 32
"""Layers that are prepared at first, to count the leading shift layers among them."""


def lifetimes(network: Network, features: Features, retire: bool, threads: int) -> Lifetimes:
    """How many layers each image enters.

    Args:
        network: the layers.
        features: the inputs.
        retire: whether an image is finished when it is saturated for good
            (`Network.saturation_is_final`), as for engines that retire images. False: only when it
            is dead, that is all zero.
        threads: CPU threads.

    Returns:
        uint16 (images,), from 1 to the depth: the layer, counted from 1, after which the image was
        dead or finished; the depth if it never was.
    """
    layers = _Layers(network, features.are_bits)
    entered = np.zeros(features.images, np.uint16)
    size = max(1, BATCH_BYTES // (4 * features.neurons))

    def run(first: int) -> None:
        images = np.arange(first, min(first + size, features.images))
        values = np.ascontiguousarray(features.values(first, first + size).T)
        for k in range(network.depth):
            if len(images) == 0:
                return
            entered[images] = k + 1
            values = layers.at(k).apply(values)
            saturated = (values == layers.at(k).ymax).all(axis=0)
            saturated &= network.saturation_is_final[k + 1]
            if not retire:
                entered[images[saturated]] = network.depth
            stays: Bools = values.any(axis=0) & ~saturated
            images, values = images[stays], values[:, stays]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(0, features.images, size)))
    return entered


class _Layers:
    """The layers of a network in the form in which they are applied, made when they are needed."""

    def __init__(self, network: Network, are_bits: bool) -> None:
        self._network, self._lock = network, threading.Lock()
        self._steps, self._made = Steps(network.ymax), list[_Layer]()
        self._steps.extend(list(network.layers[: min(LOOK_AHEAD, network.depth)]))
        leading = leading_shift_layers(self._steps.made) if are_bits else []
        self._unit = fixed_point_unit(leading, network.ymax) if leading else None
        self._exact = len(leading) if self._unit is not None else 0

    def at(self, k: int) -> _Layer:
        with self._lock:
            while len(self._made) <= k:
                self._made.append(self._make(len(self._made)))
            return self._made[k]

    def _make(self, k: int) -> _Layer:
        if k == len(self._steps.made):
            self._steps.extend([self._network.layers[k]])
        step, ymax = self._steps.made[k], self._network.ymax
        if self._unit is not None and k < self._exact:
            return _Layer.in_units(step, self._unit, first=k == 0, ymax=ymax)
        scale = self._unit if self._unit is not None and k == self._exact else 1
        return _Layer.of(step, scale, ymax)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A step as sparse matrices: y' = clip(core (gather y) + bias); 0 if the sum is zero.

    Attributes:
        gather: (classes, values before), or None.
        core: (values after, classes).
        bias: (values after, 1), of the type of the matrices.
        ymax: where values are clipped.
        divisor: values before the layer are in units of 1 / divisor.
    """

    gather: Any
    core: Any
    bias: NDArray[np.floating[Any]]
    ymax: float
    divisor: int = 1

    @classmethod
    def in_units(cls, step: Step, unit: int, *, first: bool, ymax: float) -> _Layer:
        """A leading shift layer on whole units, exact in float32; the first one has 0/1 inputs."""
        weights = np.rint(step.apply.weights * unit) if first else step.apply.weights
        return cls(
            None if step.gather is None else _matrix(step.gather, step.gather.weights, np.float32),
            _matrix(step.apply, weights, np.float32),
            np.rint(step.bias[:, None].astype(np.float64) * unit).astype(np.float32),
            round(ymax * unit),
        )

    @classmethod
    def of(cls, step: Step, divisor: int, ymax: float) -> _Layer:
        """Any layer, in float64."""
        return cls(
            None if step.gather is None else _matrix(step.gather, step.gather.weights, np.float64),
            _matrix(step.apply, step.apply.weights, np.float64),
            step.bias[:, None].astype(np.float64),
            ymax,
            divisor,
        )

    def apply(self, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Values (before, images) to values (after, images)."""
        inputs = values.astype(self.bias.dtype, copy=False) / self.bias.dtype.type(self.divisor)
        sums = self.core @ (inputs if self.gather is None else self.gather @ inputs)
        shifted = sums + self.bias
        # If sum and bias cancel, what is left is rounding, as in the reference engine.
        shifted[np.abs(shifted) <= TIE * np.abs(self.bias)] = 0
        return np.where(sums != 0, np.clip(shifted, 0, self.ymax), 0)


def _matrix(product: Product, weights: NDArray[Any], dtype: type) -> Any:
    return sparse.csr_matrix(
        (weights.astype(dtype), product.indices, product.offsets), (product.rows, product.columns)
    )
