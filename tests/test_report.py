"""The tables of `spdnn report`, cell by cell, from results made by hand and from those in results/.

Strong scaling has tests of its own, and so has the comparison of two runs.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from records import MACHINE, made, on_devices, timed, written
from test_cli import Outcome, run

from spdnn_cli import problem
from spdnn_cli.report import engines as report
from spdnn_cli.report import peers
from spdnn_cli.report.tables import FORMATS, Table
from spdnn_cli.results import describe as runs
from spdnn_cli.results.store import Result

ROOT = Path(__file__).parents[1]
PROBLEM = ["neurons", "layers", "images", "data"]
DATASET = made().record["dataset"]
LAUNCH = made().record["launch"]
FOLDED = made("folded").record["shortcuts"]


def took(seconds: float, engine: str = "tiled", **changes: Any) -> Result:
    """A run that took so long, with 12 TeraEdges to do."""
    rate = {"effective_teraedges_per_s": 12 / seconds}
    return made(engine, **(timed(seconds, seconds) | rate | changes))


def on_cpu(seconds: float, engine: str, threads: int, workers: int = 1, **changes: Any) -> Result:
    """The same on the CPU, with the threads of each worker."""
    launch = LAUNCH | {"workers": workers}
    if workers > 1:
        launch |= {"launcher": "processes", "partition": "cyclic"}
    worker = {"host": "vm", "threads": threads, "timings_s": {"infer": {"median": seconds}}}
    return took(
        seconds,
        engine,
        **({"device": "cpu", "launch": launch, "workers": [worker] * workers} | changes),
    )


def only(tables: Sequence[Table]) -> Table:
    (table,) = tables
    return table


def reported(root: Path, *words: str) -> Outcome:
    return run("--results-dir", root, "report", *words)


# ---- throughput


def test_throughput_has_a_row_a_problem_and_a_column_an_engine_with_its_ratio() -> None:
    results = [
        took(0.75, "folded"),
        took(4.0, "cusparse"),
        took(3.0),
        took(12.0, "baseline"),
        took(1.5, layers=120),
        took(1.2, neurons=16, effective_teraedges_per_s=123456.0),
        took(24.0, "baseline", neurons=16),
    ]
    table = only(report.throughput(results))
    assert table.title == f"TeraEdges/s (effective) on {MACHINE}"
    assert table.kind == "throughput"
    engines = ["cusparse", "cusparse : baseline", "tiled", "tiled : baseline"]
    columns = [*PROBLEM, "baseline", *engines, "folded", "folded : baseline"]
    assert table.columns == columns
    assert table.rows == [
        ["8", "4", "10", "official", "1", "3", "3", "4", "4", "16", "16"],
        ["8", "120", "10", "official", "", "", "", "8", "", "", ""],
        ["16", "4", "10", "official", "0.5", "", "", "123500", "20", "", ""],
    ]


@pytest.mark.parametrize(
    ("results", "columns"),
    [
        ([took(1.0)], ["tiled"]),
        ([took(1.0, "baseline")], ["baseline"]),
        ([took(1.0), took(1.0, "folded")], ["tiled", "folded"]),
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
        (
            [took(4.0, "baseline"), took(5.0, "baseline", stream={"chunks": 2}), took(1.0)],
            [
                *("baseline", "baseline streamed", "baseline streamed : baseline"),
                *("tiled", "tiled : baseline"),
            ],
        ),
    ],
    ids=["one engine", "the baseline alone", "no baseline", "reference", "most threads", "options"],
)
def test_what_others_are_compared_with(results: list[Result], columns: list[str]) -> None:
    table = only(report.throughput(results))
    assert table.columns == [*PROBLEM, *columns]


def test_runs_on_several_devices_and_of_asked_tiles_are_left_to_other_tables() -> None:
    asked = took(1.0, tile={"asked": "minibatch=12"})
    assert report.throughput([on_devices(2, 1.0, "cyclic"), asked]) == []


def test_the_newest_run_of_a_configuration_counts_whatever_the_order() -> None:
    days = [(21, 4.0), (23, 2.0), (22, 3.0)]
    results = [took(s, created=f"2026-11-{day}T10:00:00.000+00:00") for day, s in days]
    for some in itertools.permutations(results):
        assert only(report.throughput(some)).rows == [["8", "4", "10", "official", "6"]]


def test_numbers_are_marked_where_they_were_not_verified_or_are_wrong() -> None:
    results = [
        took(12.0, "baseline"),
        took(6.0, "cusparse", verified=False),
        took(3.0, verified=False, difference="1 missing"),
    ]
    table = only(report.throughput(results))
    assert table.rows[0][4:] == ["1", "2 *", "2", "4 !", "4"]
    assert [note for note in table.notes if note[0] in "*!"] == [
        "* not verified",
        "! the categories are WRONG",
    ]
    assert not any(note.startswith("Verified") for note in table.notes)


def test_notes_of_verified_runs_in_full() -> None:
    cuda = {"runtime": "13.2", "driver": "13.0"}
    results = [
        took(1.0, "folded", created="2026-11-25T00:00:00.000+00:00"),
        took(1.0, "folded", shortcuts=FOLDED | {"finished_images_retired": False}),
        took(1.0, "cusparse"),
        took(3.0, machine=made().record["machine"] | {"cuda": cuda}),
    ]
    assert only(report.throughput(results)).notes == [
        "Effective: the challenge's rate: all edges of all layers x images / median seconds of "
        "inference, whatever an engine skips.",
        "Timed: features on the device, in the engine's input layout, to categories on the host. "
        "Of each configuration the newest run counts.",
        "Skipped: folded --no-retire: dead images dropped, twins folded; "
        "cusparse, tiled: dead images dropped; "
        "folded: dead images dropped, twins folded, finished images retired.",
        "Machine: 1x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores; driver 580; CUDA 13.2; "
        "2026-11-23 to 2026-11-25.",
        "Verified: the categories of every run.",
    ]


def test_streamed_runs_say_what_is_in_their_time() -> None:
    streamed = "Streamed runs: the upload of the inputs is inside the timed part."
    assert streamed in only(report.throughput([took(1.0, stream={"chunks": 2})])).notes
    assert streamed not in only(report.throughput([took(1.0)])).notes


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
def test_samples_that_wobble_by_a_tenth_of_their_median_are_named(
    samples: tuple[float, ...], spread: str | None
) -> None:
    notes = only(report.throughput([made(**timed(*samples)), took(1.0, "folded")])).notes
    wobbles = (
        f"Samples that wobble, (largest - smallest) / median from 10% on: tiled 8 x 4 ({spread})."
    )
    assert [note for note in notes if "wobble" in note] == ([wobbles] if spread else [])


def test_runs_of_one_sample_are_named() -> None:
    results = [made(**timed(1.0)), took(1.0, "folded"), made("cusparse", layers=9, **timed(2.0))]
    notes = only(report.throughput(results)).notes
    assert notes[-1] == "One timed run alone: tiled 8 x 4, cusparse 8 x 9."


# ---- machines, problems and configurations are kept apart


UNLIKE = made().record["machine"]


@pytest.mark.parametrize("make", [report.throughput, report.cpu])
def test_unlike_machines_are_never_in_one_table(make: Callable[..., list[Table]]) -> None:
    machines = [
        UNLIKE,
        UNLIKE | {"cpu": "AMD EPYC"},
        UNLIKE | {"cores": 8},
    ]
    results = [on_cpu(1.0 + k, "cpu", 2, machine=machine) for k, machine in enumerate(machines)]
    results.append(on_cpu(9.0, "cpu", 2, folder="elsewhere"))
    tables = make(results)
    assert [table.title.partition(" on ")[2].removeprefix("the CPU of ") for table in tables] == [
        f"{MACHINE} (AMD EPYC, 16 cores)",
        f"{MACHINE} (Intel Xeon, 16 cores)",
        f"{MACHINE} (Intel Xeon, 8 cores)",
        "elsewhere",
    ]
    rates = [table.rows[0][table.columns.index(column)] for table, column in zip(
        tables, ["TeraEdges/s" if make is report.cpu else "cpu (2 threads)"] * 4, strict=True
    )]  # fmt: skip
    assert rates == ["6", "12", "4", "1.333"]
    assert [len(table.rows) for table in tables] == [1] * 4


def test_other_gpus_make_another_machine_but_not_for_runs_on_its_cpu() -> None:
    two = UNLIKE | {"gpus": UNLIKE["gpus"] * 2}
    assert [table.title.partition(" on ")[2] for table in report.throughput(
        [took(1.0), took(2.0, machine=two)]
    )] == [
        f"{MACHINE} (1x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores)",
        f"{MACHINE} (2x NVIDIA H100 80GB HBM3, Intel Xeon, 16 cores)",
    ]  # fmt: skip
    assert len(report.throughput([on_cpu(1.0, "cpu", 2), on_cpu(2.0, "cpu", 2, machine=two)])) == 1


def test_a_machine_may_change_its_driver_host_and_gpu() -> None:
    gpu = {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-2", "driver": "590"}
    other = took(2.0, "folded", machine=UNLIKE | {"gpus": [gpu]})
    table = only(report.throughput([took(1.0), other]))
    assert "driver 580; driver 590" in table.notes[3]


def test_problems_with_other_data_have_rows_of_their_own() -> None:
    own = DATASET | {"official_inputs": False, "source": "synthetic"}
    results = [
        took(1.0),
        took(2.0, dataset=DATASET | {"official_network": False}),
        took(3.0, dataset=own | {"features_sha256": "a" * 64}),
        took(4.0, dataset=own | {"features_sha256": "b" * 64}),
        took(6.0, images=11),
    ]
    assert only(report.throughput(results)).rows == [
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
        (
            made("folded", shortcuts=FOLDED | {"finished_images_retired": False}),
            "folded --no-retire",
        ),
        (made(device_memory=1_500_000_000), "tiled in 1.5 GB"),
        (made(tile={"asked": None}), "tiled"),
        (made(tile={"asked": "minibatch=12"}), "tiled --tile minibatch=12"),
        (made(features="float16"), "tiled --features float16"),
        (made(stream={"chunks": 2}), "tiled streamed"),
        (made(launch=LAUNCH | {"rebalance_layer": 30}), "tiled --rebalance 30"),
        (made(launch=LAUNCH | {"broadcast": True}), "tiled broadcast"),
        (on_devices(2, 1.0, "cyclic"), "tiled 2 workers, cyclic, processes"),
        (on_cpu(1.0, "cpu", 1), "cpu (1 thread)"),
        (on_cpu(1.0, "cpu", 2), "cpu (2 threads)"),
        (on_cpu(1.0, "cpu", 2, 3), "cpu 3 workers, cyclic, processes (2 threads each)"),
    ],
)
def test_a_configuration_in_words(result: Result, name: str) -> None:
    assert runs.configuration(result.record) == name


def test_columns_are_in_the_order_of_engines_then_options_then_threads() -> None:
    results = [
        *(on_cpu(1.0, "cpu", threads) for threads in (16, 4)),
        on_cpu(1.0, "cpu", 2, shortcuts=FOLDED | {"finished_images_retired": False}),
        on_cpu(1.0, "cpu-layered", 8),
        on_cpu(1.0, "of-another-program", 1),
    ]
    assert runs.in_order(result.record for result in results) == [
        "cpu-layered (8 threads)",
        "cpu (4 threads)",
        "cpu (16 threads)",
        "cpu --no-retire (2 threads)",
        "of-another-program (1 thread)",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.00013107, "0.0001311"),
        (1.23456, "1.235"),
        (99995, "100000"),
        (428214.6, "428200"),
        (1e-5, "1e-05"),
    ],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert runs.number(value) == text


# ---- kernels


def shape(asked: str | None, minibatch: int, **changes: Any) -> dict[str, Any]:
    """The tile shape of a run."""
    first = {"outputs": 1, "blocksize": 256, "panel": 1, "vector": 1}
    return {
        "asked": asked,
        "minibatch": minibatch,
        **first,
        "buffer_bytes": 24 * 1024,
        "reorder": False,
        **changes,
    }


def test_kernels_go_from_the_baseline_to_the_tuned_shape_step_by_step() -> None:
    steps = [
        took(12.0, "baseline"),
        took(6.0, "cusparse"),
        took(4.0, tile=shape("a", 1)),
        took(3.0, tile=shape("b", 12, panel=12)),
        took(2.0, tile=shape("c", 12, panel=4, vector=4), verified=False),
        took(1.0, tile=shape("d", 12, panel=4, vector=4, reorder=True, buffer_bytes=49_664)),
        took(0.8, tile=shape("e", 12, outputs=2, panel=4, vector=4, reorder=True, blocksize=128,
                             buffer_bytes=49_664)),
        took(0.5, tile=shape(None, 8, outputs=4, blocksize=64, panel=8, vector=4, reorder=True)),
        took(0.4, tile=shape(None, 8, panel=16, vector=8), features="float16"),
    ]  # fmt: skip
    table = only(report.kernels([steps[k] for k in (3, 7, 0, 8, 6, 2, 5, 1, 4)]))
    assert table.title == f"Kernels, from the baseline to the optimised one, on {MACHINE}"
    assert table.columns == [*PROBLEM, "step", "seconds", "TeraEdges/s", "gain", "over the first"]
    assert {tuple(row[:4]) for row in table.rows} == {("8", "4", "10", "official")}
    assert [row[4:] for row in table.rows] == [
        ["baseline: CSR, one thread an output and image", "12", "1", "", ""],
        ["cusparse: the library's SpMM", "6", "2", "2", "2"],
        [
            "tiled: staged in shared memory: 1 image a thread, 1 output a thread, 256 threads a "
            "block, 1 image a panel, 1 image a load, a buffer of 24 KiB, outputs as they come",
            *("4", "3", "1.5", "3"),
        ],
        ["tiled: 12 images a thread, 12 images a panel", "3", "4", "1.33", "4"],
        ["tiled: 4 images a panel, 4 images a load", "2 *", "6 *", "1.5", "6"],
        ["tiled: a buffer of 48.5 KiB, outputs reordered", "1", "12", "2", "12"],
        ["tiled: 2 outputs a thread, 128 threads a block", "0.8", "15", "1.25", "15"],
        [
            "tiled: tuned shape: 8 images a thread, 4 outputs a thread, 64 threads a block, 8 "
            "images a panel, 4 images a load, a buffer of 24 KiB, outputs reordered",
            *("0.5", "24", "1.6", "24"),
        ],
        [
            "tiled, values stored as float16: tuned shape: 8 images a thread, 1 output a thread, "
            "256 threads a block, 16 images a panel, 8 images a load, a buffer of 24 KiB, outputs "
            "as they come",
            *("0.4", "30", "1.25", "30"),
        ],
    ]
    assert table.notes[0] == (
        "gain: times as fast as the row above; over the first: as the problem's first row."
    )
    assert "* not verified" in table.notes


def test_steps_are_in_the_order_in_which_they_add_to_each_other() -> None:
    """More images a thread, wider loads, reordered outputs, more outputs; the tuned shape last."""
    shapes = [
        shape("a", 1),
        shape("b", 12, outputs=2),
        shape("c", 12, vector=4),
        shape("d", 12, vector=4, outputs=2),
        shape("e", 12, vector=4, reorder=True),
        shape("f", 16),
        shape(None, 1),
    ]
    results = [took(9.0 - k, tile=tile) for k, tile in enumerate(shapes)]
    expected = [str(9 - k) for k in range(len(shapes))]
    for some in (results, results[::-1]):
        table = only(report.kernels(some))
        assert [row[table.columns.index("seconds")] for row in table.rows] == expected


def test_gains_start_anew_with_each_problem_and_one_step_is_no_story() -> None:
    results = [
        *(took(6.0, "baseline"), took(2.0, tile=shape(None, 8))),
        *(took(9.0, "cusparse", layers=9), took(1.0, layers=9)),
        *(took(9.0, "baseline", neurons=16, **timed(1.0)),),
    ]
    table = only(report.kernels(results))
    assert [[row[0], row[1], *row[-2:]] for row in table.rows] == [
        ["8", "4", "", ""],
        ["8", "4", "3", "3"],
        ["8", "9", "", ""],
        ["8", "9", "9", "9"],
    ]
    assert table.rows[-1][4] == "tiled: tuned shape"  # which it was is not known
    assert not any("One timed run alone" in note for note in table.notes)


@pytest.mark.parametrize(
    "other",
    [
        took(1.0, "folded"),
        took(1.0, stream={"chunks": 2}),
        took(1.0, device_memory=10**9),
        took(1.0, launch=LAUNCH | {"workers": 2}),
        on_cpu(1.0, "reference", 1),
    ],
    ids=["folded", "streamed", "limited memory", "two devices", "on the CPU"],
)
def test_other_runs_are_no_kernel_step(other: Result) -> None:
    assert report.kernels([took(2.0, "baseline"), other]) == []


# ---- engines on the CPU


def test_cpu_speed_ups_are_over_the_same_engines_fewest_cores() -> None:
    results = [
        on_cpu(1.0, "cpu", 4),
        on_cpu(1.5, "cpu", 2, workers=2, verified=False),
        on_cpu(3.0, "cpu", 1),
        on_cpu(24.0, "reference", 2),
        on_cpu(2.0, "cpu-layered", 4),
        on_cpu(6.0, "cpu-layered", 1, layers=9),
        on_cpu(3.0, "cpu", 2, shortcuts=FOLDED | {"finished_images_retired": False}),
        took(0.5),
    ]
    table = only(report.cpu(results))
    assert table.title == f"Engines on the CPU of {MACHINE}"
    assert table.columns == [
        *(*PROBLEM, "engine", "workers", "threads a worker", "partition", "launcher"),
        *("seconds", "TeraEdges/s", "speed-up"),
    ]
    assert {(row[0], row[2], row[3]) for row in table.rows} == {("8", "10", "official")}
    assert [[row[1], *row[4:]] for row in table.rows] == [
        ["4", "cpu", "1", "1", "", "", "3", "4", "1"],
        ["4", "cpu", "1", "4", "", "", "1", "12", "3"],
        ["4", "cpu", "2", "2", "cyclic", "processes", "1.5 *", "8 *", "2"],
        ["4", "cpu --no-retire", "1", "2", "", "", "3", "4", "1"],
        ["4", "cpu-layered", "1", "4", "", "", "2", "6", "1"],
        ["4", "reference", "1", "2", "", "", "24", "0.5", "1"],
        ["9", "cpu-layered", "1", "1", "", "", "6", "2", "1"],
    ]
    assert table.notes[0] == (
        "speed-up: over the same engine's first row, the one of the fewest workers x threads."
    )
    assert "* not verified" in table.notes
    assert "Machine: Intel Xeon, 16 cores; 2026-11-23." in table.notes


def test_gpu_results_make_no_cpu_table() -> None:
    assert report.cpu([took(1.0)]) == []


# ---- other programs


PUBLISHED = """
version: 1
published:
  - key: fast
    program: Fast
    source: "A. Author, 2020, table 1"
    machine: "1x NVIDIA V100"
    device: cuda
    timed: kernels alone
    seconds: {1024x120: 0.5, 4096x120: 2, 4096x480: 8.76543}
  - key: elsewhere
    program: Never shown
    source: "B. Author, 2021"
    machine: "1x NVIDIA A100"
    device: cuda
    timed: kernels alone
    seconds: {65536x1920: 1.0}
  - key: paper-on-cpu
    program: Paper on CPUs
    source: "D. Author, 2023"
    machine: 64 cores
    device: cpu
    timed: all
    seconds: {1024x120: 7}
measured:
  - key: slow
    program: Slow
    source: own measurement
    machine: "1x NVIDIA H100 80GB HBM3"
    date: 2026-11-22
    device: cuda
    timed: wall clock
    note: two rounds
    seconds: {1024x120: 0.25}
  - key: on-cpu
    program: On CPUs
    source: own measurement
    machine: 4 cores of a Xeon
    date: 2026-11-22
    device: cpu
    timed: inference alone
    seconds: {1024x120: 12.5}
claims:
  - source: "C. Author, 2022, abstract"
    claim: up to 180 TeraEdges/s
"""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of others that were made by hand."""
    monkeypatch.setattr(peers, "FILE", tmp_path / "published.yaml")
    peers.FILE.write_text(PUBLISHED)


def official(seconds: float, engine: str = "tiled", **changes: Any) -> Result:
    """A run of the official problem 1024 x 120."""
    size = {"neurons": 1024, "layers": 120, "images": 60_000}
    return took(seconds, engine, **(size | changes))


@pytest.mark.usefixtures("published")
def test_own_and_others_numbers_are_in_columns_that_name_program_and_machine() -> None:
    results = [
        official(0.002, "folded"),
        official(0.25),
        official(0.75, neurons=4096, verified=False),
        official(3.0, neurons=4096, layers=480),
    ]
    of_others, measured = peers.peers(results)
    assert of_others.title == f"Seconds of inference on {MACHINE}, beside published results"
    own = ["neurons", "layers", "tiled, this machine", "folded, this machine"]
    assert of_others.columns == [*own, "Fast, V100 (a)"]
    assert of_others.rows == [
        ["1024", "120", "0.25", "0.002", "0.5"],
        ["4096", "120", "0.75 *", "", "2"],
        ["4096", "480", "3", "", "8.765"],
    ]
    care = "on other machines and each timed in its own way: compare with care."
    assert of_others.notes[:3] == [
        f"Published results, {care}",
        "(a) Fast on 1x NVIDIA V100. A. Author, 2020, table 1. Timed: kernels alone.",
        "Published without a table of times: up to 180 TeraEdges/s (C. Author, 2022, abstract).",
    ]
    assert {"* not verified"} < set(of_others.notes)

    assert measured.title == (
        f"Seconds of inference on {MACHINE}, beside other programs, own measurements"
    )
    assert measured.columns == [*own, "Slow, H100 80GB HBM3 (a)"]
    assert [row[-1] for row in measured.rows] == ["0.25", "", ""]
    assert measured.notes[:3] == [
        f"Other programs, own measurements, {care}",
        "(a) Slow on 1x NVIDIA H100 80GB HBM3. Own measurement, 2026-11-22. Timed: wall clock; two "
        "rounds.",
        runs.TIMED,
    ]


@pytest.mark.usefixtures("published")
def test_results_of_a_cpu_are_beside_programs_for_cpus() -> None:
    size = {"neurons": 1024, "layers": 120, "images": 60_000}
    tables = peers.peers([on_cpu(2.0, "cpu", 4, **size)])
    own = "cpu (4 threads), this machine"
    assert [table.columns[2:] for table in tables] == [
        [own, "Paper on CPUs, 64 cores (a)"],
        [own, "On CPUs, 4 cores of a Xeon (a)"],
    ]
    assert [table.rows for table in tables] == [
        [["1024", "120", "2", "7"]],
        [["1024", "120", "2", "12.5"]],
    ]
    assert not any("180 TeraEdges/s" in note for table in tables for note in table.notes)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    "changes",
    [
        {"images": 59_999},
        {"dataset": DATASET | {"official_inputs": False}},
        {"dataset": DATASET | {"official_network": False}},
        {"launch": LAUNCH | {"workers": 2}},
        {"tile": shape("a", 1)},
        {"layers": 1920},
    ],
    ids=["fewer images", "inputs", "network", "two devices", "asked tile", "nobody has it"],
)
def test_what_others_did_not_run_is_not_beside_them(changes: dict[str, Any]) -> None:
    assert peers.peers([official(1.0, **changes)]) == []


def test_every_published_number_has_its_source_machine_and_way_of_timing() -> None:
    everyone = peers.load()
    assert len({peer.key for peer in everyone}) == len(everyone)
    for peer in everyone:
        assert all((peer.program, peer.source, peer.machine, peer.timed))
        assert peer.device in ("cuda", "cpu")
        own = peer.kind == "measured"
        assert (peer.source == "own measurement", peer.date is not None) == (own, own)
        assert peer.seconds
        for (neurons, layers), seconds in peer.seconds.items():
            assert neurons in problem.NEURONS
            assert layers in problem.LAYERS
            assert seconds > 0
    assert {peer.kind for peer in everyone} == {"published", "measured"}
    assert all(claim.endswith(")") and "HPEC" in claim for claim in peers.claims())


def test_the_rate_of_another_program_is_the_challenges() -> None:
    """60,000 images x 120 layers x 32 edges x 1024 neurons in half a second."""
    peer = peers.Peer(
        *("published", "key", "Fast", "a paper", "a GPU", None, "cuda", "kernels", None),
        {(1024, 120): 0.5},
    )
    assert peer.teraedges_per_s(1024, 120) == pytest.approx(0.2359296 / 0.5)


# ---- formats


TWO = [
    Table(
        "Rates on a | b*",
        ["neurons", "engine", "TeraEdges/s", "seconds"],
        [["1024", "tiled", "2.5", "1"], ["65536", "a|b, c*", "100 *", ""], ["16", "", "3 !", "~2"]],
        ["* not verified", 'Say "x", y | z'],
        "throughput",
    ),
    Table("Nothing", ["neurons", "engine"], []),
]


def test_plain_columns_are_aligned_numbers_to_the_right_marked_or_not() -> None:
    assert FORMATS["plain"](TWO) == (
        "Rates on a | b*\n"
        "\n"
        "neurons  engine   TeraEdges/s  seconds\n"
        "   1024  tiled            2.5        1\n"
        "  65536  a|b, c*        100 *\n"
        "     16                   3 !       ~2\n"
        "\n"
        "* not verified\n"
        'Say "x", y | z\n'
        "\n"
        "Nothing\n"
        "\n"
        "neurons  engine\n"
        "\n"
    )


def test_markdown_escapes_what_would_end_a_cell_or_begin_emphasis() -> None:
    assert FORMATS["markdown"](TWO) == (
        "## Rates on a \\| b\\*\n"
        "\n"
        "| neurons | engine | TeraEdges/s | seconds |\n"
        "| --- | --- | --- | --- |\n"
        "| 1024 | tiled | 2.5 | 1 |\n"
        "| 65536 | a\\|b, c\\* | 100 \\* |  |\n"
        "| 16 |  | 3 ! | ~2 |\n"
        "\n"
        "- \\* not verified\n"
        '- Say "x", y \\| z\n'
        "\n"
        "## Nothing\n"
        "\n"
        "| neurons | engine |\n"
        "| --- | --- |\n"
    )


def test_csv_quotes_commas_and_begins_titles_and_notes_with_a_hash() -> None:
    text = FORMATS["csv"](TWO)
    assert text == (
        "# Rates on a | b*\n"
        "neurons,engine,TeraEdges/s,seconds\n"
        "1024,tiled,2.5,1\n"
        '65536,"a|b, c*",100 *,\n'
        "16,,3 !,~2\n"
        "# * not verified\n"
        '# Say "x", y | z\n'
        "\n"
        "# Nothing\n"
        "neurons,engine\n"
    )
    first = text.partition("\n\n")[0].splitlines()
    data = list(csv.reader(line for line in first if not line.startswith("#")))
    assert data == [TWO[0].columns, *TWO[0].rows]


def test_json_has_numbers_as_numbers_empty_cells_as_null_and_marked_ones_as_text() -> None:
    assert json.loads(FORMATS["json"](TWO)) == [
        {
            "table": "throughput",
            "title": "Rates on a | b*",
            "rows": [
                {"neurons": 1024, "engine": "tiled", "TeraEdges/s": 2.5, "seconds": 1},
                {"neurons": 65536, "engine": "a|b, c*", "TeraEdges/s": "100 *", "seconds": None},
                {"neurons": 16, "engine": None, "TeraEdges/s": "3 !", "seconds": "~2"},
            ],
            "notes": ["* not verified", 'Say "x", y | z'],
        },
        {"table": "", "title": "Nothing", "rows": [], "notes": []},
    ]


# ---- the commands


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A results folder with a GPU's and a CPU's results."""
    for result in (took(12.0, "baseline"), took(3.0, verified=False)):
        written(result, tmp_path)
    written(on_cpu(2.0, "cpu", 2, folder="a-laptop"), tmp_path)
    return tmp_path


def test_report_alone_is_every_table_that_the_results_fill(saved: Path) -> None:
    outcome = reported(saved, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    assert [table["title"] for table in outcome.json()] == [
        f"TeraEdges/s (effective) on {MACHINE}",
        "TeraEdges/s (effective) on a-laptop",
        f"Kernels, from the baseline to the optimised one, on {MACHINE}",
        "Engines on the CPU of a-laptop",
    ]


@pytest.mark.parametrize("form", [*FORMATS, "table"])
@pytest.mark.parametrize("before", [False, True])
def test_a_format_goes_before_or_after_the_table(saved: Path, form: str, before: bool) -> None:
    words = ["--format", form]
    outcome = reported(saved, *(words if before else []), "kernels", *([] if before else words))
    assert (outcome.code, outcome.err) == (0, "")
    tables = report.kernels([took(12.0, "baseline"), took(3.0, verified=False)])
    if form == "table":
        assert all(cell in outcome.out for row in tables[0].rows for cell in row)
        assert all(note in outcome.out.splitlines() for note in tables[0].notes)
        assert "…" not in outcome.out
    else:
        assert outcome.out == FORMATS[form](tables)


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        ("throughput", "Run spdnn infer on one device."),
        ("kernels", "On a GPU, run spdnn infer with --engine baseline and with --engine tiled."),
        ("peers", "Fetch an official problem, and run spdnn infer on all its images."),
        ("cpu", "Run spdnn infer --device cpu."),
    ],
)
def test_a_table_that_no_result_fills_is_an_error_with_a_hint(
    tmp_path: Path, table: str, hint: str
) -> None:
    written(on_devices(2, 1.0, "cyclic"), tmp_path)
    outcome = reported(tmp_path, table)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (f"error: no result below {tmp_path} is for the {table} table. {hint}\n")


def test_every_table_has_a_hint() -> None:
    assert report.HINTS.keys() == report.TABLES.keys()


# ---- the results of this repository


H100 = "1x-nvidia-h100-80gb-hbm3"
TWELVE = list(itertools.product(problem.NEURONS, problem.LAYERS))


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, Any]]]:
    """The tables of a name for the H100 in results/, made where there is no GPU library."""
    monkeypatch.setitem(sys.modules, "cupy", None)

    def tables(name: str) -> list[dict[str, Any]]:
        outcome = reported(ROOT / "results", name, "--format", "json")
        assert (outcome.code, outcome.err) == (0, "")
        return [table for table in outcome.json() if H100 in table["title"]]

    return tables


def newest_median(neurons: int, layers: int, engine: str) -> float:
    """Of the files whose run is of the official problem, without any option."""
    found = {}
    for file in (ROOT / "results" / H100).glob(f"n{neurons}-l{layers}-{engine}-*.json"):
        record = json.loads(file.read_text())
        asked = record["device_memory"] or (record["tile"] or {"asked": None})["asked"]
        asked = asked or record.get("features", "float32") != "float32"
        if record["images"] == 60_000 and "--no-retire" not in record["command"] and not asked:
            found[record["created"]] = record["timings_s"]["infer"]["median"]
    return found[max(found)]


def test_committed_throughput_is_of_the_twelve_problems(
    committed: Callable[[str], list[dict[str, Any]]],
) -> None:
    (table,) = committed("throughput")
    assert table["title"] == f"TeraEdges/s (effective) on {H100}"
    rows = {
        (row["neurons"], row["layers"]): row
        for row in table["rows"]
        if (row["images"], row["data"]) == (60_000, "official")
    }
    assert list(rows) == TWELVE
    for (neurons, layers), row in rows.items():
        edges = 60_000 * neurons * 32 * layers
        medians = {name: newest_median(neurons, layers, name) for name in ("tiled", "folded")}
        for name, median in medians.items():
            assert row[name] == pytest.approx(edges / median / 1e12, rel=5e-4)
        if row["baseline"] is not None:
            ratio = newest_median(neurons, layers, "baseline") / medians["tiled"]
            assert row["tiled : baseline"] == pytest.approx(ratio, rel=5e-3)
    assert "Verified: the categories of every run." in table["notes"]
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
        newest_median(1024, 120, "baseline") / newest_median(1024, 120, "tiled"), rel=5e-3
    )
    assert {(row["neurons"], row["layers"]) for row in table["rows"]} == set(TWELVE)


def test_committed_results_beside_others_label_what_is_own(
    committed: Callable[[str], list[dict[str, Any]]],
) -> None:
    published, measured = committed("peers")
    for table, kind in ((published, "published"), (measured, "measured")):
        assert [(row["neurons"], row["layers"]) for row in table["rows"]] == TWELVE
        for row in table["rows"]:
            size = row["neurons"], row["layers"]
            assert row["folded, this machine"] == pytest.approx(
                newest_median(*size, "folded"), rel=5e-4
            )
        others = [name for name in table["rows"][0] if name.endswith(")")]
        shown = [peer for peer in peers.load() if (peer.kind, peer.device) == (kind, "cuda")]
        for name, peer in zip(others, shown, strict=True):
            letter = name[-3:]
            assert name.startswith(f"{peer.program}, ")
            (note,) = (note for note in table["notes"] if note.startswith(letter))
            source = peer.source[0].upper() + peer.source[1:]
            assert note.startswith(f"{letter} {peer.program} on {peer.machine}. {source}")
            for row in table["rows"]:
                seconds = peer.seconds.get((row["neurons"], row["layers"]))
                wanted = None if seconds is None else pytest.approx(seconds, rel=5e-4)
                assert row[name] == wanted
        kept = {"neurons", "layers", *others}
        assert all(name.endswith(", this machine") for name in set(table["rows"][0]) - kept)
