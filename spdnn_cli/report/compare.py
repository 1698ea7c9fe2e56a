"""Is a difference between two runs real? Medians, and a confidence interval of their ratio.

The interval is a percentile bootstrap with a fixed seed: the samples of both runs are drawn anew,
with replacement, and the ratio of the medians is taken each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from spdnn_cli.errors import ResultError
from spdnn_cli.report import cells
from spdnn_cli.report.tables import EMPTY, Table, number
from spdnn_cli.results import describe
from spdnn_cli.results.describe import (
    Configuration,
    Hardware,
    Problem,
    configuration_of,
    hardware,
    problem_of,
)
from spdnn_cli.results.record import Record, Status
from spdnn_cli.results.store import Result, read

LEAST_SAMPLES = 5
"""Fewest timed runs on each side for which an interval is computed."""
DRAWS = 10_000
CONFIDENCE = 0.95
SEED = 1


class Verdict(Enum):
    """What is certain of B, compared with A."""

    FASTER = "faster"
    NO_DIFFERENCE = "no difference that the samples show"
    WITHIN = "slower, within the threshold"
    PERHAPS_BEYOND = "slower, perhaps beyond the threshold"
    BEYOND = "slower, beyond the threshold"
    WRONG = "WRONG categories"
    A_IS_WRONG = "cannot tell: the categories of A are WRONG"
    FEW_SAMPLES = f"cannot tell: fewer than {LEAST_SAMPLES} timed runs on a side"


FAILURES = (Verdict.BEYOND, Verdict.WRONG)


@dataclass(frozen=True)
class Pair:
    """Two runs of the same problem and configuration.

    Attributes:
        before, after: the runs.
        interval: of after's median over before's; None: there are too few samples.
        verdict: what the interval says.
    """

    before: Result
    after: Result
    interval: tuple[float, float] | None
    verdict: Verdict

    @property
    def ratio(self) -> float:
        """After's median seconds over before's."""
        return self.after.record.seconds / self.before.record.seconds

    @property
    def fails(self) -> bool:
        """Whether `after` is wrong, or slower for certain by more than the threshold."""
        return self.verdict in FAILURES


@dataclass(frozen=True)
class Comparison:
    """All pairs, with the threshold they were held against."""

    pairs: list[Pair]
    threshold: float
    unmatched: int

    def table(self) -> Table:
        """A row a pair."""
        about = ["machine", *describe.PROBLEM_COLUMNS, "run"]
        columns = [*about, "A", "B", "B : A", "from", "to", "verdict"]
        table = Table("B compared with A", columns, kind="compare", keys=len(about))
        problems = cells.problem_cells(problem_of(pair.after.record) for pair in self.pairs)
        for pair in self.pairs:
            before, after = pair.before.record, pair.after.record
            table.add(
                hardware(after).label,
                *problems[problem_of(after)],
                configuration_of(after).label,
                cells.time(before),
                cells.time(after),
                pair.ratio,
                *(pair.interval or (EMPTY, EMPTY)),
                pair.verdict.value,
            )
        table.notes = self._notes()
        return table

    def _notes(self) -> list[str]:
        before = [pair.before.record for pair in self.pairs]
        after = [pair.after.record for pair in self.pairs]
        lines = [
            "A, B: median seconds of inference. from, to: "
            f"{CONFIDENCE:.0%} confidence interval of B : A (bootstrap of the medians).",
            f"Threshold: {number(100 * self.threshold)}%.",
            *describe.verification([*before, *after]),
            *(f"A: {line}" for line in describe.samples(before)),
            *(f"B: {line}" for line in describe.samples(after)),
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
            verdicts = "; ".join(dict.fromkeys(pair.verdict.value for pair in failed))
            raise ResultError(
                f"{len(failed)} of {len(self.pairs)} runs failed: {verdicts}",
                path=failed[0].after.path,
            )


def _silently(sentence: str) -> None:
    """For callers that need no warnings."""


def compare(
    before: Path, after: Path, threshold: float, warn: Callable[[str], None] = _silently
) -> Comparison:
    """Compare two runs, or those of two files or folders that are alike.

    Args:
        before, after: files, or folders of results.
        threshold: how much slower a run may be, as a share of the time before.
        warn: told, in a sentence, of each file in a folder that is left out, as it is no result.

    Raises:
        ResultError: there is nothing to compare, or the runs are not of the same problem, engine
            and machine.
    """
    if before.is_dir() != after.is_dir():
        raise ResultError("one is a file and the other a folder", path=after)
    some, others = read(before, warn), read(after, warn)
    if before.is_file() and len(some) == len(others) == 1:
        _check_alike(some[0], others[0])
    first, second = ({_key(result): result for result in side} for side in (some, others))
    both = sorted(first.keys() & second.keys(), key=_Key.order)
    if not both:
        raise ResultError(
            f"no run is of a problem, engine and machine that {before} has too", path=after
        )
    pairs = [_pair(first[key], second[key], threshold) for key in both]
    return Comparison(pairs, threshold, len(first) + len(second) - 2 * len(both))


@dataclass(frozen=True)
class _Key:
    """What two runs must have in common."""

    machine: Hardware
    problem: Problem
    configuration: Configuration

    def order(self) -> tuple[object, ...]:
        return self.machine, self.problem, self.configuration.label


_NAMES = {"machine": "machine", "problem": "problem", "configuration": "engine or its options"}


def _key(result: Result) -> _Key:
    record = result.record
    return _Key(hardware(record), problem_of(record), configuration_of(record))


def _check_alike(one: Result, other: Result) -> None:
    for attribute, what in _NAMES.items():
        if getattr(_key(one), attribute) != getattr(_key(other), attribute):
            raise ResultError(
                f"is a run of another {what} than {one.path}",
                path=other.path,
                hint="Compare runs that are alike.",
            )


def _pair(before: Result, after: Result, threshold: float) -> Pair:
    interval = _interval(before.record, after.record)
    return Pair(before, after, interval, _verdict(before, after, interval, threshold))


def _verdict(
    before: Result, after: Result, interval: tuple[float, float] | None, threshold: float
) -> Verdict:
    if after.record.status is Status.WRONG:
        return Verdict.WRONG
    if before.record.status is Status.WRONG:
        return Verdict.A_IS_WRONG
    if interval is None:
        return Verdict.FEW_SAMPLES
    return _judged(*interval, threshold)


def _judged(low: float, high: float, threshold: float) -> Verdict:
    """What an interval says; a slowdown that is not certain is none."""
    if high < 1:
        return Verdict.FASTER
    if low <= 1:
        return Verdict.NO_DIFFERENCE
    if low > 1 + threshold:
        return Verdict.BEYOND
    return Verdict.PERHAPS_BEYOND if high > 1 + threshold else Verdict.WITHIN


def _interval(before: Record, after: Record) -> tuple[float, float] | None:
    """The confidence interval of after's median over before's; None: too few samples."""
    sides = [record.timings_s.infer.samples for record in (after, before)]
    if min(map(len, sides)) < LEAST_SAMPLES:
        return None
    import numpy as np
    from scipy.stats import bootstrap

    def ratio_of_medians(one: Any, other: Any, axis: int) -> Any:
        return np.median(one, axis) / np.median(other, axis)

    low, high = bootstrap(
        [np.array(samples) for samples in sides],
        ratio_of_medians,
        n_resamples=DRAWS,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(SEED),  # `rng` only since SciPy 1.15
    ).confidence_interval
    return float(low), float(high)
