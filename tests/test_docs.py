"""The pages for readers: generated ones are up to date, commands parse, links lead to files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.pages import PAGES, README, ROOT, blocks, commands, links, named

from spdnn_cli.cli import cli
from spdnn_cli.engines.registry import ENGINES

DOCS = ROOT / "docs"
OWN_PACKAGES = sorted(p.parent.name for p in (ROOT / "spdnn_cli").glob("*/__init__.py"))


def test_generated_pages_are_up_to_date() -> None:
    script = ROOT / "scripts" / "make_docs.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_lead_to_files(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


def test_every_page_is_on_the_map() -> None:
    """docs/README.md leads to each page of docs/; docs/notes/README.md to each note."""
    for folder in (DOCS, DOCS / "notes"):
        start = folder / "README.md"
        pages = {page.name for page in folder.glob("*.md")} - {start.name}
        assert pages - set(links(start)) == set()


def test_readme_leads_to_the_map() -> None:
    assert "docs/README.md" in links(README)


# ---- what the pages say of the program


def test_every_engine_is_in_the_table_with_its_device() -> None:
    section = README.read_text(encoding="utf-8").split("\n## Engines\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \|", section, re.MULTILINE)
    assert sorted(rows) == sorted((name, entry.device) for name, entry in ENGINES.items())


def test_every_package_is_in_the_architecture() -> None:
    (layout, *_) = blocks(DOCS / "architecture.md", "text")
    picture = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    assert [name for name in OWN_PACKAGES if f"  {name}/" not in layout] == []
    assert [name for name in OWN_PACKAGES if f">{name}<" not in picture] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    """`folder/module.py`, from the root or from a package; CHANGELOG and notes tell of old ones."""
    if page.name == "CHANGELOG.md" or page.parent.name == "notes":
        return
    text = page.read_text(encoding="utf-8")
    places = set(re.findall(r"`([\w/]+/\w+\.(?:py|cu|cuh|yaml))`", text))
    roots = (ROOT, ROOT / "spdnn_cli")
    absent = [place for place in places if not any((root / place).exists() for root in roots)]
    assert absent == []


def test_network_of_ones_own_runs_as_shown(tmp_path: Path) -> None:
    def succeeds(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    page = DOCS / "datasets.md"
    (example,) = blocks(page, "python")
    infer, verify = commands(page)[:2]
    assert infer == ["infer", "--dataset", "own.h5"]
    assert verify == ["verify", "--reference"]

    succeeds("-c", example)
    succeeds("-m", "spdnn_cli", *infer, "--repeat", "1")
    succeeds("-m", "spdnn_cli", *verify)


# ---- the commands of the pages


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[str]], str | None]:
    """What Click says against the words after `spdnn`; None: nothing. Nothing is run."""

    def idle(command: click.Command) -> None:
        monkeypatch.setattr(command, "callback", lambda *words, **options: None)
        for option in command.params:
            if option.name == "engine":  # it wants a file that exists
                monkeypatch.setattr(option, "callback", None)
        for child in getattr(command, "commands", {}).values():
            idle(child)

    def parse(words: list[str]) -> str | None:
        if words[:2] == ["report", "compare"]:  # it wants files that exist
            words = [*words[:2], *(str(tmp_path) if w[0] != "-" else w for w in words[2:])]
        done = CliRunner().invoke(cli, words)
        return None if done.exit_code == 0 else f"spdnn {shlex.join(words)}: {done.output}"

    idle(cli)
    return parse


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_parse_with_their_subcommands(
    page: Path, parses: Callable[[list[str]], str | None]
) -> None:
    assert [wrong for words in commands(page) if (wrong := parses(words)) is not None] == []


def test_readme_shows_commands() -> None:
    assert ["infer"] in commands(README)


@pytest.mark.parametrize(
    "words",
    ["report kernel", "report kernels --plot x.svg", "report compare a", "infer --gpu 4", "bensch"],
)
def test_a_wrong_command_does_not_parse(
    words: str, parses: Callable[[list[str]], str | None]
) -> None:
    assert parses(words.split()) is not None


def test_commands_in_text_and_after_a_launcher_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\npip install spdnn && .venv/bin/spdnn infer  # spdnn x\n"
        ".venv/bin/pip install spdnn\n"
        "mpiexec -n 8 \\\n  spdnn infer --gpus 2\n```\n```python\nspdnn\n```\n"
        "`spdnn\nreport kernels`, `spdnn report ...`, `spdnn`\n"
    )
    assert commands(page) == [["infer"], ["infer", "--gpus", "2"], ["report", "kernels"]]
