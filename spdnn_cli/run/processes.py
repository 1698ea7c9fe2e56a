"""Several devices of one machine: one process per device, started and watched by this one.

The parent uses no device. It lets the workers start each run together, collects their outcomes, and
stops all of them as soon as one fails, is killed, or gives no sign of life.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from spdnn_cli import nvidia
from spdnn_cli.children import safe_imports
from spdnn_cli.errors import SpdnnError, WorkerError, explained
from spdnn_cli.run.options import RunOptions
from spdnn_cli.run.rank import Outcome, work

BEAT_S = 0.5
"""Seconds between two signs of life of a worker."""
SILENCE_S = 10.0
"""Seconds without a sign of life after which a worker is stopped. (A library call may hold the
interpreter for some seconds.)"""
START_S = 60.0
"""The same before its first sign: to start and to import takes long where many others compute."""
BARRIER, GO, BEAT, DONE, FAILED = "barrier", "go", "beat", "done", "failed"


def run_processes(
    path: Path, options: RunOptions, gpus: list[int | None]
) -> tuple[list[Outcome], float]:
    """Run on several devices, one process per device.

    Args:
        path: the dataset file.
        options: what to run.
        gpus: for each worker its GPU's place in `nvidia.gpus()`; None: it runs on the CPU.

    Returns:
        The outcome of each worker, in order of rank; and the seconds from the first worker's end
        to the arrival of the last outcome.

    Raises:
        WorkerError: a worker failed, was killed or did not answer. All workers were stopped.
    """
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(prefix="spdnn-") as folder:
        try:
            with _no_interrupts(), safe_imports():
                for rank, gpu in enumerate(gpus):
                    group = rank, len(gpus), Path(folder)
                    workers.append(_Worker(group, path, options, gpu))
            return _watch(workers)
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A worker as its parent sees it."""

    def __init__(
        self, group: tuple[int, int, Path], path: Path, options: RunOptions, gpu: int | None
    ) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.name = f"worker {group[0]} ({'cpu' if gpu is None else f'cuda:{gpu}'})"
        arguments = (theirs, group, path, options, gpu)
        self.process: BaseProcess = spawn.Process(target=_main, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.silent_for, self.patience = 0.0, START_S
        self.waits, self.value = False, None
        self.outcome: Outcome | None = None

    def hear(self) -> None:
        """Receive a message.

        Raises:
            WorkerError: the worker reports that it failed, or it has ended.
        """
        try:
            what, content = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        self.silent_for, self.patience = 0.0, SILENCE_S
        if what == FAILED:
            raise WorkerError(f"{self.name}: {content.rstrip('.')}")
        if what == BARRIER:
            self.waits, self.value = True, content
        elif what == DONE:
            self.outcome = content

    def check_life(self, seconds: float) -> None:
        """Count `seconds` more without a message.

        Raises:
            WorkerError: the worker has been silent for too long.
        """
        self.silent_for += seconds
        if self.silent_for > self.patience:
            raise WorkerError(
                f"{self.name} did not answer for {self.silent_for:.0f} s, and was stopped",
                hint="Is the machine overloaded, or the process stopped?",
            )

    def end(self) -> None:
        """Make sure that the process is gone."""
        if self.outcome is not None:
            self.process.join(timeout=5.0)
        if self.process.is_alive():
            self.process.kill()  # also where it is stopped, which a gentler signal would not end
        self.process.join()
        self.connection.close()

    def _ended(self) -> WorkerError:
        self.process.join(timeout=5.0)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return WorkerError(
                f"{self.name} was killed by {name}",
                hint="The system may have run out of memory; its log would say so."
                if name == "SIGKILL"
                else None,
            )
        return WorkerError(f"{self.name} ended with exit code {code}, and said nothing")


def _watch(workers: list[_Worker]) -> tuple[list[Outcome], float]:
    """Answer the workers' messages until all are done."""
    by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in workers}
    first_end: float | None = None
    looked = time.monotonic()
    while True:
        running = [worker for worker in workers if worker.outcome is None]
        if not running:
            break
        before, looked = looked, time.monotonic()
        for worker in running:
            # This process may itself have slept (Ctrl-Z, a laptop's lid): count no such time.
            worker.check_life(min(looked - before, 2 * BEAT_S))
        for connection in wait([worker.connection for worker in running], timeout=BEAT_S):
            by_connection[connection].hear()
            if first_end is None and by_connection[connection].outcome is not None:
                first_end = time.perf_counter()
        if all(worker.waits for worker in workers):
            values = [worker.value for worker in workers]
            for worker in workers:
                worker.waits = False
                worker.connection.send((GO, values))
    seconds = 0.0 if first_end is None else time.perf_counter() - first_end
    return [worker.outcome for worker in workers if worker.outcome is not None], seconds


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Children started in the block ignore Ctrl-C, which they get too: the parent stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# --- in the worker's process ---------------------------------------------------------------------


class _Link:
    """The worker's end of the pipe: its group, and a thread that sends signs of life.

    Arrays go from worker to worker through files in the run's temporary folder.
    """

    def __init__(self, connection: Connection, group: tuple[int, int, Path]) -> None:
        self.rank, self.size, self._folder = group
        self._exchanges = 0
        self._connection, self._lock = connection, threading.Lock()

    def start_beating(self) -> None:
        """Send signs of life from now on."""
        threading.Thread(target=self._beat, daemon=True).start()

    def barrier(self) -> None:
        self.all_of(None)

    def all_of(self, value: Any) -> list[Any]:
        self.send(BARRIER, value)
        values: list[Any] = self._connection.recv()[1]
        return values

    def exchange(self, gives: dict[int, Any], takes: dict[int, Any]) -> None:
        self._exchanges += 1
        for rank, array in gives.items():
            array.tofile(self._file(self.rank, rank))
        self.barrier()
        for rank, array in takes.items():
            file = self._file(rank, self.rank)
            array[...] = np.fromfile(file, array.dtype).reshape(array.shape)
            file.unlink()

    def _file(self, giver: int, taker: int) -> Path:
        return self._folder / f"{self._exchanges}-{giver}-{taker}"

    def send(self, what: str, content: Any = None) -> None:
        """Send a message to the parent; end this process if the parent has ended."""
        try:
            with self._lock:
                self._connection.send((what, content))
        except OSError:
            os._exit(1)

    def _beat(self) -> None:
        while True:
            self.send(BEAT)
            time.sleep(BEAT_S)


def _main(
    connection: Connection,
    group: tuple[int, int, Path],
    path: Path,
    options: RunOptions,
    gpu: int | None,
) -> None:
    """A worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = _Link(connection, group)
    try:
        link.start_beating()
        show_only(gpu)
        link.send(DONE, work(link, path, options, gpu))
    except SpdnnError as error:
        link.send(FAILED, str(error))
    except EOFError:  # the parent has ended
        os._exit(1)
    except Exception as error:
        message = explained(error)
        if message is None:
            traceback.print_exc()
        link.send(FAILED, message or f"{type(error).__name__}: {error}")
    sys.stdout.flush()


def show_only(gpu: int | None) -> None:
    """Make CUDA see only number `gpu` of `nvidia.gpus()`. To call before CUDA is used."""
    if gpu is not None:
        present = nvidia.gpus()  # kept: the places of all GPUs, as before
        os.environ["CUDA_VISIBLE_DEVICES"] = present[gpu].uuid
