"""The prepared layers of the folded network on the device: kernels, tables, and how to start them.

Kernels run one after the other:

1. Leading shift layers (`steps.leading_shift_layers`) behind 0/1 inputs: an image in the registers
   of a few lanes (kernels/folded_shift.cu). What outlives them goes to a pool.
2. All other layers, an image or a few at a time in shared memory: by kernels/folded_gather.cu
   where all of them have its form, else by kernels/folded_steps.cu, which takes any layer, and the
   inputs themselves where there are no shift layers. Where the former takes several images at a
   time, it runs twice, with a second pool between: most images that die do so early, and leave
   groups that are mostly empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spdnn_cli.engines.cuda.folded_tables import ShiftShape, step_tables
from spdnn_cli.engines.cuda.gather_tables import gather_tables
from spdnn_cli.engines.cuda.kernel_source import compile_kernels
from spdnn_cli.network.layers import Features, FoldedLayer
from spdnn_cli.network.steps import Steps, leading_shift_layers

POOLED, POOLED_LATE, SURVIVORS, UNFINISHED, RUN, COUNTERS = 0, 2, 4, 5, 7, 8
"""`Counter` of kernels/folded.cuh."""
SHIFT_THREADS, NARROW_SHIFT_THREADS = 256, 512
"""Threads of a block; more where an image takes less than a warp, so that fewer blocks add up."""
MOST_STEP_THREADS = 1024
NARROW_ROWS = 64
"""Layers this narrow have four lanes to a row: they wait for memory, not for instructions."""
REGROUP_AFTER = 4
"""Layers from the first pool to the second."""
KERNEL_BYTES = 1024
"""Shared memory that a kernel needs for its own variables."""


@dataclass(frozen=True, eq=False)
class RunBuffers:
    """The arrays that a run reads and writes.

    Attributes:
        inputs: cupy.ndarray, as `Features.array`.
        pool, pool_image: uint16 and int32, cupy.ndarray: see `Pool` in kernels/folded.cuh.
        late_pool, late_pool_image: float32 and int32: the second pool.
        outcome: int32, cupy.ndarray: see kernels/folded.cuh.
        on_host: the device's address of the host's copy of the outcome.
    """

    inputs: Any
    pool: Any
    pool_image: Any
    late_pool: Any
    late_pool_image: Any
    outcome: Any
    on_host: int


@dataclass(frozen=True, eq=False)
class _Launch:
    """A kernel with the arguments that do not change from run to run."""

    kernel: Any
    blocks: int
    threads: int
    shared_bytes: int
    arguments: tuple[Any, ...]

    def __call__(self, *arguments: Any) -> None:
        given = (*self.arguments, *arguments)
        self.kernel((self.blocks,), (self.threads,), given, shared_mem=self.shared_bytes)


class FoldedProgram:
    """The first layers of a network, ready to run.

    Attributes:
        layers: number of layers prepared.
        work: for each layer, its adds and multiply-adds for an image.
        pool_width: values of an image in the pool; 0: there is no pool.
        late_pool_width: the same, of the second pool.
    """

    def __init__(
        self,
        layers: list[FoldedLayer],
        depth: int,
        ymax: float,
        final: Any,
        features: Features,
        stopwatch: Any,
    ) -> None:
        """Prepare `layers`, the first ones of a network of `depth` layers.

        Args:
            layers: the layers.
            depth: of the whole network.
            ymax: where values are clipped.
            final: bool (depth + 1): entry l: an image saturated before layer l may leave.
            features: inputs of the kind that will come: bits or values, and how many an image.
            stopwatch: where the time is booked.
        """
        import cupy

        attributes = cupy.cuda.Device().attributes
        self._multiprocessors = attributes["MultiProcessorCount"]
        self._room = attributes["MaxSharedMemoryPerBlockOptin"] - KERNEL_BYTES
        self._stopwatch, self._ymax, self._final = stopwatch, np.float32(ymax), final
        self.layers, self._whole = len(layers), np.int32(len(layers) == depth)
        self._bits, self._neurons = features.are_bits, features.neurons
        with stopwatch.stage("prepare"):
            steps = _leading_steps(layers, ymax)
            steps.suit(features, layers)
            shift = ShiftShape.of(steps.made, features, ymax)
        self.pool_width = 0 if shift is None else shift.rows
        self._unit = np.float32(0 if shift is None else shift.unit)
        self.late_pool_width = 0
        self.work = [step.terms for step in steps.made[: 0 if shift is None else shift.layers]]
        self._run_shift = None if shift is None else self._shift_launch(shift)
        self._run_gathers = [] if shift is None else self._gather_launches(layers, shift.layers)
        self._run_steps = None if self._run_gathers else self._step_launch(layers, steps, shift)
        self.fits = bool(self._run_gathers) or self._run_steps is not None

    def enqueue(self, images: int, buffers: RunBuffers) -> None:
        """Put a run of the first `images` images on the current stream."""
        outcome, on_host = buffers.outcome, np.uintp(buffers.on_host)
        pool = (buffers.pool, buffers.pool_image, np.int32(self.pool_width), self._unit)
        if self._run_shift is not None:
            self._run_shift(
                buffers.inputs, np.int32(images), *self._shift_constants,
                outcome[COUNTERS:], *pool[:2], outcome[POOLED:],
            )  # fmt: skip
        floats = np.float32(0)
        late = (buffers.late_pool, buffers.late_pool_image, np.int32(self.late_pool_width), floats)
        for run, pools in zip(self._run_gathers, ((pool, late), (late, pool)), strict=False):
            run(outcome, on_host, *pools[0], *pools[1])
        if self._run_steps is not None:
            inputs = (buffers.inputs, *map(np.int32, (self._bits, images, self._neurons)))
            source = inputs if self._run_shift is None else pool
            self._run_steps(outcome, on_host, *source, self._stride)

    def _shift_launch(self, shift: ShiftShape) -> _Launch:
        with self._stopwatch.stage("compile"):
            threads = SHIFT_THREADS if shift.lanes == 32 else NARROW_SHIFT_THREADS
            macros = shift.macros | {"THREADS": threads}
            kernel = compile_kernels("folded_shift.cu", (shift.kernel,), macros)
        self._shift_constants = (self._on_device(shift.constants)[0], np.int32(shift.rows))
        return self._launch(kernel[shift.kernel], threads, 0, ())

    def _gather_launches(self, layers: list[FoldedLayer], first: int) -> list[_Launch]:
        """Launches of kernels/folded_gather.cu for the other layers; empty: it cannot run them."""
        with self._stopwatch.stage("prepare"):
            tables = gather_tables(layers, first, self._final)
        if tables is None or tables.shared_bytes > self._room:
            return []
        with self._stopwatch.stage("compile"):
            kernel = compile_kernels("folded_gather.cu", ("run_gathers",), tables.macros)
        self.work += tables.work
        several = tables.shape.images > 1
        regroup = min(first + REGROUP_AFTER, self.layers) if several else self.layers
        parts = [(first, regroup, POOLED)]
        if regroup < self.layers:
            parts.append((regroup, self.layers, POOLED_LATE))
            self.late_pool_width = layers[regroup - 1].core.outputs
        arrays = self._on_device(*tables.arrays)
        whole = (np.int32(self.layers), self._whole, self._ymax)
        return [
            self._launch(
                kernel["run_gathers"],
                tables.threads,
                tables.shared_bytes,
                (*arrays, np.int32(begin), np.int32(end), *whole, np.int32(pooled)),
            )
            for begin, end, pooled in parts
        ]

    def _step_launch(
        self, layers: list[FoldedLayer], steps: Steps, shift: ShiftShape | None
    ) -> _Launch | None:
        """The rest by kernels/folded_steps.cu; None where an image does not fit in a block."""
        first = 0 if shift is None else shift.layers
        with self._stopwatch.stage("prepare"):
            steps.extend(layers[len(steps.made) :])
        after = [p for s in steps.made[first:] for p in (s.gather, s.apply) if p is not None]
        rows = max([32, *(product.rows for product in after)])
        stride = max(rows, self._neurons if shift is None else shift.rows)
        images = next((k for k in (4, 2, 1) if 8 * k * stride <= self._room), 0)
        if images == 0:
            return None
        split = 4 if rows <= NARROW_ROWS else 1
        shared = 8 * images * stride
        alone = 2 * shared > self._room  # on its multiprocessor
        most = MOST_STEP_THREADS if alone else MOST_STEP_THREADS // 2
        name = "run_features" if shift is None else "run_pool"
        with self._stopwatch.stage("compile"):
            macros = {"IMAGES": images, "SPLIT": split}
            kernel = compile_kernels("folded_steps.cu", ("run_pool", "run_features"), macros)[name]
        with self._stopwatch.stage("prepare"):
            tables = step_tables(steps.made, images)
        self.work += [step.terms for step in steps.made[first:]]
        self._stride = np.int32(stride)
        numbers = (np.int32(first), np.int32(self.layers), self._whole, self._ymax)
        final = self._on_device(self._final.astype(np.uint8))
        threads = min(most, -(-rows * split // 32) * 32)
        arguments = (*self._on_device(*tables), *numbers, *final)
        return self._launch(kernel, threads, shared, arguments)

    def _launch(
        self, kernel: Any, threads: int, shared_bytes: int, arguments: tuple[Any, ...]
    ) -> _Launch:
        """A launch with the number of blocks that can run at once."""
        from cupy.cuda import driver

        kernel.max_dynamic_shared_size_bytes = shared_bytes
        pointer = kernel.kernel.ptr
        of_one = driver.occupancyMaxActiveBlocksPerMultiprocessor(pointer, threads, shared_bytes)
        return _Launch(
            kernel, self._multiprocessors * int(of_one), threads, shared_bytes, arguments
        )

    def _on_device(self, *arrays: Any) -> list[Any]:
        import cupy

        with self._stopwatch.stage("upload"):
            copies = [cupy.asarray(array) for array in arrays]
            cupy.cuda.get_current_stream().synchronize()
            return copies


def _leading_steps(layers: list[FoldedLayer], ymax: float) -> Steps:
    """The steps of the leading shift layers, and of the first layer that is none."""
    steps = Steps(ymax)
    for layer in layers:
        steps.extend([layer])
        if len(leading_shift_layers(steps.made)) < len(steps.made):
            break
    return steps
