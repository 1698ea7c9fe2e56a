"""Is a difference between two runs real? Medians, and a confidence interval of their ratio.

The interval is a percentile bootstrap with a fixed seed: the samples of both runs are drawn anew,
with replacement, and the ratio of the medians is taken each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spdnn_cli import runs
from spdnn_cli.errors import ResultError
from spdnn_cli.result import Result, load
from spdnn_cli.runs import number, seconds
from spdnn_cli.tables import Table

LEAST_SAMPLES = 5
"""With fewer timed runs on a side, an interval would say nothing."""
DRAWS = 10_000
CONFIDENCE = 0.95
SEED = 1


@dataclass(frozen=True)
class Pair:
    """Two runs of the same problem and configuration.

    Attributes:
        before, after: the runs.
        interval: of after's median over before's; None: there are too few samples.
        verdict: in words.
        fails: whether `after` is wrong, or slower for certain by more than the threshold.
    """

    before: Result
    after: Result
    interval: tuple[float, float] | None
    verdict: str
    fails: bool

    @property
    def ratio(self) -> float:
        """After's median seconds over before's."""
        return seconds(self.after.record) / seconds(self.before.record)


@dataclass(frozen=True)
class Comparison:
    """All pairs, with the threshold they were held against."""

    pairs: list[Pair]
    threshold: float
    unmatched: int

    def table(self) -> Table:
        """A row a pair."""
        columns = [
            *(*runs.PROBLEM_COLUMNS, "run", "A, s", "B, s", "B : A"),
            *("from", "to", "verdict"),
        ]
        table = Table("B compared with A", columns, [], kind="compare")
        cells = runs.problem_cells(runs.problem_of(pair.after.record) for pair in self.pairs)
        for pair in self.pairs:
            low, high = pair.interval or (None, None)
            table.rows.append([
                *cells[runs.problem_of(pair.after.record)],
                runs.configuration(pair.after.record),
                number(seconds(pair.before.record)),
                number(seconds(pair.after.record)),
                number(pair.ratio),
                "" if low is None else number(low),
                "" if high is None else number(high),
                pair.verdict,
            ])  # fmt: skip
        table.notes = [
            "A, B: median seconds of inference. from, to: "
            f"{CONFIDENCE:.0%} confidence interval of B : A (bootstrap of the medians).",
            f"Threshold: {self.threshold:.1%}.",
        ]
        if self.unmatched:
            table.notes.append(f"{self.unmatched} runs have no partner and are left out.")
        return table

    def check(self) -> None:
        """Raise a ResultError if a run of B fails."""
        failed = [pair for pair in self.pairs if pair.fails]
        if failed:
            raise ResultError(
                f"{len(failed)} of {len(self.pairs)} runs of B: {failed[0].verdict}",
                path=failed[0].after.path,
            )


def compare(before: Path, after: Path, threshold: float) -> Comparison:
    """Compare two result files, or the runs of two folders that are alike.

    Args:
        before, after: files, or folders of results.
        threshold: how much slower a run may be, as a share of the time before.

    Raises:
        ResultError: there is nothing to compare, or the runs are not of the same problem, engine
            and machine.
    """
    if before.is_dir() != after.is_dir():
        raise ResultError("one is a file and the other a folder", path=after)
    if not before.is_dir():
        one, other = load(before), load(after)
        _check_alike(one, other)
        return Comparison([_pair(one, other, threshold)], threshold, 0)
    first, second = _newest(before), _newest(after)
    both = [key for key in second if key in first]
    if not both:
        raise ResultError(
            f"no run is of a problem, engine and machine that {before} has too", path=after
        )
    pairs = [_pair(first[key], second[key], threshold) for key in both]
    return Comparison(pairs, threshold, len(first) + len(second) - 2 * len(both))


def _key(result: Result) -> tuple[object, ...]:
    record = result.record
    return runs.hardware(record), runs.problem_of(record), runs.configuration(record)


def _newest(folder: Path) -> dict[tuple[object, ...], Result]:
    """The newest run of each kind below a folder."""
    files = [path for path in folder.rglob("n*-l*-*.json") if "-categories" not in path.name]
    found = sorted(map(load, files), key=lambda result: str(result.record["created"]))
    if not found:
        raise ResultError("has no results", path=folder)
    return {_key(result): result for result in found}


def _check_alike(one: Result, other: Result) -> None:
    for what, here, there in zip(
        ("machine", "problem", "engine or its options"), _key(one), _key(other), strict=True
    ):
        if here != there:
            raise ResultError(
                f"is a run of another {what} than {one.path}",
                path=other.path,
                hint="Compare runs that are alike.",
            )


def _pair(before: Result, after: Result, threshold: float) -> Pair:
    interval = _interval(before, after)
    if after.record["difference"] is not None:
        return Pair(before, after, interval, "WRONG categories", True)
    if interval is None:
        words = f"cannot tell: fewer than {LEAST_SAMPLES} timed runs on a side"
        return Pair(before, after, None, words, False)
    low, high = interval
    if low > 1 + threshold:
        return Pair(before, after, interval, "slower, beyond the threshold", True)
    if low > 1:
        return Pair(before, after, interval, "slower, within the threshold", False)
    if high < 1:
        return Pair(before, after, interval, "faster", False)
    return Pair(before, after, interval, "no difference that the samples show", False)


def _interval(before: Result, after: Result) -> tuple[float, float] | None:
    one, other = (
        np.array(result.record["timings_s"]["infer"]["samples"]) for result in (before, after)
    )
    if min(len(one), len(other)) < LEAST_SAMPLES:
        return None
    random = np.random.default_rng(SEED)
    medians = [
        np.median(random.choice(samples, (DRAWS, len(samples))), axis=1) for samples in (other, one)
    ]
    rest = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians[0] / medians[1], [rest, 1 - rest])
    return float(low), float(high)
