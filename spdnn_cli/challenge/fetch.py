"""Brings the official files, or MNIST, into `<data_dir>/raw/`: `plan_fetch`, then `execute`.

The plan finds out what is there and how large the rest is; executing it brings the rest, one file
after the other (`download.py` has the transfer).
"""

from __future__ import annotations

import errno
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import filelock

from spdnn_cli import problem
from spdnn_cli.atomic import link_target
from spdnn_cli.challenge import raw_files
from spdnn_cli.challenge.download import (
    RUN_AGAIN,
    Checksum,
    Download,
    Note,
    Part,
    TransientError,
    check_space,
    is_url,
    size_at,
)
from spdnn_cli.errors import FetchError

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

Source = Literal["official", "mnist"]
State = Literal["complete", "partial", "wrong", "missing"]

TransferProgress = Callable[[str, int, int | None], None]
"""Told of a file's name, the bytes that are there, and all bytes (None: not known): when the file
begins, and after every chunk."""


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plan.

    Attributes:
        name: its path below `raw/`, the same as below the official address.
        addresses: where it comes from, tried in order: URLs, or paths of local files.
        destination: where it goes.
        size: bytes; None where no address told.
        state: `complete`; `partial`, with a `.part` file; `wrong`, there with other bytes than it
            should have and to be replaced; or `missing`.
        partial_bytes: bytes of the `.part` file.
        checksum: what it must have; None where none was published.
    """

    name: str
    addresses: tuple[str, ...]
    destination: Path
    size: int | None
    state: State
    partial_bytes: int
    checksum: Checksum | None

    @property
    def bytes_to_fetch(self) -> int | None:
        """Bytes still to come if the `.part` file can be used; None where not known."""
        if self.state == "complete":
            return 0
        return None if self.size is None else max(0, self.size - self.partial_bytes)


@dataclass(frozen=True)
class FetchPlan:
    """What `execute` will do: `files`, in order, below `folder`."""

    folder: Path
    files: tuple[PlannedFile, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes still to come, over the files whose size is known."""
        return sum(file.bytes_to_fetch or 0 for file in self.files)

    @property
    def unknown_sizes(self) -> int:
        """How many of the files still to come have no known size."""
        return sum(file.bytes_to_fetch is None for file in self.files)


@dataclass(frozen=True)
class FetchedFile:
    """A file that is there, whole and checked; `fetched` is False where it was there before."""

    name: str
    path: Path
    bytes: int
    fetched: bool


# ---- the plan


def plan_fetch(
    data_dir: Path,
    source: Source,
    neurons: Sequence[int] = problem.NEURONS,
    layers: Sequence[int] = problem.LAYERS,
    mirror: str | None = None,
) -> FetchPlan:
    """Lists the files to fetch, asks for their sizes, and checks those that are there.

    A file that is there is complete if it has the known checksum or, where none is known, the
    size that the server tells (any size if it tells none: an incomplete file never gets its final
    name). Reads the files that have a checksum; writes nothing.

    Args:
        data_dir: the files belong into `<data_dir>/raw/`, which need not exist yet.
        source: `official` for archive, images and categories; `mnist` for the MNIST images alone,
            from which all inputs can be made (`neurons` and `layers` then say nothing).
        neurons: which of `problem.NEURONS`.
        layers: the depths whose categories are wanted, of `problem.LAYERS`.
        mirror: an http(s) address or a local folder that replaces the official address and has
            the same layout below it; for MNIST, one that holds `problem.MNIST_FILE`.

    Raises:
        FetchError: no such official problem, no such local folder, a file that the place says it
            does not have, or one under `data_dir` that cannot be read.
    """
    if mirror is not None and not is_url(mirror):
        mirror = _local_path(mirror)
        mirror = str(Path(mirror).expanduser())
        if not Path(mirror).is_dir():
            hint = "Give a folder, or an address that begins with http:// or https://."
            raise FetchError("there is no such folder", path=mirror, hint=hint)
    if source == "mnist":
        places = MNIST_MIRRORS if mirror is None else (mirror,)
        checksum = Checksum(problem.MNIST_MD5, unpacked=True)
        wanted: dict[str, Checksum | None] = {problem.MNIST_FILE: checksum}
    else:
        places = (problem.OFFICIAL_ADDRESS if mirror is None else mirror,)
        wanted = _official_files(neurons, layers)
    folder = Path(data_dir) / "raw"
    silent: set[str] = set()
    with _disk_errors_explained(folder):
        files = [
            _mnist_of_another_name(name, places, folder)
            or _plan_file(name, places, link_target(folder / name), checksum, silent)
            for name, checksum in wanted.items()
        ]
    return FetchPlan(folder, tuple(files))


def _local_path(mirror: str) -> str:
    """The path of a file:// address, which must be one of this machine; any other as it is."""
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        return mirror
    return urllib.request.url2pathname(parts.path)


def _official_files(neurons: Sequence[int], layers: Sequence[int]) -> dict[str, Checksum | None]:
    """Names below the official address, each with its checksum if one was published."""
    for what, values, known in (
        ("neurons", neurons, problem.NEURONS),
        ("layers", layers, problem.LAYERS),
    ):
        for value in values:
            if value not in known:
                hint = f"There are files for {', '.join(map(str, known))}."
                raise FetchError(f"no official files for {what} {value}", hint=hint)
    wanted: dict[str, Checksum | None] = {}
    for n in neurons:
        md5 = problem.ARCHIVE_MD5.get(n)
        wanted[problem.archive_file(n)] = None if md5 is None else Checksum(md5)
        wanted[problem.images_file(n)] = None
        wanted |= {problem.categories_file(n, depth): None for depth in layers}
    return wanted


def _mnist_of_another_name(name: str, places: tuple[str, ...], folder: Path) -> PlannedFile | None:
    """MNIST that is there under a name that its other mirrors and libraries give it."""
    found = raw_files.mnist_file(folder)
    if name != problem.MNIST_FILE or found == folder / name or not found.is_file():
        return None
    checksum = Checksum(problem.MNIST_MD5, unpacked=found.suffix == ".gz")
    if checksum.fault(found) is not None:
        return None  # some other file, which is left alone
    addresses = tuple(_below(place, name) for place in places)
    return PlannedFile(name, addresses, found, found.stat().st_size, "complete", 0, checksum)


def _plan_file(
    name: str,
    places: tuple[str, ...],
    destination: Path,
    checksum: Checksum | None,
    silent: set[str],
) -> PlannedFile:
    there = destination.stat().st_size if destination.is_file() else None
    partial_bytes = Part(destination).size
    state: State = "partial" if partial_bytes else "missing"
    size: int | None
    if there is not None and checksum is not None and checksum.fault(destination) is None:
        size, state = there, "complete"  # needs no network
    else:
        try:
            size = _size(name, places, silent)
        except FetchError:
            if there is None or checksum is not None:
                raise
            size = None  # the file is there, so the place need not have it
        if there is not None:
            right = checksum is None and size in (None, there)
            size, state = (there, "complete") if right else (size, "wrong")
    addresses = tuple(_below(place, name) for place in places)
    return PlannedFile(name, addresses, destination, size, state, partial_bytes, checksum)


def _size(name: str, places: tuple[str, ...], silent: set[str]) -> int | None:
    """Bytes, as the first place that knows them tells; None where none does.

    Raises FetchError if every place says that it has no such file. Places that do not answer are
    added to `silent` and asked once only, lest a plan waits for every file anew.
    """
    absent = []
    for place in places:
        if place in silent:
            continue
        try:
            size = size_at(_below(place, name))
        except TransientError:
            silent.add(place)
        except FetchError as error:
            absent.append(error)
        else:
            if size is not None:
                return size
    if len(absent) == len(places):
        raise absent[0]
    return None


def _below(place: str, name: str) -> str:
    return place + name if place.endswith("/") else f"{place}/{name}"


# ---- carrying it out


def execute(
    plan: FetchPlan,
    progress: TransferProgress = lambda file_name, done_bytes, total_bytes: None,
    sleep: Callable[[float], None] = time.sleep,
    note: Note = lambda sentence: None,
) -> list[FetchedFile]:
    """Fetches the files of the plan that are not complete, one after the other.

    A file that is there with wrong bytes is replaced once the right one has come.

    Args:
        plan: from `plan_fetch`.
        progress: told of the bytes as they come.
        sleep: waits that many seconds between two tries.
        note: told of every such pause.

    Returns:
        Every file of the plan, in its order.

    Raises:
        FetchError: too little disk, a file that no address gives, wrong bytes (which are then
            deleted), a folder that cannot be written, or another fetch at work in it.
    """
    with _disk_errors_explained(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(plan.folder):
            check_space(plan.folder, plan.total_bytes)
            return [_fetch(file, progress, sleep, note) for file in plan.files]


def _fetch(
    file: PlannedFile, progress: TransferProgress, sleep: Callable[[float], None], note: Note
) -> FetchedFile:
    """Tries the addresses in order until one gives the file."""
    if file.state != "complete":
        file.destination.parent.mkdir(parents=True, exist_ok=True)
        told = partial(progress, file.name)
        failures = []
        for address in file.addresses:
            try:
                goal = address, file.destination, file.size, file.checksum
                Download(*goal, told, note).run(sleep)
                break
            except FetchError as error:
                failures.append(error)
        else:
            if len(failures) == 1:
                raise failures[0]
            reasons = " ".join(map(str, failures))
            raise FetchError(f"no mirror gave it: {reasons.rstrip('.')}", path=file.name)
    size = file.destination.stat().st_size
    return FetchedFile(file.name, file.destination, size, fetched=file.state != "complete")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Locks the folder: two fetches that append to one `.part` file would mix their bytes."""
    lock = filelock.FileLock(f"{folder}.lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        hint = "Wait until it ends, or stop it."
        raise FetchError("another fetch is at work here", path=folder, hint=hint) from None
    except (OSError, NotImplementedError):
        pass  # some network disks have no locks
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turns an OSError into a FetchError."""
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        if error.errno == errno.ENOSPC:
            hint = f"Make room. {RUN_AGAIN}"
            raise FetchError("the disk is full", path=path, hint=hint) from error
        raise FetchError(error.strerror or str(error), path=path) from error
