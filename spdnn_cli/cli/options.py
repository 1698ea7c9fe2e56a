"""What several commands share: types of values, and options that mean the same everywhere."""

from __future__ import annotations

import math
import os
import re
from typing import Any

import click

from spdnn_cli import problem
from spdnn_cli.cores import available_cores, most_threads


class InOrder(click.Group):
    """Lists the commands in the order of work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class PathType(click.Path):
    """A path. A leading `~` is expanded, since a shell does not expand that of `--option=~/x`."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


NEURONS = {str(neurons): neurons for neurons in problem.NEURONS}


def one_problem(context: Any, option: Any, word: str | None) -> int | None:
    """One official N."""
    if word is not None and word not in NEURONS:
        raise click.BadParameter(f"{word!r} is not one of {', '.join(NEURONS)}")
    return None if word is None else NEURONS[word]


def some_problems(context: Any, option: Any, text: str) -> tuple[int | None, ...]:
    """One official N, several with commas between, or `all`."""
    if text == "all":
        return problem.NEURONS
    return tuple(one_problem(context, option, word) for word in text.split(","))


def size_in_bytes(context: Any, option: Any, text: str | None) -> int | None:
    """A size such as 8GB, in bytes."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"{text!r} is not a size such as 8GB or 500MB")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " "))


def check_not_too_many(option: str, number: int | None) -> None:
    """Refuse more threads, or processes, than this machine can make use of.

    Not while options are parsed: a suite may name runs for larger machines.
    """
    if number is not None and number > (most := most_threads()):
        raise click.BadParameter(
            f"{number} is more than this machine can make use of: {most} at most "
            f"({available_cores()} cores)",
            param_hint=f"'{option}'",
        )


def number(context: Any, option: Any, value: float) -> float:
    """A number that others can be compared with."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


neurons_option = click.option(
    "--neurons",
    callback=one_problem,
    metavar="|".join(NEURONS),
    help="The problem.  [default: the last one fetched]",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads. At most 64, or 8 per core if that is more.  "
    "[default: all cores, as far as a container may use them]",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the synthetic digits.  [default: 1]"
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to read, or JSON for programs.",
)
