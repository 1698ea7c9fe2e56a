"""Result files: what is written beside what, older versions, whose machine a folder is."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spdnn_cli.errors import ResultError
from spdnn_cli.results import store as result
from spdnn_cli.results.store import Result, load, load_all, save, wobble
from spdnn_cli.run.truth import categories_sha256
from spdnn_cli.workspace import Workspace

ROOT = Path(__file__).parents[1]
CATEGORIES = np.array([0, 2], np.int32)

VERSION_1: dict[str, Any] = {
    "schema_version": 1,
    "created": "2026-11-23T00:40:33.911+00:00",
    "program": "spdnn 0.1.0",
    "command": ["spdnn", "infer", "--neurons", "1024", "--layers", "120", "--engine", "folded"],
    "neurons": 1024,
    "layers": 120,
    "images": 3,
    "engine": "folded",
    "engine_reason": "asked for",
    "device": "cuda",
    "threads": 16,
    "device_memory": None,
    "shortcuts": {
        "dead_images_dropped": True,
        "twins_folded": True,
        "finished_images_retired": True,
    },
    "dataset": {
        "source": "mnist",
        "file": "neuron1024.h5",
        "official_inputs": True,
        "official_network": True,
        "features_sha256": "69f3",
        "network_sha256": "caf0",
    },
    "survivors": 2,
    "categories_sha256": categories_sha256(CATEGORIES),
    "verified": True,
    "verified_against": "the official categories (SHA-256)",
    "difference": None,
    "timings_s": {
        "read": 0.1,
        "prepare": 0.25,
        "compile": 0.8,
        "upload": 0.007,
        "gather": 0.0,
        "infer": {"warmup": [2.0, 1.0], "samples": [1.0, 1.25, 1.5], "median": 1.25},
        "end_to_end": 3.0,
    },
    "edges": 11796480,
    "effective_teraedges_per_s": 9.437184e-6,
    "executed_edges": 5000,
    "executed_teraedges_per_s": 4e-9,
    "alive": [3, 2],
    "machine": {
        "cpu": "Intel(R) Xeon(R) Processor",
        "cores": 16,
        "memory_bytes": 100_000,
        "gpus": [{"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-c", "driver": "580.1"}],
        "system": "Linux 6.18",
        "python": "3.12.3",
        "packages": {"numpy": "2.5.2"},
        "git": None,
    },
    "peak_memory_bytes": 562909184,
}
"""As version 0.1.0 of the program wrote them, in fewer images."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "datasets", tmp_path / "results")


def written(path: Path, record: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def upgraded(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return load(written(tmp_path / "old.json", VERSION_1 | changes)).record


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A record as `infer` makes it now: it has no version, which `save` adds."""
    made = copy.deepcopy(upgraded(tmp_path))
    del made["schema_version"]
    return made


# ---- versions


def test_version_1_loads_as_version_2(tmp_path: Path) -> None:
    record = upgraded(tmp_path)

    assert record["schema_version"] == 2
    assert record["launch"] == {
        "launcher": "alone",
        "workers": 1,
        "partition": "contiguous",
        "rebalance_layer": None,
        "broadcast": False,
    }
    assert record["workers"] == [
        {
            "rank": 0,
            "host": None,
            "device": "cuda",
            "device_index": 0,
            "device_name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-c",
            "threads": 16,
            "images": 3,
            "survivors": 2,
            "executed_edges": 5000,
            "timings_s": {k: v for k, v in VERSION_1["timings_s"].items() if k != "end_to_end"},
            "rebalanced": None,
            "clocks": None,
            "peak_memory_bytes": 562909184,
        }
    ]
    assert record["imbalance"] == 1.0
    assert record["options"] == {"warmup": 2, "repeat": 3}
    assert record["machine"] == VERSION_1["machine"] | {"cuda": None}
    assert [record[name] for name in ("stream", "tile", "lifetimes")] == [None] * 3
    changed = ("schema_version", "machine")
    for name in VERSION_1.keys() - set(changed):
        assert record[name] == VERSION_1[name], name


def test_version_1_on_a_cpu(tmp_path: Path) -> None:
    (worker,) = upgraded(tmp_path, device="cpu")["workers"]

    assert (worker["device"], worker["device_index"], worker["uuid"]) == ("cpu", None, None)
    assert worker["device_name"] == "Intel(R) Xeon(R) Processor"


def test_noting_a_verification_leaves_an_old_file_old(tmp_path: Path) -> None:
    path = written(tmp_path / "old.json", VERSION_1)

    result.update(load(path), {"verified": False})

    assert json.loads(path.read_text()) == VERSION_1 | {"verified": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 3}, "has schema version 3; this program reads up to 2. Update spdnn."),
        ({"schema_version": "1"}, "is not a result of spdnn."),
        (
            {"schema_version": 2},
            "is a result without launch, workers, imbalance, options, stream, lifetimes.",
        ),
        ({"machine": {}}, "is a damaged result (KeyError: 'gpus')."),
        ({"timings_s": 3}, "is a damaged result (TypeError: 'int' object is not subscriptable)."),
    ],
)
def test_what_is_no_result_of_these_versions(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path / "odd.json", VERSION_1 | changes)

    with pytest.raises(ResultError) as error:
        load(path)

    assert str(error.value) == f"{path}: {message}"


def test_the_results_that_come_with_the_program_load() -> None:
    results = load_all(Workspace(ROOT / "datasets", ROOT / "results"))

    assert len(results) >= 12
    assert all(found.record["verified"] for found in results)


# ---- what lies beside a result


def test_a_result_and_its_lifetimes(workspace: Workspace, record: dict[str, Any]) -> None:
    lifetimes = np.array([120, 0, 7], np.uint16)

    path = save(workspace, "machine", record, CATEGORIES, lifetimes)

    found = load(path)
    assert re.fullmatch(r"n1024-l120-folded-\d{8}T\d{9}\.json", path.name)
    assert found.record == {"schema_version": 2, **record}
    assert record["lifetimes"] == {"file": f"{path.stem}-lifetimes.npy"}
    np.testing.assert_array_equal(found.lifetimes(), lifetimes)
    assert found.lifetimes().dtype == np.uint16
    np.testing.assert_array_equal(found.categories(), CATEGORIES)
    assert {file.name for file in path.parent.iterdir()} == {
        path.name,
        f"{path.stem}-categories.tsv",
        f"{path.stem}-lifetimes.npy",
        "machine.json",
    }


def test_a_result_without_lifetimes(workspace: Workspace, record: dict[str, Any]) -> None:
    path = save(workspace, "machine", record, CATEGORIES)

    assert record["lifetimes"] is None
    with pytest.raises(ResultError) as error:
        load(path).lifetimes()
    assert str(error.value) == f"{path}: has no lifetimes of its images. Run: spdnn infer --trace"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "the lifetimes cannot be read (No such file or directory)."),
        (np.zeros(2, np.uint16), "holds uint16 (2,), the result has uint16 (3,)."),
        (np.zeros(3, np.int64), "holds int64 (3,), the result has uint16 (3,)."),
    ],
    ids=["gone", "too short", "another type"],
)
def test_lifetimes_that_are_not_the_results(
    workspace: Workspace, record: dict[str, Any], array: Any, message: str
) -> None:
    path = save(workspace, "machine", record, CATEGORIES, np.zeros(3, np.uint16))
    file = path.with_name(f"{path.stem}-lifetimes.npy")
    file.unlink()
    if array is not None:
        np.save(file, array)

    with pytest.raises(ResultError) as error:
        load(path).lifetimes()
    assert str(error.value) == f"{file}: {message}"


def test_lifetimes_that_are_no_array(workspace: Workspace, record: dict[str, Any]) -> None:
    path = save(workspace, "machine", record, CATEGORIES, np.zeros(3, np.uint16))
    path.with_name(f"{path.stem}-lifetimes.npy").write_text("0 0 0\n")

    with pytest.raises(ResultError, match=r"-lifetimes.npy: the lifetimes cannot be read \("):
        load(path).lifetimes()


def test_machine_file_and_bench_notes_are_no_results(
    workspace: Workspace, record: dict[str, Any]
) -> None:
    path = save(workspace, "machine", record, CATEGORIES)
    (path.parent / "bench-smoke.json").write_text("{}")

    assert [found.path for found in load_all(workspace)] == [path]


# ---- whose machine a folder is


def test_the_machine_file_says_what_its_results_share(
    workspace: Workspace, record: dict[str, Any]
) -> None:
    path = save(workspace, "machine", record, CATEGORIES)

    assert json.loads((path.parent / "machine.json").read_text()) == {
        "cpu": "Intel(R) Xeon(R) Processor",
        "cores": 16,
        "memory_bytes": 100_000,
        "gpus": ["NVIDIA H100 80GB HBM3"],
    }


def changed(record: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return record | {"machine": record["machine"] | machine}


H100, H200 = ({"name": f"NVIDIA {name}", "uuid": "GPU-d", "driver": "1"} for name in ("H100", "H2"))


@pytest.mark.parametrize(
    "machine",
    [
        {"cpu": "AMD EPYC"},
        {"cores": 8},
        {"memory_bytes": 103_000},
        {"gpus": [H200]},
        {"gpus": [H100, H100]},
    ],
    ids=str,
)
def test_unlike_machines_of_one_name_have_folders_of_their_own(
    workspace: Workspace, record: dict[str, Any], machine: dict[str, Any]
) -> None:
    other, third = changed(record, **machine), changed(record, cpu="a third")

    folders = [
        save(workspace, "machine", one, CATEGORIES).parent.name
        for one in (record, other, record, other, third)
    ]

    assert folders == ["machine", "machine-2", "machine", "machine-2", "machine-3"]


@pytest.mark.parametrize(
    "machine",
    [
        {"memory_bytes": 101_000},
        {"gpus": [{"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-z", "driver": "999"}]},
        {"system": "Linux 7", "python": "3.14", "packages": {}, "git": "abc"},
    ],
    ids=str,
)
def test_what_may_differ_within_a_folder(
    workspace: Workspace, record: dict[str, Any], machine: dict[str, Any]
) -> None:
    save(workspace, "machine", record, CATEGORIES)

    assert save(workspace, "machine", changed(record, **machine), CATEGORIES).parent.name == (
        "machine"
    )


def test_gpus_do_not_tell_results_of_a_cpu_apart(
    workspace: Workspace, record: dict[str, Any]
) -> None:
    on_cpu = record | {"device": "cpu"}
    save(workspace, "cpu", on_cpu, CATEGORIES)

    assert save(workspace, "cpu", changed(on_cpu, gpus=[]), CATEGORIES).parent.name == "cpu"


def test_a_folder_without_a_machine_file_is_that_of_its_results(
    workspace: Workspace, record: dict[str, Any]
) -> None:
    written(workspace.results_dir / "machine" / "old.json", VERSION_1)

    other = save(workspace, "machine", changed(record, cores=2), CATEGORIES)
    same = save(workspace, "machine", record, CATEGORIES)

    assert (other.parent.name, same.parent.name) == ("machine-2", "machine")
    assert (same.parent / "machine.json").exists()


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"memory_bytes": "x"}'])
def test_a_machine_file_that_cannot_be_read_is_nobodys(
    workspace: Workspace, record: dict[str, Any], text: str
) -> None:
    path = save(workspace, "machine", record, CATEGORIES)
    (path.parent / "machine.json").write_text(text)

    assert save(workspace, "machine", record, CATEGORIES).parent.name == "machine-2"
    assert (path.parent / "machine.json").read_text() == text


# ---- samples


def sampled(*samples: float) -> dict[str, Any]:
    return {"timings_s": {"infer": {"samples": list(samples)}}}


def test_samples_that_wobble_are_warned_about() -> None:
    # From 1.9 to 2.3 around 2: 0.4 / 2 = 20 %.
    assert wobble(sampled(2.0, 1.9, 2.3)) == (
        "the samples wobble: 1.9 to 2.3 s, 20% of the median (warned from 10%)"
    )
    assert wobble(sampled(10.0, 10.0, 11.0)) is not None  # 10 %
    assert wobble(sampled(10.0, 10.0, 10.9)) is None  # 9 %
    assert wobble(sampled(3.0)) is None


# ---- the page


def names_in(value: Any) -> set[str]:
    """Every key of a record, at any depth; not those of `packages` and `files`, which are names."""
    found: set[str] = set()
    for key, inner in value.items() if isinstance(value, dict) else ():
        found |= {key} if key in ("packages", "files") else {key} | names_in(inner)
    for inner in value if isinstance(value, list) else ():
        found |= names_in(inner)
    return found


def test_the_page_names_every_field() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)`", page))
    results: list[Result] = load_all(Workspace(ROOT / "datasets", ROOT / "results"))

    assert set().union(*(names_in(found.record) for found in results)) - named == set()
