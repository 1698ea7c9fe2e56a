"""What machines are like: their GPUs and drivers, cores and containers, clocks and limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import bit_features, layer_of

from spdnn_cli import cores, machine
from spdnn_cli.network.dataset import write_dataset
from spdnn_cli.network.fold import fold

SPDNN = [sys.executable, "-m", "spdnn_cli"]
INFER = ["infer", "--dataset", "own.h5", "--warmup", "0", "--repeat", "1", "--format", "json"]
LISTS = """
import json, sys
from spdnn_cli import errors, nvidia
try:
    print(json.dumps([gpu.uuid for gpu in nvidia.gpus()]))
except errors.DeviceError as error:
    print(json.dumps(str(error)))
"""
CARDS = [
    {"name": "NVIDIA A", "uuid": "GPU-9a10"},
    {"name": "NVIDIA B", "uuid": "GPU-9a20"},
    {
        "name": "NVIDIA C",
        "uuid": "GPU-77",
        "mig": [
            {"name": "NVIDIA C MIG 1g", "uuid": "MIG-abc", "place": "7/0"},
            {"name": "NVIDIA C MIG 2g", "uuid": "MIG-abd", "place": "3/1"},
        ],
    },
]

Environment = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def own_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with own.h5, a tiny network with few twins."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    layer = fold(layer_of((random.random((16, 16)) < 0.3) * 0.5, bias=-0.25))
    bits = random.random((12, 16)) < 0.5
    write_dataset(Path("own.h5"), bit_features(bits), [(0, layer)], 1, 32.0, {"source": "test"})


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*SPDNN, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def fails(*words: str, env: dict[str, str] | None = None) -> str:
    """The last line of a command that fails as it should."""
    done = run(*words, env=env)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False), done.stderr
    return done.stderr.splitlines()[-1].removeprefix("error: ")


# ---- GPUs


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, ["GPU-9a10", "GPU-9a20", "MIG-abc", "MIG-abd"]),
        ("", []),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        ("1", ["GPU-9a20"]),
        ("1, 0", ["GPU-9a20", "GPU-9a10"]),
        ("0,3,1", ["GPU-9a10"]),
        ("1,-1,0", ["GPU-9a20"]),
        ("0,,1", ["GPU-9a10"]),
        ("2", ["MIG-abc"]),
        ("GPU-9a2", ["GPU-9a20"]),
        ("GPU-9a20,GPU-9a1", ["GPU-9a20", "GPU-9a10"]),
        ("GPU-9a", []),
        ("GPU-9a2,GPU-8,GPU-9a1", ["GPU-9a20"]),
        ("gpu-9a20", []),
        ("GPU-9a200", []),
        ("MIG-abd", ["MIG-abd"]),
        ("MIG-abc,MIG-abd", ["MIG-abc", "MIG-abd"]),
        ("MIG-ab", []),
        ("MIG-GPU-77/3/1", ["MIG-abd"]),
        ("MIG-GPU-77/3/0", []),
        (
            "0,0",
            "CUDA_VISIBLE_DEVICES=0,0 names the device GPU-9a10 twice. Name each device once.",
        ),
        (
            "GPU-9a1,GPU-9a10",
            "CUDA_VISIBLE_DEVICES=GPU-9a1,GPU-9a10 names the device GPU-9a10 twice. "
            "Name each device once.",
        ),
    ],
)
def test_visible_devices(with_gpus: Environment, visible: str | None, seen: Any) -> None:
    environment = with_gpus(driver={"gpus": CARDS})
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run(
        [sys.executable, "-c", LISTS], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == seen


def test_a_gpu_that_is_lost_is_left_out(with_gpus: Environment) -> None:
    environment = with_gpus(driver={"gpus": [CARDS[0] | {"lost": True}, CARDS[1]]})
    done = subprocess.run(
        [sys.executable, "-c", LISTS], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["GPU-9a20"]


def test_the_state_of_a_gpu(with_gpus: Environment) -> None:
    program = "from spdnn_cli import nvidia; print(nvidia.gpu_state('GPU-1'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=with_gpus(2),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "GpuState(sm_mhz=1980.0, memory_mhz=2619.0, temperature_c=41.0, power_w=None)\n"
    )


NO_CUPY = "NVIDIA Card needs CuPy, which is not installed (pip install 'spdnn[cuda12]')"
NEWER = {"version": "580.65", "gpus": [{"name": "NVIDIA Card", "uuid": "GPU-0"}]}
LOST = {"gpus": [{"name": "NVIDIA Card", "uuid": "GPU-0", "lost": True}]}
BROKEN_CUPY = 'raise ImportError("Advice.\\n\\nOriginal error:\\n  libcuda.so.1: cannot open")'
OLD_DRIVER = """
from types import SimpleNamespace

class CUDARuntimeError(RuntimeError):
    pass

def getDevice():
    raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

runtime = SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDevice=getDevice)
cuda = SimpleNamespace(runtime=runtime)
"""
WITHOUT = [
    pytest.param({"present": 1, "cupy": None}, {}, NO_CUPY, NO_CUPY, id="no CuPy"),
    pytest.param(
        {"driver": NEWER, "cupy": None},
        {},
        NO_CUPY.replace("cuda12", "cuda13"),
        NO_CUPY.replace("cuda12", "cuda13"),
        id="no CuPy, newer driver",
    ),
    *(
        pytest.param(
            {"driver": driver},
            {},
            f"the NVIDIA driver says{words}",
            f"no NVIDIA GPU can be used: the NVIDIA driver says{words}",
            id=words,
        )
        for driver, words in [
            ({"failure": "LibRmVersionMismatch"}, ": Driver/library version mismatch"),
            ({"failure": "DriverNotLoaded"}, ": Driver Not Loaded"),
            ({"failure": "NoPermission"}, ": Insufficient Permissions"),
            (LOST, " of GPU 0: GPU is lost"),
        ]
    ),
    pytest.param(
        {"present": 2},
        {"CUDA_VISIBLE_DEVICES": "7,0"},
        "CUDA_VISIBLE_DEVICES=7,0 hides all 2 GPUs",
        "no NVIDIA GPU can be used: CUDA_VISIBLE_DEVICES=7,0 hides all 2 GPUs",
        id="hidden",
    ),
]


@pytest.mark.parametrize(("machine", "settings", "why", "what"), WITHOUT)
def test_auto_says_why_it_takes_no_gpu(
    with_gpus: Environment, machine: dict[str, Any], settings: dict[str, str], why: str, what: str
) -> None:
    environment = with_gpus(**machine) | settings
    done = run(*INFER, env=environment)

    assert done.returncode == 0, done.stderr
    assert f"The GPU is not used: {why}.\n" in done.stderr
    record = json.loads(done.stdout)
    assert record["device"] == "cpu"
    assert record["engine_reason"].endswith(f"; no GPU: {why}")
    assert fails(*INFER, "--device", "cuda", env=environment).startswith(f"{what}. ")


@pytest.mark.parametrize(
    ("cupy", "why"),
    [
        (BROKEN_CUPY, "the CUDA engines need CuPy, which cannot be imported (libcuda.so.1: "),
        (OLD_DRIVER, "there is no usable CUDA device (cudaErrorInsufficientDriver: CUDA driver "),
    ],
    ids=["import", "driver"],
)
def test_what_only_cuda_can_tell(with_gpus: Environment, cupy: str, why: str) -> None:
    environment = with_gpus(1, cupy=cupy)
    done = run(*INFER, env=environment)

    assert done.returncode == 0, done.stderr
    assert f"The GPU was not used: {why}" in done.stderr
    assert f"; no GPU: {why}" in json.loads(done.stdout)["engine_reason"]
    assert fails(*INFER, "--device", "cuda", env=environment).startswith(why)


def test_nothing_is_said_where_there_is_no_gpu(with_gpus: Environment) -> None:
    environment = with_gpus(0)
    done = run(*INFER, env=environment)

    assert "GPU" not in done.stderr
    assert "GPU" not in json.loads(done.stdout)["engine_reason"]
    assert fails(*INFER, "--device", "cuda", env=environment) == (
        "there is no NVIDIA GPU on this machine. Use --device cpu."
    )


def test_a_device_that_was_asked_for_needs_no_reason(with_gpus: Environment) -> None:
    done = run(*INFER, "--device", "cpu", env=with_gpus(1, cupy=None))

    assert "GPU" not in done.stderr
    assert "GPU" not in json.loads(done.stdout)["engine_reason"]


def test_gpus_that_the_driver_does_not_give(with_gpus: Environment) -> None:
    environment = with_gpus(driver={"failure": "DriverNotLoaded"})
    assert fails(*INFER, "--gpus", "2", env=environment) == (
        "2 GPUs were asked for, this machine has 0: the NVIDIA driver says: Driver Not Loaded. "
        "Leave out --gpus to use the best device present."
    )


# ---- cores


def process(folder: Path, cgroup: str, mounts: list[tuple[str, Path, str, str]]) -> Path:
    """A folder like /proc/self, with these lines, and mounts (root, point, kind, options)."""
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    lines = [
        f"{number} 1 0:{number} {root} {point} rw,nosuid shared:9 - {kind} {kind} {options}\n"
        for number, (root, point, kind, options) in enumerate(mounts, 30)
    ]
    (folder / "mountinfo").write_text("25 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(lines))
    return folder


def quota(folder: Path, version: int, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{text}\n")
    else:
        for name, word in zip(("quota", "period"), text.split(), strict=True):
            (folder / f"cpu.cfs_{name}_us").write_text(f"{word}\n")


@pytest.mark.parametrize(
    ("version", "of_job", "of_slice", "granted"),
    [
        (2, "150000 100000", "max 100000", 1.5),
        (2, "max 100000", "50000 100000", 0.5),
        (2, "400000 100000", "300000 100000", 3.0),
        (2, "max 100000", "max 100000", None),
        (1, "150000 100000", "-1 100000", 1.5),
        (1, "-1 100000", "25000 50000", 0.5),
        (1, "-1 100000", "-1 100000", None),
    ],
)
def test_quotas(
    tmp_path: Path, version: int, of_job: str, of_slice: str, granted: float | None
) -> None:
    """The least of the quotas on the way up counts."""
    mount = tmp_path / "cgroup"
    quota(mount / "slice" / "job", version, of_job)
    quota(mount / "slice", version, of_slice)
    kind, line = ("cgroup2", "0::") if version == 2 else ("cgroup", "4:cpu,cpuacct:")
    self = process(
        tmp_path / "self",
        f"7:memory:/other\n{line}/slice/job\n",
        [("/", mount, kind, "rw,cpu,cpuacct" if version == 1 else "rw")],
    )

    assert cores.cgroup_cores(self) == granted
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = most if granted is None else min(most or 1, max(1, -int(-granted // 1)))
    assert cores.available_cores(self) == wanted


def test_a_container_that_sees_its_own_cgroup_under_the_path_of_the_host(tmp_path: Path) -> None:
    mount = tmp_path / "with space"
    quota(mount, 1, "200000 100000")
    point = Path(str(mount).replace(" ", "\\040"))
    line = "3:cpuacct,cpu:/docker/1f\n0::/docker/1f\n"
    mounts = [("/docker/1f", point, "cgroup", "rw,cpuacct,cpu")]

    assert cores.cgroup_cores(process(tmp_path / "self", line, mounts)) == 2.0


def test_a_cgroup_outside_of_what_is_mounted(tmp_path: Path) -> None:
    quota(tmp_path / "cgroup", 2, "70000 10000")
    mounts = [("/", tmp_path / "cgroup", "cgroup2", "rw")]

    assert cores.cgroup_cores(process(tmp_path / "self", "0::/../job\n", mounts)) == 7.0


@pytest.mark.parametrize("cgroup", ["", "no cgroup\n", "0::/\n"])
def test_no_cgroup_that_says_anything(tmp_path: Path, cgroup: str) -> None:
    assert cores.cgroup_cores(process(tmp_path / "self", cgroup, [])) is None
    assert cores.cgroup_cores(tmp_path / "none") is None


# ---- threads and processes


@pytest.mark.parametrize("command", ["infer", "convert"])
@pytest.mark.parametrize("number", ["100000", "1000000000000"])
def test_far_too_many_threads(command: str, number: str) -> None:
    most, here = cores.most_threads(), cores.available_cores()
    done = run(command, "--threads", number)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"Error: Invalid value for '--threads': {number} is more than this machine can make use "
        f"of: {most} at most ({here} cores)"
    )


def test_far_too_many_workers() -> None:
    done = run(*INFER, "--workers", "100000")

    assert done.returncode == 2
    assert "'--workers': 100000 is more than this machine can make use of" in done.stderr


@pytest.mark.parametrize("number", [cores.available_cores(), cores.available_cores() + 1])
def test_more_threads_than_cores_are_noted(number: int) -> None:
    done = run(*INFER, "--device", "cpu", "--threads", str(number))

    assert done.returncode == 0, done.stderr
    said = f"{number} threads are more than the "
    assert (said in done.stderr) == (number > cores.available_cores())


LIMITED = """
import sys, threading
from spdnn_cli import cli

started, most = [], int(sys.argv.pop(1))
start = threading.Thread.start

def limited(self):
    if len(started) == most:
        raise RuntimeError("can't start new thread")
    started.append(self)
    start(self)

threading.Thread.start = limited
cli.main()
"""
TOO_MANY = (
    "error: no further {} can be started: a limit on processes or on memory is reached. Raise it "
    "(ulimit -u, ulimit -v, or the container's), or give fewer --threads or --workers.\n"
)


@pytest.mark.parametrize("most", [0, 1, 2])
@pytest.mark.parametrize("engine", ["cpu", "cpu-layered"])
def test_a_limit_on_threads(engine: str, most: int) -> None:
    command = [sys.executable, "-c", LIMITED, str(most), *INFER, "--engine", engine]
    done = subprocess.run(
        [*command, "--threads", "4"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 0:  # few threads were enough
        assert most > 0
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(TOO_MANY.format("thread"))
    assert "Traceback" not in done.stderr


NO_FORK = """
import errno, os, _posixsubprocess, subprocess, multiprocessing.util
from spdnn_cli import cli

def no_process(*_):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

_posixsubprocess.fork_exec = subprocess._fork_exec = no_process
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="fork is Unix's")
def test_a_limit_on_processes() -> None:
    command = [sys.executable, "-c", NO_FORK, *INFER, "--device", "cpu"]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr  # it does not need a process for its own version
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(TOO_MANY.format("process"))
    assert "Traceback" not in done.stderr


# ---- the clock


def test_end_to_end_is_no_longer_than_the_process_lived() -> None:
    start = time.monotonic()
    done = run(*INFER, "--device", "cpu")
    lived = time.monotonic() - start

    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["timings_s"]["end_to_end"] <= lived


@pytest.mark.parametrize(
    "ticks",
    ["0", "-5", "99999999999999", "x", None, ""],
)
def test_a_stand_in_for_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: str | None
) -> None:
    """As where a container's kernel counts from elsewhere, or hides it."""
    file = tmp_path / "stat"
    if ticks is not None:
        words = ["S", *"1" * 18, ticks]
        file.write_text(f"12 (a ) b) {' '.join(words)} 1 2\n")
    monkeypatch.setattr(machine, "PROCESS_STAT", file)
    monkeypatch.setattr(machine, "IMPORTED", time.monotonic() - 5.0)

    assert 5.0 <= machine.seconds_since_start() < 6.0


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux alone tells")
def test_the_start_of_the_interpreter_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - 7.0) * os.sysconf("SC_CLK_TCK"))
    (tmp_path / "stat").write_text(f"12 (spdnn) {' '.join(['S', *'1' * 18, str(ticks)])} 1\n")
    monkeypatch.setattr(machine, "PROCESS_STAT", tmp_path / "stat")
    monkeypatch.setattr(machine, "IMPORTED", time.monotonic() - 5.0)

    assert 6.9 <= machine.seconds_since_start() < 8.0
