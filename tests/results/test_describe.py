"""What the runs in results have in common, in words."""

from __future__ import annotations

import pytest
from helpers.records import made

from spdnn_cli.results.describe import is_noisy, noise_in_words


@pytest.mark.parametrize(
    ("samples", "noisy"),
    [
        ((2.0, 1.9, 2.3), True),
        ((10.0, 10.0, 11.0), True),  # just the share from which it is said
        ((10.0, 10.0, 10.9), False),
        ((3.0,), False),
    ],
)
def test_samples_that_lie_apart_are_noisy(samples: tuple[float, ...], noisy: bool) -> None:
    assert is_noisy(made(seconds=samples).record) is noisy


def test_noise_is_told_with_its_limits() -> None:
    # From 1.9 to 2.3 around 2: 0.4 / 2 = 20 %.
    assert noise_in_words(made(seconds=(2.0, 1.9, 2.3)).record) == (
        "the samples are noisy: 1.9 to 2.3 s, 20% of the median (warned from 10%)"
    )
