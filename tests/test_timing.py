"""timing.py: stages that never overlap, by a clock that the test turns."""

from __future__ import annotations

import pytest

from spdnn_cli.timing import STAGES, Stopwatch, spread


class Clock:
    """Stands in for `time.perf_counter`: shows what it was set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


def test_all_stages_start_at_zero() -> None:
    assert Stopwatch().seconds == dict.fromkeys(STAGES, 0.0)


def test_what_is_part_of_no_stage_is_booked_nowhere(clock: Clock) -> None:
    stopwatch = Stopwatch()
    with stopwatch.stage("infer"):
        clock.now += 1
        with stopwatch.stage(None):
            clock.now += 2
            with stopwatch.stage("read"):
                clock.now += 4
            clock.now += 8
        clock.now += 16
    assert (stopwatch.seconds["infer"], stopwatch.seconds["read"]) == (17.0, 4.0)
    assert sum(stopwatch.seconds.values()) == 21.0


def test_an_inner_stage_stops_the_outer_one(clock: Clock) -> None:
    stopwatch = Stopwatch()
    clock.now += 50  # no stage is open
    with stopwatch.stage("infer"):
        clock.now += 1
        with stopwatch.stage("read"):
            clock.now += 2
            with stopwatch.stage("prepare"):
                clock.now += 4
            clock.now += 8
        clock.now += 16
    clock.now += 50
    expected = {"infer": 17.0, "read": 10.0, "prepare": 4.0}
    assert stopwatch.seconds == dict.fromkeys(STAGES, 0.0) | expected


def test_a_stage_within_itself_counts_once(clock: Clock) -> None:
    stopwatch = Stopwatch()
    with stopwatch.stage("read"):
        clock.now += 1
        with stopwatch.stage("read"):
            clock.now += 2
    assert stopwatch.seconds["read"] == 3


def test_a_stage_ends_when_its_code_fails(clock: Clock) -> None:
    stopwatch = Stopwatch()

    def fail() -> None:
        clock.now += 1
        raise KeyError

    with pytest.raises(KeyError), stopwatch.stage("read"):
        fail()
    clock.now += 5
    with stopwatch.stage("upload"):
        clock.now += 2
    assert stopwatch.seconds["read"] == 1
    assert stopwatch.seconds["upload"] == 2


def test_taking_a_stage_starts_it_again(clock: Clock) -> None:
    stopwatch = Stopwatch()
    for seconds in (1.0, 2.0):
        with stopwatch.stage("infer"):
            clock.now += seconds
        assert stopwatch.take("infer") == seconds
    assert stopwatch.take("infer") == 0


def test_spread_is_the_range_over_the_median() -> None:
    assert spread([2.0, 1.0, 4.0]) == 1.5
    assert spread([3.0]) == 0
    assert spread([1.0, 3.0]) == 1
