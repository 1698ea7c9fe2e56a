"""compare.py: which differences between two runs are real, and what fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.command import Outcome, run
from helpers.records import H100, MACHINE, STREAM, UNVERIFIED, WRONG, changed, made, written
from helpers.tables import columns
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.errors import ResultError
from spdnn_cli.report.compare import CONFIDENCE, LEAST_SAMPLES, Pair, Verdict, compare
from spdnn_cli.results.record import encode
from spdnn_cli.results.store import Result

ONE_SECOND = (1.0,) * 5
BEYOND = "slower, beyond the threshold"
WITHIN = "slower, within the threshold"
HARDWARE = "1x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores"

A_PAIR = ["machine", "neurons", "layers", "images", "data", "run"]


def of(*samples: float, **changes: Any) -> Result:
    """A run of `tiled` with these timed runs."""
    return made(seconds=samples, **changes)


def compared(root: Path, before: Result, after: Result, threshold: float = 0.05) -> Pair:
    """The only pair of two result files."""
    files = [written(before, root, "a").path, written(after, root, "b").path]
    (pair,) = compare(*files, threshold).pairs
    return pair


def refused(*arguments: Any) -> str:
    with pytest.raises(ResultError) as raised:
        compare(*arguments, 0.05)
    return str(raised.value)


def command(*words: str | Path) -> Outcome:
    return run("report", "compare", *words)


# ---- verdicts


@pytest.mark.parametrize(
    ("samples", "interval", "verdict", "fails"),
    [
        ([1.0] * 5, (1, 1), Verdict.NO_DIFFERENCE, False),
        ([0.5] * 5, (0.5, 0.5), Verdict.FASTER, False),
        ([0.999] * 5, (0.999, 0.999), Verdict.FASTER, False),
        ([1.001] * 5, (1.001, 1.001), Verdict.WITHIN, False),
        ([1.05] * 5, (1.05, 1.05), Verdict.WITHIN, False),
        ([1.051] * 5, (1.051, 1.051), Verdict.BEYOND, True),
        ([8.0] * 6, (8, 8), Verdict.BEYOND, True),
        ([0.7, 0.9, 0.95, 0.96, 0.99], (0.7, 0.99), Verdict.FASTER, False),
        ([0.7, 0.9, 0.95, 0.96, 1.0], (0.7, 1.0), Verdict.NO_DIFFERENCE, False),
        ([0.5, 1.5, 2.0, 3.0, 9.0], (0.5, 9), Verdict.NO_DIFFERENCE, False),
        ([1.0, 2.0, 3.0, 4.0, 5.0], (1, 5), Verdict.NO_DIFFERENCE, False),
        ([1.01, 1.02, 1.03, 1.04, 1.05], (1.01, 1.05), Verdict.WITHIN, False),
        ([1.01, 1.5, 2.0, 2.5, 3.0], (1.01, 3), Verdict.PERHAPS_BEYOND, False),
        ([1.06, 1.5, 2.0, 2.5, 3.0], (1.06, 3), Verdict.BEYOND, True),
    ],
)
def test_verdict_is_what_the_whole_interval_says(
    tmp_path: Path,
    samples: list[float],
    interval: tuple[float, float],
    verdict: Verdict,
    fails: bool,
) -> None:
    """Against five runs of one second.

    The median of five draws from five samples is the smallest one with a probability of 5.8 %, more
    than the 2.5 % beyond an end of the interval, and so with the largest one.
    """
    pair = compared(tmp_path, of(*ONE_SECOND), of(*samples))
    assert pair.interval == pytest.approx(interval, rel=1e-12)
    assert (pair.verdict, pair.fails) == (verdict, fails)


def test_ends_of_the_interval_leave_out_what_is_rarer_than_2_5_percent(tmp_path: Path) -> None:
    """Of seven samples the median of seven draws is the smallest with 1.0 %, below the third with
    10.8 %. So the interval ends at the second, and at the last but one.
    """
    pair = compared(tmp_path, of(*ONE_SECOND), of(*map(float, range(2, 9))))
    assert pair.interval == (3, 7)
    assert pair.ratio == 5


def test_samples_of_both_runs_widen_the_interval(tmp_path: Path) -> None:
    wide = of(1.0, 2.0, 3.0, 4.0, 5.0)
    assert compared(tmp_path, of(*ONE_SECOND), wide).interval == (1, 5)
    assert compared(tmp_path, wide, of(*ONE_SECOND)).interval == (1 / 5, 1)
    # The medians of five draws are 1 to 5 with 5.8, 26, 36.5, 26 and 5.8 %. So 1 : 5 or 1 : 4 comes
    # with 1.8 %, and 1 : 3 at most with 4.0 %.
    assert compared(tmp_path, wide, wide).interval == (1 / 3, 3)
    assert CONFIDENCE == 0.95


@given(
    before=st.lists(st.floats(0.5, 2), min_size=5, max_size=9),
    after=st.lists(st.floats(0.5, 2), min_size=5, max_size=9),
    power=st.integers(-10, 10),
)
def test_the_interval_is_about_the_ratio_and_has_no_unit(
    tmp_path_factory: pytest.TempPathFactory, before: list[float], after: list[float], power: int
) -> None:
    root = tmp_path_factory.mktemp("pair")
    pair = compared(root, of(*before), of(*after))
    assert pair.interval is not None
    low, high = pair.interval
    assert low <= pair.ratio * (1 + 1e-12)
    assert high >= pair.ratio * (1 - 1e-12)
    assert low >= min(after) / max(before) * (1 - 1e-12)
    assert high <= max(after) / min(before) * (1 + 1e-12)
    longer = [[seconds * 2.0**power for seconds in samples] for samples in (before, after)]
    assert compared(root, of(*longer[0]), of(*longer[1])).interval == pair.interval


def test_a_run_is_no_slower_and_no_faster_than_itself(tmp_path: Path) -> None:
    file = written(of(0.9, 1.0, 1.0, 1.1, 1.3), tmp_path).path
    (pair,) = compare(file, file, 0.0).pairs
    assert (pair.ratio, pair.verdict, pair.fails) == (1, Verdict.NO_DIFFERENCE, False)


@pytest.mark.parametrize("few", ["before", "after"])
def test_too_few_samples_tell_nothing(tmp_path: Path, few: str) -> None:
    count = {"before": 5, "after": 5} | {few: LEAST_SAMPLES - 1}
    slower = of(*[9.0] * count["after"])
    pair = compared(tmp_path, of(*[1.0] * count["before"]), slower)
    assert (pair.interval, pair.verdict, pair.fails) == (None, Verdict.FEW_SAMPLES, False)
    assert pair.ratio == 9


@pytest.mark.parametrize("samples", [[0.5] * 5, [0.5]])
def test_wrong_categories_fail_however_fast_they_came(tmp_path: Path, samples: list[float]) -> None:
    wrong = of(*samples, **WRONG)
    pair = compared(tmp_path, of(*ONE_SECOND), wrong)
    assert (pair.verdict, pair.fails) == (Verdict.WRONG, True)


def test_a_wrong_run_is_nothing_to_be_slower_than(tmp_path: Path) -> None:
    wrong = of(*ONE_SECOND, **WRONG)
    pair = compared(tmp_path, wrong, of(*[9.0] * 5))
    assert (pair.verdict, pair.fails) == (Verdict.A_IS_WRONG, False)


# ---- what is compared with what


def test_folders_are_matched_by_machine_problem_and_configuration(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for root, seconds in ((before, 1.0), (after, 2.0)):
        written(of(*[seconds] * 5), root, "1")
        written(of(*[3 * seconds] * 5, layers=120), root, "2")
        written(made("cpu", [5 * seconds] * 5, folder="a-laptop"), root)
    written(of(*ONE_SECOND, neurons=16), before, "alone")
    written(of(*ONE_SECOND, device_memory=10**9), after, "alone")

    comparison = compare(before, after, 0.05)

    table = comparison.table()
    assert columns(table, *A_PAIR, "A", "B") == [
        ("Intel Xeon, 16 cores", "8", "4", "10", "official", "cpu (2 threads)", "5 s", "10 s"),
        (HARDWARE, "8", "4", "10", "official", "tiled", "1 s", "2 s"),
        (HARDWARE, "8", "120", "10", "official", "tiled", "3 s", "6 s"),
    ]
    assert comparison.unmatched == 2
    assert table.notes[-1] == "2 runs have no partner, and are left out."


def test_of_a_folder_the_newest_run_counts(tmp_path: Path) -> None:
    for name, seconds, day in (("1", 3.0, 25), ("2", 7.0, 24)):
        created = f"2026-11-{day}T10:00:00.000+00:00"
        written(of(*[seconds] * 5, created=created), tmp_path / "before", name)
    written(of(*[6.0] * 5), tmp_path / "after")
    (pair,) = compare(tmp_path / "before", tmp_path / "after", 0.05).pairs
    assert pair.ratio == 2


def test_a_folder_of_one_machine_will_do_and_what_is_no_result_is_passed_over(
    tmp_path: Path,
) -> None:
    folders = []
    for side in ("before", "after"):
        folders.append(written(of(*ONE_SECOND), tmp_path / side).path.parent)
        (folders[-1] / "mine.json").write_text("{}")
    warnings: list[str] = []
    assert len(compare(*folders, 0.05, warnings.append).pairs) == 1
    assert [folder.name in line for folder, line in zip(folders, warnings, strict=True)] == [
        True
    ] * 2


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("machine", {"device": "cpu"}),
        ("machine", {"machine__cores": 8}),
        ("problem", {"layers": 5}),
        ("problem", {"images": 11}),
        ("problem", {"dataset__network_sha256": "0" * 64}),
        ("engine or its options", {"engine": "folded"}),
        ("engine or its options", {"device_memory": 10**9}),
        ("engine or its options", {"stream": STREAM}),
    ],
)
def test_unlike_files_are_refused(tmp_path: Path, what: str, changes: dict[str, Any]) -> None:
    one = written(of(*ONE_SECOND), tmp_path, "a").path
    other = written(of(*ONE_SECOND, **changes), tmp_path, "b").path
    assert refused(one, other) == (
        f"{other}: is a run of another {what} than {one}. Compare runs that are alike."
    )


def test_programs_drivers_and_tuned_shapes_may_differ(tmp_path: Path) -> None:
    changes = {
        "program__version": "9",
        "machine__gpus": [{"name": H100["name"], "uuid": "GPU-2", "driver": "590"}],
        "engine_settings": {"minibatch": 8},
    }
    pair = compared(tmp_path, of(*ONE_SECOND), of(*ONE_SECOND, **changes))
    assert pair.verdict is Verdict.NO_DIFFERENCE


def test_folders_without_anything_in_common_are_refused(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    written(of(*ONE_SECOND), before)
    written(of(*ONE_SECOND, layers=5), after)
    assert refused(before, after) == (
        f"{after}: no run is of a problem, engine and machine that {before} has too."
    )


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    written(of(*ONE_SECOND), before)
    after.mkdir()
    assert refused(before, after) == f"{after}: has no results."


def test_two_suite_files_are_matched_like_folders(tmp_path: Path) -> None:
    files = []
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        runs = [of(*[seconds] * 5), of(*[seconds] * 5, neurons=16)]
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text("".join(f"{encode(result.record)}\n" for result in runs))
    assert [pair.ratio for pair in compare(*files, 0.05).pairs] == [2, 2]


def test_a_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    file = written(of(*ONE_SECOND), tmp_path).path
    assert refused(tmp_path, file) == f"{file}: one is a file and the other a folder."
    assert refused(file, tmp_path) == f"{tmp_path}: one is a file and the other a folder."


# ---- the table


def test_every_cell_and_note(tmp_path: Path) -> None:
    one = written(of(1.0, 1.0, 2.0, 2.5, 3.0, **UNVERIFIED), tmp_path, "a").path
    other = written(of(*[6.0] * 5), tmp_path, "b").path
    table = compare(one, other, 0.0025).table()
    assert table.as_dict() == {
        "table": "compare",
        "title": "B compared with A",
        "rows": [
            {
                "machine": HARDWARE,
                "neurons": 8,
                "layers": 4,
                "images": 10,
                "data": "official",
                "run": "tiled",
                "A": 2,
                "B": 6,
                "B : A": 3,
                "from": 2,
                "to": 6,
                "verdict": BEYOND,
            }
        ],
        "marks": [{"A": "*"}],
        "notes": [
            "A, B: median seconds of inference. from, to: 95% confidence interval of B : A "
            "(bootstrap of the medians).",
            "Threshold: 0.25%.",
            "* not verified.",
            "A: Noisy samples, (largest - smallest) / median from 10% on: tiled 8 x 4 (100%).",
        ],
    }


def test_wrong_runs_are_marked_and_single_samples_are_named(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    written(of(1.0), before)
    written(of(1.0, neurons=16), before, "alone")
    written(of(3.0, **WRONG), after)
    table = compare(before, after, 0.05).table()
    assert columns(table, "A", "B", "B : A", "from", "to", "verdict") == [
        ("1 s", "3 s !", "3", "", "", "WRONG categories")
    ]
    assert table.notes[1:] == [
        "Threshold: 5%.",
        "! the categories are WRONG.",
        "A: Only one timed run: tiled 8 x 4.",
        "B: Only one timed run: tiled 8 x 4.",
        "1 run has no partner, and is left out.",
    ]


# ---- the command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and one that takes 8 % longer, for certain."""
    slower = written(of(*[1.08] * 5), tmp_path, "b").path
    return written(of(*ONE_SECOND), tmp_path, "a").path, slower


def test_a_regression_exits_with_1_and_shows_the_table(files: tuple[Path, Path]) -> None:
    outcome = command(*files, "--format", "json")
    assert outcome.code == 1
    assert outcome.err == f"error: {files[1]}: 1 of 1 runs failed: {BEYOND}.\n"
    assert [row["verdict"] for row in outcome.json()[0]["rows"]] == [BEYOND]


@pytest.mark.parametrize("words", [["--threshold", "8"], ["--threshold", "10.5"]])
def test_a_slowdown_within_the_threshold_exits_with_0(
    files: tuple[Path, Path], words: list[str]
) -> None:
    outcome = command(*files, *words, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    (table,) = outcome.json()
    assert [row["verdict"] for row in table["rows"]] == [WITHIN]
    assert f"Threshold: {words[1]}%." in table["notes"]


@pytest.mark.parametrize("threshold", ["-1", "nan", "much"])
def test_a_threshold_that_is_none_is_wrong_usage(files: tuple[Path, Path], threshold: str) -> None:
    outcome = command(*files, "--threshold", threshold)
    assert outcome.code == 2
    assert "Invalid value for '--threshold'" in outcome.err


def test_a_speed_up_exits_with_0(files: tuple[Path, Path]) -> None:
    outcome = command(*reversed(files), "--threshold", "0", "--format", "csv")
    assert (outcome.code, outcome.err) == (0, "")
    *_, low, high, verdict = outcome.out.splitlines()[2].split(",")
    assert (float(low), float(high), verdict) == (1 / 1.08, 1 / 1.08, "faster")


def test_the_error_counts_what_failed_and_names_each_reason_once(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    runs = [of(*[2.0] * 5), of(*[3.0] * 5), of(*[0.5] * 5, **WRONG), of(*ONE_SECOND)]
    for neurons, run_after in enumerate(runs, start=1):
        written(of(*ONE_SECOND, neurons=neurons), before, str(neurons))
        written(changed(run_after, neurons=neurons), after, str(neurons))
    outcome = command(before, after)
    file = after / MACHINE / "1.json"
    assert outcome.code == 1
    assert outcome.err == f"error: {file}: 3 of 4 runs failed: {BEYOND}; WRONG categories.\n"


def test_unlike_runs_exit_with_1(tmp_path: Path) -> None:
    one = written(of(*ONE_SECOND), tmp_path, "a").path
    other = written(of(*ONE_SECOND, layers=5), tmp_path, "b").path
    outcome = command(one, other)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: {other}: is a run of another problem than {one}. Compare runs that are alike.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument 'A'."),
        ([__file__], "Missing argument 'B'."),
        ([__file__, "nothing-here"], "Path 'nothing-here' does not exist."),
        ([__file__, __file__, "--threshold", "-1"], "-1.0 is not in the range x>=0."),
        ([__file__, __file__, "--threshold", "x"], "'x' is not a valid float"),
        ([__file__, __file__, "--format", "x"], "'x' is not one of 'table', 'plain', 'markdown'"),
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], message: str) -> None:
    outcome = command(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_what_is_no_result_is_an_error() -> None:
    outcome = command(__file__, __file__)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"error: {__file__}, line 1: is not a result of spdnn (")
