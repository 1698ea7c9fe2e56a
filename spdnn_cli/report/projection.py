"""How long a run takes on more devices: a model, fitted to the ranks that were measured.

A projection needs a trace, that is how many layers each image lives. From it follows, for any
partition on any number of devices, what each rank has to do:

    layers         how many it runs: those of its image that lives longest
    image-layers   the layers of all of its images added up

The model of a rank's seconds is

    seconds = fixed + per_layer * layers + per_image_layer * image-layers

with no number below zero. The sum of the squared *relative* errors is least (non-negative least
squares), so that short runs count as much as long ones. A run takes as long as its slowest rank:
nothing is exchanged before the categories are gathered, which is not in the time of inference.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spdnn_cli.partition import Partition, columns
from spdnn_cli.report.tables import duration

Floats = NDArray[np.float64]
Lifetimes = NDArray[np.uint16]


@dataclass(frozen=True)
class RankTime:
    """What a rank had to do, and how long it took: the median of its runs."""

    devices: int
    layers: int
    image_layers: int
    seconds: float


@dataclass(frozen=True)
class Model:
    """The seconds of a rank; see the top of this file.

    Attributes:
        fixed: seconds that do not depend on the work.
        per_layer: seconds for each layer that the rank runs.
        per_image_layer: seconds for each layer that an image of the rank enters.
        ranks: what it was fitted to.
        knows_fixed: whether `fixed` was fitted; False: all ranks ran the same number of layers, so
            that `per_layer` holds both.
    """

    fixed: float
    per_layer: float
    per_image_layer: float
    ranks: tuple[RankTime, ...]
    knows_fixed: bool

    def seconds(self, layers: Any, image_layers: Any) -> Floats:
        """Of ranks that have so much to do; 0 for one that has nothing."""
        layers, image_layers = (np.asarray(part, np.float64) for part in (layers, image_layers))
        busy = self.fixed + self.per_layer * layers + self.per_image_layer * image_layers
        return np.where(layers > 0, busy, 0.0)

    @property
    def largest_error(self) -> float:
        """The largest relative error on the ranks that it was fitted to, of either sign."""
        errors = [float(self.seconds(r.layers, r.image_layers)) / r.seconds - 1 for r in self.ranks]
        return max(map(abs, errors))

    def run(self, lifetimes: Lifetimes, devices: int, partition: Partition) -> tuple[float, float]:
        """Seconds of the slowest rank of a run, and slowest / mean of all."""
        ranks = self.seconds(*work_of_ranks(lifetimes, devices, partition))
        return float(ranks.max()), float(ranks.max() / ranks.mean())

    @property
    def in_words(self) -> str:
        """Its numbers, and what they come from."""
        loads = [rank.image_layers for rank in self.ranks]
        devices = ", ".join(map(str, sorted({rank.devices for rank in self.ranks})))
        fixed = f"fixed {duration(self.fixed)}, " if self.knows_fixed else ""
        return (
            f"{fixed}{duration(self.per_layer)} a layer"
            f"{'' if self.knows_fixed else ' (fixed included)'}, "
            f"{duration(self.per_image_layer)} an image-layer; fitted to {len(loads)} ranks of "
            f"runs on {devices} devices, with {min(loads)} to {max(loads)} image-layers (fewer is "
            f"extrapolation), off by up to {100 * self.largest_error:.1f} %"
        )


def fit(ranks: Sequence[RankTime]) -> Model | None:
    """The model with the least squared relative errors; None: the ranks do not determine one.

    There must be more ranks than parameters of the model.
    """
    if not ranks:
        return None
    measured = np.array([rank.seconds for rank in ranks])
    work = np.array([[1, rank.layers, rank.image_layers] for rank in ranks], np.float64)
    for first in (0, 1):  # with a fixed part; without, where it is one with that of the layers
        columns = work[:, first:] / measured[:, None]
        columns /= (scale := np.linalg.norm(columns, axis=0))
        if len(ranks) > columns.shape[1] == np.linalg.matrix_rank(columns):
            found = _non_negative_least_squares(columns, np.ones(len(ranks)))
            fixed, per_layer, per_image_layer = [0.0] * first + (found / scale).tolist()
            return Model(fixed, per_layer, per_image_layer, tuple(ranks), first == 0)
    return None


def _non_negative_least_squares(columns: Floats, wanted: Floats) -> Floats:
    """The x >= 0 with the least |columns x - wanted|, for a few columns.

    It is the plain least-squares solution on those columns where it is not zero, so all sets of
    columns are tried. (SciPy's solver takes longer to import than a report may take.)
    """
    best, least = np.zeros(columns.shape[1]), float(wanted @ wanted)
    for count in range(1, columns.shape[1] + 1):
        for chosen in map(list, itertools.combinations(range(columns.shape[1]), count)):
            part = np.linalg.lstsq(columns[:, chosen], wanted, rcond=None)[0]
            off = columns[:, chosen] @ part - wanted
            if (part >= 0).all() and off @ off < least:
                best, least = np.zeros(columns.shape[1]), float(off @ off)
                best[chosen] = part
    return best


def work_of_ranks(
    lifetimes: Lifetimes, devices: int, partition: Partition
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What each rank has to do: layers and image-layers, int64 (devices,) both."""
    dealt = columns(lifetimes, devices, partition)
    return dealt.max(axis=0).astype(np.int64), dealt.sum(axis=0, dtype=np.int64)
