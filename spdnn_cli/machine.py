"""What this machine is: recorded with every result, since a number means little without it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from spdnn_cli.errors import DeviceError

PACKAGES = ("numpy", "scipy", "numba", "h5py", "cupy-cuda12x", "cupy-cuda13x")


@dataclass(frozen=True)
class Gpu:
    """A GPU as `nvidia-smi` lists it: in the order of the bus, by UUID."""

    name: str
    uuid: str
    driver: str


STATE = {
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
}
"""What `gpu_state` tells, and what `nvidia-smi` calls it."""


@cache
def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs of this machine, found without touching CUDA; empty where there are none.

    `CUDA_VISIBLE_DEVICES` counts: a number or UUID that it leaves out is not listed.
    """
    found = [Gpu(*fields) for fields in _nvidia_smi("name,uuid,driver_version")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(found)
    wanted = [entry.strip() for entry in visible.split(",") if entry.strip()]
    by_name = {str(number): gpu for number, gpu in enumerate(found)} | {g.uuid: g for g in found}
    named = [by_name[entry] for entry in wanted if entry in by_name]
    twice = [gpu.uuid for gpu in named if named.count(gpu) > 1]
    if twice:
        raise DeviceError(
            f"CUDA_VISIBLE_DEVICES={visible} names the device {twice[0]} twice",
            hint="Name each device once.",
        )
    return tuple(named)


def gpu_state(uuid: str) -> dict[str, float | None] | None:
    """Clocks, temperature and power of a GPU now, as `STATE` names them; None: it is not told."""
    rows = _nvidia_smi(",".join(STATE.values()), f"--id={uuid}")
    return dict(zip(STATE, map(_number, rows[0]), strict=True)) if rows else None


def _nvidia_smi(fields: str, *options: str) -> list[list[str]]:
    """A row a GPU of what `nvidia-smi` says of `fields`; none where it says nothing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits", *options]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:  # a driver that hangs offers no GPU
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    rows = [line.split(", ") for line in lines]
    return [row for row in rows if len(row) == fields.count(",") + 1]


def _number(text: str) -> float | None:
    """A number; None for what `nvidia-smi` writes where it has none."""
    try:
        return float(text)
    except ValueError:
        return None


def best_device() -> str:
    """ "cuda" where there is an NVIDIA GPU and CuPy is installed, else "cpu"."""
    return "cuda" if gpus() and importlib.util.find_spec("cupy") is not None else "cpu"


def describe() -> dict[str, Any]:
    """This machine, for a result file: processor, memory, GPUs, system, versions, git commit."""
    return {
        "cpu": cpu_model(),
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [{"name": g.name, "uuid": g.uuid, "driver": g.driver} for g in gpus()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git": _git_state(),
    }


def folder_name(device: str) -> str:
    """The name of this machine's folder below results/: its GPU or processor, and how many."""
    cards = gpus()
    if device == "cuda" and cards:
        return _slug(f"{len(cards)}x {cards[0].name}")
    return _slug(f"{cpu_model()} {available_cores()} cores")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def seconds_since_start() -> float:
    """Seconds since this process was started, the interpreter's own start included."""
    import time

    return time.time() - psutil.Process().create_time()


def peak_memory_bytes() -> int:
    """The most memory that this process had resident so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_model() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _git_state() -> str | None:
    """The commit of the checkout that this program runs from, with "+" where it was changed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    return f"{commit}+" if git("status", "--porcelain", "--untracked-files=no") else commit or None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
