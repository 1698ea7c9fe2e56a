"""Many workers, on real processes: spawned ones, and the ranks of an MPI job."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
from helpers import command as here
from helpers.networks import bit_features, layer_of

from spdnn_cli.network import dataset
from spdnn_cli.network.dataset import write_dataset
from spdnn_cli.network.fold import fold
from spdnn_cli.network.layers import Layer
from spdnn_cli.partition import Partition, share
from spdnn_cli.run.measure import settled_launcher
from spdnn_cli.run.options import RunOptions

NEURONS, IMAGES, LAYERS = 64, 101, 5
MPIEXEC = Path(sys.executable).parent / "mpiexec"
SPDNN = [sys.executable, "-m", "spdnn_cli"]
FOREVER = "1000000000"
WIDE, MARGIN = 1 << 20, 1 << 28
"""A layer so wide that its values do not fit in so many bytes."""
ANOTHER_FILE = """
from spdnn_cli import cli
from spdnn_cli.run import mpi
opened = mpi.open_dataset
mpi.open_dataset = lambda path: opened(path.with_name("other.h5"))
cli.main()
"""

ENDED_EARLY = """
import os, signal
from spdnn_cli import cli
from spdnn_cli.run import mpi
found = mpi.communicator
def communicator():
    world = found()
    os.kill(os.getpid(), signal.SIGTERM)
    return world
mpi.communicator = communicator
cli.main()
"""

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists(),
    reason="mpi4py or the mpich of its wheel is not installed",
)
needs_interrupts = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="interrupts are ignored here, as under nohup, and so they are by spdnn",
)
MPI = pytest.param("mpi", marks=needs_mpi)
MPI_SLOW = pytest.param("mpi", marks=[needs_mpi, pytest.mark.slow])
PROCESSES_SLOW = pytest.param("processes", marks=pytest.mark.slow)
LAUNCHERS = ["processes", MPI]


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


INFER = ["infer", "--dataset", "own.h5", "--device", "cpu", "--threads", "1"]


def command(launcher: str, workers: int, *words: str) -> list[str]:
    if launcher == "mpi":
        return [str(MPIEXEC), "-n", str(workers), *SPDNN, *INFER, *words]
    return [*SPDNN, *INFER, *words, "--workers", str(workers)]


def run(launcher: str, workers: int, *words: str) -> dict[str, Any]:
    whole = [*command(launcher, workers, "--format", "json", "--warmup", "0"), "--repeat", "2"]
    done = subprocess.run([*whole, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def run_alone(*words: str) -> dict[str, Any]:
    """One worker, in this process."""
    done = here.run(*INFER, *words, "--format", "json", "--warmup", "0", "--repeat", "2")
    assert done.code == 0, done.err
    record: dict[str, Any] = done.json()
    return record


def results() -> list[Path]:
    return list(Path("results").glob("local/*/n*.json"))


@pytest.mark.parametrize("partition", ["snake", "contiguous"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 101])
def test_every_image_has_one_rank(size: int, partition: Partition) -> None:
    shares = [share(rank, size, IMAGES, partition) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(IMAGES))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(np.all(np.diff(images) > 0) for images in shares)


def test_images_are_dealt_back_and_forth() -> None:
    assert [share(rank, 3, 10, "snake").tolist() for rank in range(3)] == [
        [0, 5, 6],
        [1, 4, 7],
        [2, 3, 8, 9],
    ]
    assert share(1, 3, 10, "contiguous").tolist() == [3, 4, 5]


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (2, ["--images", "250", "--trace"]),
        (2, ["--engine", "cpu-layered", "--rebalance", "2"]),
        pytest.param(2, ["--engine", "cpu"], marks=pytest.mark.slow),
        pytest.param(
            3,
            ["--engine", "cpu-layered", "--rebalance", "2", "--partition", "contiguous"],
            marks=pytest.mark.slow,
        ),
        pytest.param(2, ["--images", "450"], marks=pytest.mark.slow),
    ],
)
def test_workers_find_what_one_process_finds(launcher: str, workers: int, words: list[str]) -> None:
    broadcast = ["--broadcast"] if launcher == "mpi" and "--trace" in words else []
    alone = run_alone(*words)
    many = run(launcher, workers, *words, *broadcast)
    assert alone["launch"]["launcher"] == "alone"
    assert (many["launch"]["launcher"], many["launch"]["workers"]) == (launcher, workers)
    for name in ("categories_sha256", "survivors", "executed_edges", "edges", "alive"):
        assert many[name] == alone[name]
    assert sum(worker["images"] for worker in many["workers"]) == many["images"]
    assert sum(worker["survivors"] for worker in many["workers"]) == many["survivors"]
    assert many["imbalance"] >= 1
    assert many["launch"]["broadcast"] == bool(broadcast)
    if "--rebalance" in words:
        moved = [worker["rebalanced"] for worker in many["workers"]]
        after = [part["images_after"] for part in moved]
        alive = [images for images, layers in many["alive"] for _ in range(layers)]
        assert sum(part["images_before"] for part in moved) == sum(after) == alive[1]
        assert max(after) - min(after) <= 1
        assert many["launch"]["rebalance_layer"] == 2
    if "--trace" in words:
        assert many["lifetimes_sha256"] == alone["lifetimes_sha256"] is not None


@needs_mpi
@pytest.mark.slow
def test_ranks_with_different_options() -> None:
    one, other = (command("mpi", 1, "--images", str(k))[3:] for k in (50, 60))
    message = failure([str(MPIEXEC), "-n", "1", *one, ":", "-n", "1", *other])
    assert "rank 1 on" in message
    assert "has another set of options than rank 0" in message


def started(
    launcher: str, busy_s: float = 1.0
) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run of two workers that does not end, and its workers in the order of their ranks.

    Each has been busy for `busy_s` seconds.
    """
    whole = command(launcher, 2, "--repeat", FOREVER)
    process = subprocess.Popen(whole, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    parent, end = psutil.Process(process.pid), time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(psutil.Error):  # what starts them may end meanwhile
            workers = [p for p in parent.children(recursive=True) if is_worker(p)]
            if len(workers) == 2 and all(p.cpu_times().user > busy_s for p in workers):
                return process, sorted(workers, key=lambda p: p.pid)
        time.sleep(0.1)
    raise AssertionError("the workers did not start")


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if FOREVER in process.cmdline() or is_worker(process):
                process.kill()


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a spawned process or a rank, and not what starts them."""
    words = process.cmdline()
    return words[:1] == [sys.executable] and ("spawn_main" in " ".join(words) or "infer" in words)


def gone(workers: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(workers, timeout=30)[1]


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (
            "processes",
            "error: worker 1 (cpu) was killed by SIGKILL. The system may have run out of memory; "
            "its log would say so.",
        ),
        # mpich's own words
        pytest.param("mpi", "Killed (signal 9)", marks=[needs_mpi, pytest.mark.slow]),
    ],
)
def test_a_worker_that_is_killed_ends_the_run(launcher: str, message: str) -> None:
    process, workers = started(launcher)
    workers[1].kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert message in out + err
    assert gone(workers)
    assert results() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (
            "processes",
            r"error: worker 1 \(cpu\) did not answer for 1\d s, and was stopped",
        ),
        pytest.param(
            "mpi",
            r"error: rank 0 on \S+: rank 1 did not answer for 1\d s, and all ranks were stopped",
            marks=needs_mpi,
        ),
    ],
)
def test_a_worker_that_hangs_ends_the_run(launcher: str, message: str) -> None:
    process, workers = started(launcher)
    workers[1].suspend()
    _, err = process.communicate(timeout=80)
    assert process.returncode != 0
    assert re.search(message, err), err
    assert gone(workers)
    assert results() == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        pytest.param(
            signal.SIGTERM,
            "error: terminated by SIGTERM. What was written before is whole.",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            signal.SIGINT,
            "error: interrupted. What was written before is whole",
            marks=needs_interrupts,
        ),
    ],
)
def test_a_signal_to_the_parent_ends_all(number: int, message: str) -> None:
    process, workers = started("processes")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in err
    assert gone(workers)
    assert results() == []


@needs_mpi
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=[needs_interrupts, pytest.mark.slow]),
    ],
)
def test_a_signal_to_mpiexec_ends_all(number: int) -> None:
    # Past the compiler, too: what is raised in a function that LLVM calls is lost.
    process, workers = started("mpi", busy_s=4.0)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert gone(workers)
    assert results() == []


@needs_mpi
@pytest.mark.slow
def test_a_rank_that_is_ended_as_soon_as_mpi_has_started_ends_all() -> None:
    one = command("mpi", 1)[3:]
    other = [sys.executable, "-c", ENDED_EARLY, *one[3:]]
    message = failure([str(MPIEXEC), "-n", "1", *one, ":", "-n", "1", *other], timeout=60)
    assert re.search(r"error: rank 1 on \S+: terminated by SIGTERM", message), message


@pytest.mark.parametrize("launcher", ["processes", MPI_SLOW])
def test_workers_end_when_their_parent_is_killed(launcher: str) -> None:
    process, workers = started(launcher)
    process.kill()
    process.wait()
    assert gone(workers)


@pytest.mark.parametrize("launcher", [PROCESSES_SLOW, MPI])
def test_a_worker_that_fails_says_why(launcher: str) -> None:
    message = failure(command(launcher, 3, "--images", "2"))
    assert "3 workers share 2 images" in message
    assert "worker" in message if launcher == "processes" else "rank" in message


@pytest.mark.parametrize("launcher", ["processes", MPI_SLOW])
def test_damage_is_told_by_the_worker_that_reads_it(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "CHUNK_BYTES", 256)
    write(Path("own.h5"), seed=1)
    with h5py.File("own.h5") as file:
        stored = file["features"].id
        last = stored.get_chunk_info(stored.get_num_chunks() - 1)
    with Path("own.h5").open("r+b") as file:
        file.seek(last.byte_offset)
        file.write(bytes(last.size))
    message = failure(command(launcher, 2, "--partition", "contiguous"))
    who = r"worker 1 \(cpu\)" if launcher == "processes" else r"rank 1 on \S+"
    assert re.match(rf"error: {who}: .*own\.h5: is damaged or cut off \(", message), message


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_too_little_memory_is_one_line(launcher: str) -> None:
    process, workers = started(launcher)
    enough = max(worker.memory_info().vms for worker in workers)
    process.kill()
    assert gone(workers)
    wide = np.arange(WIDE)
    layer = Layer.from_edges(NEURONS, WIDE, wide % NEURONS, wide, np.ones(WIDE), 0.0)
    bits = bit_features(np.ones((IMAGES, NEURONS), np.bool_))
    write_dataset(Path("own.h5"), bits, [(0, fold(layer))], 1, 32.0, {"source": "test"})
    message = failure(
        command(launcher, 2, "--engine", "cpu-layered"),
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_AS, (enough + MARGIN, enough + MARGIN)
        ),
    )
    who = r"worker \d \(cpu\)" if launcher == "processes" else r"rank \d on \S+"
    assert re.match(rf"error: {who}: there is too little memory\. Unable to allocate", message)


@needs_mpi
def test_ranks_with_different_datasets() -> None:
    """As on two hosts whose files of the same name differ."""
    write(Path("other.h5"), seed=2)
    one = command("mpi", 1)[3:]
    other = [sys.executable, "-c", ANOTHER_FILE, *one[3:]]
    message = failure([str(MPIEXEC), "-n", "1", *one, ":", "-n", "1", *other])
    assert "own.h5: rank 1 on" in message
    assert "has another network (SHA-256) than rank 0" in message
    assert "Give all ranks the same files and options, or add --broadcast." in message


@needs_mpi
def test_more_ranks_than_gpus(with_gpus: Callable[..., dict[str, str]]) -> None:
    ranks = [str(MPIEXEC), "-n", "2", *SPDNN, "infer", "--dataset", "own.h5", "--device", "cuda"]
    assert "2 ranks run on this host, and it has 1 GPU. " in failure(ranks, env=with_gpus(1))


def failure(words: list[str], **options: Any) -> str:
    """What a run says that fails as it should."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode != 0
    assert results() == []
    return str(done.stderr)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--engine", "cpu"],
            "engine cpu does not move images between workers. Add --engine with one of "
            "cpu-layered, tiled, or leave out --rebalance.",
        ),
        (
            ["--engine", "cpu-layered", "--images", "102"],
            "images that are streamed do not move between workers. Leave out --rebalance.",
        ),
        (
            ["--engine", "cpu-layered", "--layers", "2"],
            "images cannot move after layer 2 of 2. Rebalance after one of the layers 1 to 1.",
        ),
    ],
)
def test_what_cannot_be_rebalanced(words: list[str], message: str) -> None:
    done = here.run(*INFER, "--rebalance", "2", *words)
    assert (done.code, done.err.splitlines()[-1]) == (1, f"error: {message}")
    assert results() == []


@pytest.mark.parametrize(
    ("launcher", "workers", "message"),
    [
        ("alone", ["--workers", "2"], "one process alone cannot be 2 workers. Leave out"),
        ("mpi", ["--workers", "2"], "under MPI each rank is a worker, and runs on one device. "),
    ],
)
def test_a_launcher_that_cannot_be(launcher: str, workers: list[str], message: str) -> None:
    done = here.run("infer", "--dataset", "own.h5", "--launcher", launcher, *workers)
    assert done.code == 1
    assert done.err.startswith(f"error: {message}")


SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_TASKS_PER_NODE": "2"}
STEP = SLURM | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}
SHELL = STEP | {"SLURM_PTY_PORT": "40001"}
TASKS = (
    "This is one of 4 tasks that srun started without MPI: each runs the whole problem by itself. "
    "For ranks of one run: srun --mpi=pmix, or what srun --mpi=list offers.\n"
)


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in the environment that a launcher of MPI sets."""
    prefixes = ("PMI", "OMPI_", "SLURM_", "JSM_", "MV2_", "MPI_")
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        monkeypatch.delenv(name)


ONCE = [*INFER, "--format", "json", "--warmup", "0", "--repeat", "1"]


def launched(settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A run as a launcher starts it that sets `settings`."""
    environment = os.environ | settings
    whole = [*SPDNN, *ONCE, *words]
    return subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SLURM, ""),
        (SLURM | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, ""),
        (SHELL, ""),
        (STEP, TASKS),
        (STEP | {"SLURM_PROCID": "3"}, TASKS),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, ""),
        ({"PMI_SIZE": "4"}, ""),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.7"}, ""),
    ],
    ids=str,
)
def test_what_is_no_rank(
    no_launcher: None, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    """Batch scripts, shells in an allocation, tasks without MPI, jobs of one rank."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    done = here.run(*ONCE)
    assert done.code == 0, done.err
    assert done.json()["launch"]["launcher"] == "alone"
    assert done.err.partition("Result file: ")[0] == said


RANKS = [
    {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"},
    {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "4"},
    STEP | {"PMIX_RANK": "2", "PMIX_NAMESPACE": "slurm.7.0"},
    SHELL | {"PMIX_RANK": "2", "PMIX_NAMESPACE": "slurm.7.1"},
]


@pytest.mark.parametrize("settings", RANKS, ids=str)
def test_what_is_a_rank(
    no_launcher: None, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """--launcher has the last word."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    assert settled_launcher(RunOptions()) == "mpi"
    alone = here.run(*ONCE, "--launcher", "alone")
    assert alone.code == 0, alone.err
    assert alone.json()["launch"]["launcher"] == "alone"


@needs_mpi
@pytest.mark.parametrize(
    "settings",
    [RANKS[0], *(pytest.param(other, marks=pytest.mark.slow) for other in RANKS[1:])],
    ids=str,
)
def test_a_rank_that_finds_no_others(no_launcher: None, settings: dict[str, str]) -> None:
    done = launched(settings)
    assert (done.returncode == 0, done.stdout) == (False, "")
    if "PMIX_RANK" not in settings:  # there MPI itself ends the process: it finds no server
        assert done.stderr.endswith(  # mpi4py may have its say first
            "error: the launcher started 4 ranks, mpi4py sees 1. Its MPI is another one than the "
            "launcher's: install mpi4py for that one, or use its own mpiexec. For a run of this "
            "process alone, add --launcher alone.\n"
        )


@needs_mpi
@pytest.mark.slow
def test_a_rank_that_is_to_start_processes(no_launcher: None) -> None:
    settings = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
    done = launched(settings, "--launcher", "processes", "--workers", "2")
    assert done.returncode == 0, done.stderr
    launch = json.loads(done.stdout)["launch"]
    assert (launch["launcher"], launch["workers"]) == ("processes", 2)


@needs_mpi
@pytest.mark.slow
def test_mpi_that_was_asked_for(no_launcher: None) -> None:
    done = launched({}, "--launcher", "mpi", "--broadcast")
    assert done.returncode == 0, done.stderr
    launch = json.loads(done.stdout)["launch"]
    assert (launch["launcher"], launch["workers"]) == ("mpi", 1)


@pytest.mark.skipif(os.name == "nt", reason="terminals are Unix's")
def test_a_shell_that_srun_started_with_pmi(
    no_launcher: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sits on a terminal; what srun and mpiexec start does not."""
    for name, value in (SHELL | {"PMI_RANK": "0", "PMI_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    master, terminal = os.openpty()
    try:
        with open(terminal) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            done = here.run(*ONCE)
    finally:
        os.close(master)
    assert done.code == 0, done.err
    assert done.json()["launch"]["launcher"] == "alone"


LIMITED_RANK = """
import sys, threading
from spdnn_cli import cli
from spdnn_cli.run import processes

def limited(self):
    raise RuntimeError("can't start new thread")

if __name__ in ("__main__", "__mp_main__"):
    threading.Thread.start = limited
if __name__ == "__main__":
    cli.main()
"""


@pytest.mark.parametrize("launcher", ["processes", MPI_SLOW])
def test_a_worker_that_can_start_no_thread(launcher: str) -> None:
    Path("limited.py").write_text(LIMITED_RANK)
    whole = command(launcher, 2)
    place = whole.index("-m")
    message = failure([*whole[:place], "limited.py", *whole[place + 2 :]])
    who = r"worker \d \(cpu\)" if launcher == "processes" else r"rank \d on \S+"
    assert re.search(rf"error: {who}: no further thread can be started: a limit", message), message
    assert "Traceback" not in message


def test_a_broadcast_without_ranks() -> None:
    message = "error: --broadcast is for MPI, and this process is not a rank of an MPI job.\n"
    done = here.run("infer", "--dataset", "own.h5", "--broadcast")
    assert (done.code, done.err) == (1, message)
