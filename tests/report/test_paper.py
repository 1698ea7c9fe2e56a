"""The paper's tables with our rows, the summary, and one engine on several machines."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.command import run
from helpers.places import ROOT
from helpers.records import (
    COUNT_ONLY,
    OFFICIAL,
    SYNTHETIC,
    WRONG,
    made,
    on_devices,
    traced,
    written,
)
from helpers.tables import columns, only, texts

from spdnn_cli import problem
from spdnn_cli.report import machines, paper, published
from spdnn_cli.report.summary import summary
from spdnn_cli.results.store import Result, Store

TWELVE = list(itertools.product(problem.NEURONS, problem.LAYERS))
PAPER = "Hidayetoglu et al., HPEC 2020, https://arxiv.org/abs/2007.14152"
H100 = "1x H100 80GB HBM3"


def official(seconds: float, engine: str = "tiled", **changes: Any) -> Result:
    """A run of the official problem 1024 x 120, with the edges that it has."""
    return made(engine, seconds, **(OFFICIAL | {"edges": 235_929_600_000} | changes))


# ---- the figures of the paper


def test_every_problem_has_all_of_the_papers_figures() -> None:
    known = published.paper()
    assert known.table_1.v100 == (1, 3, 6, 12, 24, 48, 96, 192, 384, 768)
    assert known.table_1.a100 == (1,)
    for size in TWELVE:
        assert len(known.table_1.rates(size)) == 10
        assert len(known.table_1.a100_rates(size)) == 1
        assert len(known.table_2.rates(size)) == 6
        seconds = known.table_1.seconds_1xv100["{}x{}".format(*size)]
        if size != (1024, 120):  # a misprint, which the note says
            rate = problem.OfficialProblem(*size).edges / seconds / 1e12
            assert rate == pytest.approx(known.table_1.rates(size)[1], rel=0.01)


def test_the_best_of_table_1_is_in_table_2() -> None:
    known = published.paper().table_1
    for size in TWELVE:
        best = next(iter(published.paper().table_2.rates(size).values()))
        assert best == pytest.approx(max(known.rates(size).values()), rel=0.001)


# ---- Table I


def test_table_1_has_our_row_under_the_papers(tmp_path: Path) -> None:
    results = [official(0.002), official(0.004, neurons=4096, **COUNT_ONLY)]
    table, _, _ = paper.paper(results)
    assert table.title == (
        "Table I: TeraEdges/s by devices, the paper's figures and this program's tiled"
    )
    devices = ["3", "6", "12", "24", "48", "96", "192", "384", "768"]
    assert table.columns == ["neurons", "layers", "on", "1", "1 A100", *devices]
    rows = texts(table)
    assert [row[:3] for row in rows[:3]] == [
        ["1024", "120", "V100 (paper)"],
        ["1024", "120", H100],
        ["1024", "480", "V100 (paper)"],
    ]
    assert rows[0][3:] == [
        *("10.51", "16.74", "18.92", "22.46", "25.52", "28.52", "27.77"),
        *("29.17", "27.89", "29.12", "29.13"),
    ]
    assert rows[1][3:] == ["118", *[""] * 10]
    (of_4096,) = [row for row in rows if row[:3] == ["4096", "120", H100]]
    assert of_4096[3] == "58.98 #"
    assert table.notes[0] == (
        f"Paper: {PAPER}; from 3 V100s on six of them a node. Table I prints 0.225 s for 1024 x "
        "120 on one V100; its own rate there, 10.51 TeraEdges/s, is 0.0225 s."
    )
    assert "# verified by the number of categories only." in table.notes


def scaled(root: Path, lifetimes: list[int], **changes: Any) -> list[Result]:
    """Six images on one device, traced, and on two: 4 s and 0.25 s an image-layer.

    The ranks of two do 8 and 4 image-layers. They are told to be all of an official problem.
    """
    size = OFFICIAL | {"images": 6, "edges": 6 * 10**12} | changes
    return [
        traced(on_devices([7.0], **size), root, lifetimes, [0]),
        on_devices([6.0, 5.0], **size),
    ]


def test_projections_are_marked_beyond_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spdnn_cli.results.describe.IMAGES", 6)
    results = scaled(tmp_path, [120, 1, 2, 1, 3, 1])
    table, _, _ = paper.paper(results, devices=(1, 2, 4, 768))
    assert table.columns[3:7] == ["1", "1 A100", "2", "3"]
    (ours,) = [row for row in table.rows if str(row[2]) == "8x H200"]
    shown = dict(zip(table.columns, ours, strict=True))
    assert (str(shown["1"]), str(shown["2"]), shown["3"].value) == ("0.8571", "1", None)
    assert [shown[name].mark for name in ("1", "2", "4", "768")] == ["", "", "~", "~"]
    (note,) = [note for note in table.notes if note.startswith("~: projected, not measured")]
    assert "1024 x 120: up to" in note
    assert "in the fit to 3 ranks, held-out" in note
    (missing,) = [note for note in table.notes if note.startswith("Not projected")]
    assert "1024 x 120" not in missing
    assert missing.endswith("Run: spdnn bench paper")


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 59_999},
        {"dataset__official_network": False},
        {"engine": "folded"},
        {"device_memory": 10**9},
        {"engine_options": {"tile": "minibatch=1"}},
        {"layers": 121},
    ],
)
def test_other_runs_are_not_in_table_1(changes: dict[str, Any]) -> None:
    engine = changes.pop("engine", "tiled")
    table, _, _ = paper.paper([official(1.0, engine, **changes)])
    assert set(columns(table, "on")) == {("V100 (paper)",)}
    assert table.notes[-1] == (
        "No run of tiled on an official problem is here. Run: spdnn bench paper"
    )


def test_machines_with_the_same_gpus_are_told_apart_by_their_folders() -> None:
    results = [official(1.0), official(2.0, folder="another", machine__cores=8)]
    table, _, _ = paper.paper(results)
    assert [row[2] for row in texts(table)[:3]] == [
        *("V100 (paper)", "1x-nvidia-h100-80gb-hbm3", "another"),
    ]


# ---- one GPU, and Table II


def test_one_gpu_goes_on_from_the_v100_and_the_a100() -> None:
    _, table, _ = paper.paper([official(0.002), on_devices(1, 0.001, **OFFICIAL)])
    assert table.columns == [
        *("neurons", "layers", "V100 (paper)", "A100 (paper)", "A100 : V100"),
        *(H100, f"{H100} : V100", "8x H200", "8x H200 : V100"),
    ]
    assert texts(table)[0][2:] == [
        *("10.51", "16.74", "1.59", "118", "11.2", "12000", "1140"),
    ]
    assert texts(table)[-1][2:] == ["3.93", "9.33", "2.37", "", "", "", ""]
    assert table.notes[0] == f"Paper: {PAPER}. Its abstract says 2.37 for A100 : V100."


def test_table_2_is_the_best_over_all_numbers_of_devices() -> None:
    edges = {"edges": 235_929_600_000}
    results = [
        official(0.002),
        on_devices(2, 0.001, **OFFICIAL, **edges),
        official(0.0005, "folded"),
        official(0.0001, "folded", **WRONG),
    ]
    _, _, table = paper.paper(results)
    assert texts(table)[0] == [
        *("1024", "120", "29.17", "235.9", "471.9"),
        *("4.517", "0.1533", "0.276", "0.1407", "0.08434"),
    ]
    assert texts(table)[-1] == [
        *("65536", "1920", "171.4", "", "", "17.87", "0.1127", "0.0843", "", ""),
    ]
    assert table.notes[1] == f"This program: tiled on 2 of 8x H200; folded on 1 of {H100}."


# ---- on this repository's results


def shown(width: int, *words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = run("--results-dir", ROOT / "results", "report", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


@pytest.mark.parametrize("form", ["plain", "table"])
@pytest.mark.parametrize("width", [80, 100, 200])
def test_report_fits_the_width_and_has_our_row_under_each_of_the_twelve(
    width: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(width, "--format", form, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    table = text[text.index("Table I") : text.index("One GPU")]
    for neurons, layers in TWELVE:
        cells = [re.split(r"[│\s]+", line.strip(" │")) for line in table.splitlines()]
        of_size = [line[2:] for line in cells if line[:2] == [str(neurons), str(layers)]]
        rates = [
            f"{rate:.2f}" for rate in published.paper().table_1.rates((neurons, layers)).values()
        ]
        a100 = published.paper().table_1.a100_rates((neurons, layers))[1]
        printed = [cell for line in of_size if line[:2] == ["V100", "(paper)"] for cell in line[2:]]
        assert printed == [rates[0], f"{a100:.2f}", *rates[1:]]
        assert of_size[1][:3] == ["1x", "H100", "80GB"]  # ours is the row below
        assert float(of_size[1][4]) > 70, of_size[1]


@pytest.mark.parametrize("name", ["throughput", "machines", "kernels", "scaling", "peers", "cpu"])
@pytest.mark.parametrize("form", ["plain", "table"])
@pytest.mark.parametrize("width", [80, 100, 200])
def test_every_table_fits_the_width(
    name: str, width: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(width, name, "--format", form, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


@pytest.mark.parametrize("form", ["csv", "json"])
def test_for_programs_the_papers_table_is_complete(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(40, "paper", "--format", form, monkeypatch=monkeypatch)
    for size in TWELVE:
        rates = published.paper().table_1.rates(size)
        if form == "json":
            rows = json.loads(text)[0]["rows"]
            row = next(r for r in rows if (r["neurons"], r["layers"]) == size)
            assert {int(k): v for k, v in row.items() if k.isdecimal() and v} == rates
        else:
            line = next(
                line for line in text.splitlines()
                if line.startswith("{},{},V100 (paper),".format(*size))
            )  # fmt: skip
            assert [float(cell) for cell in line.split(",")[3:] if cell] == [
                *([rates[1], published.paper().table_1.a100_rates(size)[1]]),
                *(rate for devices, rate in rates.items() if devices > 1),
            ]


# ---- the summary


def test_report_begins_with_a_summary_of_ten_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text, _, _ = shown(100, monkeypatch=monkeypatch).partition("\n\n")
    assert 7 <= len(text.splitlines()) <= 10
    assert text.split() == " ".join(summary(Store(ROOT / "results").all())).split()


def test_summary_in_full() -> None:
    edges = 235_929_600_000
    results = [
        official(0.002),
        official(0.0001, "folded", **COUNT_ONLY),
        on_devices(1, 0.003, **OFFICIAL, edges=edges),
        on_devices(2, 0.0015, **OFFICIAL, edges=edges, created="2026-11-25T00:00:00.000+00:00"),
        made("cpu", (0.1, 0.2, 0.3), folder="a-laptop", edges=edges, **SYNTHETIC),
        official(0.00001, "cusparse", **WRONG),
    ]
    assert summary(results) == [
        "6 runs of 4 engines, 2026-11-23 to 2026-11-25: 4 verified, 1 by count, 1 WRONG.",
        "On 3 machines: 1x-nvidia-h100-80gb-hbm3, 8x-nvidia-h200, a-laptop; 1 of the 12 problems.",
        "Fastest on GPUs: folded, 2359 TeraEdges/s (1024 x 120, 1x H100 80GB HBM3).",
        "Fastest on CPUs: cpu, 1.18 TeraEdges/s (8 x 4, synthetic data, Intel Xeon, 16 cores).",
        "tiled on one GPU: 11 times the paper's V100, 7 times its A100.",
        "folded on one GPU: 81 times the paper's best on up to 768 V100s.",
        "Fastest published on 1024 x 120: SNICIT, 13.4 ms (1x RTX A6000); here 100 us, 134 times "
        "as fast.",
        "Best speed-up: tiled on 1024 x 120, 2 times as fast on 2 devices as on one.",
        "Noisy: 1 of 5 runs, with samples 10% of the median apart, or more.",
    ]


def test_summary_of_own_data_alone_says_nothing_of_the_paper() -> None:
    lines = summary([made("cpu", **SYNTHETIC)])
    assert [line.partition(":")[0] for line in lines] == [
        "1 run of 1 engine, 2026-11-23",
        "On 1 machine",
        "Fastest on CPUs",
    ]
    assert summary([]) == []


# ---- machines


def test_machines_are_columns_with_ratios_and_published_ones_are_labelled() -> None:
    results = [
        official(0.002),
        on_devices(1, 0.001, **OFFICIAL, edges=235_929_600_000),
        on_devices(2, 0.0001, **OFFICIAL),
    ]
    table = only(machines.machines(results))
    assert table.title == "TeraEdges/s of tiled on one device, by machine"
    first = "V100 (published)"
    names = [
        *("A100 (published)", "A100-SXM4-80GB (published)", "H100 80GB HBM3 (the paper's program)"),
        *(H100, "8x H200"),
    ]
    heads = [head for name in names for head in (name, f"{name}, ratio")]
    assert table.columns == ["neurons", "layers", "images", "data", first, *heads]
    assert texts(table) == [
        [
            *("1024", "120", "60000", "official", "10.51", "16.74", "1.59", "13.13", "1.25"),
            *("20.88", "1.99", "118", "11.2", "235.9", "22.4"),
        ]
    ]
    assert table.notes[:2] == ["ratio: to V100 (published).", f"V100 (published): {PAPER}."]


def test_an_engine_on_two_machines_is_compared_with_the_first() -> None:
    results = [
        made("folded", 2.0),
        made("folded", 1.0, folder="b", machine__cores=8),
        made("cusparse", 1.0),
        made("folded", 4.0, neurons=16, folder="b", machine__cores=8),
    ]
    table = only(machines.machines(results))
    assert texts(table) == [
        ["8", "4", "10", "official", "6", "12", "2"],
        ["16", "4", "10", "official", "", "3", ""],
    ]
    assert machines.machines(results, "cusparse") == []
    assert only(machines.machines(results, "folded")).title.startswith("TeraEdges/s of folded")


def test_the_command_takes_an_engine_and_devices(tmp_path: Path) -> None:
    for result in (made("folded"), made("folded", folder="b"), official(1.0)):
        written(result, tmp_path)
    words = ["--results-dir", tmp_path, "report"]
    found = run(*words, "machines", "--engine", "folded", "--format", "json").json()
    assert [table["title"] for table in found] == [
        "TeraEdges/s of folded on one device, by machine",
    ]
    outcome = run(*words, "paper", "--devices", "2,x")
    assert outcome.code == 2
    assert "'x' is not a number of devices, 1 to 1000000" in outcome.err
