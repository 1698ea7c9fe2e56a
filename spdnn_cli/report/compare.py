"""Is a difference between two runs real? Medians, and a confidence interval of their ratio.

The interval is a percentile bootstrap with a fixed seed: the samples of both runs are drawn anew,
with replacement, and the ratio of the medians is taken each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spdnn_cli.errors import ResultError
from spdnn_cli.report.tables import Table
from spdnn_cli.results import describe as runs
from spdnn_cli.results.describe import number, seconds
from spdnn_cli.results.store import Result, Warn, load, load_below

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
            *("machine", *runs.PROBLEM_COLUMNS, "run", "A, s", "B, s", "B : A"),
            *("from", "to", "verdict"),
        ]
        table = Table("B compared with A", columns, [], kind="compare")
        cells = runs.problem_cells(runs.problem_of(pair.after.record) for pair in self.pairs)
        for pair in self.pairs:
            low, high = pair.interval or (None, None)
            table.rows.append([
                runs.in_words(runs.hardware(pair.after.record)),
                *cells[runs.problem_of(pair.after.record)],
                runs.configuration(pair.after.record),
                number(seconds(pair.before.record)) + runs.mark(pair.before.record),
                number(seconds(pair.after.record)) + runs.mark(pair.after.record),
                number(pair.ratio),
                "" if low is None else number(low),
                "" if high is None else number(high),
                pair.verdict,
            ])  # fmt: skip
        table.notes = self._notes()
        return table

    def _notes(self) -> list[str]:
        before = [pair.before.record for pair in self.pairs]
        after = [pair.after.record for pair in self.pairs]
        lines = [
            "A, B: median seconds of inference. from, to: "
            f"{CONFIDENCE:.0%} confidence interval of B : A (bootstrap of the medians).",
            f"Threshold: {number(100 * self.threshold)}%.",
            *runs.verification([*before, *after]),
            *(f"A: {line}" for line in runs.samples(before)),
            *(f"B: {line}" for line in runs.samples(after)),
        ]
        if self.unmatched:
            one = self.unmatched == 1
            words = "run has no partner, and is" if one else "runs have no partner, and are"
            lines.append(f"{self.unmatched} {words} left out.")
        return lines

    def check(self) -> None:
        """Raise a ResultError if a run of B fails."""
        failed = [pair for pair in self.pairs if pair.fails]
        if failed:
            verdicts = "; ".join(dict.fromkeys(pair.verdict for pair in failed))
            raise ResultError(
                f"{len(failed)} of {len(self.pairs)} runs failed: {verdicts}",
                path=failed[0].after.path,
            )


def compare(
    before: Path, after: Path, threshold: float, warn: Warn = lambda line: None
) -> Comparison:
    """Compare two result files, or the runs of two folders that are alike.

    Args:
        before, after: files, or folders of results.
        threshold: how much slower a run may be, as a share of the time before.
        warn: told, in a line, of each file in a folder that is left out, as it is no result.

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
    first, second = _newest(before, warn), _newest(after, warn)
    both = sorted(first.keys() & second.keys())
    if not both:
        raise ResultError(
            f"no run is of a problem, engine and machine that {before} has too", path=after
        )
    pairs = [_pair(first[key], second[key], threshold) for key in both]
    return Comparison(pairs, threshold, len(first) + len(second) - 2 * len(both))


_Hardware = tuple[str, int, tuple[str, ...]]
_Key = tuple[_Hardware, runs.Problem, str]


def _key(result: Result) -> _Key:
    record = result.record
    return runs.hardware(record), runs.problem_of(record), runs.configuration(record)


def _newest(folder: Path, warn: Warn) -> dict[_Key, Result]:
    """The newest run of each machine, problem and configuration below a folder."""
    found = load_below(folder, warn)
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
    if after.record.get("difference") is not None:
        return Pair(before, after, interval, "WRONG categories", True)
    if before.record.get("difference") is not None:
        return Pair(before, after, interval, "cannot tell: the categories of A are WRONG", False)
    if interval is None:
        words = f"cannot tell: fewer than {LEAST_SAMPLES} timed runs on a side"
        return Pair(before, after, None, words, False)
    return Pair(before, after, interval, *_judged(interval, threshold))


def _judged(interval: tuple[float, float], threshold: float) -> tuple[str, bool]:
    """What an interval says, and whether it fails: only what is certain does."""
    low, high = interval
    if high < 1:
        return "faster", False
    if low <= 1:
        return "no difference that the samples show", False
    if low > 1 + threshold:
        return "slower, beyond the threshold", True
    if high > 1 + threshold:
        return "slower, perhaps beyond the threshold", False
    return "slower, within the threshold", False


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
