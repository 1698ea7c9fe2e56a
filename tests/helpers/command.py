"""The command line: in this process, which saves the seconds of the imports, or in its own."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spdnn_cli import cli

QUICK = ["--device", "cpu", "--warmup", "0", "--repeat", "1"]
"""Options of the shortest run."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def run(*words: str | Path) -> Outcome:
    """Run `spdnn` with these words."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    on_sigterm = signal.getsignal(signal.SIGTERM)  # the program has its own, pytest another
    sys.argv = ["spdnn", *map(str, words)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as error:
        code = error.code
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, on_sigterm)
    return Outcome(code, out.getvalue(), err.getvalue())


class Spdnn:
    """The command line, with data and results in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.results = folder, folder / "data", folder / "results"
        self.dataset = self.data / "neuron1024.h5"
        self.folders = ["--data-dir", str(self.data), "--results-dir", str(self.results)]

    def __call__(self, *words: str | Path) -> Outcome:
        """Run a command in this process."""
        return run(*self.folders, *words)

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a process of its own."""
        command = [sys.executable, "-m", "spdnn_cli", *self.folders, *map(str, words)]
        return subprocess.Popen(command, **{"stdout": subprocess.PIPE} | options)

    def fails(self, *words: str | Path) -> str:
        """The one line of a command that fails as it should: exit code 1, nothing on stdout."""
        outcome = self(*words)
        lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert (outcome.code, outcome.out, len(lines)) == (1, "", 1), outcome
        assert outcome.err.endswith(lines[0] + "\n")
        return lines[0].removeprefix("error: ")

    def files(self) -> set[str]:
        """Every file below the folder."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix() for path in found}

    def own_results(self) -> list[Path]:
        """The files of the runs that were not kept, oldest first."""
        return sorted(self.results.glob("local/*/*.json"), key=lambda path: path.stem[-21:])

    def machine(self) -> str:
        """The name of the one machine that has results of its own."""
        (folder,) = {path.parent for path in self.own_results()}
        return folder.name

    def list_of(self, result: Path) -> Path:
        """The file with the categories of a result."""
        sha256 = json.loads(result.read_text())["categories_sha256"]
        return self.results / "local" / "lists" / f"{sha256}.tsv"
