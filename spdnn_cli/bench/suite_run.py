"""A suite's runs, one after the other, each in a process of its own: what ends one ends no other.

What was done is noted in `results/<machine>/bench-<suite>.json` after every run. A run is done when
the result file that is named there is at hand and verified, and was made with the same options and
data by the same program on the same machine. All others run, those that failed before included.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from spdnn_cli import __version__, children, machine, nvidia
from spdnn_cli.atomic import check_folder, written_aside
from spdnn_cli.bench.suite import Run, Suite
from spdnn_cli.challenge.convert import available_source
from spdnn_cli.cores import available_cores
from spdnn_cli.engines.cuda.kernel_source import kernels_sha256
from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.errors import BenchError, ResultError
from spdnn_cli.results import store as result
from spdnn_cli.workspace import Workspace

MOST_REFERENCE_EDGES = 20_000_000_000
"""Images x edges up to which a run without a known truth is verified by the reference engine:
seconds. Beyond, it may take hours, or more memory than there is."""
LOOK_S = 0.5
"""Seconds between two looks for a reason to end a run. While it is timed, this process sleeps."""
GRACE_S = 10.0
"""Seconds that a run which is to end has for it."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a suite went.

    Attributes:
        run: what ran.
        state: "done": a verified result was made now; "kept": it was there; "failed"; "skipped":
            this machine cannot run it.
        reason: why it failed or was skipped.
        path: the result file; None where there is none.
        seconds: of the whole process, now or when it was done; 0 where it did not run.
    """

    run: Run
    state: str
    reason: str | None = None
    path: Path | None = None
    seconds: float = 0.0


class Bench:
    """A suite on this machine: what was done before, what is to go, and its execution.

    Args:
        workspace: where data and results are.
        suite: what to run.
        again: whether to run also what was done before.

    Attributes:
        outcomes: of the runs that are settled, in the order of the suite.
        pending: the runs to go.
    """

    def __init__(self, workspace: Workspace, suite: Suite, again: bool = False) -> None:
        self._workspace, self.suite = workspace, suite
        self._notes = _Notes(workspace, suite.name, again)
        self._settled: dict[Run, Outcome] = {}
        for run in suite.runs:
            obstacle = why_not_here(run)
            if obstacle is not None:
                self._settled[run] = Outcome(run, "skipped", obstacle)
            elif (kept := self._notes.kept(run)) is not None:
                self._settled[run] = kept

    @property
    def outcomes(self) -> list[Outcome]:
        return [self._settled[run] for run in self.suite.runs if run in self._settled]

    @property
    def pending(self) -> list[Run]:
        return [run for run in self.suite.runs if run not in self._settled]

    def seconds_left(self) -> float | None:
        """How long the pending runs may take, if they are like those before; None: nobody knows."""
        known = [outcome.seconds for outcome in self.outcomes if outcome.seconds]
        return sum(known) / len(known) * len(self.pending) if known else None

    def execute(self, begins: Callable[[Run], None], ended: Callable[[Outcome], None]) -> None:
        """Run what is pending, in order.

        Args:
            begins: told of a run before it starts.
            ended: told of its outcome, which is noted by then.

        Raises:
            KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the run then under way was ended.
            DataError: results cannot be written here.
        """
        if self.pending:
            self._notes.check_folder()
        with _noted_signals() as stop:
            for run in self.pending:
                begins(run)
                outcome = _execute(self._workspace, run, stop)
                self._settled[run] = outcome
                self._notes.add(outcome)
                ended(outcome)

    def interrupted(self) -> BenchError:
        """What to tell a user who stopped it."""
        settled, name = len(self.suite.runs) - len(self.pending), self.suite.name
        return BenchError(
            f"interrupted; {settled} of {_count(len(self.suite.runs), 'run')} of suite {name} are "
            "settled",
            hint="Run the same command again, without --again, to go on from there.",
        )

    def check(self) -> None:
        """See that all went well.

        Raises:
            BenchError: a run failed, or this machine could do none.
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


def why_not_here(run: Run) -> str | None:
    """Why this machine cannot run it: too few GPUs or cores; None: it can."""
    gpus, cores = len(nvidia.gpus()), available_cores()
    entry = ENGINES.get(run.get("engine") or "")
    on_gpu = run.get("device") == "cuda" or (entry is not None and entry.device == "cuda")
    wanted = int(run.get("gpus") or on_gpu)
    if wanted > gpus:
        return f"it needs {_count(wanted, 'GPU')}, this machine has {gpus}"
    wanted = int(run.get("threads") or 1) * int(run.get("workers") or 1)
    if wanted > cores:
        return f"it needs {_count(wanted, 'core')}, this machine has {cores}"
    return None


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _execute(workspace: Workspace, run: Run, stop: threading.Event) -> Outcome:
    """Run it in a process of its own; verify it where `infer` had no truth at hand."""
    start = time.monotonic()
    infer = _Child(workspace, ["infer", *run.words, "--format", "json"], run.time_limit, stop)
    reason, path = infer.failure, _result_path(workspace, infer.out)
    if reason is None and path is None:
        reason = "it made no result"
    if reason is None and path is not None:
        reason = _verified(workspace, path, run.time_limit, stop)
    seconds = time.monotonic() - start
    return Outcome(run, "done" if reason is None else "failed", reason, path, seconds)


def _verified(
    workspace: Workspace, path: Path, time_limit: float, stop: threading.Event
) -> str | None:
    """None where the result is right; else what is wrong with it, or why nobody can tell."""
    try:
        record = result.load(path).record
    except ResultError as error:
        return str(error)
    if record["verified"]:
        return None
    if record["edges"] > MOST_REFERENCE_EDGES:
        return f"not verified: no truth is known at no cost. Run: {_verify(path)}"
    return _Child(workspace, ["verify", "--", str(path)], time_limit, stop).failure


def _verify(path: Path) -> str:
    """The command, for a shell."""
    words = ["--", str(path)] if str(path).startswith("-") else [str(path)]
    return shlex.join(["spdnn", "verify", *words])


def _result_path(workspace: Workspace, out: str) -> Path | None:
    """The result file of the record that `infer` printed; None: there is none.

    The path that it says on stderr is for reading: what a stream cannot hold is escaped there.
    """
    try:
        record = json.loads(out)
    except ValueError:
        return None
    path = result.path_of(workspace, machine.folder_name(record["device"]), record)
    return path if path.exists() else None


class _Child:
    """A command of this program in a process of its own, waited for.

    Attributes:
        failure: why it failed, in one line; None: it did not.
        out: what it wrote to stdout.
    """

    def __init__(
        self, workspace: Workspace, words: list[str], time_limit: float, stop: threading.Event
    ) -> None:
        # Not as options: a result names its command line, and that is to run on any machine.
        folders = {
            "SPDNN_DATA_DIR": str(workspace.data_dir),
            "SPDNN_RESULTS_DIR": str(workspace.results_dir),
        }
        deadline = time.monotonic() + time_limit
        self._process = subprocess.Popen(
            children.command(*words),
            env=os.environ | folders,
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
            return f"it was ended by {name}{more}"
        lines = [line for line in self._lines if line.strip()]
        said = [line for line in lines if line.lower().startswith("error: ")] or lines[-1:]
        line = said[-1].partition("rror: ")[2] or said[-1] if said else "it said nothing"
        return f"exit code {code}: {line}"

    def _end(self) -> None:
        """End the process and all that it started: as Ctrl-C would, and then for good."""
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


class _Notes:
    """The file that says which runs of a suite were done, under which circumstances."""

    def __init__(self, workspace: Workspace, suite: str, again: bool) -> None:
        self._workspace = workspace
        here = machine.describe()
        device = machine.best_device()
        folder = result.machine_folder(
            workspace.results_dir,
            machine.folder_name(device),
            {"device": device, "machine": here},
        )
        self._path = folder / f"bench-{suite}.json"
        # The memory that a system reports may vary with each start of it.
        same = {name: value for name, value in here.items() if name != "memory_bytes"}
        self._circumstances = {
            "program": f"spdnn {__version__}",
            "program_sha256": program_sha256(),
            "machine": json.loads(json.dumps(same)),
        }
        noted = {} if again else self._read()
        current = all(noted.get(k) == value for k, value in self._circumstances.items())
        self._runs: dict[str, Any] = noted["runs"] if current else {}

    def kept(self, run: Run) -> Outcome | None:
        """The outcome that was noted, if its verified result is still at hand."""
        entry = self._runs.get(_key(run))
        if entry is None or entry["result"] is None or entry["data"] != self._data(run):
            return None
        path = self._workspace.results_dir / entry["result"]
        try:
            verified = result.load(path).record["verified"]
        except ResultError:
            return None
        return Outcome(run, "kept", None, path, entry["seconds"]) if verified else None

    def check_folder(self) -> None:
        """See that notes, and results beside them, can be written."""
        check_folder(self._path.parent)

    def add(self, outcome: Outcome) -> None:
        """Note an outcome, in the file."""
        path, results_dir = outcome.path, self._workspace.results_dir
        self._runs[_key(outcome.run)] = {
            "state": outcome.state,
            "reason": outcome.reason,
            "result": None if path is None else path.relative_to(results_dir).as_posix(),
            "seconds": outcome.seconds,
            "data": self._data(outcome.run),
        }
        with written_aside(self._path) as part:
            part.write_text(
                json.dumps({**self._circumstances, "runs": self._runs}, indent=1) + "\n"
            )

    def _read(self) -> dict[str, Any]:
        """What is noted; nothing where that cannot be read: then all runs are made anew."""
        try:
            noted = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) and isinstance(noted.get("runs"), dict) else {}

    def _data(self, run: Run) -> str | None:
        """Where `infer` would take a run's data from, which `fetch` may have changed."""
        neurons = run.get("neurons")
        return None if neurons is None else available_source(self._workspace, int(neurons))


def _key(run: Run) -> str:
    return " ".join(run.words)


@cache
def program_sha256() -> str:
    """A checksum of the program's sources, kernels included: any change gives another one."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(kernels_sha256().encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _noted_signals() -> Iterator[threading.Event]:
    """Inside the block, Ctrl-C and the signals that end a process only set the event given.

    So none of them comes between the start of a run and the note that it has started.
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
