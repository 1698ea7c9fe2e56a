"""What this machine is: recorded with every result, since a number means little without it."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil

from spdnn_cli import IMPORTED
from spdnn_cli.cores import available_cores
from spdnn_cli.nvidia import gpus, why_not_cuda
from spdnn_cli.results.record import Device, Machine

PACKAGES = ("numpy", "scipy", "numba", "h5py", "cupy-cuda12x", "cupy-cuda13x")


PROCESS_STAT = Path("/proc/self/stat")
"""Where Linux says, among others, when this process was started."""
START_TICKS = 19
"""Its place there, counted behind the program's name: in ticks since the machine was started."""
LONGEST_START_S = 60.0
"""An interpreter that took longer to start was not seen to: the clock is another one."""


def best_device() -> Device:
    """ "cuda" where there is an NVIDIA GPU and CuPy is installed, else "cpu"."""
    return "cuda" if gpus() and why_not_cuda() is None else "cpu"


def describe() -> Machine:
    """This machine, as a record holds it."""
    return Machine(
        cpu=cpu_model(),
        cores=available_cores(),
        memory_bytes=psutil.virtual_memory().total,
        gpus=gpus(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name))},
    )


def folder_name(device: Device) -> str:
    """The name of this machine's folder below results/: its GPU or processor, and how many."""
    cards = gpus()
    if device == "cuda" and cards:
        return _slug(f"{len(cards)}x {cards[0].name}")
    return _slug(f"{cpu_model()} {available_cores()} cores")


def seconds_since_start() -> float:
    """Seconds since this process was started, the interpreter's own start included.

    Never more than passed. Where the system does not tell, or tells what cannot be (a container's
    stand-in for /proc), it is the time since this package was imported.
    """
    known = time.monotonic() - IMPORTED
    age = _age_of_process()
    return age if age is not None and known <= age <= known + LONGEST_START_S else known


def _age_of_process() -> float | None:
    """Seconds since the system started this process, a tick (10 ms) less at most; None: unknown."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    try:
        ticks = int(PROCESS_STAT.read_text().rpartition(")")[2].split()[START_TICKS])
        ticks_a_second = os.sysconf("SC_CLK_TCK")
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError):
        return None
    return now - (ticks + 1) / ticks_a_second  # it was started within that tick


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


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
