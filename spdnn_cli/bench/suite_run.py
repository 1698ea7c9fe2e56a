"""A suite's runs, one after the other.

Each runs in a process of its own, so a crash of one run does not end the others. A run is not
repeated if a verified result of it is stored, made by the same program (by the checksum of its
sources) with the same options, from the same source of data, on the same machine. Runs that failed
before run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
import psutil

from spdnn_cli import children, machine
from spdnn_cli.atomic import check_folder
from spdnn_cli.bench.suite import Suite, SuiteRun
from spdnn_cli.challenge.convert import available_source
from spdnn_cli.cores import available_cores
from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.errors import BenchError, ResultError
from spdnn_cli.nvidia import gpus
from spdnn_cli.results.record import Machine, Record, Status
from spdnn_cli.results.store import LOCAL, Result, Store, only
from spdnn_cli.run.summary import SUITE_VARIABLE
from spdnn_cli.sources import sources_sha256
from spdnn_cli.workspace import Workspace

MOST_REFERENCE_EDGES = 20_000_000_000
"""Images x edges up to which a run without a known truth is verified by the reference engine. Up to
here this takes seconds; beyond, it may take hours, or more memory than there is."""
LOOK_S = 0.5
"""Seconds between two checks whether a run must end. In between, this process sleeps."""
GRACE_S = 10.0
"""Seconds that a run has to end after it was asked to."""
RIGHT = (Status.VERIFIED, Status.COUNT_ONLY)
"""The statuses of a run that is done."""


@dataclass(frozen=True)
class Settled:
    """The outcome of a run of a suite.

    Attributes:
        run: what ran.
        state: "done": a verified result was made now; "kept": there was one before; "failed";
            "skipped": this machine cannot run it.
        reason: why it failed or was skipped.
        result: None: there is none.
        seconds: duration of the whole process, now or when the result was made; 0: it did not run.
    """

    run: SuiteRun
    state: str
    reason: str | None = None
    result: Result | None = None
    seconds: float = 0.0

    @property
    def result_name(self) -> str:
        """The name of the result in messages."""
        return "" if self.result is None else self.result.name


class Bench:
    """A suite on this machine: the runs that are done, those that are not, and their execution.

    Args:
        workspace: where data and results are.
        suite: what to run.
        again: whether to run also the runs that were done before.
        warn: called with a sentence about each file of results that is left out.

    Attributes:
        outcomes: those of the runs that are done or skipped, in the order of the suite.
        pending: the other runs.
    """

    def __init__(
        self,
        workspace: Workspace,
        suite: Suite,
        again: bool = False,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._workspace, self.suite = workspace, suite
        done = {} if again else _done_before(workspace, suite.name, warn)
        self._settled: dict[SuiteRun, Settled] = {}
        for run in suite.runs:
            obstacle, kept = why_not_here(run), done.get(_command(run))
            if obstacle is not None:
                self._settled[run] = Settled(run, "skipped", obstacle)
            elif kept is not None and kept.record.dataset.source in _sources(workspace, run, kept):
                seconds = kept.record.timings_s.end_to_end
                self._settled[run] = Settled(run, "kept", None, kept, seconds)

    @property
    def outcomes(self) -> list[Settled]:
        return [self._settled[run] for run in self.suite.runs if run in self._settled]

    @property
    def pending(self) -> list[SuiteRun]:
        return [run for run in self.suite.runs if run not in self._settled]

    @property
    def results(self) -> list[Result]:
        """The verified results of the suite."""
        return [o.result for o in self.outcomes if o.result is not None and not o.reason]

    def seconds_left(self) -> float | None:
        """Estimate of the pending runs' duration, from those before; None: there were none."""
        known = [outcome.seconds for outcome in self.outcomes if outcome.seconds]
        return sum(known) / len(known) * len(self.pending) if known else None

    def execute(self, begins: Callable[[SuiteRun], None], ended: Callable[[Settled], None]) -> None:
        """Run what is pending, in order.

        Args:
            begins: called with each run before it starts.
            ended: called with its outcome.

        Raises:
            KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the run then under way was ended.
            DataError: results cannot be written here.
        """
        if self.pending:
            check_folder(self._workspace.results_dir / LOCAL)
        with _noted_signals() as stop:
            for run in self.pending:
                begins(run)
                outcome = _execute(self._workspace, self.suite.name, run, stop)
                self._settled[run] = outcome
                ended(outcome)

    def interrupted(self) -> BenchError:
        """The error for a user who interrupted the suite."""
        done, name = len(self.suite.runs) - len(self.pending), self.suite.name
        return BenchError(
            f"interrupted; {done} of {_count(len(self.suite.runs), 'run')} of suite {name} are "
            "done",
            hint="Run the same command again, without --again, to go on from there.",
        )

    def check(self) -> None:
        """Check that no run failed.

        Raises:
            BenchError: a run failed, or this machine can run none of them.
        """
        states = [outcome.state for outcome in self.outcomes]
        failed, number, name = states.count("failed"), len(states), self.suite.name
        if failed:
            raise BenchError(
                f"{failed} of {_count(number, 'run')} of suite {name} failed",
                hint="Run the command again to run these again.",
            )
        if states.count("skipped") == number:
            raise BenchError(
                f"nothing was run: this machine cannot do any run of suite {name}",
                hint="See spdnn bench --list.",
            )


def why_not_here(run: SuiteRun) -> str | None:
    """Why this machine cannot run it: too few GPUs or cores. None: it can."""
    present, cores = len(gpus()), available_cores()
    entry = ENGINES.get(run.get("engine") or "")
    on_gpu = run.get("device") == "cuda" or (entry is not None and entry.device == "cuda")
    needed_gpus = int(run.get("gpus") or on_gpu)
    if needed_gpus > present:
        return f"it needs {_count(needed_gpus, 'GPU')}, this machine has {present}"
    threads = int(run.get("threads") or 1) * int(run.get("workers") or 1)
    if threads > cores:
        return f"it needs {_count(threads, 'core')}, this machine has {cores}"
    return None


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


# --- runs that are done --------------------------------------------------------------------------


def _command(run: SuiteRun) -> tuple[str, ...]:
    """The command line of a run, as its record has it."""
    return ("spdnn", "infer", *run.words, "--format", "json")


def _done_before(
    workspace: Workspace, suite: str, warn: Callable[[str], None]
) -> dict[tuple[str, ...], Result]:
    """The verified results of a suite that this program made on this machine, by command line."""
    here = _comparable(machine.describe())
    return {
        result.record.command: result
        for result in Store(workspace.results_dir, warn).all()
        if result.record.suite == suite
        and result.record.status in RIGHT
        and result.record.program.sources_sha256 == sources_sha256()
        and _comparable(result.record.machine) == here
    }


def _comparable(of: Machine) -> Machine:
    """The machine without the fields that vary from run to run on it."""
    return msgspec.structs.replace(of, memory_bytes=0, cuda=None)


def _sources(workspace: Workspace, run: SuiteRun, kept: Result) -> tuple[str | None, ...]:
    """The sources of data that `infer` would use for a run now; `fetch` may have changed them."""
    neurons = run.get("neurons")
    if neurons is None:
        return (kept.record.dataset.source,)
    return (available_source(workspace, int(neurons)) or kept.record.dataset.source,)


# --- a run ---------------------------------------------------------------------------------------


def _execute(workspace: Workspace, suite: str, run: SuiteRun, stop: threading.Event) -> Settled:
    """Run it in a process of its own; verify it if `infer` knew no truth."""
    start = time.monotonic()
    infer = _Child(workspace, suite, _command(run)[1:], run.time_limit, stop)
    reason, result = infer.failure, _result_of(infer.out)
    if reason is None and result is None:
        reason = "it made no result"
    if reason is None and result is not None:
        reason = _why_not_right(workspace, suite, result, run.time_limit, stop)
    seconds = time.monotonic() - start
    return Settled(run, "done" if reason is None else "failed", reason, result, seconds)


def _result_of(out: str) -> Result | None:
    """The result whose file `infer` printed; None: there is none."""
    try:
        return only(Path(json.loads(out)["file"]))
    except (ValueError, KeyError, TypeError, ResultError):
        return None


def _why_not_right(
    workspace: Workspace, suite: str, result: Result, time_limit: float, stop: threading.Event
) -> str | None:
    """None if the result is right; else what is wrong with it, or why it cannot be verified."""
    record: Record = result.record
    if record.status in RIGHT:
        return None
    if record.edges > MOST_REFERENCE_EDGES:
        command = shlex.join(["spdnn", "verify", record.id])
        return f"not verified: no answer is stored for this problem. Run: {command}"
    return _Child(workspace, suite, ["verify", record.id], time_limit, stop).failure


class _Child:
    """A command of this program that ran in a process of its own.

    Attributes:
        failure: why it failed, in one line; None: it did not.
        out: what it wrote to stdout.
    """

    def __init__(
        self,
        workspace: Workspace,
        suite: str,
        words: Sequence[str],
        time_limit: float,
        stop: threading.Event,
    ) -> None:
        # Not as options: a result names its command line, and that is to run on any machine.
        variables = {
            "SPDNN_DATA_DIR": str(workspace.data_dir),
            "SPDNN_RESULTS_DIR": str(workspace.results_dir),
            SUITE_VARIABLE: suite,
        }
        deadline = time.monotonic() + time_limit
        self._process = subprocess.Popen(
            children.command(*words),
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )
        self.out, self._lines = "", list[str]()
        self.failure: str | None = f"it took longer than its time limit of {time_limit:g} s"
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.out, stderr = self._process.communicate(timeout=LOOK_S)
                    self._lines = stderr.splitlines()
                    self.failure = self._failure(self._process.returncode)
                    break
                if stop.is_set():
                    raise KeyboardInterrupt
        finally:
            if self._process.returncode is None:
                self._end()
        if stop.is_set():
            raise KeyboardInterrupt

    def _failure(self, code: int) -> str | None:
        if code == 0:
            return None
        if code < 0:
            name = signal.Signals(-code).name
            more = ": perhaps there was too little memory" if name == "SIGKILL" else ""
            return f"it was killed by {name}{more}"
        lines = [line for line in self._lines if line.strip()]
        said = [line for line in lines if line.lower().startswith("error: ")] or lines[-1:]
        line = said[-1].partition("rror: ")[2] or said[-1] if said else "it said nothing"
        return f"exit code {code}: {line}"

    def _end(self) -> None:
        """Stop the process and all that it started: interrupt it as Ctrl-C does, then kill it."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            family = [*process.children(recursive=True), process]
        self._process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=GRACE_S)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.communicate()


@contextlib.contextmanager
def _noted_signals() -> Iterator[threading.Event]:
    """Inside the block, Ctrl-C and the signals that end a process only set the event yielded.

    Without this, a signal could arrive after a run has started and before it is recorded, and the
    run would go on alone.
    """
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {}
    # Python sets handlers in the main thread alone; and what `nohup` ignores stays ignored.
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
