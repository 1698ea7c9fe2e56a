"""`spdnn results`: list, show, keep and remove; files among the results that are none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import Spdnn
from helpers.records import COUNT_ONLY, UNVERIFIED, WRONG, made

from spdnn_cli import sources
from spdnn_cli.results.store import Result, Store

MACHINE = "a-machine"


def saved(spdnn: Spdnn, categories: tuple[int, ...] = (0, 4, 7), **changes: Any) -> Result:
    """A run of one's own."""
    store, listed = Store(spdnn.results), np.array(categories, np.int32)
    result = store.prepared(made(**changes).record, MACHINE, listed)
    store.save(result, listed)
    return result


def git(checkout: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(checkout), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@dataclass(frozen=True)
class Checkout:
    """A repository with one commit of a program, and that program's checksum."""

    folder: Path
    program: dict[str, str]

    @property
    def commit(self) -> str:
        return git(self.folder, "rev-parse", "HEAD")[:12]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A small program stands for this one, which may change while tests run."""
    folder = tmp_path / "checkout"
    for name in ("spdnn_cli/__init__.py", "kernels/one.cu"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    monkeypatch.setattr(sources, "PACKAGE", folder / "spdnn_cli")
    checksum = sources.sources_sha256.__wrapped__()
    return Checkout(folder, {"program__sources_sha256": checksum})


# ---- list


@pytest.mark.parametrize("words", [["results"], ["results", "list"]], ids=" ".join)
def test_a_line_a_result_the_newest_last(empty: Spdnn, words: list[str]) -> None:
    later = saved(empty, engine="folded", seconds=2.0, created="2026-11-24T10:00:00+00:00")
    first = saved(empty, engine="cpu", seconds=0.25, threads=1, **UNVERIFIED)
    (kept,) = Store(empty.results).keep(
        [saved(empty, created="2026-11-25T10:00:00+00:00", suite="paper", **COUNT_ONLY)]
    )

    listed = empty(*words)

    assert (listed.code, listed.err) == (0, "")
    problem = "8 x 4, 10 images"
    on_cpu, on_gpu = f"{first.machine}  {problem}", f"{later.machine}  {problem}"
    assert listed.out.splitlines() == [
        f"{first.record.id}  {on_cpu}  cpu (1 thread)  250 ms  not verified  own",
        f"{later.record.id}  {on_gpu}  folded  2 s  verified  own",
        f"{kept.record.id}  {MACHINE}  {problem}  tiled  1 s  count only  kept in paper",
    ]


def test_of_one_suite(empty: Spdnn) -> None:
    saved(empty)
    of_suite = saved(empty, suite="paper")

    listed = empty("results", "list", "--suite", "paper")

    assert [line.split()[0] for line in listed.out.splitlines()] == [of_suite.record.id]
    assert empty.fails("results", "list", "--suite", "smoke") == (
        f"there is no result of suite smoke below {empty.results}. Run: spdnn bench smoke"
    )


@pytest.mark.parametrize("words", [[], ["list"], ["keep"]], ids=str)
def test_no_results(empty: Spdnn, words: list[str]) -> None:
    assert empty.fails("results", *words) == (
        f"there is no result below {empty.results}. Run spdnn infer first."
    )


# ---- show


def test_show_as_a_table(spdnn: Spdnn, result_file: Path) -> None:
    shown = spdnn("results", "show", result_file.stem)

    assert (shown.code, shown.err) == (0, "")
    assert "1024 neurons, 3 layers, 200 images" in shown.out
    assert "not verified: no answer is stored for this problem" in shown.out
    assert spdnn("results", "show", result_file) == shown, "by its file"


def test_show_as_json_is_the_record_with_its_file(spdnn: Spdnn, result_file: Path) -> None:
    shown = spdnn("results", "show", result_file.stem, "--format", "json").json()

    assert shown == {"file": str(result_file)} | json.loads(result_file.read_text())


def test_show_one_of_several_that_were_kept(empty: Spdnn) -> None:
    kept = Store(empty.results).keep([saved(empty), saved(empty)])

    shown = empty("results", "show", kept[1].record.id, "--format", "json").json()

    assert (shown["id"], shown["file"]) == (kept[1].record.id, str(kept[1].path))
    assert empty.fails("results", "show", kept[0].path) == (
        f"{kept[0].path}: holds 2 results. Name one: spdnn results lists them."
    )


@pytest.mark.parametrize("command", ["show", "keep", "remove"])
def test_a_result_that_is_not_there(empty: Spdnn, command: str) -> None:
    saved(empty)

    assert empty.fails("results", command, "n8") == (
        f"there is no result 'n8' below {empty.results}. List them: spdnn results"
    )
    assert empty.fails("results", command, "gone.json") == (
        "gone.json: cannot be read as a result (No such file or directory)."
    )


# ---- keep


def test_keep_moves_own_runs_to_the_files_of_their_suites(empty: Spdnn, checkout: Checkout) -> None:
    alone = saved(empty, **checkout.program)
    of_suite = saved(empty, (1, 2), suite="paper", **COUNT_ONLY, **checkout.program)
    lists = {path.name for path in (empty.results / "local" / "lists").iterdir()}

    kept = empty("results", "keep", "--checkout", checkout.folder)

    folder = empty.results / MACHINE
    assert (kept.code, kept.err) == (0, "")
    assert kept.out.splitlines() == [
        f"{alone.record.id}  {folder}/runs.jsonl  commit {checkout.commit}",
        f"{of_suite.record.id}  {folder}/paper.jsonl  commit {checkout.commit}",
    ]
    assert empty.own_results() == []
    for result, name in ((alone, "runs"), (of_suite, "paper")):
        (line,) = (folder / f"{name}.jsonl").read_text().splitlines()
        assert json.loads(line)["id"] == result.record.id
    assert {path.name for path in (empty.results / "lists").iterdir()} == lists
    assert list((empty.results / "local" / "lists").iterdir()) == []
    assert empty("results", "show", alone.record.id).code == 0
    assert empty.fails("results", "keep", "--checkout", checkout.folder) == (
        f"there is nothing to keep below {empty.results / 'local'}. "
        "Run spdnn infer or spdnn bench first."
    )


def test_keep_some_into_a_file(
    empty: Spdnn, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id, by_file, of_suite, other = (
        saved(empty, suite=suite, **checkout.program) for suite in (None, None, "a", "b")
    )
    some = [by_id.record.id, by_file.path, "--into", "mine"]

    named = empty("results", "keep", *some, "--checkout", checkout.folder)
    monkeypatch.chdir(checkout.folder)  # where the program is looked for
    suite = empty("results", "keep", "--suite", "a")

    assert (named.code, suite.code) == (0, 0)
    folder = empty.results / MACHINE
    assert len((folder / "mine.jsonl").read_text().splitlines()) == 2
    assert suite.out == f"{of_suite.record.id}  {folder}/a.jsonl  commit {checkout.commit}\n"
    assert {path.name for path in folder.iterdir()} == {"mine.jsonl", "a.jsonl"}
    assert empty.own_results() == [other.path]


@pytest.mark.parametrize(
    ("status", "words"), [(UNVERIFIED, "not verified"), (WRONG, "wrong")], ids=["none", "wrong"]
)
def test_keep_refuses_what_is_not_verified_and_moves_nothing(
    empty: Spdnn, checkout: Checkout, status: dict[str, str], words: str
) -> None:
    saved(empty, **checkout.program)
    result = saved(empty, **status, **checkout.program)
    before = empty.files()

    assert empty.fails("results", "keep", "--checkout", checkout.folder) == (
        f"{result.path}: {result.record.id} cannot be kept: its categories are {words}. "
        f"Run: spdnn verify {result.record.id}"
    )
    assert empty.files() == before


@pytest.mark.parametrize("checksum", [None, "0" * 64], ids=["unknown", "another"])
def test_keep_refuses_what_no_commit_has_made(
    empty: Spdnn, checkout: Checkout, checksum: str | None
) -> None:
    saved(empty, **checkout.program)
    result = saved(empty, program__sources_sha256=checksum)
    before = empty.files()

    assert empty.fails("results", "keep", "--checkout", checkout.folder) == (
        f"{result.path}: {result.record.id} cannot be kept: no commit of {checkout.folder} has the "
        "sources of the program that made it. Commit the program's changes, and run it again; or "
        "name its repository with --checkout."
    )
    assert empty.files() == before


def test_keep_refuses_a_program_that_was_changed_and_not_committed(
    empty: Spdnn, checkout: Checkout
) -> None:
    (checkout.folder / "kernels" / "one.cu").write_text("// changed")
    result = saved(empty, program__sources_sha256=sources.sources_sha256.__wrapped__())

    message = empty.fails("results", "keep", "--checkout", checkout.folder)

    assert f"{result.record.id} cannot be kept: no commit of {checkout.folder} has" in message


def test_keep_where_there_is_no_repository(empty: Spdnn, tmp_path: Path) -> None:
    saved(empty, program__sources_sha256="0" * 64)
    nowhere = tmp_path / "nowhere"

    message = empty.fails("results", "keep", "--checkout", nowhere)

    assert f"cannot be kept: no commit of {nowhere} has the sources" in message


# ---- remove


def test_remove_by_id_or_file(empty: Spdnn) -> None:
    by_id, by_file, left = saved(empty), saved(empty), saved(empty)

    removed = empty("results", "remove", by_id.record.id, by_file.path)

    assert (removed.code, removed.err) == (0, "")
    assert removed.out == f"{by_id.record.id}  removed\n{by_file.record.id}  removed\n"
    assert empty.own_results() == [left.path]
    assert left.categories().tolist() == [0, 4, 7]


def test_remove_one_that_was_kept(empty: Spdnn) -> None:
    first, second = Store(empty.results).keep([saved(empty), saved(empty, (1, 2))])

    assert empty("results", "remove", first.record.id).code == 0

    (line,) = second.path.read_text().splitlines()
    assert json.loads(line)["id"] == second.record.id
    assert [path.stem for path in (empty.results / "lists").iterdir()] == [
        second.record.categories_sha256
    ]


def test_named_twice_is_removed_once(empty: Spdnn) -> None:
    result = saved(empty)

    removed = empty("results", "remove", result.record.id, result.path)

    assert (removed.code, removed.out) == (0, f"{result.record.id}  removed\n")


def test_remove_needs_a_name(empty: Spdnn) -> None:
    saved(empty)
    before = empty.files()

    outcome = empty("results", "remove")

    assert outcome.code == 2
    assert outcome.err.endswith("Error: Missing argument 'RESULT...'.\n")
    assert empty.files() == before


# ---- what is no result


def without_workers(record: dict[str, Any]) -> None:
    del record["launch"]["workers"]


def without_samples(record: dict[str, Any]) -> None:
    record["timings_s"]["infer"]["samples"] = []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (without_workers, "`$.launch.workers` is missing"),
        (
            without_samples,
            "Expected `array` of length >= 1 - at `$.timings_s.infer.samples`",
        ),
        (lambda record: record.update(neurons=None), "Expected `int`, got `null` - at `$.neurons`"),
        (
            lambda record: record.update(schema_version=2),
            "schema version 2; this program reads 3. Run it again with this version",
        ),
        (
            lambda record: record.update(schema_version=4),
            "schema version 4; this program reads 3. Update spdnn",
        ),
    ],
    ids=["no workers", "no samples", "no number", "older", "newer"],
)
def test_a_record_that_is_wrong_is_named_with_the_place(
    empty: Spdnn, change: Callable[[dict[str, Any]], None], what: str
) -> None:
    good, bad = saved(empty), saved(empty)
    record = json.loads(bad.path.read_text())
    change(record)
    bad.path.write_text(json.dumps(record))

    line = f"{bad.path}: is not a result of spdnn ({what})."
    for command in (["results", "show", bad.path], ["verify", bad.path]):
        assert empty.fails(*command) == line
    listed = empty("results")
    assert listed.err == f"Warning: {line} It is left out.\n"
    assert [text.split()[0] for text in listed.out.splitlines()] == [good.record.id]


def test_a_line_that_is_wrong_is_named_with_its_number(empty: Spdnn) -> None:
    kept = Store(empty.results).keep([saved(empty), saved(empty)])
    own = saved(empty)
    first, second = kept[0].path.read_text().splitlines()
    record = json.loads(second)
    without_workers(record)
    kept[0].path.write_text(f"{first}\n{json.dumps(record)}\n")

    listed = empty("results")

    assert listed.err == (
        f"Warning: {kept[0].path}, line 2: is not a result of spdnn "
        "(`$.launch.workers` is missing). It is left out.\n"
    )
    assert [line.split()[0] for line in listed.out.splitlines()] == [own.record.id]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": "3"}', "\x00"])
def test_a_file_that_is_no_record(empty: Spdnn, text: str) -> None:
    path = saved(empty).path
    path.write_text(text)

    assert empty.fails("results", "show", path).startswith(f"{path}: is not a result of spdnn (")
    assert empty.fails("results") == (
        f"there is no result below {empty.results}. Run spdnn infer first."
    )
