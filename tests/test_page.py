"""The HTML page: it parses, holds every cell and note, and needs nothing but itself."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from records import made, on_devices

from spdnn_cli.errors import ResultError
from spdnn_cli.report import page
from spdnn_cli.report.plots import alive, style
from spdnn_cli.report.tables import Table

pytest.importorskip("matplotlib", reason="the page has pictures: pip install 'spdnn[plot]'")

VOID = {"meta", "link", "br", "hr", "img", "input"}
TABLES = [
    Table(
        "Rates <on> one & another machine",
        ["neurons", "engine", "TeraEdges/s"],
        [["1024", "tiled", "2.5"], ["4096", "fol<ded & more", "100 *"], ["16384", "", ""]],
        ["* not verified", "Source: https://example.org/paper"],
    ),
    Table("Steps", ["step", "seconds"], [["staged: " + "a long story " * 5, "0.5"]]),
]


class Page(HTMLParser):
    """The elements, cells and notes of a page; fails where a tag closes what is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def attributes(self, *names: str) -> list[str]:
        return [value or "" for _, has in self.elements for n, value in has.items() if n in names]


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "new" / "page.html"
    results = [made(), made("folded"), on_devices(1, 2.0, "cyclic"), on_devices(2, 1.0, "cyclic")]
    page.write_page(results, TABLES, file)
    assert [path.name for path in file.parent.iterdir()] == ["page.html"]
    return file.read_text(encoding="utf-8")


def test_has_all_cells_titles_and_notes(text: str) -> None:
    parsed = Page(text)
    assert parsed.texts["th"] == [name for table in TABLES for name in table.columns]
    assert parsed.texts["td"] == [cell for table in TABLES for row in table.rows for cell in row]
    assert parsed.texts["h3"][-len(TABLES) :] == [table.title for table in TABLES]
    for note in TABLES[0].notes:
        assert note in parsed.texts["li"]


def test_has_every_picture_with_its_notes(text: str) -> None:
    parsed = Page(text)
    titles = [
        "Throughput by problem and engine",
        "Images alive after each layer",
        "Strong scaling",
        "Roofline: what bounds the engines",
    ]
    assert parsed.texts["h2"] == [*titles, "Tables"]
    panels = [
        "Measured: 1x NVIDIA H100 80GB HBM3",
        "Measured: 8x NVIDIA H200",
        "8 neurons",
        "8 neurons, 4 layers: 8x NVIDIA H200",
        "1x NVIDIA H100 80GB HBM3",
        "8x NVIDIA H200",
    ]
    assert [has["aria-label"] for tag, has in parsed.elements if tag == "svg"] == panels
    assert parsed.texts["h3"][: len(panels)] == panels
    assert "10 images, official; 2026-11-23; every run verified" in parsed.texts["p"]
    machine = "Machine: 8x NVIDIA H200, Intel Xeon, 16 cores; driver 580; 2026-11-23."
    assert machine in parsed.texts["li"]


def test_summary_says_what_the_page_is_of(tmp_path: Path) -> None:
    results = [made(), made("folded", verified=False, created="2026-11-25T01:00:00+00:00")]
    results.append(made("baseline", verified=False, difference="1 missing"))
    page.write_page(results, [], tmp_path / "page.html")
    (summary, *_) = Page((tmp_path / "page.html").read_text()).texts["p"]
    assert summary == (
        "3 runs, 2026-11-23 to 2026-11-25, 1 of them verified, on 1 machine: "
        "1x-nvidia-h100-80gb-hbm3. 1 with wrong categories are not drawn."
    )


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
    letters = {look.colour for look in style.ENGINE_STYLES.values()}
    letters |= {*style.OTHER_COLOURS, style.SPARE_COLOUR, alive.SATURATED, alive.RUNNING}
    weak = {
        colour: (contrast(colour, papers[0]), contrast(style.DARK[colour], papers[1]))
        for colour in letters | {style.INK, style.MUTED}
        if min(contrast(colour, papers[0]), contrast(style.DARK[colour], papers[1])) < 4.5
    }
    assert weak == {}


def test_wide_tables_scroll_in_boxes_of_their_own(text: str) -> None:
    parsed = Page(text)
    boxes = [has for tag, has in parsed.elements if has.get("class") == "scroll"]
    assert len(boxes) == len(TABLES)
    assert all(has["tabindex"] == "0" and has["aria-label"] for has in boxes)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        parsed.elements
    )


def test_columns_of_words_are_set_to_the_left_and_numbers_to_the_right(text: str) -> None:
    parsed = Page(text)
    cells = [has.get("class") for tag, has in parsed.elements if tag in ("th", "td")]
    line = [None, "text", None]
    assert cells == [*line * 4, "text", None, "text long", None]


def test_without_results_or_tables(tmp_path: Path) -> None:
    page.write_page([], [], tmp_path / "page.html")
    parsed = Page((tmp_path / "page.html").read_text())
    assert parsed.texts["p"][0] == "No results."
    assert "h2" not in parsed.texts


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ResultError) as raised:
        page.write_page([made()], TABLES, tmp_path / "page.html")
    assert str(raised.value) == (
        "pictures need matplotlib, which is not installed. Run pip install 'spdnn[plot]'."
    )
    assert list(tmp_path.iterdir()) == []
