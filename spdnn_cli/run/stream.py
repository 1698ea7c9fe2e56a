"""A run of more images than the dataset has: the inputs repeat, and are uploaded in chunks.

An engine that can overlap (`folded` on CUDA) copies one chunk to the device while it runs another;
others upload and infer in turn. Only the memory of the categories grows with the number of images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from spdnn_cli.engines.protocol import Engine, Inference
from spdnn_cli.network.layers import Features

CHUNK_BYTES = 64 << 20
"""Most bytes of inputs of a chunk: enough that the start of a copy takes little of its time."""


@runtime_checkable
class OverlappingEngine(Engine, Protocol):
    """An engine that copies a chunk of images to its device while it runs another one."""

    def stream(self, chunks: Iterator[Features]) -> Iterator[Inference]:
        """Run chunk after chunk."""

    def pinned(self, features: Features) -> Features:
        """A copy in pinned memory, which the device can read while the host goes on."""

    def copy_seconds(self, features: Features) -> float | None:
        """Seconds to copy to the device, without inference; None: copies do not overlap."""


@dataclass(frozen=True)
class StreamStats:
    """Measurements of a streamed run.

    Attributes:
        chunk_images: images of a chunk; the last one of a pass may have fewer.
        chunks: number of chunks.
        bytes: bytes of inputs that were uploaded.
        seconds: from the first upload to the last inference.
        bus_bytes_per_s: speed of copies to the device without inference; None: copies do not
            overlap.
    """

    chunk_images: int
    chunks: int
    bytes: int
    seconds: float
    bus_bytes_per_s: float | None


class Stream:
    """Passes over the same inputs, prepared once, to be run any number of times."""

    def __init__(self, engine: Engine, features: Features, passes: int, last: int) -> None:
        """Prepare.

        Args:
            engine: has its network prepared.
            features: the inputs of a pass.
            passes: number of whole passes over them.
            last: number of images, from the first, of one more pass.
        """
        self._engine, self._overlaps = engine, isinstance(engine, OverlappingEngine)
        rows = max(1, min(features.images, CHUNK_BYTES // features.row_bytes))
        if isinstance(engine, OverlappingEngine):
            engine.upload(_part(features, 0, rows))
            features = engine.pinned(features)
        self._features, self._chunk_images = features, rows
        self._passes = [features.images] * passes + [last] * (last > 0)

    def run(self) -> tuple[Inference, StreamStats]:
        """Run all passes.

        Returns:
            The inference of all images, with categories that count from 0 over all passes; and the
            measurements.
        """
        engine, chunks = self._engine, list(self._chunks())
        start = time.perf_counter()
        if isinstance(engine, OverlappingEngine):
            outcomes = list(engine.stream(iter(chunks)))
        else:
            outcomes = [_in_turn(engine, chunk) for chunk in chunks]
        seconds = time.perf_counter() - start
        firsts = np.cumsum([0, *(chunk.images for chunk in chunks[:-1])])
        stats = StreamStats(
            self._chunk_images,
            len(chunks),
            sum(chunk.array.nbytes for chunk in chunks),
            seconds,
            self._bus_bytes_per_s(chunks[0]),
        )
        return _joined(outcomes, firsts), stats

    def _chunks(self) -> Iterator[Features]:
        for images in self._passes:
            for first in range(0, images, self._chunk_images):
                yield _part(self._features, first, min(first + self._chunk_images, images))

    def _bus_bytes_per_s(self, chunk: Features) -> float | None:
        if not isinstance(self._engine, OverlappingEngine):
            return None
        samples = [self._engine.copy_seconds(chunk) for _ in range(5)]
        seconds = [sample for sample in samples if sample is not None]
        return chunk.array.nbytes / min(seconds) if seconds else None


def _part(features: Features, first: int, last: int) -> Features:
    return Features(features.array[first:last], features.neurons)


def _in_turn(engine: Engine, chunk: Features) -> Inference:
    engine.upload(chunk)
    return engine.infer()


def _joined(outcomes: list[Inference], firsts: Any) -> Inference:
    """The inferences of all chunks as one; chunk k begins with image firsts[k]."""
    depth = max(len(outcome.alive) for outcome in outcomes)
    alive = np.zeros(depth, np.int64)
    for outcome in outcomes:
        alive[: len(outcome.alive)] += outcome.alive
        if outcome.alive:  # layers that a chunk did not need: its images had finished
            alive[len(outcome.alive) :] += outcome.alive[-1]
    categories = [o.categories + int(first) for o, first in zip(outcomes, firsts, strict=True)]
    executed = sum(outcome.executed_edges for outcome in outcomes)
    return Inference(np.concatenate(categories).astype(np.int32), executed, tuple(alive.tolist()))
