"""`spdnn report`: tables and pictures from results, and published figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spdnn_cli.cli.options import InOrder, PathType, number
from spdnn_cli.errors import ResultError
from spdnn_cli.workspace import Workspace

if TYPE_CHECKING:
    from spdnn_cli.results.store import Result


_tables_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "plain", "markdown", "csv", "json"]),
    help="With lines (table), without (plain), or for other programs.  [default: table on a "
    "terminal, else plain]",
)


@click.group(cls=InOrder, invoke_without_command=True)
@_tables_format
@click.option(
    "--plot",
    metavar="FILE.(svg|png)",
    type=PathType(dir_okay=False, path_type=Path),
    help="Also draw pictures, to an SVG or PNG file.",
)
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=PathType(dir_okay=False, path_type=Path),
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
    from spdnn_cli.report import all as reporting

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
@click.argument("before", type=PathType(exists=True, path_type=Path), metavar="A")
@click.argument("after", type=PathType(exists=True, path_type=Path), metavar="B")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    callback=number,
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
    from spdnn_cli.report import all as reporting

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
    from spdnn_cli.results.store import Store

    results = Store(workspace.results_dir, display.note).all()
    if not results:
        raise ResultError(
            f"there is no result below {workspace.results_dir}", hint="Run spdnn infer first."
        )
    return results
