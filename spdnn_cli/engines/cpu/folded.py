"""The `cpu` engine: the folded network, one image or sixteen at a time, until each is finished.

1. Leading layers of the form "output r depends on the values r and r + t"
   (`steps.leading_shift_layers`) run one image at a time in the first-level cache, straight from
   the packed bits, in 16-bit integers where these are exact (`steps.fixed_point_unit`). Most images
   die here.
2. All other layers run on panels of sixteen images, so that an index is read once for sixteen.
3. Images leave when they are dead or finally saturated. With none left, no more layers are read.

Each thread takes every `threads`-th batch of images, in one call that holds no GIL.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from spdnn_cli.engines.protocol import EngineOptions, Inference, Shortcuts
from spdnn_cli.network.layers import Features, Float32, Int32, Int64, Network
from spdnn_cli.network.steps import Product, Step, Steps, fixed_point_unit, leading_shift_layers

FIRST_LAYERS = 32
"""Layers prepared at first. The number is doubled whenever an image is still running after them."""
ROOM_BYTES = 1 << 25
MOST_BATCH_IMAGES = 8192
BATCHES_PER_THREAD = 4


class CpuEngine:
    """Folded inference on all cores."""

    def __init__(self, options: EngineOptions) -> None:
        self.shortcuts = Shortcuts(
            dead_images_dropped=True,
            twins_folded=True,
            finished_images_retired=options.retire,
        )
        self._options = options
        self._pool = ThreadPoolExecutor(options.threads)

    def prepare(self, network: Network) -> None:
        with self._options.stopwatch.stage("compile"):
            from spdnn_cli.engines.cpu import kernels as cpu_kernels
            from spdnn_cli.engines.cpu import simd

            self._kernels, self._lanes = cpu_kernels, simd.LANES
        self._network = network
        self._steps = Steps(network.ymax)
        self._extend(FIRST_LAYERS if self._options.retire else network.depth)
        final = network.saturation_is_final
        self._final = final if self._options.retire else np.zeros_like(final)

    def upload(self, features: Features) -> None:
        self._features = features
        with self._options.stopwatch.stage("prepare"):
            if self._steps.suit(features, self._network.layers):
                self._panels = PanelProgram.of(self._steps.made)
            self._shift = _shift_program(self._steps.made, features, self._network.ymax)
            self._make_rooms()
        with self._options.stopwatch.stage("compile"):
            self._run_share(0, images=0)  # Numba compiles the kernels, or loads them

    def infer(self) -> Inference:
        while True:
            results = list(self._pool.map(self._run_share, range(self._options.threads)))
            running = sum(result.running for result in results)
            prepared = len(self._steps.made)
            if running == 0 or prepared == self._network.depth:
                return self._collect(results)
            self._extend(2 * prepared)
            with self._options.stopwatch.stage("prepare"):
                self._make_rooms()  # the new layers may be wider

    def _extend(self, layers: int) -> None:
        """Prepare the first `layers` layers, or all if there are fewer."""
        new = slice(len(self._steps.made), min(layers, self._network.depth))
        with self._options.stopwatch.stage("read"):
            read = list(self._network.layers[new])
        with self._options.stopwatch.stage("prepare"):
            self._steps.extend(read)
            self._panels = PanelProgram.of(self._steps.made)

    def _make_rooms(self) -> None:
        """Allocate the panels of each thread, for a batch of images, and its list of survivors."""
        steps = self._steps.made[self._shift.layers if self._shift else 0 :]
        widths = [p.rows for step in steps for p in (step.gather, step.apply) if p is not None]
        entry = self._shift.width if self._shift else self._features.neurons
        stride = self._lanes * max([entry, *widths])
        images, threads = self._features.images, self._options.threads
        share = -(-images // (BATCHES_PER_THREAD * threads))
        fits = self._lanes * max(1, ROOM_BYTES // (2 * 4 * stride))
        self._batch = max(1, min(share, fits, MOST_BATCH_IMAGES))
        panels = -(-self._batch // self._lanes)
        most = self._batch * -(-images // (self._batch * threads))
        self._rooms = [Room.of(panels, stride, self._lanes, most) for _ in range(threads)]

    def _run_share(self, thread: int, images: int | None = None) -> ThreadResult:
        """Run a thread's share of the images (default: of all)."""
        kernels, room, features = self._kernels, self._rooms[thread], self._features
        total = features.images if images is None else images
        share = (thread, self._options.threads, self._batch, total)
        tally = np.zeros((2, len(self._steps.made)), np.int64)
        panels = (room.values, room.stride, room.images)
        state = (np.float32(self._network.ymax), self._final, tally, room.survivors)
        if self._shift is not None:
            found, running = kernels.run_shift_share(
                share, self._shift.bits, self._shift.arrays, self._panels.arrays, panels, *state
            )
        else:
            found, running = kernels.run_share(
                share, features.array, features.neurons, self._panels.arrays, panels, *state
            )
        return ThreadResult(running, room.survivors[:found].copy(), tally)

    def _collect(self, results: list[ThreadResult]) -> Inference:
        entering, dying = np.sum([result.tally for result in results], axis=0)
        ran = np.count_nonzero(entering)
        terms = np.array([step.terms for step in self._steps.made[:ran]], np.int64)
        alive = self._features.images - np.cumsum(dying[:ran])
        if self._options.progress is not None:
            self._options.progress(int(ran), int(alive[-1]))
        categories = np.sort(np.concatenate([result.survivors for result in results]))
        return Inference(categories, int(entering[:ran] @ terms), tuple(alive.tolist()))


@dataclass(frozen=True, eq=False)
class ThreadResult:
    """The result of one thread.

    Attributes:
        running: number of images that had not finished after the last prepared layer.
        survivors: int32: images alive at the end, with those that were running.
        tally: int64 (2, prepared layers): images that enter, and that die in, each layer.
    """

    running: int
    survivors: Int32
    tally: Int64


@dataclass(frozen=True, eq=False)
class Room:
    """The memory of a thread: two sides of panels, the image of each lane, and its survivors."""

    values: Float32
    stride: int
    images: Int32
    survivors: Int32

    @classmethod
    def of(cls, panels: int, stride: int, lanes: int, most_survivors: int) -> Room:
        return cls(
            np.zeros(2 * panels * stride, np.float32),
            stride,
            np.full(panels * lanes, -1, np.int32),
            np.empty(most_survivors, np.int32),
        )


@dataclass(frozen=True, eq=False)
class PanelProgram:
    """Steps as flat arrays, as `cpu_kernels.run_panels` reads them.

    `arrays` holds: layer_products int64 (layers + 1), the products of each layer; by product: rows,
    starts (into offsets), bias_starts, all int64; then all products' offsets (uint64), indices
    (uint32), weights and bias (float32), one after the other.
    """

    arrays: tuple[Any, ...]

    @classmethod
    def of(cls, steps: list[Step]) -> PanelProgram:
        products: list[Product] = []
        layer_products, bias_starts = [0], []
        for step, bias_start in zip(steps, _starts([len(s.bias) for s in steps]), strict=True):
            products += [step.apply] if step.gather is None else [step.gather, step.apply]
            layer_products.append(len(products))
            bias_starts += [bias_start] * (layer_products[-1] - layer_products[-2])
        terms = _starts([product.terms for product in products])
        return cls(
            (
                np.array(layer_products),
                np.array([product.rows for product in products], np.uint64),
                _starts([product.rows + 1 for product in products]).astype(np.uint64),
                np.array(bias_starts, np.uint64),
                _joined(
                    [p.offsets + start for p, start in zip(products, terms, strict=True)], "u8"
                ),
                _joined([product.indices for product in products], "u4"),
                _joined([product.weights for product in products], "f4"),
                _joined([step.bias for step in steps], "f4"),
            )
        )


@dataclass(frozen=True, eq=False)
class ShiftProgram:
    """The leading layers that `cpu_kernels.run_shift_images` can run, and their inputs.

    Attributes:
        bits: uint64 (images, words): the packed inputs.
        width: values of an image.
        layers: number of layers.
        arrays: the kernel's `program`.
    """

    bits: np.ndarray[Any, np.dtype[np.uint64]]
    width: int
    layers: int
    arrays: tuple[Any, ...]


def _shift_program(steps: list[Step], features: Features, ymax: float) -> ShiftProgram | None:
    """The longest shift program that the steps begin with; None: there is none."""
    leading = leading_shift_layers(steps) if features.are_bits else []
    # Whole words of bits, and whole vectors of values.
    fits = itertools.takewhile(lambda s: s.apply.columns % 64 == 0 == s.apply.rows % 32, leading)
    leading = list(fits)
    unit = fixed_point_unit(leading, ymax) if leading else None
    if unit is None or leading[0].gather is None or features.neurons % 64:
        return None
    width = leading[0].gather.rows
    arrays = (
        width,
        features.neurons // width,
        np.array([step.apply.rows for step in leading], np.uint64),
        np.array([step.apply.shift for step in leading], np.uint64),
        np.array([-(step.uniform_bias or 0.0) * unit for step in leading]).round().astype("u2"),
        *(np.uint16(round(number * unit)) for number in (leading[0].apply.weight or 0.0, ymax, 1)),
    )
    bits = np.ascontiguousarray(features.array).view(np.uint64)
    return ShiftProgram(bits, width, len(leading), arrays)


def _starts(lengths: list[int]) -> Int64:
    """Where each of several arrays starts if they are stored one after the other."""
    return np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]).astype(np.int64)


def _joined(arrays: list[Any], dtype: str) -> Any:
    return np.concatenate([np.zeros(0, dtype), *[array.astype(dtype) for array in arrays]])
