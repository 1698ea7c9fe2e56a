"""Scaling: what was measured on several devices, and what a trace says of more of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.command import run
from helpers.records import STREAM, UNVERIFIED, WRONG, changed, made, on_devices, traced, written
from helpers.tables import columns, texts
from hypothesis import given
from hypothesis import strategies as st

from spdnn_cli.errors import ResultError
from spdnn_cli.partition import PARTITIONS, Partition, share
from spdnn_cli.report import scaling
from spdnn_cli.report.projection import Model, RankTime, fit, work_of_ranks
from spdnn_cli.report.series import PAPER_DEVICES, all_series, shares_cores
from spdnn_cli.report.tables import Table
from spdnn_cli.results.store import Result

LIFETIMES = [4, 1, 2, 1, 3, 1]
"""Six images: 12 image-layers. The second, fourth and last die in the first layer, and so on."""
SURVIVORS = [0]
EDGES = 6 * 10**12

# A rank takes 2 s, 0.5 s for each layer it runs, and 0.25 s for each image-layer. So the parts of
# the six images take:
#
#     devices  partition   images of each rank    layers   image-layers  seconds
#     1                    all                    4        12            7
#     2        contiguous  0 1 2, 3 4 5           4 3      7 5           5.75 4.75
#     2        snake       0 3 4, 1 2 5           4 2      8 4           6 4
#     4        contiguous  0, 1 2, 3, 4 5         4 2 1 3  4 3 1 4       5 3.75 2.75 4.5
#     4        snake       0, 1, 2 5, 3 4         4 1 2 3  4 1 3 4       5 2.75 3.75 4.5
#     8        both        one each, two none     4 1 2 1 3 1  the same  5 2.75 3.5 2.75 4.25 2.75
MODEL = Model(2.0, 0.5, 0.25, (), True)
SNAKE, CONTIGUOUS = (6.0, 4.0), (5.75, 4.75)


def ran(
    ranks: Sequence[float],
    partition: str = "snake",
    seconds: float | None = None,
    **changes: Any,
) -> Result:
    """A run of the six images in which the ranks took so long, and all of them `seconds`."""
    return on_devices(ranks, seconds, partition, **({"images": 6, "edges": EDGES} | changes))


def with_trace(result: Result, root: Path, lifetimes: list[int] | None = None) -> Result:
    return traced(result, root, lifetimes or LIFETIMES, SURVIVORS)


def three_runs(root: Path, **changes: Any) -> list[Result]:
    """On one device, traced, and on two in both ways; the snake one has 0.25 s of its own."""
    alone = with_trace(ran([7.0], **changes), root)
    both = ran(CONTIGUOUS, "contiguous", **changes), ran(SNAKE, "snake", 6.25, **changes)
    return [alone, *both]


def strong(
    results: Sequence[Result], devices: Sequence[int] = PAPER_DEVICES
) -> tuple[Table, Table]:
    """Rates by devices, and all that was measured."""
    rates, details, *_ = scaling.scaling(results, devices)
    return rates, details


def projected(results: Sequence[Result], devices: Sequence[int] = PAPER_DEVICES) -> Table:
    """In detail, what is projected of strong scaling."""
    tables = scaling.scaling(results, devices)
    return next(t for t in tables if t.is_long and t.title.startswith("Strong"))


def notes_of(results: Sequence[Result]) -> list[str]:
    rates, details = strong(results)
    assert set(rates.notes) - set(details.notes) <= {"~: projected, not measured."}
    return [note for note in rates.notes if note[0] != "~"]


# ---- what the ranks have to do


@pytest.mark.parametrize(
    ("devices", "partition", "ranks", "layers", "image_layers"),
    [
        (1, "contiguous", [0] * 6, [4], [12]),
        (1, "snake", [0] * 6, [4], [12]),
        (2, "contiguous", [0, 0, 0, 1, 1, 1], [4, 3], [7, 5]),
        (2, "snake", [0, 1, 1, 0, 0, 1], [4, 2], [8, 4]),
        (4, "contiguous", [0, 1, 1, 2, 3, 3], [4, 2, 1, 3], [4, 3, 1, 4]),
        (4, "snake", [0, 1, 2, 3, 3, 2], [4, 1, 2, 3], [4, 1, 3, 4]),
        (8, "snake", [0, 1, 2, 3, 4, 5], [4, 1, 2, 1, 3, 1, 0, 0], [4, 1, 2, 1, 3, 1, 0, 0]),
        (8, "contiguous", [1, 2, 3, 5, 6, 7], [0, 4, 1, 2, 0, 1, 3, 1], [0, 4, 1, 2, 0, 1, 3, 1]),
    ],
)
def test_work_of_ranks_by_hand(
    devices: int, partition: Partition, ranks: list[int], layers: list[int], image_layers: list[int]
) -> None:
    """Snake: images are dealt back and forth."""
    for rank in range(devices):
        own = share(rank, devices, 6, partition).tolist()
        assert own == [image for image in range(6) if ranks[image] == rank]
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


def points_of(model: Model, work: Sequence[tuple[int, int]]) -> list[RankTime]:
    return [RankTime(1, *some, float(model.seconds(*some))) for some in work]


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
    found = fit([RankTime(1, *rank) for rank in ranks])
    if found is not None:
        assert min(found.fixed, found.per_layer, found.per_image_layer) >= 0
        assert len(ranks) >= 4 - (not found.knows_fixed)


def test_relative_errors_count() -> None:
    """Two ranks with the same work took 1 s and 2 s: the least squares of x/1 - 1 and x/2 - 1 are
    at x = 1.2. Another one, with a hundred times as much to do, fits in any case.
    """
    found = fit([RankTime(1, 1, 10, 1.0), RankTime(1, 1, 10, 2.0), RankTime(1, 1, 1000, 120.0)])
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
    results = three_runs(tmp_path)
    _, details = strong(results, (1, 4, 768))
    assert details.title == "Strong scaling in detail: measured, on 8x-nvidia-h200"
    assert set(columns(details, "neurons", "layers", "images", "data", "engine")) == {
        ("8", "4", "6", "official", "tiled")
    }
    names = ("partition", "devices", "launcher", "what", "seconds", "TeraEdges/s", "speed-up")
    more = ("efficiency %", "imbalance", "projection", "error %")
    one = ("1", "alone", "measured", "7 s", "0.8571", "1", "100", "1", "7 s", "+0.0")
    assert columns(details, *names, *more) == [
        ("contiguous", *one),
        # 6 / 5.75, 7 / 5.75, half of that, and 5.75 over 5.25
        *[("contiguous", "2", "processes", "measured", "5.75 s", "1.043", "1.217", "60.9", "1.095",
           "5.75 s", "+0.0")],
        ("snake", *one),
        # 6 / 6.25, 7 / 6.25, half of that, 6 over 5; the projection is 4 % less than 6.25
        *[("snake", "2", "processes", "measured", "6.25 s", "0.96", "1.12", "56", "1.2",
           "6 s", "-4.0")],
    ]  # fmt: skip
    rows = columns(projected(results, (1, 4, 768)), *names, *more)
    assert rows[0] == (
        *("contiguous", "4", "", "projected", "~5 s", "~1.2", "1.4", "35", "1.25", "5 s", ""),
    )
    # Six ranks take 21 s together, the others nothing: 5 over 21 / 768.
    assert rows[-1][1:9] == (*("768", "", "projected", "~5 s", "~1.2", "1.4", "0.182", "182.9"),)
    assert len(rows) == 4


def test_rates_are_the_papers_table_and_mark_what_is_projected(tmp_path: Path) -> None:
    alone, contiguous, snake = three_runs(tmp_path)
    rates, _ = strong([alone, changed(contiguous, **UNVERIFIED), snake])
    assert rates.title == "Strong scaling: TeraEdges/s (effective) by devices, on 8x-nvidia-h200"
    counts = ["1", "2", *map(str, PAPER_DEVICES[1:])]
    fixed = ["neurons", "layers", "images", "data", "engine", "partition"]
    assert rates.columns == [*fixed, *counts]
    same = ["8", "4", "6", "official", "tiled"]
    # On three devices the first rank has images 0 and 1, or 0 and 5: 4 layers, 5 image-layers.
    three = "~1.143"
    assert texts(rates) == [
        [*same, "contiguous", "0.8571", "1.043 *", three, *["~1.2"] * 8],
        [*same, "snake", "0.8571", "0.96", three, *["~1.2"] * 8],
    ]
    assert rates.notes[0] == "~: projected, not measured."
    assert "* not verified." in rates.notes


def test_any_list_of_devices_is_projected_to(tmp_path: Path) -> None:
    rates, _ = strong(three_runs(tmp_path), (2, 5, 7))
    assert rates.columns[-4:] == ["1", "2", "5", "7"]


def test_notes_say_how_the_projection_was_made_and_how_far_it_is_off(tmp_path: Path) -> None:
    alone, contiguous, _ = three_runs(tmp_path / "a")
    results = [alone, contiguous, ran((6.6, 4.0), "snake", 6.25)]
    (words,) = [note for note in notes_of(results) if note.startswith("tiled, 8 x 4, 6 images: ")]
    assert "fitted to 5 ranks of runs on 1, 2 devices, with 4 to 12 image-layers (fewer" in words
    off = float(words.rpartition("off by up to ")[2].removesuffix(" %."))
    assert 1 < off < 10  # 10 % of one of five ranks is shared out

    exact = notes_of(three_runs(tmp_path / "b"))
    assert exact[0] == scaling.MODEL_NOTE
    assert exact[1] == (
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
    (series,) = [one for one in all_series(results) if one.partition == "snake" and not one.grows]
    assert series.problem.images == 6
    assert series.held_out_errors == {2: pytest.approx(6 / 6.25 - 1)}
    assert ("tiled, 8 x 4, 6 images, snake: held-out error: 2 devices -4.0 %.") in notes_of(results)
    assert set(columns(strong(results)[0], "images")) == {("6",)}


def test_a_lone_row_of_two_workers_claims_no_speed_up() -> None:
    _, details = strong([ran([3.0] * 4), ran([4.0, 4.0])])
    assert columns(details, "devices", "seconds", "speed-up", "efficiency %") == [
        ("2", "4 s", "", ""),
        ("4", "3 s", "", ""),
    ]


def test_of_two_launchers_both_are_listed_and_the_faster_counts() -> None:
    slow = ran([6.0, 6.0], launch__launcher="mpi")
    rates, details = strong([ran([4.0, 4.0]), slow])
    assert columns(details, "launcher", "seconds") == [("mpi", "6 s"), ("processes", "4 s")]
    assert columns(rates, "2") == [("1.5",)]


def test_the_newest_run_counts_whatever_the_order() -> None:
    old = ran([6.0, 6.0], created="2026-11-22T10:00:00.000+00:00")
    for results in ([old, ran([4.0, 4.0])], [ran([4.0, 4.0]), old]):
        assert columns(strong(results)[1], "seconds") == [("4 s",)]


def test_machines_engines_and_problems_are_series_of_their_own() -> None:
    results = [ran([4.0, 4.0]), ran([5.0, 5.0], neurons=16), ran([6.0, 6.0], device_memory=10**9)]
    tables = scaling.scaling([*results, ran([7.0, 7.0], machine__cores=8)])
    name = "Strong scaling in detail: measured, on 8x-nvidia-h200"
    assert [table.title for table in tables[1::2]] == [
        f"{name} (8x NVIDIA H200, Intel Xeon, 16 cores)",
        f"{name} (8x NVIDIA H200, Intel Xeon, 8 cores)",
    ]
    assert columns(tables[1], "neurons", "engine", "seconds") == [
        ("8", "tiled", "4 s"),
        ("8", "tiled in 1 GB", "6 s"),
        ("16", "tiled", "5 s"),
    ]
    assert columns(tables[3], "seconds") == [("7 s",)]


def test_one_device_without_a_trace_is_no_scaling_and_wrong_runs_are_left_out() -> None:
    wrong = ran([4.0, 4.0], **WRONG)
    shape = ran([4.0, 4.0], engine_options={"tile": "minibatch=12"})
    assert scaling.scaling([ran([7.0]), wrong, shape]) == []


# ---- weak scaling


def test_images_that_grow_with_the_devices_are_weak_scaling() -> None:
    results = [ran([7.0]), ran([8.0, 7.5], "contiguous", images=12, edges=2 * EDGES)]
    tables = scaling.scaling(results)
    (rates, details) = [table for table in tables if table.title.startswith("Weak")]
    assert rates.title == (
        "Weak scaling (as many images for each device): TeraEdges/s (effective) by devices, on "
        "8x-nvidia-h200"
    )
    # 12 tera-edges in 8 s
    assert columns(rates, "images", "1", "2") == [("6", "0.8571", "1.5")]
    assert columns(details, "devices", "speed-up", "efficiency %") == [
        ("1", "1", "100"),
        ("2", "1.75", "87.5"),
    ]


def test_with_a_trace_weak_scaling_is_projected(tmp_path: Path) -> None:
    """Every device does what one does: 7 s."""
    tables = scaling.scaling(three_runs(tmp_path), (768,))
    rates = next(t for t in tables if t.title.startswith("Weak scaling (as many"))
    assert columns(rates, "partition", "1", "768") == [("contiguous", "0.8571", "~658.3")]


def test_streamed_runs_are_in_tables_of_their_own() -> None:
    results = [ran([4.0, 4.0]), ran([5.0, 5.0], stream=STREAM)]
    assert [table.title.removeprefix("Strong scaling") for table in scaling.scaling(results)] == [
        ": TeraEdges/s (effective) by devices, on 8x-nvidia-h200",
        " in detail: measured, on 8x-nvidia-h200",
        ": TeraEdges/s (effective) by devices, on 8x-nvidia-h200, images streamed",
        " in detail: measured, on 8x-nvidia-h200, images streamed",
    ]


# ---- traces


def test_without_a_trace_nothing_is_projected_and_the_note_says_what_to_run() -> None:
    results = [ran([7.0]), ran(SNAKE)]
    rates, details = strong(results)
    assert columns(details, "what", "projection", "error %") == [("measured", "", "")] * 2
    assert rates.columns[-2:] == ["1", "2"]
    assert notes_of(results)[0] == (
        "tiled, 8 x 4, 6 images: no projection, because no run was traced. "
        "Run: spdnn infer --neurons 8 --layers 4 --engine tiled --trace."
    )


def test_too_few_ranks_are_named_with_the_command_for_more(tmp_path: Path) -> None:
    results = [with_trace(ran(SNAKE), tmp_path)]
    assert notes_of(results)[0] == (
        "tiled, 8 x 4, 6 images: no projection, because 2 ranks were measured, which do not "
        "determine the model. Run: spdnn infer --neurons 8 --layers 4 --engine tiled --images 3, "
        "and on more devices."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset__features_sha256": "0" * 64},
        {"dataset__network_sha256": "0" * 64, "dataset__official_network": False},
        {"images": 5},
        {"layers": 3},
    ],
    ids=["other images", "another network", "fewer images", "fewer layers"],
)
def test_a_trace_of_something_else_is_not_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    lifetimes = [min(life, changes.get("layers", 4)) for life in LIFETIMES]
    other = with_trace(ran([7.0], **changes), tmp_path, lifetimes[: changes.get("images", 6)])
    results = [ran([7.0]), ran(SNAKE), ran(CONTIGUOUS, "contiguous"), other]
    assert any("no run was traced" in note for note in notes_of(results))


def test_a_trace_of_another_machine_and_engine_is_taken_for_the_same_images(tmp_path: Path) -> None:
    elsewhere = made("baseline", 99.0, images=6, folder="a-laptop")
    results = [ran([7.0]), *three_runs(tmp_path)[1:], with_trace(elsewhere, tmp_path)]
    assert columns(projected(results, (4,)), "seconds") == [("~5 s",)] * 2


def test_a_trace_of_a_deeper_network_is_cut(tmp_path: Path) -> None:
    deeper = with_trace(ran([9.0], layers=9), tmp_path, [9, 1, 2, 1, 3, 1])
    results = [ran([7.0]), *three_runs(tmp_path / "other")[1:], deeper]
    assert columns(projected(results, (4,)), "layers", "seconds")[:2] == [("4", "~5 s")] * 2


def test_a_trace_of_a_retiring_run_says_how_long_survivors_live_on(tmp_path: Path) -> None:
    """Image 0 was retired after the third layer; a run that retires none keeps it to the end."""
    early = [3, *LIFETIMES[1:]]
    retiring = with_trace(made("folded", images=6, folder="elsewhere"), tmp_path, early)
    results = [ran([7.0]), *three_runs(tmp_path / "other")[1:], retiring]
    assert columns(projected(results, (4,)), "seconds") == [("~5 s",)] * 2


def test_a_trace_of_a_run_that_keeps_all_is_not_taken_for_one_that_retires(tmp_path: Path) -> None:
    retiring = [
        changed(result, shortcuts__finished_images_retired=True)
        for result in (ran([7.0]), ran(SNAKE), ran(CONTIGUOUS, "contiguous"))
    ]
    results = [*retiring, with_trace(ran([7.0], neurons=8, engine="baseline"), tmp_path)]
    assert any("no run was traced" in note for note in notes_of(results))


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (3, 0, 1, 2)])
def test_of_two_traces_the_longer_one_is_taken(tmp_path: Path, places: tuple[int, ...]) -> None:
    shorter = with_trace(ran([5.75], images=3), tmp_path / "shorter", LIFETIMES[:3])
    results = [*three_runs(tmp_path), shorter]
    table = projected([results[place] for place in places], (4,))
    assert columns(table, "seconds") == [("~5 s",)] * 2


def test_the_trace_of_one_pass_of_a_streamed_run_is_not_taken(tmp_path: Path) -> None:
    streamed = {"images": 12, "stream": STREAM, "device_memory": 10**9}
    results = [*three_runs(tmp_path), with_trace(ran([14.0], **streamed), tmp_path / "streamed")]
    assert columns(projected(results, (4,)), "seconds") == [("~5 s",)] * 2


@pytest.mark.parametrize("change", [{"stream": STREAM}, {"launch__rebalance_layer": 2}])
def test_what_the_model_is_not_for_is_measured_only(tmp_path: Path, change: dict[str, Any]) -> None:
    results = three_runs(tmp_path, **change)
    _, details = strong(results)
    assert set(columns(details, "what", "projection")) == {("measured", "")}
    assert notes_of(results)[0].endswith(
        "8 x 4, 6 images: measured only: the model is not for runs that are streamed or rebalanced."
    )


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
    result = ran([1.0] * 4, device=device, machine__cores=cores)
    workers = [
        msgspec.structs.replace(worker, host=host)
        for worker, host in zip(result.record.workers, hosts, strict=True)
    ]
    assert shares_cores(msgspec.structs.replace(result.record, workers=tuple(workers))) == shared


def test_runs_whose_workers_share_cores_are_shown_and_used_for_nothing(tmp_path: Path) -> None:
    on_cpu = {"device": "cpu", "machine__cores": 4}
    results = three_runs(tmp_path, **on_cpu)
    slow = ran([50.0] * 4, "snake", **on_cpu)
    (rates, details), (crowded, crowded_details) = strong(results), strong([*results, slow])
    shared = [row for row in crowded_details.rows if "measured, cores shared" in map(str, row)]
    (row,) = [list(map(str, row)) for row in shared]
    assert row[6:10] == ["4", "processes", "measured, cores shared", "50 s"]
    assert [row for row in crowded_details.rows if row not in shared] == details.rows
    assert crowded.rows == rates.rows
    assert notes_of([*results, slow])[1] == notes_of(results)[1]  # the model


# ---- the command, and damaged traces


def saved(root: Path) -> tuple[Path, Path]:
    """The three runs as files below `root`; the traced one, and its lifetimes."""
    alone, *others = three_runs(root)
    for result in others:
        written(result, root)
    return alone.path, root / "lists" / f"{alone.record.lifetimes_sha256}.npy"


def reported(root: Path, *words: str) -> Any:
    return run("--results-dir", root, "report", "scaling", *words)


def test_the_command_shows_what_is_measured_and_what_is_projected(tmp_path: Path) -> None:
    saved(tmp_path)
    outcome = reported(tmp_path, "--format", "json", "--devices", "768, 4")
    assert (outcome.code, outcome.err) == (0, "")
    rates, measured, more, *_ = outcome.json()
    assert (rates["table"], measured["table"], more["table"]) == ("scaling",) * 3
    snake = [
        (row["devices"], row["what"], row["seconds"])
        for row in [*measured["rows"], *more["rows"]]
        if row["partition"] == "snake"
    ]
    assert snake == [
        (1, "measured", 7),
        (2, "measured", 6.25),
        (4, "projected", pytest.approx(5)),
        (768, "projected", pytest.approx(5)),
    ]
    assert [row["768"] for row in rates["rows"]] == [pytest.approx(1.2)] * 2
    assert [marks["768"] for marks in rates["marks"]] == ["~", "~"]


@pytest.mark.parametrize("words", ["", "0", "2,", "-1", "2;3", "1000001"])
def test_devices_that_are_none_are_wrong_usage(tmp_path: Path, words: str) -> None:
    outcome = reported(tmp_path, "--devices", words)
    assert outcome.code == 2
    assert "is not a number of devices, 1 to 1000000" in outcome.err


def test_a_missing_trace_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    _, lifetimes = saved(tmp_path)
    lifetimes.unlink()
    outcome = reported(tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"error: {lifetimes}: cannot be read (No such file or directory).\n"


@pytest.mark.parametrize(
    ("lifetimes", "message"),
    [
        (
            [4, 0, 5, 1, 3, 1],
            "the trace is not of this run: 2 images live for less than 1 or more than 4 layers. "
            "Run spdnn infer --trace again.",
        ),
        (
            [3, 1, 2, 1, 3, 1],
            "the trace is not of this run: 1 images that are alive at the end leave before it. "
            "Run spdnn infer --trace again.",
        ),
    ],
    ids=["out of bounds", "retired"],
)
def test_a_trace_of_another_run_is_an_error(
    tmp_path: Path, lifetimes: list[int], message: str
) -> None:
    file = with_trace(ran([7.0]), tmp_path, lifetimes).path
    written(ran(SNAKE), tmp_path)
    outcome = reported(tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"error: {file}: {message}\n"


def test_a_trace_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    _, npy = saved(tmp_path)
    npy.write_bytes(npy.read_bytes()[:-1])
    outcome = reported(tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"error: {npy}: is damaged: its checksum is not its name.")


def test_survivors_of_a_retiring_run_may_leave_early(tmp_path: Path) -> None:
    retiring = {"shortcuts__finished_images_retired": True}
    early = [3, 1, 2, 1, 3, 1]
    results = [with_trace(ran([7.0], **retiring), tmp_path, early), ran(SNAKE, **retiring)]
    scaling.scaling(results)
    for list_file in (tmp_path / "lists").glob("*.npy"):
        list_file.unlink()
    with pytest.raises(ResultError):  # it was read
        scaling.scaling(results)


def test_no_result_on_several_devices_is_an_error_with_a_hint(tmp_path: Path) -> None:
    written(made(), tmp_path)
    outcome = reported(tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: no result below {tmp_path} is for the scaling table. "
        "Run spdnn infer with --gpus, or with --device cpu --workers.\n"
    )
