"""What `spdnn results` does: choose results, keep those that a commit made, delete some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from spdnn_cli.errors import ResultError
from spdnn_cli.results.record import Status
from spdnn_cli.results.store import LOCAL, Result, Store
from spdnn_cli.sources import commit_of


def select(store: Store, words: Sequence[str], suite: str | None = None) -> list[Result]:
    """The results with these ids or files, or all; only those of `suite`, if it is given.

    Raises:
        ResultError: there is none.
    """
    named = {result.record.id: result for result in map(store.find, words)}  # each of them once
    results = list(named.values()) if words else store.all()
    chosen = [r for r in results if suite is None or r.record.suite == suite]
    if not chosen:
        of_suite = "" if suite is None else f" of suite {suite}"
        raise ResultError(
            f"there is no result{of_suite} below {store.root}",
            hint="Run spdnn infer first." if suite is None else f"Run: spdnn bench {suite}",
        )
    return chosen


def keep(
    store: Store, words: Sequence[str], suite: str | None, into: str | None, checkout: Path
) -> Iterator[tuple[Result, str]]:
    """Move local results to those that Git tracks, one by one; yields each with its commit.

    All are checked before the first one moves.

    Args:
        store: where results are.
        words: ids or files; empty: all local results.
        suite: only those of this suite.
        into: the file's name; None: the suite of each run.
        checkout: the repository of the program.

    Raises:
        ResultError: there is none, one was not verified, or no commit has its sources.
    """
    chosen = select(store, words, suite)
    to_keep = [result for result in chosen if words or result.is_local]
    if not to_keep:
        raise ResultError(
            f"there is nothing to keep below {store.root / LOCAL}",
            hint="Run spdnn infer or spdnn bench first.",
        )
    commits = {result.record.id: _commit_to_keep(result, checkout) for result in to_keep}
    for result in to_keep:
        (kept,) = store.keep([result], into)
        yield kept, commits[kept.record.id]


def _commit_to_keep(result: Result, checkout: Path) -> str:
    """The commit that made a result.

    Raises:
        ResultError: the result may not be kept.
    """
    record = result.record
    if record.status not in (Status.VERIFIED, Status.COUNT_ONLY):
        raise ResultError(
            f"{record.id} cannot be kept: its categories are {record.status.value}",
            path=result.path,
            hint=f"Run: spdnn verify {record.id}",
        )
    sources = record.program.sources_sha256
    commit = None if sources is None else commit_of(sources, checkout)
    if commit is None:
        raise ResultError(
            f"{record.id} cannot be kept: no commit of {checkout.resolve()} has the sources of the "
            "program that made it",
            path=result.path,
            hint="Commit the program's changes, and run it again; or name its repository with "
            "--checkout.",
        )
    return commit


def remove(store: Store, words: Sequence[str]) -> list[Result]:
    """Delete results by id or file.

    Raises:
        ResultError: there is no such result.
    """
    chosen = select(store, words)
    store.remove(chosen)
    return chosen
