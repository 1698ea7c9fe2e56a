"""The HTML page: it parses, holds every cell and note, and needs nothing but itself."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from helpers.page import Page
from helpers.records import OFFICIAL, UNVERIFIED, WRONG, made, on_devices
from helpers.tables import texts

from spdnn_cli.engines.registry import ENGINES, EngineEntry
from spdnn_cli.errors import ResultError
from spdnn_cli.report import page
from spdnn_cli.report.all import all_tables
from spdnn_cli.report.plots import alive, style
from spdnn_cli.report.tables import for_readers
from spdnn_cli.results.store import Result

pytest.importorskip("matplotlib", reason="the page has pictures: pip install 'spdnn[plot]'")

CPU = "Intel <Xeon> & more"


def results() -> list[Result]:
    """Of two machines, one of them with several devices, one with a name to be escaped."""
    deepest = OFFICIAL | {"layers": 1920}
    return [
        *(made(engine, 0.01, **deepest) for engine in ("tiled", "folded", "baseline")),
        *(made(engine, 0.02, **(deepest | {"neurons": 4096})) for engine in ("tiled", "folded")),
        on_devices(1, 2.0),
        on_devices(2, 1.0),
        made("cpu", machine__cpu=CPU, folder="a-laptop"),
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "new" / "page.html"
    page.write_page(results(), file)
    assert [path.name for path in file.parent.iterdir()] == ["page.html"]
    return file.read_text(encoding="utf-8")


def test_opens_with_the_summary_and_the_papers_tables(text: str) -> None:
    parsed = Page(text)
    assert parsed.texts["li"][0] == "8 runs of 4 engines, 2026-11-23: 8 verified."
    assert parsed.texts["h2"] == [
        "The paper's tables",
        "The paper, other programs, and this one",
        "Strong scaling: more devices, the same images",
        "Throughput by problem and engine",
        "Images alive after each layer",
        "Roofline: what bounds the engines",
        "Tables",
    ]
    assert [title.partition(":")[0] for title in parsed.texts["h3"][:3]] == [
        *("Table I", "One GPU", "Table II"),
    ]


def test_has_all_cells_titles_and_notes(text: str) -> None:
    parsed = Page(text)
    tables = [for_readers(table) for table in all_tables(results()) if not table.is_long]
    assert parsed.texts["th"] == [name for table in tables for name in table.columns]
    assert parsed.texts["td"] == [cell for table in tables for row in texts(table) for cell in row]
    assert [title for table in tables if (title := table.title) not in parsed.texts["h3"]] == []
    said = {note for table in tables for note in table.notes}
    assert said - set(parsed.texts["li"]) == set()
    assert any(CPU in note for note in said)


def test_has_every_picture_with_its_notes(text: str) -> None:
    parsed = Page(text)
    panels = [
        "1920 layers, all 60,000 images",
        "8 neurons, 4 layers: 8x NVIDIA H200",
        "Measured: 1x NVIDIA H100 80GB HBM3",
        *("8 neurons", "1024 neurons", "4096 neurons"),
        "1x NVIDIA H100 80GB HBM3",
    ]
    assert [has["aria-label"] for tag, has in parsed.elements if tag == "svg"] == panels
    assert [title for title in parsed.texts["h3"] if title in panels] == panels
    assert "10 images, official; 2026-11-23; every run verified" in parsed.texts["p"]
    machine = "Machine: 8x NVIDIA H200, Intel Xeon, 16 cores; driver 580; 2026-11-23."
    assert machine in parsed.texts["li"]


def test_what_is_wrong_is_counted_and_not_drawn(tmp_path: Path) -> None:
    some = [made(), made("folded", **UNVERIFIED), made("baseline", **WRONG)]
    page.write_page(some, tmp_path / "page.html")
    parsed = Page((tmp_path / "page.html").read_text())
    assert parsed.texts["li"][0] == (
        "3 runs of 3 engines, 2026-11-23: 1 verified, 1 not verified, 1 WRONG."
    )
    assert "Not drawn: 1 of 3 results, whose categories are WRONG." in parsed.texts["li"]


def test_refers_to_nothing_outside_and_has_no_script(text: str) -> None:
    parsed = Page(text)
    assert not {tag for tag, _ in parsed.elements} & {"script", "link", "img", "iframe", "object"}
    assert not [name for _, has in parsed.elements for name in has if name.startswith("on")]
    references = parsed.attributes("href", "src", "xlink:href", "srcset", "action")
    assert references
    assert all(reference.startswith("#") for reference in references)
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))
    assert "@import" not in text


def test_ids_are_unique_where_something_refers_to_them(text: str) -> None:
    parsed = Page(text)
    ids = parsed.attributes("id")
    wanted = [r[1:] for r in parsed.attributes("href")] + re.findall(r"url\(#(.*?)\)", text)
    assert {name: ids.count(name) for name in wanted} == dict.fromkeys(wanted, 1)


def test_colours_of_pictures_are_the_pages_in_light_and_dark(text: str) -> None:
    head, body = text.split("</style>", 1)
    assert not re.findall(r"#[0-9a-f]{6}\b", body)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    light, dark = re.findall(r":root \{ (.*?) \}", head)
    for scheme in (light, dark):
        assert used <= set(re.findall(r"--[\w-]+", scheme))
    assert "prefers-color-scheme: dark" in head


def test_every_colour_is_told_apart_from_its_paper() -> None:
    """At least 4.5 to 1 for letters and marks, as WCAG 2 asks for text."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(one: str, other: str) -> float:
        low, high = sorted([luminance(one), luminance(other)])
        return (high + 0.05) / (low + 0.05)

    papers = style.PAPER, style.DARK[style.PAPER]
    letters = {entry.colour for entry in ENGINES.values()} | {EngineEntry("own", "cpu", "").colour}
    letters |= {alive.SATURATED, alive.RUNNING}
    weak = {
        colour: (contrast(colour, papers[0]), contrast(style.DARK[colour], papers[1]))
        for colour in letters | {style.INK, style.MUTED}
        if min(contrast(colour, papers[0]), contrast(style.DARK[colour], papers[1])) < 4.5
    }
    assert weak == {}


def test_wide_tables_scroll_in_boxes_of_their_own(text: str) -> None:
    parsed = Page(text)
    boxes = [has for tag, has in parsed.elements if has.get("class") == "scroll"]
    assert len(boxes) == len(parsed.texts["table"])
    assert all(has["tabindex"] == "0" and has["aria-label"] for has in boxes)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        parsed.elements
    )


def test_columns_of_words_are_set_to_the_left_and_numbers_to_the_right(text: str) -> None:
    parsed = Page(text)
    cells = [has.get("class") for tag, has in parsed.elements if tag in ("th", "td")]
    table_1 = all_tables(results())[0]
    line = [None, None, "text", *[None] * (len(table_1.columns) - 3)]
    assert cells[: len(line) * 3] == line * 3
    assert "text long" in cells  # a step of the kernels


def test_without_results(tmp_path: Path) -> None:
    page.write_page([], tmp_path / "page.html")
    parsed = Page((tmp_path / "page.html").read_text())
    assert parsed.texts["p"][0] == "No results."
    assert "h2" not in parsed.texts


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ResultError) as raised:
        page.write_page([made()], tmp_path / "page.html")
    assert str(raised.value) == (
        "pictures need matplotlib, which is not installed. Run pip install 'spdnn[plot]'."
    )
    assert list(tmp_path.iterdir()) == []
