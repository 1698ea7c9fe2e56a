"""The `cpu` engine: the folded network, an image at a time or sixteen, until each is finished.

1. Leading layers of the form "output r depends on the values r and r + t" (`Product.shift`), behind
   0/1 inputs whose classes are i mod width (`Product.groups`), run one image at a time in the
   first-level cache, straight from the packed bits. Most images die here.
2. All other layers run on panels of sixteen images, so that an index is read once for sixteen.
3. Images leave when they are dead or finally saturated. With none left, no more layers are read.

Work goes to threads in tasks of some thousand images; the kernels hold no GIL.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from spdnn_cli.engines import EngineOptions, Inference, Shortcuts
from spdnn_cli.network import Features, Float32, Int32, Int64, Network
from spdnn_cli.steps import Product, Step, Steps

FIRST_LAYERS = 32
"""Layers prepared at first; twice as many each time that an image is still running at the end."""
WORKSPACE_BYTES = 1 << 26
MOST_TASK_IMAGES = 4096
TASKS_PER_THREAD = 4


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
            from spdnn_cli.engines import cpu_kernels, simd

            self._kernels, self._lanes = cpu_kernels, simd.LANES
        self._network = network
        self._steps = Steps(network)
        self._extend(FIRST_LAYERS if self._options.retire else network.depth)
        final = network.saturation_is_final
        self._final = final if self._options.retire else np.zeros_like(final)

    def upload(self, features: Features) -> None:
        self._features = features
        with self._options.stopwatch.stage("prepare"):
            self._shift = _shift_program(self._steps.made, features)
            self._make_workspaces()
        with self._options.stopwatch.stage("compile"):
            self._run_task((0, 0))  # no image: Numba compiles the kernels, or loads them

    def infer(self) -> Inference:
        while True:
            outcomes = list(self._pool.map(self._run_task, self._tasks()))
            running = sum(outcome.running for outcome in outcomes)
            prepared = len(self._steps.made)
            if running == 0 or prepared == self._network.depth:
                return self._collect(outcomes)
            self._extend(2 * prepared)

    def _extend(self, layers: int) -> None:
        """Have the first `layers` layers ready, or all that there are."""
        wanted = slice(len(self._steps.made), min(layers, self._network.depth))
        with self._options.stopwatch.stage("read"):
            read = list(self._network.layers[wanted])
        with self._options.stopwatch.stage("prepare"):
            self._steps.extend(read)
            self._panels = PanelProgram.of(self._steps.made)

    def _make_workspaces(self) -> None:
        """One workspace a thread, taken and given back by the tasks."""
        steps = self._steps.made[self._shift.layers if self._shift else 0 :]
        widths = [p.rows for step in steps for p in (step.gather, step.apply) if p is not None]
        entry = self._shift.width if self._shift else self._features.neurons
        self._stride = self._lanes * max([entry, *widths])
        images, threads = self._features.images, self._options.threads
        share = -(-images // (TASKS_PER_THREAD * threads))
        fits = self._lanes * max(1, WORKSPACE_BYTES // (2 * 4 * self._stride))
        self._task_images = max(1, min(share, fits, MOST_TASK_IMAGES))
        capacity = -(-self._task_images // self._lanes)
        self._workspaces: SimpleQueue[Workspace] = SimpleQueue()
        for _ in range(threads):
            self._workspaces.put(Workspace.of(capacity, self._stride, self._lanes))

    def _tasks(self) -> list[tuple[int, int]]:
        """Ranges of images."""
        images, step = self._features.images, self._task_images
        return [(first, min(first + step, images)) for first in range(0, images, step)]

    def _run_task(self, images: tuple[int, int]) -> Outcome:
        workspace = self._workspaces.get()
        try:
            return self._run_images(images, workspace)
        finally:
            self._workspaces.put(workspace)

    def _run_images(self, images: tuple[int, int], workspace: Workspace) -> Outcome:
        kernels, ymax = self._kernels, np.float32(self._network.ymax)
        first, last = images
        tally = np.zeros((2, self._network.depth), np.int64)
        survivors = np.empty(last - first, np.int32)
        where = (workspace.values, self._stride)
        if self._shift is not None:
            panels, found = kernels.run_shift_images(
                self._shift.bits, first, last, self._shift.groups, self._shift.arrays, ymax,
                self._final, tally, *where, workspace.images, survivors,
            )  # fmt: skip
            layer = self._shift.layers
        else:
            panels = kernels.fill_panels(
                self._features.array, first, last, self._features.neurons, *where, workspace.images
            )
            layer, found = 0, 0
        running, found = kernels.run_panels(
            self._panels.arrays, *where, panels, workspace.images, layer, ymax,
            self._final, tally, survivors, found,
        )  # fmt: skip
        left = workspace.images[: panels * self._lanes]
        unfinished = left[left != kernels.IDLE].copy()
        return Outcome(running, np.concatenate([survivors[:found], unfinished]), tally)

    def _collect(self, outcomes: list[Outcome]) -> Inference:
        entering, dying = np.sum([outcome.tally for outcome in outcomes], axis=0)
        ran = np.count_nonzero(entering)
        terms = np.array([step.terms for step in self._steps.made[:ran]], np.int64)
        alive = self._features.images - np.cumsum(dying[:ran])
        if self._options.progress is not None:
            self._options.progress(int(ran), int(alive[-1]))
        categories = np.sort(np.concatenate([outcome.survivors for outcome in outcomes]))
        return Inference(categories, int(entering[:ran] @ terms), tuple(alive.tolist()))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task found.

    Attributes:
        running: images that had not finished when the prepared layers ended.
        survivors: int32: images alive at the end (with the running ones).
        tally: int64 (2, depth): images entering, and dying in, each layer.
    """

    running: int
    survivors: Int32
    tally: Int64


@dataclass(frozen=True, eq=False)
class Workspace:
    """Room for a task's panels, twice, and the image of each lane."""

    values: Float32
    images: Int32

    @classmethod
    def of(cls, panels: int, stride: int, lanes: int) -> Workspace:
        return cls(np.zeros(2 * panels * stride, np.float32), np.full(panels * lanes, -1, np.int32))


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
        groups: groups of `width` inputs that are added up.
        width: values of the last layer.
        arrays: (rows, shifts, weights, bias), one entry a layer.
    """

    bits: np.ndarray[Any, np.dtype[np.uint64]]
    groups: int
    width: int
    arrays: tuple[Any, ...]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.arrays[0])


def _shift_program(steps: list[Step], features: Features) -> ShiftProgram | None:
    """The longest shift program that the steps begin with; None where there is none."""
    from spdnn_cli.engines.cpu_kernels import MOST_GROUPS

    if not steps or steps[0].gather is None or not features.are_bits or features.neurons % 64:
        return None
    groups = steps[0].gather.groups
    if groups is None or not 1 <= groups <= MOST_GROUPS or steps[0].gather.rows % 64:
        return None
    rest = itertools.takewhile(lambda step: step.gather is None, steps[1:])
    leading = list(itertools.takewhile(_is_shift_layer, [steps[0], *rest]))
    if not leading:
        return None
    arrays = (
        np.array([step.apply.rows for step in leading], np.uint64),
        np.array([step.apply.shift for step in leading], np.uint64),
        np.array([step.apply.weight for step in leading], np.float32),
        np.array([step.uniform_bias for step in leading], np.float32),
    )
    bits = np.ascontiguousarray(features.array).view(np.uint64)
    return ShiftProgram(bits, groups, int(arrays[0].max()), arrays)


def _is_shift_layer(step: Step) -> bool:
    """Values r and r + t alone, one positive weight, one bias that wakes no dead image."""
    product, bias = step.apply, step.uniform_bias
    if product.shift is None or product.rows % 16 or product.columns % 16:
        return False
    return product.weight is not None and product.weight > 0 and bias is not None and bias <= 0


def _starts(lengths: list[int]) -> Int64:
    """Where each of several arrays starts when they lie one after the other."""
    return np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]).astype(np.int64)


def _joined(arrays: list[Any], dtype: str) -> Any:
    return np.concatenate([np.zeros(0, dtype), *[array.astype(dtype) for array in arrays]])
