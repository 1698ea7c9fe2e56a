"""The pages for readers: their commands parse, their links lead somewhere, their example runs.

docs/cli.md is made from the commands themselves: `python tests/test_docs.py` writes it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from inspect import cleandoc
from pathlib import Path

import click
import pytest
from helpers.pages import PAGES, ROOT, blocks

from spdnn_cli.cli import cli

COMMAND_PAGE = ROOT / "docs" / "cli.md"

LINK = re.compile(r"\]\(([^)\s]+)\)")


# ---- the command reference


def render() -> str:
    """The page of all commands with their options, as Click knows them."""
    parts = [
        "# Commands",
        "`python tests/test_docs.py` makes this page from the program. Every command has `--help`.",
        *_section(cli, None, "spdnn"),
    ]
    return "\n\n".join(parts) + "\n"


def _section(command: click.Command, parent: click.Context | None, name: str) -> list[str]:
    """A command, and after it those that it is a group of."""
    context = click.Context(command, parent, name, **command.context_settings)
    parts = [f"## {context.command_path}", *_describe(command, context)]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            parts += _section(command.commands[child], context, child)
    return parts


def _describe(command: click.Command, context: click.Context) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = [_paragraph(text) for text in cleandoc(command.help or "").split("\n\n")]
    return [f"    {usage}", *paragraphs, "\n".join(_options(command, context))]


def _paragraph(text: str) -> str:
    """One paragraph of a docstring; Click marks those that are not to be wrapped with a \\b."""
    if text.startswith("\b\n"):
        return textwrap.indent(textwrap.dedent(text.removeprefix("\b\n")), "    ")
    return _wrapped(text)


def _options(command: click.Command, context: click.Context) -> list[str]:
    lines = []
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            lines.append(_wrapped(f"- `{record[0]}`: {record[1]}", indent="  "))
    return lines


def _wrapped(text: str, indent: str = "") -> str:
    words = " ".join(text.split())
    return textwrap.fill(
        words, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def test_command_page_is_what_the_commands_are() -> None:
    assert COMMAND_PAGE.read_text(encoding="utf-8") == render(), (
        "docs/cli.md is behind the program: run `python tests/test_docs.py`"
    )


# ---- what the pages say


def spdnn_commands(page: Path) -> list[list[str]]:
    """The words after `spdnn` of each such command in the shell blocks of a page."""
    lines = [line for code in blocks(page, "sh") for line in code.splitlines()]
    commands = [part for line in lines for part in line.split("&&")]
    words = [shlex.split(command, comments=True) for command in commands]
    return [command[1:] for command in words if command[:1] == ["spdnn"]]


def test_readme_shows_commands() -> None:
    assert ["infer"] in spdnn_commands(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    targets = [target.split("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_network_of_ones_own_runs_as_shown(tmp_path: Path) -> None:
    def succeeds(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    page = ROOT / "docs" / "datasets.md"
    (example,) = blocks(page, "python")
    infer, verify = spdnn_commands(page)
    assert infer == ["infer", "--dataset", "own.h5"]
    assert verify == ["verify", "--reference"]

    succeeds("-c", example)
    succeeds("-m", "spdnn_cli", *infer, "--repeat", "1")
    succeeds("-m", "spdnn_cli", *verify)


if __name__ == "__main__":
    COMMAND_PAGE.write_text(render(), encoding="utf-8")
