"""scaling.py: what was measured on several devices, and what a trace says of more of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import made, on_devices, timed, traced, written
from test_cli import run

from spdnn_cli.errors import ResultError
from spdnn_cli.report import scaling
from spdnn_cli.report.scaling import PARTITIONS, Model, Point, all_series, fit, share, work_of_ranks
from spdnn_cli.report.tables import Table
from spdnn_cli.results.store import Result

LIFETIMES = [4, 1, 2, 1, 3, 1]
"""Six images: 12 image-layers. The second, fourth and last die in the first layer, and so on."""
SURVIVORS = [0]
EDGES = 6 * 10**12
COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768]

# A rank takes 2 s, 0.5 s for each layer it runs, and 0.25 s for each image-layer. So the parts of
# the six images take:
#
#     devices  partition   images of each rank    layers   image-layers  seconds
#     1                    all                    4        12            7
#     2        contiguous  0 1 2, 3 4 5           4 3      7 5           5.75 4.75
#     2        cyclic      0 3 4, 1 2 5           4 2      8 4           6 4
#     4        contiguous  0, 1 2, 3, 4 5         4 2 1 3  4 3 1 4       5 3.75 2.75 4.5
#     4        cyclic      0, 1, 2 5, 3 4         4 1 2 3  4 1 3 4       5 2.75 3.75 4.5
#     8        both        one each, two none     4 1 2 1 3 1  the same  5 2.75 3.5 2.75 4.25 2.75
MODEL = Model(2.0, 0.5, 0.25, (), True)
CYCLIC, CONTIGUOUS = (6.0, 4.0), (5.75, 4.75)


def ran(
    ranks: Sequence[float], partition: str = "cyclic", seconds: float | None = None, **changes: Any
) -> Result:
    """A run of the six images in which the ranks took so long, and all of them `seconds`."""
    seconds = max(ranks) if seconds is None else seconds
    result = on_devices(len(ranks), seconds, partition, **({"images": 6, "edges": EDGES} | changes))
    workers = [
        {"host": "vm", "threads": 2, "timings_s": {"infer": {"median": rank}}} for rank in ranks
    ]
    result.record["workers"] = workers
    result.record["imbalance"] = max(ranks) / (sum(ranks) / len(ranks))
    return result


def with_trace(result: Result, root: Path, lifetimes: list[int] | None = None) -> Result:
    return traced(result, root, lifetimes or LIFETIMES, SURVIVORS)


def three_runs(root: Path) -> list[Result]:
    """On one device, traced, and on two in both ways; the cyclic one has 0.25 s of its own."""
    alone = with_trace(ran([7.0]), root)
    return [alone, ran(CONTIGUOUS, "contiguous"), ran(CYCLIC, "cyclic", seconds=6.25)]


def rows(table: Table, *names: str) -> list[tuple[str, ...]]:
    """Some columns of each row."""
    at = [table.columns.index(name) for name in names]
    return [tuple(row[k] for k in at) for row in table.rows]


def notes_of(results: Sequence[Result]) -> list[str]:
    details, rates = scaling.scaling(results)
    assert set(rates.notes) - set(details.notes) == {"~: projected, not measured."}
    return details.notes


# ---- what the ranks have to do


@pytest.mark.parametrize(
    ("devices", "partition", "ranks", "layers", "image_layers"),
    [
        (1, "contiguous", [0] * 6, [4], [12]),
        (1, "cyclic", [0] * 6, [4], [12]),
        (2, "contiguous", [0, 0, 0, 1, 1, 1], [4, 3], [7, 5]),
        (2, "cyclic", [0, 1, 1, 0, 0, 1], [4, 2], [8, 4]),
        (4, "contiguous", [0, 1, 1, 2, 3, 3], [4, 2, 1, 3], [4, 3, 1, 4]),
        (4, "cyclic", [0, 1, 2, 3, 3, 2], [4, 1, 2, 3], [4, 1, 3, 4]),
        (8, "cyclic", [0, 1, 2, 3, 4, 5], [4, 1, 2, 1, 3, 1, 0, 0], [4, 1, 2, 1, 3, 1, 0, 0]),
        (8, "contiguous", [1, 2, 3, 5, 6, 7], [0, 4, 1, 2, 0, 1, 3, 1], [0, 4, 1, 2, 0, 1, 3, 1]),
    ],
)
def test_work_of_ranks_by_hand(
    devices: int, partition: str, ranks: list[int], layers: list[int], image_layers: list[int]
) -> None:
    """Cyclic: images are dealt to and fro."""
    assert share(6, devices, partition).tolist() == ranks
    work = work_of_ranks(np.array(LIFETIMES, np.uint16), devices, partition)
    assert [part.tolist() for part in work] == [layers, image_layers]


lifetimes_of_images = st.lists(st.integers(1, 1920), min_size=1, max_size=60).map(
    lambda lifetimes: np.array(lifetimes, np.uint16)
)
models = st.tuples(*[st.floats(0, 1)] * 3).map(lambda numbers: Model(*numbers, (), True))


@given(lifetimes_of_images, st.integers(1, 70), st.sampled_from(PARTITIONS))
def test_every_image_layer_is_done_once_and_the_longest_life_is_some_ranks(
    lifetimes: Any, devices: int, partition: str
) -> None:
    layers, image_layers = work_of_ranks(lifetimes, devices, partition)
    assert len(layers) == len(image_layers) == devices
    assert image_layers.sum() == lifetimes.sum()
    assert layers.max() == lifetimes.max()
    assert (layers <= image_layers).all()


@given(models, lifetimes_of_images, st.integers(1, 35), st.sampled_from(PARTITIONS))
def test_twice_the_devices_never_take_longer_nor_less_than_half(
    model: Model, lifetimes: Any, devices: int, partition: str
) -> None:
    """With both partitions, two of twice as many ranks share what one had."""
    slowest, of_twice = (
        model.seconds(*work_of_ranks(lifetimes, count, partition)).max()
        for count in (devices, 2 * devices)
    )
    assert of_twice <= slowest
    assert of_twice >= slowest / 2 * (1 - 1e-12)


@given(models, lifetimes_of_images, st.integers(1, 70), st.sampled_from(PARTITIONS))
def test_no_projection_is_beyond_the_ideal_or_below_the_longest_life(
    model: Model, lifetimes: Any, devices: int, partition: str
) -> None:
    alone, several = (
        model.seconds(*work_of_ranks(lifetimes, count, partition)).max() for count in (1, devices)
    )
    assert several >= alone / devices * (1 - 1e-12)
    assert several >= model.seconds(lifetimes.max(), lifetimes.max()) * (1 - 1e-12)


def test_a_rank_without_images_takes_no_time() -> None:
    assert MODEL.seconds([4, 0], [12, 0]).tolist() == [7, 0]


# ---- the fit


def points_of(model: Model, work: Sequence[tuple[int, int]]) -> list[Point]:
    return [Point(1, *some, float(model.seconds(*some))) for some in work]


@given(st.tuples(*[st.floats(0.01, 100)] * 3))
def test_fit_finds_the_model_that_made_the_points(numbers: tuple[float, float, float]) -> None:
    points = points_of(Model(*numbers, (), True), [(4, 12), (4, 8), (2, 4), (3, 5)])
    found = fit(points)
    assert found is not None
    assert (found.fixed, found.per_layer, found.per_image_layer) == pytest.approx(numbers)
    assert found.knows_fixed
    assert found.largest_error == pytest.approx(0, abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 99), st.floats(0.1, 10)), max_size=9))
def test_no_number_of_a_fit_is_below_zero(ranks: list[tuple[int, int, float]]) -> None:
    found = fit([Point(1, *rank) for rank in ranks])
    if found is not None:
        assert min(found.fixed, found.per_layer, found.per_image_layer) >= 0
        assert len(ranks) >= 4 - (not found.knows_fixed)


def test_relative_errors_count() -> None:
    """Two ranks with the same work took 1 s and 2 s: the least squares of x/1 - 1 and x/2 - 1 are
    at x = 1.2. Another one, with a hundred times as much to do, fits in any case.
    """
    found = fit([Point(1, 1, 10, 1.0), Point(1, 1, 10, 2.0), Point(1, 1, 1000, 120.0)])
    assert found is not None
    assert float(found.seconds(1, 10)) == pytest.approx(1.2)
    assert found.largest_error == pytest.approx(0.4)


def test_where_all_ranks_run_the_same_layers_the_fixed_part_is_in_them() -> None:
    found = fit(points_of(MODEL, [(4, 12), (4, 7), (4, 4)]))
    assert found is not None
    assert (found.fixed, found.knows_fixed) == (0, False)
    assert (found.per_layer, found.per_image_layer) == pytest.approx((1.0, 0.25))


@pytest.mark.parametrize(
    "work", [[], [(4, 12)], [(4, 12), (4, 8)], [(4, 12)] * 9, [(4, 8), (2, 4), (3, 6), (1, 2)]]
)
def test_too_few_or_too_similar_ranks_determine_nothing(work: list[tuple[int, int]]) -> None:
    assert fit(points_of(Model(0, 0.5, 0.25, (), True), work)) is None


# ---- the tables


def test_every_row_by_hand(tmp_path: Path) -> None:
    details, _ = scaling.scaling(three_runs(tmp_path))
    assert details.title == "Strong scaling on 8x-nvidia-h200"
    known = {(*row[:4],) for row in details.rows}
    assert known == {("8", "4", "6", "official")}
    assert set(rows(details, "engine")) == {("tiled",)}
    columns = ("partition", "devices", "launcher", "what", "seconds", "TeraEdges/s", "speed-up")
    more = ("efficiency %", "imbalance", "projection s", "error %")
    shown = rows(details, *columns, *more)
    one = ("1", "alone", "measured", "7", "0.8571", "1", "100", "1", "7", "+0.0")
    four = ("4", "", "projected", "5", "1.2", "1.4", "35", "1.25", "5", "")
    eight = ("8", "", "projected", "5", "1.2", "1.4", "17.5", "1.905", "5", "")
    assert shown[:4] == [
        ("contiguous", *one),
        # 6 / 5.75, 7 / 5.75, half of that, and 5.75 over 5.25
        *[("contiguous", "2", "processes", "measured", "5.75", "1.043", "1.217", "60.9", "1.095",
           "5.75", "+0.0")],
        ("contiguous", *four),
        ("contiguous", *eight),
    ]  # fmt: skip
    assert shown[11:15] == [
        ("cyclic", *one),
        # 6 / 6.25, 7 / 6.25, half of that, 6 over 5; the projection is 4 % less than 6.25
        *[("cyclic", "2", "processes", "measured", "6.25", "0.96", "1.12", "56", "1.2",
           "6", "-4.0")],
        ("cyclic", *four),
        ("cyclic", *eight),
    ]  # fmt: skip
    assert [row[1] for row in shown] == [str(count) for count in COUNTS] * 2
    # Six ranks take 21 s together, the others nothing: 5 over 21 / 768.
    assert shown[-1][4:9] == ("5", "1.2", "1.4", "0.182", "182.9")


def test_rates_are_the_papers_table_and_mark_what_is_projected(tmp_path: Path) -> None:
    results = three_runs(tmp_path)
    results[1].record["verified"] = False
    _, rates = scaling.scaling(results)
    assert rates.title == "TeraEdges/s (effective) by devices on 8x-nvidia-h200"
    fixed = ["neurons", "layers", "images", "data", "engine", "partition"]
    assert rates.columns == [*fixed, *map(str, COUNTS)]
    same = ["8", "4", "6", "official", "tiled"]
    assert rates.rows == [
        [*same, "contiguous", "0.8571", "1.043 *", *["~1.2"] * 9],
        [*same, "cyclic", "0.8571", "0.96", *["~1.2"] * 9],
    ]
    assert rates.notes[0] == "~: projected, not measured."
    assert "* not verified" in rates.notes


def test_notes_say_how_the_projection_was_made_and_how_far_it_is_off(tmp_path: Path) -> None:
    results = three_runs(tmp_path)
    results[2].record["workers"][0]["timings_s"]["infer"]["median"] = 6.6
    (words,) = [note for note in notes_of(results) if note.startswith("tiled, 8 x 4, 6 images: ")]
    assert "fitted to 5 ranks of runs on 1, 2 devices, with 4 to 12 image-layers (fewer" in words
    off = float(words.rpartition("off by up to ")[2].removesuffix(" %."))
    assert 1 < off < 10  # 10 % of one of five ranks is shared out

    exact = notes_of(three_runs(tmp_path))
    assert exact[1] == (
        "Projection: seconds of a rank = fixed + per layer x layers it runs + per image-layer x "
        "layers of all its images, which a traced run gives for any partition; the slowest rank "
        "counts. Fitted to the ranks that were measured, so its error there is that of the fit. "
        "What ranks of one host take from each other is in it only as far as it was measured. "
        "Networks between hosts, and a start that is not common, are not in it."
    )
    assert exact[2] == (
        "tiled, 8 x 4, 6 images: fixed 2 s, 500 ms a layer, 250 ms an image-layer; fitted to 5 "
        "ranks of runs on 1, 2 devices, with 4 to 12 image-layers (fewer is extrapolation), off "
        "by up to 0.0 %."
    )


def test_runs_with_fewer_images_give_points_and_a_projection_that_is_put_to_the_test(
    tmp_path: Path,
) -> None:
    """The first three images live for 7 layers together, the first for 4: 5.75 s and 5 s.

    One device alone then says 1 s a layer, the fixed part included, and 0.25 s an image-layer: two
    would take 4 + 2 s, which is 4 % less than the 6.25 s that were measured.
    """
    results = [with_trace(ran([7.0]), tmp_path), ran([6.25, 4.0])]
    results += [ran([5.75], images=3), ran([5.0], images=1)]
    (series,) = [one for one in all_series(results) if one.partition == "cyclic"]
    assert series.problem.images == 6
    assert series.foretold == {2: pytest.approx(6 / 6.25 - 1)}
    assert (
        "tiled, 8 x 4, 6 images, cyclic: projected from fewer devices alone: 2 devices -4.0 %."
    ) in notes_of(results)
    assert {row[2] for row in scaling.scaling(results)[0].rows} == {"6"}


def test_where_none_ran_alone_the_fewest_devices_are_taken_as_ideal() -> None:
    details, rates = scaling.scaling([ran([3.0] * 4), ran([4.0, 4.0])])
    assert rows(details, "devices", "speed-up", "efficiency %") == [
        ("2", "2", "100"),
        ("4", "2.667", "66.7"),
    ]
    assert rates.columns[-2:] == ["2", "4"]


def test_of_two_launchers_both_are_listed_and_the_faster_counts() -> None:
    slow, fast = ran([6.0, 6.0]), ran([4.0, 4.0])
    slow.record["launch"] = slow.record["launch"] | {"launcher": "mpi"}
    details, rates = scaling.scaling([fast, slow])
    assert rows(details, "launcher", "seconds") == [("mpi", "6"), ("processes", "4")]
    assert rates.rows[0][-1] == "1.5"


def test_the_newest_run_counts_whatever_the_order() -> None:
    old = ran([6.0, 6.0], created="2026-11-22T10:00:00.000+00:00")
    for results in ([old, ran([4.0, 4.0])], [ran([4.0, 4.0]), old]):
        assert rows(scaling.scaling(results)[0], "seconds") == [("4",)]


def test_machines_engines_and_problems_are_series_of_their_own() -> None:
    other = {"machine": made().record["machine"] | {"cores": 8}}
    results = [ran([4.0, 4.0]), ran([5.0, 5.0], neurons=16), ran([6.0, 6.0], device_memory=10**9)]
    elsewhere = ran([7.0, 7.0])
    elsewhere.record["machine"] = elsewhere.record["machine"] | other["machine"]
    tables = scaling.scaling([*results, elsewhere])
    name = "Strong scaling on 8x-nvidia-h200"
    assert [table.title for table in tables[::2]] == [
        f"{name} (1x NVIDIA H100 80GB HBM3, Intel Xeon, 8 cores)",
        f"{name} (8x NVIDIA H200, Intel Xeon, 16 cores)",
    ]
    assert rows(tables[0], "seconds") == [("7",)]
    assert rows(tables[2], "neurons", "engine", "seconds") == [
        ("8", "tiled", "4"),
        ("8", "tiled in 1 GB", "6"),
        ("16", "tiled", "5"),
    ]


def test_one_device_without_a_trace_is_no_scaling_and_wrong_runs_are_left_out() -> None:
    wrong = ran([4.0, 4.0], verified=False, difference="1 missing")
    shape = ran([4.0, 4.0], tile={"asked": "minibatch=12"})
    assert scaling.scaling([ran([7.0]), wrong, shape]) == []


# ---- traces


def test_without_a_trace_nothing_is_projected_and_the_note_says_what_to_run() -> None:
    results = [ran([7.0]), ran(CYCLIC)]
    details, rates = scaling.scaling(results)
    assert rows(details, "what", "projection s", "error %") == [("measured", "", "")] * 2
    assert rates.columns[-2:] == ["1", "2"]
    assert notes_of(results)[1] == (
        "tiled, 8 x 4, 6 images: no projection, because no run was traced. "
        "Run: spdnn infer --neurons 8 --layers 4 --engine tiled --trace."
    )


def test_too_few_ranks_are_named_with_the_command_for_more(tmp_path: Path) -> None:
    results = [with_trace(ran(CYCLIC), tmp_path)]
    assert notes_of(results)[1] == (
        "tiled, 8 x 4, 6 images: no projection, because 2 ranks were measured, which do not "
        "determine the model. Run: spdnn infer --neurons 8 --layers 4 --engine tiled --images 3, "
        "and on more devices."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": made().record["dataset"] | {"features_sha256": "0"}},
        {"dataset": made().record["dataset"] | {"network_sha256": "0"}},
        {"engine": "folded", "shortcuts": made("folded").record["shortcuts"]},
        {"images": 5},
    ],
    ids=["other images", "another network", "retiring", "fewer images"],
)
def test_a_trace_of_something_else_is_not_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    lifetimes = LIFETIMES[: changes.get("images", 6)]
    other = with_trace(ran([7.0], **changes), tmp_path, lifetimes)
    results = [ran([7.0]), ran(CYCLIC), ran(CONTIGUOUS, "contiguous"), other]
    assert any("no run was traced" in note for note in notes_of(results))


def test_a_trace_of_another_machine_and_engine_is_taken_for_the_same_images(tmp_path: Path) -> None:
    elsewhere = made("baseline", images=6, folder="a-laptop", **timed(99.0))
    results = [ran([7.0]), *three_runs(tmp_path)[1:], with_trace(elsewhere, tmp_path)]
    (details, _) = scaling.scaling(results)
    assert rows(details, "seconds", "what")[2] == ("5", "projected")


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (3, 0, 1, 2)])
def test_of_two_traces_the_longer_one_is_taken(tmp_path: Path, places: tuple[int, ...]) -> None:
    shorter = with_trace(ran([5.75], images=3), tmp_path / "shorter", LIFETIMES[:3])
    results = [*three_runs(tmp_path), shorter]
    (details, _) = scaling.scaling([results[place] for place in places])
    assert rows(details, "seconds", "what")[2] == ("5", "projected")


def test_the_trace_of_one_pass_of_a_streamed_run_is_not_taken(tmp_path: Path) -> None:
    streamed = {"images": 12, "stream": {"chunks": 2}, "device_memory": 10**9}
    results = [*three_runs(tmp_path), with_trace(ran([14.0], **streamed), tmp_path / "streamed")]
    (details, _) = scaling.scaling(results)
    assert rows(details, "seconds", "what")[2] == ("5", "projected")


@pytest.mark.parametrize("change", ["stream", "rebalance", "float16"])
def test_what_the_model_is_not_for_is_measured_only(tmp_path: Path, change: str) -> None:
    results = three_runs(tmp_path)
    for result in results:
        if change == "stream":
            result.record["stream"] = {"chunks": 2}
        elif change == "float16":
            result.record["features"] = "float16"
        else:
            result.record["launch"] = result.record["launch"] | {"rebalance_layer": 2}
    (details, _) = scaling.scaling(results)
    assert set(rows(details, "what", "projection s")) == {("measured", "")}
    assert (
        "8 x 4, 6 images: measured only: the model is not for runs that are streamed, rebalanced "
        "or rounded."
    ) in notes_of(results)[1]


@pytest.mark.parametrize(
    ("device", "cores", "hosts", "shared"),
    [
        ("cpu", 8, ["a"] * 4, False),
        ("cpu", 7, ["a"] * 4, True),
        ("cpu", 4, ["a", "a", "b", "b"], False),
        ("cpu", 4, ["a", "a", "a", "b"], True),
        ("cuda", 1, ["a"] * 4, False),
    ],
)
def test_workers_share_cores(device: str, cores: int, hosts: list[str], shared: bool) -> None:
    """Four workers of two threads each."""
    result = ran([1.0] * 4, device=device)
    result.record["machine"] = result.record["machine"] | {"cores": cores}
    for worker, host in zip(result.record["workers"], hosts, strict=True):
        worker["host"] = host
    assert scaling.shares_cores(result.record) == shared


def test_runs_whose_workers_share_cores_are_shown_and_used_for_nothing(tmp_path: Path) -> None:
    results = three_runs(tmp_path)
    slow = ran([50.0] * 4, "cyclic")
    for result in [*results, slow]:
        result.record["device"] = "cpu"
        result.record["machine"] = result.record["machine"] | {"cores": 4}
    alone, crowded = scaling.scaling(results), scaling.scaling([*results, slow])
    assert ("4", "measured, cores shared", "50", "") in rows(
        crowded[0], "devices", "what", "seconds", "projection s"
    )
    assert [row for row in crowded[0].rows if "measured, cores shared" not in row] == alone[0].rows
    assert crowded[1].rows == alone[1].rows
    assert crowded[0].notes[1] == alone[0].notes[1]  # the model


def saved(root: Path) -> tuple[Path, Path]:
    """The three runs as files below `root`; the traced one, and its lifetimes."""
    files = [written(result, root).path for result in three_runs(root)]
    return files[0], files[0].with_name("1-cyclic-lifetimes.npy")


def test_the_command_shows_what_is_measured_and_what_is_projected(tmp_path: Path) -> None:
    saved(tmp_path)
    outcome = run("--results-dir", tmp_path, "report", "scaling", "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    details, rates = outcome.json()
    assert (details["table"], rates["table"]) == ("scaling", "scaling")
    cyclic = [row for row in details["rows"] if row["partition"] == "cyclic"]
    assert [(row["devices"], row["what"], row["seconds"]) for row in cyclic] == [
        (1, "measured", 7),
        (2, "measured", 6.25),
        *((count, "projected", 5) for count in COUNTS[2:]),
    ]
    assert [row["768"] for row in rates["rows"]] == ["~1.2", "~1.2"]


def test_a_missing_trace_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    _, lifetimes = saved(tmp_path)
    lifetimes.unlink()
    outcome = run("--results-dir", tmp_path, "report", "scaling")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: {lifetimes}: the lifetimes cannot be read (No such file or directory).\n"
    )


@pytest.mark.parametrize(
    ("lifetimes", "message"),
    [
        ([4, 1, 2, 1, 3], "{npy}: holds uint16 (5,), the result has uint16 (6,)."),
        (
            [4, 0, 5, 1, 3, 1],
            "{json}: the trace is not of this run: 2 images live for less than 1 or more than 4 "
            "layers. Run spdnn infer --trace again.",
        ),
        (
            [3, 1, 2, 1, 3, 1],
            "{json}: the trace is not of this run: 1 images that are alive at the end leave before "
            "it. Run spdnn infer --trace again.",
        ),
    ],
    ids=["too short", "out of bounds", "retired"],
)
def test_a_damaged_trace_is_an_error(tmp_path: Path, lifetimes: list[int], message: str) -> None:
    file, npy = saved(tmp_path)
    np.save(npy, np.array(lifetimes, np.uint16))
    outcome = run("--results-dir", tmp_path, "report", "scaling")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"error: {message.format(json=file, npy=npy)}\n"


def test_a_trace_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    _, npy = saved(tmp_path)
    npy.write_bytes(npy.read_bytes()[:-1])
    outcome = run("--results-dir", tmp_path, "report", "scaling")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"error: {npy}: the lifetimes cannot be read (")


def test_survivors_of_a_retiring_run_may_leave_early(tmp_path: Path) -> None:
    retiring = {"shortcuts": made("folded").record["shortcuts"]}
    early = [3, 1, 2, 1, 3, 1]
    results = [with_trace(ran([7.0], **retiring), tmp_path, early), ran(CYCLIC, **retiring)]
    scaling.scaling(results)
    results[0].path.with_name("1-cyclic-lifetimes.npy").unlink()
    with pytest.raises(ResultError):  # it was read
        scaling.scaling(results)


def test_no_result_on_several_devices_is_an_error_with_a_hint(tmp_path: Path) -> None:
    written(made(), tmp_path)
    outcome = run("--results-dir", tmp_path, "report", "scaling")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: no result below {tmp_path} is for the scaling table. "
        "Run spdnn infer with --gpus, or with --device cpu --workers.\n"
    )
