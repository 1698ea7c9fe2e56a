"""Where results are: local runs in `results/local/`, those to publish in `results/<machine>/`.

    results/local/<machine>/<id>.json      a local run: one record; Git ignores it
    results/local/lists/                   its lists
    results/<machine>/<suite>.jsonl        runs that were kept: one record per line
    results/lists/<sha256>.tsv             categories, in the format of the official truth files
    results/lists/<sha256>.npy             lifetimes: layers that each image entered, uint16

A list is stored once, under its checksum, however many runs share it. A folder holds the results of
one kind of machine: a machine with another processor, number of cores, size of memory or, for
results of GPUs, other GPUs gets a folder of its own, `NAME-2` and so on.

Files are written under another name and renamed, so a reader never sees a part of one.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import ResultError
from spdnn_cli.results.record import Device, Machine, Record, Verification, decode, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Int32 = NDArray[np.int32]
    Lifetimes = NDArray[np.uint16]

LOCAL = "local"
"""The folder of local runs, below the results."""
LISTS = "lists"
"""The folder of categories and lifetimes."""
DEFAULT_SUITE = "runs"
"""The file for runs that belong to no suite."""
SUFFIXES = (".json", ".jsonl")
SAME_MEMORY = 0.02
"""Memory sizes that differ by no more than this share count as equal: what a system keeps for
itself varies."""


def _silently(sentence: str) -> None:
    """For callers that need no warnings."""


@dataclass(frozen=True)
class Result:
    """A record, and where it is.

    Attributes:
        record: what was measured.
        path: the file that holds it: a `.json`, or a `.jsonl` with others.
    """

    record: Record
    path: Path

    @property
    def machine(self) -> str:
        """The name of the folder, which stands for the machine."""
        return self.path.parent.name

    @property
    def is_local(self) -> bool:
        """Whether it was not kept."""
        return self.path.parent.parent.name == LOCAL

    @property
    def name(self) -> str:
        """The name in messages: the file if it holds one record, else file and id."""
        return str(self.path) if self.path.suffix == ".json" else f"{self.path}: {self.record.id}"

    def with_verification(self, verification: Verification) -> Result:
        """The same result with another verification."""
        return Result(msgspec.structs.replace(self.record, verification=verification), self.path)

    def categories(self) -> Int32:
        """The categories of the run, int32, ascending, from 0; of one pass if images repeat.

        Raises:
            ResultError: the list is missing or damaged.
        """
        import numpy as np

        content = self._list(self.record.categories_sha256, ".tsv")
        numbers = [int(line) - 1 for line in content.decode("ascii").splitlines()]
        return np.array(numbers, np.int32)

    def lifetimes(self) -> Lifetimes:
        """How many layers each image entered before it was dead or finished, uint16 (images,).

        Of one pass if images repeat.

        Raises:
            ResultError: the run was not traced, or the list is missing or damaged.
        """
        import numpy as np

        if self.record.lifetimes_sha256 is None:
            raise ResultError(
                f"{self.record.id} has no lifetimes of its images",
                path=self.path,
                hint="Run: spdnn infer --trace",
            )
        content = self._list(self.record.lifetimes_sha256, ".npy")
        lifetimes: Lifetimes = np.load(io.BytesIO(content), allow_pickle=False)
        return lifetimes

    def _list(self, sha256: str, suffix: str) -> bytes:
        file = self.path.parent.parent / LISTS / f"{sha256}{suffix}"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ResultError(f"cannot be read ({error.strerror})", path=file) from error
        if _sha256(content) != sha256:
            raise ResultError(
                "is damaged: its checksum is not its name", path=file, hint="Run the run again."
            )
        return content


def categories_text(categories: Int32) -> str:
    """The text of an official categories file: one number per line, counted from 1."""
    return "".join(f"{image + 1}\n" for image in categories.tolist())


def categories_sha256(categories: Int32) -> str:
    """SHA-256 of the categories as the official file holds them."""
    return _sha256(categories_text(categories).encode())


@dataclass
class Store:
    """The results below a folder.

    Attributes:
        root: the folder.
        warn: called with a sentence about each file that is left out.
    """

    root: Path
    warn: Callable[[str], None] = _silently

    def prepared(
        self, record: Record, machine: str, categories: Int32, lifetimes: Lifetimes | None = None
    ) -> Result:
        """The result that `save` will write, with its id, checksums and path.

        Args:
            record: what was measured.
            machine: the folder's name, such as `1x-nvidia-h200`; `-2` and so on is added if that
                folder holds results of another machine.
            categories: int32, ascending, from 0; of one pass if images repeat.
            lifetimes: uint16 (images,), of a traced run.
        """
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        engine = re.sub(r"[^A-Za-z0-9]+", "-", record.engine).strip("-")
        record = msgspec.structs.replace(
            record,
            id=f"n{record.neurons}-l{record.layers}-{engine}-{now}",
            categories_sha256=categories_sha256(categories),
            lifetimes_sha256=None if lifetimes is None else _sha256(_npy_bytes(lifetimes)),
        )
        folder = self.folder(machine, record.device, record.machine)
        return Result(record, folder / f"{record.id}.json")

    def save(self, result: Result, categories: Int32, lifetimes: Lifetimes | None = None) -> None:
        """Write a local run and its lists, the same as for `prepared`.

        Raises:
            DataError: a file cannot be written.
        """
        local = self.root / LOCAL
        _store_list(local, categories_text(categories).encode(), ".tsv")
        if lifetimes is not None:
            _store_list(local, _npy_bytes(lifetimes), ".npy")
        _write(result.path, [result.record])

    def folder(self, name: str, device: Device, machine: Machine) -> Path:
        """The folder of the local runs on a machine; it need not exist yet."""
        return self._folder(self.root / LOCAL, name, device, machine)

    def all(self) -> list[Result]:
        """Every result, oldest first. `warn` is called for each file that holds none."""
        files = itertools.chain.from_iterable(map(self._files, self._folders()))
        results = itertools.chain.from_iterable(map(self._passing_over, files))
        unique = {result.record.id: result for result in results}
        return sorted(unique.values(), key=lambda result: result.record.created)

    def last(self) -> Result:
        """The newest result.

        Raises:
            ResultError: there is none.
        """
        return self._some()[-1]

    def find(self, word: str) -> Result:
        """The result with that id, or in that file.

        Raises:
            ResultError: there is none, or the file holds several.
        """
        path = Path(os.path.expanduser(word))
        if path.suffix in (".json", ".jsonl") or path.exists():
            return only(path)
        for result in self.all():
            if result.record.id == word:
                return result
        raise ResultError(
            f"there is no result {word!r} below {self.root}", hint="List them: spdnn results"
        )

    def update(self, result: Result) -> None:
        """Replace a result in its file, which may hold others.

        Raises:
            DataError: the file cannot be written.
        """
        others = _read(result.path)
        _write(result.path, [r if r.id != result.record.id else result.record for r in others])

    def keep(self, results: Sequence[Result], suite: str | None = None) -> list[Result]:
        """Move local runs to those that are published: `<machine>/<suite>.jsonl`.

        Args:
            results: the runs.
            suite: the file's name; None: the suite of each run.
        """
        kept = []
        for result in results:
            record = result.record
            name = suite or record.suite or DEFAULT_SUITE
            folder = self._folder(self.root, result.machine, record.device, record.machine)
            lists = [(record.categories_sha256, ".tsv"), (record.lifetimes_sha256, ".npy")]
            for sha256, suffix in lists:
                if sha256 is not None:
                    _store_list(self.root, result._list(sha256, suffix), suffix)
            path = folder / f"{name}.jsonl"
            others = _read(path) if path.exists() else []
            _write(path, [*(r for r in others if r.id != record.id), record])
            if result.path != path:
                self.remove([result])
            kept.append(Result(record, path))
        return kept

    def remove(self, results: Sequence[Result]) -> None:
        """Delete results, and the lists that no other result uses."""
        for result in results:
            left = [r for r in _read(result.path) if r.id != result.record.id]
            if left:
                _write(result.path, left)
            else:
                result.path.unlink()
        for area in {result.path.parent.parent for result in results}:
            folders = (f for f in area.iterdir() if f.is_dir() and f.name not in (LOCAL, LISTS))
            records = [
                result.record
                for file in itertools.chain.from_iterable(map(self._files, folders))
                for result in self._passing_over(file)
            ]
            used = {r.categories_sha256 for r in records} | {r.lifetimes_sha256 for r in records}
            for file in (area / LISTS).glob("*"):
                if file.stem not in used:
                    file.unlink()

    def _some(self) -> list[Result]:
        results = self.all()
        if not results:
            raise ResultError(
                f"there is no result below {self.root}", hint="Run spdnn infer first."
            )
        return results

    def _folders(self) -> list[Path]:
        """The folders of machines."""
        return [
            folder
            for area in (self.root, self.root / LOCAL)
            for folder in self._listed(area)
            if folder.name not in (LOCAL, LISTS) and os.path.isdir(folder)
        ]

    def _files(self, folder: Path) -> list[Path]:
        """Files that may hold results."""
        return [file for file in self._listed(folder) if file.suffix in SUFFIXES]

    def below(self, folder: Path) -> list[Path]:
        """Files that may hold results, in a folder and in those below it."""
        files = self._files(folder)
        for path in self._listed(folder):
            if os.path.isdir(path) and not os.path.islink(path):
                files += self.below(path)
        return files

    def _listed(self, folder: Path) -> list[Path]:
        """What is in a folder, by name; nothing if there is no folder."""
        try:
            return sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.warn(f"Warning: {folder}: cannot be read ({error.strerror}). It is left out.")
            return []

    def _passing_over(self, file: Path) -> list[Result]:
        try:
            return [Result(record, file) for record in _read(file)]
        except ResultError as error:
            self.warn(f"Warning: {error} It is left out.")
            return []

    def _folder(self, area: Path, name: str, device: Device, machine: Machine) -> Path:
        """The folder of a machine; it need not exist yet."""
        for number in itertools.count(1):
            folder = area / (name if number == 1 else f"{name}-{number}")
            first = next(self._of_folder(folder), None)
            if first is None or _alike(device, machine, first.record):
                return folder
        raise AssertionError("numbers do not end")

    def _of_folder(self, folder: Path) -> Iterator[Result]:
        return itertools.chain.from_iterable(map(self._passing_over, self._files(folder)))


def read(path: Path, warn: Callable[[str], None] = _silently) -> list[Result]:
    """The results in a file, or in all files below a folder, oldest first.

    Args:
        path: a file or a folder.
        warn: called with a sentence about each file that is left out.

    Raises:
        ResultError: a file that is named cannot be read, or the folder has no results.
    """
    if not path.is_dir():
        return [Result(record, path) for record in _read(path)]
    store = Store(path, warn)
    results = [result for file in store.below(path) for result in store._passing_over(file)]
    if not results:
        raise ResultError("has no results", path=path)
    return sorted(results, key=lambda result: result.record.created)


def only(path: Path) -> Result:
    """The one result in a file.

    Raises:
        ResultError: the file cannot be read, or holds several.
    """
    results = read(path)
    if len(results) > 1:
        raise ResultError(
            f"holds {len(results)} results", path=path, hint="Name one: spdnn results lists them."
        )
    return results[0]


def _read(path: Path) -> list[Record]:
    """The records of a file; at least one.

    Raises:
        ResultError: it cannot be read, or a line is no record.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would block
        raise ResultError("is no file", path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ResultError(f"cannot be read as a result ({reason})", path=path) from error
    lines = [text] if path.suffix == ".json" else text.splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() and path.suffix != ".json":
            continue
        try:
            records.append(decode(line))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ResultError(
                f"is not a result of spdnn ({str(error).rstrip('.')})",
                path=path,
                line=None if path.suffix == ".json" else number,
            ) from error
    if not records:
        raise ResultError("holds no result", path=path)
    return records


def _write(path: Path, records: Iterable[Record]) -> None:
    lines = "".join(f"{encode(record)}\n" for record in records)
    with written_aside(path) as part:
        part.write_text(lines, encoding="utf-8")


def _store_list(area: Path, content: bytes, suffix: str) -> None:
    """Store a list under its checksum, unless it is stored already."""
    path = area / LISTS / f"{_sha256(content)}{suffix}"
    if not path.exists():
        with written_aside(path) as part:
            part.write_bytes(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _npy_bytes(lifetimes: Lifetimes) -> bytes:
    import numpy as np

    content = io.BytesIO()
    np.save(content, lifetimes.astype(np.uint16, casting="same_kind"))
    return content.getvalue()


def _alike(device: Device, machine: Machine, other: Record) -> bool:
    """Whether two results can share a folder: the hardware that computed is the same."""

    def gpus(of: Machine) -> list[str]:
        return [gpu.name for gpu in of.gpus] if device == "cuda" else []

    same = (machine.cpu, machine.cores) == (other.machine.cpu, other.machine.cores)
    apart = abs(machine.memory_bytes - other.machine.memory_bytes)
    same_memory = apart <= SAME_MEMORY * machine.memory_bytes
    return device == other.device and same and same_memory and gpus(machine) == gpus(other.machine)
