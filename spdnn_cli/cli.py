"""The command line, in the order of work: options, messages, exit codes, and nothing else.

Nothing heavy is imported at the top, so that `spdnn --help` answers at once. Expected failures are
caught in `main`: one line on stderr, exit code 1. Wrong usage exits with 2 (Click's own).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click

from spdnn_cli import __version__, problem
from spdnn_cli.errors import ResultError, SpdnnError, VerificationError
from spdnn_cli.workspace import Workspace

ENGINE_NAMES = (
    *("auto", "reference", "cpu-layered", "cpu"),
    *("baseline", "cusparse", "tiled", "folded"),
)
SOURCE_NAMES = ("tsv", "mnist", "synthetic")

_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to read, or JSON for programs.",
)
_threads = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]"
)
_layers = click.IntRange(1, problem.LAYERS[-1])


_NEURONS = {str(neurons): neurons for neurons in problem.NEURONS}


def _one_problem(context: Any, option: Any, word: str | None) -> int | None:
    """One official N."""
    if word is not None and word not in _NEURONS:
        raise click.BadParameter(f"{word!r} is not one of {', '.join(_NEURONS)}")
    return None if word is None else _NEURONS[word]


def _some_problems(context: Any, option: Any, text: str) -> tuple[int | None, ...]:
    """One official N, several with commas between, or `all`."""
    if text == "all":
        return problem.NEURONS
    return tuple(_one_problem(context, option, word) for word in text.split(","))


_neurons = click.option(
    "--neurons",
    callback=_one_problem,
    metavar="|".join(_NEURONS),
    help="The problem.  [default: the last one fetched]",
)


class _InOrder(click.Group):
    """Lists the commands in the order of work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _bytes(context: Any, option: Any, text: str | None) -> int | None:
    """A size such as 8GB, in bytes."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"{text!r} is not a size such as 8GB or 500MB")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " "))


@click.group(
    cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="spdnn")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default="datasets",
    envvar="SPDNN_DATA_DIR",
    show_envvar=True,
    show_default=True,
    help="Raw files and datasets.",
)
@click.option(
    "--results-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    envvar="SPDNN_RESULTS_DIR",
    show_envvar=True,
    show_default=True,
    help="Results, one folder a machine.",
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


@cli.command()
@click.option(
    "--neurons",
    callback=_some_problems,
    metavar="N[,N...]|all",
    default=str(problem.NEURONS[0]),
    show_default=True,
    help="Neurons in a layer: which problems.",
)
@click.option(
    "--layers",
    type=click.Choice([str(layers) for layers in problem.LAYERS]),
    multiple=True,
    help="Depths whose official categories to fetch.  [default: all three]",
)
@click.option(
    "--source",
    type=click.Choice(["mnist", "official"]),
    default="mnist",
    show_default=True,
    help="MNIST (11 MB), from which the official data is regenerated bit for bit, or the official "
    "files themselves (200 GB for all, unpacked).",
)
@click.option("--mirror", help="Another place to fetch from: a URL or a folder, same layout.")
@click.pass_obj
def fetch(
    workspace: Workspace,
    neurons: tuple[int, ...],
    layers: tuple[str, ...],
    source: str,
    mirror: str | None,
) -> None:
    """Download the raw files, resuming what was cut, into DATA_DIR/raw."""
    from spdnn_cli import display
    from spdnn_cli import fetch as fetching

    depths = tuple(int(depth) for depth in layers) or problem.LAYERS
    plan = fetching.plan_fetch(workspace.data_dir, source, neurons, depths, mirror)  # type: ignore[arg-type]
    display.fetch_plan(plan)
    with display.transfer() as progress:
        fetched = fetching.execute(plan, progress)
    workspace.remember(neurons[-1])
    display.fetched(fetched)


@cli.command()
@_neurons
@click.option(
    "--layers",
    type=_layers,
    default=problem.LAYERS[-1],
    show_default=True,
    help="Layers to hold; a later call adds more.",
)
@click.option(
    "--from",
    "source",
    type=click.Choice(SOURCE_NAMES),
    help="Official TSV files; MNIST; or digits drawn by the program.  [default: what was fetched]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the synthetic digits.  [default: 1]")
@click.option(
    "--to",
    "target",
    type=(click.Choice(["tsv"]), click.Path(file_okay=False, path_type=Path)),
    metavar="tsv DIR",
    help="The way back: write the dataset as official files below DIR.",
)
@_threads
@click.pass_obj
def convert(
    workspace: Workspace,
    neurons: int | None,
    layers: int,
    source: str | None,
    seed: int | None,
    target: tuple[str, Path] | None,
    threads: int | None,
) -> None:
    """Turn raw files into one HDF5 file a problem, neuron{N}.h5."""
    from spdnn_cli import display, flow

    neurons = flow.neurons_or_last(workspace, neurons)
    with display.work() as report:
        if target is not None:
            for path in flow.write_tsv(workspace, neurons, layers, target[1], report):
                click.echo(f"Wrote {path}")
            return
        dataset = flow.convert_from(
            workspace, neurons, layers, source, seed, threads=threads, report=report
        )
    display.dataset(dataset)


@cli.command()
@_neurons
@click.option("--layers", type=_layers, help="Layers to run.  [default: all of the dataset]")
@click.option("--images", type=click.IntRange(min=1), help="Only the first so many.")
@click.option(
    "--dataset",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A dataset file of your own, in place of --neurons.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
    help="The way to compute; auto picks one and says why.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Where to compute.  [default: the best present]",
)
@click.option("--gpus", type=click.IntRange(min=1), help="How many GPUs, one process each.")
@click.option(
    "--device-memory",
    metavar="SIZE",
    callback=_bytes,
    help="Device memory to use, say 8GB; other weights are streamed.  [default: all free]",
)
@_threads
@click.option(
    "--retire/--no-retire",
    default=True,
    show_default=True,
    help="Whether images that are finished (dead, or saturated for good) leave the run.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Runs before the timed ones.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Timed runs; their median counts.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the synthetic digits.  [default: 1]")
@_format
@click.pass_obj
def infer(workspace: Workspace, /, form: str, **wanted: Any) -> None:
    """Run inference, verify it, and print the rate in TeraEdges/s."""
    from spdnn_cli import display, flow

    with display.work() as report, display.layers() as progress:
        record, path = flow.infer(workspace, wanted, display.note, report, progress)
    if form == "json":
        click.echo(json.dumps(record, indent=1))
    else:
        display.result(record)
    display.note(f"Result file: {path}")
    if record["difference"] is not None:
        raise VerificationError(
            f"the categories are wrong: {record['difference']}", path=path,
            hint=f"Compared with {record['verified_against']}.",
        )  # fmt: skip


@cli.command()
@click.argument("result", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--truth",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An official categories file.  [default: the best truth known, else the reference]",
)
@click.option("--reference", is_flag=True, help="Run the reference engine, and compare with it.")
@_format
@click.pass_obj
def verify(
    workspace: Workspace, result: Path | None, truth: Path | None, reference: bool, form: str
) -> None:
    """Compare the categories of a run (the last one) with the truth."""
    from spdnn_cli import display, flow

    if truth is not None and reference:
        raise click.UsageError("--truth and --reference exclude each other")
    with display.layers() as progress:
        outcome = flow.verify(workspace, result, truth, reference, display.note, progress)
    if form == "json":
        click.echo(json.dumps(outcome, indent=1))
    else:
        display.verification(outcome)
    if outcome["difference"] is not None:
        raise VerificationError(
            f"the categories are wrong: {outcome['difference']}", path=outcome["result"]
        )


@cli.command()
@_format
@click.pass_obj
def report(workspace: Workspace, form: str) -> None:
    """Tables from RESULTS_DIR: one row a problem, one column an engine."""
    from spdnn_cli import display
    from spdnn_cli import report as reporting
    from spdnn_cli.result import load_all

    results = load_all(workspace)
    if not results:
        raise ResultError(
            f"there is no result below {workspace.results_dir}", hint="Run spdnn infer first."
        )
    tables = reporting.throughput(results)
    if form == "json":
        click.echo(json.dumps([table.as_dict() for table in tables], indent=1))
    else:
        display.tables(tables)


def main() -> None:
    """Entry point of `spdnn`."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SpdnnError as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted. What was written before is whole; run the command again.")
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        _leave_stdout()
        sys.exit(1)
    except MemoryError as error:
        _fail(f"there is too little memory. {error}".rstrip())
    except OSError as error:
        _leave_stdout()
        where = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{where}{error.strerror or error}.")
    finally:
        # All is done or given up: an interrupt while the interpreter ends would say otherwise.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _leave_stdout() -> None:
    """Have nothing more written to stdout: what it could not take would fail again at the end."""
    with contextlib.suppress(OSError, AttributeError):  # closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(1)
