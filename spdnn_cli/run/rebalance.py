"""Ranks that rebalance their live images after a layer, as the program of the paper's authors can.

Such a run has two parts, each with its own engine. Between them, ranks with more live images send
some, with their values, to ranks with fewer. This saves time if the images of some ranks live
longer than those of others; it costs the copies between device and host and from rank to rank.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from spdnn_cli.engines.protocol import Engine, EngineOptions, Inference, LayerProgress
from spdnn_cli.errors import EngineError
from spdnn_cli.network.layers import Features, Float32, Int32, Network


class ExchangingGroup(Protocol):
    """Ranks that can pass arrays to each other."""

    @property
    def rank(self) -> int: ...

    def all_of(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order."""

    def exchange(self, gives: dict[int, Any], takes: dict[int, Any]) -> None:
        """Send each array of `gives` to its rank; fill those of `takes` with what ranks send."""


@dataclass(frozen=True)
class MoveStats:
    """Measurements of a rebalanced run on one rank.

    Attributes:
        before, after: number of its live images before and after the move.
        move_seconds: from the end of the first part to the beginning of the second: values to the
            host, from rank to rank, and to the device. The wait for slower ranks is part of it.
        seconds: duration of the whole run.
    """

    before: int
    after: int
    move_seconds: float
    seconds: float


def moves(counts: Sequence[int]) -> list[tuple[int, int, int]]:
    """The smallest moves after which no two ranks differ by more than one image.

    Args:
        counts: number of live images of each rank.

    Returns:
        (giver, taker, number of images) of each move.
    """
    size, total = len(counts), sum(counts)
    # If the images cannot be shared evenly, the ranks that have most keep one more.
    ranked = sorted(range(size), key=lambda rank: -counts[rank])
    target = {rank: total // size + (place < total % size) for place, rank in enumerate(ranked)}
    givers = [[rank, counts[rank] - target[rank]] for rank in ranked if counts[rank] > target[rank]]
    takers = [[rank, target[rank] - counts[rank]] for rank in ranked if counts[rank] < target[rank]]
    plan = []
    while givers:
        (giver, surplus), (taker, room) = givers[0], takers[0]
        images = min(surplus, room)
        plan.append((giver, taker, images))
        givers[0][1] -= images
        takers[0][1] -= images
        givers = [entry for entry in givers if entry[1] > 0]
        takers = [entry for entry in takers if entry[1] > 0]
    return plan


class Rebalanced:
    """A network in two parts, prepared once, to be run any number of times."""

    def __init__(
        self,
        group: ExchangingGroup,
        make_engine: Callable[[EngineOptions], Engine],
        options: EngineOptions,
        network: Network,
        layer: int,
    ) -> None:
        """Prepare both parts.

        Args:
            group: the ranks.
            make_engine: makes an engine that can return the values of live images.
            options: those of both engines.
            network: the whole network.
            layer: number of layers before the move; the network has at least one more.

        Raises:
            EngineError: the network has no layer after that one.
        """
        if not 0 < layer < network.depth:
            raise EngineError(
                f"images cannot move after layer {layer} of {network.depth}",
                hint=f"Rebalance after one of the layers 1 to {network.depth - 1}.",
            )
        self._group, self._layer, self._stopwatch = group, layer, options.stopwatch
        if options.device_memory is not None:  # both parts are on the device
            options = replace(options, device_memory=options.device_memory // 2)
        self.engine = make_engine(replace(options, keep_values=True))
        self._rest = make_engine(
            replace(options, replays=False, progress=_later(options.progress, layer))
        )
        self.engine.prepare(network.between(0, layer))
        self._rest.prepare(network.between(layer, network.depth))

    def upload(self, features: Features, images: Any) -> None:
        """Copy the inputs to the device; `images` are the numbers of these images."""
        self._numbers = images.astype(np.int32)
        self.engine.upload(features)

    def run(self) -> tuple[Inference, MoveStats]:
        """Run both parts.

        Returns:
            The inference, with categories by the numbers of the images; and the measurements.
        """
        # The stopwatch keeps the stages of the preparation: those of a run are part of its time.
        spent, start = dict(self._stopwatch.seconds), time.perf_counter()
        first = self.engine.infer()
        parted = time.perf_counter()
        assert first.values is not None
        numbers, values = self._moved(self._numbers[first.categories], first.values)
        rest = Inference(np.zeros(0, np.int32), 0, ())
        if len(numbers) > 0:
            self._rest.upload(Features(values, values.shape[1]))
        met = time.perf_counter()
        if len(numbers) > 0:
            rest = self._rest.infer()
        seconds = time.perf_counter() - start
        self._stopwatch.seconds.update(spent)
        stats = MoveStats(len(first.categories), len(numbers), met - parted, seconds)
        none_left = (0,) * (self._layer - len(first.alive))
        return Inference(
            np.sort(numbers[rest.categories]),
            first.executed_edges + rest.executed_edges,
            first.alive + none_left + rest.alive,
        ), stats

    def _moved(self, numbers: Int32, values: Float32) -> tuple[Int32, Float32]:
        """The numbers of this rank's images after the move, and their values (images, neurons)."""
        group, own = self._group, self._group.rank
        plan = moves(group.all_of(len(numbers)))
        given = {taker: images for giver, taker, images in plan if giver == own}
        taken = {giver: images for giver, taker, images in plan if taker == own}
        arrays = []
        for array in (numbers, values):
            bounds = len(array) - np.cumsum([0, *given.values()])
            pieces = [array[low:high] for high, low in itertools.pairwise(bounds)]
            new = {rank: np.empty((n, *array.shape[1:]), array.dtype) for rank, n in taken.items()}
            group.exchange(dict(zip(given, pieces, strict=True)), new)
            arrays.append(np.concatenate([array[: bounds[-1]], *new.values()]))
        return arrays[0], arrays[1]


def _later(progress: LayerProgress | None, layers: int) -> LayerProgress | None:
    """A callback for progress that adds `layers` to the number of layers done."""
    if progress is None:
        return None
    return lambda done, images: progress(layers + done, images)
