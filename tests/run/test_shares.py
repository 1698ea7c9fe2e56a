"""Which images a rank runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.partition import PARTITIONS, Partition
from spdnn_cli.run.shares import Share, share_of


def numbers_of(share: Share, of_dataset: int) -> list[int]:
    """The numbers of all images of a share, from its passes where they are streamed."""
    if not share.is_streamed:
        return share.numbers.tolist()
    passes = [number * of_dataset + share.rows for number in range(share.passes)]
    return np.concatenate([*passes, share.passes * of_dataset + share.rows[: share.rest]]).tolist()


def test_two_ranks_with_a_dataset_each() -> None:
    first, second = (share_of(rank, 2, 6, 3, "contiguous") for rank in range(2))
    assert (first.rows.tolist(), first.numbers.tolist()) == ([0, 1, 2], [0, 1, 2])
    assert (second.rows.tolist(), second.numbers.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert not first.is_streamed


def test_a_rank_whose_images_wrap() -> None:
    first, second = (share_of(rank, 2, 5, 4, "contiguous") for rank in range(2))
    assert first.numbers.tolist() == [0, 1]
    assert (second.rows.tolist(), second.numbers.tolist()) == ([0, 2, 3], [4, 2, 3])


def test_more_images_than_a_rank_holds_are_streamed() -> None:
    share = share_of(0, 1, 10, 4, "snake")
    assert (share.rows.tolist(), share.passes, share.rest) == ([0, 1, 2, 3], 2, 2)
    assert share.is_streamed
    assert share.images == 10


@pytest.mark.parametrize("partition", PARTITIONS)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 12))
def test_every_image_runs_once(
    partition: Partition, size: int, images: int, of_dataset: int
) -> None:
    shares = [share_of(rank, size, images, of_dataset, partition) for rank in range(size)]
    numbers = [number for share in shares for number in numbers_of(share, of_dataset)]
    assert sorted(numbers) == list(range(images))
    assert sum(share.images for share in shares) == images
    for share in shares:
        assert (np.diff(share.rows) >= 0).all()
        assert len(share.rows) <= of_dataset
        assert (share.numbers % of_dataset == share.rows).all()
