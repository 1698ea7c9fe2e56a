"""The command line in this process, which saves the seconds of the imports."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spdnn_cli import cli


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
    sys.argv = ["spdnn", *map(str, words)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as error:
        code = error.code
    finally:
        sys.argv = argv
    return Outcome(code, out.getvalue(), err.getvalue())
