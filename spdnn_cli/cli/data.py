"""`spdnn fetch` and `spdnn convert`: from the official site or MNIST to a dataset file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import click

from spdnn_cli import problem
from spdnn_cli.cli.options import (
    PathType,
    check_not_too_many,
    neurons_option,
    seed_option,
    some_problems,
    threads_option,
)
from spdnn_cli.errors import one_line
from spdnn_cli.workspace import Workspace

SOURCE_NAMES = ("tsv", "mnist", "synthetic")


def _mirror(context: Any, option: Any, place: str | None) -> str | None:
    """The URL; or the folder, with a leading `~` expanded."""
    return None if place is None else os.path.expanduser(place)


@click.command(short_help="Download the raw files, or the rest of them.")
@click.option(
    "--neurons",
    callback=some_problems,
    metavar="N[,N...]|all",
    default=str(problem.NEURONS[0]),
    show_default=True,
    help="The problems, by neurons per layer.",
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
    help="Fetch from this URL or folder instead. It has the layout of the official site.",
)
@click.pass_obj
def fetch(
    workspace: Workspace,
    neurons: tuple[int, ...],
    layers: tuple[str, ...],
    source: Literal["mnist", "official"],
    mirror: str | None,
) -> None:
    """Download the raw files into DATA_DIR/raw, resuming what was cut off."""
    from spdnn_cli import display
    from spdnn_cli.atomic import check_folder
    from spdnn_cli.challenge import fetch as fetching

    depths = tuple(int(depth) for depth in layers) or problem.LAYERS
    plan = fetching.plan_fetch(workspace.data_dir, source, neurons, depths, mirror)
    display.fetch_plan(plan)
    if plan.total_bytes or plan.unknown_sizes:
        check_folder(plan.folder)
    with display.transfer() as progress:
        fetched = fetching.execute(plan, progress, note=display.note)
    display.fetched(fetched)
    workspace.remember(neurons[-1])


@click.command()
@neurons_option
@click.option(
    "--layers",
    type=click.IntRange(1, problem.LAYERS[-1]),
    default=problem.LAYERS[-1],
    show_default=True,
    help="Layers to store. A later call can add more.",
)
@click.option(
    "--from",
    "source",
    type=click.Choice(SOURCE_NAMES),
    help="Official TSV files; MNIST; or digits drawn by the program.  [default: what was fetched]",
)
@seed_option
@click.option(
    "--to",
    "target",
    type=(click.Choice(["tsv"]), PathType(file_okay=False, path_type=Path)),
    metavar="tsv DIR",
    help="Write the dataset as official TSV files below DIR instead.",
)
@threads_option
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
    """Convert raw files into one HDF5 file per problem, neuron{N}.h5."""
    from spdnn_cli import commands, display

    neurons = commands.neurons_or_last(workspace, neurons)
    check_not_too_many("--threads", threads)
    commands.note_threads(threads or 1, 1, display.note)
    with display.conversion() as progress:
        if target is not None:
            for path in commands.write_tsv(workspace, neurons, layers, target[1], progress):
                print(one_line(f"Wrote {path}"))
            return
        dataset = commands.convert_from(
            workspace,
            neurons,
            layers,
            source,
            seed,
            threads=threads or 0,
            progress=progress,
            note=display.note,
        )
    display.dataset(dataset)
