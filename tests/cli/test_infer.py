"""`spdnn infer`: what is run, what is written, and which devices there are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.command import QUICK, Spdnn

from spdnn_cli.network.dataset import open_dataset, write_dataset
from spdnn_cli.network.fold import fold
from spdnn_cli.network.layers import Features, Layer


def test_infer_without_data_makes_its_own_and_says_so(empty: Spdnn) -> None:
    outcome = empty("infer", "--images", "100", *QUICK)

    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == (
        "No dataset here: drawing synthetic digits for the official network. "
        "For the official inputs, run: spdnn fetch --neurons 1024"
    )
    assert "1024 neurons, 1920 layers, 100 images" in outcome.out
    assert re.search(r"inputs +│ synthetic ", outcome.out)
    assert re.search(r"network +│ official ", outcome.out)
    assert open_dataset(empty.dataset).provenance["source"] == "synthetic"


@pytest.mark.slow
def test_four_at_once_in_an_empty_folder_give_the_same_verified_answer(empty: Spdnn) -> None:
    words = ["infer", "--threads", "1", "--format", "json", *QUICK]
    started = [empty.start(*words, stderr=subprocess.PIPE) for _ in range(4)]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in started]

    assert [code for _, _, code in ended] == [0] * 4, ended
    records = [json.loads(out) for out, _, _ in ended]
    assert {record["verification"]["status"] for record in records} == {"verified"}
    assert len({record["categories_sha256"] for record in records}) == 1
    assert {Path(record["file"]) for record in records} == set(empty.own_results())
    assert len(empty.own_results()) == 4
    assert empty.list_of(empty.own_results()[0]).exists()
    left = {path.name for path in empty.data.iterdir()}
    assert left <= {"neuron1024.h5", ".neuron1024.h5.lock", "last.json"}


def test_infer_takes_fewer_layers_than_there_are(spdnn: Spdnn) -> None:
    record = spdnn("infer", "--layers", "2", "--format", "json", *QUICK).json()

    assert (record["layers"], record["images"]) == (2, 60_000)
    assert sum(layers for _, layers in record["alive"]) == 2


# ---- what infer writes


def test_infer_json_is_the_result_file(spdnn: Spdnn, result_file: Path) -> None:
    outcome = spdnn("infer", "--format", "json", "--images", "50", *QUICK[:-1], "3")
    record = outcome.json()

    for name in (
        *("neurons", "layers", "images", "engine", "device", "shortcuts", "dataset", "survivors"),
        *("verification", "effective_teraedges_per_s", "executed_edges"),
    ):
        assert name in record
    assert (record["neurons"], record["layers"], record["images"]) == (1024, 3, 50)
    assert (record["device"], record["dataset"]["source"]) == ("cpu", "synthetic")
    assert record["verification"] == {
        "status": "not verified",
        "against": None,
        "difference": None,
    }
    samples = record["timings_s"]["infer"]["samples"]
    assert len(samples) == 3
    assert record["timings_s"]["infer"]["median"] == sorted(samples)[1]
    rate = 50 * 3 * 1024 * 32 / sorted(samples)[1] / 1e12
    assert record["effective_teraedges_per_s"] == pytest.approx(rate)

    (path,) = set(spdnn.own_results()) - {result_file}
    assert outcome.err.endswith(f"Result file: {path}\n")
    assert {"file": str(path)} | json.loads(path.read_text()) == record
    assert path.parent.parent == spdnn.results / "local"
    assert path.stem == record["id"]
    assert set(record["machine"]) >= {"cpu", "cores", "memory_bytes", "gpus", "packages"}
    categories = spdnn.list_of(path).read_bytes()
    assert hashlib.sha256(categories).hexdigest() == record["categories_sha256"]
    assert len(categories.splitlines()) == record["survivors"] > 0


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_result_that_cannot_be_written_after_all_was_printed(
    spdnn: Spdnn, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    before = spdnn.files()
    monkeypatch.setattr(os, "replace", full)
    outcomes = [
        spdnn(*words, "--format", form)
        for words in (["infer", "--images", "10", "--trace", *QUICK], ["verify"])
    ]

    for outcome, shown in zip(
        outcomes, ["effective_teraedges" if form == "json" else "TeraEdges/s", "erified"],
        strict=True,
    ):  # fmt: skip
        assert outcome.code == 1
        assert shown.lower() in outcome.out.lower()
        assert outcome.err.endswith(
            ": cannot be written (No space left on device). Is there room on the disk?\n"
        )
    assert spdnn.files() == before


# ---- devices


@pytest.mark.parametrize(
    ("present", "words", "message"),
    [
        (
            0,
            ["--gpus", "6"],
            "6 GPUs were asked for, this machine has 0. "
            "Leave out --gpus to use the best device present.",
        ),
        (
            2,
            ["--gpus", "6"],
            "6 GPUs were asked for, this machine has 2. "
            "Leave out --gpus to use the best device present.",
        ),
        (0, ["--device", "cuda"], "there is no NVIDIA GPU on this machine. Use --device cpu."),
    ],
)
def test_devices_that_are_not_there(
    empty: Spdnn,
    with_gpus: Callable[..., dict[str, str]],
    present: int,
    words: list[str],
    message: str,
) -> None:
    process = empty.start("infer", *words, stderr=subprocess.PIPE, env=with_gpus(present))
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err.decode()) == (1, b"", f"error: {message}\n")
    assert empty.files() == set()


def test_a_device_that_is_named_twice(
    empty: Spdnn, with_gpus: Callable[..., dict[str, str]]
) -> None:
    environment = with_gpus(2) | {"CUDA_VISIBLE_DEVICES": "1,GPU-1"}
    process = empty.start("infer", "--gpus", "2", stderr=subprocess.PIPE, env=environment)
    out, err = process.communicate(timeout=60)

    message = "CUDA_VISIBLE_DEVICES=1,GPU-1 names the device GPU-1 twice. Name each device once."
    assert (process.returncode, out, err.decode()) == (1, b"", f"error: {message}\n")
    assert empty.files() == set()


def test_engine_on_a_device_that_is_not_its_own(spdnn: Spdnn) -> None:
    assert spdnn.fails("infer", "--engine", "tiled", "--device", "cpu") == (
        "engine tiled runs on cuda, not on cpu. "
        "Leave out --device, or choose one of reference, cpu-layered, cpu."
    )


def test_more_layers_than_converted_names_the_command_that_helps(spdnn: Spdnn) -> None:
    message = spdnn.fails("infer", "--layers", "4")

    assert message == (
        f"{spdnn.dataset}: has 3 layers, 4 were asked for. "
        "Run: spdnn convert --neurons 1024 --layers 4"
    )
    assert spdnn(*message.partition("spdnn ")[2].split()).code == 0
    assert spdnn("infer", "--layers", "4", "--images", "10", *QUICK).code == 0


def test_more_images_than_there_are_come_again(spdnn: Spdnn) -> None:
    once = spdnn("infer", *QUICK, "--format", "json").json()
    again = spdnn("infer", *QUICK, "--images", "120000", "--format", "json").json()
    assert again["survivors"] == 2 * once["survivors"]
    assert again["edges"] == 2 * once["edges"]
    assert again["stream"]["bytes"] == 120_000 * 128
    assert again["stream"]["bus_share"] is None


def test_dataset_of_ones_own(spdnn: Spdnn, tmp_path: Path) -> None:
    """It may lie anywhere and hold anything; `verify` finds it again."""
    path = tmp_path / "own.h5"
    layer = Layer.from_edges(
        3, 3, np.array([0, 1]), np.array([1, 2]), np.array([1.0, 1.0], np.float32), -0.5
    )
    inputs = Features(np.array([[1, 0, 0], [0, 0, 9], [0, 2, 0]], np.float32), 3)
    write_dataset(path, inputs, [(0, fold(layer))], 1, 32.0, {})

    inferred = spdnn("infer", "--dataset", "own.h5", "--format", "json", *QUICK)
    record = inferred.json()
    assert (record["neurons"], record["images"], record["survivors"]) == (3, 3, 2)
    assert (record["dataset"]["source"], record["dataset"]["file"]) == ("unknown", str(path))
    verified = spdnn("verify")
    assert verified.code == 0
    assert "2 categories: VERIFIED against the reference engine (float64)" in verified.out

    streamed = spdnn("infer", "--dataset", "own.h5", "--images", "8", "--format", "json", *QUICK)
    assert streamed.json()["survivors"] == 5  # two passes, and two images of a third
    again = spdnn("verify", "--format", "json").json()
    assert again["verification"]["status"] == "verified"
    assert spdnn.list_of(Path(again["file"])).read_text() == "1\n3\n"  # of the first pass


def test_dataset_that_is_not_there(empty: Spdnn) -> None:
    assert empty.fails("infer", "--dataset", "own.h5") == (
        "own.h5: there is no such file. Run spdnn convert to make the dataset."
    )
