"""README's results are those of the published results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers.pages import README, ROOT
from helpers.records import MACHINE, OFFICIAL, STREAM, UNVERIFIED, WRONG, made

from spdnn_cli import problem
from spdnn_cli.report import published
from spdnn_cli.results.store import Result

NAMES = ("folded", "folded --no-retire", "tiled", "cusparse", "baseline")
PROBLEMS = [(neurons, layers) for neurons in problem.NEURONS for layers in problem.LAYERS]


# ---- README's results


@pytest.fixture(scope="module")
def script() -> Any:
    """scripts/readme_results.py, which writes them."""
    spec = importlib.util.spec_from_file_location(
        "readme_results", ROOT / "scripts" / "readme_results.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_are_those_of_the_result_files(script: Any) -> None:
    text = README.read_text(encoding="utf-8")
    assert text == script.filled(text, script.committed()), (
        "README's results are behind: run `python scripts/readme_results.py`"
    )


def test_the_picture_is_made_by_the_script(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script.draw(script.committed(), tmp_path / "new.svg")
    texts = [
        {"".join(text.itertext()) for text in ElementTree.parse(file).iter() if "text" in text.tag}
        for file in (tmp_path / "new.svg", ROOT / script.PICTURE)
    ]
    assert texts[0] == texts[1]
    assert f"]({script.PICTURE.as_posix()})" in README.read_text(encoding="utf-8")


def cells_of(text: str) -> dict[str, dict[str, str]]:
    """The first table in a text, by its first column, then by the names of the others."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names, _, *rows = table[: 2 + len(PROBLEMS)]
    return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}


UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def test_every_number_is_of_a_run(script: Any) -> None:
    """The table as it stands, against the records as JSON and the challenge's own arithmetic."""
    files = (ROOT / "results" / MACHINE).glob("*.jsonl")
    records = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    cells = cells_of(README.read_text(encoding="utf-8").split(script.BEGIN)[1])
    assert len(cells) == 12
    filled_in = 0
    for label, row in cells.items():
        neurons, layers = map(int, label.split(" x "))
        edges = 60_000 * 32 * neurons * layers
        for name in NAMES:
            time, rate = row[f"`{name}`"], row[f"`{name}`, TeraEdges/s"]
            value, unit, *mark = time.split()
            seconds = float(value) * UNITS[unit]
            medians = [
                record["timings_s"]["infer"]["median"]
                for record in records
                if (record["neurons"], record["layers"], record["images"])
                == (neurons, layers, 60000)
                and record["engine"] == name.split()[0]
                and record["shortcuts"]["finished_images_retired"] == (name == "folded")
                and not record.get("engine_options")
                and record["verification"]["status"]
                == ("count only" if mark == ["\\#"] else "verified")
            ]
            assert any(median == pytest.approx(seconds, rel=0.005) for median in medians)
            assert edges / seconds / 1e12 == pytest.approx(float(rate.split()[0]), rel=0.01)
            filled_in += 1
    assert filled_in == 60


def official(engine: str = "tiled", seconds: float = 2.0, **changes: Any) -> Result:
    """A run of 1024 x 120, all images; `changes` replace entries."""
    return made(engine, seconds, edges=235_929_600_000, **(OFFICIAL | changes))


def test_the_newest_run_of_a_configuration_counts(script: Any) -> None:
    row = cells_of(script.render([official(seconds=3.0), official(seconds=2.0)]))["1024 x 120"]
    assert (row["`tiled`"], row["`tiled`, TeraEdges/s"]) == ("2 s", "0.118")


def test_a_cell_is_empty_where_there_is_no_run(script: Any) -> None:
    text = script.render([official("tiled")])
    row = cells_of(text)["1024 x 120"]
    assert [name for name, cell in row.items() if cell] == ["`tiled`", "`tiled`, TeraEdges/s"]
    assert not any(cells_of(text)["1024 x 480"].values())


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 100},
        {"engine_options": {"tile": "minibatch=12"}},
        {"stream": STREAM},
        {"device_memory": 4_000_000_000},
        {"dataset__official_inputs": False},
        {"launch__workers": 2},
        {"folder": "1x-nvidia-h200"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_runs_do_not_count(script: Any, changes: dict[str, Any]) -> None:
    other = official(seconds=7.0, **changes)
    assert cells_of(script.render([official(), other])) == cells_of(script.render([official()]))


def test_what_is_not_verified_is_marked(script: Any) -> None:
    text = script.render([official("tiled", **UNVERIFIED), official("folded", **WRONG)])
    row = cells_of(text)["1024 x 120"]
    assert row["`tiled`"] == "2 s \\*"
    assert row["`folded`"] == "2 s !"
    assert "\\* not verified." in text
    assert "Verified: the categories of every run." not in text


def test_other_programs_have_a_machine_and_a_source_with_its_address(script: Any) -> None:
    _, text = script.render([official()]).split("**Not this program**")
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines[2:]]
    assert len(rows) > 15
    known = {(p.program, p.machine, p.address) for p in published.peers()}
    for program, machine, source, *_ in rows:
        address = source.rpartition("](")[2].rstrip(")")
        assert (program, machine, address) in known
