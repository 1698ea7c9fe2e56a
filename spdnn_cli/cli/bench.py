"""`spdnn bench`: suites of runs."""

from __future__ import annotations

from pathlib import Path

import click

from spdnn_cli.cli.infer import infer
from spdnn_cli.cli.options import PathType
from spdnn_cli.workspace import Workspace


@click.command()
@click.argument("suite", required=False)
@click.option(
    "--file",
    type=PathType(dir_okay=False, path_type=Path),
    help="The file of suites.  [default: bench.yaml here, else the program's own]",
)
@click.option("--list", "listing", is_flag=True, help="Show the suites and their runs; run none.")
@click.option("--again", is_flag=True, help="Run all runs, also those that were done before.")
@click.pass_obj
def bench(
    workspace: Workspace, suite: str | None, file: Path | None, listing: bool, again: bool
) -> None:
    """Run a suite of bench.yaml, and show its tables.

    Runs that this program did before on this machine are not repeated. Failed runs are run again.
    """
    from spdnn_cli import display
    from spdnn_cli.bench import suite as suites
    from spdnn_cli.bench import suite_run
    from spdnn_cli.report import show
    from spdnn_cli.report.all import own_tables

    opened = suites.SuiteFile(suites.find(file), infer.params)
    if listing:
        for name in opened.names if suite is None else [suite]:
            display.suite(opened.suite(name), suite_run.why_not_here)
        return
    made = suite_run.Bench(workspace, opened.suite(suite or "smoke"), again, display.note)
    try:
        with display.bench(made) as (begins, ended):
            made.execute(begins, ended)
    except KeyboardInterrupt:
        raise made.interrupted() from None
    show.show(own_tables(made.results))
    display.bench_end(made.outcomes, made.results)
    made.check()
