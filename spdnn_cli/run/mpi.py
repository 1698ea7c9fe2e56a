"""Many machines: the ranks of an MPI job, `mpiexec -n 768 spdnn infer` or `srun spdnn infer`.

mpi4py is imported only where a launcher of MPI started this process. Every rank runs worker.py;
rank 0 alone finds the dataset, prints and writes. A rank that fails aborts the whole job with
MPI_Abort. Each rank watches the rank before it, and aborts the job if that one hangs.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from spdnn_cli import cores, machine, nvidia
from spdnn_cli.errors import DataError, DeviceError, SpdnnError, WorkerError, explained
from spdnn_cli.network.dataset import open_dataset
from spdnn_cli.run.options import RunOptions
from spdnn_cli.run.processes import BEAT_S, SILENCE_S, show_only
from spdnn_cli.run.rank import IDENTITY, Outcome, identity, work
from spdnn_cli.timing import Stopwatch

RANKS_AND_SIZES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),  # jsrun, under LSF
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),  # MVAPICH
)
"""The variables in which launchers of MPI give a rank its number and the number of ranks."""
PROCESS_MANAGERS = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH and its children, and srun --mpi=pmi2
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),  # srun --mpi=pmix
)
"""The same, but `srun --pty` sets these for a shell, too."""
PIECE_BYTES = 1 << 26
"""Bytes of a piece in which a dataset is broadcast."""
LAST_BEATS_S = 0.02
"""Seconds between two checks for the last sign of life of a rank, after this one is done."""


def ranks() -> int:
    """How many ranks a launcher of MPI started; 1: there is no launcher, or it started one.

    A rank is a process with a number among the ranks. Batch scripts and shells in an allocation
    (`salloc`, `srun --pty bash`) are not, although Slurm tells them a number of tasks.
    """
    pairs = RANKS_AND_SIZES if _is_shell_of_slurm() else RANKS_AND_SIZES + PROCESS_MANAGERS
    told = [[os.environ.get(name, "") for name in pair] for pair in pairs]
    return max([1, *(int(size) for rank, size in told if rank.isdigit() and size.isdigit())])


def rank() -> int:
    """The number of this process among the ranks, from 0, as its launcher tells it; else 0.

    For messages that only one rank may print, before MPI itself is started.
    """
    told = [os.environ.get(name, "") for name, _ in RANKS_AND_SIZES + PROCESS_MANAGERS]
    return max([0, *(int(number) for number in told if number.isdigit())])


def _is_shell_of_slurm() -> bool:
    """Whether this was started from the prompt of `srun --pty bash`, and not by an mpiexec there.

    The ranks of an srun in that shell have its variables, too, but not its terminal.
    """
    is_below_shell = "SLURM_PTY_PORT" in os.environ and "MPI_LOCALNRANKS" not in os.environ
    return is_below_shell and sys.stdin is not None and sys.stdin.isatty()


def tasks_without_mpi() -> int:
    """How many tasks `srun` started without MPI, so that they are separate programs; else 1."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    is_task = os.environ.get("SLURM_STEP_ID", "").isdigit() and tasks.isdigit()
    if not is_task or ranks() > 1 or "SLURM_PTY_PORT" in os.environ:
        return 1
    return int(tasks)


def communicator() -> Any:
    """MPI's COMM_WORLD.

    Raises:
        DeviceError: mpi4py is missing, or sees another number of ranks than were started.
    """
    told = ranks()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        who = f"this is one of {told} ranks" if told > 1 else "this is to be a rank of MPI"
        raise DeviceError(
            f"{who}, and mpi4py cannot be imported ({error})",
            hint="Run: pip install 'spdnn[mpi]', or mpi4py built for the MPI of this machine.",
        ) from error
    world = MPI.COMM_WORLD
    if told > 1 and world.Get_size() != told:
        raise DeviceError(
            f"the launcher started {told} ranks, mpi4py sees {world.Get_size()}",
            hint="Its MPI is another one than the launcher's: install mpi4py for that one, or use "
            "its own mpiexec. For a run of this process alone, add --launcher alone.",
        )
    return world


@contextlib.contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Hold signals that end a rank back until the function given is called, or the block ends.

    A rank that ended in order once MPI has started, but did not end the others, would wait for
    them, and they for it.
    """
    held: list[int] = []
    before: dict[int, Any] = {}
    # Python sets handlers in the main thread alone. What is ignored stays ignored.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, lambda number, frame: held.append(number))

    def release() -> None:
        while before:
            signal.signal(*before.popitem())
        while held:
            signal.raise_signal(held.pop())

    try:
        yield release
    finally:
        release()


class Ranks:
    """The ranks of a job as a group."""

    def __init__(self, world: Any) -> None:
        self.world, self.rank, self.size = world, world.Get_rank(), world.Get_size()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.world.Barrier()

    def all_of(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order."""
        everyone: list[Any] = self.world.allgather(value)
        return everyone

    def exchange(self, gives: dict[int, Any], takes: dict[int, Any]) -> None:
        """Send each array of `gives` to its rank; fill those of `takes` with what ranks send."""
        sent = [self.world.Isend(array, rank) for rank, array in gives.items()]
        for rank, array in takes.items():
            self.world.Recv(array, rank)
        for request in sent:
            request.Wait()


class _Watch:
    """Receives signs of life from the rank before this one, and sends them to the rank after it.

    It does so in its own thread, while the body of the `with` statement runs. It needs an MPI that
    lets several threads call it; with another MPI, only the scheduler's time limit ends a rank that
    hangs.
    """

    def __init__(self, world: Any) -> None:
        self._beats = world.Dup()  # its messages meet no others
        rank, size = world.Get_rank(), world.Get_size()
        self._before, self._after = (rank - 1) % size, (rank + 1) % size
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        from mpi4py import MPI

        is_watched = self._beats.Get_size() > 1
        if is_watched and MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            self._thread.start()

    def __exit__(self, failure: object, *_: object) -> None:
        self._done.set()
        if failure is None and self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        silent_for, looked, listens, tells = 0.0, time.monotonic(), True, True
        while listens or tells:
            if tells:
                tells = not self._done.is_set()
                self._beats.send(tells, self._after)  # the last one says that no more will come
            while listens and self._beats.iprobe(self._before):
                listens, silent_for = self._beats.recv(source=self._before), 0.0
            if silent_for > SILENCE_S:
                stop_all(self._beats, self._silence(silent_for))
            if tells:
                self._done.wait(BEAT_S)
            else:
                time.sleep(LAST_BEATS_S)
            before, looked = looked, time.monotonic()
            silent_for += min(looked - before, 2 * BEAT_S)  # see processes.py

    def _silence(self, seconds: float) -> WorkerError:
        return WorkerError(
            f"rank {self._before} did not answer for {seconds:.0f} s, and all ranks were stopped",
            hint="Is its machine overloaded, or the process stopped?",
        )


def run_ranks(
    world: Any, find: Callable[[], Path], options: RunOptions, broadcast: bool
) -> tuple[list[Outcome], float] | None:
    """Run on all ranks.

    Args:
        world: MPI's communicator.
        find: finds or makes the dataset; called on rank 0.
        options: what to run; `threads` 0: the cores of the host, shared by its ranks.
        broadcast: whether rank 0 sends its dataset to all ranks, for ranks that share no disk.

    Returns:
        On rank 0 the outcome of each rank, in order, and the seconds to gather them; else None.

    Raises:
        DataError: ranks have different datasets, options or versions.
        DeviceError: a host has fewer GPUs than ranks.
    """
    group, stopwatch = Ranks(world), Stopwatch()
    path = world.bcast(find() if group.rank == 0 else None)
    with _Watch(world):
        outcome = _work(group, path, options, broadcast, stopwatch)
        start = time.perf_counter()
        outcomes = world.gather(outcome)
        return None if outcomes is None else (outcomes, time.perf_counter() - start)


def _work(
    group: Ranks, path: Path, options: RunOptions, broadcast: bool, stopwatch: Stopwatch
) -> Outcome:
    """Run this rank's share, on its own device."""
    from mpi4py import MPI

    world = group.world
    local = world.Split_type(MPI.COMM_TYPE_SHARED)
    options = replace(
        options, threads=options.threads or max(1, cores.available_cores() // local.Get_size())
    )
    # All ranks must run on GPUs, or all on CPUs.
    settled = replace(options, device=options.device or machine.best_device())
    gpu = _own_gpu(local) if settled.device == "cuda" else None
    with tempfile.TemporaryDirectory(prefix="spdnn-") as folder:
        if broadcast:
            with stopwatch.stage("read"):
                path = _broadcast(world, path, Path(folder))
        _compare(group, path, settled)
        return work(group, path, options, gpu, None, stopwatch)


def stop_all(world: Any, error: BaseException) -> None:
    """Print the error of this rank, and stop all ranks with exit code 1."""
    words = explained(error) or str(error) or type(error).__name__
    expected = isinstance(error, (SpdnnError, KeyboardInterrupt, SystemExit))
    if not expected and explained(error) is None:
        traceback.print_exc()
    who = f"rank {world.Get_rank()} on {platform.node()}"
    print(f"error: {who}: {words}", file=sys.stderr, flush=True)
    world.Abort(1)


def _own_gpu(local: Any) -> int:
    """This rank's place among the GPUs of its host; makes CUDA see only that one.

    Raises:
        DeviceError: there are fewer GPUs than ranks on this host.
    """
    present = nvidia.gpus()
    seen = local.allgather(tuple(gpu.uuid for gpu in present))
    rank, size = local.Get_rank(), local.Get_size()
    if present and all(len(uuids) == 1 for uuids in seen) and len(set(seen)) == size:
        own = 0  # the launcher gave each rank a GPU of its own
    elif len(present) < size:
        gpus = "1 GPU" if len(present) == 1 else f"{len(present)} GPUs"
        raise DeviceError(
            f"{size} ranks run on this host, and it has {gpus}",
            hint="Start no more ranks on a host than it has GPUs.",
        )
    else:
        own = rank
    show_only(own)
    return own


def _broadcast(world: Any, path: Path, folder: Path) -> Path:
    """Copy rank 0's file to all ranks; returns the path on this rank."""
    import numpy as np

    is_source = world.Get_rank() == 0
    size = world.bcast(path.stat().st_size if is_source else 0)
    content = np.fromfile(path, np.uint8) if is_source else np.empty(size, np.uint8)
    for first in range(0, size, PIECE_BYTES):
        world.Bcast(content[first : first + PIECE_BYTES])
    if is_source:
        return path
    copy = folder / path.name
    content.tofile(copy)
    return copy


def _compare(group: Ranks, path: Path, options: RunOptions) -> None:
    """Check that all ranks have the same dataset, options and version."""
    own = identity(open_dataset(path), options)
    everyone = group.world.allgather((platform.node(), own))
    _, of_first = everyone[0]
    for rank, (host, theirs) in enumerate(everyone):
        for what, here, there in zip(IDENTITY, of_first, theirs, strict=True):
            if here != there:
                raise DataError(
                    f"rank {rank} on {host} has another {what} than rank 0: {there}, not {here}",
                    path=path,
                    hint="Give all ranks the same files and options, or add --broadcast.",
                )
