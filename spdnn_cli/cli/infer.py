"""`spdnn infer` and `spdnn verify`: a measured run, and its answer compared with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spdnn_cli.cli.options import (
    PathType,
    check_not_too_many,
    format_option,
    neurons_option,
    seed_option,
    size_in_bytes,
    threads_option,
)
from spdnn_cli.engines.registry import ENGINES, find, own_options
from spdnn_cli.errors import EngineError, VerificationError
from spdnn_cli.partition import PARTITIONS
from spdnn_cli.workspace import Workspace


def _engine(context: Any, option: Any, name: str) -> str:
    """An engine of this package, of another one, or FILE.py:Class."""
    if name != "auto" and name not in ENGINES:
        try:
            find(name)
        except EngineError as error:
            raise click.BadParameter(str(error)) from error
    return name


def _engine_options(command: Any) -> Any:
    """Add the options that only some engines take."""
    for option in reversed(own_options().values()):
        command = click.option(f"--{option.name}", metavar=option.metavar, help=option.help)(
            command
        )
    return command


@click.command()
@neurons_option
@click.option(
    "--layers", type=click.IntRange(min=1), help="Layers to run.  [default: all of the dataset]"
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Use the first N images. If N exceeds the dataset, images repeat and are streamed.",
    metavar="N",
)
@click.option(
    "--dataset",
    type=PathType(dir_okay=False, path_type=Path),
    help="A dataset file of your own, in place of --neurons.",
)
@click.option(
    "--engine",
    callback=_engine,
    default="auto",
    show_default=True,
    metavar="NAME|FILE.py:Class",
    help=f"How to compute: auto, {', '.join(ENGINES)}, or a class of your own. auto picks one and "
    "says why.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Where to compute.  [default: a GPU if one can be used, else the CPU]",
)
@click.option("--gpus", type=click.IntRange(min=1), help="Number of GPUs, one process each.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of processes on the CPU.  [default: 1]",
)
@click.option(
    "--launcher",
    type=click.Choice(["alone", "processes", "mpi"]),
    help="What starts the workers: nothing, this process, or MPI.  [default: mpi if this process "
    "is a rank, else processes if there are several workers]",
)
@click.option(
    "--partition",
    type=click.Choice(PARTITIONS),
    default=PARTITIONS[0],
    show_default=True,
    help="snake: deal images to workers back and forth; contiguous: one block per worker.",
)
@click.option(
    "--rebalance",
    metavar="LAYER",
    type=click.IntRange(min=1),
    help="Rebalance live images between workers after this layer "
    f"({', '.join(name for name, entry in ENGINES.items() if entry.gives_values)}).",
)
@click.option(
    "--broadcast",
    is_flag=True,
    help="Under MPI, send rank 0's dataset to all ranks. Without it each rank reads the file.",
)
@click.option(
    "--device-memory",
    metavar="SIZE",
    callback=size_in_bytes,
    help="Use at most this much device memory, such as 8GB. Weights that do not fit are streamed.  "
    "[default: all free]",
)
@_engine_options
@threads_option
@click.option(
    "--retire/--no-retire",
    default=True,
    show_default=True,
    help="Whether images leave the run once their result is certain (all zero, or saturated for "
    "good).",
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
@seed_option
@click.option(
    "--trace",
    is_flag=True,
    help="Record how many layers each image is alive. Projections need it.",
)
@format_option
@click.pass_obj
def infer(workspace: Workspace, /, form: str, **given: Any) -> None:
    """Run inference, verify it, and print the rate in TeraEdges/s."""
    from spdnn_cli import commands, display

    for name in ("threads", "workers"):
        check_not_too_many(f"--{name}", given[name])
    with display.conversion() as conversion, display.layers() as layers:
        tell = commands.Callbacks(display.note, conversion, layers)
        measured = commands.infer(workspace, _options(given), tell)
    if measured is None:  # a rank of an MPI job; rank 0 alone speaks
        return
    result = commands.prepared(workspace, measured)
    try:  # save also if printing fails: no measurement is lost
        if form == "json":
            display.as_json(result)
        else:
            display.record(result.record)
    finally:
        commands.save(workspace, measured, result)
    display.note(f"Result file: {result.path}")
    verification = result.record.verification
    if verification.difference is not None:
        raise VerificationError(
            f"the categories are wrong: {verification.difference}", path=result.path,
            hint=f"Compared with {verification.against}.",
        )  # fmt: skip


def _options(given: dict[str, Any]) -> Any:
    from spdnn_cli.run.options import RunOptions

    own = {name: given.pop(name) for name in own_options()}
    asked = {name: value for name, value in own.items() if value is not None}
    given["threads"] = given["threads"] or 0
    return RunOptions(engine_options=asked, **given)


@click.command()
@click.argument("result", required=False, metavar="[RESULT]")
@click.option(
    "--truth",
    type=PathType(dir_okay=False, path_type=Path),
    help="An official categories file.  [default: the best truth known, else the reference]",
)
@click.option(
    "--reference", is_flag=True, help="Run the reference engine, which is slow, and compare."
)
@format_option
@click.pass_obj
def verify(
    workspace: Workspace, result: str | None, truth: Path | None, reference: bool, form: str
) -> None:
    """Compare the categories of a run with the truth.

    RESULT is an id or a file; without it, the last run is taken.
    """
    from spdnn_cli import commands, display
    from spdnn_cli.results.store import Store

    if truth is not None and reference:
        raise click.UsageError("--truth and --reference exclude each other")
    with display.layers() as layers:
        tell = commands.Callbacks(display.note, layers=layers)
        verified = commands.verify(workspace, result, truth, reference, tell)
    difference = verified.record.verification.difference
    try:
        if form == "json":
            display.as_json(verified)
        else:
            display.verified(verified)
        Store(workspace.results_dir).update(verified)
    finally:
        if difference is not None:
            raise VerificationError(f"the categories are wrong: {difference}", path=verified.path)
