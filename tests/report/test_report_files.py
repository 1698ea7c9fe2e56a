"""`spdnn report --plot FILE --html FILE` as a user meets it: the files, messages and exit codes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.command import Outcome, run
from helpers.page import Page
from helpers.records import OFFICIAL, UNVERIFIED, made, on_devices, traced, written

pytest.importorskip("matplotlib", reason="pictures need matplotlib: pip install 'spdnn[plot]'")

SVG = "http://www.w3.org/2000/svg"
TITLES = [
    "The paper, other programs, and this one",
    "Strong scaling: more devices, the same images",
    "Throughput by problem and engine",
    "Images alive after each layer",
    "Roofline: what bounds the engines",
]
DEEP = OFFICIAL | {"layers": 1920}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that fill every table and picture: of a GPU, of eight, and of a CPU; one traced."""
    root = tmp_path_factory.mktemp("results")
    for engine in ("baseline", "tiled", "folded"):
        for size in (OFFICIAL, DEEP, DEEP | {"neurons": 4096}):
            written(made(engine, **size), root)
    written(made("tiled", **UNVERIFIED), root)
    for neurons in (8, 16):
        written(made("cpu", neurons=neurons, folder="a-laptop"), root)
    saturating = made("folded", neurons=16, folder="another")
    traced(saturating, root, [2, 3, 4, 1, 1, 1, 1, 1, 3, 3], [0, 1, 2])
    traced(on_devices(1, 8.0), root, [4] * 8 + [1, 1], [0, 1, 2])
    for count in (2, 4):
        written(on_devices(count, 8.8 / count), root)
    return root


@pytest.fixture
def report(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `spdnn report` on the results, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run_it(*words: str) -> Outcome:
        return run("--results-dir", results, "report", *words)

    return run_it


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def svg_words(file: Path) -> list[str]:
    texts = ElementTree.parse(file).getroot().iter(f"{{{SVG}}}text")
    return ["".join(text.itertext()).strip() for text in texts]


# ---- what is written


def test_both_files_are_written_and_named_and_the_tables_still_printed(
    report: Any, tmp_path: Path
) -> None:
    plain = report("--format", "plain")
    outcome = report("--plot", "all.svg", "--html", "page.html", "--format", "plain")
    assert (outcome.code, outcome.out) == (0, plain.out)
    assert outcome.err.splitlines() == ["Pictures: all.svg", "Page: page.html"]
    assert set(contents(tmp_path)) == {"all.svg", "page.html"}


def test_svg_has_titles_labels_and_units_as_text(report: Any, tmp_path: Path) -> None:
    assert report("--plot", "all.svg").code == 0
    found = svg_words(tmp_path / "all.svg")
    assert [title for title in TITLES if title not in found] == []
    wanted = {
        *("tiled", "folded", "baseline", "1024", "120", "layers", "neurons"),
        *("TeraEdges/s, effective", "TeraEdges/s, executed", "layers done", "images"),
        *("devices", "saturated for good", "still running", "paper, 768 V100"),
        *("SNICIT, H100 80GB HBM3", "Measured: Intel Xeon, 16 cores"),
    }
    assert wanted - set(found) == set()
    joined = " ".join(found)
    for said in ("2026-11-23", "every run verified", "not verified", "Machine: "):
        assert said in joined


def test_png_has_signature_and_ends_whole(report: Any, tmp_path: Path) -> None:
    assert report("--plot", "ALL.PNG").code == 0
    data = (tmp_path / "ALL.PNG").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data[12:16] == b"IHDR"
    assert data[-8:-4] == b"IEND"


def test_same_results_same_files(report: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert report("--plot", f"{name}.svg", "--html", f"{name}.html").code == 0
    files = contents(tmp_path)
    assert files["a.svg"] == files["b.svg"]
    assert files["a.html"] == files["b.html"]


def test_folders_that_do_not_exist_are_made(report: Any, tmp_path: Path) -> None:
    assert report("--plot", "new/one/all.svg", "--html", "new/two/page.html").code == 0
    assert set(contents(tmp_path)) == {"new/one/all.svg", "new/two/page.html"}


# ---- the page


def test_page_has_the_tables_for_readers(report: Any, tmp_path: Path) -> None:
    outcome = report("--html", "page.html", "--format", "json")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    tables = [table for table in outcome.json() if ": projected, on" not in table["title"]]
    kinds = {table["table"] for table in tables}
    assert kinds == {"paper", "throughput", "machines", "kernels", "scaling", "peers", "cpu"}
    assert [title for table in tables if (title := table["title"]) not in page.texts["h3"]] == []
    hidden = {"engine", "workers", "threads a worker", "partition", "launcher"}
    heads = [
        name
        for table in tables
        for name in table["rows"][0]
        if table["table"] != "cpu" or name not in hidden
    ]
    assert page.texts["th"] == heads
    said = {note for table in tables for note in table["notes"]}
    assert said - set(page.texts["li"]) == set()


def test_page_needs_nothing_but_itself(report: Any, tmp_path: Path) -> None:
    assert report("--html", "page.html").code == 0
    text = (tmp_path / "page.html").read_text("utf-8")
    page = Page(text)
    assert page.texts["h2"] == ["The paper's tables", *TITLES, "Tables"]
    assert sum(tag == "svg" for tag, _ in page.elements) >= len(TITLES)
    outside = {"script", "link", "img", "image", "iframe", "object", "embed", "video", "source"}
    assert {tag for tag, _ in page.elements} & outside == set()
    targets = page.attributes("href", "src", "srcset", "data", "action", "poster")
    targets += re.findall(r"url\(\s*['\"]?([^)'\"]*)", text)
    assert [target for target in targets if not target.startswith("#")] == []
    assert "@import" not in text


def test_page_escapes_what_results_say(results: Path, report: Any, tmp_path: Path) -> None:
    evil = written(made("cpu", folder="evil", machine__cpu="<b>Xeon</b> & more"), results)
    try:
        assert report("--html", "page.html").code == 0
    finally:
        evil.path.unlink()
    text = (tmp_path / "page.html").read_text("utf-8")
    Page(text)
    assert "<b>" not in text
    assert "<b>Xeon</b> & more" in unescape(text)


def test_names_may_be_of_any_script(report: Any, tmp_path: Path) -> None:
    assert report("--plot", "Bilder für 图.svg", "--html", "Seite 图.html").code == 0
    assert set(contents(tmp_path)) == {"Bilder für 图.svg", "Seite 图.html"}


# ---- what goes wrong


def failed(outcome: Outcome) -> str:
    """The one line of a command that failed as it should."""
    assert (outcome.code, outcome.out) == (1, "")
    (line,) = outcome.err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", ["all.pdf", "all", "svg"])
def test_another_suffix_is_an_error_before_anything_is_written(
    report: Any, tmp_path: Path, name: str
) -> None:
    line = failed(report("--plot", name, "--html", "page.html"))
    suffix = Path(name).suffix or "a file without suffix"
    assert line == (
        f"error: {name}: pictures are written as SVG or PNG, not as {suffix}. "
        "Name the file .svg or .png."
    )
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("option", ["--plot", "--html"])
def test_a_folder_in_place_of_a_file_is_a_usage_error(
    report: Any, tmp_path: Path, option: str
) -> None:
    (tmp_path / "all.svg").mkdir()
    outcome = report(option, "all.svg")
    assert outcome.code == 2
    assert "'all.svg' is a directory" in outcome.err


@pytest.mark.parametrize("words", [["--plot", "file/all.svg"], ["--html", "file/page.html"]])
def test_a_file_in_place_of_a_folder_is_an_error(
    report: Any, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    line = failed(report(*words))
    assert line.startswith(f"error: {words[1]}: cannot be written (")
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("option", ["--plot", "--html"])
def test_files_go_with_report_alone(report: Any, tmp_path: Path, option: str) -> None:
    outcome = report(option, "all.svg", "throughput")
    assert outcome.code == 2
    assert "--plot and --html go with spdnn report alone" in outcome.err
    assert contents(tmp_path) == {}


def test_pictures_and_page_are_two_files(report: Any) -> None:
    outcome = report("--plot", "all.svg", "--html", "all.svg")
    assert outcome.code == 2
    assert "--plot and --html name the same file" in outcome.err
    assert not Path("all.svg").exists()


@pytest.mark.parametrize("words", [["--plot", "all.svg"], ["--html", "page.html"]])
def test_without_results_nothing_is_written(tmp_path: Path, words: list[str]) -> None:
    option, name = words
    line = failed(run("--results-dir", tmp_path / "none", "report", option, tmp_path / name))
    assert line == f"error: there is no result below {tmp_path / 'none'}. Run spdnn infer first."
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("words", [["--plot", "all.svg"], ["--html", "page.html"]])
def test_without_matplotlib_the_error_names_the_extra(
    report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert failed(report(*words)) == (
        "error: pictures need matplotlib, which is not installed. Run pip install 'spdnn[plot]'."
    )
    assert contents(tmp_path) == {}


def test_tables_need_no_matplotlib(report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report().code == 0


# ---- never a half file


@pytest.mark.parametrize("words", [["--plot", "all.png"], ["--html", "page.html"]])
def test_an_interrupt_leaves_what_was_there(
    report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / words[1]).write_text("old")
    rename, aside = os.replace, []

    def interrupted(part: Path, path: Path) -> None:
        if path != Path(words[1]):
            return rename(part, path)
        aside.append(part.stat().st_size)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    assert failed(report(*words)).startswith("error: interrupted.")
    assert aside[0] > 1000  # it was written, aside
    assert contents(tmp_path) == {words[1]: b"old"}


LIMITED = """
import resource, sys
from spdnn_cli import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
@pytest.mark.parametrize("words", [["--plot", "all.svg"], ["--html", "page.html"]])
def test_a_write_that_fails_half_way_leaves_what_was_there(
    results: Path, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / words[1]).write_text("old")
    command = [sys.executable, "-c", LIMITED, "--results-dir", str(results), "report", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {words[1]}: cannot be written (File too large). "
        "Is there a limit on the size of files (ulimit -f)?\n"
    )
    assert contents(tmp_path) == {words[1]: b"old"}


def test_a_picture_is_not_all_white(report: Any, tmp_path: Path) -> None:
    from matplotlib.image import imread

    assert report("--plot", "all.png").code == 0
    image = imread(io.BytesIO((tmp_path / "all.png").read_bytes()))
    inked = np.any(image[..., :3] < 0.9, axis=-1)
    height = inked.shape[0]
    for part in range(4):  # there is something in each quarter
        assert inked[part * height // 4 : (part + 1) * height // 4].mean() > 0.002
