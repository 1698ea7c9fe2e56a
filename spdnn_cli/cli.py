"""The command line, in the order of work: options, messages, exit codes, and nothing else.

Nothing heavy is imported at the top, so that `spdnn --help` answers at once. Expected failures are
caught in `main`: one line on stderr, exit code 1. Wrong usage exits with 2 (Click's own).
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import math
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdnn_cli import __version__, jit, problem
from spdnn_cli.cores import available_cores, most_threads
from spdnn_cli.errors import ResultError, SpdnnError, VerificationError, explained, one_line
from spdnn_cli.workspace import Workspace

if TYPE_CHECKING:
    from spdnn_cli.results.store import Result

ENGINE_NAMES = (
    *("auto", "reference", "cpu-layered", "cpu"),
    *("baseline", "cusparse", "tiled", "folded"),
)
SOURCE_NAMES = ("tsv", "mnist", "synthetic")


def _number(context: Any, option: Any, value: float) -> float:
    """A number that others can be compared with."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


class _Path(click.Path):
    """A path, with `~` for the home folder wherever it stands: a shell does not know them all."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


def _mirror(context: Any, option: Any, place: str | None) -> str | None:
    """A URL, or a folder, which may begin with `~`."""
    return None if place is None else os.path.expanduser(place)


_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to read, or JSON for programs.",
)


def _check_not_too_many(option: str, number: int | None) -> None:
    """Refuse more threads, or processes, than a machine like this one can make use of.

    Not while words are parsed: a suite may name runs for larger machines.
    """
    if number is not None and number > (most := most_threads()):
        raise click.BadParameter(
            f"{number} is more than this machine can make use of: {most} at most "
            f"({available_cores()} cores)",
            param_hint=f"'{option}'",
        )


_threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads: up to 8 a core, or 64; a note where they outnumber the cores.  "
    "[default: all cores, as far as a container may use them]",
)

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
    type=_Path(file_okay=False, path_type=Path),
    default="datasets",
    envvar="SPDNN_DATA_DIR",
    show_envvar=True,
    show_default=True,
    help="Raw files and datasets.",
)
@click.option(
    "--results-dir",
    type=_Path(file_okay=False, path_type=Path),
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
    jit.data_dir = data_dir


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
@click.option(
    "--mirror",
    callback=_mirror,
    help="Another place to fetch from: a URL or a folder, same layout.",
)
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
    from spdnn_cli.atomic import check_folder
    from spdnn_cli.challenge import fetch as fetching

    depths = tuple(int(depth) for depth in layers) or problem.LAYERS
    plan = fetching.plan_fetch(workspace.data_dir, source, neurons, depths, mirror)  # type: ignore[arg-type]
    display.fetch_plan(plan)
    if plan.total_bytes or plan.unknown_sizes:
        check_folder(plan.folder)
    with display.transfer() as progress:
        fetched = fetching.execute(plan, progress)
    display.fetched(fetched)
    workspace.remember(neurons[-1])


@cli.command()
@_neurons
@click.option(
    "--layers",
    type=click.IntRange(1, problem.LAYERS[-1]),
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
    type=(click.Choice(["tsv"]), _Path(file_okay=False, path_type=Path)),
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
    from spdnn_cli import commands as flow
    from spdnn_cli import display

    neurons = flow.neurons_or_last(workspace, neurons)
    _check_not_too_many("--threads", threads)
    flow.note_threads(threads or 1, 1, display.note)
    with display.work() as report:
        if target is not None:
            for path in flow.write_tsv(workspace, neurons, layers, target[1], report):
                print(one_line(f"Wrote {path}"))
            return
        dataset = flow.convert_from(
            workspace,
            neurons,
            layers,
            source,
            seed,
            threads=threads,
            report=report,
            note=display.note,
        )
    display.dataset(dataset)


@cli.command()
@_neurons
@click.option(
    "--layers", type=click.IntRange(min=1), help="Layers to run.  [default: all of the dataset]"
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="The first so many; more than there are: again and again, streamed to the device.",
)
@click.option(
    "--dataset",
    "path",
    type=_Path(dir_okay=False, path_type=Path),
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
    "--workers",
    type=click.IntRange(min=1),
    help="How many processes on the CPU.  [default: 1]",
)
@click.option(
    "--launcher",
    type=click.Choice(["alone", "processes", "mpi"]),
    help="What starts the workers: nothing, this process, or MPI.  [default: as found]",
)
@click.option(
    "--partition",
    type=click.Choice(["cyclic", "contiguous"]),
    default="cyclic",
    show_default=True,
    help="How workers share the images: dealt out one by one, or a piece each.",
)
@click.option(
    "--rebalance",
    metavar="LAYER",
    type=click.IntRange(min=1),
    help="After this layer workers even out their live images (cpu-layered, tiled).",
)
@click.option(
    "--broadcast", is_flag=True, help="Under MPI: send rank 0's dataset to all, not read each."
)
@click.option(
    "--device-memory",
    metavar="SIZE",
    callback=_bytes,
    help="Device memory to use, say 8GB; other weights are streamed.  [default: all free]",
)
@click.option(
    "--tile",
    metavar="SHAPE",
    default="auto",
    show_default=True,
    help="How tiled is to tile, say minibatch=12,outputs=1,blocksize=256,buffer=24KB,reorder=no.",
)
@click.option(
    "--features",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How tiled stores values between layers; float16 rounds: see whether it verifies.",
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
@click.option("--trace", is_flag=True, help="Keep how many layers each image lives, for scaling.")
@_format
@click.pass_obj
def infer(workspace: Workspace, /, form: str, **wanted: Any) -> None:
    """Run inference, verify it, and print the rate in TeraEdges/s."""
    from spdnn_cli import commands as flow
    from spdnn_cli import display

    for name in ("threads", "workers"):
        _check_not_too_many(f"--{name}", wanted[name])
    with display.work() as report, display.layers() as progress:
        measured = flow.infer(workspace, wanted, display.note, report, progress)
    if measured is None:  # a rank of an MPI job; rank 0 alone speaks
        return
    record = measured.record
    try:  # each is tried, whatever becomes of the other: what was measured is not lost
        if form == "json":
            print(json.dumps(record, indent=1))
        else:
            display.result(record)
    finally:
        path = flow.save(workspace, measured)
    display.note(f"Result file: {path}")
    if record["difference"] is not None:
        raise VerificationError(
            f"the categories are wrong: {record['difference']}", path=path,
            hint=f"Compared with {record['verified_against']}.",
        )  # fmt: skip


@cli.command()
@click.argument("result", required=False, type=_Path(dir_okay=False, path_type=Path))
@click.option(
    "--truth",
    type=_Path(dir_okay=False, path_type=Path),
    help="An official categories file.  [default: the best truth known, else the reference]",
)
@click.option("--reference", is_flag=True, help="Run the reference engine, and compare with it.")
@_format
@click.pass_obj
def verify(
    workspace: Workspace, result: Path | None, truth: Path | None, reference: bool, form: str
) -> None:
    """Compare the categories of a run (the last one) with the truth."""
    from spdnn_cli import commands as flow
    from spdnn_cli import display

    if truth is not None and reference:
        raise click.UsageError("--truth and --reference exclude each other")
    with display.layers() as progress:
        outcome = flow.verify(workspace, result, truth, reference, display.note, progress)
    try:
        if form == "json":
            print(json.dumps(outcome, indent=1))
        else:
            display.verification(outcome)
        flow.note_outcome(outcome)
    finally:
        if outcome["difference"] is not None:
            raise VerificationError(
                f"the categories are wrong: {outcome['difference']}", path=outcome["result"]
            )


@cli.command()
@click.argument("suite", required=False)
@click.option(
    "--file",
    type=_Path(dir_okay=False, path_type=Path),
    help="The file of suites.  [default: bench.yaml here, else the program's own]",
)
@click.option("--list", "listing", is_flag=True, help="Show the suites and their runs; run none.")
@click.option("--again", is_flag=True, help="Start over: run also what was done before.")
@click.pass_obj
def bench(
    workspace: Workspace, suite: str | None, file: Path | None, listing: bool, again: bool
) -> None:
    """Run a suite of bench.yaml, and show its tables.

    It goes on where it stopped: what was done on this machine, by this program, is not run again.
    What failed is.
    """
    from spdnn_cli import display
    from spdnn_cli.bench import suite as suites
    from spdnn_cli.bench import suite_run as benching
    from spdnn_cli.report import engines as reporting
    from spdnn_cli.results.store import load

    opened = suites.SuiteFile(suites.find(file), infer.params)
    if listing:
        for name in opened.names if suite is None else [suite]:
            display.suite(opened.suite(name), benching.why_not_here)
        return
    made = benching.Bench(workspace, opened.suite(suite or "smoke"), again)
    try:
        with display.bench(made) as (begins, ended):
            made.execute(begins, ended)
    except KeyboardInterrupt:
        raise made.interrupted() from None
    results = [
        load(outcome.path) for outcome in made.outcomes if outcome.path and not outcome.reason
    ]
    display.tables(reporting.all_tables(results))
    display.bench_end(made.outcomes, results)
    made.check()


_tables_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "plain", "markdown", "csv", "json"]),
    help="With lines (table), without (plain), or for other programs.  [default: table on a "
    "terminal, else plain]",
)


@cli.group(cls=_InOrder, invoke_without_command=True)
@_tables_format
@click.option(
    "--plot",
    metavar="FILE.(svg|png)",
    type=_Path(dir_okay=False, path_type=Path),
    help="Also draw pictures, to an SVG or PNG file.",
)
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=_Path(dir_okay=False, path_type=Path),
    help="Also write tables and pictures as one page.",
)
@click.pass_context
def report(context: click.Context, form: str | None, plot: Path | None, page: Path | None) -> None:
    """Tables from RESULTS_DIR: all of them, or the one that is named.

    No GPU is needed, and nothing is run.
    """
    if page is not None and page == plot:
        raise click.UsageError("--plot and --html name the same file")
    if context.invoked_subcommand is not None:
        if plot is not None or page is not None:
            raise click.UsageError(
                "--plot and --html go with spdnn report alone, before no command"
            )
        return
    from spdnn_cli import display
    from spdnn_cli.report import engines as reporting

    results = _all_results(context.obj)
    tables = reporting.all_tables(results)
    if plot is not None:
        from spdnn_cli.report import plots

        plots.draw(results, plot)
        display.note(f"Pictures: {plot}")
    if page is not None:
        from spdnn_cli.report.page import write_page

        write_page(results, tables, page)
        display.note(f"Page: {page}")
    display.tables(tables, form)


@report.command()
@_tables_format
@click.pass_context
def throughput(context: click.Context, form: str | None) -> None:
    """TeraEdges/s on one device: a row a problem, a column an engine, ratios to the baseline."""
    _show_table(context, form)


@report.command()
@_tables_format
@click.pass_context
def kernels(context: click.Context, form: str | None) -> None:
    """From the baseline to the optimised kernel, step by step.

    The steps are runs of `spdnn infer --engine tiled --tile SHAPE`.
    """
    _show_table(context, form)


@report.command()
@_tables_format
@click.pass_context
def scaling(context: click.Context, form: str | None) -> None:
    """Strong scaling: measured on the devices at hand, projected beyond them.

    The projection needs a run with `spdnn infer --trace`, and says how far it is off.
    """
    _show_table(context, form)


@report.command()
@_tables_format
@click.pass_context
def peers(context: click.Context, form: str | None) -> None:
    """This machine's results beside those of other programs, each with its source and machine."""
    _show_table(context, form)


@report.command()
@_tables_format
@click.pass_context
def cpu(context: click.Context, form: str | None) -> None:
    """The engines on CPUs, by threads and workers."""
    _show_table(context, form)


@report.command()
@click.argument("before", type=_Path(exists=True, path_type=Path), metavar="A")
@click.argument("after", type=_Path(exists=True, path_type=Path), metavar="B")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    callback=_number,
    default=5.0,
    show_default=True,
    help="Percent of A's time by which B may be slower.",
)
@_tables_format
@click.pass_context
def compare(
    context: click.Context, before: Path, after: Path, threshold: float, form: str | None
) -> None:
    """Whether B is faster or slower than A, or whether the samples cannot tell.

    A and B are result files of the same problem, or folders of results, whose runs are matched by
    problem, engine and options. The exit code is 1 if a run of B is slower than A's by more than
    the threshold, and that for certain; or if its answer is wrong.
    """
    from spdnn_cli import display
    from spdnn_cli.report import compare as comparing

    comparison = comparing.compare(before, after, threshold / 100, display.note)
    display.tables([comparison.table()], _form(context, form))
    comparison.check()


def _show_table(context: click.Context, form: str | None) -> None:
    """The table of the command in `context`."""
    from spdnn_cli import display
    from spdnn_cli.report import engines as reporting

    name, results = str(context.info_name), _all_results(context.obj)
    tables = reporting.TABLES[name](results)
    if not tables:
        raise ResultError(
            f"no result below {context.obj.results_dir} is for the {name} table",
            hint=reporting.HINTS[name],
        )
    display.tables(tables, _form(context, form))


def _form(context: click.Context, form: str | None) -> str | None:
    """The format asked for after the command, or after `report`."""
    return form or (context.parent.params["form"] if context.parent is not None else None)


def _all_results(workspace: Workspace) -> list[Result]:
    from spdnn_cli import display
    from spdnn_cli.results.store import load_all

    results = load_all(workspace, display.note)
    if not results:
        raise ResultError(
            f"there is no result below {workspace.results_dir}", hint="Run spdnn infer first."
        )
    return results


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
    """What a scheduler sends before it kills: end in order, as on an interrupt."""
    raise SpdnnError("terminated by SIGTERM. What was written before is whole")


def _leave_stdout() -> None:
    """Have nothing more written to stdout: what it could not take would fail again at the end."""
    with contextlib.suppress(OSError, AttributeError):  # closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> None:
    if sys.stderr is not None:
        print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(1)
