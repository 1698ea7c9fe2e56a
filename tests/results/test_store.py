"""Where results are: own runs, kept runs, lists once by checksum; what is no result is named."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.places import ROOT
from helpers.records import made

from spdnn_cli.errors import ResultError
from spdnn_cli.results.record import Gpu, Record, Status, Verification, encode
from spdnn_cli.results.store import Result, Store, categories_sha256, only, read
from spdnn_cli.run.truth import check_list

CATEGORIES = np.array([0, 4, 7], np.int32)
LIFETIMES = np.arange(1, 11, dtype=np.uint16)


def saved(store: Store, record: Record | None = None, traced: bool = False) -> Result:
    lifetimes = LIFETIMES if traced else None
    result = store.prepared(record or made().record, "a-machine", CATEGORIES, lifetimes)
    store.save(result, CATEGORIES, lifetimes)
    return result


def test_a_run_of_ones_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = saved(store, traced=True)
    assert result.path == tmp_path / "local" / "a-machine" / f"{result.record.id}.json"
    assert result.record.categories_sha256 == categories_sha256(CATEGORIES)
    (found,) = store.all()
    assert found == result
    np.testing.assert_array_equal(found.categories(), CATEGORIES)
    np.testing.assert_array_equal(found.lifetimes(), LIFETIMES)
    assert found.is_local


def test_a_list_is_stored_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    saved(store)
    saved(store, traced=True)
    assert len(list((tmp_path / "local" / "lists").glob("*.tsv"))) == 1


def test_an_engine_of_ones_own_gives_a_name_for_a_file(tmp_path: Path) -> None:
    record = msgspec.structs.replace(made().record, engine="../my file.py:Class")
    assert saved(Store(tmp_path), record).path.name.startswith("n8-l4-my-file-py-Class-")


def test_find_by_id_or_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = saved(store)
    assert store.find(result.record.id) == store.find(str(result.path)) == store.last() == result
    with pytest.raises(ResultError, match=f"there is no result 'x' below {tmp_path}. List them"):
        store.find("x")


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=f"there is no result below {tmp_path}. Run spdnn infer"):
        Store(tmp_path).last()


# ---- whose machine a folder is


def on_machine(device: str = "cuda", **machine: Any) -> Record:
    """A record of a machine that differs in these entries."""
    record = made(device=device).record
    return msgspec.structs.replace(
        record, machine=msgspec.structs.replace(record.machine, **machine)
    )


def gpu(name: str, uuid: str = "GPU-2", driver: str = "1") -> Gpu:
    return Gpu(name, uuid, driver)


@pytest.mark.parametrize(
    "machine",
    [
        {"cpu": "AMD EPYC"},
        {"cores": 8},
        {"memory_bytes": round(2**36 * 1.03)},
        {"gpus": (gpu("NVIDIA H200"),)},
        {"gpus": (gpu("NVIDIA H100 80GB HBM3"), gpu("NVIDIA H100 80GB HBM3"))},
    ],
    ids=lambda machine: next(iter(machine)),
)
def test_unlike_machines_of_one_name_have_folders_of_their_own(
    tmp_path: Path, machine: dict[str, Any]
) -> None:
    store = Store(tmp_path)
    first, other, third = on_machine(), on_machine(**machine), on_machine(cpu="a third")
    folders = [saved(store, record).machine for record in (first, other, first, other, third)]
    assert folders == ["a-machine", "a-machine-2", "a-machine", "a-machine-2", "a-machine-3"]


@pytest.mark.parametrize(
    "machine",
    [
        {"memory_bytes": round(2**36 * 1.01)},
        {"gpus": (gpu("NVIDIA H100 80GB HBM3", "GPU-9", "999"),)},
        {"system": "Linux 7", "python": "3.14", "packages": {}},
    ],
    ids=["memory", "another card", "software"],
)
def test_what_may_differ_within_a_folder(tmp_path: Path, machine: dict[str, Any]) -> None:
    store = Store(tmp_path)
    folders = {saved(store, record).machine for record in (on_machine(), on_machine(**machine))}
    assert folders == {"a-machine"}


def test_gpus_do_not_tell_results_of_a_cpu_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = on_machine("cpu"), on_machine("cpu", gpus=())
    assert {saved(store, record).machine for record in records} == {"a-machine"}


def test_kept_runs_of_unlike_machines_stay_apart(tmp_path: Path) -> None:
    """Also where the folder of own runs has another number than that of kept ones."""
    store = Store(tmp_path)
    (first,) = store.keep([saved(store, on_machine())])
    (other,) = store.keep([saved(store, on_machine(cores=8))])
    assert (first.machine, other.machine) == ("a-machine", "a-machine-2")


# ---- kept runs


def test_kept_runs_are_lines_of_a_suite(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = [saved(store, traced=k == 0) for k in range(3)]
    kept = store.keep(runs[:2], "suite")
    assert {result.path for result in kept} == {tmp_path / "a-machine" / "suite.jsonl"}
    assert len(kept[0].path.read_text().splitlines()) == 2
    np.testing.assert_array_equal(kept[0].lifetimes(), LIFETIMES)
    assert not runs[0].path.exists()
    assert [result.record.id for result in store.all()] == [run.record.id for run in runs]
    # The last own run still has its categories, and nobody's lifetimes are left.
    left = sorted(path.suffix for path in (tmp_path / "local" / "lists").iterdir())
    assert left == [".tsv"]
    np.testing.assert_array_equal(store.find(runs[2].record.id).categories(), CATEGORIES)


def test_keeping_again_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (kept,) = store.keep([saved(store)])
    before = kept.path.read_text()
    store.keep([kept])
    assert kept.path.name == "runs.jsonl"
    assert kept.path.read_text() == before


def test_remove_takes_lists_that_nobody_has(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = saved(store), saved(store)
    store.remove([one])
    assert store.all() == [other]
    store.remove([other])
    assert store.all() == []
    assert list((tmp_path / "local" / "lists").iterdir()) == []


def test_update_of_one_line_leaves_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = store.keep([saved(store), saved(store)])
    store.update(kept[0].with_verification(Verification(Status.WRONG, "a truth", "1 missing")))
    statuses = [result.record.status for result in read(kept[0].path)]
    assert statuses == [Status.WRONG, kept[1].record.status]


def damaged(path: Path, name: str) -> Path:
    """A file among the results that is none."""
    file = path / "local" / "a-machine" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("._n1.json", b"\x00\x05\x16\x07\x00\x02Mac OS X"),
        ("empty.json", b""),
        ("notes.json", b'{"to do": []}'),
        ("list.json", b"[1, 2]"),
        ("deep.json", b"[" * 100_000),
        ("lines.jsonl", b"{}\n"),
        ("none.jsonl", b"\n\n"),
        ("latin.json", b"\xff\xfe"),
    ],
)
def test_what_is_no_result_is_named_and_left_out(tmp_path: Path, name: str, content: bytes) -> None:
    warnings: list[str] = []
    store = Store(tmp_path, warnings.append)
    result = saved(store)
    file = damaged(tmp_path, name)
    file.write_bytes(content)
    assert store.all() == [result]
    (warning,) = warnings
    assert warning.startswith(f"Warning: {file}")
    assert warning.endswith("It is left out.")
    with pytest.raises(ResultError):
        only(file)


def test_folders_and_pipes_are_no_results(tmp_path: Path) -> None:
    warnings: list[str] = []
    store = Store(tmp_path, warnings.append)
    result = saved(store)
    damaged(tmp_path, "folder.json").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(damaged(tmp_path, "pipe.json"))
    assert store.all() == [result]
    assert all("is no file" in warning for warning in warnings)


def test_a_damaged_list(tmp_path: Path) -> None:
    result = saved(Store(tmp_path), traced=True)
    lists = tmp_path / "local" / "lists"
    for file in lists.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    for read_list, name in (
        (result.categories, f"{result.record.categories_sha256}.tsv"),
        (result.lifetimes, f"{result.record.lifetimes_sha256}.npy"),
    ):
        with pytest.raises(ResultError) as error:
            read_list()
        assert str(error.value) == (
            f"{lists / name}: is damaged: its checksum is not its name. Run the run again."
        )
        (lists / name).unlink()
        with pytest.raises(ResultError) as error:
            read_list()
        assert str(error.value) == f"{lists / name}: cannot be read (No such file or directory)."


def test_a_run_that_was_not_traced(tmp_path: Path) -> None:
    result = saved(Store(tmp_path))
    with pytest.raises(ResultError) as error:
        result.lifetimes()
    assert str(error.value) == (
        f"{result.path}: {result.record.id} has no lifetimes of its images. "
        "Run: spdnn infer --trace"
    )


def test_a_file_of_several(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = store.keep([saved(store), saved(store)])
    with pytest.raises(ResultError, match=r"holds 2 results\. Name one: spdnn results lists them"):
        only(kept[0].path)
    file = tmp_path / "bad.jsonl"
    file.write_text(encode(kept[0].record) + "\n{}\n")
    with pytest.raises(ResultError, match=r"bad.jsonl, line 2: is not a result of spdnn"):
        read(file)


def test_files_are_tracked_by_git_only_when_kept(tmp_path: Path) -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "results/local/" in ignored
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("results/local/\n")
    store = Store(tmp_path / "results")
    saved(store)
    store.keep([saved(store)])
    status = ["git", "-C", str(tmp_path), "status", "--porcelain", "-uall"]
    listed = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    assert "local" not in listed
    assert "results/a-machine/runs.jsonl" in listed


def test_the_results_that_come_with_the_program() -> None:
    warnings: list[str] = []
    results = [r for r in Store(ROOT / "results", warnings.append).all() if not r.is_local]
    assert len(results) >= 100
    assert [warning for warning in warnings if "local" not in warning] == []
    assert {result.record.status for result in results} <= {Status.VERIFIED, Status.COUNT_ONLY}
    for result in results:
        record = result.record
        of_pass = min(record.images, record.dataset.images)
        check_list(result.categories(), record.survivors, record.images, of_pass, result.path)
        if record.lifetimes_sha256 is not None:
            assert len(result.lifetimes()) == of_pass
