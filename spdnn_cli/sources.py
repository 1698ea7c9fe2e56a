"""Which program is this? A checksum of its sources, and the commit that has the same ones.

The checksum is taken over the names and Git's blob ids of the source files, so that it can be
compared with a commit without checking that out: a copy without `.git` makes results whose commit
can be named in any clone.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath

PACKAGE = Path(__file__).parent
SUFFIXES = (".py", ".cu", ".cuh", ".yaml", ".html")
FOLDERS = ("kernels", PACKAGE.name)
"""Where sources are, below the root of a checkout."""


@cache
def sources_sha256() -> str:
    """The checksum of the running program's sources."""
    inside, beside = PACKAGE / "kernels", PACKAGE.parent / "kernels"
    kernels = inside if inside.is_dir() else beside  # in a wheel; in a checkout
    names = {
        f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": path
        for path in PACKAGE.rglob("*")
        if inside not in path.parents and path != PACKAGE / "bench.yaml"
    }
    names |= {
        f"kernels/{path.relative_to(kernels).as_posix()}": path for path in kernels.rglob("*")
    }
    return _checksum((name, _blob(path)) for name, path in names.items() if _is_source(name))


@cache
def commit_of(sources: str, checkout: Path) -> str | None:
    """The newest commit of a checkout whose sources have this checksum; None: none has.

    Uncommitted changes give another checksum, so a commit that is found is clean.
    """
    for commit in _git(checkout, "log", "--format=%H", "--", *FOLDERS).split():
        tree = _git(checkout, "ls-tree", "-r", "-z", commit, "--", *FOLDERS)
        entries = (entry.partition("\t") for entry in tree.split("\0") if entry)
        found = _checksum(
            (name, about.split()[2]) for about, _, name in entries if _is_source(name)
        )
        if found == sources:
            return commit
    return None


def _is_source(name: str) -> bool:
    return PurePosixPath(name).suffix in SUFFIXES


def _checksum(blobs: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{blob} {name}\n" for name, blob in sorted(blobs))
    return hashlib.sha256(lines.encode()).hexdigest()


def _blob(path: Path) -> str:
    """Git's id of a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _git(checkout: Path, *words: str) -> str:
    """What Git prints; nothing where there is no Git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
