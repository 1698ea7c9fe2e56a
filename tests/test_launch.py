"""Many workers, on real processes: spawned ones, and the ranks of an MPI job."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from networks import bit_features, layer_of

from spdnn_cli.dataset import write_dataset
from spdnn_cli.fold import fold
from spdnn_cli.worker import share

NEURONS, IMAGES, LAYERS = 64, 101, 5
MPIEXEC = Path(sys.executable).parent / "mpiexec"
SPDNN = [sys.executable, "-m", "spdnn_cli"]
FOREVER = "1000000000"

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists(),
    reason="mpi4py or the mpich of its wheel is not installed",
)
LAUNCHERS = ["processes", pytest.param("mpi", marks=needs_mpi)]


@pytest.fixture(autouse=True)
def own_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with own.h5: layers in which some images die."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own.h5", seed=1)
    return tmp_path


def write(path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    layers = []
    for k in range(LAYERS):
        matrix = (random.random((NEURONS, NEURONS)) < 0.1) * 0.25
        layers.append((k, fold(layer_of(matrix, bias=-0.25))))
    bits = random.random((IMAGES, NEURONS)) < random.random((IMAGES, 1))
    write_dataset(path, bit_features(bits), layers, LAYERS, 32.0, {"source": "test"})


def command(launcher: str, workers: int, *words: str) -> list[str]:
    infer = ["infer", "--dataset", "own.h5", "--device", "cpu", "--threads", "1", *words]
    if launcher == "mpi":
        return [str(MPIEXEC), "-n", str(workers), *SPDNN, *infer]
    return [*SPDNN, *infer, "--workers", str(workers)]


def run(launcher: str, workers: int, *words: str) -> dict[str, Any]:
    whole = [*command(launcher, workers, "--format", "json", "--warmup", "0"), "--repeat", "2"]
    done = subprocess.run([*whole, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def results() -> list[Path]:
    return list(Path("results").glob("*/n*.json"))


@pytest.mark.parametrize("partition", ["cyclic", "contiguous"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 101])
def test_every_image_has_one_rank(size: int, partition: str) -> None:
    shares = [share(rank, size, IMAGES, partition) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(IMAGES))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(np.all(np.diff(images) > 0) for images in shares)


def test_images_are_dealt_to_and_fro() -> None:
    assert [share(rank, 3, 10, "cyclic").tolist() for rank in range(3)] == [
        [0, 5, 6],
        [1, 4, 7],
        [2, 3, 8, 9],
    ]
    assert share(1, 3, 10, "contiguous").tolist() == [3, 4, 5]


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (2, ["--engine", "cpu"]),
        (3, ["--engine", "cpu-layered", "--partition", "contiguous"]),
        (3, ["--images", "250", "--trace"]),
    ],
)
def test_workers_find_what_one_process_finds(launcher: str, workers: int, words: list[str]) -> None:
    alone = run("processes", 1, *words)
    many = run(launcher, workers, *words)
    assert alone["launch"]["launcher"] == "alone"
    assert (many["launch"]["launcher"], many["launch"]["workers"]) == (launcher, workers)
    for name in ("categories_sha256", "survivors", "executed_edges", "edges", "alive"):
        assert many[name] == alone[name]
    assert sum(worker["images"] for worker in many["workers"]) == many["images"]
    assert sum(worker["survivors"] for worker in many["workers"]) == many["survivors"]
    assert many["imbalance"] >= 1
    if "--trace" in words:
        one, other = (np.load(path) for path in Path("results").glob("*/*-lifetimes.npy"))
        np.testing.assert_array_equal(one, other)


@needs_mpi
def test_broadcast() -> None:
    assert run("mpi", 2, "--broadcast")["launch"]["broadcast"]


@needs_mpi
def test_ranks_with_different_options() -> None:
    one, other = (command("mpi", 1, "--images", str(k))[3:] for k in (50, 60))
    done = subprocess.run(
        [str(MPIEXEC), "-n", "1", *one, ":", "-n", "1", *other],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "rank 1 on" in done.stderr
    assert "has another set of options than rank 0" in done.stderr
    assert results() == []


def started(launcher: str, *words: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run of two workers that does not end, and its workers in the order of their ranks."""
    whole = command(launcher, 2, "--repeat", FOREVER, *words)
    process = subprocess.Popen(whole, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    parent, end = psutil.Process(process.pid), time.monotonic() + 60
    while time.monotonic() < end:
        workers = [p for p in parent.children(recursive=True) if is_worker(p)]
        if len(workers) == 2 and all(p.cpu_times().user > 1.0 for p in workers):
            return process, sorted(workers, key=lambda p: p.pid)
        time.sleep(0.1)
    raise AssertionError("the workers did not start")


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a spawned process or a rank, and not what starts them."""
    words = process.cmdline()
    return words[:1] == [sys.executable] and ("spawn_main" in " ".join(words) or "infer" in words)


def gone(workers: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(workers, timeout=10)[1]


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (
            "processes",
            "error: worker 1 (cpu) was killed by SIGKILL. The system may have run out of memory; "
            "its log would say so.",
        ),
        pytest.param("mpi", "Killed (signal 9)", marks=needs_mpi),  # mpich's own words
    ],
)
def test_a_worker_that_is_killed_ends_the_run(launcher: str, message: str) -> None:
    process, workers = started(launcher)
    workers[1].kill()
    out, err = process.communicate(timeout=20)
    assert process.returncode != 0
    assert message in out + err
    assert gone(workers)
    assert results() == []


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (
            "processes",
            r"error: worker 1 \(cpu\) has given no sign of life for 1\d s, and was ended",
        ),
        pytest.param(
            "mpi",
            r"error: rank 0 on \S+: rank 1 has given no sign of life for 1\d s, and all are ended",
            marks=needs_mpi,
        ),
    ],
)
def test_a_worker_that_hangs_ends_the_run(launcher: str, message: str) -> None:
    process, workers = started(launcher)
    workers[1].suspend()
    _, err = process.communicate(timeout=40)
    assert process.returncode != 0
    assert re.search(message, err), err
    assert gone(workers)
    assert results() == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGTERM, "error: terminated by SIGTERM. What was written before is whole."),
        (signal.SIGINT, "error: interrupted. What was written before is whole"),
    ],
)
def test_a_signal_to_the_parent_ends_all(number: int, message: str) -> None:
    process, workers = started("processes")
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert message in err
    assert gone(workers)
    assert results() == []


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_mpiexec_ends_all(number: int) -> None:
    process, workers = started("mpi")
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert gone(workers)
    assert results() == []


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_workers_end_when_their_parent_is_killed(launcher: str) -> None:
    process, workers = started(launcher)
    process.kill()
    process.wait()
    assert gone(workers)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_worker_that_fails_says_why(launcher: str) -> None:
    whole = command(launcher, 3, "--images", "2")
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "3 workers share 2 images" in done.stderr
    assert "worker" in done.stderr if launcher == "processes" else "rank" in done.stderr
    assert results() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "99"], "error: 99 GPUs were asked for, this machine has"),
        (["--broadcast"], "error: --broadcast is for MPI, and this is no rank of an MPI job."),
    ],
)
def test_what_cannot_be_asked_for(words: list[str], message: str) -> None:
    whole = [*SPDNN, "infer", "--dataset", "own.h5", *words]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[: len(message)]) == (1, message)
