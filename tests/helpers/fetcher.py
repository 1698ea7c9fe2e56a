"""A small world to fetch from, for tests: two files with checksums, two without, one server."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.file_server import FileServer
from spdnn_cli import problem
from spdnn_cli.challenge import download
from spdnn_cli.challenge.fetch import FetchedFile, FetchPlan, execute, plan_fetch
from spdnn_cli.errors import FetchError

ARCHIVE = "dnn/neuron1024.tar.gz"
IMAGES = "mnist/sparse-images-1024.tsv.gz"
CATEGORIES = "dnn/neuron1024-l120-categories.tsv"
MNIST = problem.MNIST_FILE

CONTENT = {
    ARCHIVE: bytes(i * i % 251 for i in range(10_000)),
    IMAGES: bytes(i * 7 % 256 for i in range(5_000)),
    CATEGORIES: b"3\n14\n15\n",
}
UNPACKED = bytes(i * i % 241 for i in range(9_000))
PACKED = gzip.compress(UNPACKED, mtime=0)

RUN_AGAIN = "Run the same command again: it goes on where it stopped."
OTHER_PLACE = "Check the address, or name another place with --mirror."


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks and few tries; checksums of the test's own files; no proxy before loopback."""
    monkeypatch.setattr(download, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(download, "TRIES", 3)
    monkeypatch.setattr(problem, "ARCHIVE_MD5", {1024: md5(CONTENT[ARCHIVE])})
    monkeypatch.setattr(problem, "MNIST_MD5", md5(UNPACKED))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def serve() -> Iterator[FileServer]:
    """One server with all the files, for a fixture."""
    server = FileServer()
    server.files |= CONTENT
    server.files[MNIST] = PACKED
    yield server
    server.stop()


class Fetcher:
    """Plans and executes against one server; keeps what was waited for and what was shown."""

    def __init__(self, server: FileServer, data_dir: Path) -> None:
        self.server, self.data_dir, self.raw = server, data_dir, data_dir / "raw"
        self.waits: list[float] = []
        self.shown: list[tuple[str, int, int | None]] = []

    def plan(self, layers: tuple[int, ...] = (120,)) -> FetchPlan:
        return plan_fetch(self.data_dir, "official", [1024], layers, self.server.address)

    def fetch(self) -> list[FetchedFile]:
        return execute(self.plan(), self.show, self.waits.append)

    def show(self, file_name: str, done_bytes: int, total_bytes: int | None) -> None:
        self.shown.append((file_name, done_bytes, total_bytes))

    def files(self) -> dict[str, bytes]:
        """Every file below raw/, the aside ones included."""
        paths = [path for path in self.raw.rglob("*") if path.is_file()]
        return {path.relative_to(self.raw).as_posix(): path.read_bytes() for path in paths}

    def interrupt(self, at_bytes: int, name: str = ARCHIVE) -> None:
        """A fetch that the user stops with Ctrl-C once that many bytes of `name` have come."""

        def show(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
            if file_name == name and done_bytes >= at_bytes:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(self.plan(), show)

    def fails(self) -> str:
        """The message of a fetch that fails."""
        with pytest.raises(FetchError) as caught:
            self.fetch()
        return str(caught.value)
