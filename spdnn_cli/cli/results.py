"""`spdnn results`: list, show, keep and remove results."""

from __future__ import annotations

from pathlib import Path

import click

from spdnn_cli.cli.options import InOrder, PathType, format_option
from spdnn_cli.workspace import Workspace


@click.group("results", cls=InOrder, invoke_without_command=True)
@click.pass_context
def results(context: click.Context) -> None:
    """List results; show, keep or remove some.

    Your own runs are in RESULTS_DIR/local, which Git ignores, until they are kept.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_results)


@results.command("list")
@click.option("--suite", help="Only those of this suite.")
@click.pass_obj
def list_results(workspace: Workspace, suite: str | None = None) -> None:
    """One line per result, the newest last: id, machine, problem, engine, seconds, status."""
    from spdnn_cli import display
    from spdnn_cli.results import keep
    from spdnn_cli.results.store import Store

    display.results(keep.select(Store(workspace.results_dir, display.note), (), suite))


@results.command("show")
@click.argument("result")
@format_option
@click.pass_obj
def show_result(workspace: Workspace, result: str, form: str) -> None:
    """Show a result: its id, or its file."""
    from spdnn_cli import display
    from spdnn_cli.results.store import Store

    found = Store(workspace.results_dir, display.note).find(result)
    if form == "json":
        display.as_json(found)
    else:
        display.record(found.record)


@results.command("keep")
@click.argument("ids", nargs=-1, metavar="[RESULT]...")
@click.option("--suite", help="Only those of this suite.")
@click.option(
    "--into",
    metavar="NAME",
    help="Name of the file, without .jsonl.  [default: the suite of each run, else runs]",
)
@click.option(
    "--checkout",
    type=PathType(file_okay=False, path_type=Path),
    default=".",
    help="The Git repository of the program.  [default: the current folder]",
)
@click.pass_obj
def keep_results(
    workspace: Workspace, ids: tuple[str, ...], suite: str | None, into: str | None, checkout: Path
) -> None:
    """Move runs of your own to those that Git tracks, RESULTS_DIR/<machine>/<suite>.jsonl.

    Without RESULT: all of your own, or all of a suite. A run is refused if it is not verified, or
    if no commit of the repository has the sources that made it.
    """
    from spdnn_cli import display
    from spdnn_cli.results import keep
    from spdnn_cli.results.store import Store

    store = Store(workspace.results_dir, display.note)
    for kept, commit in keep.keep(store, ids, suite, into, checkout):
        print(f"{kept.record.id}  {kept.path}  commit {commit[:12]}")


@results.command("remove")
@click.argument("ids", nargs=-1, required=True, metavar="RESULT...")
@click.pass_obj
def remove_results(workspace: Workspace, ids: tuple[str, ...]) -> None:
    """Delete results, by id or file."""
    from spdnn_cli import display
    from spdnn_cli.results import keep
    from spdnn_cli.results.store import Store

    for removed in keep.remove(Store(workspace.results_dir, display.note), ids):
        print(f"{removed.record.id}  removed")
