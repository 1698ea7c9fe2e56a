"""`spdnn report`: what it prints, and what lies among the results and is none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.command import QUICK, Spdnn


def test_report_without_results(empty: Spdnn) -> None:
    assert empty.fails("report") == (
        f"there is no result below {empty.results}. Run spdnn infer first."
    )


def test_report_is_a_row_a_problem_and_a_column_an_engine(spdnn: Spdnn, result_file: Path) -> None:
    for words in (["--layers", "2"], ["--layers", "2", "--engine", "reference"]):
        assert spdnn("infer", "--images", "200", "--threads", "1", *words, *QUICK).code == 0

    table = spdnn("report", "throughput", "--format", "json").json()[0]
    shown = spdnn("report", "throughput").out

    assert table["title"] == f"TeraEdges/s (effective) on {result_file.parent.name}"
    assert [(row["layers"], row["images"], row["data"]) for row in table["rows"]] == [
        (2, 200, "synthetic"),
        (3, 200, "synthetic"),
    ]
    both, alone = table["rows"]
    assert both["cpu (1 thread)"] > 0
    assert both["reference (1 thread)"] > 0
    assert alone["reference (1 thread)"] is None
    assert table["marks"][0] == {"cpu (1 thread)": "*", "reference (1 thread)": "*"}
    for text in (table["title"], f"{both['cpu (1 thread)']:.4g} *", "* not verified."):
        assert text in shown


def put_bytes(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


STRANGERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "AppleDouble": (
        "._n1024-l3-cpu.json",
        put_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X \xb0"),
        "cannot be read as a result (it is not text)",
    ),
    "empty": (
        "n1024.json",
        put_bytes(b""),
        "is not a result of spdnn (Input data was truncated)",
    ),
    "notes": (
        "notes.json",
        put_bytes(b'{"bought": "milk"}'),
        "is not a result of spdnn (`$.schema_version` is missing)",
    ),
    "list": (
        "list.json",
        put_bytes(b"[1, 2]"),
        "is not a result of spdnn (Expected `object`, got `array`)",
    ),
    "newer": (
        "newer.json",
        put_bytes(b'{"schema_version": 99}'),
        "is not a result of spdnn (schema version 99; this program reads 3. Update spdnn)",
    ),
    "deep": (
        "deep.json",
        put_bytes(b'{"schema_version": 3, "id": ' + b"[" * 100_000),
        "is not a result of spdnn (maximum recursion depth exceeded while deserializing an object)",
    ),
    "folder": ("zz.json", Path.mkdir, "is no file"),
    "pipe": ("pipe.json", os.mkfifo, "is no file"),
    "loop": (
        "loop.json",
        lambda path: path.symlink_to(path.name),
        "cannot be read as a result (Too many levels of symbolic links)",
    ),
    "dangling": (
        "dangling.json",
        lambda path: path.symlink_to("gone"),
        "cannot be read as a result (No such file or directory)",
    ),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_file_that_is_no_result_is_named_and_left_out(
    spdnn: Spdnn, result_file: Path, kind: str
) -> None:
    name, put, what = STRANGERS[kind]
    assert spdnn("verify").code == 0  # notes in the result that it is right
    wanted = {
        words: spdnn(*words)
        for words in (
            ("report",),
            ("report", "throughput", "--format", "json"),
            ("report", "compare", str(spdnn.results), str(spdnn.results)),
            ("verify",),
        )
    }
    put(result_file.with_name(name))
    warning = f"Warning: {result_file.with_name(name)}: {what}. It is left out.\n"

    for words, before in wanted.items():
        after = spdnn(*words)
        times = 2 if "compare" in words else 1
        assert (after.code, after.out) == (0, before.out)
        assert after.err == before.err.replace("Running", warning + "Running", 1) or (
            after.err == warning * times + before.err
        )
    assert spdnn("infer", "--images", "10", *QUICK).code == 0
    assert spdnn.machine() == result_file.parent.name


def test_a_file_that_is_named_must_be_a_result(spdnn: Spdnn, result_file: Path) -> None:
    notes = result_file.with_name("notes.json")
    notes.write_text("{}")

    for words in (["verify", notes], ["report", "compare", result_file, notes]):
        assert spdnn.fails(*words) == (
            f"{notes}: is not a result of spdnn (`$.schema_version` is missing)."
        )


def test_only_files_that_are_no_results(spdnn: Spdnn, result_file: Path) -> None:
    result_file.write_text("")

    assert (
        spdnn.fails("report") == f"there is no result below {spdnn.results}. Run spdnn infer first."
    )


def test_a_folder_that_cannot_be_listed_is_named(
    spdnn: Spdnn, result_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir
    private = spdnn.results / "private"
    private.mkdir()

    def iterdir(path: Path) -> Iterator[Path]:
        if path == private:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    for words in (["report"], ["report", "compare", spdnn.results, spdnn.results]):
        outcome = spdnn(*words)
        assert outcome.code == 0
        line = f"Warning: {private}: cannot be read (Permission denied). It is left out.\n"
        assert outcome.err.replace(line, "") == ""
        assert line in outcome.err
