"""README's results are those of the committed result files.

`python tests/test_readme.py` writes the results into README.md. A result counts from `git add` on.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import README, ROOT
from records import made

from spdnn_cli import problem
from spdnn_cli.report import peers
from spdnn_cli.report.tables import Table, grid
from spdnn_cli.results import describe as runs
from spdnn_cli.results.describe import Record
from spdnn_cli.results.store import Result, load_all
from spdnn_cli.workspace import Workspace

MACHINE = "1x-nvidia-h100-80gb-hbm3"
"""The folder of results that README shows."""
COLUMNS = ("folded", "folded --no-retire", "tiled", "cusparse", "baseline")
"""Configurations, as `runs.configuration` names them, in the order of the columns."""
PROBLEMS = [(neurons, layers) for neurons in problem.NEURONS for layers in problem.LAYERS]
DEEPEST = [(neurons, problem.LAYERS[-1]) for neurons in problem.NEURONS]
"""The problems of which README shows the times of other programs."""
DIGITS = 3

BEGIN, END = "<!-- results: made by python tests/test_readme.py -->", "<!-- /results -->"

Newest = dict[tuple[tuple[int, int], str], Record]


# ---- README's results


def render(results: Sequence[Result]) -> str:
    """The results in README: this program's on `MACHINE`, with notes, then those of others."""
    newest = _newest(results)
    parts = [
        f"**This program**, from the runs in [results/{MACHINE}/](results/{MACHINE}/):",
        grid(_own(newest)),
        _list(_notes(newest)),
    ]
    for kind, title in peers.KINDS.items():
        parts += [f"**Not this program: {title}**, seconds of inference:", grid(_others(kind))]
    parts.append(
        "Each of these was timed in its own way: `spdnn report peers` says how, and has the other "
        f"problems. Published without a table of times: {'; '.join(peers.claims())}."
    )
    return "\n\n".join(parts)


def _newest(results: Sequence[Result]) -> Newest:
    """The newest run of each official problem and configuration of `COLUMNS`."""
    of_machine = [result for result in results if result.path.parent.name == MACHINE]
    ((_, alike),) = runs.by_machine(of_machine).items()  # unlike hardware would be two
    return {
        ((record["neurons"], record["layers"]), runs.configuration(record)): record
        for record in (result.record for result in alike)
        if runs.configuration(record) in COLUMNS
        and record["images"] == problem.IMAGES
        and runs.problem_of(record).data == "official"
    }


def _own(newest: Newest) -> Table:
    columns = [f"`{name}`, {unit}" for name in COLUMNS for unit in ("s", "TeraEdges/s")]
    table = Table("", ["neurons x layers", *columns], [])
    for size in PROBLEMS:
        row = [_label(size)]
        for record in (newest.get((size, name)) for name in COLUMNS):
            row += ["", ""] if record is None else [_seconds(record), _rate(record)]
        table.rows.append(row)
    return table


def _seconds(record: Record) -> str:
    return _plain(runs.seconds(record)) + runs.mark(record)


def _rate(record: Record) -> str:
    return runs.number(record["effective_teraedges_per_s"], DIGITS) + runs.mark(record)


def _plain(value: float) -> str:
    """Few digits, and never an exponent."""
    return np.format_float_positional(float(f"{value:.{DIGITS}g}"), trim="-")


def _label(size: tuple[int, int]) -> str:
    return "{} x {}".format(*size)


def _notes(newest: Newest) -> list[str]:
    records = list(newest.values())
    missing = [f"{name} {_label(size)}" for name in COLUMNS for size in PROBLEMS
               if (size, name) not in newest]  # fmt: skip
    samples = {name: {len(r["timings_s"]["infer"]["samples"]) for (_, other), r in newest.items()
                      if other == name} for name in COLUMNS}  # fmt: skip
    timed = [f"{name} {' or '.join(map(str, sorted(counts)))}" for name, counts in samples.items()]
    truths = sorted({str(r["verified_against"]) for r in records if r["verified"]})
    return [
        runs.EFFECTIVE,
        *runs.notes(records),
        f"Verified against: {', '.join(truths)}.",
        f"Timed runs: {', '.join(timed)}.",
        *([f"Empty cells: no run of {', '.join(missing)}."] if missing else []),
    ]


def _others(kind: str) -> Table:
    """Programs as rows, each with its machine and its source."""
    table = Table("", ["program", "machine", "source", *(f"{_label(s)}, s" for s in DEEPEST)], [])
    for peer in peers.load():
        times = [peer.seconds.get(size) for size in DEEPEST]
        if peer.kind == kind and any(times):
            source = peer.source if peer.date is None else f"{peer.source}, {peer.date}"
            cells = ["" if time is None else _plain(time) for time in times]
            table.rows.append([peer.program, peer.machine, source, *cells])
    return table


def _list(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes).replace("*", "\\*")


def committed() -> list[Result]:
    """The results of `MACHINE` that git knows, oldest first; without git all that are there."""
    results = load_all(Workspace(ROOT / "datasets", ROOT / "results"))
    listed = subprocess.run(
        ["git", "ls-files", "--", "results"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    known = {ROOT / name for name in listed.stdout.splitlines()}
    return [result for result in results if listed.returncode or result.path in known]


def filled(text: str, results: Sequence[Result]) -> str:
    """README with these results in place of what stands there."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{render(results)}\n\n{END}{after}"


def test_results_are_those_of_the_result_files() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == filled(text, committed()), (
        "README's results are behind the result files: run `python tests/test_readme.py`"
    )


def cells_of(text: str) -> dict[str, dict[str, str]]:
    """The first table in a text, by its first column, then by the names of the others."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names, _, *rows = table[: 2 + len(PROBLEMS)]
    return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}


def test_every_number_is_of_a_verified_run() -> None:
    """The table as it stands, against the files as JSON and the challenge's own arithmetic."""
    files = (ROOT / "results" / MACHINE).glob("n*.json")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    cells = cells_of(README.read_text(encoding="utf-8").split(BEGIN)[1])
    assert len(cells) == 12
    filled_in = 0
    for label, row in cells.items():
        neurons, layers = map(int, label.split(" x "))
        edges = 60_000 * 32 * neurons * layers
        for name in COLUMNS:
            seconds, rate = row[f"`{name}`, s"], row[f"`{name}`, TeraEdges/s"]
            assert (seconds == "") == (rate == "")
            if not seconds:
                continue
            medians = [
                record["timings_s"]["infer"]["median"]
                for record in records
                if (record["neurons"], record["layers"], record["images"])
                == (neurons, layers, 60000)
                and record["engine"] == name.split()[0]
                and record["shortcuts"]["finished_images_retired"] == (name == "folded")
                and (record["tile"] is None or record["tile"]["asked"] is None)
                and record["verified"]
            ]
            assert any(median == pytest.approx(float(seconds), rel=0.005) for median in medians)
            assert edges / float(seconds) / 1e12 == pytest.approx(float(rate), rel=0.01)
            filled_in += 1
    assert filled_in > 50


def official(engine: str = "tiled", seconds: float = 2.0, **changes: Any) -> Result:
    """A run of 1024 x 120, all images; `changes` replace entries."""
    infer = {"warmup": [], "samples": [seconds] * 2, "median": seconds}
    rates = {"effective_teraedges_per_s": 0.2359296 / seconds, "verified_against": "a truth"}
    problem_of_it = {"neurons": 1024, "layers": 120, "images": 60000, "timings_s": {"infer": infer}}
    return made(engine, folder=MACHINE, **problem_of_it | rates | changes)


def test_the_newest_run_of_a_configuration_counts() -> None:
    row = cells_of(render([official(seconds=3.0), official(seconds=2.0)]))["1024 x 120"]
    assert (row["`tiled`, s"], row["`tiled`, TeraEdges/s"]) == ("2", "0.118")


def test_small_and_large_numbers_have_no_exponent() -> None:
    row = cells_of(render([official("folded", seconds=8.0963e-5)]))["1024 x 120"]
    assert row["`folded`, s"] == "0.000081"
    row = cells_of(render([official("folded", seconds=81234.5)]))["1024 x 120"]
    assert row["`folded`, s"] == "81200"


def test_a_cell_is_empty_where_there_is_no_run() -> None:
    text = render([official("tiled")])
    row = cells_of(text)["1024 x 120"]
    assert [name for name, cell in row.items() if cell] == ["`tiled`, s", "`tiled`, TeraEdges/s"]
    assert not any(cells_of(text)["1024 x 480"].values())
    assert "no run of folded 1024 x 120, folded 1024 x 480," in text


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 100},
        {"tile": {"asked": "minibatch=12"}},
        {"stream": {"chunks": 2}},
        {"device_memory": 4_000_000_000},
        {"dataset": official().record["dataset"] | {"official_inputs": False}},
        {"launch": official().record["launch"] | {"workers": 2}},
        {"folder": "1x-nvidia-h200"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_runs_do_not_count(changes: dict[str, Any]) -> None:
    folder = changes.pop("folder", MACHINE)
    other = official(seconds=7.0, **changes)
    other = Result(Path("results") / folder / "other.json", other.record)
    assert render([official(), other]) == render([official()])


def test_what_is_not_verified_is_marked() -> None:
    text = render([official("tiled", verified=False), official("folded", difference="1 missing")])
    row = cells_of(text)["1024 x 120"]
    assert row["`tiled`, s"] == "2 \\*"
    assert row["`folded`, s"] == "2 !"
    assert "\\* not verified" in text
    assert "Verified: the categories of every run." not in text


def test_other_programs_have_a_source_and_a_machine() -> None:
    """Published and own measurements are in tables of their own, and no cell is left unnamed."""
    _, *tables = render([official()]).split("**Not this program: ")
    assert [table.split("**")[0] for table in tables] == list(peers.KINDS.values())
    for kind, text in zip(peers.KINDS, tables, strict=True):
        lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line] for line in lines[2:]]
        assert rows
        for program, machine, source, *_ in rows:
            known = [p for p in peers.load() if (p.program, p.machine) == (program, machine)]
            assert [(p.kind, source.startswith(p.source)) for p in known] == [(kind, True)]


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8"), committed()), encoding="utf-8")
