"""How many cores this process may use: those it is bound to, and what its cgroups grant it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")
LEAST_MOST_THREADS, MOST_THREADS_A_CORE = 64, 8
"""More threads than 64, and than 8 for each core, are a slip of the keyboard."""


def available_cores(process: Path = PROCESS) -> int:
    """Cores that this process may use; a share of a core counts as one."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        bound = len(os.sched_getaffinity(0))
    else:
        bound = os.cpu_count() or 1
    granted = cgroup_cores(process)
    return bound if granted is None else min(bound, max(1, math.ceil(granted)))


def most_threads() -> int:
    """More threads, or processes, than these are refused."""
    return max(LEAST_MOST_THREADS, MOST_THREADS_A_CORE * available_cores())


def cgroup_cores(process: Path = PROCESS) -> float | None:
    """Cores' worth of time that the cgroups (version 1 or 2) of a process grant it; None: any.

    Args:
        process: its folder below /proc.
    """
    try:
        quotas = [quota for folder in _cgroups(process) if (quota := _quota(folder)) is not None]
    except (OSError, ValueError):  # not Linux, or a container that shows nothing
        return None
    return min(quotas, default=None)


def _cgroups(process: Path) -> Iterator[Path]:
    """The folders of the cgroups that limit the process: its own, and those above."""
    own: dict[str, str] = {}  # by controller; "" is version 2
    for line in (process / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    for line in (process / "mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        is_for_cores = kind == "cgroup2" or "cpu" in options.split(" ")[-1].split(",")
        if controller not in own or not is_for_cores:
            continue
        root, point = (word.replace("\\040", " ") for word in mount.split(" ")[3:5])
        inside = PurePosixPath(own[controller])
        # A container may be shown its own cgroup alone, under the path that the host knows it by.
        below = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
        folder = Path(point) / below
        yield folder
        yield from (Path(point, parent) for parent in below.parents)


def _quota(folder: Path) -> float | None:
    """Cores that one cgroup grants; None: as many as there are."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return None
    return int(quota) / int(period) if quota.isdigit() and int(period) else None
