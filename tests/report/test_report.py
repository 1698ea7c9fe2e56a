"""The tables of this program's engines, cell by cell, from results made by hand; the commands.

The paper's tables, scaling, other programs, and the comparison of two runs have tests of their own.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.command import Outcome, run
from helpers.places import ROOT
from helpers.records import (
    COUNT_ONLY,
    H100,
    MACHINE,
    STREAM,
    UNVERIFIED,
    WRONG,
    made,
    on_devices,
    written,
)
from helpers.tables import columns, only, texts

from spdnn_cli import problem
from spdnn_cli.report import cells
from spdnn_cli.report import engines as report
from spdnn_cli.report.all import TABLES
from spdnn_cli.report.tables import FORMATS, Table
from spdnn_cli.results.describe import configuration_of
from spdnn_cli.results.store import Result

PROBLEM = ["neurons", "layers", "images", "data"]
NO_RETIRE = {"shortcuts__finished_images_retired": False}


def on_cpu(seconds: float, engine: str, threads: int, workers: int = 1, **changes: Any) -> Result:
    """A run on the CPU, with the threads of each worker."""
    return made(engine, seconds, device="cpu", threads=threads, launch__workers=workers, **changes)


def reported(root: Path, *words: str) -> Outcome:
    return run("--results-dir", root, "report", *words)


# ---- throughput


def test_throughput_has_a_row_a_problem_and_a_column_an_engine_with_its_ratio() -> None:
    results = [
        made("folded", 0.75),
        made("cusparse", 4.0),
        made("tiled", 3.0),
        made("baseline", 12.0),
        made("tiled", 1.5, layers=120),
        made("tiled", 1.2, neurons=16, effective_teraedges_per_s=123456.0),
        made("baseline", 24.0, neurons=16),
    ]
    table = only(report.throughput(results))
    assert table.title == f"TeraEdges/s (effective) on {MACHINE}"
    assert table.kind == "throughput"
    engines = ["cusparse", "cusparse : baseline", "tiled", "tiled : baseline"]
    assert table.columns == [*PROBLEM, "baseline", *engines, "folded", "folded : baseline"]
    assert texts(table) == [
        ["8", "4", "10", "official", "1", "3", "3", "4", "4", "16", "16"],
        ["8", "120", "10", "official", "", "", "", "8", "", "", ""],
        ["16", "4", "10", "official", "0.5", "", "", "123500", "20", "", ""],
    ]


@pytest.mark.parametrize(
    ("results", "names"),
    [
        ([made()], ["tiled"]),
        ([made("baseline")], ["baseline"]),
        ([made(), made("folded")], ["tiled", "folded"]),
        (
            [on_cpu(8.0, "reference", 1), on_cpu(4.0, "cpu-layered", 2), on_cpu(1.0, "cpu", 2)],
            [
                *("reference (1 thread)", "cpu-layered (2 threads)"),
                *("cpu-layered (2 threads) : reference (1 thread)", "cpu (2 threads)"),
                "cpu (2 threads) : reference (1 thread)",
            ],
        ),
        (
            [on_cpu(4.0, "cpu-layered", 1), on_cpu(2.0, "cpu-layered", 2), on_cpu(1.0, "cpu", 2)],
            [
                *("cpu-layered (1 thread)", "cpu-layered (1 thread) : cpu-layered (2 threads)"),
                *("cpu-layered (2 threads)", "cpu (2 threads)"),
                "cpu (2 threads) : cpu-layered (2 threads)",
            ],
        ),
    ],
    ids=["one engine", "the baseline alone", "no baseline", "reference", "most threads"],
)
def test_what_others_are_compared_with(results: list[Result], names: list[str]) -> None:
    assert only(report.throughput(results)).columns == [*PROBLEM, *names]


def test_runs_on_several_devices_and_with_an_engines_own_options_are_for_other_tables() -> None:
    asked = made(engine_options={"tile": "minibatch=12"})
    assert report.throughput([on_devices(2, 1.0), asked]) == []


def test_streamed_and_memory_limited_runs_have_tables_of_their_own() -> None:
    results = [made(), made("folded", stream=STREAM), made(seconds=2.0, device_memory=10**9)]
    tables = report.throughput(results)
    assert [table.title.partition(" on ")[0] for table in tables] == [
        "TeraEdges/s (effective)",
        "TeraEdges/s (effective), images streamed",
        "TeraEdges/s (effective), limited memory",
    ]
    assert [table.columns[-1] for table in tables] == [
        *("tiled", "folded streamed", "tiled in 1 GB"),
    ]


def test_the_newest_run_of_a_configuration_counts_whatever_the_order() -> None:
    days = [(21, 4.0), (23, 2.0), (22, 3.0)]
    results = [made(seconds=s, created=f"2026-11-{day}T10:00:00.000+00:00") for day, s in days]
    for order in itertools.permutations(results):
        assert texts(only(report.throughput(order))) == [["8", "4", "10", "official", "6"]]


def test_numbers_are_marked_where_they_were_not_verified_or_are_wrong() -> None:
    results = [
        made("baseline", 12.0),
        made("cusparse", 6.0, **UNVERIFIED),
        made("tiled", 3.0, **WRONG),
        made("folded", 1.0, **COUNT_ONLY),
    ]
    table = only(report.throughput(results))
    assert texts(table)[0][4:] == ["1", "2 *", "2", "4 !", "4", "12 #", "12"]
    assert [note for note in table.notes if note[0] in "*#!"] == [
        "* not verified.",
        "# verified by the number of categories only.",
        "! the categories are WRONG.",
    ]
    assert not any(note.startswith("Verified") for note in table.notes)


def test_notes_of_verified_runs_in_full() -> None:
    cuda = {"runtime": "13.2", "driver": "13.0"}
    results = [
        made("folded", created="2026-11-25T00:00:00.000+00:00"),
        made("folded", **NO_RETIRE),
        made("cusparse"),
        made(seconds=3.0, machine__cuda=cuda),
    ]
    assert only(report.throughput(results)).notes == [
        "Effective: the challenge's rate: all edges of all layers x images / median seconds of "
        "inference, also those that an engine skips.",
        "Timed: features on the device, in the engine's input layout, to categories on the host. "
        "Only the newest run of each configuration is shown.",
        "Shortcuts on: folded --no-retire: dead images dropped, twins folded; "
        "cusparse, tiled: dead images dropped; "
        "folded: dead images dropped, twins folded, finished images retired.",
        "Machine: 1x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores; driver 580; CUDA 13.2; "
        "2026-11-23 to 2026-11-25.",
        "Verified: the categories of every run.",
    ]


def test_streamed_runs_say_what_is_in_their_time() -> None:
    streamed = "Streamed runs: the upload of the inputs is inside the timed part."
    assert streamed in only(report.throughput([made(stream=STREAM)])).notes
    assert streamed not in only(report.throughput([made()])).notes


@pytest.mark.parametrize(
    ("samples", "spread"),
    [
        ((1.0, 1.0, 1.0), None),
        ((100.0, 100.0, 109.0), None),
        ((100.0, 100.0, 109.9), None),
        ((10.0, 10.0, 11.0), "10%"),
        ((1.0, 2.0, 5.0), "200%"),
        ((1.0, 1.0, 3.0, 3.0), "100%"),
    ],
)
def test_samples_that_lie_a_tenth_of_their_median_apart_are_named(
    samples: tuple[float, ...], spread: str | None
) -> None:
    notes = only(report.throughput([made(seconds=samples), made("folded")])).notes
    noisy = f"Noisy samples, (largest - smallest) / median from 10% on: tiled 8 x 4 ({spread})."
    assert [note for note in notes if "Noisy" in note] == ([noisy] if spread else [])


def test_runs_of_one_sample_are_named() -> None:
    results = [made(seconds=(1.0,)), made("folded"), made("cusparse", (2.0,), layers=9)]
    notes = only(report.throughput(results)).notes
    assert notes[-1] == "Only one timed run: tiled 8 x 4, cusparse 8 x 9."


# ---- machines, problems and configurations are kept apart


@pytest.mark.parametrize("make", [report.throughput, report.cpu])
def test_unlike_machines_are_never_in_one_table(make: Callable[..., list[Table]]) -> None:
    machines: list[dict[str, Any]] = [{}, {"machine__cpu": "AMD EPYC"}, {"machine__cores": 8}]
    results = [on_cpu(1.0 + k, "cpu", 2, **machine) for k, machine in enumerate(machines)]
    results.append(on_cpu(9.0, "cpu", 2, folder="elsewhere"))
    tables = make(results)
    assert [table.title.partition(" on ")[2].removeprefix("the CPU of ") for table in tables] == [
        f"{MACHINE} (AMD EPYC, 16 cores)",
        f"{MACHINE} (Intel Xeon, 16 cores)",
        f"{MACHINE} (Intel Xeon, 8 cores)",
        "elsewhere",
    ]
    name = "TeraEdges/s" if make is report.cpu else "cpu (2 threads)"
    assert [columns(table, name) for table in tables] == [
        *([("6",)], [("12",)], [("4",)], [("1.333",)]),
    ]


def test_other_gpus_make_another_machine_but_not_for_runs_on_its_cpu() -> None:
    two = {"machine__gpus": [H100, H100]}
    tables = report.throughput([made(), made(seconds=2.0, **two)])
    assert [table.title.partition(" on ")[2] for table in tables] == [
        f"{MACHINE} (1x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores)",
        f"{MACHINE} (2x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores)",
    ]
    assert len(report.throughput([on_cpu(1.0, "cpu", 2), on_cpu(2.0, "cpu", 2, **two)])) == 1


def test_a_machine_may_change_its_driver_host_and_gpu() -> None:
    gpu = {"name": H100["name"], "uuid": "GPU-2", "driver": "590"}
    other = made("folded", 2.0, machine__gpus=[gpu])
    table = only(report.throughput([made(), other]))
    assert "driver 580; driver 590" in table.notes[3]


def test_problems_with_other_data_have_rows_of_their_own() -> None:
    own = {"dataset__official_inputs": False, "dataset__source": "synthetic"}
    results = [
        made(seconds=1.0),
        made(seconds=2.0, dataset__official_network=False),
        made(seconds=3.0, **own, dataset__features_sha256="a" * 64),
        made(seconds=4.0, **own, dataset__features_sha256="b" * 64),
        made(seconds=6.0, images=11),
    ]
    assert texts(only(report.throughput(results))) == [
        ["8", "4", "10", "mnist", "6"],
        ["8", "4", "10", "official", "12"],
        ["8", "4", "10", "synthetic aaaaaa/eeeeee", "4"],
        ["8", "4", "10", "synthetic bbbbbb/eeeeee", "3"],
        ["8", "4", "11", "official", "2"],
    ]


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (made(), "tiled"),
        (made("folded"), "folded"),
        (made("folded", **NO_RETIRE), "folded --no-retire"),
        (made(device_memory=1_500_000_000), "tiled in 1.5 GB"),
        (made(engine_settings={"minibatch": 12}), "tiled"),
        (made(engine_options={"tile": "minibatch=12"}), "tiled --tile minibatch=12"),
        (made(stream=STREAM), "tiled streamed"),
        (made(launch__rebalance_layer=30), "tiled --rebalance 30"),
        (made(launch__broadcast=True), "tiled broadcast"),
        (on_devices(2, 1.0), "tiled 2 workers, snake, processes"),
        (on_cpu(1.0, "cpu", 1), "cpu (1 thread)"),
        (on_cpu(1.0, "cpu", 2), "cpu (2 threads)"),
        (on_cpu(1.0, "cpu", 2, 3), "cpu 3 workers, snake, processes (2 threads each)"),
    ],
)
def test_a_configuration_in_words(result: Result, name: str) -> None:
    assert configuration_of(result.record).label == name


def test_columns_are_in_the_order_of_engines_then_options_then_threads() -> None:
    results = [
        *(on_cpu(1.0, "cpu", threads) for threads in (16, 4)),
        on_cpu(1.0, "cpu", 2, **NO_RETIRE),
        on_cpu(1.0, "cpu-layered", 8),
        on_cpu(1.0, "of-another-program", 1),
    ]
    assert [c.label for c in cells.in_order(result.record for result in results)] == [
        "cpu-layered (8 threads)",
        "cpu (4 threads)",
        "cpu (16 threads)",
        "cpu --no-retire (2 threads)",
        "of-another-program (1 thread)",
    ]


# ---- kernels


def shape(minibatch: int, asked: str | None = None, **changes: Any) -> dict[str, Any]:
    """The tile shape of a run, and whether it was asked for."""
    first = {"outputs": 1, "blocksize": 256, "panel": 1, "vector": 1}
    settings = {"minibatch": minibatch, **first, "buffer_bytes": 24 * 1024, "reorder": False}
    options = {} if asked is None else {"tile": asked}
    return {"engine_settings": settings | changes, "engine_options": options}


def test_kernels_go_from_the_baseline_to_the_tuned_shape_step_by_step() -> None:
    wide = {"panel": 4, "vector": 4}
    large = {**wide, "reorder": True, "buffer_bytes": 49_664}
    steps = [
        made("baseline", 12.0),
        made("cusparse", 6.0),
        made("tiled", 4.0, **shape(1, "a")),
        made("tiled", 3.0, **shape(12, "b", panel=12)),
        made("tiled", 2.0, **shape(12, "c", **wide), **UNVERIFIED),
        made("tiled", 1.0, **shape(12, "d", **large)),
        made("tiled", 0.8, **shape(12, "e", outputs=2, blocksize=128, **large)),
        made("tiled", 0.5, **shape(8, None, outputs=4, blocksize=64, panel=8, vector=4,
                                   reorder=True)),
    ]  # fmt: skip
    table = only(report.kernels([steps[k] for k in (3, 7, 0, 6, 2, 5, 1, 4)]))
    assert table.title == f"Kernels, from the baseline to the optimised one, on {MACHINE}"
    assert table.columns == [*PROBLEM, "step", "seconds", "TeraEdges/s", "gain", "over the first"]
    assert set(columns(table, *PROBLEM)) == {("8", "4", "10", "official")}
    assert [row[4:] for row in texts(table)] == [
        ["baseline: CSR, one thread an output and image", "12 s", "1", "", ""],
        ["cusparse: the library's SpMM", "6 s", "2", "2", "2"],
        [
            "tiled: staged in shared memory: 1 image a thread, 1 output a thread, 256 threads a "
            "block, 1 image a panel, 1 image a load, a buffer of 24 KiB, outputs as they come",
            *("4 s", "3", "1.5", "3"),
        ],
        ["tiled: 12 images a thread, 12 images a panel", "3 s", "4", "1.33", "4"],
        ["tiled: 4 images a panel, 4 images a load", "2 s *", "6 *", "1.5", "6"],
        ["tiled: a buffer of 48.5 KiB, outputs reordered", "1 s", "12", "2", "12"],
        ["tiled: 2 outputs a thread, 128 threads a block", "800 ms", "15", "1.25", "15"],
        [
            "tiled: tuned shape: 8 images a thread, 4 outputs a thread, 64 threads a block, 8 "
            "images a panel, 4 images a load, a buffer of 24 KiB, outputs reordered",
            *("500 ms", "24", "1.6", "24"),
        ],
    ]
    assert table.notes[0] == (
        "gain: times as fast as the row above; over the first: as the problem's first row."
    )
    assert "* not verified." in table.notes


def test_steps_are_in_the_order_in_which_they_add_to_each_other() -> None:
    """More images a thread, wider loads, reordered outputs, more outputs; the tuned shape last."""
    shapes = [
        shape(1, "a"),
        shape(12, "b", outputs=2),
        shape(12, "c", vector=4),
        shape(12, "d", vector=4, outputs=2),
        shape(12, "e", vector=4, reorder=True),
        shape(16, "f"),
        shape(1),
    ]
    results = [made("tiled", 9.0 - k, **tile) for k, tile in enumerate(shapes)]
    for order in (results, results[::-1]):
        table = only(report.kernels(order))
        assert columns(table, "seconds") == [(f"{9 - k} s",) for k in range(len(shapes))]


def test_gains_start_anew_with_each_problem_and_one_step_is_no_story() -> None:
    results = [
        *(made("baseline", 6.0), made("tiled", 2.0, **shape(8))),
        *(made("cusparse", 9.0, layers=9), made("tiled", 1.0, layers=9)),
        made("baseline", (9.0,), neurons=16),
    ]
    table = only(report.kernels(results))
    assert columns(table, "neurons", "layers", "gain", "over the first") == [
        ("8", "4", "", ""),
        ("8", "4", "3", "3"),
        ("8", "9", "", ""),
        ("8", "9", "9", "9"),
    ]
    assert texts(table)[-1][4] == "tiled: tuned shape"  # which it was is not known
    assert not any("Only one timed run" in note for note in table.notes)


@pytest.mark.parametrize(
    "other",
    [
        made("folded"),
        made(stream=STREAM),
        made(device_memory=10**9),
        made(launch__workers=2),
        on_cpu(1.0, "reference", 1),
    ],
    ids=["folded", "streamed", "limited memory", "two devices", "on the CPU"],
)
def test_other_runs_are_no_kernel_step(other: Result) -> None:
    assert report.kernels([made("baseline", 2.0), other]) == []


# ---- engines on the CPU


def test_cpu_speed_ups_are_over_the_same_engines_fewest_cores() -> None:
    results = [
        on_cpu(1.0, "cpu", 4),
        on_cpu(1.5, "cpu", 2, workers=2, **UNVERIFIED),
        on_cpu(3.0, "cpu", 1),
        on_cpu(24.0, "reference", 2),
        on_cpu(2.0, "cpu-layered", 4),
        on_cpu(6.0, "cpu-layered", 1, layers=9),
        on_cpu(3.0, "cpu", 2, **NO_RETIRE),
        made(seconds=0.5),
    ]
    table = only(report.cpu(results))
    assert table.title == f"Engines on the CPU of {MACHINE}"
    assert table.columns == [
        *(*PROBLEM, "run", "engine", "workers", "threads a worker", "partition", "launcher"),
        *("seconds", "TeraEdges/s", "speed-up"),
    ]
    assert set(columns(table, "neurons", "images", "data")) == {("8", "10", "official")}
    assert texts(table)[2][4] == "cpu 2 workers, snake, processes (2 threads each)"
    assert [[row[1], *row[5:]] for row in texts(table)] == [
        ["4", "cpu", "1", "1", "", "", "3 s", "4", ""],
        ["4", "cpu", "1", "4", "", "", "1 s", "12", "3"],
        ["4", "cpu", "2", "2", "snake", "processes", "1.5 s *", "8 *", "2"],
        ["4", "cpu --no-retire", "1", "2", "", "", "3 s", "4", ""],
        ["4", "cpu-layered", "1", "4", "", "", "2 s", "6", ""],
        ["4", "reference", "1", "2", "", "", "24 s", "0.5", ""],
        ["9", "cpu-layered", "1", "1", "", "", "6 s", "2", ""],
    ]
    assert table.notes[0] == (
        "speed-up: over the same engine's first row, the one of the fewest workers x threads."
    )
    assert "* not verified." in table.notes
    assert "Machine: Intel Xeon, 16 cores; 2026-11-23." in table.notes


def test_a_lone_row_of_two_workers_claims_no_speed_up() -> None:
    table = only(report.cpu([on_cpu(1.0, "cpu", 2, workers=2)]))
    assert columns(table, "workers", "speed-up") == [("2", "")]


def test_gpu_results_make_no_cpu_table() -> None:
    assert report.cpu([made()]) == []


# ---- the commands


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A results folder with a GPU's and a CPU's results."""
    for result in (made("baseline", 12.0), made(seconds=3.0, **UNVERIFIED)):
        written(result, tmp_path)
    written(on_cpu(2.0, "cpu", 2, folder="a-laptop"), tmp_path)
    return tmp_path


def test_for_programs_report_is_every_table_that_the_results_fill(saved: Path) -> None:
    outcome = reported(saved, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    tables = [table["title"] for table in outcome.json() if table["table"] != "paper"]
    assert tables == [
        f"TeraEdges/s (effective) on {MACHINE}",
        "TeraEdges/s (effective) on a-laptop",
        "TeraEdges/s of tiled on one device, by machine",
        f"Kernels, from the baseline to the optimised one, on {MACHINE}",
        "Engines on the CPU of a-laptop",
    ]


@pytest.mark.parametrize("form", ["plain", "table"])
def test_for_readers_report_is_a_summary_the_papers_tables_and_the_commands(
    saved: Path, form: str
) -> None:
    outcome = reported(saved, "--format", form)
    assert (outcome.code, outcome.err) == (0, "")
    first, *_ = outcome.out.splitlines()
    assert first == "3 runs of 3 engines, 2026-11-23: 2 verified, 1 not verified."
    places = [outcome.out.index(title) for title in ("Table I:", "One GPU:", "Table II:")]
    assert places == sorted(places)
    after = outcome.out[places[-1] :]
    assert [name for name in TABLES if f"  spdnn report {name} " in after] == [
        name for name in TABLES if name != "paper"
    ]


@pytest.mark.parametrize("form", [*FORMATS, "table"])
@pytest.mark.parametrize("before", [False, True])
def test_a_format_goes_before_or_after_the_table(
    saved: Path, form: str, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    words = ["--format", form]
    outcome = reported(saved, *(words if before else []), "kernels", *([] if before else words))
    assert (outcome.code, outcome.err) == (0, "")
    tables = report.kernels([made("baseline", 12.0), made(seconds=3.0, **UNVERIFIED)])
    if form == "table":
        assert all(cell in outcome.out for cell in ("12 s", "3 s *", "4 *"))
        assert all(note.split()[0] in outcome.out for note in tables[0].notes)
        assert "…" not in outcome.out
    else:
        assert outcome.out == FORMATS[form](tables, 120)


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        ("throughput", "Run spdnn infer on one device."),
        (
            "machines",
            "Run the same engine on two machines, and keep both results in one folder.",
        ),
        ("kernels", "On a GPU, run spdnn infer with --engine baseline and with --engine tiled."),
        ("peers", "Fetch an official problem, and run spdnn infer on all its images."),
        ("cpu", "Run spdnn infer --device cpu."),
    ],
)
def test_a_table_that_no_result_fills_is_an_error_with_a_hint(
    tmp_path: Path, table: str, hint: str
) -> None:
    written(on_devices(2, 1.0), tmp_path)
    outcome = reported(tmp_path, table)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (f"error: no result below {tmp_path} is for the {table} table. {hint}\n")


@pytest.mark.parametrize("words", [["--machine", "a-lap", "cpu"], ["cpu", "--machine", "a-laptop"]])
def test_machine_picks_by_a_part_of_the_name(saved: Path, words: list[str]) -> None:
    written(on_cpu(1.0, "cpu", 2, folder="another"), saved)
    outcome = reported(saved, *words, "--format", "json")
    assert [table["title"] for table in outcome.json()] == ["Engines on the CPU of a-laptop"]


def test_a_whole_name_is_that_machine_alone_and_the_option_may_be_repeated(saved: Path) -> None:
    written(on_cpu(1.0, "cpu", 2, folder="a-laptop-2"), saved)
    written(on_cpu(1.0, "cpu", 2, folder="third"), saved)

    def titles(*words: str) -> list[str]:
        found = reported(saved, "cpu", *words, "--format", "json").json()
        return [table["title"].rpartition(" ")[2] for table in found]

    assert titles("--machine", "a-laptop") == ["a-laptop"]
    assert titles("--machine", "laptop") == ["a-laptop", "a-laptop-2"]
    assert titles("--machine", "a-laptop", "--machine", "third") == ["a-laptop", "third"]


def test_a_machine_that_is_not_there_is_an_error_that_names_those_that_are(saved: Path) -> None:
    outcome = reported(saved, "--machine", "h200")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: no machine has 'h200' in its name. There are: {MACHINE}, a-laptop.\n"
    )


def test_a_file_that_is_no_result_is_named_and_left_out(saved: Path) -> None:
    (saved / "a-laptop" / "mine.json").write_text("{}")
    outcome = reported(saved, "cpu")
    assert outcome.code == 0
    assert "mine.json" in outcome.err


# ---- the results of this repository


TWELVE = list(itertools.product(problem.NEURONS, problem.LAYERS))


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, Any]]]:
    """The tables of a name for the H100 in results/, made where there is no GPU library."""
    monkeypatch.setitem(sys.modules, "cupy", None)

    def tables(name: str) -> list[dict[str, Any]]:
        outcome = reported(ROOT / "results", name, "--format", "json", "--machine", MACHINE)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.json()

    return tables


def newest_median(neurons: int, layers: int, engine: str) -> float:
    """Of the committed runs of the official problem, without any option, read as JSON alone."""
    found = {}
    for file in (ROOT / "results" / MACHINE).glob("*.jsonl"):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            same = (record["neurons"], record["layers"], record["engine"]) == (
                *(neurons, layers, engine),
            )
            asked = record["device_memory"] or record.get("engine_options") or record.get("stream")
            retires = record["shortcuts"]["finished_images_retired"]
            plain = not asked and retires == record["shortcuts"]["twins_folded"]
            if same and plain and record["images"] == 60_000:
                found[record["created"]] = record["timings_s"]["infer"]["median"]
    return found[max(found)]


def test_committed_throughput_is_of_the_twelve_problems(
    committed: Callable[[str], list[dict[str, Any]]],
) -> None:
    table = committed("throughput")[0]
    assert table["title"] == f"TeraEdges/s (effective) on {MACHINE}"
    rows = {(row["neurons"], row["layers"]): row for row in table["rows"]}
    assert list(rows) == TWELVE
    for (neurons, layers), row in rows.items():
        assert (row["images"], row["data"]) == (60_000, "official")
        edges = 60_000 * neurons * 32 * layers
        medians = {name: newest_median(neurons, layers, name) for name in ("tiled", "folded")}
        for name, median in medians.items():
            assert row[name] == pytest.approx(edges / median / 1e12)
        ratio = newest_median(neurons, layers, "baseline") / medians["tiled"]
        assert row["tiled : baseline"] == pytest.approx(ratio)
    (machine,) = (note for note in table["notes"] if note.startswith("Machine: "))
    assert machine.startswith("Machine: 1x NVIDIA H100 80GB HBM3, Intel(R) Xeon(R) Processor, 16 ")


def test_committed_kernels_go_from_the_baseline_to_the_tuned_shape(
    committed: Callable[[str], list[dict[str, Any]]],
) -> None:
    (table,) = committed("kernels")
    steps = [row for row in table["rows"] if (row["neurons"], row["layers"]) == (1024, 120)]
    words = [row["step"].split(": ")[:2] for row in steps]
    assert [step[0] for step in words] == ["baseline", "cusparse", *["tiled"] * (len(words) - 2)]
    assert (words[2][1], words[-1][1]) == ("staged in shared memory", "tuned shape")
    assert steps[-1]["over the first"] == pytest.approx(
        newest_median(1024, 120, "baseline") / newest_median(1024, 120, "tiled")
    )
    assert {(row["neurons"], row["layers"]) for row in table["rows"]} == set(TWELVE)


IMPORTS = """
import subprocess
import sys
from spdnn_cli.cli import main
sys.argv = ["spdnn", "--results-dir", sys.argv[1], "report", *sys.argv[2:]]
main()
heavy = {name.partition(".")[0] for name in sys.modules}
heavy &= {"numba", "h5py", "scipy", "cupy", "pandas", "pyarrow", "matplotlib", "rich", "jinja2"}
engines = {name for name in sys.modules if name.startswith("spdnn_cli.engines.")}
print(sorted(heavy), sorted(engines - {"spdnn_cli.engines.registry"}), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [[], *([name] for name in TABLES)], ids=str)
def test_a_report_imports_no_engine_and_nothing_heavy(words: list[str]) -> None:
    """So it answers at once, and where no GPU library or compiler is."""
    command = [sys.executable, "-c", IMPORTS, str(ROOT / "results"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[] []\n")
