"""`spdnn report`: tables and pictures from results, and published figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdnn_cli.cli.options import InOrder, PathType, number
from spdnn_cli.errors import ResultError
from spdnn_cli.workspace import Workspace

if TYPE_CHECKING:
    from spdnn_cli.report.tables import Table
    from spdnn_cli.results.store import Result


_tables_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "plain", "markdown", "csv", "json"]),
    help="With lines (table), without (plain), or complete, for other programs.  [default: table "
    "on a terminal, else plain]",
)
_machine = click.option(
    "--machine",
    "machines",
    metavar="NAME",
    multiple=True,
    help="Only results of this machine: its folder's name, or a part of it. May be repeated.",
)


def _counts(context: Any, option: Any, text: str | None) -> tuple[int, ...] | None:
    """Numbers of devices with commas between."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not word.isdecimal() or not 1 <= int(word) <= MOST_DEVICES]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not a number of devices, 1 to {MOST_DEVICES}")
    return tuple(sorted({int(word) for word in words}))


MOST_DEVICES = 1_000_000
_devices = click.option(
    "--devices",
    metavar="N[,N...]",
    callback=_counts,
    help="Numbers of devices to project to.  [default: the paper's: 1, 3, 6, ... 768]",
)


@click.group(
    cls=InOrder,
    invoke_without_command=True,
    short_help="What the results say: tables, pictures, a page.",
)
@_tables_format
@_machine
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
def report(
    context: click.Context,
    form: str | None,
    machines: tuple[str, ...],
    plot: Path | None,
    page: Path | None,
) -> None:
    """Print tables from the results: a summary and the paper's tables, or the table of a command.

    As Markdown, CSV or JSON, print every table. No GPU is needed, and nothing is run.
    """
    if page is not None and page == plot:
        raise click.UsageError("--plot and --html name the same file")
    if context.invoked_subcommand is not None:
        if plot is not None or page is not None:
            raise click.UsageError(
                "--plot and --html go with spdnn report alone, before no command"
            )
        return
    from spdnn_cli.report import show

    results = _results(context, machines)
    if plot is not None:
        from spdnn_cli.report import plots

        plots.draw(results, plot)
        click.echo(f"Pictures: {plot}", err=True)
    if page is not None:
        from spdnn_cli.report.page import write_page

        write_page(results, page)
        click.echo(f"Page: {page}", err=True)
    if show.resolved(form) in show.FOR_READERS:
        _show_overview(results, form)
    else:
        from spdnn_cli.report.all import all_tables

        show.show(all_tables(results), form)


def _show_overview(results: list[Result], form: str | None) -> None:
    """The summary, the paper's tables, and how to see the others."""
    from spdnn_cli.report import show
    from spdnn_cli.report.all import TABLES
    from spdnn_cli.report.summary import summary

    show.lines(summary(results))
    print()
    show.show(TABLES["paper"].make(results), form)
    print("\nOther tables, in full with --format markdown, csv or json:\n")
    others = {name: entry for name, entry in TABLES.items() if name != "paper"}
    show.commands([(f"spdnn report {name}", entry.summary) for name, entry in others.items()])


@report.command()
@_devices
@_tables_format
@_machine
@click.pass_context
def paper(
    context: click.Context,
    devices: tuple[int, ...] | None,
    form: str | None,
    machines: tuple[str, ...],
) -> None:
    """The paper's tables I and II, with this program's figures beside them.

    Measured by `spdnn bench paper` on 1, 2, ... devices, and projected to the paper's numbers.
    """
    from spdnn_cli.report import paper as papers
    from spdnn_cli.report.series import PAPER_DEVICES

    _show(context, form, papers.paper(_results(context, machines), devices or PAPER_DEVICES))


@report.command()
@_tables_format
@_machine
@click.pass_context
def throughput(context: click.Context, form: str | None, machines: tuple[str, ...]) -> None:
    """TeraEdges/s on one device, by problem and engine, with ratios to the baseline."""
    _show_table(context, form, machines)


@report.command("machines")
@click.option("--engine", help="Only this engine.  [default: all that ran on several machines]")
@_tables_format
@_machine
@click.pass_context
def machines_command(
    context: click.Context, engine: str | None, form: str | None, machines: tuple[str, ...]
) -> None:
    """TeraEdges/s of an engine on one device, by problem and machine, with ratios.

    For the paper's method, published figures are shown beside the measured ones.
    """
    from spdnn_cli.report import machines as by_machine

    _show(context, form, by_machine.machines(_results(context, machines), engine))


@report.command()
@_tables_format
@_machine
@click.pass_context
def kernels(context: click.Context, form: str | None, machines: tuple[str, ...]) -> None:
    """From the baseline to the optimised kernel, step by step.

    The steps are runs of `spdnn infer --engine tiled --tile SHAPE`.
    """
    _show_table(context, form, machines)


@report.command()
@_devices
@_tables_format
@_machine
@click.pass_context
def scaling(
    context: click.Context,
    devices: tuple[int, ...] | None,
    form: str | None,
    machines: tuple[str, ...],
) -> None:
    """Strong and weak scaling: measured, and projected to more devices.

    The projection needs a run with `spdnn infer --trace`. Its error is printed.
    """
    from spdnn_cli.report import scaling as scalings
    from spdnn_cli.report.series import PAPER_DEVICES

    _show(context, form, scalings.scaling(_results(context, machines), devices or PAPER_DEVICES))


@report.command()
@_tables_format
@_machine
@click.pass_context
def peers(context: click.Context, form: str | None, machines: tuple[str, ...]) -> None:
    """Seconds of this program beside those of others, each with its source and machine."""
    _show_table(context, form, machines)


@report.command()
@_tables_format
@_machine
@click.pass_context
def cpu(context: click.Context, form: str | None, machines: tuple[str, ...]) -> None:
    """The engines on CPUs, by threads and workers."""
    _show_table(context, form, machines)


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
    """Tell whether B is faster or slower than A, or whether the samples cannot tell.

    A and B are files of results, or folders of them, whose runs are matched by machine, problem,
    engine and options. The exit code is 1 if a run of B is certainly slower than A's by more than
    the threshold, or wrong.
    """
    from spdnn_cli.report import compare as comparing
    from spdnn_cli.report import show

    comparison = comparing.compare(before, after, threshold / 100, _warn)
    show.show([comparison.table()], _form(context, form))
    comparison.check()


def _show_table(context: click.Context, form: str | None, machines: tuple[str, ...]) -> None:
    """The table of the command in `context`."""
    from spdnn_cli.report.all import TABLES

    entry = TABLES[str(context.info_name)]
    _show(context, form, entry.make(_results(context, machines)))


def _show(context: click.Context, form: str | None, tables: list[Table]) -> None:
    from spdnn_cli.report import show
    from spdnn_cli.report.all import TABLES

    name = str(context.info_name)
    if not tables:
        raise ResultError(
            f"no result below {context.obj.results_dir} is for the {name} table",
            hint=TABLES[name].hint,
        )
    show.show(tables, _form(context, form))


def _form(context: click.Context, form: str | None) -> str | None:
    """The format asked for after the command, or after `report`."""
    return form or (context.parent.params["form"] if context.parent is not None else None)


def _results(context: click.Context, machines: tuple[str, ...]) -> list[Result]:
    """All results, or those of the machines that are named, after the command or `report`."""
    from spdnn_cli.results.store import Store

    workspace: Workspace = context.obj
    results = Store(workspace.results_dir, _warn).all()
    if not results:
        raise ResultError(
            f"there is no result below {workspace.results_dir}", hint="Run spdnn infer first."
        )
    of_group = context.parent.params.get("machines", ()) if context.parent is not None else ()
    named = {name for word in (*of_group, *machines) for name in _machines_called(word, results)}
    return [result for result in results if not named or result.machine in named]


def _machines_called(word: str, results: list[Result]) -> list[str]:
    """The machine of that name, else those whose names contain it."""
    names = sorted({result.machine for result in results})
    found = [word] if word in names else [name for name in names if word in name]
    if not found:
        raise ResultError(
            f"no machine has {word!r} in its name", hint=f"There are: {', '.join(names)}."
        )
    return found


def _warn(sentence: str) -> None:
    click.echo(sentence, err=True)
