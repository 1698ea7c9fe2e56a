"""The command line, in the order of work: options, messages, exit codes, and nothing else.

Nothing heavy is imported at the top, so that `spdnn --help` answers at once. Expected failures are
caught in `main`: one line on stderr, exit code 1. Wrong usage exits with 2 (Click's own).
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from spdnn_cli import __version__, jit
from spdnn_cli.cli.bench import bench
from spdnn_cli.cli.data import convert, fetch
from spdnn_cli.cli.infer import infer, verify
from spdnn_cli.cli.options import InOrder, PathType
from spdnn_cli.cli.report import report
from spdnn_cli.cli.results import results
from spdnn_cli.errors import SpdnnError, explained, one_line
from spdnn_cli.workspace import Workspace


@click.group(
    cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="spdnn")
@click.option(
    "--data-dir",
    type=PathType(file_okay=False, path_type=Path),
    default="datasets",
    envvar="SPDNN_DATA_DIR",
    show_envvar=True,
    show_default=True,
    help="Raw files and datasets.",
)
@click.option(
    "--results-dir",
    type=PathType(file_okay=False, path_type=Path),
    default="results",
    envvar="SPDNN_RESULTS_DIR",
    show_envvar=True,
    show_default=True,
    help="Results, one folder per machine.",
)
@click.pass_context
def cli(context: click.Context, data_dir: Path, results_dir: Path) -> None:
    """Sparse deep-network inference, as the Sparse DNN Graph Challenge measures it.

    With no data at hand, `spdnn infer` makes its own. The challenge's data takes two commands:

    \b
      spdnn fetch --neurons 1024
      spdnn infer
    """
    context.obj = Workspace(data_dir, results_dir)
    jit.data_dir = data_dir


for command in (fetch, convert, infer, verify, bench, report, results):
    cli.add_command(command)


def main() -> None:
    """Entry point of `spdnn`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a caller of this function reads it
            stream.reconfigure(errors="backslashreplace")  # a name that it cannot hold is no error
    signal.signal(signal.SIGTERM, _terminated)
    # No dense product is large here. Where no thread can be started, OpenBLAS sends an interrupt.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is to show here, not when Python ends
    except click.ClickException as error:
        error.show(sys.stderr)  # as it is: Click would change the encoding of an ASCII one
        sys.exit(error.exit_code)
    except SpdnnError as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted. What was written before is whole; run the command again.")
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        _leave_stdout()
        sys.exit(1)
    except (MemoryError, OSError, RuntimeError) as error:
        message = explained(error)
        if message is None:
            raise
        if isinstance(error, OSError):
            _leave_stdout()
        _fail(message)
    finally:
        # All is done or given up: an interrupt while the interpreter ends would say otherwise.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _terminated(number: int, frame: Any) -> None:
    """End in order, as on an interrupt, at the signal that a scheduler sends before it kills."""
    raise SpdnnError("terminated by SIGTERM. What was written before is whole")


def _leave_stdout() -> None:
    """Discard further output to stdout: else the failed write would be repeated at the end."""
    with contextlib.suppress(OSError, AttributeError):  # closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> None:
    if sys.stderr is not None:
        print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(1)
