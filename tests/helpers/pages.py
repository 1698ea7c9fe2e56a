"""The pages for readers, and what is in them: code blocks, links, and commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from helpers.places import ROOT

README = ROOT / "README.md"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "tests/*/README.md")
    for page in ROOT.glob(pattern)
)

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(spdnn\s[^`]+)`")
IN_VENV = re.compile(r"\S*bin/spdnn")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDERS = ("...", "…")
"""At the end of a command that is not whole."""
ELSEWHERE = ("pip", "git", "cd", "docker")
"""After these the word spdnn is no command."""


def named(page: Path) -> str:
    """A page's name for the tests that take every page."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in that language."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [code for marked, code in found if marked == language]


def links(page: Path) -> list[str]:
    """The files that a page links to, as written there."""
    targets = [target.split("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
    return [target for target in targets if target and "://" not in target]


def commands(page: Path) -> list[list[str]]:
    """The words after `spdnn` of each command in a page's text and shell blocks."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    inline = [code for code in INLINE.findall(text) if not code.endswith(PLACEHOLDERS)]
    lines = [line for code in blocks(page, "sh") for line in code.replace("\\\n", " ").splitlines()]
    parts = [
        ["spdnn" if IN_VENV.fullmatch(word) else word for word in words]
        for line in [*lines, *inline]
        for part in re.split(r"&&|;", line)
        if (words := shlex.split(part, comments=True))
    ]
    return [
        words[words.index("spdnn") + 1 :]
        for words in parts
        if "spdnn" in words and Path(words[0]).name not in ELSEWHERE
    ]
