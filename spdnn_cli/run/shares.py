"""Which images a rank runs, and how often: once from memory, or repeatedly as a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spdnn_cli.network.layers import Int64
from spdnn_cli.partition import Partition, share


@dataclass(frozen=True, eq=False)
class Share:
    """The images of a rank.

    Attributes:
        rows: int64, ascending: their places in the dataset; a place may be there twice if a run of
            several ranks has more images than the dataset.
        numbers: int64, for each of `rows`: the number of the image in the whole problem, from 0.
        passes: how often all of them run. If a rank runs more images than the dataset has, they
            repeat and are streamed.
        rest: how many of them, from the first, run once more after the passes.
    """

    rows: Int64
    numbers: Int64
    passes: int = 1
    rest: int = 0

    @property
    def images(self) -> int:
        """The number of images that run, with those that repeat."""
        return self.passes * len(self.rows) + self.rest

    @property
    def is_streamed(self) -> bool:
        """Whether they run more than once."""
        return self.images > len(self.rows)


def share_of(rank: int, size: int, images: int, of_dataset: int, partition: Partition) -> Share:
    """The share of rank `rank` of `size`, of a run of `images` images.

    Image i is image i % `of_dataset` of the dataset. A rank whose images are no more than those of
    the dataset holds them in memory. So weak scaling, with the same number of images for each
    device, compares runs from memory.
    """
    if images <= size * of_dataset:
        numbers = share(rank, size, images, partition)
        rows = numbers % of_dataset
        order = np.argsort(rows, kind="stable")
        return Share(rows[order], numbers[order])
    rows = share(rank, size, of_dataset, partition)
    passes, rest = divmod(images, of_dataset)
    return Share(rows, rows, passes, int(np.count_nonzero(rows < rest)))
