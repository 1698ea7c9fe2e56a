"""The `folded` engine: the folded network on one GPU, each image on the chip from bits to end.

1. Leading shift layers (`steps.leading_shift_layers`) behind 0/1 inputs: an image in the registers
   of a few lanes (kernels/folded_shift.cu). What outlives them goes to a pool.
2. All other layers: a few images at a time in the shared memory of a block
   (kernels/folded_steps.cu), from the pool, or from the inputs where step 1 does not apply.

A run is one CUDA graph: clear the counters, the two kernels, and the copy of the outcome. Layers
are read and prepared as far as images live.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import add, mul
from typing import Any

import numpy as np
from numba import njit

from spdnn_cli.engines import EngineOptions, Inference, Shortcuts
from spdnn_cli.engines.cuda_common import import_cupy, memory_errors_explained
from spdnn_cli.errors import EngineError
from spdnn_cli.kernel_source import compile_kernels
from spdnn_cli.network import Features, Float32, Network
from spdnn_cli.steps import Product, Step, Steps, fixed_point_unit, leading_shift_layers

FIRST_LAYERS = 32
"""Layers prepared at first; twice as many each time that an image is still running at the end."""
SHIFT_THREADS = 128
MOST_SHIFT_LAYERS = 32
MOST_STEP_THREADS = 1024
NARROW_ROWS = 64
"""Layers this narrow have four lanes to a row: they wait for memory, not for instructions."""
COPIED_SURVIVORS = 8192
"""Survivors that are copied with the counters; more take a second copy."""
COUNTERS = 8
"""The outcome begins with: queue of images, pool, queue of groups, survivors, still running."""

PRODUCT = np.dtype(
    [("rows", "i4"), ("terms", "i4"), ("start", "i8"), ("scale", "f4"), ("unused", "i4")]
)
STEP = np.dtype([("gather", PRODUCT), ("apply", PRODUCT), ("bias_start", "i8"), ("unused", "i8")])
LAYERS = np.dtype(
    [("near", "i4"), ("layers", "i4"), ("bias", "i2", 32), ("lanes", "i2", 32), ("ymax", "i2")],
    align=True,
)
"""The structures `Product` and `Step` of kernels/folded_steps.cu, `Layers` of folded_shift.cu."""


class FoldedEngine:
    """Folded inference on one GPU."""

    def __init__(self, options: EngineOptions) -> None:
        self.shortcuts = Shortcuts(
            dead_images_dropped=True,
            twins_folded=True,
            finished_images_retired=options.retire,
        )
        self._options = options

    def prepare(self, network: Network) -> None:
        with self._options.stopwatch.stage("compile"):
            self._cupy = import_cupy()
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            attributes = self._cupy.cuda.Device().attributes
            self._multiprocessors = attributes["MultiProcessorCount"]
            self._shared_bytes = attributes["MaxSharedMemoryPerBlockOptin"]
        self._network = network
        final = network.saturation_is_final
        self._final = final if self._options.retire else np.zeros_like(final)
        self._steps = Steps(network)
        self._extend(FIRST_LAYERS if self._options.retire else network.depth)

    def upload(self, features: Features) -> None:
        cupy, stopwatch = self._cupy, self._options.stopwatch
        self._features = features
        self._shift = _ShiftShape.of(self._steps.made, features, self._network.ymax)
        with stopwatch.stage("compile"):
            self._compile()
        with stopwatch.stage("upload"), memory_errors_explained("the images"), self._stream:
            self._inputs = cupy.asarray(features.array)
            if self._shift is not None:
                self._pool = cupy.empty((features.images, self._shift.rows), np.float32)
                self._pool_image = cupy.empty(features.images, np.int32)
            self._first_survivor = COUNTERS + 2 * self._network.depth
            size = self._first_survivor + features.images
            self._outcome = cupy.empty(size, np.int32)
            self._copied = min(size, self._first_survivor + COPIED_SURVIVORS)
            memory = cupy.cuda.alloc_pinned_memory(4 * size)
            self._on_host = np.frombuffer(memory, np.int32, size)
            self._stream.synchronize()
        self._capture()

    def infer(self) -> Inference:
        while True:
            self._graph.launch(self._stream)
            self._stream.synchronize()
            prepared, depth = len(self._steps.made), self._network.depth
            if self._on_host[4] == 0 or prepared == depth:
                return self._collect()
            self._extend(2 * prepared)
            with self._options.stopwatch.stage("compile"):
                self._compile()
            self._capture()

    # --- preparation ---------------------------------------------------------------------------

    def _extend(self, layers: int) -> None:
        """Have the first `layers` layers ready, or all that there are."""
        wanted = slice(len(self._steps.made), min(layers, self._network.depth))
        with self._options.stopwatch.stage("read"):
            read = list(self._network.layers[wanted])
        with self._options.stopwatch.stage("prepare"):
            self._steps.extend(read)

    def _compile(self) -> None:
        """Compile for the shapes of this network, as many images to a block as fit."""
        entry = self._features.neurons if self._shift is None else self._shift.rows
        first = 0 if self._shift is None else self._shift.layers
        after = [p for s in self._steps.made[first:] for p in (s.gather, s.apply) if p is not None]
        self._stride = max([entry, *(product.rows for product in after)])
        room = self._shared_bytes - 1024  # some for the kernel's own variables
        if 8 * self._stride > room:
            raise EngineError(
                f"{self._stride} values of an image do not fit twice in the "
                f"{self._shared_bytes} bytes of a block's shared memory",
                hint="Use --engine tiled.",
            )
        self._images = next((k for k in (4, 2) if 8 * k * self._stride <= room), 1)
        rows = max([32, *(product.rows for product in after)])
        split = 4 if rows <= NARROW_ROWS else 1
        alone = 2 * 8 * self._images * self._stride > room  # on its multiprocessor
        most = MOST_STEP_THREADS if alone else MOST_STEP_THREADS // 2
        self._threads = min(most, -(-rows * split // 32) * 32)
        macros = {"IMAGES": self._images, "SPLIT": split}
        kernels = compile_kernels("folded_steps.cu", ("run_pool", "run_features"), macros)
        self._run_steps = kernels["run_features" if self._shift is None else "run_pool"]
        self._run_steps.max_dynamic_shared_size_bytes = 8 * self._images * self._stride
        if self._shift is not None:
            name = self._shift.kernel
            self._run_shift = compile_kernels("folded_shift.cu", (name,), self._shift.macros)[name]

    def _capture(self) -> None:
        """Bring the tables to the device, and put a run into a graph: one launch for all of it."""
        with self._options.stopwatch.stage("prepare"):
            tables = _tables(self._steps.made, self._images)
            self._terms = [step.terms for step in self._steps.made]
        with self._options.stopwatch.stage("upload"), memory_errors_explained("the network"):
            with self._stream:
                self._tables = [self._cupy.asarray(table) for table in tables]
                self._final_on_device = self._cupy.asarray(self._final.astype(np.uint8))
            self._stream.synchronize()
        with self._options.stopwatch.stage("prepare"), self._stream:
            if self._shift is not None:
                self._constants = self._cupy.asarray(self._shift.constants)
            self._stream.synchronize()
            self._stream.begin_capture()
            self._enqueue_run()
            self._graph = self._stream.end_capture()
            self._graph.upload(self._stream)
            self._stream.synchronize()

    # --- a run -----------------------------------------------------------------------------------

    def _enqueue_run(self) -> None:
        """The outcome holds the counters, images that entered and left each layer, survivors."""
        outcome, depth, features = self._outcome, self._network.depth, self._features
        outcome.data.memset_async(0, 4 * self._first_survivor, self._stream)
        entered, retired = outcome[COUNTERS:], outcome[COUNTERS + depth :]
        survivors = outcome[self._first_survivor :]
        ymax, first = np.float32(self._network.ymax), 0
        if self._shift is not None:
            first = self._shift.layers
            self._run_shift(
                (self._blocks(self._run_shift, SHIFT_THREADS, 0),), (SHIFT_THREADS,),
                (self._inputs, np.int32(features.images), self._constants,
                 np.float32(self._shift.unit), np.int32(self._shift.rows), outcome, entered,
                 self._pool, self._pool_image, outcome[1:]),
            )  # fmt: skip
            source = (self._pool, self._pool_image, outcome[1:], np.int32(self._shift.rows))
        else:
            sizes = (features.are_bits, features.images, features.neurons)
            source = (self._inputs, *map(np.int32, sizes))
        shared = 8 * self._images * self._stride
        self._run_steps(
            (self._blocks(self._run_steps, self._threads, shared),), (self._threads,),
            (*self._tables, np.int32(first), np.int32(len(self._steps.made)), np.int32(depth), ymax,
             self._final_on_device, outcome[2:], entered, retired, survivors, *source,
             np.int32(self._stride)),
            shared_mem=shared,
        )  # fmt: skip
        self._copy(0, self._copied)

    def _collect(self) -> Inference:
        first, found = self._first_survivor, int(self._on_host[3])
        if first + found > self._copied:
            self._copy(self._copied, first + found)
            self._stream.synchronize()
        categories = np.sort(self._on_host[first : first + found])
        # Plain lists: a run takes some ten microseconds, and so would NumPy on these few numbers.
        prepared, depth = len(self._terms), self._network.depth
        entered = self._on_host[COUNTERS : COUNTERS + prepared].tolist()
        retired = self._on_host[COUNTERS + depth : COUNTERS + depth + prepared].tolist()
        ran = prepared if entered[-1] else entered.index(0)
        running = [*entered[1:ran], found - sum(retired)]
        alive = tuple(map(add, running, accumulate(retired)))
        executed = sum(map(mul, entered, self._terms))
        return Inference(categories, executed, alive)

    def _copy(self, first: int, last: int) -> None:
        """Copy a part of the outcome to the host."""
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            self._on_host[first:].ctypes.data, self._outcome.data.ptr + 4 * first,
            4 * (last - first), runtime.memcpyDeviceToHost, self._stream.ptr,
        )  # fmt: skip

    def _blocks(self, kernel: Any, threads: int, shared: int) -> int:
        """As many blocks as run at once."""
        return self._multiprocessors * int(
            self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                kernel.kernel.ptr, threads, shared
            )
        )


@dataclass(frozen=True, eq=False)
class _ShiftShape:
    """The leading layers that kernels/folded_shift.cu can run.

    Attributes:
        shifts: of each layer.
        near: how many layers come before the first whose shift is whole lanes.
        bias: in units, of each layer. weight: of the first layer, in units. ymax: in units.
        unit: units in 1.
        rows: values of the last layer.
        groups, lanes, words: the kernel's macros.
    """

    shifts: tuple[int, ...]
    near: int
    bias: tuple[int, ...]
    weight: int
    ymax: int
    unit: int
    rows: int
    groups: int
    lanes: int
    words: int

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.shifts)

    @property
    def kernel(self) -> str:
        """The kernel's instance."""
        return f"shift_images<{','.join(map(str, self.shifts[: self.near]))}>"

    @property
    def macros(self) -> dict[str, int]:
        """What the kernel is compiled with."""
        shape = {"LANES": self.lanes, "WORDS": self.words, "GROUPS": self.groups}
        return shape | {"WEIGHT": self.weight}

    @property
    def constants(self) -> Any:
        """The kernel's `Layers`, as bytes."""
        constants = np.zeros(1, LAYERS)
        far = [0] * self.near + [shift // (32 * self.words) for shift in self.shifts[self.near :]]
        constants["near"], constants["layers"] = self.near, self.layers
        constants["bias"][0, : self.layers] = self.bias
        constants["lanes"][0, : self.layers] = far
        constants["ymax"] = self.ymax
        return constants.view(np.uint8)

    @classmethod
    def of(cls, steps: list[Step], features: Features, ymax: float) -> _ShiftShape | None:
        """The longest leading part of `steps` that the kernel can run; None where there is none."""
        leading = leading_shift_layers(steps)[:MOST_SHIFT_LAYERS] if features.are_bits else []
        unit = fixed_point_unit(leading, ymax) if leading else None
        if unit is None or leading[0].gather is None or leading[0].apply.weight is None:
            return None
        width = leading[0].gather.rows
        groups, weight = features.neurons // width, round(leading[0].apply.weight * unit)
        lanes = min(32, width // 32)
        words = width // 32 // lanes if lanes else 0
        whole = 32 * lanes * words == width and lanes & (lanes - 1) == 0 and words in (1, 2, 4)
        if not whole or 2 * groups * weight > 255:
            return None
        shifts, near = _near_and_far([step.apply.shift or 0 for step in leading], 32 * words)
        rows = leading[len(shifts) - 1].apply.rows
        if rows % (32 * words):
            return None
        bias = tuple(round((step.uniform_bias or 0.0) * unit) for step in leading[: len(shifts)])
        return cls(shifts, near, bias, weight, round(ymax * unit), unit, rows, groups, lanes, words)


def _near_and_far(shifts: list[int], own: int) -> tuple[tuple[int, ...], int]:
    """The shifts that the kernel can run in their order, and how many of them are near.

    Near ones, below a lane's `own` values, come before far ones, which must be whole lanes. The
    first layer's shift may be any.
    """
    near = 1
    while near < len(shifts) and shifts[near] < own:
        near += 1
    last = near
    while last < len(shifts) and shifts[last] >= own and shifts[last] % own == 0:
        last += 1
    return tuple(shifts[:last]), near


def _tables(steps: list[Step], images: int) -> list[Any]:
    """The arrays of `Program` in kernels/folded_steps.cu; structures as bytes."""
    indices, weights = [np.zeros(1, np.uint16)], [np.zeros(1, np.float32)]
    start, bias_start, table = 1, 0, np.zeros(len(steps), STEP)
    for k, step in enumerate(steps):
        for name, product in (("gather", step.gather), ("apply", step.apply)):
            if product is None:
                continue
            index, weight, scale = _ellpack(product, 32 // images)
            table[k][name] = (product.rows, len(index), start, scale, 0)
            indices.append(index.ravel())
            weights.append(weight.ravel())
            start += index.size
        table[k]["bias_start"] = bias_start
        bias_start += len(step.bias)
    shared = bool(np.all((table["apply"]["scale"] != 0) & (_gather_scales(table) != 0)))
    all_weights = weights[0] if shared else np.concatenate(weights)
    bias = np.concatenate([step.bias for step in steps])
    return [table.view(np.uint8), np.concatenate(indices), all_weights, bias]


def _gather_scales(table: Any) -> Any:
    """The gathers' shared weights; 1 where there is no gather."""
    return np.where(table["gather"]["rows"] > 0, table["gather"]["scale"], 1)


def _ellpack(product: Product, banks: int) -> tuple[Any, Float32, float]:
    """A product as (term, row) tables of indices and weights, and the weight that all terms share.

    Rows with fewer terms than the longest get terms of weight 0; the shared weight is then 0, which
    tells the kernel to read the weights. The terms of `banks` neighbouring rows are ordered so that
    they come from different banks of shared memory at a time, as far as that goes.
    """
    degrees = np.diff(product.offsets)
    longest = int(degrees.max(initial=0))
    index = np.zeros((longest, product.rows), np.uint16)
    weight = np.zeros((longest, product.rows), np.float32)
    rows = np.repeat(np.arange(product.rows), degrees)
    terms = np.arange(product.terms) - product.offsets[rows]
    index[terms, rows] = product.indices
    weight[terms, rows] = product.weights
    _spread_over_banks(index, weight, banks)
    regular = bool(np.all(degrees == longest))
    scale = product.weight if regular and product.weight is not None else 0.0
    return index, weight, scale


@njit(cache=True, nogil=True)
def _spread_over_banks(index, weight, banks):  # type: ignore[no-untyped-def]
    """Reorder each row's terms, in place; greedy: a bank that this term's neighbours do not use,
    and of these the one with the most terms still to come."""
    terms, rows = index.shape
    for first in range(0, rows, banks):
        last = min(first + banks, rows)
        waiting = np.zeros(banks, np.int64)
        for term in range(terms):
            for row in range(first, last):
                waiting[index[term, row] % banks] += 1
        for term in range(terms):
            used = np.zeros(banks, np.int64)
            for turn in range(last - first):
                row = first + (turn + term) % (last - first)
                best = term
                for other in range(term, terms):
                    bank, so_far = index[other, row] % banks, index[best, row] % banks
                    if used[bank] < used[so_far] or (
                        used[bank] == used[so_far] and waiting[bank] > waiting[so_far]
                    ):
                        best = other
                index[term, row], index[best, row] = index[best, row], index[term, row]
                weight[term, row], weight[best, row] = weight[best, row], weight[term, row]
                used[index[term, row] % banks] += 1
                waiting[index[term, row] % banks] -= 1
